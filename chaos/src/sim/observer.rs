//! Watches the deployment from outside: new homes, planned moves, and what homes call replicated.

mod moves;
mod placement;
mod watermarks;

use crate::history::Recorder;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use types::{NodeId, RegionId};

/// For so long after a fault clients may learn of what it broke.
const CALM_US: u64 = 15_000_000;

/// What the run tells the observer: when something was broken last, in µs; 0: never.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<AtomicU64>);

impl Seen {
    /// Something is broken now.
    pub(super) fn is_broken(&self, now_us: u64) {
        self.0.store(now_us.max(1), Ordering::Relaxed);
    }

    /// Whether nothing has been broken for long enough that nobody suffers from it any more.
    fn is_calm(&self, now_us: u64) -> bool {
        let broken_us = self.0.load(Ordering::Relaxed);
        broken_us == 0 || broken_us + CALM_US < now_us
    }
}

/// A node as the observer reaches it.
pub(super) struct Watched {
    pub(super) node: NodeId,
    pub(super) region: RegionId,
    pub(super) address: String,
}

/// Watches for ever.
pub(super) async fn watch(directories: Vec<String>, nodes: Vec<Watched>, seen: Seen, recorder: Recorder) {
    let homes = nodes.into_iter().map(|node| watermarks::watch(node, recorder.clone()));
    let homes = futures_util::future::join_all(homes);
    tokio::join!(placement::watch(directories, seen, recorder.clone()), homes);
}
