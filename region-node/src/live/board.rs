//! Receipts at the home of a log: taken in at once, told at once, written together.
//!
//! ```text
//!   cursor ──► checked (member? position?) ──► above what is known? ──► dirty ──every 2 s──► one record ──► in the fold
//!                                                   └──► told: at once, and then at most every 250 ms
//! ```
//!
//! # Invariants
//!
//! - What is dirty is above the fold, stays until the fold has it, and is written at most once per [`WRITE_EVERY_MS`]
//!   and log, however many cursors move.
//! - A position that a failover undid counts up to where the histories part.
//! - Nothing here is the truth: a home that ends forgets it, and the edges say again what they said lately.

use super::event::{LiveEvent, Receipt, Said};
use host::HashMap;
use log_store::{
    fold::LogState,
    locate::{Located, locate},
};
use std::collections::BTreeMap;
use types::{
    DeviceCursor, DeviceId, Epoch, LogId, Mark, Marks, Offset, PartitionId, Position, UserId, limits,
};

/// How often the cursors of one log are written at most, in ms.
pub(super) const WRITE_EVERY_MS: u64 = 2_000;
/// How often the receipts of one log are told at most, in ms.
const TELL_EVERY_MS: u64 = 250;
/// How long a log in which nothing moves is remembered, in ms.
const REST_MS: u64 = 10_000;
/// In a chat with more members receipts are told to the own devices only; others read the page.
pub(super) const TOLD_MEMBERS_MAX: usize = 64;
/// Cursors of all logs that may be dirty.
const DIRTY_MAX: usize = 262_144;

/// Up to where a device says that it has received and read a log; [`Position::START`]: nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reached {
    pub(crate) delivered: Position,
    pub(crate) read: Position,
    /// The user shows nobody what is read.
    pub(crate) hides_read: bool,
}

impl Reached {
    /// Moves forward to what was said later.
    pub(super) fn raise(&mut self, later: Self) {
        self.delivered = self.delivered.max(later.delivered);
        if later.read >= self.read {
            (self.read, self.hides_read) = (later.read, later.hides_read);
        }
    }
}

/// What one device says of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) reached: Reached,
}

/// Why a cursor was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Its user is no member.
    Forbidden,
    /// It names what this home does not know yet, or there is no room: it may be said again.
    Later,
}

type Key = (PartitionId, LogId);

#[derive(Debug, Default)]
struct Pending {
    dirty: BTreeMap<(UserId, DeviceId), Marks>,
    write_at_ms: u64,
    /// What was not told yet.
    untold: BTreeMap<UserId, Receipt>,
    own_only: bool,
    tell_at_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Board {
    logs: HashMap<Key, Pending>,
    dirty: usize,
}

impl Board {
    /// Takes a cursor in. `epoch` is the home's; the log's state is that of now.
    pub(super) fn take(
        &mut self,
        (now_ms, wall_ms): (u64, u64),
        (key, epoch): (Key, Epoch),
        state: &LogState,
        cursor: &Cursor,
    ) -> Result<(), NotTaken> {
        if !state.members.contains_key(&cursor.user) {
            return Err(NotTaken::Forbidden);
        }
        if self.dirty >= DIRTY_MAX {
            return Err(NotTaken::Later);
        }
        let mark = |position| mark(state, epoch, position, wall_ms);
        let marks = Marks {
            delivered: mark(cursor.reached.delivered)?,
            read: mark(cursor.reached.read)?,
            hides_read: cursor.reached.hides_read,
        };
        let device = (cursor.user.clone(), cursor.device);
        let pending = self.logs.get(&key);
        let mut known = state.cursors.of_device(&cursor.user, cursor.device);
        known.raise(pending.and_then(|pending| pending.dirty.get(&device)).copied().unwrap_or_default());
        if !known.raise(marks) {
            return Ok(());
        }
        let pending = self.logs.entry(key).or_default();
        if pending.dirty.is_empty() {
            pending.write_at_ms = now_ms + WRITE_EVERY_MS;
        }
        self.dirty += usize::from(pending.dirty.insert(device, known).is_none());
        let receipt = receipt(state, Some(&pending.dirty), &cursor.user);
        pending.own_only = state.members.len() > TOLD_MEMBERS_MAX;
        pending.untold.insert(cursor.user.clone(), receipt);
        Ok(())
    }

