//! Writes for homes that are about to open here.
//!
//! Whoever sends a write may have heard of a new home before the node that is to be it, or before its store is
//! fenced. Such a write is held for that short while: to send it back would cost its sender a round trip more
//! than the change of home. What is held was not begun, and keeps its order.

use super::core::{PENDING_MAX, PENDING_MAX_BYTES, write_bytes_at_most};
use crate::service::{Write, WriteReply};
use std::collections::HashMap;
use types::{Epoch, Home, PartitionId, PartitionRow, PartitionState};

/// Writes that one shard holds, at most.
const HELD_MAX: usize = PENDING_MAX;
/// Their bytes.
const HELD_MAX_BYTES: usize = 4 * PENDING_MAX_BYTES;
/// How long a write is held at most, in ms.
const HELD_MS: u64 = 1_000;

/// Whether this boot is about to be home of a partition in the epoch that a writer believes in.
pub(super) fn expects(row: &PartitionRow, me: &Home, epoch_hint: Epoch) -> bool {
    match (row.state, &row.moving) {
        (PartitionState::Homed, _) => row.home.as_ref() == Some(me),
        (PartitionState::Draining, Some(moving)) => moving.target == *me && epoch_hint > row.epoch,
        _ => false,
    }
}

/// A write that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) write: Box<Write>,
    pub(super) reply: WriteReply,
    pub(super) deadline_ms: u64,
    until_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Expected {
    held: HashMap<PartitionId, Vec<Held>>,
    count: usize,
    bytes: usize,
}

impl Expected {
    /// Holds a write; `Err` where there is no room.
    pub(super) fn hold(
        &mut self,
        write: Box<Write>,
        reply: WriteReply,
        deadline_ms: u64,
        now_ms: u64,
    ) -> Result<(), WriteReply> {
        if self.count >= HELD_MAX || self.bytes >= HELD_MAX_BYTES {
            return Err(reply);
        }
        self.count += 1;
        self.bytes += write_bytes_at_most(&write);
        let until_ms = deadline_ms.min(now_ms + HELD_MS);
        self.held.entry(write.partition).or_default().push(Held { write, reply, deadline_ms, until_ms });
        Ok(())
    }

    /// Takes what is held for a partition, in the order in which it came.
    pub(super) fn take(&mut self, partition: PartitionId) -> Vec<Held> {
        let held = self.held.remove(&partition).unwrap_or_default();
        self.count -= held.len();
        self.bytes -= held.iter().map(|held| write_bytes_at_most(&held.write)).sum::<usize>();
        held
    }

    /// Takes what was held for long enough, with everything behind it.
    pub(super) fn take_overdue(&mut self, now_ms: u64) -> Vec<Held> {
        let is_overdue = |held: &Held| held.until_ms <= now_ms;
        let overdue: Vec<PartitionId> =
            self.held.iter().filter(|(_, held)| held.iter().any(is_overdue)).map(|(id, _)| *id).collect();
        overdue.into_iter().flat_map(|partition| self.take(partition)).collect()
    }

    /// The partitions that something is held for.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        self.held.keys().copied().collect()
    }
}
