//! Who is dead? With the brakes of I10: where the answer is not plain, nothing is done, loudly.

use super::{Action, Controller, Page, boot, candidates};
use crate::{command::Command, lease::LeaseTable};
use std::collections::BTreeSet;
use types::{Home, NodeId, NodeRow, PartitionState, Placement, RegionId};

/// Why silence is not acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Brake {
    /// Silence in two regions says more about the directory's own links than about the regions.
    #[error("nodes of {} regions are silent at once: {}", .0.len(), names(.0))]
    SeveralRegions(Vec<RegionId>),
    /// Another region's failover has not ended.
    #[error("nodes of region {suspect} are silent while the failover of region {under_way} is under way")]
    UnderWay {
        /// Who is silent now.
        suspect: RegionId,
        /// Whose failover it is.
        under_way: RegionId,
    },
    /// Nothing was heard from elsewhere either.
    #[error("nodes of region {0} are silent, and no node of another region was heard either")]
    NobodyHeard(RegionId),
    /// No partition would get a new home.
    #[error("nodes of region {0} are silent, and none of their partitions has an in-sync replica elsewhere")]
    NoTarget(RegionId),
}

fn names(regions: &[RegionId]) -> String {
    regions.iter().map(RegionId::as_str).collect::<Vec<_>>().join(", ")
}

impl Controller {
    /// Ends the boots of silent nodes, or says why not.
    pub(super) fn judge(
        &mut self,
        now_ms: u64,
        view: &Placement,
        leases: &LeaseTable,
        out: &mut Vec<Action>,
    ) {
        if !self.settings.automatic_failover || now_ms < self.judge_from_ms {
            return;
        }
        let silence_ms = self.settings.silence_ms;
        let is_silent = |node: &&NodeRow| {
            node.live && leases.silent_ms(&boot(node), now_ms).is_some_and(|silent| silent >= silence_ms)
        };
        let suspects: Vec<&NodeRow> = view.nodes().filter(is_silent).collect();
        let brake = match suspects.first() {
            None => None,
            Some(first) => {
                let heard = |node: &NodeRow| leases.heard_within(&boot(node), silence_ms, now_ms);
                find_brake(&first.region, &suspects, view, heard)
            }
        };
        if brake.is_none() && !suspects.is_empty() {
            let boots: Vec<Home> = suspects.iter().map(|node| boot(node)).collect();
            out.push(Action::Submit(Command::Bump(boots)));
        }
        if brake != self.brake {
            out.extend(brake.clone().map(|brake| Action::Page(Page::Stopped(brake))));
            self.brake = brake;
        }
    }
}

fn find_brake(
    region: &RegionId,
    suspects: &[&NodeRow],
    view: &Placement,
    heard: impl Fn(&NodeRow) -> bool,
) -> Option<Brake> {
    let regions: BTreeSet<&RegionId> = suspects.iter().map(|node| &node.region).collect();
    if regions.len() > 1 {
        return Some(Brake::SeveralRegions(regions.into_iter().cloned().collect()));
    }
    let mut others = view.nodes().filter(|node| node.live && node.region != *region).peekable();
    if others.peek().is_some() && !others.any(heard) {
        return Some(Brake::NobodyHeard(region.clone()));
    }
    if let Some(under_way) = failover_under_way(region, view) {
        return Some(Brake::UnderWay { suspect: region.clone(), under_way: under_way.clone() });
    }
    let names: BTreeSet<&NodeId> = suspects.iter().map(|node| &node.node).collect();
    let mut homed = view
        .partitions()
        .filter(|row| row.has_home())
        .filter(|row| row.home.as_ref().is_some_and(|home| names.contains(&home.node)))
        .peekable();
    let has_homes = homed.peek().is_some();
    let has_target = homed.any(|row| candidates(row, view).any(|node| !names.contains(&node.node)));
    (has_homes && !has_target).then(|| Brake::NoTarget(region.clone()))
}

/// Another region that was bumped and whose failover can still go on. Partitions that nobody can take are
/// not waited for: they would hold up every later failover until an operator comes.
fn failover_under_way<'a>(except: &RegionId, view: &'a Placement) -> Option<&'a RegionId> {
    let bumped_elsewhere = |boot: &Home| {
        view.node(&boot.node).filter(|node| !node.live && node.region != *except).map(|node| &node.region)
    };
    view.partitions().find_map(|row| {
        let being_chosen = row.state == PartitionState::FailingOver && candidates(row, view).next().is_some();
        let former = row.home.iter().filter(|_| being_chosen);
        row.waiting.iter().chain(former).find_map(bumped_elsewhere)
    })
}
