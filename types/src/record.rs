//! What a partition log holds.
//!
//! A record is either an *entry* (it has an offset and clients see it) or a *state update* (it has no
//! offset and only changes what is folded from the log). Bodies of messages are ciphertext: nothing in
//! Hearth looks into them.

use crate::{
    DeviceCursor, DeviceId, Effect, EffectTarget, Epoch, Generation, Import, LogId, Lsn, MessageId, MoveId,
    Offset, PartitionPosition, Position, RegionId, RehomeId, UserId,
    account::AccountChange,
    chat::{About, ChatChange},
};
use bytes::Bytes;
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// One record of a partition log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition, dense from 1.
    pub lsn: Lsn,
    /// The epoch of the home that wrote it; kept when it is copied.
    pub epoch: Epoch,
    /// The pin generation of its log.
    pub generation: Generation,
    /// Its log.
    pub log: LogId,
    /// The home's wall clock, in ms since 1970, never going back within a log. For people, not for order.
    pub accepted_at_ms: u64,
    /// What it says.
    pub body: Body,
}

impl Record {
    /// Its (epoch, LSN).
    pub const fn partition_position(&self) -> PartitionPosition {
        PartitionPosition::new(self.epoch, self.lsn)
    }

    /// Its (generation, epoch, offset), where it is an entry.
    pub fn position(&self) -> Option<Position> {
        match &self.body {
            Body::Entry(entry) => Some(Position::new(self.generation, self.epoch, entry.offset)),
            Body::Update(_) => None,
        }
    }

    /// Whether it is the last record of its epoch, and by which move.
    pub const fn sealed_by(&self) -> Option<MoveId> {
        match &self.body {
            Body::Update(StateUpdate::Seal { move_id }) => Some(*move_id),
            Body::Update(_) | Body::Entry(_) => None,
        }
    }

    /// Its entry, where it is one.
    pub const fn entry(&self) -> Option<&Entry> {
        match &self.body {
            Body::Entry(entry) => Some(entry),
            Body::Update(_) => None,
        }
    }
}

/// The two kinds of record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Has an offset; clients see it.
    Entry(Entry),
    /// Has none.
    Update(StateUpdate),
}

/// What clients see at one offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log, dense from 1.
    pub offset: Offset,
    /// Who wrote it.
    pub sender: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The device's name for it.
    pub message_id: MessageId,
    /// When its body must be gone, in ms since 1970; absolute, set at the first accept.
    pub expires_at_ms: Option<u64>,
    /// It was written before, at a position that a failover undid, and put back from there by salvage.
    pub salvaged: bool,
    /// Of a message: what it is beside its body. `None`: a text that refers to nothing.
    pub about: Option<Box<About>>,
    /// What it says.
    pub body: EntryBody,
}

impl Entry {
    /// The key under which a retry finds it.
    pub fn dedup_key(&self) -> DedupKey {
        DedupKey { sender: self.sender.clone(), device: self.device, message_id: self.message_id }
    }
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryBody {
    /// The chat begins: always a log's first entry. Control.
    Created {
        /// Who may read and write.
        members: Vec<(UserId, MemberRole)>,
        /// When a message counts as acked.
        ack_policy: AckPolicy,
        /// The regions that may hold the chat; empty means all.
        allowed_regions: Vec<RegionId>,
    },
    /// A message: ciphertext. Content.
    Message {
        /// At most [`crate::limits::BODY_MAX_BYTES`].
        ciphertext: Bytes,
    },
    /// A user's account changes. In account logs only. Control.
    Account(Box<AccountChange>),
    /// The chat changes: its members, its terms, its invites. Control.
    Chat(Box<ChatChange>),
    /// The bodies at these offsets are erased, from every store. Control.
    Deleted {
        /// Offsets below this entry's own; ascending, without repeats.
        offsets: Vec<Offset>,
    },
    /// A message whose body was deleted or has expired. Its hash stays, so that a retry is still recognised.
    Erased {
        /// The hash of the body that was.
        hash: BodyHash,
    },
}

impl EntryBody {
    /// Whether the server acks it at `home` or only at `replicated`.
    pub const fn class(&self) -> Class {
        match self {
            Self::Message { .. } | Self::Erased { .. } => Class::Content,
            Self::Created { .. } | Self::Deleted { .. } | Self::Account(_) | Self::Chat(_) => Class::Control,
        }
    }

