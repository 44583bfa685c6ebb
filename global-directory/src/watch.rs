//! What a watcher is sent: every row that changed after the version it has.
//!
//! Rows are never deleted, so the changes between two versions are the rows whose last change lies between
//! them. Remembering that version per row costs as much as there are rows, however far a watcher is behind
//! and however many there are: nothing is queued per watcher but what is on its way.

use crate::{bounds, state::State};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use types::{NodeId, PartitionId, Placement, PlacementDelta, RegionId};

/// The version of each row's last change.
#[derive(Debug)]
pub(crate) struct Changes {
    regions: BTreeMap<RegionId, u64>,
    nodes: BTreeMap<NodeId, u64>,
    partitions: BTreeMap<PartitionId, u64>,
}

impl Changes {
    /// When each row changed before the start is not known; the version of the start is never too early.
    pub(crate) fn starting_at(view: &Placement) -> Self {
        let version = view.version();
        Self {
            regions: view.regions().map(|row| (row.region.clone(), version)).collect(),
            nodes: view.nodes().map(|row| (row.node.clone(), version)).collect(),
            partitions: view.partitions().map(|row| (row.partition, version)).collect(),
        }
    }

    pub(crate) fn record(&mut self, delta: &PlacementDelta) {
        let version = delta.to_version;
        self.regions.extend(delta.regions.iter().map(|row| (row.region.clone(), version)));
        self.nodes.extend(delta.nodes.iter().map(|row| (row.node.clone(), version)));
        self.partitions.extend(delta.partitions.iter().map(|row| (row.partition, version)));
    }

    /// The delta that leads from `version` to the view's; a snapshot where `version` is 0 or not known here.
    pub(crate) fn since(&self, version: u64, view: &Placement) -> PlacementDelta {
        let from_version = if version > view.version() { 0 } else { version };
        let is_newer = |changed: Option<&u64>| changed.is_none_or(|changed| *changed > from_version);
        PlacementDelta {
            from_version,
            to_version: view.version(),
            regions: view.regions().filter(|row| is_newer(self.regions.get(&row.region))).cloned().collect(),
            nodes: view.nodes().filter(|row| is_newer(self.nodes.get(&row.node))).cloned().collect(),
            partitions: view
                .partitions()
                .filter(|row| is_newer(self.partitions.get(&row.partition)))
                .cloned()
                .collect(),
        }
    }
}

/// Sends a watcher what it lacks, then every change, until it goes or the directory stops. Every `beat_ms`
/// without a change an empty delta says that the stream is alive. Ends as well once `is_cut_off` says that this replica
/// may know less than others, and when the watcher reads nothing for too long.
pub(crate) async fn feed(
    state: Arc<State>,
    from_version: u64,
    beat_ms: u64,
    is_cut_off: impl Fn() -> bool + Send,
    deltas: mpsc::Sender<PlacementDelta>,
    shutdown: CancellationToken,
) {
    let mut versions = state.versions();
    let mut has = from_version;
    let stall = Duration::from_millis(bounds::WATCHER_STALL_MS);
    while !is_cut_off() {
        versions.mark_unchanged();
        let delta = state.changes_since(has);
        has = delta.to_version;
        tokio::select! {
            sent = deltas.send_timeout(delta, stall) => if sent.is_err() { return },
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            // Ends early on a change; a beat is sent otherwise.
            changed = timeout(Duration::from_millis(beat_ms), versions.changed()) => {
                if matches!(changed, Ok(Err(_))) { return }
            }
            () = deltas.closed() => return,
            () = shutdown.cancelled() => return,
        }
    }
}

/// The queue to one watcher.
pub(crate) fn queue() -> (mpsc::Sender<PlacementDelta>, mpsc::Receiver<PlacementDelta>) {
    mpsc::channel(bounds::WATCHER_QUEUE_MAX)
}

#[cfg(test)]
mod tests;
