//! The directory's rows, and the view of them that nodes and replicators keep.
//!
//! A view grants nothing: it tells where to try. Only a node's own lease and the store's fence decide.

use crate::{
    Epoch, Generation, Incarnation, LogId, Lsn, MoveId, NodeId, Offset, PartitionId, RegionId, StoreId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a region takes homes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionStatus {
    /// It takes homes.
    #[default]
    Active,
    /// Its homes are being moved away, and it gets no new ones.
    Draining,
    /// It was failed over and has not come back.
    Down,
}

/// Whether something leaves the deployment for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retirement {
    /// It stays.
    #[default]
    Serving,
    /// It gets no new homes and copies, and those that it has leave it.
    Retiring,
    /// It has none, and never comes back.
    Retired,
}

/// A region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionRow {
    /// Its name.
    pub region: RegionId,
    /// Whether it takes homes.
    pub status: RegionStatus,
    /// Whether it leaves the deployment.
    #[serde(default)]
    pub retirement: Retirement,
    /// Partitions that prefer it do not come back to it by themselves.
    #[serde(default)]
    pub failback_off: bool,
    /// An operator allows its homes to call `replicated` what no other region holds, until this time in ms
    /// since 1970; 0: not so.
    #[serde(default)]
    pub alone_until_ms: u64,
}

/// A node as it registered at its last boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub node: NodeId,
    /// The region that it belongs to.
    pub region: RegionId,
    /// Where other nodes reach it: `host:port` (gRPC, WebSocket and REST share it).
    pub address: String,
    /// Its current boot. A bump without a boot takes its lease away for good.
    pub incarnation: Incarnation,
    /// The store it opened.
    pub store: StoreId,
    /// Whether `incarnation` was announced by the node itself; a bumped one was not.
    pub live: bool,
    /// Whether it leaves the deployment.
    #[serde(default)]
    pub retirement: Retirement,
    /// What access tokens that it has signed are verified by, oldest first.
    #[serde(default)]
    pub keys: Vec<VerifyingKey>,
}

/// The public half of a key that a node signs access tokens with. The private half never leaves the node, and
/// ends with its process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyingKey {
    /// Named in each token; unique among the keys of all nodes, by chance.
    pub id: u64,
    /// Ed25519 (RFC 8032).
    pub public: [u8; 32],
}

/// A copy of a partition: this node with this store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// The node.
    pub node: NodeId,
    /// Its store; a node that comes back with another store is another replica.
    pub store: StoreId,
}

/// Who writes a partition: a node in one of its boots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Home {
    /// The node.
    pub node: NodeId,
    /// Its boot.
    pub incarnation: Incarnation,
}

/// A former home whose lease may still run: until it is waited out nobody acks in its place.
pub type Waiting = Home;

/// What may happen to a partition now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// It has not had a home yet.
    #[default]
    Vacant,
    /// Its home serves it.
    Homed,
    /// Its home is handing it over to another, by a planned move: it ends what is under way, seals its epoch
    /// and begins nothing.
    Draining,
    /// Its home is gone, and the next one is being chosen.
    FailingOver,
}

/// Who wants a partition moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveCause {
    /// An operator, this one partition.
    Operator,
    /// The drain of the region it is homed in.
    Drain,
    /// It goes back to the region that it prefers.
    Failback,
    /// Its home is about to end.
    Leaving,
}

impl MoveCause {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Drain => "drain",
            Self::Failback => "failback",
            Self::Leaving => "leaving",
        }
    }
}

/// A planned move that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which.
    pub id: MoveId,
    /// Who is to be the next home.
    pub target: Home,
    /// Who wants it.
    pub cause: MoveCause,
}

/// Where an epoch of a partition began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: Epoch,
    /// The LSN of its first record: one past the last record that it took over. After a move that was given
    /// up it is a bound below that: the home is the same boot as before, and knows its own end.
    pub start_lsn: Lsn,
    /// Its home.
    pub home: Home,
}

