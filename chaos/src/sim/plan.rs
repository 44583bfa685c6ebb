//! What a seed decides before a run begins: who takes part, how far apart, by which clocks, and what breaks.

use super::fault::{self, Drawn, Mix};
use crate::workload::Load;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use types::{NodeId, RegionId};

/// The regions of every simulated deployment.
const REGIONS: [&str; 3] = ["us-east", "eu-west", "ap-south"];
/// Enough that a region's partitions are not all in one home's hands, few enough that a run is quick.
pub(super) const PARTITIONS_PER_REGION: u32 = 2;
/// How far a clock may be off its rate, in every run.
const DRIFT: f64 = 0.05;
/// One run of so many has clocks that are off by up to [`WILD_DRIFT`]: only `home` acks may suffer from it.
const WILD_EVERY: u64 = 8;
const WILD_DRIFT: f64 = 0.5;
/// One run of so many has circles, groups whose members change.
const CIRCLES_EVERY: u64 = 5;

/// How long the parts of a run take, in µs.
pub(super) const WORK_BEGINS_US: u64 = 3_000_000;
const WORK_LASTS_US: std::ops::Range<u64> = 25_000_000..35_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) regions: Vec<RegionId>,
    pub(super) nodes: Vec<(NodeId, usize)>,
    pub(super) partitions_per_region: u32,
    pub(super) load: Load,
    /// How long partitions stay away from the region that they prefer.
    pub(super) failback_cooldown_ms: u32,
    /// Clocks may be off by half.
    pub(super) is_wild: bool,
    /// How long each host runs at a stretch.
    pub(super) stretch_us: u64,
    /// Between two regions, one way.
    pub(super) apart_us: u64,
    /// A sync of a disk.
    pub(super) sync_us: std::ops::Range<u64>,
    pub(super) work_ends_us: u64,
    pub(super) drawn: Drawn,
    /// For what is drawn while it runs.
    pub(super) rng: StdRng,
}

impl Plan {
    /// What `seed` decides.
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let name = |name: &str| RegionId::new(name).expect("a region's name");
        let regions: Vec<RegionId> = REGIONS.iter().map(|region| name(region)).collect();
        let nodes_per_region = if rng.random_bool(0.25) { 2 } else { 1 };
        let nodes = regions.iter().enumerate().flat_map(|(at, region)| {
            let node = move |number| {
                (NodeId::new(&format!("{region}-{number}")).expect("a region's name and a number"), at)
            };
            (1..=nodes_per_region).map(node).collect::<Vec<_>>()
        });
        let nodes: Vec<_> = nodes.collect();
        let mix = Mix::of(seed);
        // What they are aimed at lasts for a moment, in which something must have been written.
        let is_dense =
            matches!(mix, Mix::FencedUnderWay | Mix::JudgedLate | Mix::JoinedEarly | Mix::MovedUnheard);
        let writes = if is_dense { 9..18 } else { 3..8 };
        let load = Load {
            writes_per_s: rng.random_range(writes.clone()),
            plain_writes_per_s: rng.random_range(writes),
            readers: 1,
            returners: rng.random_range(0..2),
            body_bytes: 60,
            // What is acked there alone is what these are about.
            plain_home_acks: rng.random_bool(0.5) || matches!(mix, Mix::Unsynced | Mix::MovedUnheard),
            circles: seed % CIRCLES_EVERY == CIRCLES_EVERY - 2,
            ..Load::default()
        };
        let work_ends_us = WORK_BEGINS_US + rng.random_range(WORK_LASTS_US);
        let partitions = PARTITIONS_PER_REGION * REGIONS.len() as u32;
        let drawn = fault::draw(mix, &mut rng, &nodes, regions.len(), partitions, work_ends_us);
        let sync_us = [200..400, 500..3_000, 2_000..20_000][rng.random_range(0..3)].clone();
        Self {
            regions,
            nodes,
            partitions_per_region: PARTITIONS_PER_REGION,
            load,
            failback_cooldown_ms: if rng.random_bool(0.5) {
                600_000
            } else {
                rng.random_range(2_000..10_000)
            },
            is_wild: seed % WILD_EVERY == WILD_EVERY - 1,
            stretch_us: rng.random_range(2..=5) * 1_000,
            apart_us: rng.random_range(8_000..80_000),
            sync_us,
            work_ends_us,
            drawn,
            rng,
        }
    }

    /// A clock for one more host.
    pub(super) fn draw_clock(&mut self) -> super::host::Clock {
        let drift = if self.is_wild { WILD_DRIFT } else { DRIFT };
        super::host::Clock {
            boot_ms: self.rng.random_range(1_000..1_000_000_000),
            rate: 1.0 + self.rng.random_range(-drift..=drift),
            wall_skew_ms: self.rng.random_range(-5_000..5_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far the clocks of a run are off their rates.
    fn drifts(seed: u64) -> Vec<f64> {
        let mut plan = Plan::draw(seed);
        (0..16).map(|_| (plan.draw_clock().rate - 1.0).abs()).collect()
    }

    #[test]
    fn one_run_of_eight_has_clocks_that_are_off_by_half_and_the_others_by_a_twentieth() {
        let mut farthest = [0.0_f64; 2];
        for seed in 0..400 {
            let (is_wild, allowed) = if seed % 8 == 7 { (true, 0.5) } else { (false, 0.05) };
            assert_eq!(Plan::draw(seed).is_wild, is_wild, "seed {seed}");
            for drift in drifts(seed) {
                assert!(drift <= allowed, "seed {seed}: {drift}");
                farthest[usize::from(is_wild)] = farthest[usize::from(is_wild)].max(drift);
            }
        }
        assert!(farthest[0] > 0.049 && farthest[1] > 0.49, "all of it is drawn: {farthest:?}");
    }

    #[test]
    fn every_mix_has_runs_with_clocks_of_either_kind() {
        let mut drawn = std::collections::BTreeMap::new();
        for seed in 0..800 {
            drawn.entry(Mix::of(seed).name()).or_insert([0, 0])[usize::from(Plan::draw(seed).is_wild)] += 1;
        }
        assert_eq!(drawn.len(), 11);
        assert!(drawn.values().flatten().all(|runs| *runs > 0), "{drawn:?}");
    }
}