    /// What is to be told now.
    pub(super) fn told(&mut self, now_ms: u64) -> Vec<(PartitionId, LiveEvent)> {
        let mut events = Vec::new();
        self.logs.retain(|_, pending| {
            let is_idle = pending.dirty.is_empty() && pending.untold.is_empty();
            !is_idle || now_ms < pending.write_at_ms + REST_MS
        });
        for ((partition, log), pending) in &mut self.logs {
            if !pending.untold.is_empty() && pending.tell_at_ms <= now_ms {
                pending.tell_at_ms = now_ms + TELL_EVERY_MS;
                let receipts = std::mem::take(&mut pending.untold).into_values().collect();
                let said = Said::Receipts { receipts, own_only: pending.own_only };
                events.push((*partition, LiveEvent { log: *log, said }));
            }
        }
        events
    }

    /// The logs whose cursors are due to be written: [`Board::settle`] each with its state of now.
    pub(super) fn due(&self, now_ms: u64) -> Vec<Key> {
        let is_due = |pending: &Pending| !pending.dirty.is_empty() && pending.write_at_ms <= now_ms;
        self.logs.iter().filter(|(_, pending)| is_due(pending)).map(|(key, _)| *key).collect()
    }

    /// Forgets what the fold has, and answers what is to be written. `None`: the log is not here.
    pub(super) fn settle(&mut self, now_ms: u64, key: Key, state: Option<&LogState>) -> Vec<DeviceCursor> {
        let Some(pending) = self.logs.get_mut(&key) else { return Vec::new() };
        let before = pending.dirty.len();
        let mut moving = Vec::new();
        pending.dirty.retain(|(user, device), marks| {
            let cursor = DeviceCursor { user: user.clone(), device: *device, marks: *marks };
            let is_above = state.is_some_and(|state| state.moves(&cursor));
            if is_above && moving.len() < limits::CURSORS_PER_UPDATE_MAX {
                moving.push(cursor);
            }
            is_above
        });
        self.dirty -= before - pending.dirty.len();
        pending.write_at_ms = now_ms + WRITE_EVERY_MS;
        moving
    }

    /// This node is no longer home of a partition in the epoch in which it took this in.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.logs.retain(|(of, _), _| *of != partition);
        self.dirty = self.logs.values().map(|pending| pending.dirty.len()).sum();
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// The partitions of which something is remembered.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        let mut partitions: Vec<_> = self.logs.keys().map(|(partition, _)| *partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }

    /// How far a member has come, what is not written yet included.
    pub(super) fn receipt(&self, key: Key, state: &LogState, user: &UserId) -> Receipt {
        receipt(state, self.logs.get(&key).map(|pending| &pending.dirty), user)
    }
}

pub(super) fn receipt(
    state: &LogState,
    dirty: Option<&BTreeMap<(UserId, DeviceId), Marks>>,
    user: &UserId,
) -> Receipt {
    let mut marks = state.cursors.of(user);
    if let Some(dirty) = dirty {
        let devices = (user.clone(), DeviceId::new(0))..=(user.clone(), DeviceId::new(u64::MAX));
        for (_, device) in dirty.range(devices) {
            marks.raise(*device);
        }
    }
    let marks = marks.clamped(state.head.offset);
    let at = |offset: Offset| state.position_at(offset).unwrap_or(Position::START);
    let (delivered, read) = (at(marks.delivered.offset), at(marks.read.offset));
    Receipt { user: user.clone(), marks, delivered, read }
}

fn mark(state: &LogState, epoch: Epoch, position: Position, wall_ms: u64) -> Result<Mark, NotTaken> {
    let known = (state.standing().generation(), epoch);
    let offset = match locate(state, known, position) {
        Located::Continue => position.offset,
        Located::Diverged { common } => common.offset,
        Located::Ahead => return Err(NotTaken::Later),
    };
    Ok(if offset.is_zero() { Mark::default() } else { Mark { offset, at_ms: wall_ms } })
}

#[cfg(test)]
mod tests;
