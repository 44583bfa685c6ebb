//! What a list of chats tells of one chat.

use types::{LogId, Offset, Position, UserId};

/// How far unread messages are counted: what is behind is read for it.
pub const UNREAD_MAX: usize = 100;

/// How a chat stands for one of its members, as one copy knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// The chat.
    pub log: LogId,
    /// Its last entry.
    pub head: Position,
    /// When that was accepted, in ms since 1970.
    pub head_at_ms: u64,
    /// Up to where the user has read, on any device.
    pub read: Offset,
    /// How many members it has.
    pub members: usize,
    /// The other user of a direct chat.
    pub with: Option<UserId>,
    /// Messages of others behind `read`, counted up to [`UNREAD_MAX`]; 0 where they were not to be counted.
    pub unread: usize,
}
