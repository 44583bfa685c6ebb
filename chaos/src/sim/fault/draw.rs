//! Which faults a run has: single ones at any time, or a sequence that is aimed at one rule, with its times drawn.

mod aimed;

use super::{Fault, Planned};
use crate::sim::{
    operator::{self, Commanded},
    plan::WORK_BEGINS_US,
    trap::Trap,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use std::{ops::Range, str::FromStr};
use types::NodeId;

/// Single faults that a run has at most.
const FAULTS_MAX: usize = 5;
/// Commands of the operator that a run with faults has at most, and one without.
const COMMANDS_MAX: usize = 3;
const CALM_COMMANDS_MAX: usize = 8;
/// How long before the end of the work the last fault begins.
const CALM_US: u64 = 4_000_000;

/// What happens to a run.
#[derive(Debug, Default)]
pub(in crate::sim) struct Drawn {
    /// By their times.
    pub(in crate::sim) faults: Vec<Planned>,
    pub(in crate::sim) traps: Vec<Trap>,
    pub(in crate::sim) commands: Vec<Commanded>,
    /// Some devices are lost for good then.
    pub(in crate::sim) devices_lost_us: Option<u64>,
}

/// What the faults of a run are aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Mix {
    /// Planned moves, and nothing that a write may fail for.
    Harmless,
    Scattered,
    Rolling,
    Blind,
    FencedUnderWay,
    InTurn,
    JudgedLate,
    JoinedEarly,
    Unsynced,
    AloneThenLost,
    MovedUnheard,
}

impl Mix {
    /// All of them.
    const ALL: [Self; 11] = [
        Self::Harmless,
        Self::Scattered,
        Self::Rolling,
        Self::Blind,
        Self::FencedUnderWay,
        Self::InTurn,
        Self::JudgedLate,
        Self::JoinedEarly,
        Self::Unsynced,
        Self::AloneThenLost,
        Self::MovedUnheard,
    ];

    /// The seed's own.
    pub(in crate::sim) fn of(seed: u64) -> Self {
        match StdRng::seed_from_u64(!seed).random_range(0..100) {
            0..10 => Self::Harmless,
            10..30 => Self::Scattered,
            30..46 => Self::Rolling,
            46..52 => Self::Blind,
            52..57 => Self::FencedUnderWay,
            57..67 => Self::InTurn,
            67..74 => Self::JudgedLate,
            74..81 => Self::JoinedEarly,
            81..88 => Self::Unsynced,
            88..94 => Self::AloneThenLost,
            _ => Self::MovedUnheard,
        }
    }

    /// Its name in a summary.
    pub(in crate::sim) const fn name(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Scattered => "scattered",
            Self::Rolling => "rolling",
            Self::Blind => "blind",
            Self::FencedUnderWay => "fenced under way",
            Self::InTurn => "in turn",
            Self::JudgedLate => "judged late",
            Self::JoinedEarly => "joined early",
            Self::Unsynced => "unsynced",
            Self::AloneThenLost => "alone, then lost",
            Self::MovedUnheard => "moved unheard",
        }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join("\", \"");
        let found = Self::ALL.into_iter().find(|mix| mix.name() == name);
        found.ok_or_else(|| format!("no mix is named {name:?}; there are \"{}\"", names()))
    }
}

/// Draws it.
pub(in crate::sim) fn draw(
    mix: Mix,
    rng: &mut StdRng,
    nodes: &[(NodeId, usize)],
    regions: usize,
    partitions: u32,
    work_ends_us: u64,
) -> Drawn {
    let when = WORK_BEGINS_US + 1_000_000..work_ends_us - CALM_US;
    let mut draw = Draw { rng, nodes, regions, when: when.clone(), drawn: Drawn::default() };
    let commands_max = match mix {
        Mix::Harmless => {
            draw.harmless();
            CALM_COMMANDS_MAX
        }
        Mix::Scattered => draw.scattered(FAULTS_MAX),
        Mix::Rolling => draw.rolling(),
        Mix::Blind => draw.blind(),
        Mix::FencedUnderWay => draw.fenced_under_way(),
        Mix::InTurn => draw.in_turn(),
        Mix::JudgedLate => draw.judged_late(),
        Mix::JoinedEarly => draw.joined_early(),
        Mix::Unsynced => draw.unsynced(),
        Mix::AloneThenLost => draw.alone_then_lost(),
        Mix::MovedUnheard => draw.moved_unheard(),
    };
    if commands_max > 0 && (mix == Mix::Harmless || draw.rng.random_bool(0.5)) {
        let commands = operator::draw(draw.rng, commands_max, regions, partitions, &when);
        draw.drawn.commands.extend(commands);
    }
    if draw.rng.random_bool(0.5) {
        draw.drawn.devices_lost_us = Some(draw.rng.random_range(when));
    }
    draw.drawn.faults.sort_by_key(|planned| planned.from_us);
    draw.drawn
}

