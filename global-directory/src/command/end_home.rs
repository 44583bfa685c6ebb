//! What the end of a boot does to the partitions that it was home of, and what the end of a replica does to
//! an in-sync set. Shared by every command that ends one.

use super::Failure;
use crate::rows::Rows;
use host::planted::{Bug, is_planted};
use std::collections::{BTreeMap, BTreeSet};
use types::{Home, MoveId, NodeId, NodeRow, PartitionRow, PartitionState, RegionId, Replica};

/// Ends the home of a partition, if it has one: until the boot is waited out nobody acks in its place.
/// Answers whether it had one.
pub(super) fn end_home(row: &mut PartitionRow) -> bool {
    if !row.has_home() {
        return false;
    }
    let Some(home) = row.home.clone() else { return false };
    row.state = PartitionState::FailingOver;
    // Whatever was sealed by then, failover goes on from the records.
    row.moving = None;
    if !row.waiting.contains(&home) && !is_planted(Bug::ForgetWaiting) {
        row.waiting.push(home);
    }
    true
}

/// Says of planned moves that they ended with the boot that was to hand the partition over.
pub(super) fn note_moves(rows: &mut Rows<'_>, moves: &[MoveId]) -> Result<(), Failure> {
    if moves.is_empty() {
        return Ok(());
    }
    let names = moves.iter().map(MoveId::to_string).collect::<Vec<_>>().join(", ");
    rows.note(format!("moves {names} end with the boot of the home: their partitions fail over"))?;
    Ok(())
}

/// The regions that a set of replicas spans.
pub(super) fn regions_of<'a>(
    replicas: impl IntoIterator<Item = &'a Replica>,
    nodes: &'a BTreeMap<NodeId, NodeRow>,
) -> BTreeSet<&'a RegionId> {
    replicas.into_iter().filter_map(|replica| nodes.get(&replica.node)).map(|node| &node.region).collect()
}

/// Takes the replicas of ended boots out of the in-sync set of a partition that keeps its home, if the set
/// spans two regions without them; a home's watermark then waits for nobody who is gone. Otherwise they stay:
/// they may be all that is left to promote. Answers whether the set changed.
pub(super) fn release(row: &mut PartitionRow, ended: &[Home], nodes: &BTreeMap<NodeId, NodeRow>) -> bool {
    let gone = |replica: &&Replica| ended.iter().any(|boot| boot.node == replica.node);
    let stay: Vec<Replica> = row.isr.iter().filter(|replica| !gone(replica)).cloned().collect();
    let sound = stay.iter().filter(|replica| !row.lost.contains(replica));
    if stay.len() == row.isr.len() || regions_of(sound, nodes).len() < 2 {
        return false;
    }
    row.lost.retain(|replica| stay.contains(replica));
    row.isr = stay;
    row.isr_version += 1;
    true
}

/// Takes dead replicas out of the in-sync set. Where it would span fewer than two regions without them, having
/// spanned two, or would be empty, they stay in it, listed as `lost`.
pub(super) fn settle(row: &mut PartitionRow, dead: &[&Replica], nodes: &BTreeMap<NodeId, NodeRow>) {
    let sound = |replica: &&Replica| !dead.contains(replica) && !row.lost.contains(replica);
    let alive: Vec<Replica> = row.isr.iter().filter(sound).cloned().collect();
    let spans_two = |replicas: &[Replica]| regions_of(replicas, nodes).len() >= 2;
    let (isr, lost) = if !alive.is_empty() && (spans_two(&alive) || !spans_two(&row.isr)) {
        (alive, Vec::new())
    } else {
        let lost = row.isr.iter().filter(|replica| !alive.contains(replica)).cloned().collect();
        (row.isr.clone(), lost)
    };
    if isr != row.isr || lost != row.lost {
        row.isr = isr;
        row.lost = lost;
        row.isr_version += 1;
    }
}
