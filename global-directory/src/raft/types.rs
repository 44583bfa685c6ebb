//! What the consensus library is told of Hearth: who the replicas are and what an entry of the log holds.

use super::runtime::Runtime;
use crate::{
    command::{Answer, Deployment, Envelope, Refusal},
    kv::View,
    state::RenewError,
};
use openraft::{RaftTypeConfig, impls::OneshotResponder};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use types::{Home, RegionId, StoreId};

/// Names a directory replica for good: never given to another one, nor to the same one on another disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(u64);

impl ReplicaId {
    /// Names a replica; the names of a deployment are numbers from 1.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for ReplicaId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the group knows of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// `host:port` under which the other replicas reach it.
    pub address: String,
    /// The failure domain that it stands in.
    pub region: RegionId,
    /// The disk that holds its vote and its log. A replica on another disk is another replica.
    pub store: StoreId,
}

impl Default for Member {
    /// What the library fills in where it knows nothing; no replica that was born looks like this.
    fn default() -> Self {
        Self {
            address: String::new(),
            region: RegionId::new("nowhere").expect("a valid name"),
            store: StoreId::from_bytes([0; 16]),
        }
    }
}

/// One entry of the log: a group of commands, and of renewals that waited with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// The birth of the deployment, with the wall clock of the one who proposes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<(Deployment, u64)>,
    /// Carried out in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Envelope>,
    /// Attempts of nodes to renew their leases, checked after the commands. They change no row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renewals: Vec<Home>,
}

/// What a proposal did. It never leaves the process that applied it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    /// One for each command.
    #[serde(skip)]
    pub(crate) commands: Vec<Result<Answer, Refusal>>,
    /// One for each renewal.
    #[serde(skip)]
    pub(crate) renewals: Vec<Result<(), RenewError>>,
}

/// Every row of the directory at one position of the log.
#[derive(Clone)]
pub(crate) struct SnapshotRows(pub(crate) Arc<dyn View>);

impl fmt::Debug for SnapshotRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotRows")
    }
}

/// The types of the group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Proposal;
    type R = Outcomes;
    type NodeId = ReplicaId;
    type Node = Member;
    type Entry = openraft::Entry<Self>;
    type SnapshotData = SnapshotRows;
    type AsyncRuntime = Runtime;
    type Responder = OneshotResponder<Self>;
}

pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<ReplicaId>;
pub(crate) type Vote = openraft::Vote<ReplicaId>;
pub(crate) type Membership = openraft::StoredMembership<ReplicaId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<ReplicaId, Member>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;
pub(crate) type StorageError = openraft::StorageError<ReplicaId>;
pub(crate) type RaftMetrics = openraft::RaftMetrics<ReplicaId, Member>;
pub(crate) type Raft = openraft::Raft<Types>;