/// The unit of placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRow {
    /// Its number.
    pub partition: PartitionId,
    /// Where it comes home to.
    pub preferred: RegionId,
    /// The regions that may hold it; empty means all.
    pub allowed: Vec<RegionId>,
    /// All that should hold it, the home included.
    pub replicas: Vec<Replica>,
    /// Who writes it now.
    pub home: Option<Home>,
    /// Former homes not yet waited out.
    pub waiting: Vec<Waiting>,
    /// The current epoch; what is below is fenced.
    pub epoch: Epoch,
    /// What may happen to it now.
    pub state: PartitionState,
    /// The replicas in sync, the home included.
    pub isr: Vec<Replica>,
    /// Members of `isr` that are dead or damaged but whose leaving would bring it under two regions.
    pub lost: Vec<Replica>,
    /// Raised by every change of `isr` or `lost`.
    pub isr_version: u64,
    /// Where each epoch began, oldest first.
    pub history: Vec<EpochStart>,
    /// Copies that were replaced while their nodes were gone. One that comes back with its store is a
    /// replica again, until it has been matched: its divergent tail must not be lost.
    #[serde(default)]
    pub away: Vec<Replica>,
    /// The planned move that is under way; there exactly while the state is `Draining`.
    #[serde(default)]
    pub moving: Option<Move>,
    /// An operator has moved it away from the region that it prefers: it is not taken back there by itself.
    #[serde(default)]
    pub stays: bool,
}

impl PartitionRow {
    /// The LSN at which the current epoch began.
    pub fn start_lsn(&self) -> Lsn {
        self.history.last().map_or(Lsn::FIRST, |start| start.start_lsn)
    }

    /// Whether its home, if it has one, has a boot that the directory has not ended: it serves the partition,
    /// or is handing it over.
    pub const fn has_home(&self) -> bool {
        matches!(self.state, PartitionState::Homed | PartitionState::Draining)
    }

    /// Whether this boot of this node is the home, with nobody to wait for.
    pub fn is_served_by(&self, home: &Home) -> bool {
        self.state == PartitionState::Homed && self.home.as_ref() == Some(home) && self.waiting.is_empty()
    }
}

/// One stretch of a log's life in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinSegment {
    /// Which stretch, from 1.
    pub generation: Generation,
    /// Where it is written in that stretch.
    pub partition: PartitionId,
    /// The first offset of the stretch.
    pub first_offset: Offset,
}

/// Where a log lives: the last segment takes writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The log.
    pub log: LogId,
    /// Never empty; grows only by re-homing.
    pub segments: Vec<PinSegment>,
}

impl Pin {
    /// The stretch that is written now.
    pub fn current(&self) -> Option<&PinSegment> {
        self.segments.last()
    }
}

/// Rows that changed between two versions of the placement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlacementDelta {
    /// The version that the rows are on top of; 0 in a snapshot.
    pub from_version: u64,
    /// The version that they lead to.
    pub to_version: u64,
    /// Regions, whole rows.
    pub regions: Vec<RegionRow>,
    /// Nodes, whole rows.
    pub nodes: Vec<NodeRow>,
    /// Partitions, whole rows.
    pub partitions: Vec<PartitionRow>,
}

/// What a node or replicator knows of the placement: a snapshot brought forward by deltas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    version: u64,
    regions: BTreeMap<RegionId, RegionRow>,
    nodes: BTreeMap<NodeId, NodeRow>,
    partitions: BTreeMap<PartitionId, PartitionRow>,
}

impl Placement {
    /// Takes a delta over. A delta that does not start at this version (0: a snapshot, which replaces all)
    /// changes nothing and answers `false`: ask for a snapshot then.
    #[must_use]
    pub fn apply(&mut self, delta: PlacementDelta) -> bool {
        if delta.from_version == 0 {
            *self = Self::default();
        } else if delta.from_version != self.version {
            return false;
        }
        self.version = delta.to_version;
        self.regions.extend(delta.regions.into_iter().map(|row| (row.region.clone(), row)));
        self.nodes.extend(delta.nodes.into_iter().map(|row| (row.node.clone(), row)));
        self.partitions.extend(delta.partitions.into_iter().map(|row| (row.partition, row)));
        true
    }

