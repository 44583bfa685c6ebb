//! What the directory's rows say, once a run comes to its end.

use global_directory::{
    kv::{Kv as _, Memory, Transaction},
    rows,
};
use std::sync::Arc;
use types::{LogId, PartitionState, PinSegment, Placement};

/// The rows of the replica that has come furthest.
pub(super) struct Rows {
    memory: Arc<Memory>,
    pub(super) placement: Placement,
    rehomes: usize,
}

impl Rows {
    /// Reads them; none before anything was decided.
    pub(super) fn furthest(replicas: &[Arc<Memory>]) -> Option<Self> {
        let all = replicas.iter().filter_map(Self::of);
        all.max_by_key(|rows| rows.placement.version())
    }

    fn of(memory: &Arc<Memory>) -> Option<Self> {
        let mut read = None;
        let looking = |tx: &dyn Transaction| {
            read = Some((rows::placement(tx)?, rows::rehomes(tx)?.len()));
            Ok(())
        };
        memory.read(&mut { looking }).ok()?;
        let (placement, rehomes) = read?;
        Some(Self { memory: memory.clone(), placement, rehomes })
    }

    /// Whether every partition has a home that waits for nobody, and nothing is on its way elsewhere.
    pub(super) fn is_settled(&self) -> bool {
        let is_homed = |row: &types::PartitionRow| {
            row.state == PartitionState::Homed && row.waiting.is_empty() && row.moving.is_none()
        };
        self.rehomes == 0 && self.placement.partitions().all(is_homed)
    }

    /// Where a log is written, stretch by stretch.
    pub(super) fn pin(&self, log: LogId) -> Vec<PinSegment> {
        let mut segments = Vec::new();
        let looked = self.memory.read(&mut |tx| {
            segments = rows::pin(tx, log)?.map(|pin| pin.segments).unwrap_or_default();
            Ok(())
        });
        looked.map(|()| segments).unwrap_or_default()
    }
}
