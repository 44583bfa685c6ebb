//! Whether a region can be switched off.

use crate::controller::candidates;
use std::collections::BTreeSet;
use types::{PartitionId, PartitionRow, Placement, RegionId, RegionStatus};

/// What switching a region off would hurt. Nothing, where everything in it is empty and it is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerOff {
    /// It gets no new homes.
    pub is_drained: bool,
    /// Partitions homed there, those being moved away or failing over from there included.
    pub homes: Vec<PartitionId>,
    /// Partitions that are being moved there.
    pub arriving: Vec<PartitionId>,
    /// Partitions that would be in sync in fewer than two regions.
    pub exposed: Vec<PartitionId>,
}

impl PowerOff {
    /// Nobody would notice.
    pub const fn is_safe(&self) -> bool {
        self.is_drained && self.homes.is_empty() && self.arriving.is_empty() && self.exposed.is_empty()
    }
}

/// Judges by the rows. A partition counts as in sync in a region by a member there that is alive and not lost.
pub fn power_off(view: &Placement, region: &RegionId) -> PowerOff {
    let is_here = |node: &types::NodeId| view.node(node).is_some_and(|node| node.region == *region);
    let numbers = |rows: &dyn Fn(&&PartitionRow) -> bool| {
        view.partitions().filter(rows).map(|row| row.partition).collect::<Vec<_>>()
    };
    let is_exposed = |row: &&PartitionRow| {
        let elsewhere: BTreeSet<&RegionId> =
            candidates(row, view).map(|node| &node.region).filter(|other| *other != region).collect();
        row.replicas.iter().any(|replica| is_here(&replica.node)) && elsewhere.len() < 2
    };
    PowerOff {
        is_drained: view.region(region).is_some_and(|row| row.status == RegionStatus::Draining),
        homes: numbers(&|row| row.home.as_ref().is_some_and(|home| is_here(&home.node))),
        arriving: numbers(&|row| row.moving.as_ref().is_some_and(|moving| is_here(&moving.target.node))),
        exposed: numbers(&is_exposed),
    }
}
