//! Draws schedules.

use super::{FaultKind, Planned, REGIONS, Scenario};
use rand::{RngExt as _, rngs::StdRng};
use std::ops::Range;

/// Steady load before the first fault, about.
const BEFORE_MS: Range<u64> = 4_000..6_000;
/// Steady load after the last one.
pub(super) const AFTER_MS: u64 = 5_000;
/// Long enough for a failover.
const LONG_MS: Range<u64> = 10_000..14_000;
/// Long enough for observers to find out, and for a failover then: about 10 s.
const GRAY_MS: Range<u64> = 17_000..21_000;
/// Between two faults of a scenario of many: a region that was killed has to come back and catch up.
const BETWEEN_MS: Range<u64> = 6_000..9_000;
/// When the second fault hits, after the first: before that one's failover is over.
const MEANWHILE_MS: Range<u64> = 1_000..4_500;

/// When a node is killed, after a drain began: while partitions move.
const DURING_DRAIN_MS: Range<u64> = 20..900;

pub(super) fn faults(scenario: Scenario, rounds: u32, rng: &mut StdRng) -> Vec<Planned> {
    let begin_ms = rng.random_range(BEFORE_MS);
    let region = rng.random_range(0..REGIONS);
    let mut faults = match scenario {
        Scenario::Steady => Vec::new(),
        Scenario::SecondRegionHit => {
            let second_ms = begin_ms + rng.random_range(MEANWHILE_MS);
            let other = (region + rng.random_range(1..REGIONS)) % REGIONS;
            vec![
                for_ms(begin_ms, 22_000, FaultKind::Kill { region }),
                for_ms(second_ms, rng.random_range(5_000..9_000), FaultKind::Pause { region: other }),
            ]
        }
        Scenario::ReturnDuringFailover => {
            vec![for_ms(begin_ms, rng.random_range(2_000..5_500), FaultKind::Kill { region })]
        }
        Scenario::ReconnectStorm => vec![for_ms(begin_ms, 12_000, FaultKind::Kill { region })],
        Scenario::Mixed => mixed(&MIXED, begin_ms, rounds, rng),
        Scenario::MixedOutside => mixed(&MIXED_OUTSIDE, begin_ms, rounds, rng),
        other => one_of(other, begin_ms, region, rng),
    };
    faults.sort_by_key(|fault| fault.from_ms);
    faults
}

fn for_ms(from_ms: u64, for_ms: u64, fault: FaultKind) -> Planned {
    Planned { from_ms, until_ms: from_ms + for_ms, fault }
}

/// What a mixed run draws from, where each region has a replica of the directory: all that needs nothing prepared.
const MIXED: [Scenario; 13] = [
    Scenario::RegionKilled,
    Scenario::RegionKilledWithLeader,
    Scenario::RegionKilledWithoutLeader,
    Scenario::RegionPaused,
    Scenario::CutOff,
    Scenario::CutOneWay,
    Scenario::SlowLinks,
    Scenario::StallingLinks,
    Scenario::ResettingLinks,
    Scenario::LeaderKilled,
    Scenario::ReplicatorKilled,
    Scenario::Moved,
    Scenario::NodeKilledDuringDrain,
];

/// The same where the directory is one process outside the regions.
const MIXED_OUTSIDE: [Scenario; 12] = [
    Scenario::RegionKilled,
    Scenario::RegionPaused,
    Scenario::CutOff,
    Scenario::CutFromDirectory,
    Scenario::CutFromPeers,
    Scenario::GrayRegion,
    Scenario::CutOneWay,
    Scenario::SlowLinks,
    Scenario::StallingLinks,
    Scenario::ResettingLinks,
    Scenario::DirectoryKilled,
    Scenario::ReplicatorKilled,
];

fn mixed(kinds: &[Scenario], begin_ms: u64, rounds: u32, rng: &mut StdRng) -> Vec<Planned> {
    let mut faults: Vec<Planned> = Vec::new();
    let mut next_ms = begin_ms;
    for _ in 0..rounds {
        let kind = kinds[rng.random_range(0..kinds.len())];
        let region = rng.random_range(0..REGIONS);
        faults.extend(one_of(kind, next_ms, region, rng));
        let over_ms = faults.iter().map(|fault| fault.until_ms).max().unwrap_or(next_ms);
        next_ms = over_ms + rng.random_range(BETWEEN_MS);
    }
    faults
}

