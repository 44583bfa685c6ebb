//! Which partitions move by themselves, and where to: out of regions that are drained, away from nodes that are about to
//! end, and back to the regions that they prefer.

use super::{At, Failback};
use crate::{
    bounds,
    controller::{boot, candidates, copies::heaviest},
    lease::LeaseTable,
};
use std::collections::BTreeMap;
use types::{
    Epoch, Home, MoveCause, NodeId, NodeRow, PartitionId, PartitionRow, PartitionState, Placement, RegionId,
    RegionStatus, Retirement,
};

/// A move that should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The partition.
    pub partition: PartitionId,
    /// Its next home.
    pub target: Home,
    /// Who wants it.
    pub cause: MoveCause,
}

/// Since when things are as they are: what cooldowns are counted from. A controller that starts has seen
/// nothing, and so waits anew.
#[derive(Debug)]
pub(super) struct Planning {
    homed_since_ms: BTreeMap<PartitionId, (Epoch, u64)>,
    heard_since_ms: BTreeMap<Home, u64>,
    not_before_ms: BTreeMap<PartitionId, u64>,
    failback_not_before_ms: u64,
}

impl Planning {
    pub(super) const fn new() -> Self {
        Self {
            homed_since_ms: BTreeMap::new(),
            heard_since_ms: BTreeMap::new(),
            not_before_ms: BTreeMap::new(),
            failback_not_before_ms: 0,
        }
    }

    /// A move of this partition did not succeed: not again at once.
    pub(super) fn put_off(&mut self, partition: PartitionId, now_ms: u64) {
        self.not_before_ms.insert(partition, now_ms.saturating_add(bounds::MOVE_RETRY_MS));
    }

    pub(super) fn observe(&mut self, at: At<'_>) {
        self.not_before_ms.retain(|_, not_before_ms| at.now_ms < *not_before_ms);
        for row in at.view.partitions() {
            let since = self.homed_since_ms.entry(row.partition).or_insert((row.epoch, at.now_ms));
            if since.0 != row.epoch {
                *since = (row.epoch, at.now_ms);
            }
        }
        let heard: Vec<Home> =
            at.view.nodes().filter(|node| node.live && at.is_heard(node)).map(boot).collect();
        self.heard_since_ms.retain(|boot, _| heard.contains(boot));
        for boot in heard {
            self.heard_since_ms.entry(boot).or_insert(at.now_ms);
        }
    }

    fn is_put_off(&self, partition: PartitionId) -> bool {
        self.not_before_ms.contains_key(&partition)
    }

    fn has_been_home_for(&self, row: &PartitionRow, ms: u64, now_ms: u64) -> bool {
        let since = self.homed_since_ms.get(&row.partition).filter(|(epoch, _)| *epoch == row.epoch);
        since.is_some_and(|(_, since_ms)| now_ms.saturating_sub(*since_ms) >= ms)
    }

    fn has_been_heard_for(&self, node: &NodeRow, ms: u64, now_ms: u64) -> bool {
        let since_ms = self.heard_since_ms.get(&boot(node));
        since_ms.is_some_and(|since_ms| now_ms.saturating_sub(*since_ms) >= ms)
    }
}

/// The home of a partition that could move now.
fn movable<'a>(row: &PartitionRow, view: &'a Placement) -> Option<&'a NodeRow> {
    let home = row.home.as_ref().filter(|_| row.state == PartitionState::Homed && row.waiting.is_empty())?;
    view.node(&home.node)
}

/// Whether a node may be given the home of a partition.
fn takes_home(row: &PartitionRow, node: &NodeRow, view: &Placement) -> bool {
    node.retirement == Retirement::Serving
        && view.region(&node.region).is_some_and(|region| region.status == RegionStatus::Active)
        && (row.allowed.is_empty() || row.allowed.contains(&node.region))
}

/// Homes by region, moves under way counted where they go.
struct Spread<'a> {
    view: &'a Placement,
    homes: BTreeMap<&'a RegionId, usize>,
}

impl<'a> Spread<'a> {
    fn of(view: &'a Placement) -> Self {
        let mut homes = BTreeMap::new();
        for row in view.partitions() {
            let next = row.moving.as_ref().map(|moving| &moving.target).or(row.home.as_ref());
            if let Some(node) = next.and_then(|home| view.node(&home.node)) {
                *homes.entry(&node.region).or_default() += 1;
            }
        }
        Self { view, homes }
    }

    /// Gives a partition that must leave its home the next one: in the region that it prefers, or else where the
    /// fewest homes are.
    fn next_home(&mut self, row: &PartitionRow, is_well: impl Fn(&NodeRow) -> bool) -> Option<&'a NodeRow> {
        let Self { view, homes } = self;
        let here = row.home.as_ref().map(|home| &home.node);
        let node = candidates(row, view)
            .filter(|node| Some(&node.node) != here && takes_home(row, node, view) && is_well(node))
            .min_by_key(|node| {
                let there = homes.get(&node.region).copied().unwrap_or(0);
                (node.region != row.preferred, there, &node.node)
            })?;
        let node = view.node(&node.node)?;
        *homes.entry(&node.region).or_default() += 1;
        Some(node)
    }
}

