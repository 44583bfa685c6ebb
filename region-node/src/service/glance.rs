//! What a list of chats tells of one chat.

use crate::live::{ChatReceipts, ReceiptsSum};
use log_store::fold::LogState;
use std::collections::BTreeMap;
use types::{LogId, LogKind, Offset, Position, UserId};

/// How far unread messages are counted: what is behind is read for it.
pub const UNREAD_MAX: usize = 100;

/// What is wanted of chats beside how they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail<'a> {
    /// Nothing.
    Heads,
    /// How many messages are unread.
    Unread,
    /// The receipts of these chats, where they do not add up to what is known of them.
    Receipts(&'a BTreeMap<LogId, ReceiptsSum>),
}

impl Detail<'_> {
    /// What is known of the receipts of a chat of which they are wanted.
    #[must_use]
    pub fn receipts_of(&self, log: LogId) -> Option<ReceiptsSum> {
        match self {
            Self::Receipts(known) => known.get(&log).copied(),
            Self::Heads | Self::Unread => None,
        }
    }
}

/// How a chat stands for one of its members, as one copy knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// The chat.
    pub log: LogId,
    /// Its last entry.
    pub head: Position,
    /// When that was accepted, in ms since 1970.
    pub head_at_ms: u64,
    /// Up to where the user has read, on any device.
    pub read: Offset,
    /// How many members it has.
    pub members: usize,
    /// The other user of a direct chat.
    pub with: Option<UserId>,
    /// Somebody has opened it whom the user has never answered.
    pub is_request: bool,
    /// Messages of others behind `read`, counted up to [`UNREAD_MAX`]; 0 where they were not to be counted.
    pub unread: usize,
    /// Where they were wanted, and are others than those that are known.
    pub receipts: Option<ChatReceipts>,
}

impl Glance {
    /// What a copy tells, but for what is unread. `None` where the chat goes on elsewhere, or is none of the user's.
    #[must_use]
    pub fn of(log: LogId, state: &LogState, user: &UserId, detail: Detail<'_>) -> Option<Self> {
        let standing = state.standing();
        if standing.closed() >= standing.generation() || !state.members.contains_key(user) {
            return None;
        }
        // The other one may have gone.
        let left = state.chat.iter().flat_map(|chat| chat.left.keys());
        let other =
            || state.members.keys().chain(left).find(|member| *member != user).unwrap_or(user).clone();
        let known = detail.receipts_of(log);
        let receipts = known.and_then(|_| ChatReceipts::in_copy(state, user));
        Some(Self {
            log,
            head: state.head,
            head_at_ms: state.head_at_ms,
            read: state.marks_of(user).read.offset,
            members: state.members.len(),
            with: (log.kind() == LogKind::Direct).then(other),
            is_request: state.is_request_to(user),
            unread: 0,
            receipts: receipts.filter(|receipts| known != Some(receipts.sum)),
        })
    }
}
