//! The hashes by which bodies and copies are told apart.

use super::Message;
use serde::{Deserialize, Serialize};
use std::fmt;
use types::Position;

/// A hash of a body, by which two bodies are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BodySum(pub u64);

impl BodySum {
    /// In place of that of a chat's first entry.
    pub const CREATED: Self = Self(0);
    /// In place of that of an entry that says how the chat has changed.
    pub const CHANGE: Self = Self(1);
    /// In place of that of a message whose body was taken away.
    pub const ERASED: Self = Self(2);

    /// Of these bytes.
    pub fn of(body: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(body))
    }
}

/// Hashes a log's entries as [`Kind::FinalLog`] wants them.
#[derive(Default)]
pub struct LogSum {
    hash: xxhash_rust::xxh3::Xxh3,
    entries: u64,
}

impl fmt::Debug for LogSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogSum({} entries, {:016x})", self.entries, self.sum())
    }
}

impl LogSum {
    /// Takes the next entry in.
    pub fn add(&mut self, at: Position, message: Message, body: BodySum) {
        self.hash.update(&at.generation.get().to_le_bytes());
        self.hash.update(&at.epoch.get().to_le_bytes());
        self.hash.update(&at.offset.get().to_le_bytes());
        self.hash.update(&message.0.to_le_bytes());
        self.hash.update(&body.0.to_le_bytes());
        self.entries += 1;
    }

    /// The entries so far.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Their hash.
    pub fn sum(&self) -> u64 {
        self.hash.digest()
    }
}
