//! What the lanes are told, and what they say.

use crate::{
    peer::Channel,
    service::{Acked, WriteError},
};
use types::{
    DeviceId, Epoch, Generation, LogId, MessageId, NodeId, PartitionId, PinSegment, Refusal, UserId,
};

/// Whose order is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) log: LogId,
    pub(crate) sender: UserId,
    pub(crate) device: DeviceId,
}

/// Where a home can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) node: NodeId,
    pub(crate) channel: Channel,
    pub(crate) epoch: Epoch,
}

/// What the placement says. It grants nothing: the home decides.
pub(crate) trait Routes {
    /// The home that can take writes now.
    fn route(&self, partition: PartitionId) -> Option<Route>;
    /// The home that is to come, where a planned move is under way: it holds writes until it is home.
    fn next(&self, partition: PartitionId) -> Option<Route>;
    /// The partition's epoch.
    fn epoch(&self, partition: PartitionId) -> Epoch;
}

/// Names one sending of one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) lane: LaneKey,
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
}

/// A write that is handed in.
#[derive(Debug)]
pub(crate) struct Submission<W, R> {
    pub(crate) lane: LaneKey,
    /// Where the log is written, if that is known already.
    pub(crate) pin: Option<PinSegment>,
    pub(crate) message_id: MessageId,
    pub(crate) after: Option<MessageId>,
    pub(crate) deadline_ms: u64,
    pub(crate) write: W,
    pub(crate) reply: R,
}

#[derive(Debug)]
pub(crate) enum Input<W, R> {
    Submit(Submission<W, R>),
    /// Where the lane's log is written, or why that is not known.
    Resolved(LaneKey, Result<PinSegment, Refusal>),
    /// A home has spoken, or its stream broke (`Indeterminate`).
    Answered(Ticket, Result<Acked, WriteError>),
    /// It did not leave this node.
    NotSent(Ticket),
    /// The placement or a stream has changed.
    RoutesChanged,
    Tick,
}

#[derive(Debug)]
pub(crate) enum Output<W, R> {
    /// Find the pin of the lane's log, if there is one above a generation that is closed.
    Resolve(LaneKey, Generation),
    /// To be sent in the order of the outputs.
    Send {
        ticket: Ticket,
        route: Route,
        pin: PinSegment,
        write: W,
    },
    Finish {
        reply: R,
        result: Result<Acked, Refusal>,
    },
}
