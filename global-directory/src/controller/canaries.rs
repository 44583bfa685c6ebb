//! At whom do outside observers fail? What silence cannot tell: a node that renews, and at which no write is acked.
//!
//! | who | counts when |
//! |---|---|
//! | an observer | it renewed and reported lately, to this leader; and it does not fail at a majority of the regions, its own counted: one that does is cut off itself, and judges nobody |
//! | a region as a witness | it has such observers; it says that a node fails when more than half of those that watch that node do |
//! | a node fails | for as long as a majority of the witnesses outside its region say so, and two of them at least |
//!
//! So one observer decides nothing, nor does one region, and what a region says of itself counts for nothing. A
//! time that is told counts only as far back as this leader has listened, and as the node's lease has run: before
//! that its silence is what speaks.

use super::{Settings, boot};
use crate::{lease::LeaseTable, observations::Report};
use std::collections::{BTreeMap, BTreeSet};
use types::{NodeId, NodeRow, Placement, RegionId};

/// Witnesses that a verdict needs.
const WITNESSES_MIN: usize = 2;

/// How long a node fails, and where that is seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failing {
    /// For how long a majority of the witnesses have seen it.
    pub ms: u64,
    /// The regions that see it now.
    pub seen_from: Vec<RegionId>,
}

/// The nodes that fail, each with how long.
pub type Verdicts = BTreeMap<NodeId, Failing>;

/// What is judged from.
#[derive(Debug, Clone, Copy)]
pub struct Hearing<'a> {
    /// Reports and leases.
    pub leases: &'a LeaseTable,
    /// The placement.
    pub view: &'a Placement,
    /// Now.
    pub now_ms: u64,
    /// Since when it has been listened without a break.
    pub listens_from_ms: u64,
    /// A report counts for this long.
    pub fresh_ms: u64,
}

impl<'a> Hearing<'a> {
    /// A report is made with each renewal; one that did not come is not the observer's last word.
    pub const fn new(
        settings: &Settings,
        now_ms: u64,
        listens_from_ms: u64,
        view: &'a Placement,
        leases: &'a LeaseTable,
    ) -> Self {
        let fresh_ms = settings.silence_ms.saturating_sub(settings.renew_interval_ms);
        Self { leases, view, now_ms, listens_from_ms, fresh_ms }
    }

    /// What an observer told, if that counts by its age.
    fn report(&self, observer: &NodeRow) -> Option<&'a Report> {
        let report = self.leases.observations().of(&boot(observer)).filter(|_| observer.live)?;
        let is_fresh = self.now_ms.saturating_sub(report.heard_ms) < self.fresh_ms;
        (is_fresh && report.heard_ms >= self.listens_from_ms).then_some(report)
    }

    /// Whether an observer judges others.
    pub fn judges(&self, observer: &NodeRow) -> bool {
        self.report(observer).is_some_and(|report| !self.is_cut_off(observer, report))
    }

    /// Whether it fails at a majority of the regions that it sees, its own counted.
    fn is_cut_off(&self, observer: &NodeRow, report: &Report) -> bool {
        let mut regions: BTreeMap<&RegionId, bool> = BTreeMap::from([(&observer.region, false)]);
        for (watched, failing_ms) in &report.failing_ms {
            let Some(node) = self.view.node(&watched.node).filter(|node| boot(node) == *watched) else {
                continue;
            };
            if node.live && node.region != observer.region {
                let fails = regions.entry(&node.region).or_insert(true);
                *fails &= *failing_ms > 0;
            }
        }
        regions.values().filter(|fails| **fails).count() * 2 > regions.len()
    }

    /// The nodes that fail.
    pub fn verdicts(&self) -> Verdicts {
        if !self.leases.observations().tell_of_failures() {
            return Verdicts::new();
        }
        let mut witnesses: BTreeMap<&RegionId, Vec<&Report>> = BTreeMap::new();
        for observer in self.view.nodes() {
            if let Some(report) = self.report(observer).filter(|report| !self.is_cut_off(observer, report)) {
                witnesses.entry(&observer.region).or_default().push(report);
            }
        }
        let live = self.view.nodes().filter(|node| node.live);
        let verdicts = live.filter_map(|node| Some((node.node.clone(), self.verdict(node, &witnesses)?)));
        verdicts.collect()
    }

    fn verdict(&self, node: &NodeRow, witnesses: &BTreeMap<&RegionId, Vec<&Report>>) -> Option<Failing> {
        let outside = witnesses.iter().filter(|(region, _)| ***region != node.region);
        let mut told: Vec<(u64, &RegionId)> =
            outside.map(|(region, reports)| (self.told_by(node, reports), *region)).collect();
        let needed = WITNESSES_MIN.max(told.len() / 2 + 1);
        told.sort_by(|a, b| b.cmp(a));
        let (ms, _) = told.get(needed - 1)?;
        let seen_from: BTreeSet<RegionId> =
            told.iter().filter(|(ms, _)| *ms > 0).map(|(_, region)| (*region).clone()).collect();
        (*ms > 0).then(|| Failing { ms: *ms, seen_from: seen_from.into_iter().collect() })
    }

    /// For how long more than half of a region's observers of a node have failed at it.
    fn told_by(&self, node: &NodeRow, reports: &[&Report]) -> u64 {
        let (boot, leased_since_ms) = (boot(node), self.leases.leased_since_ms(&boot(node)));
        let from_ms = self.listens_from_ms.max(leased_since_ms.unwrap_or(self.now_ms));
        let told = reports.iter().filter_map(|report| {
            let failing_ms = *report.failing_ms.get(&boot)?;
            Some(failing_ms.min(report.heard_ms.saturating_sub(from_ms)))
        });
        let mut told: Vec<u64> = told.collect();
        told.sort_unstable_by(|a, b| b.cmp(a));
        told.get(told.len() / 2).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
