//! What a deployment looks like from outside: the answers of `GET /v1/lab` and `GET /v1/lab/links`.

use crate::place::Place;
use serde::{Deserialize, Serialize};
use types::{NodeId, RegionId};

/// A running deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its regions, in the order in which they were named.
    pub regions: Vec<RegionDescription>,
    /// Its directory, or a replica of it that runs.
    pub directory: ProcessDescription,
    /// Each process of the directory.
    pub directories: Vec<DirectoryDescription>,
    /// Its folder.
    pub dir: String,
    /// Where its control API listens: `http://host:port`.
    pub control: String,
    /// The process that runs the links, the fronts and the control API.
    pub lab_pid: u32,
}

/// A region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionDescription {
    /// Its name.
    pub region: RegionId,
    /// The anycast front for clients in this place: a WebSocket URL that leads to the nearest ready region.
    pub front: String,
    /// This region's own first node: a WebSocket URL that leads nowhere else.
    pub edge: String,
    /// Every region's nodes as seen from this place, the nearest first, each over the WAN link.
    pub edges: Vec<EdgeDescription>,
    /// This region's own first node, for REST: `http://host:port`.
    pub http: String,
    /// Its nodes.
    pub nodes: Vec<NodeDescription>,
    /// Its replicator.
    pub replicator: ProcessDescription,
}

/// A node as seen from some place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeDescription {
    /// The region that it leads to.
    pub region: RegionId,
    /// The node that it leads to.
    pub node: NodeId,
    /// The WebSocket URL.
    pub url: String,
}

/// A node's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// Its name.
    pub id: NodeId,
    /// `None` while it does not run.
    pub pid: Option<u32>,
    /// `http://host:port`.
    pub address: String,
}

/// A process of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryDescription {
    /// Its name: `directory` outside the regions, `directory-REGION` inside one.
    pub name: String,
    /// `None` while it does not run.
    pub pid: Option<u32>,
    /// `http://host:port`.
    pub address: String,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessDescription {
    /// `None` while it does not run.
    pub pid: Option<u32>,
    /// `http://host:port`.
    pub address: String,
}

/// One direction between the processes of two places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkDescription {
    /// Who sends.
    pub from: Place,
    /// Who receives.
    pub to: Place,
    /// How long bytes take, in µs.
    pub delay_us: u64,
    /// By how much they may be later than that, in µs.
    pub jitter_us: u64,
    /// Sent since the deployment began.
    pub bytes: u64,
}
