//! What must be true of the placement after every command. A pure check over the placement before and after;
//! tests and simulations run it on every commit.

use crate::bounds;
use std::collections::BTreeSet;
use types::{
    NodeRow, PartitionRow, PartitionState, Placement, RegionId, RegionStatus, Replica, Retirement,
    VerifyingKey,
};

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// The rows that break it.
    pub detail: String,
}

/// Checks one step from a committed placement to the next.
///
/// # Errors
/// The first [`Violation`] that is found.
pub fn check(before: &Placement, after: &Placement) -> Result<(), Violation> {
    hold("the version never goes back", after.version() >= before.version(), || {
        format!("{} -> {}", before.version(), after.version())
    })?;
    for node in after.nodes() {
        check_node(before.node(&node.node), node)?;
    }
    for region in after.regions() {
        let mut nodes = after
            .nodes()
            .filter(|node| node.region == region.region && node.retirement != Retirement::Retired)
            .peekable();
        let is_down = nodes.peek().is_some() && !nodes.any(|node| node.live);
        let agrees = match region.status {
            // One that has left is neither.
            _ if region.retirement == Retirement::Retired => true,
            RegionStatus::Active => !is_down,
            RegionStatus::Down => is_down,
            RegionStatus::Draining => true,
        };
        hold("a region is down when all its nodes were bumped", agrees, || format!("{region:?}"))?;
    }
    for row in after.partitions() {
        check_row(row, after)?;
        if let Some(earlier) = before.partition(row.partition) {
            check_step(earlier, row, before)?;
            check_isr_step(earlier, row, after)?;
        }
    }
    Ok(())
}

fn hold(rule: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { rule, detail: detail() }) }
}

fn check_node(before: Option<&NodeRow>, after: &NodeRow) -> Result<(), Violation> {
    let Some(before) = before else {
        return hold("a node's first incarnation is 1", after.incarnation.get() == 1, || {
            format!("{after:?}")
        });
    };
    let detail = || format!("{before:?} -> {after:?}");
    hold("an incarnation never goes back", after.incarnation >= before.incarnation, detail)?;
    hold("a node stays in its region", after.region == before.region, detail)?;
    let same_boot = after.incarnation == before.incarnation;
    let kept = NodeRow { retirement: before.retirement, keys: before.keys.clone(), ..after.clone() };
    hold("a boot keeps its store and life", !same_boot || kept == *before, detail)?;
    hold("a node has few keys", after.keys.len() <= bounds::KEYS_PER_NODE, detail)?;
    let changes = |key: &VerifyingKey| before.keys.iter().any(|it| it.id == key.id && it != key);
    hold("a key never changes", !after.keys.iter().any(changes), detail)?;
    let is_over = before.retirement == Retirement::Retired;
    hold("what has retired never comes back", !is_over || after == before, detail)?;
    hold("what has retired is not live", after.retirement != Retirement::Retired || !after.live, detail)
}

/// What is true of every row by itself.
fn check_row(row: &PartitionRow, view: &Placement) -> Result<(), Violation> {
    let detail = || format!("{row:?}");
    let home = row.home.as_ref();
    let node = home.and_then(|home| view.node(&home.node));
    match (row.state, home, node) {
        (PartitionState::Vacant, home, _) => {
            let is_empty = home.is_none() && row.isr.is_empty() && row.history.is_empty();
            return hold("a vacant partition has nothing", is_empty && row.epoch.is_zero(), detail);
        }
        (PartitionState::Homed | PartitionState::Draining, Some(home), Some(node)) => {
            let is_current = node.live && node.incarnation == home.incarnation;
            hold("I2: a home is the current boot of its node", is_current, detail)?;
            let member = Replica { node: node.node.clone(), store: node.store };
            let in_sync = row.isr.contains(&member) && !row.lost.contains(&member);
            hold("a home is in sync with itself", in_sync, detail)?;
        }
        (PartitionState::FailingOver, Some(home), Some(node)) => {
            hold("I2: failing over from a boot that is over", node.incarnation > home.incarnation, detail)?;
        }
        (PartitionState::Homed | PartitionState::Draining | PartitionState::FailingOver, _, _) => {
            hold("a partition that was homed names a registered node", false, detail)?;
        }
    }
    let is_draining = row.state == PartitionState::Draining;
    hold("a partition names its move while it is moved", row.moving.is_some() == is_draining, detail)?;
    hold(
        "I2: a home that waits for a former one does not move",
        !is_draining || row.waiting.is_empty(),
        detail,
    )?;
    let last = row.history.last();
    hold(
        "the history ends with the home and epoch in force",
        last.is_some_and(|last| last.epoch == row.epoch && Some(&last.home) == home),
        detail,
    )?;
    let is_monotone = row.history.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_lsn <= b.start_lsn);
    hold("the history is monotone", is_monotone, detail)?;
    let is_over =
        |boot: &types::Home| view.node(&boot.node).is_some_and(|node| node.incarnation > boot.incarnation);
    hold("only boots that are over are waited for", row.waiting.iter().all(is_over), detail)?;
    hold("the in-sync set is not empty", !row.isr.is_empty(), detail)?;
    hold("members are named once", is_set(&row.isr) && is_set(&row.lost) && is_set(&row.replicas), detail)?;
    hold("lost members are members", row.lost.iter().all(|it| row.isr.contains(it)), detail)?;
    let sound = row.isr.iter().filter(|member| !row.lost.contains(member));
    hold("members are replicas", sound.into_iter().all(|it| row.replicas.contains(it)), detail)?;
    let names: BTreeSet<_> = row.replicas.iter().chain(&row.away).map(|copy| &copy.node).collect();
    let is_once = names.len() == row.replicas.len() + row.away.len();
    hold("a node keeps one copy, or is away", is_once, detail)?;
    let is_bounded = row.replicas.len() <= bounds::REPLICAS_MAX + bounds::AWAY_MAX;
    hold("replicas and those away are bounded", is_bounded && row.away.len() <= bounds::AWAY_MAX, detail)?;
    let has_retired =
        |copy: &Replica| view.node(&copy.node).is_some_and(|node| node.retirement == Retirement::Retired);
    hold("what has retired keeps nothing", !row.replicas.iter().chain(&row.isr).any(has_retired), detail)
}

