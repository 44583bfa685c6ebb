//! The seam inside a node: what the edge and its peers ask of homes and replicas.
//!
//! ```text
//!   edge (WebSocket, REST) ─┐                        ┌─ Homes     writes and the bus, where this node is home
//!                           ├─ router / peer server ─┤
//!   other nodes (Peer) ─────┘                        └─ Replicas  reads, on any copy that this node holds
//! ```
//!
//! The two sides know each other by these traits only, so each is tested against a stand-in.

mod glance;
mod names;

pub use glance::{Detail, Glance, UNREAD_MAX};
pub use names::{Claim, NameOwner, NameStanding, Names};

use crate::{
    bus::{BusSink, SinkId},
    live::LiveEvent,
    reply::{Outcome, Reply},
};
use async_trait::async_trait;
use log_store::{Deduped, fold::LogState};
use std::{collections::BTreeMap, sync::Arc};
use tokio::time::Instant;
use types::{
    AckPolicy, BodyHash, DedupKey, DeviceCursor, DeviceId, Effect, EntryBody, Epoch, Generation, LogId,
    MessageId, NodeId, Offset, PartitionId, Pin, Position, Record, Refusal, RegionId, UserId,
    account::Account,
    chat::{About, Chat, Member},
};

/// One write for a log that is homed here.
#[derive(Debug, Clone)]
pub struct Write {
    /// The log.
    pub log: LogId,
    /// Where the writer believes it to be pinned.
    pub partition: PartitionId,
    /// In which generation.
    pub generation: Generation,
    /// The epoch in which the writer believes this node to be home; 0 where it does not know.
    pub epoch_hint: Epoch,
    /// Who writes.
    pub sender: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The device's name for the write.
    pub message_id: MessageId,
    /// The device's message before this one in the log, where the device wants its order kept.
    pub after: Option<MessageId>,
    /// What is written.
    pub body: EntryBody,
    /// When the body must be gone, in ms since 1970.
    pub expires_at_ms: Option<u64>,
    /// When the writer wants its ack; the chat's policy and the class of the write can make it later.
    pub ack: AckPolicy,
    /// Until when the writer waits.
    pub deadline: Instant,
    /// The region that it was written in, where another node has forwarded it; `None`: here.
    pub origin: Option<RegionId>,
    /// It stood in a log before, and is put back from an archive.
    pub salvage: Option<Salvaged>,
    /// What it says outside of its body.
    pub beside: Beside,
}

/// What a write says outside of its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// Of a message: what it is. `None`: a text that refers to nothing.
    pub about: Option<Box<About>>,
    /// Of a deletion without offsets: what it deletes. The home knows where that stands.
    pub deletes: Vec<DedupKey>,
}

/// What a write is told beside itself where it is put back from an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Of a deletion: what it deletes. The offsets in its body are those of then.
    pub targets: Vec<Target>,
    /// In which era it was written.
    pub era: (Generation, Epoch),
}

/// A message that an archived deletion deletes, wherever it stands now and whether it stands there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub key: DedupKey,
    /// The hash of its body.
    pub hash: BodyHash,
}

/// A write that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    /// Where it stands; for a retry, where the original stands.
    pub position: Position,
    /// When it was accepted, in ms since 1970.
    pub accepted_at_ms: u64,
    /// What is promised of it.
    pub ack: AckPolicy,
    /// The home's epoch.
    pub epoch: Epoch,
}

/// This node is not home of the partition; nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not home of partition {partition} (epoch {epoch})")]
pub struct NotHome {
    /// The partition.
    pub partition: PartitionId,
    /// The highest epoch known here.
    pub epoch: Epoch,
    /// Its home, as far as is known here.
    pub home: Option<NodeId>,
    /// No home can take the write yet: park it.
    pub moving: bool,
    /// The partition is homed here, but in no generation of its pin up to this one is the log written here
    /// any more: the pin is read again until a higher one is known. Zero: nothing is said of the log.
    pub closed: Generation,
}

/// Why a write has no ack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Ask the home. Nothing was written.
    #[error(transparent)]
    NotHome(#[from] NotHome),
    /// The write is refused. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was written in this epoch, and its ack is for the next home to give: ask there by its message id.
    #[error("partition {partition} was moved away from epoch {epoch}")]
    Moved {
        /// The partition.
        partition: PartitionId,
        /// The epoch that has ended.
        epoch: Epoch,
    },
    /// It may or may not be in the log.
    #[error("the outcome of the write is unknown: {why}")]
    Indeterminate {
        /// What stood in the way.
        why: &'static str,
    },
}

impl Outcome for Result<Acked, WriteError> {
    fn unanswered() -> Self {
        Err(WriteError::Indeterminate { why: "the home went down" })
    }
}

