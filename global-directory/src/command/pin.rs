//! A log is pinned to a partition when it is opened first.

use super::{Answer, Failure};
use crate::{rendezvous, rows::Rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{Generation, LogId, NodeId, NodeRow, Offset, PartitionRow, PinSegment, RegionId};

/// A log that is to have a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinWish {
    /// The log.
    pub log: LogId,
    /// Where its creator is connected.
    pub region: RegionId,
    /// The regions that may hold it; empty means all.
    pub allowed_regions: Vec<RegionId>,
}

/// A log cannot be pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The deployment has no such region.
    #[error("region {region} is not one of this deployment's")]
    UnknownRegion {
        /// What was asked for.
        region: RegionId,
    },
    /// No partition stays within the regions that the log is restricted to.
    #[error("log {log} may be held in {allowed} only, and no partition is restricted to that")]
    NoPartition {
        /// The log.
        log: LogId,
        /// What it allows.
        allowed: String,
    },
}

pub(super) fn pin(rows: &mut Rows<'_>, wishes: &[PinWish]) -> Result<Answer, Failure> {
    let nodes = rows.nodes()?;
    let partitions = rows.partitions()?;
    let mut created = 0;
    for wish in wishes {
        for region in wish.allowed_regions.iter().chain([&wish.region]) {
            if !rows.meta().regions.contains(region) {
                return Err(PinError::UnknownRegion { region: region.clone() }.into());
            }
        }
        // An earlier wish of the same batch counts too.
        if rows.pin(wish.log)?.is_some() {
            continue;
        }
        let Some(partition) = choose(wish, &partitions, &nodes, &rows.meta().regions) else {
            let allowed = wish.allowed_regions.iter().map(RegionId::as_str).collect::<Vec<_>>().join(", ");
            return Err(PinError::NoPartition { log: wish.log, allowed }.into());
        };
        rows.create_pin(
            wish.log,
            PinSegment {
                generation: Generation::FIRST,
                partition: partition.partition,
                first_offset: Offset::FIRST,
            },
        )?;
        created += 1;
    }
    Ok(Answer::Applied(created))
}

/// A partition homed in the creator's region; where it has no home just now, one that prefers it; where
/// residency forbids all of those, any that satisfies it.
fn choose<'a>(
    wish: &PinWish,
    partitions: &'a [PartitionRow],
    nodes: &BTreeMap<NodeId, NodeRow>,
    regions: &[RegionId],
) -> Option<&'a PartitionRow> {
    let satisfies = |row: &&PartitionRow| {
        let held_in = if row.allowed.is_empty() { regions } else { &row.allowed };
        wish.allowed_regions.is_empty() || held_in.iter().all(|it| wish.allowed_regions.contains(it))
    };
    let homed_here = |row: &&PartitionRow| {
        row.has_home()
            && row
                .home
                .as_ref()
                .and_then(|home| nodes.get(&home.node))
                .is_some_and(|node| node.region == wish.region)
    };
    let best =
        |filter: &dyn Fn(&&PartitionRow) -> bool| {
            partitions.iter().filter(satisfies).filter(filter).max_by_key(|row| {
                rendezvous::weight(&wish.log.to_bytes(), &row.partition.get().to_be_bytes())
            })
        };
    best(&homed_here).or_else(|| best(&|row| row.preferred == wish.region)).or_else(|| best(&|_| true))
}
