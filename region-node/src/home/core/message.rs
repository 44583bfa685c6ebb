//! What is said to a home's core, and what it says.

use super::{
    Arrival, EffectOutcome, FollowWhen, FollowerView, Handed, Membership, Need, Pressure, Proposal,
    ProposalOutcome, Rehoming,
};
use crate::{
    bus::Published,
    clock::Now,
    service::{Acked, NotHome, Subscribed, Write, WriteError},
};
use host::planted::{Bug, is_planted};
use log_store::{AppendError, Deduped, PartitionEnd, fold::LogState};
use std::sync::Arc;
use types::{
    DedupKey, DeviceCursor, Effect, EffectTarget, Epoch, Generation, LogId, Lsn, MoveId, PartitionId,
    PartitionPosition, Pin, Position, Record, Refusal, RegionId, Replica,
};

/// Names a call, so that its answer finds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// When something is said to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The clocks.
    pub now: Now,
    /// Until when the lease runs, on the boot clock.
    pub lease_until_ms: u64,
}

impl Context {
    pub(super) fn leased(&self) -> bool {
        self.now.boot_ms < self.lease_until_ms || is_planted(Bug::TrustCachedRoute)
    }
}

/// What the home begins with.
#[derive(Debug, Clone)]
pub struct Open {
    /// The partition.
    pub partition: PartitionId,
    /// The epoch in which this node is home.
    pub epoch: Epoch,
    /// This node with its store.
    pub me: Replica,
    /// Where the store's copy ends, read after it was fenced at `epoch`.
    pub end: PartitionEnd,
    /// Where the epoch began, as the directory has it.
    pub start_lsn: Lsn,
    /// Up to where the partition is known to be replicated: what a former home told this node.
    pub watermark: Lsn,
    /// The row.
    pub row: Row,
    /// How far a follower may be behind before it is taken out of the in-sync set, in ms.
    pub isr_lag_ms: u64,
    /// How far the in-sync set itself may be behind before writers are slowed, in ms.
    pub isr_pressure_ms: u64,
    /// When a log is to follow those who write it.
    pub follow_when: FollowWhen,
    /// The logs that have effects pending.
    pub effect_logs: Vec<LogId>,
    /// The most members of a chat.
    pub members_max: usize,
}

/// What of the partition's row matters to its home while it is home.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// A former home's lease may still run: nothing is acked.
    pub waiting: bool,
    /// The partition is being moved away, by this move.
    pub moving: Option<MoveId>,
    /// Who holds the partition.
    pub membership: Membership,
}

/// What the store and the directory said of a log; each part is there if it was needed.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The folded state.
    pub state: Option<Option<Arc<LogState>>>,
    /// The first entry.
    pub first: Option<Record>,
    /// The pin.
    pub pin: Option<Result<Option<Pin>, Refusal>>,
    /// What stands under message ids.
    pub found: Vec<(DedupKey, Option<Deduped>)>,
    /// Message ids that an earlier stretch of the log could not be asked for.
    pub failed: Vec<(DedupKey, Refusal)>,
}

/// Why a batch was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A later epoch is obeyed. Nothing was written.
    Fenced,
    /// The store has no room just now. Nothing was written.
    Busy,
    /// Anything else: the store has closed, or home and store disagree about where the log ends.
    Broken,
}

impl From<&AppendError> for Failure {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::Fenced { .. } => Self::Fenced,
            error if error.is_retryable() => Self::Busy,
            _ => Self::Broken,
        }
    }
}