    /// The hash by which a retry with another body is told from a true retry; an erased body keeps its own.
    pub fn hash(&self) -> BodyHash {
        let mut hash = Xxh3::new();
        match self {
            Self::Erased { hash } => return *hash,
            Self::Message { ciphertext } => {
                hash.update(b"m");
                hash.update(ciphertext);
            }
            Self::Created { members, ack_policy, allowed_regions } => {
                hash.update(b"c");
                hash.update(&[*ack_policy as u8]);
                for (user, role) in members {
                    hash_text(&mut hash, user.as_str());
                    hash.update(&[*role as u8]);
                }
                hash.update(b"/");
                for region in allowed_regions {
                    hash_text(&mut hash, region.as_str());
                }
            }
            Self::Account(change) => {
                hash.update(b"a");
                change.feed(&mut hash);
            }
            Self::Chat(change) => {
                hash.update(b"g");
                change.feed(&mut hash);
            }
            Self::Deleted { offsets } => {
                hash.update(b"d");
                for offset in offsets {
                    hash.update(&offset.get().to_be_bytes());
                }
            }
        }
        BodyHash(hash.digest128().to_be_bytes())
    }
}

fn hash_text(hash: &mut Xxh3, text: &str) {
    hash.update(&(text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

/// XXH3-128 of a body: tells apart two bodies under one message id. No protection against forgery.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyHash(pub [u8; 16]);

impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MemberRole {
    /// Reads and writes.
    Member = 1,
    /// Also removes members, changes the chat, and deletes what others wrote.
    Admin = 2,
    /// Also changes the roles.
    Owner = 3,
}

/// When a content write is acked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AckPolicy {
    /// When it is fsynced in the home region.
    #[default]
    Home = 1,
    /// When it is durable in every in-sync region.
    Replicated = 2,
}

/// The two classes of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Messages and receipts: acked at `home`, or at `replicated` where the chat's policy says so.
    Content,
    /// Creation, membership, deletion, keys …: acked only at `replicated`.
    Control,
}

/// A change of the folded state that clients see only through its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateUpdate {
    /// The log ends here in its generation: it is being re-homed. The partition writes it again only in a
    /// higher one.
    LogSealed {
        /// By which re-homing.
        rehome: RehomeId,
    },
    /// The log goes on here, in the record's generation, behind what another partition held of it.
    LogImported(Box<Import>),
    /// Devices have received and read up to offsets; merged by maximum. At most
    /// [`crate::limits::CURSORS_PER_UPDATE_MAX`].
    Cursors(Vec<DeviceCursor>),
    /// What an entry of another log, or one that another partition holds, does to this log here. It is taken
    /// behind a seal too.
    Effect(Box<Effect>),
    /// What the log's own entries up to one have caused is `replicated` at a target.
    EffectDone {
        /// The target.
        target: EffectTarget,
        /// The last of those entries.
        cause: Position,
    },
    /// The last record of an epoch that ended by a planned move: its home has acked all that it will ever
    /// ack at `home`. It stands in the partition's own log, [`LogId::partition`].
    Seal {
        /// Which move.
        move_id: MoveId,
    },
}

/// What makes a message one message: (log,) sender, device and message id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DedupKey {
    /// Who wrote it.
    pub sender: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The device's name for it.
    pub message_id: MessageId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erased_body_keeps_its_hash() {
        let body = EntryBody::Message { ciphertext: Bytes::from_static(b"sealed") };
        let erased = EntryBody::Erased { hash: body.hash() };
        assert_eq!(erased.hash(), body.hash());
        assert_ne!(body.hash(), EntryBody::Message { ciphertext: Bytes::from_static(b"other") }.hash());
    }
}
