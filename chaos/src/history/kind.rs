//! The kinds of event, and what they say.

use super::{BodySum, Device, Fault, Log, Message, Move, Node, Region, Session};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{
    Code, DeviceId, Epoch, Incarnation, LogId, Lsn, MessageId, NodeId, Offset, PartitionId,
    PartitionPosition, Position, RegionId, UserId,
};

/// How far a write was when it was acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// Fsynced in the home region.
    Home,
    /// Durable in every in-sync region.
    Replicated,
}

/// What a device does about a write of which it has not heard the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resends {
    /// It is in an outbox, and sent again until it is replicated.
    UntilReplicated,
    /// It is sent once.
    Never,
}

/// What a reader was told about its place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Its position stands; what follows it comes next.
    Continue,
    /// History is shared up to this offset only; what follows it comes next.
    Diverged {
        /// The offset.
        common: u64,
    },
    /// It did not keep up; it reads on from its own position.
    Lagged,
}

/// How a planned move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveEnd {
    /// The target is home.
    Moved,
    /// The source is home again.
    Aborted,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "snake_case")]
pub enum Kind {
    // ---- names
    /// Names a region.
    Region {
        /// Its number.
        region: Region,
        /// Its name.
        id: RegionId,
    },
    /// Names a node.
    Node {
        /// Its number.
        node: Node,
        /// Its region.
        region: Region,
        /// Its name.
        id: NodeId,
    },
    /// Names a log.
    Log {
        /// Its number.
        log: Log,
        /// Its id.
        id: LogId,
    },
    /// Names a device.
    Device {
        /// Its number.
        device: Device,
        /// Where it is.
        region: Region,
        /// Whose it is.
        user: UserId,
        /// The user's name for it.
        id: DeviceId,
    },
    /// Names a session of a device.
    Session {
        /// Its number.
        session: Session,
        /// Its device.
        device: Device,
    },
    /// Names a message.
    Message {
        /// Its number.
        message: Message,
        /// Its log.
        log: Log,
        /// The device that wrote it.
        device: Device,
        /// The device's name for it.
        id: MessageId,
    },
    /// From this offset on a log is written in this partition.
    Pinned {
        /// The log.
        log: Log,
        /// The pin generation.
        generation: u32,
        /// The partition.
        partition: PartitionId,
        /// The first offset of the generation.
        first_offset: u64,
    },

    // ---- writes
    /// By this message, if it is in its log, a user becomes a member of the chat, or is none any more. Before the
    /// message is invoked.
    Membership {
        /// The message.
        message: Message,
        /// Whose.
        user: UserId,
        /// What the user is then.
        is_member: bool,
    },
    /// This message, if it is in its log, deletes another. Before it is invoked.
    Deletion {
        /// The message.
        message: Message,
        /// What it deletes.
        deleted: Message,
    },
    /// A device begins a write. Once for each message.
    Invoke {
        /// The message.
        message: Message,
        /// A hash of its body.
        body: BodySum,
        /// The device's message that it names as the one before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Message>,
        /// What the device does when it does not hear the end of it.
        resends: Resends,
    },
    /// The write was acked. At most once for each level and position.
    Ok {
        /// The message.
        message: Message,
        /// Where it stands.
        #[serde(with = "super::triple")]
        at: Position,
        /// At which level.
        ack: Ack,
        /// The epoch of the home that acked, where that is known; `at` may be of an earlier one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<Epoch>,
        /// When the ack passed the home's lease check, in µs on the run's clock, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        passed_us: Option<u64>,
        /// The home's wall clock when it accepted the write; 0 where that is not known.
        #[serde(default, skip_serializing_if = "is_zero")]
        accepted_at_ms: u64,
    },
    /// The write was refused, which proves that it is not in the log and never will be.
    Fail {
        /// The message.
        message: Message,
        /// Why.
        code: Code,
    },
    /// Nothing is known of the write, or it was refused in a way that proves nothing.
    Indeterminate {
        /// The message.
        message: Message,
        /// What was answered, where something was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
    },
    /// A device is gone for good, and with it what was in its outbox.
    DeviceLost {
        /// The device.
        device: Device,
    },

