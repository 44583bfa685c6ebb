//! Further copies of a partition, each in a region that has none yet.

use super::{Answer, Failure, end_home::regions_of};
use crate::{bounds, rows::Rows};
use types::{PartitionId, PartitionState, Replica};

/// A node is to keep a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReplica {
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
            && row.replicas.len() < bounds::REPLICATION_FACTOR
            && node.store == new.replica.store
            && (row.allowed.is_empty() || row.allowed.contains(&node.region))
            && !regions_of(&row.replicas, &nodes).contains(&node.region);
        if holds {
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
