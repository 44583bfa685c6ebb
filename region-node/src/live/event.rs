//! What is said on the bus beside entries, and never stored.

use types::{DeviceId, LogId, Marks, Position, UserId};

/// Something that concerns those who follow a log now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveEvent {
    /// The log.
    pub log: LogId,
    /// What is said.
    pub said: Said,
}

/// See [`LiveEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Members have received and read more.
    Receipts {
        /// How far each has come now.
        receipts: Vec<Receipt>,
        /// Only a user's own devices are told: the chat has too many members to tell each of all others.
        own_only: bool,
    },
    /// A member is typing.
    Typing {
        /// Who.
        user: UserId,
        /// On which device.
        device: DeviceId,
    },
    /// The log is an account's, and its user has joined or left a chat.
    Chats,
}

/// How far a member has come, on whichever device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who.
    pub user: UserId,
    /// How far.
    pub marks: Marks,
    /// Where `marks.delivered` stands.
    pub delivered: Position,
    /// Where `marks.read` stands.
    pub read: Position,
}

impl Receipt {
    /// As the user's own devices see it, or all others.
    #[must_use]
    pub fn shown(&self, to_own: bool) -> Self {
        let is_hidden = self.marks.hides_read && !to_own;
        let read = if is_hidden { Position::START } else { self.read };
        Self { user: self.user.clone(), marks: self.marks.shown(to_own), delivered: self.delivered, read }
    }
}