struct Draw<'a> {
    rng: &'a mut StdRng,
    nodes: &'a [(NodeId, usize)],
    regions: usize,
    when: Range<u64>,
    drawn: Drawn,
}

/// Each answers how many commands of the operator a run like this has at most.
impl Draw<'_> {
    /// Nothing that a write may fail for.
    fn harmless(&mut self) {
        for _ in 0..self.rng.random_range(0..3) {
            let region = self.region();
            let (from_us, until_us) = self.span(300_000..14_000_000);
            let fault = match self.rng.random_range(0..2) {
                0 => Fault::ReplicatorKilled(region),
                _ => Fault::RegionSlow { region, by_ms: self.rng.random_range(10..200) },
            };
            self.add(from_us, until_us, fault);
        }
    }

    /// Anything at any time.
    fn scattered(&mut self, max: usize) -> usize {
        for _ in 0..self.rng.random_range(1..=max) {
            let (from_us, until_us) = self.span(300_000..14_000_000);
            let fault = self.one();
            self.add(from_us, until_us, fault);
        }
        COMMANDS_MAX
    }

    /// One region after the other loses its homes, each soon after the one before is back: who has diverged is
    /// asked for what it holds, and may be gone again before all of it is back.
    fn rolling(&mut self) -> usize {
        let mut from_us = self.when.start + self.rng.random_range(0..2_000_000);
        let mut region = self.region();
        while from_us < self.when.end {
            let until_us = from_us + self.rng.random_range(3_500_000..8_000_000);
            if self.rng.random_bool(0.6) {
                self.add(from_us, until_us, Fault::RegionCut(region));
            } else {
                self.dark(region, from_us, until_us);
            }
            if self.rng.random_bool(0.3) {
                let (region, by_ms) = (self.other(region), self.rng.random_range(300..2_000));
                self.add(from_us - 1_000_000, until_us, Fault::RegionSlow { region, by_ms });
            }
            from_us = until_us + self.rng.random_range(100_000..4_000_000);
            region = if self.rng.random_bool(0.25) { region } else { self.other(region) };
        }
        COMMANDS_MAX
    }

    /// A region's nodes are cut off from the directory, and replicators do not learn who follows them.
    fn blind(&mut self) -> usize {
        let region = self.region();
        let (from_us, until_us) = self.span(4_000_000..12_000_000);
        for node in self.nodes_of(region) {
            self.add(from_us, until_us, Fault::CutFromDirectory(node));
        }
        for pump in 0..self.regions {
            self.add(from_us, until_us, Fault::ReplicatorBlind(pump));
        }
        self.scattered(2)
    }

    /// A home goes while its followers do not hold the same, and its successor goes soon after it.
    fn in_turn(&mut self) -> usize {
        let [first, second, third] = self.order();
        let mut at_us = self.when.start + self.rng.random_range(0..4_000_000);
        let ends_us = at_us + self.rng.random_range(8_000_000..20_000_000);
        if self.rng.random_bool(0.5) {
            let by_ms = self.rng.random_range(200..1_500);
            self.add(at_us, ends_us, Fault::RegionSlow { region: third, by_ms });
        }
        if self.rng.random_bool(0.6) {
            // It is filled again when the others go.
            let until_us = at_us + self.rng.random_range(3_500_000..7_000_000);
            self.gone(third, at_us, until_us);
            at_us = until_us + self.rng.random_range(300_000..5_000_000);
        }
        self.behind(second, first, at_us);
        if self.rng.random_bool(0.4) {
            // It lives, as far as the directory knows, and hears nothing.
            let from_us = at_us - self.rng.random_range(0..1_200_000);
            let until_us = at_us + self.rng.random_range(3_000_000..7_000_000);
            self.add(from_us, until_us, Fault::RegionHalfCut { region: second, into: true });
        }
        let until_us = at_us + self.rng.random_range(3_500_000..9_000_000);
        self.gone(first, at_us, until_us);
        let next_us = at_us + self.rng.random_range(3_500_000..9_000_000);
        let next = if self.rng.random_bool(0.6) { second } else { third };
        let until_us = next_us + self.rng.random_range(3_500_000..8_000_000);
        self.gone(next, next_us, until_us);
        COMMANDS_MAX
    }

    /// A follower does not get what the home writes, for a while before the home goes.
    fn behind(&mut self, follower: usize, home: usize, at_us: u64) {
        let from_us = at_us - self.rng.random_range(200_000..2_800_000);
        let until_us = at_us + self.rng.random_range(100_000..3_000_000);
        match self.rng.random_range(0..4) {
            0 => self.add(from_us, until_us, Fault::PeersCut(home, follower)),
            1 => self.add(from_us, until_us, Fault::ReplicatorKilled(follower)),
            2 => {
                for node in self.nodes_of(follower) {
                    self.add(from_us, until_us, Fault::DiskStalls(node));
                }
            }
            _ => {}
        }
    }

    /// Power goes while disks do not sync and what was sent has not arrived, or nothing could be sent.
    fn unsynced(&mut self) -> usize {
        let (mut region, mut at_us) =
            (self.region(), self.when.start + self.rng.random_range(2_000_000..6_000_000));
        while at_us < self.when.end {
            let until_us = at_us + self.rng.random_range(3_500_000..8_000_000);
            if self.rng.random_bool(0.3) {
                let by_ms = self.rng.random_range(200..2_000);
                self.add(at_us - 2_000_000, until_us, Fault::RegionSlow { region, by_ms });
            } else {
                // Longer than the disks stall: nobody else has what is not synced.
                let from_us = at_us - self.rng.random_range(1_000_000..1_500_000);
                for other in (0..self.regions).filter(|other| *other != region) {
                    self.add(from_us, at_us + 100_000, Fault::PeersCut(region, other));
                }
            }
            self.stalled(region, at_us, until_us);
            self.add(at_us, until_us, Fault::RegionDark(region));
            at_us = until_us + self.rng.random_range(2_000_000..6_000_000);
            // It has no homes now.
            region = self.other(region);
        }
        COMMANDS_MAX
    }

    // ---- parts of them

    /// A region's nodes are not there for the directory.
    fn gone(&mut self, region: usize, from_us: u64, until_us: u64) {
        match self.rng.random_range(0..4) {
            0 => self.add(from_us, until_us, Fault::RegionCut(region)),
            1 => self.dark(region, from_us, until_us),
            2 => {
                for node in self.nodes_of(region) {
                    self.add(from_us, until_us, Fault::NodeKilled(node));
                }
            }
            _ => {
                for node in self.nodes_of(region) {
                    self.add(from_us, until_us, Fault::NodePaused(node));
                }
            }
        }
    }

    /// A region's nodes are not there, and its replica of the directory is.
    fn down(&mut self, region: usize, from_us: u64, until_us: u64) {
        let is_paused = self.rng.random_bool(0.5);
        for node in self.nodes_of(region) {
            let fault = if is_paused { Fault::NodePaused(node) } else { Fault::NodeKilled(node) };
            self.add(from_us, until_us, fault);
        }
    }

    /// A region loses power; what it takes along was perhaps not synced for a while.
    fn dark(&mut self, region: usize, from_us: u64, until_us: u64) {
        if self.rng.random_bool(0.5) {
            self.stalled(region, from_us, until_us);
        }
        self.add(from_us, until_us, Fault::RegionDark(region));
    }

    fn stalled(&mut self, region: usize, before_us: u64, until_us: u64) {
        let from_us = before_us - self.rng.random_range(100_000..1_000_000);
        for node in self.nodes_of(region) {
            self.add(from_us, until_us, Fault::DiskStalls(node));
        }
    }

    fn one(&mut self) -> Fault {
        let node = self.rng.random_range(0..self.nodes.len());
        let region = self.region();
        match self.rng.random_range(0..21) {
            0..=2 => Fault::NodeKilled(node),
            3..=5 => Fault::RegionDark(region),
            6..=8 => Fault::NodePaused(node),
            9..=11 => Fault::RegionCut(region),
            12 => Fault::RegionHalfCut { region, into: self.rng.random_bool(0.5) },
            13 => Fault::CutFromDirectory(node),
            14 => Fault::PeersCut(region, self.other(region)),
            15 => Fault::RegionSlow { region, by_ms: self.rng.random_range(100..1_500) },
            16 => Fault::DiskStalls(node),
            17 => Fault::ReplicatorKilled(region),
            18 => Fault::ReplicatorBlind(region),
            19 => Fault::DirectoryKilled(self.region()),
            _ => Fault::RegionReset(region),
        }
    }

    fn add(&mut self, from_us: u64, until_us: u64, fault: Fault) {
        self.drawn.faults.push(Planned { from_us, until_us, fault });
    }

    fn span(&mut self, lasts_us: Range<u64>) -> (u64, u64) {
        let from_us = self.rng.random_range(self.when.clone());
        (from_us, from_us + self.rng.random_range(lasts_us))
    }

    fn order(&mut self) -> [usize; 3] {
        let mut order: Vec<usize> = (0..self.regions).collect();
        order.shuffle(self.rng);
        [order[0], order[1], order[2]]
    }

    fn region(&mut self) -> usize {
        self.rng.random_range(0..self.regions)
    }

    fn other(&mut self, than: usize) -> usize {
        (than + self.rng.random_range(1..self.regions)) % self.regions
    }

    fn nodes_of(&self, region: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].1 == region).collect()
    }
}
