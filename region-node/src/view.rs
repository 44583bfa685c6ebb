//! The placement as this node knows it, shared by all who route.

use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::watch;
use types::{Placement, PlacementDelta};

/// A placement that one task brings forward and everyone reads without a lock.
#[derive(Debug)]
pub struct PlacementView {
    current: ArcSwap<Placement>,
    version: watch::Sender<u64>,
}

impl Default for PlacementView {
    fn default() -> Self {
        Self { current: ArcSwap::default(), version: watch::Sender::new(0) }
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
        let mut next = Placement::clone(&self.current.load());
        if !next.apply(delta) {
            return false;
        }
        let version = next.version();
        self.current.store(Arc::new(next));
        self.version.send_replace(version);
        true
    }

    /// Tells of each new version; a slow reader sees the newest only.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