    // ---- readers
    /// A session begins to follow a log behind a position: the first entry that it sees is the next one. A
    /// session that follows the log already starts anew, and what it saw before is forgotten.
    Follow {
        /// The session.
        session: Session,
        /// The log.
        log: Log,
        /// Where it stands.
        #[serde(with = "super::triple")]
        from: Position,
    },
    /// A session was given an entry.
    Seen {
        /// The session.
        session: Session,
        /// The log.
        log: Log,
        /// Where it stands.
        #[serde(with = "super::triple")]
        at: Position,
        /// What stands there.
        message: Message,
        /// A hash of its body.
        body: BodySum,
        /// It is marked as one that salvage brought back.
        #[serde(default, skip_serializing_if = "is_false")]
        salvaged: bool,
    },
    /// A device was given an entry in a page of history.
    Paged {
        /// The device.
        device: Device,
        /// The log.
        log: Log,
        /// Where it stands.
        #[serde(with = "super::triple")]
        at: Position,
        /// What stands there.
        message: Message,
        /// A hash of its body.
        body: BodySum,
    },
    /// A session was told about its place in a log.
    Told {
        /// The session.
        session: Session,
        /// The log.
        log: Log,
        /// What.
        told: Told,
    },
    /// A session is over: it will be told nothing more.
    Ended {
        /// The session.
        session: Session,
    },
    /// A session was told that the log is replicated up to a position, which the session holds.
    ReplicatedUpTo {
        /// The session.
        session: Session,
        /// The log.
        log: Log,
        /// Up to and including.
        #[serde(with = "super::triple")]
        at: Position,
    },

    /// A session has told that its user has read up to an entry, which it holds.
    Marked {
        /// The session.
        session: Session,
        /// The log.
        log: Log,
        /// Up to and including.
        #[serde(with = "super::triple")]
        at: Position,
    },

    // ---- placement
    /// A partition has a new home, as the directory tells.
    Placed {
        /// The partition.
        partition: PartitionId,
        /// The epoch that begins.
        epoch: Epoch,
        /// The home.
        node: Node,
        /// Its boot.
        incarnation: Incarnation,
        /// The first LSN of the epoch.
        start_lsn: Lsn,
    },
    /// A home has published a watermark: up to this LSN the partition is durable on every in-sync member.
    Watermark {
        /// The partition.
        partition: PartitionId,
        /// The home's epoch.
        epoch: Epoch,
        /// The home.
        node: Node,
        /// Up to and including.
        lsn: Lsn,
    },

    // ---- what was done to the deployment
    /// A fault begins.
    FaultBegan {
        /// Its number.
        fault: Fault,
        /// What it is, for people.
        what: String,
        /// Whose homes it takes away, where it does: the partitions homed there are affected.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        regions: Vec<Region>,
    },
    /// A fault is over.
    FaultEnded {
        /// Its number.
        fault: Fault,
    },
    /// A planned move of a partition begins.
    MoveBegan {
        /// Its number.
        #[serde(rename = "move")]
        moving: Move,
        /// The partition.
        partition: PartitionId,
        /// Its home so far.
        from: Node,
        /// Its home to be.
        to: Node,
    },
    /// A planned move is over.
    MoveEnded {
        /// Its number.
        #[serde(rename = "move")]
        moving: Move,
        /// How.
        end: MoveEnd,
    },
    /// A node's disk is lost for good.
    DiskLost {
        /// The node.
        node: Node,
    },
    /// Nothing is broken any more, nobody writes, and what follows is the final state.
    Healed,
    /// For people.
    Note {
        /// Anything.
        text: String,
    },

    // ---- the final state
    /// A replica's last record of a partition, after healing.
    FinalPartition {
        /// The replica.
        node: Node,
        /// The partition.
        partition: PartitionId,
        /// Its last record.
        last: PartitionPosition,
    },
    /// A replica's copy of a log, after healing: so many entries, of this hash (see [`LogSum`]). Its entries
    /// follow as [`Kind::Held`] at least at one replica, and at every one whose hash differs.
    FinalLog {
        /// The replica.
        node: Node,
        /// The log.
        log: Log,
        /// How many entries it has.
        entries: u64,
        /// Over all of them.
        sum: u64,
    },
    /// One entry of a replica's copy of a log, after healing; in the order in which the replica tells them.
    Held {
        /// The replica.
        node: Node,
        /// The log.
        log: Log,
        /// Where.
        #[serde(with = "super::triple")]
        at: Position,
        /// What.
        message: Message,
        /// A hash of its body.
        body: BodySum,
    },
    /// How far a replica knows users to have read a log, after healing, on whichever device; of others it knows nothing.
    FinalMarks {
        /// The replica.
        node: Node,
        /// The log.
        log: Log,
        /// Up to and including this offset.
        read: BTreeMap<UserId, Offset>,
    },
    /// A replica has archived an entry that it had to cut off.
    Archived {
        /// The replica.
        node: Node,
        /// Where the entry stood.
        #[serde(with = "super::triple")]
        at: Position,
        /// The entry.
        message: Message,
        /// It is durably listed as one that was not brought back, for this reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
}

const fn is_zero(value: &u64) -> bool {
    *value == 0
}

const fn is_false(value: &bool) -> bool {
    !*value
}
