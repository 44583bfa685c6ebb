//! Nodes and regions that leave the deployment for good, and regions that join it.
//!
//! ```text
//!            retire                       finish_retirement (the controller's)
//!  Serving ──────────▶ Retiring ─────────────────────────────────────────────▶ Retired
//!     ▲                   │  gets no homes and copies; those it has leave         its name is not
//!     └──── keep ─────────┘  for others, step by step                             used again
//! ```

use super::{Answer, Failure, RegionWish};
use crate::{rendezvous, rows::Rows};
use serde::{Deserialize, Serialize};
use types::{NodeId, NodeRow, PartitionRow, RegionId, RegionRow, RegionStatus, Retirement, limits};

/// Who is to leave, or to stay after all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRetirement {
    /// The node.
    pub node: NodeId,
    /// It stays after all.
    pub keep: bool,
    /// In whose name.
    #[serde(default)]
    pub by: String,
}

/// What cannot be retired, or added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    /// There is no such node.
    #[error("there is no node {0}")]
    UnknownNode(NodeId),
    /// There is no such region.
    #[error("there is no region {0}")]
    UnknownRegion(RegionId),
    /// It has left already.
    #[error("{0} is retired: that is for good")]
    Retired(String),
    /// The node leaves with its region.
    #[error("node {node} leaves with region {region}")]
    WithRegion {
        /// The node.
        node: NodeId,
        /// Its region.
        region: RegionId,
    },
    /// Nobody would be left.
    #[error("{0} is the last one that serves: nobody could take its partitions")]
    Last(String),
    /// One region would be left.
    #[error("region {0} is one of the last two that serve: nothing would be replicated without it")]
    LastTwo(RegionId),
    /// Residency holds partitions where they are.
    #[error("{count} partitions may be held in region {region} only")]
    Residency {
        /// The region.
        region: RegionId,
        /// How many.
        count: usize,
    },
    /// There are as many as there may be.
    #[error("region {region} is one more than the {max} of a deployment")]
    TooManyRegions {
        /// The one too many.
        region: RegionId,
        /// The bound.
        max: usize,
    },
}

pub(super) fn node(rows: &mut Rows<'_>, wanted: &NodeRetirement) -> Result<Answer, Failure> {
    let name = &wanted.node;
    let nodes = rows.nodes()?;
    let Some(mut row) = nodes.get(name).cloned() else {
        return Err(RetireError::UnknownNode(name.clone()).into());
    };
    let region_leaves = rows.region(&row.region)?.is_some_and(|it| it.retirement != Retirement::Serving);
    let next = if wanted.keep { Retirement::Serving } else { Retirement::Retiring };
    if row.retirement == next || (!wanted.keep && row.retirement == Retirement::Retired) {
        return Ok(Answer::Done);
    }
    if row.retirement == Retirement::Retired {
        return Err(RetireError::Retired(format!("node {name}")).into());
    }
    if wanted.keep && region_leaves {
        return Err(RetireError::WithRegion { node: name.clone(), region: row.region }.into());
    }
    let serves = |other: &NodeRow| other.retirement == Retirement::Serving && other.node != *name;
    if !wanted.keep && !nodes.values().any(serves) {
        return Err(RetireError::Last(format!("node {name}")).into());
    }
    row.retirement = next;
    rows.put_node(row)?;
    let what = if wanted.keep { "stays after all" } else { "retires: what it holds goes to others" };
    rows.note_by(&wanted.by, format!("node {name} {what}"))?;
    Ok(Answer::Done)
}

pub(super) fn region(rows: &mut Rows<'_>, wish: &RegionWish) -> Result<Answer, Failure> {
    let RegionWish { region: name, by } = wish;
    let Some(mut row) = rows.region(name)? else {
        return Err(RetireError::UnknownRegion(name.clone()).into());
    };
    if row.retirement != Retirement::Serving {
        return Ok(Answer::Done);
    }
    let others: Vec<RegionId> = rows
        .regions()?
        .into_iter()
        .filter(|other| other.retirement == Retirement::Serving && other.region != *name)
        .map(|other| other.region)
        .collect();
    match others.len() {
        0 => return Err(RetireError::Last(format!("region {name}")).into()),
        1 => return Err(RetireError::LastTwo(name.clone()).into()),
        _ => {}
    }
    let prefer_it: Vec<PartitionRow> =
        rows.partitions()?.into_iter().filter(|partition| partition.preferred == *name).collect();
    let next: Vec<_> = prefer_it.iter().map(|partition| preferred_next(partition, &others)).collect();
    let held = next.iter().filter(|next| next.is_none()).count();
    if held > 0 {
        return Err(RetireError::Residency { region: name.clone(), count: held }.into());
    }
    let count = prefer_it.len();
    for (mut partition, next) in prefer_it.into_iter().zip(next.into_iter().flatten()) {
        partition.preferred = next;
        rows.put_partition(partition)?;
    }
    for mut node in rows.nodes()?.into_values().filter(|node| node.region == *name) {
        if node.retirement == Retirement::Serving {
            node.retirement = Retirement::Retiring;
            rows.put_node(node)?;
        }
    }
    row.retirement = Retirement::Retiring;
    row.status = RegionStatus::Draining;
    rows.put_region(row)?;
    let what = format!("region {name} retires: the {count} partitions that preferred it prefer others now");
    rows.note_by(by, what)?;
    Ok(Answer::Done)
}

