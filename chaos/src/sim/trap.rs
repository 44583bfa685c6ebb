//! Faults that wait for a state of the deployment, and come right behind it.
//!
//! Some rules matter only in a state that lasts for a moment, and chance alone hardly ever breaks something in that
//! moment. A trap looks at the directory's rows and at the disks, which decide nothing by it, and so a run stays
//! what its seed makes of it.

use super::fault::Planned;
use std::collections::BTreeSet;
use types::PartitionId;

/// What a trap waits for. Regions go by their number in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// A node of a region, which was not in sync in a partition homed in another, is.
    Joined { region: usize, home: usize },
    /// A node of a region has begun to obey a home in another, and holds something else than that: it is about to
    /// be told what of it to drop.
    Judged { region: usize, by: usize },
    /// A partition that was homed in a region is given up, and gets its next home now: its followers are about to
    /// be fenced.
    GivenUp { region: usize },
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Trap {
    pub(super) sight: Sight,
    /// When it looks.
    from_us: u64,
    until_us: u64,
    /// The faults, with their times as from the moment when it sees what it waits for.
    then: Vec<Planned>,
    /// The partitions in which it has seen the opposite.
    not_yet: BTreeSet<PartitionId>,
}

impl Trap {
    pub(super) fn new(sight: Sight, (from_us, until_us): (u64, u64), then: Vec<Planned>) -> Self {
        Self { sight, from_us, until_us, then, not_yet: BTreeSet::new() }
    }

    pub(super) const fn looks(&self, now_us: u64) -> bool {
        self.from_us <= now_us && now_us < self.until_us
    }

    pub(super) const fn is_over(&self, now_us: u64) -> bool {
        self.until_us <= now_us
    }

    /// Looks at a partition; whether it is as the trap waits for it, and was not before.
    pub(super) fn sees(&mut self, partition: PartitionId, is_so: bool) -> bool {
        if !is_so {
            self.not_yet.insert(partition);
        }
        is_so && self.not_yet.contains(&partition)
    }

    /// Its faults, now that it has seen what it waits for.
    pub(super) fn sprung(self, now_us: u64) -> impl Iterator<Item = Planned> {
        self.then.into_iter().map(move |Planned { from_us, until_us, fault }| Planned {
            from_us: now_us + from_us,
            until_us: now_us + until_us,
            fault,
        })
    }
}
