//! What a pump is told, and what it wants said.

use proto::node::Batch;
use std::time::Duration;
use types::{Epoch, Lsn, NodeId, PartitionPosition};

/// Where a partition is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) home: NodeId,
    pub(crate) epoch: Epoch,
}

/// What a pump is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// The placement names a home, or none; `up` tells whether a stream to that home is there.
    Route {
        route: Option<Route>,
        up: bool,
    },
    /// The stream to the follower is there; nothing said on a former one will be answered.
    FollowUp,
    FollowDown,
    /// The stream to the route's home is there.
    FetchUp,
    FetchDown,
    Follow(Followed),
    Fetch(Fetched),
    /// Time has passed.
    Tick,
}

/// The follower's answer.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) fence: Epoch,
    pub(crate) last: PartitionPosition,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Fenced,
    Gap,
    Refused { why: String, retry_after: Option<Duration> },
}

/// The home's word.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) epoch: Epoch,
    pub(crate) reply: Reply,
}

#[derive(Debug)]
pub(crate) enum Reply {
    Batch(Batch),
    /// Of a follower whose last record is `judged`; a home may leave it out.
    Diverged {
        common: PartitionPosition,
        judged: Option<PartitionPosition>,
    },
    NotHome,
    Refused {
        why: String,
        retry_after: Option<Duration>,
    },
}

/// What a pump wants said.
#[derive(Debug)]
pub(crate) enum Output {
    ToFollower {
        epoch: Epoch,
        say: Say,
    },
    ToHome(Fetch),
    /// Worth a line in the log.
    Note(Note),
}

#[derive(Debug)]
pub(crate) enum Say {
    Probe,
    /// Records of so many bytes, or none and a watermark.
    Batch {
        batch: Batch,
        bytes: usize,
    },
    /// Cut off what is behind `common`, if `judged` is still the last record.
    Truncate {
        common: PartitionPosition,
        judged: PartitionPosition,
    },
}

/// Match check, durability report and credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) epoch: Epoch,
    pub(crate) last: PartitionPosition,
    pub(crate) credit_bytes: u32,
    pub(crate) restart: bool,
}

impl Fetch {
    /// Takes the place of a fetch that was not sent yet.
    pub(crate) fn replaces(self, unsent: Self) -> Self {
        Self { restart: self.restart || unsent.restart, ..self }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    Diverged { last: PartitionPosition, common: PartitionPosition },
    Fenced { fence: Epoch },
    Trouble(Trouble),
}

/// Why a pump waits before it asks again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the node that should be home says that it is not")]
    NotHome,
    #[error("the home refuses: {0}")]
    HomeRefuses(String),
    #[error("the follower refuses: {0}")]
    FollowerRefuses(String),
    #[error("the follower holds {last}, other than it was handed")]
    Gap { last: PartitionPosition },
    #[error("the home left a hole behind {sent}")]
    Hole { sent: PartitionPosition },
    #[error("the home sent more than its credit")]
    OverCredit,
    #[error("the home sent a batch that does not hold together at {lsn}")]
    Incoherent { lsn: Lsn },
    #[error("the home calls {common} the last shared record, and the follower's last is {last}")]
    NotDiverged { common: PartitionPosition, last: PartitionPosition },
    #[error("the follower still holds {last}, and was told to cut it off")]
    NotCut { last: PartitionPosition },
    #[error("a question was not answered")]
    NoAnswer,
}
