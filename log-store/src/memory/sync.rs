//! When changes become durable, and what a crash makes of those that are not.

use super::disk::Disk;
use crate::{Replicated, StoreError};
use host::planted::{Bug, is_planted};
use std::{collections::VecDeque, fmt, sync::Arc};
use types::{Lsn, PartitionId};

/// How much of what was not synced outlives a crash. The order of changes is that of their calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survive {
    /// Nothing.
    Nothing,
    /// The oldest so many changes; the one behind them was torn, and a torn change is dropped whole.
    Oldest(usize),
    /// Everything, though nobody was told.
    Everything,
}

/// What becomes of a pending change.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is applied and answered.
    Durable,
    /// It is applied, but its caller learns only of the error.
    Survived(StoreError),
    /// It is not applied.
    Lost(StoreError),
}

/// Applies a change or not, and answers its caller.
pub(super) type Settle = Box<dyn FnOnce(&mut Disk, Fate) + Send>;

/// A change that waits for its sync.
pub(super) struct Pending {
    /// The memory it keeps, for the bound on what is under way.
    pub(super) bytes: usize,
    /// Whether the disk must have room for it.
    pub(super) takes_room: bool,
    pub(super) settle: Settle,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The disk, what waits for it, and what the test has ordered.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) disk: Disk,
    pub(super) pending: VecDeque<Pending>,
    pub(super) pending_bytes: usize,
    pub(super) held: bool,
    pub(super) full: bool,
    /// The next sync fails, and this is what survives of what was pending then.
    pub(super) failing: Option<Survive>,
    /// What a crash leaves where changes are answered before their sync.
    synced: Option<Disk>,
    /// Which opening of the store is served.
    pub(super) opening: u64,
    /// Why none is.
    pub(super) closed: Option<Arc<str>>,
    /// Up to where partitions are replicated.
    pub(super) replicated: Replicated,
    /// What is damaged, if anything is.
    pub(super) damaged: Option<(PartitionId, Lsn)>,
    /// What somebody has come upon of it in this opening.
    pub(super) damage: Option<StoreError>,
    /// Why the store is never opened again.
    pub(super) condemned: Option<StoreError>,
}

impl Device {
    /// Takes a change in; syncs it unless syncs are held.
    pub(super) fn submit(&mut self, change: Pending) {
        self.pending_bytes += change.bytes;
        let change = self.ack_early(change);
        self.pending.push_back(change);
        if !self.held {
            self.sync(usize::MAX);
        }
    }

    /// The planted bug: the change is made and answered at once, and what stays pending is nothing.
    fn ack_early(&mut self, change: Pending) -> Pending {
        if !self.held || !is_planted(Bug::AckBeforeFsync) {
            return change;
        }
        self.synced.get_or_insert_with(|| self.disk.clone());
        (change.settle)(&mut self.disk, Fate::Durable);
        Pending { settle: Box::new(|_, _| {}), ..change }
    }

    /// Syncs the oldest so many pending changes; answers how many there were.
    pub(super) fn sync(&mut self, changes: usize) -> usize {
        for synced in 0..changes {
            if self.pending.is_empty() {
                self.synced = None;
                return synced;
            }
            if let Some(survive) = self.failing.take() {
                self.end("a sync failed", survive);
                return synced;
            }
            let Some(change) = self.pending.pop_front() else { return synced };
            self.pending_bytes -= change.bytes;
            let fate = if self.full && change.takes_room {
                Fate::Lost(StoreError::Full { file: "memory".into() })
            } else {
                Fate::Durable
            };
            (change.settle)(&mut self.disk, fate);
        }
        if self.pending.is_empty() {
            self.synced = None;
        }
        changes
    }

    /// Ends this opening: of what is pending so much survives, and all of it is answered `Closed`.
    pub(super) fn end(&mut self, reason: &str, survive: Survive) {
        let reason: Arc<str> = reason.into();
        let survivors = match survive {
            Survive::Nothing => 0,
            Survive::Oldest(changes) => changes,
            Survive::Everything => usize::MAX,
        };
        for (at, change) in self.pending.drain(..).enumerate() {
            let closed = StoreError::Closed { reason: reason.clone() };
            let survives = at < survivors && !(self.full && change.takes_room);
            (change.settle)(
                &mut self.disk,
                if survives { Fate::Survived(closed) } else { Fate::Lost(closed) },
            );
        }
        if let Some(synced) = self.synced.take()
            && survivors == 0
        {
            self.disk = synced;
        }
        self.pending_bytes = 0;
        self.closed = Some(reason);
    }
}