/// Where a home answers a write.
pub type WriteReply = Reply<Result<Acked, WriteError>>;

/// What a position is to this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocateAnswer {
    /// The answer itself.
    pub located: log_store::locate::Located<Position>,
    /// The last entry of the log here.
    pub head: Position,
    /// Up to where the log is known here to be replicated.
    pub replicated: Position,
    /// The era in which this is said.
    pub generation: Generation,
    /// The era in which this is said: a home's own epoch, a follower's last.
    pub epoch: Epoch,
    /// Up to which generation the log is known not to be written here any more; zero: to none.
    pub closed: Generation,
    /// The asker is no member any more, and reads nothing behind this offset: for that one the log ends there.
    pub until: Option<Offset>,
}

/// Which entries to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Those behind a position, oldest first.
    After(Position),
    /// Those before a position, newest first; `None`: from the end.
    Before(Option<Position>),
}

/// One page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In offset order, whichever direction was asked for.
    pub records: Vec<Record>,
    /// Nothing lies beyond it in the direction asked for, as far as this replica knows.
    pub at_end: bool,
    /// The highest generation in which this replica knows the log.
    pub generation: Generation,
    /// Up to which generation the log is known not to be written here any more; zero: to none.
    pub closed: Generation,
    /// The reader is no member any more, and reads nothing behind this offset: for that one the log ends there.
    pub until: Option<Offset>,
}

/// What a chat is now, for one of its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatState {
    /// Who is in it.
    pub members: Arc<BTreeMap<UserId, Member>>,
    /// What its changes add up to beside them; `None`: it is as it was created.
    pub chat: Option<Arc<Chat>>,
    /// When it was created, in ms since 1970.
    pub created_at_ms: u64,
    /// The highest generation in which this replica knows the log.
    pub generation: Generation,
    /// Up to which generation the log is known not to be written here any more; zero: to none.
    pub closed: Generation,
}

/// What a copy knows of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountAnswer {
    /// What its log adds up to; `None`: it has no entry here.
    pub account: Option<Arc<Account>>,
    /// Up to which generation the log is known not to be written here any more; zero: to none.
    pub closed: Generation,
}

/// Why a read or a position check has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefusal {
    /// This node holds no copy of the partition, or serves none of it now.
    #[error(transparent)]
    NotHere(#[from] NotHome),
    /// The position is above what this replica knows: ask the home, or again later.
    #[error("the position is ahead of this replica")]
    Ahead,
    /// The position was undone; history is shared up to `common`.
    #[error("the position was undone by a failover; history is shared up to {common}")]
    Diverged {
        /// The last shared position.
        common: Position,
    },
    /// The asker may not, or asked wrongly.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What the bus answers to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// The log's last entry: what is published comes behind it.
    pub head: Position,
    /// Up to where the log is replicated.
    pub replicated: Position,
    /// The home's epoch.
    pub epoch: Epoch,
    /// The generation in which it writes the log.
    pub generation: Generation,
}

/// The partitions whose home this node is.
#[async_trait]
pub trait Homes: Send + Sync + 'static {
    /// Writes. Writes of one device to one log take effect in the order of the calls. The reply gets the
    /// outcome once this has returned, and soon after the deadline at the latest: what is under way then is
    /// `Indeterminate`.
    ///
    /// # Errors
    /// The outcome, where it is known at once; the reply then gets nothing.
    fn append(&self, write: Write, reply: WriteReply) -> Result<(), WriteError>;

    /// Publishes to `sink` every entry of the log from now on, in order, and how far it is replicated,
    /// until the sink is dropped or [`Homes::unsubscribe`]. When this node stops being home the sink
    /// gets [`crate::bus::BusEvent::Ended`].
    async fn subscribe(
        &self,
        partition: PartitionId,
        log: LogId,
        sink: &BusSink,
    ) -> Result<Subscribed, NotHome>;

    /// Ends a subscription; one that is not there is none.
    fn unsubscribe(&self, partition: PartitionId, log: LogId, sink: SinkId);

    /// Takes an effect on a log that lies in the partition, and answers once it is `replicated`. One that was taken
    /// before is not taken again.
    ///
    /// # Errors
    /// As for a write. One of unknown outcome is to be sent again.
    async fn take_effect(&self, partition: PartitionId, effect: Effect) -> Result<(), WriteError>;

    /// In which epoch this node is home of a partition, with a lease that runs; `None`: it is not.
    fn epoch(&self, partition: PartitionId) -> Option<Epoch>;

    /// What the durable records of a log in the partition add up to; `None` where there are none.
    async fn log_state(
        &self,
        partition: PartitionId,
        log: LogId,
    ) -> Result<Option<Arc<LogState>>, ReadRefusal>;

    /// Tells those who follow a log something that is not stored. It may get lost.
    fn tell(&self, partition: PartitionId, event: Arc<LiveEvent>);

    /// Has cursors written, those that the log does not have yet. Nothing tells what became of them but the log's
    /// state, a little later.
    fn write_cursors(&self, partition: PartitionId, log: LogId, cursors: Vec<DeviceCursor>);

    /// Locates a position with a home's knowledge: never [`ReadRefusal::Ahead`], since what is above the
    /// home's own log was made up (`position_unknown`).
    async fn locate(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        position: Position,
    ) -> Result<LocateAnswer, ReadRefusal>;

    /// What an account log adds up to. All that was acked before the call is in it: a home whose lease does not
    /// run when the answer is given gives none.
    async fn account(&self, partition: PartitionId, log: LogId) -> Result<AccountAnswer, ReadRefusal>;
}

