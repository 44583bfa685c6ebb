//! A node's disk: syncs take their time, and what was not synced may be gone after a crash.

use log_store::memory::{MemoryStore, Survive};
use rand::{RngExt as _, rngs::StdRng};
use std::ops::Range;

/// A disk with the store on it.
#[derive(Debug)]
pub(super) struct Disk {
    store: MemoryStore,
    /// A sync under way: when it ends, and how many changes it syncs.
    sync: Option<(u64, usize)>,
    pub(super) stalls: bool,
}

impl Disk {
    pub(super) fn new(store: MemoryStore) -> Self {
        store.hold_syncs();
        Self { store, sync: None, stalls: false }
    }

    pub(super) const fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// Ends the sync that is due and begins the next one, with all that waits by now.
    pub(super) fn step(&mut self, now_us: u64, takes_us: &Range<u64>, rng: &mut StdRng) {
        if self.stalls {
            return;
        }
        if let Some((due_us, changes)) = self.sync
            && due_us <= now_us
        {
            self.store.release(changes);
            self.sync = None;
        }
        let waiting = self.store.pending();
        if self.sync.is_none() && waiting > 0 {
            self.sync = Some((now_us + rng.random_range(takes_us.clone()), waiting));
        }
    }

    /// The process or its machine went down; the store opens again with what has survived.
    pub(super) fn crash(&mut self, rng: &mut StdRng) {
        let waiting = self.store.pending();
        let survive = match rng.random_range(0..3) {
            0 => Survive::Nothing,
            1 => Survive::Everything,
            _ => Survive::Oldest(rng.random_range(0..=waiting)),
        };
        self.store.crash(survive);
        self.store = self.store.reopen().expect("it has just crashed");
        self.store.hold_syncs();
        self.sync = None;
    }
}
