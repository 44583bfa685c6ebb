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
        let load = Load {
            writes_per_s: rng.random_range(3..8),
            plain_writes_per_s: rng.random_range(3..8),
            readers: 1,
            returners: rng.random_range(0..2),
            body_bytes: 60,
            // What is acked there alone is what these are about.
            plain_home_acks: rng.random_bool(0.5)
                || matches!(Mix::of(seed), Mix::Unsynced | Mix::MovedUnheard),
            ..Load::default()
        };
        let work_ends_us = WORK_BEGINS_US + rng.random_range(WORK_LASTS_US);
        let partitions = PARTITIONS_PER_REGION * REGIONS.len() as u32;
        let drawn = fault::draw(Mix::of(seed), &mut rng, &nodes, regions.len(), partitions, work_ends_us);
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
