//! The first home of a partition.

use super::{Answer, Failure};
use crate::rows::Rows;
use serde::{Deserialize, Serialize};
use types::{Epoch, EpochStart, Home, Lsn, PartitionId, PartitionState, Replica};

/// A vacant partition gets a home in the region that it prefers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstHome {
    /// The partition.
    pub partition: PartitionId,
    /// Its first home.
    pub home: Home,
}

pub(super) fn assign(rows: &mut Rows<'_>, homes: &[FirstHome]) -> Result<Answer, Failure> {
    let nodes = rows.nodes()?;
    let mut applied = 0;
    for first in homes {
        let Some(mut row) = rows.partition(first.partition)? else { continue };
        let Some(node) = nodes.get(&first.home.node) else { continue };
        let holds = row.state == PartitionState::Vacant
            && node.region == row.preferred
            && node.live
            && node.incarnation == first.home.incarnation;
        if !holds {
            continue;
        }
        let replica = Replica { node: node.node.clone(), store: node.store };
        row.state = PartitionState::Homed;
        row.epoch = Epoch::FIRST;
        row.home = Some(first.home.clone());
        row.replicas = vec![replica.clone()];
        row.isr = vec![replica];
        row.isr_version = 1;
        row.history =
            vec![EpochStart { epoch: Epoch::FIRST, start_lsn: Lsn::FIRST, home: first.home.clone() }];
        rows.put_partition(row)?;
        applied += 1;
    }
    if applied > 0 {
        rows.note(format!("{applied} partitions got their first home"))?;
    }
    Ok(Answer::Applied(applied))
}