/// The partitions that this node holds a copy of, its homes included.
#[async_trait]
pub trait Replicas: Send + Sync + 'static {
    /// Whether this node holds a copy that it may serve. A returning node that is not matched with the
    /// home yet may not.
    fn serves(&self, partition: PartitionId) -> bool;

    /// Reads a page on behalf of a user.
    async fn read(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        from: ReadFrom,
        limit: usize,
    ) -> Result<Page, ReadRefusal>;

    /// Reads a page of the stretch of a log that was written here in a generation, and sealed. Who asks has
    /// judged the user, and checked the position, by the log's present stretch.
    async fn read_stretch(
        &self,
        partition: PartitionId,
        log: LogId,
        generation: Generation,
        from: ReadFrom,
        limit: usize,
    ) -> Result<Page, ReadRefusal>;

    /// The entry under a message id in the stretch of a log that was written here in a generation, and sealed.
    async fn find(
        &self,
        partition: PartitionId,
        log: LogId,
        generation: Generation,
        key: &DedupKey,
    ) -> Result<Option<Deduped>, ReadRefusal>;

    /// What an account log adds up to, as far as this copy knows.
    async fn account(&self, partition: PartitionId, log: LogId) -> Result<AccountAnswer, ReadRefusal>;

    /// How chats of a partition stand for a user, as far as this copy knows. Those that it does not have, that go on in
    /// another partition, and that the user is no member of are left out.
    async fn glance(
        &self,
        partition: PartitionId,
        user: &UserId,
        logs: &[LogId],
        detail: Detail<'_>,
    ) -> Result<Vec<Glance>, ReadRefusal>;

    /// What a chat is, as far as this replica knows.
    async fn chat(&self, partition: PartitionId, log: LogId, user: &UserId)
    -> Result<ChatState, ReadRefusal>;

    /// Locates a position with this replica's knowledge.
    async fn locate(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        position: Position,
    ) -> Result<LocateAnswer, ReadRefusal>;
}

/// What other partitions hold of logs that were re-homed to this node.
#[async_trait]
pub trait Earlier: Send + Sync + 'static {
    /// The entry under a message id in the stretches of a log below a generation, outside of one partition.
    ///
    /// # Errors
    /// A stretch could not be asked; nothing is known then.
    async fn find(
        &self,
        log: LogId,
        before: (Generation, PartitionId),
        key: &DedupKey,
    ) -> Result<Option<Deduped>, Refusal>;
}

/// Brings effects from the home of their cause to that of their target.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Returns once the effect is `replicated` at its target.
    ///
    /// # Errors
    /// It may or may not be; a refusal that is not retryable tells that it is not.
    async fn carry(&self, effect: Effect) -> Result<(), WriteError>;
}

/// Where logs are pinned. Cached by the router; a cached pin grants nothing.
#[async_trait]
pub trait Pins: Send + Sync + 'static {
    /// The pin of a log, read linearizably; `None` where it has none.
    ///
    /// # Errors
    /// `directory_unavailable`.
    async fn get(&self, log: LogId) -> Result<Option<Pin>, Refusal>;

    /// A pin that the log had a moment ago, from whichever replica of the directory is nearest; `None` where that
    /// tells of none. It says where to ask: where the log is no longer written there, one is told so.
    async fn look_up(&self, log: LogId) -> Option<Pin>;

    /// Pins a log that a user opens in `region`, or answers the pin that it has.
    ///
    /// # Errors
    /// `directory_unavailable`, or `unknown_region` where no partition satisfies the residency.
    async fn pin(&self, log: LogId, region: &RegionId, allowed_regions: &[RegionId]) -> Result<Pin, Refusal>;
}
