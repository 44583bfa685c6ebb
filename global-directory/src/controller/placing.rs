//! First homes.

use super::{Action, Settings, boot, copies, submit_in_batches};
use crate::{
    bounds,
    command::{Command, FirstHome},
    lease::LeaseTable,
};
use types::{PartitionState, Placement, RegionId, RegionStatus};

/// Homes vacant partitions in the region that they prefer, as soon as it has nodes. Those of a region come
/// up one after the other: nothing is given out until no further one has come for a while, since the first
/// would get it all.
pub(super) fn assign_homes(
    settings: &Settings,
    seen: &copies::Seen,
    now_ms: u64,
    view: &Placement,
    leases: &LeaseTable,
    out: &mut Vec<Action>,
) {
    if !view.partitions().any(|row| row.state == PartitionState::Vacant) {
        return;
    }
    let mut takers = copies::takers(settings, now_ms, view, leases);
    takers.retain(|_, nodes| {
        nodes.iter().all(|node| seen.has_been(node, true, bounds::BIRTH_SETTLE_MS, now_ms))
    });
    let takes_homes =
        |region: &RegionId| view.region(region).is_some_and(|row| row.status == RegionStatus::Active);
    let homes: Vec<FirstHome> = view
        .partitions()
        .filter(|row| row.state == PartitionState::Vacant && takes_homes(&row.preferred))
        .filter_map(|row| {
            let node = copies::heaviest(row, takers.get(&row.preferred)?)?;
            Some(FirstHome { partition: row.partition, home: boot(node) })
        })
        .collect();
    submit_in_batches(&homes, Command::AssignHomes, out);
}
