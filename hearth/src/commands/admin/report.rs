//! What an operator wants to know, from what everybody answered. Pure.

use super::collect::Seen;
use proto::node::{PartitionStatus, Pressure};
use serde::Serialize;
use std::collections::BTreeMap;
use types::{NodeId, PartitionId, PartitionRow, PartitionState, RegionId, RegionStatus};

/// Copies of a partition, in as many regions, that make it fully in sync.
const REPLICAS: usize = 3;

/// How a deployment is.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) directory: DirectoryReport,
    pub(super) regions: Vec<RegionReport>,
    pub(super) nodes: Vec<NodeReport>,
    /// What nodes see of nodes of other regions.
    pub(super) observers: Vec<ObserverReport>,
    /// Nodes at which a majority of the regions outside their own fail.
    pub(super) failing: Vec<FailingReport>,
    pub(super) partitions: PartitionsReport,
    /// By the region that lags.
    pub(super) replication: Vec<ReplicationReport>,
    /// Content acked at `home` and not replicated yet, as far as homes answer.
    pub(super) at_risk_messages: u64,
    /// Partitions whose home slows its writers, since its in-sync set lags, and those where it refuses content.
    pub(super) slowed: usize,
    pub(super) refusing: usize,
    /// For how long the in-sync member that is furthest behind has lacked something.
    pub(super) isr_lag_ms_max: u64,
    /// Regions whose homes may call `replicated` what no other region holds, and until when.
    pub(super) alone: Vec<AloneReport>,
    /// Archives of nodes that answer whose salvage is not done, and their records that are not settled.
    pub(super) unsettled_archives: u64,
    pub(super) unsettled_records: u64,
    /// Partitions whose home does not answer: nothing is known of their lag and risk.
    pub(super) partitions_unheard: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partition_list: Option<Vec<PartitionReport>>,
}