/// What is true of every change of a row.
fn check_step(before: &PartitionRow, after: &PartitionRow, earlier: &Placement) -> Result<(), Violation> {
    let detail = || format!("{before:?} -> {after:?}");
    hold("I1: an epoch never goes back", after.epoch >= before.epoch, detail)?;
    let same_home = after.home == before.home;
    let gives_up =
        before.state == PartitionState::Draining && same_home && after.state == PartitionState::Homed;
    hold(
        "I1: a home and its epoch change together, and a move that is given up raises the epoch",
        same_home == (after.epoch == before.epoch) || gives_up,
        detail,
    )?;
    check_move(before, after, earlier)?;
    let raised = usize::from(after.epoch > before.epoch);
    // The oldest epochs may drop off at the front; nothing else goes, and one comes per epoch.
    let kept = after.history.len().saturating_sub(raised);
    let grows = kept <= before.history.len() && before.history.ends_with(&after.history[..kept]);
    hold("I1: one step of history per epoch", grows && (kept > 0 || before.history.is_empty()), detail)?;
    let allowed = match (before.state, after.state) {
        (PartitionState::Vacant, PartitionState::Homed) => true,
        // A sealed epoch never reopens: back to Homed only under a higher one.
        (PartitionState::FailingOver | PartitionState::Draining, PartitionState::Homed) => {
            after.epoch > before.epoch
        }
        (PartitionState::Homed, PartitionState::Draining) => same_home,
        (PartitionState::Homed | PartitionState::Draining, PartitionState::FailingOver) => {
            before.home.as_ref().is_some_and(|home| after.waiting.contains(home))
        }
        (from, to) => from == to && after.epoch == before.epoch,
    };
    hold("I2: a home is lost only with its boot, which is waited for", allowed, detail)?;
    if raised == 1 {
        hold("I2: waiting is inherited", after.waiting == before.waiting, detail)?;
        let promoted = after.home.as_ref().is_some_and(|home| {
            before.state == PartitionState::Vacant
                || before.isr.iter().any(|member| {
                    member.node == home.node
                        && !before.lost.contains(member)
                        && earlier.node(&member.node).is_some_and(|node| node.store == member.store)
                })
        });
        hold("I6: only a member in sync is promoted", promoted, detail)?;
    }
    Ok(())
}

/// What is true of a planned move.
fn check_move(before: &PartitionRow, after: &PartitionRow, earlier: &Placement) -> Result<(), Violation> {
    let detail = || format!("{before:?} -> {after:?}");
    match (&before.moving, &after.moving) {
        (None, Some(moving)) => {
            let target = earlier.node(&moving.target.node);
            let may_be_home = target.is_some_and(|node| {
                let replica = Replica { node: node.node.clone(), store: node.store };
                node.live
                    && node.incarnation == moving.target.incarnation
                    && before.isr.contains(&replica)
                    && !before.lost.contains(&replica)
            });
            hold("a move begins towards a living member in sync", may_be_home, detail)?;
            hold("a move begins at a home", before.state == PartitionState::Homed, detail)
        }
        (Some(earlier), Some(later)) => hold("a move keeps its target", earlier == later, detail),
        (Some(moving), None) if after.state == PartitionState::Homed => {
            let ends = after.home.as_ref() == Some(&moving.target) || after.home == before.home;
            hold("a move ends at its target or where it began", ends, detail)
        }
        (_, None) => Ok(()),
    }
}

fn check_isr_step(before: &PartitionRow, after: &PartitionRow, view: &Placement) -> Result<(), Violation> {
    let detail = || format!("{before:?} -> {after:?}");
    let same = after.isr == before.isr && after.lost == before.lost;
    let raised = after.isr_version > before.isr_version;
    hold("I5: a change of the in-sync set raises its version", same || raised, detail)?;
    hold("I5: its version never goes back", after.isr_version >= before.isr_version, detail)?;
    let spans = |members: &[Replica]| regions_of(members, view).len();
    let kept = spans(&before.isr) < 2 || spans(&after.isr) >= 2;
    hold("I5: the in-sync set never spans fewer than two regions", kept, detail)
}

fn is_set(members: &[Replica]) -> bool {
    members.iter().collect::<BTreeSet<_>>().len() == members.len()
}

fn regions_of<'a>(members: &'a [Replica], view: &'a Placement) -> BTreeSet<&'a RegionId> {
    members.iter().filter_map(|member| view.node(&member.node)).map(|node| &node.region).collect()
}
