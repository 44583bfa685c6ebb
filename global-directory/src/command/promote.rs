//! The end of a failover: partitions get a new home at the next epoch.

use super::{Answer, Failure, end_home::settle};
use crate::{bounds, rows::Rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{
    Epoch, EpochStart, Home, Lsn, NodeId, NodeRow, PartitionId, PartitionRow, PartitionState, Replica,
};

/// A member of the in-sync set whose fence is durable becomes home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// The partition.
    pub partition: PartitionId,
    /// The epoch that ends. The new home was fenced at the next one.
    pub epoch: Epoch,
    /// The new home.
    pub home: Home,
    /// One past the last record that it held when its fence was durable.
    pub start_lsn: Lsn,
}

pub(super) fn promote(rows: &mut Rows<'_>, promotions: &[Promotion]) -> Result<Answer, Failure> {
    let nodes = rows.nodes()?;
    let mut applied = 0;
    let mut moves: BTreeMap<(String, &NodeId), Vec<String>> = BTreeMap::new();
    for promotion in promotions {
        let Some(mut row) = rows.partition(promotion.partition)? else { continue };
        let former = row.home.as_ref().map_or_else(|| "nobody".to_owned(), |home| home.node.to_string());
        if apply(&mut row, promotion, &nodes) {
            applied += 1;
            let name = format!("{}@{}", row.partition, row.epoch);
            moves.entry((former, &promotion.home.node)).or_default().push(name);
            rows.put_partition(row)?;
        }
    }
    for ((former, next), partitions) in moves {
        let count = partitions.len();
        rows.note(format!(
            "{count} homes from {former} to {next}, partition@epoch: {}",
            partitions.join(" ")
        ))?;
    }
    Ok(Answer::Applied(applied))
}

/// Changes the row, unless it has moved on since the promotion was decided.
fn apply(row: &mut PartitionRow, promotion: &Promotion, nodes: &BTreeMap<NodeId, NodeRow>) -> bool {
    let Some(node) = nodes.get(&promotion.home.node) else { return false };
    let replica = Replica { node: node.node.clone(), store: node.store };
    let Ok(epoch) = promotion.epoch.next() else { return false };
    let holds = row.state == PartitionState::FailingOver
        && row.epoch == promotion.epoch
        && node.live
        && node.incarnation == promotion.home.incarnation
        && row.isr.contains(&replica)
        && !row.lost.contains(&replica)
        && promotion.start_lsn >= row.start_lsn();
    if !holds {
        return false;
    }
    let dead: Vec<Replica> = row
        .isr
        .iter()
        .filter(|member| **member != replica)
        .filter(|member| {
            let is_former_home = row.home.as_ref().is_some_and(|home| home.node == member.node);
            is_former_home || !nodes.get(&member.node).is_some_and(|node| node.live)
        })
        .cloned()
        .collect();
    let isr_version = row.isr_version;
    settle(row, &dead.iter().collect::<Vec<_>>(), nodes);
    // Raised in any case: a proposal of the former home must not match again.
    row.isr_version = isr_version + 1;
    row.state = PartitionState::Homed;
    row.epoch = epoch;
    row.home = Some(promotion.home.clone());
    // Where an operator wanted it to stay, it is no more.
    row.stays = false;
    row.history.push(EpochStart { epoch, start_lsn: promotion.start_lsn, home: promotion.home.clone() });
    let old = row.history.len().saturating_sub(bounds::HISTORY_MAX);
    row.history.drain(..old);
    true
}
