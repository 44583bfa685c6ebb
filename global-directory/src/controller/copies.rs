//! Which nodes keep copies: one in each of as many regions as there may be, and in each region the one that
//! rendezvous names among those that can take one.
//!
//! A copy never moves at once. Each step is taken on what the rows say, so any of them may be the first one
//! that a new controller takes:
//!
//! ```text
//!  {A} ──add B──▶ {A, B filling} ──the home's proposal──▶ {A, B in sync} ──drop A──▶ {B}
//! ```
//!
//! What calls for the first step: the region has no copy; its copy's node has been gone for
//! `replace_after_ms`; that node retires; or rendezvous prefers a node that came later, and has stayed for
//! `rebalance_after_ms`. All but the first are paced: a node is filled with `fills_per_node_max` partitions at
//! a time. The home's own copy stays where it is until the home has moved: to the one that rendezvous prefers
//! it goes by failback, and only where there is failback is a second copy made for that.
//!
//! A copy is dropped only while it is known to hold nothing that the home lacks (it is in sync), or while its
//! node is gone; then the row keeps it under `away`, and it is a replica again when the node comes back.

use super::{Action, boot, replica, submit_in_batches};
use crate::{
    bounds,
    command::{Command, DroppedReplica, NewReplica},
    controller::Settings,
    lease::LeaseTable,
    rendezvous,
};
use std::collections::{BTreeMap, BTreeSet};
use types::{Home, NodeId, NodeRow, PartitionRow, PartitionState, Placement, RegionId, Replica, Retirement};

/// Since when each node is what it is. Lost with the controller: then everything is waited for anew.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<NodeId, (Home, bool, u64)>);

impl Seen {
    pub(super) fn look(&mut self, now_ms: u64, view: &Placement) {
        for node in view.nodes() {
            let now = (boot(node), node.live);
            match self.0.get(&node.node) {
                Some((home, live, _)) if (home, live) == (&now.0, &now.1) => {}
                Some(_) | None => drop(self.0.insert(node.node.clone(), (now.0, now.1, now_ms))),
            }
        }
    }

    /// Whether the node has been live (or gone) since `ms` ago at least.
    pub(super) fn has_been(&self, node: &NodeRow, live: bool, ms: u64, now_ms: u64) -> bool {
        self.0
            .get(&node.node)
            .is_some_and(|(_, is_live, since_ms)| *is_live == live && now_ms.saturating_sub(*since_ms) >= ms)
    }
}

/// Adds and drops copies, one step per partition and region.
pub(super) fn keep(
    settings: &Settings,
    seen: &Seen,
    now_ms: u64,
    view: &Placement,
    leases: &LeaseTable,
    out: &mut Vec<Action>,
) {
    let takers = takers(settings, now_ms, view, leases);
    let mut planner = Planner { settings, seen, now_ms, view, fills: fills(view), takers };
    let (mut added, mut dropped) = (Vec::new(), Vec::new());
    for row in view.partitions().filter(|row| row.state != PartitionState::Vacant) {
        planner.cover(row, &mut added);
        if row.state == PartitionState::Homed {
            let steps_before = added.len();
            planner.improve(row, &mut added);
            if added.len() == steps_before {
                planner.tidy(row, &mut dropped);
            }
        }
    }
    submit_in_batches(&added, Command::AddReplicas, out);
    submit_in_batches(&dropped, Command::DropReplicas, out);
}

/// The nodes that can take homes and copies, by region.
pub(super) fn takers<'a>(
    settings: &Settings,
    now_ms: u64,
    view: &'a Placement,
    leases: &LeaseTable,
) -> BTreeMap<&'a RegionId, Vec<&'a NodeRow>> {
    let is_sound = |node: &&NodeRow| {
        let silent_ms = leases.silent_ms(&boot(node), now_ms);
        node.live && silent_ms.is_some_and(|silent_ms| silent_ms < settings.silence_ms)
    };
    let stays = |node: &&NodeRow| {
        node.retirement == Retirement::Serving
            && view.region(&node.region).is_some_and(|region| region.retirement == Retirement::Serving)
    };
    let mut takers: BTreeMap<&RegionId, Vec<&NodeRow>> = BTreeMap::new();
    for node in view.nodes().filter(is_sound).filter(stays) {
        takers.entry(&node.region).or_default().push(node);
    }
    takers
}

/// The one that rendezvous names.
pub(super) fn heaviest<'a>(row: &PartitionRow, nodes: &[&'a NodeRow]) -> Option<&'a NodeRow> {
    nodes.iter().copied().max_by_key(|node| weight(row, node.node.as_str()))
}

