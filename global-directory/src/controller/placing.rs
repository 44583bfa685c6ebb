//! First homes, and copies in further regions.

use super::{Action, boot, replica, submit_in_batches};
use crate::{
    bounds,
    command::{Command, FirstHome, NewReplica},
    lease::LeaseTable,
    rendezvous,
};
use std::collections::BTreeSet;
use types::{NodeRow, PartitionRow, PartitionState, Placement, RegionId, RegionStatus};

/// Homes vacant partitions in the region that they prefer, as soon as it has a node.
pub(super) fn assign_homes(
    silence_ms: u64,
    now_ms: u64,
    view: &Placement,
    leases: &LeaseTable,
    out: &mut Vec<Action>,
) {
    let sound = sound_nodes(silence_ms, now_ms, view, leases);
    let takes_homes =
        |region: &RegionId| view.region(region).is_some_and(|row| row.status == RegionStatus::Active);
    let homes: Vec<FirstHome> = view
        .partitions()
        .filter(|row| row.state == PartitionState::Vacant && takes_homes(&row.preferred))
        .filter_map(|row| {
            let local = sound.iter().filter(|node| node.region == row.preferred);
            let node = heaviest(row, local.copied())?;
            Some(FirstHome { partition: row.partition, home: boot(node) })
        })
        .collect();
    submit_in_batches(&homes, Command::AssignHomes, out);
}

/// Gives partitions with too few copies to nodes of regions that have none.
pub(super) fn add_replicas(
    silence_ms: u64,
    now_ms: u64,
    view: &Placement,
    leases: &LeaseTable,
    out: &mut Vec<Action>,
) {
    let mut added = Vec::new();
    let sound = sound_nodes(silence_ms, now_ms, view, leases);
    for row in view.partitions().filter(|row| row.state != PartitionState::Vacant) {
        let mut regions: BTreeSet<&RegionId> = row
            .replicas
            .iter()
            .filter_map(|replica| view.node(&replica.node))
            .map(|node| &node.region)
            .collect();
        for _ in row.replicas.len()..bounds::REPLICATION_FACTOR {
            let fresh = sound.iter().copied().filter(|node| {
                !regions.contains(&node.region)
                    && (row.allowed.is_empty() || row.allowed.contains(&node.region))
            });
            let Some(node) = heaviest(row, fresh) else { break };
            regions.insert(&node.region);
            added.push(NewReplica { partition: row.partition, replica: replica(node) });
        }
    }
    submit_in_batches(&added, Command::AddReplicas, out);
}

fn sound_nodes<'a>(
    silence_ms: u64,
    now_ms: u64,
    view: &'a Placement,
    leases: &LeaseTable,
) -> Vec<&'a NodeRow> {
    let is_sound = |node: &&NodeRow| {
        node.live && leases.silent_ms(&boot(node), now_ms).is_some_and(|silent_ms| silent_ms < silence_ms)
    };
    view.nodes().filter(is_sound).collect()
}

fn heaviest<'a>(row: &PartitionRow, nodes: impl Iterator<Item = &'a NodeRow>) -> Option<&'a NodeRow> {
    let partition = row.partition.get().to_be_bytes();
    nodes.max_by_key(|node| rendezvous::weight(&partition, node.node.as_str().as_bytes()))
}