/// What is said to the core.
#[derive(Debug)]
pub enum Input {
    /// Somebody writes.
    Append {
        /// Names the call.
        ticket: Ticket,
        /// The write.
        write: Box<Write>,
        /// Until when its answer is of use, on the boot clock.
        deadline_ms: u64,
    },
    /// Somebody follows a log.
    Subscribe {
        /// Names the call.
        ticket: Ticket,
        /// The log.
        log: LogId,
    },
    /// Nobody follows a log any more.
    Unsubscribe {
        /// The log.
        log: LogId,
    },
    /// The directory re-homes a log: from here, or to here.
    Rehome(Box<Rehoming>),
    /// A log here is the target of an effect.
    Effect(Box<Arrival>),
    /// Members have received and read more of a log. Not answered.
    Cursors {
        /// The log.
        log: LogId,
        /// How far they have come; at most [`types::limits::CURSORS_PER_UPDATE_MAX`].
        cursors: Vec<DeviceCursor>,
    },
    /// The answer to [`Output::SendEffect`].
    EffectAnswered {
        /// The log of its cause.
        log: LogId,
        /// Its target.
        target: EffectTarget,
        /// Its cause.
        cause: Position,
        /// What became of it.
        outcome: EffectOutcome,
    },
    /// The answer to [`Output::Load`].
    Loaded {
        /// The log.
        log: LogId,
        /// Echoed.
        as_of: Lsn,
        /// The answers; or why there are none.
        loaded: Box<Result<Loaded, Refusal>>,
    },
    /// A batch is durable.
    Durable {
        /// Its last record.
        last: PartitionPosition,
    },
    /// A batch failed.
    AppendFailed {
        /// The LSN of its first record.
        first: Lsn,
        /// Why.
        failure: Failure,
    },
    /// A follower tells what it holds.
    Report {
        /// Who.
        replica: Replica,
        /// The highest epoch that it obeys.
        obeys: Epoch,
        /// Its last durable record.
        last: PartitionPosition,
    },
    /// What became of a proposal.
    Proposed {
        /// Which.
        number: u64,
        /// What became of it.
        outcome: ProposalOutcome,
    },
    /// The answer to [`Output::Follow`].
    FollowAnswered {
        /// The log.
        log: LogId,
        /// Before this it is of no use to ask again.
        retry_after_ms: u64,
    },
    /// The row has changed, and still names this home in this epoch.
    Row(Row),
    /// Time has passed.
    Tick,
    /// This node is no longer home.
    Stop(EndReason),
}

/// Why an epoch ended at this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The directory refused a renewal: another boot, or none, is this node's current one.
    LeaseRefused,
    /// The row names another home or epoch.
    RowMoved,
    /// The store obeys a later epoch.
    Fenced,
    /// The store failed.
    StoreFailed,
    /// The node goes down.
    Shutdown,
}

impl EndReason {
    /// In words, for those whose writes are of unknown outcome.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LeaseRefused => "the home's lease was taken away",
            Self::RowMoved => "the partition has another home",
            Self::Fenced => "the partition was fenced",
            Self::StoreFailed => "the home's store failed",
            Self::Shutdown => "the home went down",
        }
    }
}

/// What the core wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Ask the store, and for a pin the directory; answer with [`Input::Loaded`].
    Load {
        /// About this log.
        log: LogId,
        /// To be echoed.
        as_of: Lsn,
        /// What to ask.
        need: Need,
    },
    /// Append a batch, obeying this epoch; batches take effect in this order.
    Write(Vec<Record>),
    /// These records have become durable: followers may have them.
    Durable {
        /// In LSN order.
        records: Vec<Record>,
        /// Where the log ends now.
        end: PartitionPosition,
    },
    /// The watermark has moved.
    Watermark(Lsn),
    /// Answer a write, at once.
    Reply {
        /// Which.
        ticket: Ticket,
        /// How it ended.
        result: Result<Acked, WriteError>,
    },
    /// Answer a subscription.
    Subscribed {
        /// Which.
        ticket: Ticket,
        /// The log.
        log: LogId,
        /// Where publishing begins.
        result: Result<Subscribed, NotHome>,
    },
    /// A step of a re-homing, or an effect, is replicated.
    Rehomed {
        /// Which.
        ticket: Ticket,
        /// What is handed on.
        handed: Handed,
    },
    /// A log is written elsewhere from this generation on: whoever follows it is to follow it there.
    Moved {
        /// The log.
        log: LogId,
        /// The generation.
        generation: Generation,
    },
    /// Tell the directory that a log is mostly written from another region; answer with [`Input::FollowAnswered`].
    Follow(Follow),
    /// Have an effect carried out by the home of its target; answer with [`Input::EffectAnswered`].
    SendEffect(Box<Effect>),
    /// Publish an entry of a followed log.
    Publish(Arc<Published>),
    /// A followed log is replicated up to here.
    Replicated {
        /// The log.
        log: LogId,
        /// Its last replicated entry.
        position: Position,
    },
    /// Propose an in-sync set to the directory.
    Propose(Proposal),
    /// The epoch has ended here; nothing follows.
    Ended(EndReason),
}

/// A log that is mostly written from another region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// The log.
    pub log: LogId,
    /// In which generation it is written here.
    pub generation: Generation,
    /// Where it is written from.
    pub region: RegionId,
    /// The regions that may hold it; empty means all.
    pub allowed_regions: Vec<RegionId>,
}

/// What an operator sees of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The last durable record.
    pub last: PartitionPosition,
    /// Up to where all is replicated.
    pub watermark: Lsn,
    /// Content acked at `home` and not replicated.
    pub at_risk: u64,
    /// For how long the member of the in-sync set that is furthest behind has lacked something.
    pub isr_lag_ms: u64,
    /// How hard writers are pushed back.
    pub pressure: Pressure,
    /// The followers.
    pub followers: Vec<FollowerView>,
}