fn weight(row: &PartitionRow, name: &str) -> u64 {
    rendezvous::weight(&row.partition.get().to_be_bytes(), name.as_bytes())
}

/// Copies that live nodes are being filled with.
fn fills(view: &Placement) -> BTreeMap<&NodeId, usize> {
    let mut fills = BTreeMap::new();
    for row in view.partitions() {
        let filling = row.replicas.iter().filter(|copy| !is_in_sync(row, copy));
        for copy in filling.filter(|copy| view.node(&copy.node).is_some_and(|node| node.live)) {
            *fills.entry(&copy.node).or_default() += 1;
        }
    }
    fills
}

fn is_in_sync(row: &PartitionRow, copy: &Replica) -> bool {
    row.isr.contains(copy) && !row.lost.contains(copy)
}

struct Planner<'a> {
    settings: &'a Settings,
    seen: &'a Seen,
    now_ms: u64,
    view: &'a Placement,
    fills: BTreeMap<&'a NodeId, usize>,
    takers: BTreeMap<&'a RegionId, Vec<&'a NodeRow>>,
}

/// A partition's copies in one region.
type Copies<'a> = Vec<(&'a Replica, &'a NodeRow)>;

impl<'a> Planner<'a> {
    fn by_region(&self, row: &'a PartitionRow) -> BTreeMap<&'a RegionId, Copies<'a>> {
        let mut by_region: BTreeMap<&RegionId, Copies<'_>> = BTreeMap::new();
        for copy in &row.replicas {
            if let Some(node) = self.view.node(&copy.node) {
                by_region.entry(&node.region).or_default().push((copy, node));
            }
        }
        by_region
    }

