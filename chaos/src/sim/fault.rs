//! What can break.

mod draw;

pub(super) use draw::{Drawn, Mix, draw};

use std::fmt;
use types::NodeId;

/// Something that is broken for a time. Nodes and regions go by their number in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process is killed, and started again at the end.
    NodeKilled(usize),
    /// The process is killed and its disk is gone: at the end it is started with an empty one.
    StoreLost(usize),
    /// All nodes of the region lose power, with its replicator.
    RegionDark(usize),
    /// The node's process does not run.
    NodePaused(usize),
    /// Nothing goes into the region and nothing out of it; its devices stay with it.
    RegionCut(usize),
    /// Nothing goes into the region (or out of it); the other way is open.
    RegionHalfCut { region: usize, into: bool },
    /// The region's nodes and its replicator hear neither the directory nor other regions' servers, and are heard.
    ServersDeaf(usize),
    /// The node and the directory do not hear each other.
    CutFromDirectory(usize),
    /// What the directory says to the node takes so much longer.
    DirectoryLate { node: usize, by_ms: u64 },
    /// The region's replicator and the directory do not hear each other.
    ReplicatorBlind(usize),
    /// The servers of two regions do not hear each other.
    PeersCut(usize, usize),
    /// The servers of two regions hear each other so much later.
    PeersSlow { one: usize, other: usize, by_ms: u64 },
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

impl Fault {
    /// Whose homes it takes away, by the regions' numbers.
    pub(super) fn takes_homes_of(&self, nodes: &[(NodeId, usize)]) -> Vec<usize> {
        match self {
            Self::NodeKilled(node)
            | Self::StoreLost(node)
            | Self::NodePaused(node)
            | Self::CutFromDirectory(node) => vec![nodes[*node].1],
            Self::RegionDark(region) | Self::RegionCut(region) => vec![*region],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeKilled(node) => write!(f, "node {node} killed"),
            Self::StoreLost(node) => write!(f, "node {node} killed, its disk lost"),
            Self::RegionDark(region) => write!(f, "region {region} without power"),
            Self::NodePaused(node) => write!(f, "node {node} paused"),
            Self::RegionCut(region) => write!(f, "region {region} cut off"),
            Self::RegionHalfCut { region, into: true } => write!(f, "nothing gets into region {region}"),
            Self::RegionHalfCut { region, into: false } => write!(f, "nothing gets out of region {region}"),
            Self::ServersDeaf(region) => write!(f, "servers of region {region} hear no others"),
            Self::CutFromDirectory(node) => write!(f, "node {node} cut off from the directory"),
            Self::DirectoryLate { node, by_ms } => {
                write!(f, "node {node} hears the directory later by {by_ms} ms")
            }
            Self::ReplicatorBlind(region) => {
                write!(f, "replicator of region {region} cut off from the directory")
            }
            Self::PeersCut(one, other) => {
                write!(f, "servers of regions {one} and {other} cut off from each other")
            }
            Self::PeersSlow { one, other, by_ms } => {
                write!(f, "servers of regions {one} and {other} hear each other later by {by_ms} ms")
            }
            Self::RegionSlow { region, by_ms } => write!(f, "region {region} slower by {by_ms} ms"),
            Self::DiskStalls(node) => write!(f, "disk of node {node} stalls"),
            Self::ReplicatorKilled(region) => write!(f, "replicator of region {region} killed"),
            Self::DirectoryKilled(replica) => write!(f, "directory replica {replica} killed"),
            Self::RegionReset(region) => write!(f, "connections of region {region} reset"),
        }
    }
}