#[derive(Debug, Serialize)]
pub(super) struct DirectoryReport {
    pub(super) address: String,
    pub(super) placement_version: u64,
    pub(super) lease_ttl_ms: u32,
    pub(super) automatic_failover: bool,
    /// Why it is off, or what stopped it.
    pub(super) automatic_failover_note: String,
    pub(super) pins: u64,
    /// The newest last.
    pub(super) events: Vec<EventReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct ObserverReport {
    pub(super) observer: String,
    pub(super) reported_ago_ms: u64,
    /// It is not cut off itself, and was heard lately.
    pub(super) judges: bool,
    /// At whom its canaries are acked.
    pub(super) acked: Vec<String>,
    /// At whom they are not, and for how long.
    pub(super) failing: Vec<(String, u32)>,
}

#[derive(Debug, Serialize)]
pub(super) struct FailingReport {
    pub(super) node: String,
    pub(super) failing_ms: u64,
    pub(super) seen_from: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct AloneReport {
    pub(super) region: RegionId,
    pub(super) until_ms: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct EventReport {
    pub(super) at_ms: u64,
    /// In whose name; empty for the directory itself.
    pub(super) who: String,
    pub(super) what: String,
}

#[derive(Debug, Serialize)]
pub(super) struct RegionReport {
    pub(super) region: RegionId,
    pub(super) status: RegionStatus,
    pub(super) nodes: usize,
    /// Partitions homed there now.
    pub(super) homes: usize,
    /// Partitions that belong there.
    pub(super) prefer_it: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeReport {
    pub(super) node: NodeId,
    pub(super) region: RegionId,
    pub(super) address: String,
    pub(super) incarnation: u64,
    /// The directory has not taken its incarnation away.
    pub(super) live: bool,
    pub(super) renewed_ago_ms: Option<u64>,
    pub(super) homes: usize,
    /// What it says of itself; `None` where it does not answer.
    pub(super) says: Option<NodeSays>,
    /// Why it does not answer.
    pub(super) unreachable: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeSays {
    pub(super) ready: bool,
    pub(super) lease_left_ms: u32,
    pub(super) sessions: u64,
    pub(super) at_risk_messages: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct PartitionsReport {
    pub(super) total: usize,
    pub(super) homed: usize,
    /// Being handed over by a planned move.
    pub(super) moving: usize,
    pub(super) vacant: usize,
    pub(super) failing_over: usize,
    /// Homed, but the former home's lease is not waited out.
    pub(super) waiting: usize,
    /// In sync at as many regions as there can be.
    pub(super) fully_in_sync: usize,
    /// In sync in fewer than two regions: nothing is acked `replicated`.
    pub(super) below_two_regions: usize,
    pub(super) with_lost_replicas: usize,
    pub(super) epoch_min: u64,
    pub(super) epoch_max: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReplicationReport {
    pub(crate) region: RegionId,
    /// Partitions that it follows and that homes tell about.
    pub(crate) follows: usize,
    pub(crate) in_sync: usize,
    pub(crate) lag_records_max: u64,
    pub(crate) lag_ms_max: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct PartitionReport {
    pub(super) partition: PartitionId,
    pub(super) state: PartitionState,
    pub(super) preferred: RegionId,
    pub(super) home: Option<NodeId>,
    pub(super) epoch: u64,
    pub(super) isr: Vec<NodeId>,
    pub(super) lost: Vec<NodeId>,
    pub(super) last_lsn: Option<u64>,
    pub(super) watermark: Option<u64>,
    pub(super) at_risk_messages: Option<u64>,
}

/// Puts together what the directory and the nodes said.
pub(super) fn report(seen: &Seen, list_partitions: bool) -> Report {
    let homes = Homes::of(seen);
    let rows = &seen.placement.partitions;
    Report {
        directory: directory(seen),
        regions: regions(seen),
        nodes: seen.placement.nodes.iter().map(|row| node(seen, row)).collect(),
        observers: seen.directory.observers.iter().map(observer).collect(),
        failing: seen.directory.failing.iter().map(failing).collect(),
        partitions: partitions(rows, seen.placement.regions.len()),
        replication: replication(seen, &homes),
        at_risk_messages: homes.said.values().map(|status| status.at_risk_messages).sum(),
        slowed: homes.pushing_back(Pressure::Slow),
        refusing: homes.pushing_back(Pressure::Full),
        isr_lag_ms_max: homes.said.values().map(|status| status.isr_lag_ms).max().unwrap_or(0),
        alone: alone(seen),
        unsettled_archives: seen.replies().map(|reply| reply.unsettled_archives).sum(),
        unsettled_records: seen.replies().map(|reply| reply.unsettled_records).sum(),
        partitions_unheard: rows.iter().filter(|row| !homes.said.contains_key(&row.partition)).count(),
        partition_list: list_partitions.then(|| rows.iter().map(|row| homes.partition(row)).collect()),
    }
}

/// What homes say of their partitions, at the epoch that the directory has for them or a later one.
struct Homes<'a> {
    said: BTreeMap<PartitionId, &'a PartitionStatus>,
}

impl<'a> Homes<'a> {
    fn of(seen: &'a Seen) -> Self {
        let epochs: BTreeMap<_, _> =
            seen.placement.partitions.iter().map(|row| (row.partition, row.epoch.get())).collect();
        let said = seen
            .replies()
            .flat_map(|reply| &reply.partitions)
            .filter(|status| status.home)
            .map(|status| (PartitionId::new(status.partition), status))
            .filter(|(partition, status)| epochs.get(partition).is_some_and(|epoch| status.epoch >= *epoch))
            .collect();
        Self { said }
    }

    fn pushing_back(&self, pressure: Pressure) -> usize {
        self.said.values().filter(|status| status.pressure() == pressure).count()
    }

    fn partition(&self, row: &PartitionRow) -> PartitionReport {
        let said = self.said.get(&row.partition);
        PartitionReport {
            partition: row.partition,
            state: row.state,
            preferred: row.preferred.clone(),
            home: row.home.as_ref().map(|home| home.node.clone()),
            epoch: row.epoch.get(),
            isr: row.isr.iter().map(|replica| replica.node.clone()).collect(),
            lost: row.lost.iter().map(|replica| replica.node.clone()).collect(),
            last_lsn: said.and_then(|status| status.last.as_ref()).map(|last| last.lsn),
            watermark: said.map(|status| status.watermark),
            at_risk_messages: said.map(|status| status.at_risk_messages),
        }
    }
}

fn alone(seen: &Seen) -> Vec<AloneReport> {
    let regions = seen.placement.regions.iter().filter(|row| row.alone_until_ms > 0);
    regions.map(|row| AloneReport { region: row.region.clone(), until_ms: row.alone_until_ms }).collect()
}

fn observer(told: &proto::directory::Observer) -> ObserverReport {
    let (failing, acked): (Vec<_>, Vec<_>) = told.observed.iter().partition(|one| one.failing_ms > 0);
    ObserverReport {
        observer: told.node.clone(),
        reported_ago_ms: told.reported_ago_ms,
        judges: told.judges,
        acked: acked.into_iter().map(|one| one.node.clone()).collect(),
        failing: failing.into_iter().map(|one| (one.node.clone(), one.failing_ms)).collect(),
    }
}

fn failing(told: &proto::directory::Failing) -> FailingReport {
    let (node, seen_from) = (told.node.clone(), told.seen_from.clone());
    FailingReport { node, failing_ms: told.failing_ms, seen_from }
}

fn directory(seen: &Seen) -> DirectoryReport {
    let said = &seen.directory;
    DirectoryReport {
        address: seen.directory_address.clone(),
        placement_version: said.placement_version,
        lease_ttl_ms: said.lease_ttl_ms,
        automatic_failover: said.automatic_failover,
        automatic_failover_note: said.automatic_failover_note.clone(),
        pins: said.pins,
        events: said
            .events
            .iter()
            .map(|event| EventReport { at_ms: event.at_ms, who: event.who.clone(), what: event.what.clone() })
            .collect(),
    }
}

fn regions(seen: &Seen) -> Vec<RegionReport> {
    let rows = &seen.placement.partitions;
    let homed_in = |region: &RegionId| {
        let nodes = seen.placement.nodes.iter().filter(move |row| row.region == *region);
        nodes.map(|node| homes_of(rows, &node.node)).sum()
    };
    seen.placement
        .regions
        .iter()
        .map(|row| RegionReport {
            region: row.region.clone(),
            status: row.status,
            nodes: seen.placement.nodes.iter().filter(|node| node.region == row.region).count(),
            homes: homed_in(&row.region),
            prefer_it: rows.iter().filter(|partition| partition.preferred == row.region).count(),
        })
        .collect()
}

fn homes_of(rows: &[PartitionRow], node: &NodeId) -> usize {
    rows.iter().filter(|row| row.home.as_ref().is_some_and(|home| home.node == *node)).count()
}

fn node(seen: &Seen, row: &types::NodeRow) -> NodeReport {
    let answer = seen.nodes.get(&row.node);
    let liveness = seen.directory.nodes.iter().find(|liveness| liveness.node == row.node.as_str());
    let says = answer.and_then(|answer| answer.as_ref().ok()).map(|reply| NodeSays {
        ready: reply.ready,
        lease_left_ms: reply.lease_left_ms,
        sessions: reply.sessions,
        at_risk_messages: reply
            .partitions
            .iter()
            .filter(|status| status.home)
            .map(|status| status.at_risk_messages)
            .sum(),
    });
    NodeReport {
        node: row.node.clone(),
        region: row.region.clone(),
        address: row.address.clone(),
        incarnation: row.incarnation.get(),
        live: row.live,
        renewed_ago_ms: liveness.map(|liveness| liveness.renewed_ago_ms),
        homes: homes_of(&seen.placement.partitions, &row.node),
        says,
        unreachable: answer.and_then(|answer| answer.as_ref().err()).cloned(),
    }
}

fn partitions(rows: &[PartitionRow], regions: usize) -> PartitionsReport {
    let count = |wanted: &dyn Fn(&PartitionRow) -> bool| rows.iter().filter(|row| wanted(row)).count();
    let in_state = |state: PartitionState| count(&|row| row.state == state);
    let in_sync = |row: &PartitionRow| row.isr.iter().filter(|replica| !row.lost.contains(replica)).count();
    let epochs = || rows.iter().map(|row| row.epoch.get());
    PartitionsReport {
        total: rows.len(),
        homed: in_state(PartitionState::Homed),
        moving: in_state(PartitionState::Draining),
        vacant: in_state(PartitionState::Vacant),
        failing_over: in_state(PartitionState::FailingOver),
        waiting: count(&|row| !row.waiting.is_empty()),
        fully_in_sync: count(&|row| in_sync(row) >= regions.min(REPLICAS)),
        below_two_regions: count(&|row| in_sync(row) < 2),
        with_lost_replicas: count(&|row| !row.lost.is_empty()),
        epoch_min: epochs().min().unwrap_or(0),
        epoch_max: epochs().max().unwrap_or(0),
    }
}

fn replication(seen: &Seen, homes: &Homes<'_>) -> Vec<ReplicationReport> {
    let region_of: BTreeMap<&str, &RegionId> =
        seen.placement.nodes.iter().map(|row| (row.node.as_str(), &row.region)).collect();
    let empty = |region: &RegionId| ReplicationReport {
        region: region.clone(),
        follows: 0,
        in_sync: 0,
        lag_records_max: 0,
        lag_ms_max: 0,
    };
    let mut by_region: BTreeMap<&RegionId, ReplicationReport> =
        seen.placement.regions.iter().map(|row| (&row.region, empty(&row.region))).collect();
    for follower in homes.said.values().flat_map(|status| &status.followers) {
        let node = follower.replica.as_ref().map_or("", |replica| replica.node.as_str());
        let Some(report) = region_of.get(node).and_then(|region| by_region.get_mut(region)) else { continue };
        report.follows += 1;
        report.in_sync += usize::from(follower.in_sync);
        report.lag_records_max = report.lag_records_max.max(follower.lag_records);
        report.lag_ms_max = report.lag_ms_max.max(follower.lag_ms);
    }
    by_region.into_values().collect()
}

#[cfg(test)]
pub(super) mod tests;
