//! What operators want moved, and why it was not.

use crate::command::MoveError;
use types::{NodeId, PartitionId, RegionId, RequestId};

/// An operator wants one partition in another region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Finds the operator again.
    pub call: u64,
    /// Of the command that begins the move.
    pub request: RequestId,
    /// The partition.
    pub partition: PartitionId,
    /// Where it is to be homed.
    pub region: RegionId,
    /// In whose name.
    pub by: String,
}

/// A move that somebody wants was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// The rows do not allow it.
    #[error(transparent)]
    Refused(#[from] MoveError),
    /// Nobody there can take it.
    #[error("partition {partition} has no in-sync replica in region {region} that can take it")]
    NoMember {
        /// The partition.
        partition: PartitionId,
        /// The region.
        region: RegionId,
    },
    /// The deployment has no such region.
    #[error("there is no region {0}")]
    UnknownRegion(RegionId),
    /// The home does not count the target among those in sync.
    #[error("partition {partition} cannot move to {node} now: its home does not find it in sync")]
    NotInSync {
        /// The partition.
        partition: PartitionId,
        /// The target.
        node: NodeId,
    },
    /// The target would take too long to hold everything.
    #[error("partition {partition} cannot move to {node} now: it is {lag_ms} ms behind")]
    Behind {
        /// The partition.
        partition: PartitionId,
        /// The target.
        node: NodeId,
        /// How far it is behind.
        lag_ms: u64,
    },
    /// The source or the target does not answer, or says nothing of the partition.
    #[error("partition {partition} cannot move now: node {node} does not tell how it stands")]
    Unheard {
        /// The partition.
        partition: PartitionId,
        /// Who.
        node: NodeId,
    },
    /// The rows changed before it was begun, or nobody could be asked.
    #[error("partition {partition} was not moved: {why}")]
    NotBegun {
        /// The partition.
        partition: PartitionId,
        /// Why.
        why: String,
    },
}

impl WishError {
    /// Whether it may be otherwise in a moment.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::NotInSync { .. } | Self::Behind { .. } | Self::Unheard { .. })
    }
}
