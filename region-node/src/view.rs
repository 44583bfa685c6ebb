//! The placement as this node knows it, shared by all who route.

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;
use types::{Placement, PlacementDelta};

/// A placement that a few tasks bring forward and everyone reads without a lock.
#[derive(Debug)]
pub struct PlacementView {
    current: ArcSwap<Placement>,
    version: watch::Sender<u64>,
    /// Held by the one that brings it forward.
    writing: Mutex<()>,
}

impl Default for PlacementView {
    fn default() -> Self {
        Self { current: ArcSwap::default(), version: watch::Sender::new(0), writing: Mutex::new(()) }
    }
}

impl PlacementView {
    /// The placement now.
    pub fn load(&self) -> Arc<Placement> {
        self.current.load_full()
    }

    /// Takes a delta over; `false` when it does not fit (see [`Placement::apply`]).
    #[must_use]
    pub fn apply(&self, delta: PlacementDelta) -> bool {
        self.bring_forward(|next| next.apply(delta))
    }

    /// Takes over what one of several tells; `false` when it does not fit (see [`Placement::merge`]).
    #[must_use]
    pub fn merge(&self, delta: PlacementDelta) -> bool {
        self.bring_forward(|next| next.merge(delta))
    }

    fn bring_forward(&self, change: impl FnOnce(&mut Placement) -> bool) -> bool {
        let _writing = self.writing.lock();
        let mut next = Placement::clone(&self.current.load());
        let before = next.version();
        if !change(&mut next) {
            return false;
        }
        let version = next.version();
        if version != before || before == 0 {
            self.current.store(Arc::new(next));
            self.version.send_replace(version);
        }
        true
    }

    /// Tells of each new version; a slow reader sees the newest only.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
