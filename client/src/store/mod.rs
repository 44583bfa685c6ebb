//! What outlives the process of a client: its outbox, and where its app stands in each chat.
//!
//! ```text
//!   Chat::send ──▶ Change::Queue ──▶ committed ──▶ Ok: the message is queued ──▶ session ──▶ chat
//!   KeptEvents::next ──▶ app works ──▶ KeptEvents::confirm ──▶ Change::Stand, Change::Settle ──▶ committed
//! ```
//!
//! A client may die at any moment; one that is resumed with the same store goes on:
//! - a message whose `send` was answered enters its chat, once and in order, under the same message id;
//! - what the app has not confirmed is told again: entries at the same positions and with the same message ids,
//!   and the outcomes of own messages. What it has confirmed is not told again.
//!
//! Invariants: changes are committed in the order in which they were made, whole commits at a time; no position
//! and no outcome is in a store before the app has confirmed it; a message is in the store from before `send`
//! is answered until its outcome is confirmed.

mod disk;
mod ledger;
mod memory;
mod rows;
#[cfg(test)]
mod tests;

pub use disk::DiskStore;
pub(crate) use ledger::Ledger;
pub use memory::MemoryStore;

use crate::{Message, Position, Snapshot, session::LogSnapshot};
use std::path::{Path, PathBuf};
use types::{DeviceId, LogId, MessageId, UserId};

/// Keeps one device's outbox and positions.
///
/// Calls block; the client makes them one at a time, on a thread where that is allowed.
pub trait Store: Send + 'static {
    /// What was kept, for this device.
    ///
    /// # Errors
    /// [`StoreError`]; a store of another device is refused.
    fn load(&mut self, user: &UserId, device: DeviceId) -> Result<Snapshot, StoreError>;

    /// Makes all changes, in their order, or none of them. They are durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]: the changes may or may not be there. The client does not commit again.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// One change to what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A message enters the outbox, behind all others. Nothing changes where it is there already.
    Queue {
        /// Its chat.
        log: LogId,
        /// Its id.
        message_id: MessageId,
        /// What it says.
        message: Message,
    },
    /// The app knows what became of a message: it leaves the outbox.
    Settle {
        /// Its chat.
        log: LogId,
        /// Its id.
        message_id: MessageId,
    },
    /// A chat is followed from here on. Nothing changes where it is followed already.
    Follow {
        /// The chat.
        log: LogId,
        /// The last entry that the app has, or wants to be taken to have.
        position: Position,
        /// Its offset.
        offset: u64,
    },
    /// The app stands here in a chat. Nothing changes where the chat is not followed.
    Stand {
        /// The chat.
        log: LogId,
        /// As in [`LogSnapshot::positions`].
        positions: Vec<(u64, Position)>,
        /// As in [`LogSnapshot::undone`]; none: as before.
        undone: Option<Vec<crate::EntryKey>>,
    },
    /// A chat is followed no longer.
    Unfollow {
        /// The chat.
        log: LogId,
    },
}

/// A store cannot be opened, or has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another client has it open.
    #[error("{} is in use by another process", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It does not hold what was written, or is no such file.
    #[error("{} is damaged: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It was written by another version of this library.
    #[error("{} has format {found}, and this is written for {known}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Of the file.
        found: u32,
        /// Of this version.
        known: u32,
    },
    /// It belongs to another device.
    #[error("the store is that of {user} on device {device}")]
    OtherDevice {
        /// Whose it is.
        user: UserId,
        /// Of which device.
        device: DeviceId,
    },
    /// The file system refuses.
    #[error("{}: {what}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        what: String,
    },
    /// It failed before, or its client has ended; nothing more is kept.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    fn damaged(path: &Path, what: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.to_string() }
    }

    fn io(path: &Path, what: impl ToString) -> Self {
        Self::Io { path: path.to_owned(), what: what.to_string() }
    }
}

impl LogSnapshot {
    /// A chat that is followed from a position on.
    fn at(log: LogId, position: Position, offset: u64) -> Self {
        Self { log, positions: vec![(offset, position)], undone: Vec::new() }
    }
}