    fn taker(&self, row: &PartitionRow, region: &RegionId) -> Option<&'a NodeRow> {
        heaviest(row, self.takers.get(region)?)
    }

    fn can_take(&self, node: &NodeRow) -> bool {
        self.takers.get(&node.region).is_some_and(|takers| takers.iter().any(|it| it.node == node.node))
    }

    /// Whether a home goes by itself to the node that should have it.
    fn comes_back(&self, row: &PartitionRow, region: &RegionId) -> bool {
        let is_on = self.settings.failback.on && !row.stays && row.preferred == *region;
        is_on && self.view.region(region).is_some_and(|region| !region.failback_off)
    }

    fn is_gone(&self, node: &NodeRow) -> bool {
        self.seen.has_been(node, false, self.settings.replace_after_ms, self.now_ms)
    }

    fn is_leaving(&self, node: &NodeRow) -> bool {
        node.retirement != Retirement::Serving || self.is_gone(node)
    }

    /// Regions without a copy get one, as long as there are too few; one whose copies all leave, and that has
    /// nobody to take them, has none.
    fn cover(&self, row: &'a PartitionRow, added: &mut Vec<NewReplica>) {
        let copies = self.by_region(row);
        let keeps = |region: &&&RegionId| {
            let stays = copies[**region].iter().any(|(_, node)| !self.is_leaving(node));
            stays || self.takers.contains_key(**region)
        };
        let covered = copies.keys().filter(keeps).count();
        let is_allowed = |region: &RegionId| row.allowed.is_empty() || row.allowed.contains(region);
        let mut free: Vec<&RegionId> = self
            .takers
            .keys()
            .copied()
            .filter(|region| !copies.contains_key(region) && is_allowed(region))
            .collect();
        free.sort_by_key(|region| std::cmp::Reverse(weight(row, region.as_str())));
        for region in free.into_iter().take(bounds::REPLICATION_FACTOR.saturating_sub(covered)) {
            added.extend(self.taker(row, region).map(|node| new_copy(row, node)));
        }
    }

    /// A region whose copy is not with the node that should have it gets a second one there.
    fn improve(&mut self, row: &'a PartitionRow, added: &mut Vec<NewReplica>) {
        for (region, copies) in self.by_region(row) {
            let Some(taker) = self.taker(row, region) else { continue };
            if copies.iter().any(|(_, node)| node.node == taker.node) {
                continue;
            }
            let all_leave = copies.iter().all(|(_, node)| self.is_leaving(node));
            let has_settled = self.seen.has_been(taker, true, self.settings.rebalance_after_ms, self.now_ms);
            let is_quiet = copies.len() == 1
                && copies.iter().all(|(copy, node)| self.can_take(node) && is_in_sync(row, copy))
                && (!is_home_among(row, &copies) || self.comes_back(row, region));
            let fills = self.fills.entry(&taker.node).or_default();
            if (all_leave || (has_settled && is_quiet)) && *fills < self.settings.fills_per_node_max {
                *fills += 1;
                added.push(new_copy(row, taker));
            }
        }
    }

    /// Copies beside the one that should be there go, once that one is in sync.
    fn tidy(&self, row: &'a PartitionRow, dropped: &mut Vec<DroppedReplica>) {
        let is_home = |node: &NodeRow| row.home.as_ref().is_some_and(|home| home.node == node.node);
        let may_go = |copy: &Replica, node: &NodeRow| {
            !is_home(node)
                && (is_in_sync(row, copy) || self.is_gone(node) || (self.is_leaving(node) && !node.live))
        };
        let copies = self.by_region(row);
        let stays = |(copy, node): &(&Replica, &NodeRow)| !self.is_leaving(node) && is_in_sync(row, copy);
        let staying = copies.values().filter(|copies| copies.iter().any(stays)).count();
        let can_grow = self.takers.keys().any(|region| !copies.contains_key(region));
        for (region, copies) in &copies {
            let successor = match self.taker(row, region) {
                Some(taker) => {
                    copies.iter().find(|(copy, node)| node.node == taker.node && is_in_sync(row, copy))
                }
                None => None,
            };
            for (copy, node) in copies {
                let is_replaced = successor.is_some_and(|(_, kept)| kept.node != node.node);
                // A region that nobody takes over from: its copies go when enough others are in sync.
                let is_given_up = node.retirement != Retirement::Serving
                    && !self.takers.contains_key(region)
                    && (staying >= bounds::REPLICATION_FACTOR || (staying >= 1 && !can_grow));
                if (is_replaced || is_given_up) && may_go(copy, node) {
                    dropped.push(DroppedReplica { partition: row.partition, replica: (*copy).clone() });
                }
            }
        }
        if staying > bounds::REPLICATION_FACTOR
            && dropped.last().is_none_or(|it| it.partition != row.partition)
        {
            self.give_up_a_region(row, &copies, &may_go, dropped);
        }
    }

    /// More regions than there need be: the lightest that is neither the home's nor preferred goes.
    fn give_up_a_region(
        &self,
        row: &PartitionRow,
        copies: &BTreeMap<&'a RegionId, Copies<'a>>,
        may_go: &impl Fn(&Replica, &NodeRow) -> bool,
        dropped: &mut Vec<DroppedReplica>,
    ) {
        let spare = copies
            .iter()
            .filter(|(region, copies)| {
                **region != &row.preferred && copies.iter().all(|(copy, node)| may_go(copy, node))
            })
            .min_by_key(|(region, _)| weight(row, region.as_str()));
        for (copy, _) in spare.iter().flat_map(|(_, copies)| copies.iter()) {
            dropped.push(DroppedReplica { partition: row.partition, replica: (*copy).clone() });
        }
    }
}

fn is_home_among(row: &PartitionRow, copies: &Copies<'_>) -> bool {
    row.home.as_ref().is_some_and(|home| copies.iter().any(|(copy, _)| copy.node == home.node))
}

fn new_copy(row: &PartitionRow, node: &NodeRow) -> NewReplica {
    NewReplica { partition: row.partition, replica: replica(node) }
}

/// Nodes and regions that retire, and have nothing left.
pub(super) fn finish_retirements(view: &Placement, out: &mut Vec<Action>) {
    let busy: BTreeSet<&NodeId> = view.partitions().flat_map(named_in).collect();
    let done: Vec<NodeId> = view
        .nodes()
        .filter(|node| node.retirement == Retirement::Retiring && !busy.contains(&node.node))
        .map(|node| node.node.clone())
        .collect();
    let is_empty = |region: &RegionId| {
        view.nodes().all(|node| node.region != *region || node.retirement == Retirement::Retired)
    };
    let has_empty_region =
        view.regions().any(|row| row.retirement == Retirement::Retiring && is_empty(&row.region));
    if !done.is_empty() || has_empty_region {
        out.push(Action::Submit(Command::FinishRetirement(done)));
    }
}

/// Every node that a row needs.
fn named_in(row: &PartitionRow) -> impl Iterator<Item = &NodeId> {
    let members = row.replicas.iter().chain(&row.isr).map(|copy| &copy.node);
    let target = row.moving.iter().map(|moving| &moving.target);
    members.chain(row.home.iter().chain(&row.waiting).chain(target).map(|home| &home.node))
}
