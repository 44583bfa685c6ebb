//! A store that dies with its process: for tests of apps, and as the model of the others.

use super::{Change, Store, StoreError};
use crate::{
    Snapshot,
    session::{LogSnapshot, MessageSnapshot},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use types::{DeviceId, LogId, UserId};

/// Keeps in memory what another client of the same process goes on with: clones share what is kept.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    owner: Option<(UserId, DeviceId)>,
    outbox: Vec<MessageSnapshot>,
    logs: BTreeMap<LogId, LogSnapshot>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is kept.
    pub fn snapshot(&self) -> Snapshot {
        let kept = self.lock();
        let mut outbox = kept.outbox.clone();
        outbox.sort_by_key(|message| message.log);
        Snapshot { logs: kept.logs.values().cloned().collect(), outbox }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&mut self, user: &UserId, device: DeviceId) -> Result<Snapshot, StoreError> {
        let mut kept = self.lock();
        let owner = kept.owner.get_or_insert_with(|| (user.clone(), device)).clone();
        drop(kept);
        match owner == (user.clone(), device) {
            true => Ok(self.snapshot()),
            false => Err(StoreError::OtherDevice { user: owner.0, device: owner.1 }),
        }
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut kept = self.lock();
        for change in changes {
            kept.change(change);
        }
        Ok(())
    }
}

impl Kept {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Queue { log, message_id, message } => {
                if !self.outbox.iter().any(|kept| (kept.log, kept.message_id) == (*log, *message_id)) {
                    self.outbox.push(MessageSnapshot::new(*log, *message_id, message));
                }
            }
            Change::Settle { log, message_id } => {
                self.outbox.retain(|kept| (kept.log, kept.message_id) != (*log, *message_id));
            }
            Change::Follow { log, position, offset } => {
                let begin = || LogSnapshot::at(*log, position.clone(), *offset);
                self.logs.entry(*log).or_insert_with(begin);
            }
            Change::Stand { log, positions, undone } => {
                if let Some(kept) = self.logs.get_mut(log) {
                    kept.positions.clone_from(positions);
                    if let Some(undone) = undone {
                        kept.undone.clone_from(undone);
                    }
                }
            }
            Change::Unfollow { log } => drop(self.logs.remove(log)),
        }
    }
}
