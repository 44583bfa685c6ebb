//! What stands in a chat.

use crate::{ChatChange, Position, Reference};
use bytes::Bytes;
use proto::client as wire;
use serde::{Deserialize, Serialize};
use types::{AckPolicy, DeviceId, IdError, MessageId, UserId, chat::MessageKind};

/// One entry of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place; to be handed back to the server.
    pub position: Position,
    /// Its place for people: 1, 2, 3 … in every chat. After a failover the same offset can hold another entry.
    pub offset: u64,
    /// Who wrote it.
    pub sender: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The sending device's name for it. It stays when a failover moves the entry to another position.
    pub message_id: MessageId,
    /// The home's wall clock, ms since 1970. For people, not for order.
    pub accepted_at_ms: u64,
    /// When its body will be gone, ms since 1970.
    pub expires_at_ms: Option<u64>,
    /// A failover undid it where it stood first, and it came back from the store that held it, to this position.
    pub salvaged: bool,
    /// Of a message: which kind it is. A kind of a newer server is a text.
    pub kind: MessageKind,
    /// Of a message: what it replies to, reacts to or edits.
    pub refers_to: Option<Reference>,
    /// What it says.
    pub body: EntryBody,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryBody {
    /// The chat began, with these members.
    Created {
        /// Who may read and write.
        members: Vec<UserId>,
        /// When a message of this chat counts as acked.
        ack: AckPolicy,
    },
    /// A message.
    Message(Bytes),
    /// The chat changed.
    Changed(ChatChange),
    /// The bodies at these offsets were deleted.
    Deleted(Vec<u64>),
    /// A message whose body was deleted or has expired.
    Erased,
    /// Something that a newer server knows; it takes its offset and can be skipped.
    Unknown,
}

/// The server sent an entry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {offset}: {source}")]
pub struct UnreadableEntry {
    offset: u64,
    source: IdError,
}

impl TryFrom<wire::Entry> for Entry {
    type Error = UnreadableEntry;
    fn try_from(entry: wire::Entry) -> Result<Self, UnreadableEntry> {
        let unreadable = |source| UnreadableEntry { offset: entry.offset, source };
        let body = match entry.body {
            Some(wire::entry::Body::Created(created)) => EntryBody::Created {
                members: created
                    .members
                    .iter()
                    .map(|member| UserId::new(&member.user))
                    .collect::<Result<_, _>>()
                    .map_err(unreadable)?,
                // What a newer server may name is at least that.
                ack: proto::ack_policy_from_client(created.ack_policy).unwrap_or_default(),
            },
            Some(wire::entry::Body::Ciphertext(ciphertext)) => EntryBody::Message(ciphertext),
            Some(wire::entry::Body::Chat(change)) => {
                EntryBody::Changed(change.try_into().map_err(unreadable)?)
            }
            Some(wire::entry::Body::Deleted(deleted)) => EntryBody::Deleted(deleted.offsets),
            Some(wire::entry::Body::Erased(_)) => EntryBody::Erased,
            // The session follows chats only.
            Some(wire::entry::Body::Account(_)) | None => EntryBody::Unknown,
        };
        Ok(Self {
            position: entry.position.into(),
            offset: entry.offset,
            sender: UserId::new(&entry.sender).map_err(unreadable)?,
            device: DeviceId::new(entry.device),
            message_id: entry.message_id.parse().map_err(unreadable)?,
            accepted_at_ms: entry.accepted_at_ms,
            expires_at_ms: entry.expires_at_ms,
            salvaged: entry.salvaged,
            kind: proto::parse_kind("kind", &entry.kind).unwrap_or_default(),
            refers_to: entry.refers_to.map(Reference::try_from).transpose().map_err(unreadable)?,
            body,
        })
    }
}

/// What makes an entry one entry, wherever it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EntryKey {
    /// Who wrote it.
    pub sender: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The device's name for it.
    pub message_id: MessageId,
}

impl TryFrom<wire::Reference> for EntryKey {
    type Error = IdError;
    fn try_from(wire: wire::Reference) -> Result<Self, IdError> {
        let (sender, device) = (UserId::new(&wire.sender)?, DeviceId::new(wire.device));
        Ok(Self { sender, device, message_id: wire.message_id.parse()? })
    }
}

impl Entry {
    /// What makes it one entry.
    pub fn key(&self) -> EntryKey {
        EntryKey { sender: self.sender.clone(), device: self.device, message_id: self.message_id }
    }
}