/// Every home in a region that is drained, or at a node that leaves the deployment or is about to end, goes elsewhere.
pub(super) fn plan_drain(
    at: At<'_>,
    planning: &Planning,
    is_free: &impl Fn(&PartitionId) -> bool,
) -> Vec<Planned> {
    let is_left = |node: &NodeRow| {
        let region = at.view.region(&node.region);
        at.leaves(node)
            || node.retirement != Retirement::Serving
            || region.is_some_and(|row| row.status == RegionStatus::Draining)
    };
    if !at.view.nodes().any(is_left) {
        return Vec::new();
    }
    let mut spread = Spread::of(at.view);
    let moves = |row: &&PartitionRow| {
        is_free(&row.partition)
            && !planning.is_put_off(row.partition)
            && movable(row, at.view).is_some_and(is_left)
    };
    let planned = at.view.partitions().filter(moves).filter_map(|row| {
        let node = spread.next_home(row, |node| at.is_heard(node) && !at.leaves(node))?;
        let leaves =
            row.home.as_ref().and_then(|home| at.view.node(&home.node)).is_some_and(|home| at.leaves(home));
        let cause = if leaves { MoveCause::Leaving } else { MoveCause::Drain };
        Some(Planned { partition: row.partition, target: boot(node), cause })
    });
    planned.collect()
}

/// How many homes a node that is about to end still has, and how many of them go to a node that stays, or could.
pub fn leaving(view: &Placement, leases: &LeaseTable, now_ms: u64, boot_of: &Home) -> (usize, usize) {
    let stays = |node: &NodeRow| node.live && !leases.leaves(&boot(node), bounds::LEAVE_FRESH_MS, now_ms);
    let mut spread = Spread::of(view);
    let (mut homes, mut movable) = (0, 0);
    for row in view.partitions().filter(|row| row.home.as_ref() == Some(boot_of)) {
        homes += 1;
        let goes = match &row.moving {
            Some(moving) => view.node(&moving.target.node).is_some_and(stays),
            None => spread.next_home(row, stays).is_some(),
        };
        movable += usize::from(goes);
    }
    (homes, movable)
}

/// What a drain of a region would do with each home there, on the rows as they are: who takes it, if anybody.
pub fn dry_run(view: &Placement, region: &RegionId) -> Vec<(PartitionId, Option<NodeId>)> {
    let mut spread = Spread::of(view);
    let is_elsewhere = |node: &NodeRow| node.region != *region;
    let is_here = |row: &&PartitionRow| {
        row.home.as_ref().and_then(|home| view.node(&home.node)).is_some_and(|node| node.region == *region)
    };
    let moves = view.partitions().filter(is_here);
    moves
        .map(|row| (row.partition, spread.next_home(row, is_elsewhere).map(|node| node.node.clone())))
        .collect()
}

/// The nodes of a region that a home may come to by itself.
type Takers<'a> = BTreeMap<&'a RegionId, Vec<&'a NodeRow>>;

fn takers(at: At<'_>) -> Takers<'_> {
    let mut takers = Takers::new();
    let takes = |node: &&NodeRow| {
        node.live && node.retirement == Retirement::Serving && at.is_heard(node) && !at.leaves(node)
    };
    for node in at.view.nodes().filter(takes) {
        takers.entry(&node.region).or_default().push(node);
    }
    takers
}

/// The node that should have a partition in the region that it prefers and is homed in, where that is another one
/// than its home.
fn right_node<'a>(row: &PartitionRow, home: &NodeRow, takers: &Takers<'a>) -> Option<&'a NodeId> {
    let here = takers.get(&row.preferred).filter(|here| here.len() > 1 && home.region == row.preferred)?;
    let right = heaviest(row, here)?;
    (right.node != home.node).then_some(&right.node)
}

/// The next partition that goes back to the region that it prefers, or in it to the node that should have it: one at a time, and only while everything
/// is calm.
pub(super) fn plan_failback(
    at: At<'_>,
    planning: &mut Planning,
    failback: Failback,
    is_free: &impl Fn(&PartitionId) -> bool,
) -> Option<Planned> {
    if !at.is_calm || at.now_ms < planning.failback_not_before_ms {
        return None;
    }
    let cooldown_ms = failback.cooldown_ms;
    let takers = takers(at);
    let planned = at.view.partitions().filter(|row| is_free(&row.partition)).find_map(|row| {
        let home = movable(row, at.view);
        let right = home.and_then(|home| right_node(row, home, &takers));
        let is_away = home.is_some_and(|node| node.region != row.preferred) || right.is_some();
        let comes_back = at.view.region(&row.preferred).is_some_and(|region| !region.failback_off);
        let is_ripe = is_away
            && !row.stays
            && comes_back
            && !planning.is_put_off(row.partition)
            && planning.has_been_home_for(row, cooldown_ms, at.now_ms);
        let node = candidates(row, at.view).filter(|_| is_ripe).find(|node| {
            node.region == row.preferred
                && right.is_none_or(|right| right == &node.node)
                && takes_home(row, node, at.view)
                && !at.leaves(node)
                && planning.has_been_heard_for(node, cooldown_ms, at.now_ms)
        })?;
        let (partition, cause) = (row.partition, MoveCause::Failback);
        Some(Planned { partition, target: boot(node), cause })
    })?;
    planning.failback_not_before_ms = at.now_ms.saturating_add(bounds::FAILBACK_EVERY_MS);
    Some(planned)
}
