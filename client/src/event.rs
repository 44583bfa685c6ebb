//! What a session tells its app.

use crate::{Entry, Position, Presence, Receipt, Refused, SendError};
use types::{LogId, MessageId, UserId};

/// Something happened. Within one chat, events come in the order in which they are true.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A node answers.
    Connected {
        /// The edge that was dialled.
        edge: String,
        /// Its region.
        region: String,
        /// The node.
        node: String,
        /// The deployment has one region: nothing is ever replicated.
        one_region: bool,
    },
    /// No node answers; the session tries again by itself.
    Disconnected {
        /// Why.
        reason: String,
        /// When the next attempt starts, in ms from now.
        retry_in_ms: u64,
    },
    /// The chat is followed: what comes behind `position` is delivered as it is written.
    Following {
        /// The chat.
        log: LogId,
        /// The last entry that the app has of it.
        position: Position,
        /// Its offset.
        offset: u64,
    },
    /// An entry that the app has not been given before, the next one in offset order.
    Entry {
        /// The chat.
        log: LogId,
        /// The entry.
        entry: Entry,
    },
    /// An entry that [`Event::Diverged`] took back stands in the chat again, at this place.
    Moved {
        /// The chat.
        log: LogId,
        /// The entry at its new position; its content is the same.
        entry: Entry,
    },
    /// A failover undid what stood behind `common_offset`. What follows there now comes next.
    Diverged {
        /// The chat.
        log: LogId,
        /// Up to here history is as the app knows it.
        common_offset: u64,
        /// The entries that the app was given and that are not there now, in their old order. The app's own
        /// unreplicated messages among them are sent again by themselves.
        undone: Vec<MessageId>,
        /// More was undone than this session remembers: `undone` is not complete, and an entry that returns
        /// can come as [`Event::Entry`].
        forgotten: bool,
    },
    /// An own message is in the outbox.
    Accepted {
        /// The chat.
        log: LogId,
        /// The message.
        message_id: MessageId,
    },
    /// An own message is durable in its home region.
    Home {
        /// The chat.
        log: LogId,
        /// The message.
        message_id: MessageId,
        /// Where it stands.
        position: Position,
        /// Where it stands, for people.
        offset: u64,
        /// The deployment has one region, so that this is the last that is heard of the message.
        last: bool,
    },
    /// An own message is durable in every in-sync region: it survives the loss of any one of them.
    Replicated {
        /// The chat.
        log: LogId,
        /// The message.
        message_id: MessageId,
        /// Where it stands, for good.
        position: Position,
        /// Where it stands, for people.
        offset: u64,
    },
    /// Every entry up to this offset is durable in every in-sync region.
    ReplicatedUpTo {
        /// The chat.
        log: LogId,
        /// Up to and including.
        offset: u64,
    },
    /// An own message was refused for good and has left the outbox.
    Failed {
        /// The chat.
        log: LogId,
        /// The message.
        message_id: MessageId,
        /// Why.
        error: SendError,
    },
    /// Members have received or read more; the app's own user too, on another device. It may get lost: what comes
    /// next of a user makes it good, and [`crate::Chat::receipts`] tells all.
    Receipts {
        /// The chat.
        log: LogId,
        /// How far each has come now.
        receipts: Vec<Receipt>,
    },
    /// A user who is watched is there, or is not.
    Presence(Presence),
    /// Somebody is typing.
    Typing {
        /// The chat.
        log: LogId,
        /// Who.
        user: UserId,
        /// It holds for so long, or until an entry of the user comes.
        ttl_ms: u32,
    },
    /// The chat cannot be followed and was given up; its unsent messages have failed.
    Unfollowed {
        /// The chat.
        log: LogId,
        /// Why.
        error: Refused,
    },
    /// The server refuses this session for good; nothing more is tried.
    Ended {
        /// Why.
        error: Refused,
    },
}
