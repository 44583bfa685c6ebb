//! What is done to a deployment, and when: schedules of faults, drawn from a seed.
//!
//! A schedule is data, and the same seed draws the same one. Regions stand in it by number.

mod draw;
mod fault;

pub use fault::{FaultKind, Planned};

use lab::DirectoryShape;
use rand::{SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The region that a scenario hits unless it draws one, and how many there are.
const REGIONS: usize = 3;

macro_rules! scenarios {
    ($($variant:ident = $name:literal: $what:literal, $proves:literal;)*) => {
        /// A kind of run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[allow(missing_docs)]
        pub enum Scenario { $($variant,)* }

        impl Scenario {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it is typed.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What is done.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }

            /// What it shows when no checker finds anything.
            pub const fn proves(self) -> &'static str {
                match self { $(Self::$variant => $proves,)* }
            }
        }
    };
}

scenarios! {
    Steady = "steady": "nothing", "the load and the checkers are sound";
    RegionKilled = "region-killed": "a region loses power, and comes back later",
        "failover: nothing replicated is lost, what was at risk comes back";
    RegionKilledWithLeader = "region-killed-with-leader":
        "the region that the directory's leader runs in loses power, and comes back later",
        "the directory survives its leader, and fails over what died with it";
    RegionKilledWithoutLeader = "region-killed-without-leader":
        "a region that the directory's leader does not run in loses power, and comes back later",
        "failover by a leader that has only lost a follower";
    RegionPaused = "region-paused": "a region stops past its lease, and goes on as if nothing had happened",
        "a stale home neither acks nor splits the log";
    CutOff = "cut-off": "a region is cut off from everyone but its own clients",
        "a home without lease stops; its clients' outboxes bring back what it took alone";
    CutFromDirectory = "cut-from-directory": "a region cannot reach the directory",
        "a home that cannot renew ends before its successor begins, though all others still hear it";
    CutFromPeers = "cut-from-peers": "a region reaches the directory and no other region",
        "it renews, but observers in two regions have nothing acked there: it is failed over, and what it acked alone \
         comes back";
    GrayRegion = "gray-region":
        "a region renews and says that it is well, but its writes get stuck: in its homes, before their answers, or between \
         it and the others",
        "outside observers find out, and it is failed over by their canaries";
    CutOneWay = "cut-one-way": "what one region sends to another is lost, the other way works",
        "half-open links neither split nor lose";
    SlowLinks = "slow-links": "links become slow and narrow", "lag is bounded, nothing is lost or reordered";
    StallingLinks = "stalling-links": "links hold everything back for seconds, again and again",
        "late messages are late and nothing worse";
    ResettingLinks = "resetting-links": "connections are reset, again and again",
        "retries are written once, streams resume where they stood";
    DirectoryKilled = "directory-killed": "the directory, one process outside the regions, is killed",
        "homes hold their acks when leases end, and nothing else";
    LeaderKilled = "leader-killed": "the directory's leader is killed, again and again",
        "another replica leads before a lease ends: no failover, no pause";
    Moved = "moved": "partitions are moved from region to region", "planned moves fail no write";
    Drained = "drained": "a region is drained, and gets its homes back", "drains fail no write";
    NodeKilledDuringDrain = "node-killed-during-drain":
        "a node is killed while its region is drained, or homes are drained to it",
        "a move whose source or target dies is given up or finished, and loses nothing";
    SecondRegionHit = "second-region-hit": "a second region stops while the first one fails over",
        "the brakes hold: no split, no promotion without a survivor";
    ReturnDuringFailover = "return-during-failover": "a killed region is back before its failover is over",
        "old boots are home of nothing";
    ReplicatorKilled = "replicator-killed": "a region's replicator is killed again and again",
        "the pump holds no state that matters";
    DiskFull = "disk-full": "a node's disk is full for a while", "a write that does not fit is refused, not lost";
    ClockStepped = "clock-stepped": "a region's wall clock jumps by hours, forth and back",
        "no promise rests on wall clocks";
    ReconnectStorm = "reconnect-storm": "all clients of a killed region come back at once elsewhere",
        "resumption under load: every session is told continue or diverged";
    Mixed = "mixed": "faults of all kinds, one after the other, drawn by seed", "all of it together";
    MixedOutside = "mixed-outside":
        "the same with the directory one process outside the regions, which faults hit alone",
        "all of it together, where a region can lose the directory and not its peers";
}

impl Scenario {
    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scenario| scenario.name() == name)
    }

    /// How the directory runs: a replica in each region, unless faults are to hit it alone.
    pub const fn directory(self) -> DirectoryShape {
        match self {
            Self::CutFromDirectory
            | Self::CutFromPeers
            | Self::GrayRegion
            | Self::DirectoryKilled
            | Self::MixedOutside => DirectoryShape::One,
            _ => DirectoryShape::Group,
        }
    }

    /// What a node's wall clock or disk has to be prepared for.
    pub const fn needs(self) -> Needs {
        match self {
            Self::DiskFull => Needs { small_disk: true, ..Needs::NOTHING },
            Self::ClockStepped => Needs { clocks: true, ..Needs::NOTHING },
            Self::GrayRegion | Self::MixedOutside => Needs { switches: true, ..Needs::NOTHING },
            _ => Needs::NOTHING,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What has to be laid out before a deployment starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// A node's data lies on a small file system.
    pub small_disk: bool,
    /// Wall clocks can be stepped.
    pub clocks: bool,
    /// Homes can be stuck.
    pub switches: bool,
}

impl Needs {
    /// Nothing has to.
    pub const NOTHING: Self = Self { small_disk: false, clocks: false, switches: false };
}

/// When what is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// Each with its time, in ms after the load began; ordered by their beginnings.
    pub faults: Vec<Planned>,
    /// When everything is healed and the load ends.
    pub end_ms: u64,
}

impl Schedule {
    /// Draws the schedule of a scenario. `rounds` says how many faults a scenario of many draws.
    pub fn draw(scenario: Scenario, seed: u64, rounds: u32) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x6368_616f_735f_7631);
        let faults = draw::faults(scenario, rounds, &mut rng);
        let last_ms = faults.iter().map(|fault| fault.until_ms).max().unwrap_or(0);
        Self { faults, end_ms: last_ms + draw::AFTER_MS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_schedule_and_another_one_another() {
        for scenario in Scenario::ALL {
            assert_eq!(Schedule::draw(*scenario, 7, 4), Schedule::draw(*scenario, 7, 4));
            if *scenario != Scenario::Steady {
                let others = (0..20).map(|seed| Schedule::draw(*scenario, seed, 4));
                let first = Schedule::draw(*scenario, 0, 4);
                assert!(others.skip(1).any(|other| other != first), "{scenario} does not draw");
            }
        }
    }

    #[test]
    fn schedules_are_in_order_and_end_what_they_begin() {
        for (scenario, seed) in Scenario::ALL.iter().flat_map(|one| (0..50).map(move |seed| (*one, seed))) {
            let schedule = Schedule::draw(scenario, seed, 4);
            assert!(schedule.faults.is_sorted_by_key(|fault| fault.from_ms), "{scenario} {seed}");
            for fault in &schedule.faults {
                assert!(fault.from_ms <= fault.until_ms && fault.until_ms < schedule.end_ms);
            }
        }
    }
}
