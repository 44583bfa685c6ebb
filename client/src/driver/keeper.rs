//! Commits what is to be kept, and lets nothing go on before it is.
//!
//! One commit runs at a time, on a thread that may block; what comes meanwhile makes up the next one.

use super::Outgoing;
use crate::{
    Position, Snapshot, StoreError,
    store::{Change, Store},
};
use std::collections::{HashMap, HashSet};
use tokio::{sync::oneshot, task::JoinHandle};
use types::{LogId, MessageId};

/// Changes that wait for a commit; while there are more, nothing is taken from the app.
const WAITING_MAX: usize = 4_096;

/// What goes on once its changes are kept.
pub(crate) enum Then {
    Send(Outgoing),
    Confirmed(oneshot::Sender<Result<(), StoreError>>),
}

type Commit = (Box<dyn Store>, Result<(), StoreError>);

/// The store of a session, and what waits for it.
pub(crate) struct Keeper {
    /// None while a commit runs, and for good once one has failed.
    idle: Option<Box<dyn Store>>,
    commit: Option<JoinHandle<Commit>>,
    committing: Vec<Then>,
    changes: Vec<Change>,
    waiting: Vec<Then>,
    failed: Option<StoreError>,
    /// The bytes of each message that is in the store, or on its way there.
    messages: HashMap<(LogId, MessageId), usize>,
    bytes: usize,
    followed: HashSet<LogId>,
    /// Chats that the session gave up, which the app has not confirmed.
    given_up: HashSet<LogId>,
}

impl Keeper {
    pub(crate) fn new(store: Box<dyn Store>, snapshot: &Snapshot) -> Self {
        let messages: HashMap<_, _> = snapshot
            .outbox
            .iter()
            .map(|message| ((message.log, message.message_id), message.body.len()))
            .collect();
        Self {
            idle: Some(store),
            commit: None,
            committing: Vec::new(),
            changes: Vec::new(),
            waiting: Vec::new(),
            failed: None,
            bytes: messages.values().sum(),
            messages,
            followed: snapshot.logs.iter().map(|log| log.log).collect(),
            given_up: HashSet::new(),
        }
    }

    /// Messages in the store, and the bytes of their bodies: an outcome that is not confirmed still takes its room.
    pub(crate) fn outbox_size(&self) -> (usize, usize) {
        (self.messages.len(), self.bytes)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.changes.len() < WAITING_MAX
    }

    pub(crate) fn queue(&mut self, outgoing: Outgoing) {
        let (log, message_id, message) = (outgoing.log, outgoing.message_id, outgoing.message.clone());
        let bytes = message.body.len();
        if self.failed.is_none() && self.messages.insert((log, message_id), bytes).is_none() {
            self.bytes += bytes;
            self.change(Change::Queue { log, message_id, message });
        }
        self.waiting.push(Then::Send(outgoing));
    }

    /// What the app has confirmed. Of a chat that it follows anew since it was given up, that is no news.
    pub(crate) fn confirm(&mut self, changes: Vec<Change>, done: oneshot::Sender<Result<(), StoreError>>) {
        for change in changes {
            match change {
                Change::Settle { log, message_id } => self.forget(log, message_id),
                Change::Unfollow { log } => match self.given_up.remove(&log) {
                    true => drop(self.followed.remove(&log)),
                    false => continue,
                },
                Change::Queue { .. } | Change::Follow { .. } | Change::Stand { .. } => {}
            }
            self.change(change);
        }
        self.waiting.push(Then::Confirmed(done));
    }

    pub(crate) fn follow(&mut self, log: LogId, position: Position, offset: u64) {
        self.given_up.remove(&log);
        if self.followed.insert(log) {
            self.change(Change::Follow { log, position, offset });
        }
    }

    pub(crate) fn unfollow(&mut self, log: LogId) {
        if self.followed.remove(&log) {
            self.change(Change::Unfollow { log });
        }
    }

    /// The session follows the chat no longer; the store forgets it when the app knows.
    pub(crate) fn given_up(&mut self, log: LogId) {
        self.given_up.insert(log);
    }

    fn change(&mut self, change: Change) {
        if self.failed.is_none() {
            self.changes.push(change);
        }
    }

    fn forget(&mut self, log: LogId, message_id: MessageId) {
        self.bytes -= self.messages.remove(&(log, message_id)).unwrap_or_default();
    }

    /// Begins a commit, where there is something to commit and none runs.
    pub(crate) fn begin(&mut self) {
        if self.changes.is_empty() && self.waiting.is_empty() {
            return;
        }
        let Some(mut store) = self.idle.take() else { return };
        let changes = std::mem::take(&mut self.changes);
        self.committing = std::mem::take(&mut self.waiting);
        self.commit = Some(tokio::task::spawn_blocking(move || {
            let outcome = if changes.is_empty() { Ok(()) } else { store.commit(&changes) };
            (store, outcome)
        }));
    }

    /// The end of the commit that runs: what goes on now, and whether it was kept. Cancel-safe; pends where none runs.
    pub(crate) async fn committed(&mut self) -> (Vec<Then>, Result<(), StoreError>) {
        if let Some(failed) = self.failed.clone() {
            if self.waiting.is_empty() {
                return std::future::pending().await;
            }
            self.changes.clear();
            return (std::mem::take(&mut self.waiting), Err(failed));
        }
        let Some(commit) = &mut self.commit else { return std::future::pending().await };
        let outcome = match commit.await {
            Ok((store, Ok(()))) => {
                self.idle = Some(store);
                Ok(())
            }
            Ok((_, Err(error))) => Err(error),
            Err(_) => Err(StoreError::Closed),
        };
        self.commit = None;
        self.failed = outcome.as_ref().err().cloned();
        (std::mem::take(&mut self.committing), outcome)
    }

    /// A message that was not kept takes no room.
    pub(crate) fn not_kept(&mut self, message: &Outgoing) {
        self.forget(message.log, message.message_id);
    }

    /// Commits what is left.
    pub(crate) async fn finish(mut self) {
        self.begin();
        while self.commit.is_some() {
            // Whoever would hear of it is gone.
            let _ = self.committed().await;
            self.begin();
        }
    }
}
