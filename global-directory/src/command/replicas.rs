//! Copies of a partition come, each on a node that has none yet, and go.

use super::{Answer, Failure, end_home::regions_of};
use crate::{bounds, rows::Rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{NodeId, NodeRow, PartitionId, PartitionRow, PartitionState, Replica, Retirement};

/// A node is to keep a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewReplica {
    /// Of which partition.
    pub partition: PartitionId,
    /// The node, with its store.
    pub replica: Replica,
}

/// A copy need not be kept any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedReplica {
    /// Of which partition.
    pub partition: PartitionId,
    /// The node, with its store.
    pub replica: Replica,
}

pub(super) fn add(rows: &mut Rows<'_>, replicas: &[NewReplica]) -> Result<Answer, Failure> {
    let nodes = rows.nodes()?;
    let mut applied = 0;
    for new in replicas {
        let Some(mut row) = rows.partition(new.partition)? else { continue };
        let Some(node) = nodes.get(&new.replica.node) else { continue };
        let holds = row.state != PartitionState::Vacant
            && row.replicas.len() < bounds::REPLICAS_MAX
            && node.store == new.replica.store
            && node.retirement == Retirement::Serving
            && (row.allowed.is_empty() || row.allowed.contains(&node.region))
            && !row.replicas.iter().any(|copy| copy.node == node.node);
        if holds {
            row.away.retain(|copy| copy.node != node.node);
            row.replicas.push(new.replica.clone());
            rows.put_partition(row)?;
            applied += 1;
        }
    }
    if applied > 0 {
        rows.note(format!("{applied} copies of partitions were given to further nodes"))?;
    }
    Ok(Answer::Applied(applied))
}

pub(super) fn drop_some(rows: &mut Rows<'_>, replicas: &[DroppedReplica]) -> Result<Answer, Failure> {
    let nodes = rows.nodes()?;
    let mut dropped: BTreeMap<&NodeId, Vec<String>> = BTreeMap::new();
    let mut applied = 0;
    for old in replicas {
        let Some(mut row) = rows.partition(old.partition)? else { continue };
        if drop_one(&mut row, &old.replica, &nodes) {
            applied += 1;
            dropped.entry(&old.replica.node).or_default().push(row.partition.to_string());
            rows.put_partition(row)?;
        }
    }
    for (node, partitions) in dropped {
        let count = partitions.len();
        rows.note(format!("{count} copies at {node} are kept no more: {}", partitions.join(" ")))?;
    }
    Ok(Answer::Applied(applied))
}

/// Takes a copy out of the row, unless it is the home's, or the in-sync set would span too few regions. One
/// whose node is gone is remembered: with the store it has, it is a replica again when it comes back.
fn drop_one(row: &mut PartitionRow, copy: &Replica, nodes: &BTreeMap<NodeId, NodeRow>) -> bool {
    let is_home = row.home.as_ref().is_some_and(|home| home.node == copy.node);
    if row.state != PartitionState::Homed || is_home || !row.replicas.contains(copy) {
        return false;
    }
    let sound = |it: &&Replica| !row.lost.contains(it);
    let spans = regions_of(row.isr.iter().filter(sound), nodes).len();
    let left = regions_of(row.isr.iter().filter(sound).filter(|it| *it != copy), nodes).len();
    let all_left = regions_of(row.isr.iter().filter(|it| *it != copy), nodes).len();
    let listed = regions_of(&row.isr, nodes).len();
    if left < spans.min(2) || all_left < listed.min(2) || left == 0 {
        return false;
    }
    let comes_back = nodes
        .get(&copy.node)
        .is_some_and(|node| !node.live && node.store == copy.store && node.retirement == Retirement::Serving);
    if comes_back {
        if row.away.len() >= bounds::AWAY_MAX {
            return false;
        }
        row.away.push(copy.clone());
    }
    row.replicas.retain(|it| it != copy);
    if row.isr.contains(copy) {
        row.isr.retain(|it| it != copy);
        row.lost.retain(|it| it != copy);
        row.isr_version += 1;
    }
    true
}
