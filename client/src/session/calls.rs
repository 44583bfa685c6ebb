//! Calls: requests of the app that are tried over refusals and reconnects until they are answered or their
//! time is up. Each may be repeated safely.

use crate::{
    ChatInfo, ControlError, Entry, HistoryError, Invite, LookError, MembersPage, OpenError, Position,
    ReceiptsPage, Refused, control::Changed,
};
use proto::client::client_frame::Frame;
use std::collections::HashMap;
use types::{Code, LogId};

/// The most calls under way at a time.
pub(super) const CALLS_MAX: usize = 1_024;

/// A page of history, in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Nothing lies beyond this page in the direction that was asked for, as far as the replica knows.
    pub at_end: bool,
}

/// What a call ends in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of [`super::Input::Open`].
    Opened(Result<(LogId, Position), OpenError>),
    /// Of [`super::Input::History`].
    Page(Result<Page, HistoryError>),
    /// Of [`super::Input::Receipts`].
    Receipts(Result<ReceiptsPage, HistoryError>),
    /// Of [`super::Input::Control`].
    Changed(Result<Changed, ControlError>),
    /// Of [`super::Input::Look`] at a chat.
    Info(Result<ChatInfo, LookError>),
    /// Of [`super::Input::Look`] at its members.
    Members(Result<MembersPage, LookError>),
    /// Of [`super::Input::Look`] at its invites.
    Invites(Result<Vec<Invite>, LookError>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    History,
    Receipts,
    Control,
    Info,
    Members,
    Invites,
}

/// A call that has ended without success.
pub(super) enum End {
    Refused(Refused),
    TimedOut { waited_ms: u64, last: Option<Refused> },
    Closed,
}

impl Kind {
    pub(super) fn failed(self, end: End) -> Answer {
        match self {
            Self::Open => Answer::Opened(Err(match end {
                End::Refused(refused) => OpenError::Refused(refused),
                End::TimedOut { waited_ms, last } => OpenError::TimedOut { waited_ms, last },
                End::Closed => OpenError::Closed,
            })),
            Self::History => Answer::Page(Err(read_failed(end))),
            Self::Receipts => Answer::Receipts(Err(read_failed(end))),
            Self::Control => Answer::Changed(Err(match end {
                End::Refused(refused) => ControlError::Refused(refused),
                End::TimedOut { waited_ms, last } => ControlError::TimedOut { waited_ms, last },
                End::Closed => ControlError::Closed,
            })),
            Self::Info => Answer::Info(Err(look_failed(end))),
            Self::Members => Answer::Members(Err(look_failed(end))),
            Self::Invites => Answer::Invites(Err(look_failed(end))),
        }
    }
}

fn read_failed(end: End) -> HistoryError {
    match end {
        End::Refused(Refused { common: Some(common), code, .. }) if code == Code::Diverged.as_str() => {
            HistoryError::Diverged { common }
        }
        End::Refused(refused) => HistoryError::Refused(refused),
        End::TimedOut { waited_ms, last } => HistoryError::TimedOut { waited_ms, last },
        End::Closed => HistoryError::Closed,
    }
}

fn look_failed(end: End) -> LookError {
    match end {
        End::Refused(refused) => LookError::Refused(refused),
        End::TimedOut { waited_ms, last } => LookError::TimedOut { waited_ms, last },
        End::Closed => LookError::Closed,
    }
}

pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) frame: Frame,
    pub(super) since_ms: u64,
    /// On the wire now.
    pub(super) asked: bool,
    pub(super) retry_ms: u64,
    pub(super) attempts: u32,
    pub(super) last: Option<Refused>,
}

#[derive(Default)]
pub(super) struct Calls {
    open: HashMap<u64, Call>,
}

impl Calls {
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= CALLS_MAX
    }

    pub(super) fn insert(&mut self, id: u64, kind: Kind, frame: Frame, now_ms: u64) {
        let call =
            Call { kind, frame, since_ms: now_ms, asked: false, retry_ms: now_ms, attempts: 0, last: None };
        self.open.insert(id, call);
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Call> {
        self.open.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Call> {
        self.open.remove(&id)
    }

    /// The calls that are not on the wire, oldest first.
    pub(super) fn waiting(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.open.iter().filter(|(_, call)| !call.asked).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// The calls that have been tried for `timeout_ms`.
    pub(super) fn overdue(&self, now_ms: u64, timeout_ms: u64) -> Vec<u64> {
        let overdue = self.open.iter().filter(|(_, call)| now_ms >= call.since_ms + timeout_ms);
        overdue.map(|(id, _)| *id).collect()
    }

    pub(super) fn connection_lost(&mut self) {
        for call in self.open.values_mut() {
            call.asked = false;
        }
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u64, Call)> {
        let mut calls: Vec<_> = self.open.drain().collect();
        calls.sort_unstable_by_key(|(id, _)| *id);
        calls.into_iter()
    }
}
