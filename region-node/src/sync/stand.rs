//! Where a client stands, and what a frame of a feed moves it on to.

use super::Event;
use crate::live::ReceiptsSum;
use proto::client::{self, server_frame::Frame};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use types::{LogId, Position, PositionToken};

/// Bits of a sum over heads.
const SUM_BITS: u32 = 48;

/// See the module above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// The chats that are told entry by entry, and the user's account log.
    pub(super) near: BTreeMap<LogId, Place>,
    /// Of all others, by the last byte of their ids.
    pub(super) far: BTreeMap<u8, Sum>,
}

/// How far a client has come in a chat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The last entry that it was told.
    pub(super) position: Position,
    /// The last one, at or before that, that it knows to be `replicated`.
    pub(super) replicated: Position,
    /// Of the receipts that it was told.
    pub(super) receipts: ReceiptsSum,
}

impl Place {
    /// A client that has everything up to a position.
    pub(super) fn at(position: Position) -> Self {
        Self { position, ..Self::default() }
    }

    /// Takes in that an entry is `replicated`; whether the client is to be told. It is of a log that holds the place.
    pub(super) fn reach(&mut self, replicated: Position) -> Option<Position> {
        let reached = match () {
            () if replicated.offset < self.position.offset => replicated,
            // One home writes all of an era, so what comes before in it is there too.
            () if replicated.era() == self.position.era() => self.position,
            () => return None,
        };
        let is_news = reached.offset > self.replicated.offset && reached.era() <= self.position.era();
        is_news.then(|| {
            self.replicated = reached;
            reached
        })
    }

    /// Goes back to where the log certainly holds what the client has.
    pub(super) fn part(&mut self, common: Position) -> Position {
        if common.offset < self.replicated.offset {
            // What is `replicated` is never undone; whoever says so is believed all the same.
            self.replicated = common;
        }
        self.position = self.replicated;
        self.position
    }
}

/// A sum over the heads of chats, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum(pub(super) u64);

impl Sum {
    pub(super) fn of(heads: impl Iterator<Item = (LogId, Position)>) -> Self {
        heads.fold(Self::default(), |sum, (log, position)| sum.with(log, position))
    }

    pub(super) fn with(self, log: LogId, position: Position) -> Self {
        let mut hash = Sha256::new();
        hash.update(log.to_bytes());
        hash.update(position.generation.get().to_be_bytes());
        hash.update(position.epoch.get().to_be_bytes());
        hash.update(position.offset.get().to_be_bytes());
        let bytes = hash.finalize();
        let one = bytes.iter().take(6).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self(self.0.wrapping_add(one) & ((1 << SUM_BITS) - 1))
    }
}

/// By which far chats are put together.
pub(super) fn ending_of(log: LogId) -> u8 {
    log.key()[15]
}

/// What a frame of a feed says to a client that stands somewhere.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    /// The client is to be told.
    Tell(Event),
    /// What a feed says does not follow where the client stands, or is of a far chat: it is to be caught up with. The
    /// chat goes up to the position at least, where one is known.
    CatchUp(LogId, Option<Position>),
    /// Nothing that it does not know.
    Nothing,
}

impl Stand {
    /// The near chats, and where the client stands in each.
    pub(crate) fn places(&self) -> impl Iterator<Item = (LogId, Position)> {
        self.near.iter().map(|(log, place)| (*log, place.position))
    }

    /// Whether a chat is told entry by entry.
    pub(crate) fn is_near(&self, log: LogId) -> bool {
        self.near.contains_key(&log)
    }

    /// Of the receipts in each near chat that the client was told.
    pub(crate) fn receipts(&self) -> BTreeMap<LogId, ReceiptsSum> {
        self.near.iter().map(|(log, place)| (*log, place.receipts)).collect()
    }

    /// How many chats are near.
    pub(super) fn near_chats(&self, account: LogId) -> usize {
        self.near.len() - usize::from(self.near.contains_key(&account))
    }

    /// Takes in what a feed says.
    pub(crate) fn hear(&mut self, frame: Frame) -> Heard {
        match frame {
            Frame::Entries(entries) => self.hear_entries(entries),
            Frame::Replicated(tick) => {
                let Some((log, position)) = placed(&tick.log, &tick.position) else { return Heard::Nothing };
                self.reach(log, position).map_or(Heard::Nothing, Heard::Tell)
            }
            Frame::Diverged(client::Diverged { log, .. })
            | Frame::Removed(client::Removed { log, .. })
            | Frame::Behind(client::Behind { log, .. }) => {
                log.parse().map_or(Heard::Nothing, |log| Heard::CatchUp(log, None))
            }
            Frame::Receipts(receipts) => Heard::Tell(Event::Receipts(receipts)),
            Frame::TypingSeen(seen) => Heard::Tell(Event::TypingSeen(seen)),
            _ => Heard::Nothing,
        }
    }

    fn hear_entries(&mut self, entries: client::Entries) -> Heard {
        let positions: Option<Vec<(LogId, Position)>> =
            entries.entries.iter().map(|entry| placed(&entries.log, &entry.position)).collect();
        let Some((log, last)) = positions.as_deref().and_then(|all| all.last()).copied() else {
            return Heard::Nothing;
        };
        let Some(place) = self.near.get_mut(&log) else { return Heard::CatchUp(log, Some(last)) };
        let mut at = place.position;
        let mut new = Vec::with_capacity(entries.entries.len());
        for ((_, position), entry) in positions.into_iter().flatten().zip(entries.entries) {
            if position.offset <= at.offset {
                if position.era() > at.era() || (position.offset == at.offset && position != at) {
                    // The client's entry at this offset, or one behind it, was undone.
                    return Heard::CatchUp(log, None);
                }
                continue;
            }
            if position.offset != at.offset.plus(1) || position.era() < at.era() {
                return Heard::CatchUp(log, None);
            }
            at = position;
            new.push(entry);
        }
        place.position = at;
        told(log, new)
    }

    /// Takes in up to where a log is `replicated` that holds the client's place in it.
    pub(crate) fn reach(&mut self, log: LogId, replicated: Position) -> Option<Event> {
        let reached = self.near.get_mut(&log)?.reach(replicated)?;
        Some(Event::replicated(log, reached))
    }
}

fn told(log: LogId, entries: Vec<client::Entry>) -> Heard {
    if entries.is_empty() {
        return Heard::Nothing;
    }
    Heard::Tell(Event::Entries(client::Entries { log: log.to_string(), entries }))
}

fn placed(log: &str, position: &str) -> Option<(LogId, Position)> {
    let log = log.parse().ok()?;
    Some((log, PositionToken::open(log, position).ok()?))
}