/// The one that rendezvous names among those where the partition may be held.
fn preferred_next(partition: &PartitionRow, others: &[RegionId]) -> Option<RegionId> {
    let key = partition.partition.get().to_be_bytes();
    let allowed = |region: &&RegionId| partition.allowed.is_empty() || partition.allowed.contains(region);
    let weight = |region: &&RegionId| rendezvous::weight(&key, region.as_str().as_bytes());
    others.iter().filter(allowed).max_by_key(weight).cloned()
}

pub(super) fn add_region(rows: &mut Rows<'_>, wish: &RegionWish) -> Result<Answer, Failure> {
    let RegionWish { region: name, by } = wish;
    match rows.region(name)? {
        Some(row) if row.retirement != Retirement::Serving => {
            return Err(RetireError::Retired(format!("region {name}")).into());
        }
        Some(_) => return Ok(Answer::Done),
        None => {}
    }
    if rows.meta().regions.len() >= limits::REGIONS_MAX {
        return Err(RetireError::TooManyRegions { region: name.clone(), max: limits::REGIONS_MAX }.into());
    }
    rows.add_region(RegionRow {
        region: name.clone(),
        status: RegionStatus::Active,
        retirement: Retirement::Serving,
        failback_off: false,
        alone_until_ms: 0,
    })?;
    let what = format!("region {name} was added: no partition prefers it, and it takes copies and homes");
    rows.note_by(by, what)?;
    Ok(Answer::Done)
}

/// Nodes of which no row needs anything any more, and regions all of whose nodes have left.
pub(super) fn finish(rows: &mut Rows<'_>, names: &[NodeId]) -> Result<Answer, Failure> {
    let partitions = rows.partitions()?;
    let mut applied = 0;
    for name in names {
        let Some(mut row) = rows.node(name)? else { continue };
        let holds = row.retirement == Retirement::Retiring && !partitions.iter().any(|it| needs(it, name));
        if !holds {
            continue;
        }
        row.retirement = Retirement::Retired;
        row.keys.clear();
        if row.live {
            row.live = false;
            row.incarnation = row.incarnation.next();
        }
        rows.put_node(row)?;
        rows.note(format!("node {name} is retired: nothing is left there"))?;
        applied += 1;
    }
    let nodes = rows.nodes()?;
    for mut region in rows.regions()? {
        let mut of_region = nodes.values().filter(|node| node.region == region.region);
        let mut staying = of_region.clone().filter(|node| node.retirement != Retirement::Retired).peekable();
        if region.retirement == Retirement::Retiring && staying.peek().is_none() {
            rows.note(format!("region {} is retired", region.region))?;
            region.retirement = Retirement::Retired;
            rows.put_region(region)?;
            applied += 1;
        } else if region.status == RegionStatus::Down && staying.peek().is_none() {
            // It has no node that could be live, like a region at birth.
            region.status = RegionStatus::Active;
            rows.put_region(region)?;
        } else if region.status == RegionStatus::Active
            && of_region.any(|node| node.retirement == Retirement::Retired)
            && staying.peek().is_some()
            && !staying.any(|node| node.live)
        {
            region.status = RegionStatus::Down;
            rows.put_region(region)?;
        }
    }
    for mut partition in partitions {
        let before = partition.away.len();
        let is_retired =
            |id: &NodeId| nodes.get(id).is_some_and(|node| node.retirement == Retirement::Retired);
        partition.away.retain(|copy| !is_retired(&copy.node));
        if partition.away.len() != before {
            rows.put_partition(partition)?;
        }
    }
    Ok(Answer::Applied(applied))
}

/// Whether a row names the node anywhere that matters.
fn needs(row: &PartitionRow, node: &NodeId) -> bool {
    row.replicas.iter().chain(&row.isr).any(|copy| copy.node == *node)
        || row.home.iter().chain(&row.waiting).any(|home| home.node == *node)
        || row.moving.as_ref().is_some_and(|moving| moving.target.node == *node)
}
