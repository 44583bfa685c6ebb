//! A node has booted.
//!
//! The boot ends its earlier one as far as the rows go: what that was home of fails over, and it joins
//! `waiting` like any bumped boot. That the same node speaks again does not prove that the earlier process
//! is gone (it may be paused, or hold another copy of the store), so it is waited out all the same.

use super::{
    Answer, Failure,
    end_home::{end_home, note_moves, settle},
};
use crate::{bounds, rows::Rows};
use serde::{Deserialize, Serialize};
use types::{
    Incarnation, NodeId, NodeRow, PartitionRow, RegionId, RegionStatus, Replica, Retirement, StoreId,
};

/// What a node says of itself at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its name.
    pub node: NodeId,
    /// Its region; the same for all its boots.
    pub region: RegionId,
    /// `host:port` under which other nodes reach it.
    pub address: String,
    /// The store that it has opened.
    pub store: StoreId,
}

/// A node cannot join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The deployment has no such region.
    #[error("region {region} is not one of this deployment's: {known}")]
    UnknownRegion {
        /// What the node said.
        region: RegionId,
        /// What there is.
        known: String,
    },
    /// The name belongs to a node of another region.
    #[error("node {node} is of region {region}, and region {claimed} claims it")]
    OtherRegion {
        /// The name.
        node: NodeId,
        /// Its region.
        region: RegionId,
        /// What was said now.
        claimed: RegionId,
    },
    /// It has left for good.
    #[error("node {node} is retired: start it under another name, with an empty store")]
    Retired {
        /// The name.
        node: NodeId,
    },
    /// The region takes no new nodes.
    #[error("region {region} leaves the deployment, and takes no new node {node}")]
    RegionRetires {
        /// The region.
        region: RegionId,
        /// The name.
        node: NodeId,
    },
    /// There are as many nodes as there may be.
    #[error("node {node} is one more than the {max} of a deployment")]
    TooManyNodes {
        /// The one too many.
        node: NodeId,
        /// The bound.
        max: usize,
    },
}

pub(super) fn register(rows: &mut Rows<'_>, wanted: &Registration) -> Result<Answer, Failure> {
    let Some(mut region) = rows.region(&wanted.region)? else {
        let known = rows.meta().regions.iter().map(RegionId::to_string).collect::<Vec<_>>().join(", ");
        return Err(RegisterError::UnknownRegion { region: wanted.region.clone(), known }.into());
    };
    let mut nodes = rows.nodes()?;
    let earlier = nodes.get(&wanted.node);
    match earlier {
        Some(earlier) if earlier.region != wanted.region => {
            return Err(RegisterError::OtherRegion {
                node: wanted.node.clone(),
                region: earlier.region.clone(),
                claimed: wanted.region.clone(),
            }
            .into());
        }
        Some(earlier) if earlier.retirement == Retirement::Retired => {
            return Err(RegisterError::Retired { node: wanted.node.clone() }.into());
        }
        None if region.retirement != Retirement::Serving => {
            return Err(RegisterError::RegionRetires {
                region: wanted.region.clone(),
                node: wanted.node.clone(),
            }
            .into());
        }
        None if nodes.len() >= bounds::NODES_MAX => {
            return Err(
                RegisterError::TooManyNodes { node: wanted.node.clone(), max: bounds::NODES_MAX }.into()
            );
        }
        Some(_) | None => {}
    }
    let incarnation = earlier.map_or(Incarnation::default(), |row| row.incarnation).next();
    let row = NodeRow {
        node: wanted.node.clone(),
        region: wanted.region.clone(),
        address: wanted.address.clone(),
        incarnation,
        store: wanted.store,
        live: true,
        retirement: earlier.map_or(Retirement::Serving, |row| row.retirement),
        keys: earlier.map(|row| row.keys.clone()).unwrap_or_default(),
    };
    nodes.insert(row.node.clone(), row.clone());
    rows.put_node(row)?;
    if region.status == RegionStatus::Down {
        region.status = RegionStatus::Active;
        rows.put_region(region)?;
    }
    let (mut ended, mut moves) = (0, Vec::new());
    for before in rows.partitions()? {
        let mut partition = before.clone();
        if partition.home.as_ref().is_some_and(|home| home.node == wanted.node) {
            moves.extend(partition.moving.as_ref().map(|moving| moving.id));
            ended += u64::from(end_home(&mut partition));
        }
        let replaced: Vec<Replica> = (partition.replicas.iter().chain(&partition.isr))
            .filter(|replica| replica.node == wanted.node && replica.store != wanted.store)
            .cloned()
            .collect();
        for replica in &mut partition.replicas {
            if replica.node == wanted.node {
                replica.store = wanted.store;
            }
        }
        if !replaced.is_empty() {
            settle(&mut partition, &replaced.iter().collect::<Vec<_>>(), &nodes);
        }
        come_back(&mut partition, wanted);
        if partition != before {
            rows.put_partition(partition)?;
        }
    }
    rows.note(format!(
        "node {} registered with incarnation {incarnation} and store {}, which ends {ended} homes",
        wanted.node, wanted.store
    ))?;
    note_moves(rows, &moves)?;
    Ok(Answer::Registered(incarnation))
}

/// A copy that was replaced while the node was gone is one again, if the node still has it: what only it holds
/// must be looked through before it goes.
fn come_back(partition: &mut PartitionRow, wanted: &Registration) {
    let is_its = |copy: &Replica| copy.node == wanted.node;
    let has_kept = partition.away.iter().any(|copy| is_its(copy) && copy.store == wanted.store);
    partition.away.retain(|copy| !is_its(copy));
    if has_kept && !partition.replicas.iter().any(is_its) {
        partition.replicas.push(Replica { node: wanted.node.clone(), store: wanted.store });
    }
}
