//! What a client is told.

use crate::{delivery::token, edge::client_receipt, live::Receipt};
use proto::client;
use serde::Serialize;
use types::{LogId, Position};

/// One thing that a client is told. What sessions are told too reads as in their frames.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Event {
    /// Entries, each following the one before.
    Entries(client::Entries),
    /// Up to here the chat is durable in every in-sync region.
    Replicated(client::Replicated),
    /// What was told behind `common` was undone by a failover; what stands there now is told again.
    Diverged(client::Diverged),
    /// How far members have come: all of them, or while the client waits those who have come further.
    Receipts(client::Receipts),
    /// A member is typing. Said only while the client waits.
    TypingSeen(client::TypingSeen),
    /// The user is a member now. What was written before is told too.
    Joined(Named),
    /// The user is no member any more.
    Left(Named),
    /// Where chats stand that are not told entry by entry.
    Heads(Heads),
}

/// A chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Named {
    /// Its id.
    pub(crate) log: String,
}

/// All the user's chats whose ids end so: others that do are left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Heads {
    /// The last two characters of their ids.
    pub(crate) ends: String,
    /// Those that are told by heads, the latest first; then those that are told entry by entry.
    pub(crate) chats: Vec<HeadOf>,
}

/// Where a chat stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HeadOf {
    /// The chat.
    pub(crate) log: String,
    /// Its last entry: the client reads what it lacks up to there. Entries that are told later follow it.
    pub(crate) position: String,
    /// The offset of that, as text.
    pub(crate) offset: String,
}

impl Event {
    pub(super) fn joined(log: LogId) -> Self {
        Self::Joined(Named { log: log.to_string() })
    }

    pub(super) fn left(log: LogId) -> Self {
        Self::Left(Named { log: log.to_string() })
    }

    pub(super) fn replicated(log: LogId, position: Position) -> Self {
        Self::Replicated(client::Replicated {
            log: log.to_string(),
            position: token(log, position),
            offset: position.offset.get(),
        })
    }

    pub(super) fn diverged(log: LogId, common: Position) -> Self {
        Self::Diverged(client::Diverged {
            log: log.to_string(),
            common: token(log, common),
            common_offset: common.offset.get(),
        })
    }

    pub(super) fn receipts(log: LogId, receipts: &[Receipt]) -> Self {
        let receipts = receipts.iter().map(|receipt| client_receipt(log, receipt)).collect();
        Self::Receipts(client::Receipts { log: log.to_string(), receipts })
    }

    pub(super) fn heads(ends: u8, chats: &[(LogId, Position)]) -> Self {
        let head = |(log, position): &(LogId, Position)| HeadOf {
            log: log.to_string(),
            position: token(*log, *position),
            offset: position.offset.get().to_string(),
        };
        Self::Heads(Heads { ends: ending(ends), chats: chats.iter().map(head).collect() })
    }
}

/// The last two characters of ids whose last byte this is: 26 characters of base32 hold 128 bits and two more.
fn ending(byte: u8) -> String {
    let text = LogId::group([byte; 16]).to_string();
    text[text.len() - 2..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_the_same_last_byte_end_in_the_same_two_characters() {
        let mut endings = std::collections::BTreeSet::new();
        for byte in 0..=u8::MAX {
            let mut key = [0x5a; 16];
            key[15] = byte;
            assert!(LogId::group(key).to_string().ends_with(&ending(byte)));
            endings.insert(ending(byte));
        }
        assert_eq!(endings.len(), 256);
    }
}