/// The faults of a scenario that has one kind of them, around one region.
fn one_of(scenario: Scenario, at_ms: u64, region: usize, rng: &mut StdRng) -> Vec<Planned> {
    let other = (region + rng.random_range(1..REGIONS)) % REGIONS;
    let long_ms = rng.random_range(LONG_MS);
    let one = |fault| vec![for_ms(at_ms, long_ms, fault)];
    match scenario {
        Scenario::RegionKilled => one(FaultKind::Kill { region }),
        Scenario::RegionKilledWithLeader => one(FaultKind::KillWithLeader),
        Scenario::RegionKilledWithoutLeader => {
            one(FaultKind::KillWithoutLeader { drawn: rng.random_range(0..REGIONS) })
        }
        Scenario::RegionPaused => one(FaultKind::Pause { region }),
        Scenario::CutOff => one(FaultKind::CutOff { region }),
        Scenario::CutFromDirectory => one(FaultKind::CutFromDirectory { region }),
        Scenario::CutFromPeers => one(FaultKind::CutFromPeers { region }),
        Scenario::GrayRegion => {
            let fault = match rng.random_range(0..3) {
                0 => FaultKind::Stick { region, durable: false },
                1 => FaultKind::Stick { region, durable: true },
                _ => FaultKind::Isolate { region },
            };
            vec![for_ms(at_ms, rng.random_range(GRAY_MS), fault)]
        }
        Scenario::CutOneWay => one(FaultKind::CutOneWay { from: region, to: other }),
        Scenario::SlowLinks => {
            let (delay_ms, bytes_per_s) = (rng.random_range(200..600), rng.random_range(30_000..120_000));
            one(FaultKind::Slow { a: region, b: other, delay_ms, bytes_per_s })
        }
        Scenario::StallingLinks => again(at_ms, 5, 1_500..3_500, rng, |rng| {
            let pause_ms = rng.random_range(500..2_500);
            (pause_ms, FaultKind::Stall { a: region, b: other, pause_ms })
        }),
        Scenario::ResettingLinks => {
            again(at_ms, 10, 300..2_000, rng, |_| (0, FaultKind::Reset { a: region, b: other }))
        }
        Scenario::DirectoryKilled => {
            vec![for_ms(at_ms, rng.random_range(2_000..9_000), FaultKind::KillDirectory)]
        }
        Scenario::LeaderKilled => {
            again(at_ms, 3, 2_000..5_000, rng, |rng| (rng.random_range(500..4_000), FaultKind::KillLeader))
        }
        Scenario::Moved => again(at_ms, 6, 500..2_000, rng, |rng| {
            let from = rng.random_range(0..REGIONS);
            (0, FaultKind::Move { from, to: (from + rng.random_range(1..REGIONS)) % REGIONS })
        }),
        Scenario::Drained => one(FaultKind::Drain { region }),
        Scenario::NodeKilledDuringDrain => {
            let node = if rng.random() { region } else { other };
            let killed_ms = at_ms + rng.random_range(DURING_DRAIN_MS);
            vec![
                for_ms(at_ms, long_ms, FaultKind::Drain { region }),
                for_ms(killed_ms, rng.random_range(1_000..6_000), FaultKind::KillNode { region: node }),
            ]
        }
        Scenario::ReplicatorKilled => again(at_ms, 5, 1_000..2_500, rng, |rng| {
            (rng.random_range(200..800), FaultKind::KillReplicator { region })
        }),
        Scenario::DiskFull => one(FaultKind::FillDisk { region }),
        Scenario::ClockStepped => again(at_ms, 4, 3_000..5_000, rng, |rng| {
            let by_s = rng.random_range(-7_200..7_200);
            (2_500, FaultKind::StepClock { region, by_s })
        }),
        _ => Vec::new(),
    }
}

/// The same kind so many times, with pauses between the beginnings.
fn again(
    at_ms: u64,
    times: u32,
    every_ms: Range<u64>,
    rng: &mut StdRng,
    mut draw: impl FnMut(&mut StdRng) -> (u64, FaultKind),
) -> Vec<Planned> {
    let mut next_ms = at_ms;
    let mut faults = Vec::new();
    for _ in 0..times {
        let (length_ms, fault) = draw(rng);
        faults.push(for_ms(next_ms, length_ms, fault));
        next_ms += length_ms + rng.random_range(every_ms.clone());
    }
    faults
}
