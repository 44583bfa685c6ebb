//! What a log's records add up to, as one partition hands it to the next when the log is re-homed.

use crate::{
    AckPolicy, DeviceCursor, DeviceId, Epoch, Generation, LogId, MessageId, Offset, PendingEffect, Position,
    RegionId, RehomeId, UserId,
    account::Account,
    chat::{Chat, Member},
};
use std::sync::Arc;

/// Where an era, a (generation, epoch), begins in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EraBegin {
    /// The pin generation.
    pub generation: Generation,
    /// The partition's epoch.
    pub epoch: Epoch,
    /// The offset of its first entry.
    pub first_offset: Offset,
}

/// One device that has written to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMark {
    /// Whose.
    pub sender: UserId,
    /// Which.
    pub device: DeviceId,
    /// The id of its last entry.
    pub latest: MessageId,
    /// None of its entries has a higher id.
    pub highest: MessageId,
    /// The offset of its last entry.
    pub offset: Offset,
}

/// The fold of a log up to where its former partition sealed it. At most
/// [`crate::limits::IMPORT_MAX_BYTES`] encoded.
///
/// It holds no entry: those stay where they were written, and are found through the pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The re-homing that brings it.
    pub rehome: RehomeId,
    /// The last entry; the next one follows it.
    pub head: Position,
    /// The eras that the log has entries of, oldest first.
    pub eras: Vec<EraBegin>,
    /// The `accepted_at` of the first entry, in ms since 1970.
    pub created_at_ms: u64,
    /// The `accepted_at` of the last entry, in ms since 1970.
    pub head_at_ms: u64,
    /// The `accepted_at` of the last record, in ms since 1970.
    pub accepted_at_ms: u64,
    /// Who may read and write, by name.
    pub members: Vec<(UserId, Member)>,
    /// When content is acked.
    pub ack_policy: AckPolicy,
    /// The regions that may hold the log; empty means all.
    pub allowed_regions: Vec<RegionId>,
    /// What an account log says of its user; `None` in a chat.
    pub account: Option<Arc<Account>>,
    /// What the changes of a chat add up to; `None`: it is as it was created.
    pub chat: Option<Arc<Chat>>,
    /// Up to where each device has received and read.
    pub cursors: Vec<DeviceCursor>,
    /// The newest message ids of the devices that write, ascending by device and sender.
    pub devices: Vec<DeviceMark>,
    /// No entry of a device that is not among `devices` has a higher message id.
    pub devices_floor: MessageId,
    /// What its entries have caused elsewhere and is not known to be `replicated` there, in the order of the causes.
    pub effects: Vec<PendingEffect>,
    /// Of what other logs have done to it, wherever it was written then, the last cause of each.
    pub causes: Vec<(LogId, Position)>,
}
