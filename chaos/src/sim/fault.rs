//! Faults by seed: what breaks, when, and for how long.

use super::plan::WORK_BEGINS_US;
use rand::{RngExt as _, rngs::StdRng};
use std::{fmt, ops::Range};
use types::NodeId;

/// Faults that a run has at most.
const FAULTS_MAX: usize = 5;
/// How long before the end of the work the last fault begins.
const CALM_US: u64 = 4_000_000;

/// Something that is broken for a time. Nodes and regions go by their number in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process is killed, and started again at the end.
    NodeKilled(usize),
    /// All nodes of the region lose power, with its replicator.
    RegionDark(usize),
    /// The node's process does not run.
    NodePaused(usize),
    /// Nothing goes into the region and nothing out of it; its devices stay with it.
    RegionCut(usize),
    /// Nothing goes into the region (or out of it); the other way is open.
    RegionHalfCut { region: usize, into: bool },
    /// The node and the directory do not hear each other.
    CutFromDirectory(usize),
    /// The region's replicator and the directory do not hear each other.
    ReplicatorBlind(usize),
    /// The servers of two regions do not hear each other.
    PeersCut(usize, usize),
    /// Everything into and out of the region takes so much longer.
    RegionSlow { region: usize, by_ms: u64 },
    /// The node's disk syncs nothing.
    DiskStalls(usize),
    /// The region's replicator is killed.
    ReplicatorKilled(usize),
    /// A directory replica is killed.
    DirectoryKilled(usize),
    /// Every connection into and out of the region breaks, once.
    RegionReset(usize),
}

/// A fault with its times.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) from_us: u64,
    pub(super) until_us: u64,
    pub(super) fault: Fault,
}

/// Draws the faults of a run.
pub(super) fn draw(
    rng: &mut StdRng,
    nodes: &[(NodeId, usize)],
    regions: usize,
    work_ends_us: u64,
) -> Vec<Planned> {
    let when = WORK_BEGINS_US + 1_000_000..work_ends_us - CALM_US;
    let mut planned = match rng.random_range(0..10) {
        0..=3 => scattered(rng, FAULTS_MAX, nodes.len(), regions, &when),
        4..=6 => rolling(rng, regions, &when),
        _ => {
            let mut planned = blind(rng, nodes, regions, &when);
            planned.extend(scattered(rng, 2, nodes.len(), regions, &when));
            planned
        }
    };
    planned.sort_by_key(|planned| planned.from_us);
    planned
}

/// Anything at any time.
fn scattered(rng: &mut StdRng, max: usize, nodes: usize, regions: usize, when: &Range<u64>) -> Vec<Planned> {
    let count = rng.random_range(1..=max);
    let planned = |_| {
        let from_us = rng.random_range(when.clone());
        let until_us = from_us + rng.random_range(300_000..14_000_000);
        Planned { from_us, until_us, fault: one(rng, nodes, regions) }
    };
    (0..count).map(planned).collect()
}

/// One region after the other loses its homes, each soon after the one before is back: who has diverged is
/// asked for what it holds.
fn rolling(rng: &mut StdRng, regions: usize, when: &Range<u64>) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut from_us = when.start + rng.random_range(0..2_000_000);
    let mut region = rng.random_range(0..regions);
    while from_us < when.end {
        let until_us = from_us + rng.random_range(3_500_000..8_000_000);
        let fault = if rng.random_bool(0.6) { Fault::RegionCut(region) } else { Fault::RegionDark(region) };
        planned.push(Planned { from_us, until_us, fault });
        if rng.random_bool(0.3) {
            let other = (region + 1) % regions;
            let fault = Fault::RegionSlow { region: other, by_ms: rng.random_range(300..2_000) };
            planned.push(Planned { from_us: from_us - 1_000_000, until_us, fault });
        }
        from_us = until_us + rng.random_range(100_000..4_000_000);
        region = (region + rng.random_range(1..regions)) % regions;
    }
    planned
}

/// A region's nodes are cut off from the directory, and replicators do not learn who follows them.
fn blind(rng: &mut StdRng, nodes: &[(NodeId, usize)], regions: usize, when: &Range<u64>) -> Vec<Planned> {
    let (from_us, region) = (rng.random_range(when.clone()), rng.random_range(0..regions));
    let until_us = from_us + rng.random_range(4_000_000..12_000_000);
    let homes = (0..nodes.len()).filter(|node| nodes[*node].1 == region).map(Fault::CutFromDirectory);
    let pumps = (0..regions).map(Fault::ReplicatorBlind);
    homes.chain(pumps).map(|fault| Planned { from_us, until_us, fault }).collect()
}

fn one(rng: &mut StdRng, nodes: usize, regions: usize) -> Fault {
    let node = rng.random_range(0..nodes);
    let region = rng.random_range(0..regions);
    match rng.random_range(0..21) {
        0..=2 => Fault::NodeKilled(node),
        3..=5 => Fault::RegionDark(region),
        6..=8 => Fault::NodePaused(node),
        9..=11 => Fault::RegionCut(region),
        12 => Fault::RegionHalfCut { region, into: rng.random_bool(0.5) },
        13 => Fault::CutFromDirectory(node),
        14 => Fault::PeersCut(region, (region + rng.random_range(1..regions)) % regions),
        15 => Fault::RegionSlow { region, by_ms: rng.random_range(100..1_500) },
        16 => Fault::DiskStalls(node),
        17 => Fault::ReplicatorKilled(region),
        18 => Fault::ReplicatorBlind(region),
        19 => Fault::DirectoryKilled(rng.random_range(0..regions)),
        _ => Fault::RegionReset(region),
    }
}

impl Fault {
    /// Whose homes it takes away, by the regions' numbers.
    pub(super) fn takes_homes_of(&self, nodes: &[(NodeId, usize)]) -> Vec<usize> {
        match self {
            Self::NodeKilled(node) | Self::NodePaused(node) | Self::CutFromDirectory(node) => {
                vec![nodes[*node].1]
            }
            Self::RegionDark(region) | Self::RegionCut(region) => vec![*region],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeKilled(node) => write!(f, "node {node} killed"),
            Self::RegionDark(region) => write!(f, "region {region} without power"),
            Self::NodePaused(node) => write!(f, "node {node} paused"),
            Self::RegionCut(region) => write!(f, "region {region} cut off"),
            Self::RegionHalfCut { region, into: true } => write!(f, "nothing gets into region {region}"),
            Self::RegionHalfCut { region, into: false } => write!(f, "nothing gets out of region {region}"),
            Self::CutFromDirectory(node) => write!(f, "node {node} cut off from the directory"),
            Self::ReplicatorBlind(region) => {
                write!(f, "replicator of region {region} cut off from the directory")
            }
            Self::PeersCut(one, other) => {
                write!(f, "servers of regions {one} and {other} cut off from each other")
            }
            Self::RegionSlow { region, by_ms } => write!(f, "region {region} slower by {by_ms} ms"),
            Self::DiskStalls(node) => write!(f, "disk of node {node} stalls"),
            Self::ReplicatorKilled(region) => write!(f, "replicator of region {region} killed"),
            Self::DirectoryKilled(replica) => write!(f, "directory replica {replica} killed"),
            Self::RegionReset(region) => write!(f, "connections of region {region} reset"),
        }
    }
}