    /// Takes over what one of several tells, each of whom may be ahead of the others or behind them: nothing is
    /// ever taken back, and what is known already changes nothing. Answers `false` where changes between this
    /// version and the delta's first are not known: ask that one for a snapshot then.
    #[must_use]
    pub fn merge(&mut self, mut delta: PlacementDelta) -> bool {
        if delta.to_version <= self.version && self.version > 0 {
            return true;
        }
        if delta.from_version > self.version {
            return false;
        }
        // Its rows are whole and as of its last version, and those that changed since this version are among them.
        if delta.from_version > 0 {
            delta.from_version = self.version;
        }
        self.apply(delta)
    }

    /// The version; 0 before the first snapshot.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// A region's row.
    pub fn region(&self, region: &RegionId) -> Option<&RegionRow> {
        self.regions.get(region)
    }

    /// A node's row.
    pub fn node(&self, node: &NodeId) -> Option<&NodeRow> {
        self.nodes.get(node)
    }

    /// A partition's row.
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionRow> {
        self.partitions.get(&partition)
    }

    /// All regions, by name.
    pub fn regions(&self) -> impl Iterator<Item = &RegionRow> {
        self.regions.values()
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values()
    }

    /// All partitions, by number.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionRow> {
        self.partitions.values()
    }

    /// The node that is home of a partition, with the partition's epoch.
    pub fn home_of(&self, partition: PartitionId) -> Option<(&NodeRow, Epoch)> {
        let row = self.partitions.get(&partition)?;
        Some((self.nodes.get(&row.home.as_ref()?.node)?, row.epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_over_a_gap_is_not_taken() {
        let region = |name: &str| RegionRow {
            region: RegionId::new(name).expect("a valid name"),
            status: RegionStatus::Active,
            retirement: Retirement::Serving,
            failback_off: false,
            alone_until_ms: 0,
        };
        let mut view = Placement::default();
        let snapshot =
            PlacementDelta { to_version: 5, regions: vec![region("us-east")], ..PlacementDelta::default() };
        assert!(view.apply(snapshot));
        let late = PlacementDelta {
            from_version: 6,
            to_version: 7,
            regions: vec![region("eu-west")],
            ..PlacementDelta::default()
        };
        assert!(!view.apply(late));
        assert_eq!((view.version(), view.regions().count()), (5, 1));
    }

    #[test]
    fn what_several_tell_is_taken_over_once_and_never_taken_back() {
        let region = |name: &str| RegionRow {
            region: RegionId::new(name).expect("a valid name"),
            status: RegionStatus::Active,
            retirement: Retirement::Serving,
            failback_off: false,
            alone_until_ms: 0,
        };
        let delta = |from_version, to_version, name| PlacementDelta {
            from_version,
            to_version,
            regions: vec![region(name)],
            ..PlacementDelta::default()
        };
        let mut view = Placement::default();
        assert!(view.merge(delta(0, 5, "us-east")), "the first snapshot");
        assert!(view.merge(delta(5, 6, "eu-west")), "who is ahead");
        assert!(view.merge(delta(0, 4, "nowhere")), "a snapshot of one who is behind");
        assert!(view.merge(delta(5, 6, "nowhere")), "the same again");
        assert_eq!((view.version(), view.regions().count()), (6, 2));
        assert!(view.merge(delta(5, 8, "ap-south")), "more than the same");
        assert_eq!((view.version(), view.regions().count()), (8, 3));
        assert!(!view.merge(delta(9, 10, "nowhere")), "a gap");
        assert_eq!((view.version(), view.regions().count()), (8, 3));
    }
}
