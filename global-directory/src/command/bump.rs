//! The leases of a node, or of every node of a region, are taken away in one compare-and-set.

use super::{
    Answer, Failure,
    end_home::{end_home, note_moves, release},
};
use crate::rows::Rows;
use std::collections::BTreeSet;
use types::{Home, Incarnation, NodeId, RegionStatus};

/// A bump met other rows than it was made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BumpError {
    /// The node has another boot by now, or was bumped already.
    #[error("node {node} was to be bumped in incarnation {expected}, and has {found}")]
    Moved {
        /// The node.
        node: NodeId,
        /// The boot that was judged.
        expected: Incarnation,
        /// The one it has now.
        found: Incarnation,
    },
    /// There is no such node.
    #[error("node {node} was to be bumped, and was never registered")]
    Unknown {
        /// The name.
        node: NodeId,
    },
}

pub(super) fn bump(rows: &mut Rows<'_>, boots: &[Home]) -> Result<Answer, Failure> {
    let mut nodes = rows.nodes()?;
    let mut regions = BTreeSet::new();
    for boot in boots {
        let Some(row) = nodes.get_mut(&boot.node) else {
            return Err(BumpError::Unknown { node: boot.node.clone() }.into());
        };
        if row.incarnation != boot.incarnation || !row.live {
            return Err(BumpError::Moved {
                node: boot.node.clone(),
                expected: boot.incarnation,
                found: row.incarnation,
            }
            .into());
        }
        row.incarnation = row.incarnation.next();
        row.live = false;
        regions.insert(row.region.clone());
        rows.put_node(row.clone())?;
    }
    for region in &regions {
        let has_live_node = nodes.values().any(|node| node.region == *region && node.live);
        if let Some(mut row) = rows.region(region)?
            && !has_live_node
            // A region that was drained and switched off stays drained when it is back.
            && row.status == RegionStatus::Active
        {
            row.status = RegionStatus::Down;
            rows.put_region(row)?;
        }
    }
    let (mut ended, mut left, mut moves) = (0, 0, Vec::new());
    for mut partition in rows.partitions()? {
        if partition.home.as_ref().is_some_and(|home| boots.contains(home)) {
            moves.extend(partition.moving.as_ref().map(|moving| moving.id));
            if end_home(&mut partition) {
                ended += 1;
                rows.put_partition(partition)?;
            }
        } else if partition.has_home() && release(&mut partition, boots, &nodes) {
            left += 1;
            rows.put_partition(partition)?;
        }
    }
    let names = boots.iter().map(|boot| boot.node.as_str()).collect::<Vec<_>>().join(", ");
    rows.note(format!("bumped {names}, which ends {ended} homes and leaves {left} in-sync sets"))?;
    note_moves(rows, &moves)?;
    Ok(Answer::Applied(ended))
}
