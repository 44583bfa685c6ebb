//! A log as its home keeps it in memory, and what waits for it to be loaded.

use super::{Arrival, Ticket, recent::Known, rehoming::Rehoming};
use crate::service::Write;
use log_store::fold::{LogState, Standing};
use std::collections::{HashMap, HashSet, VecDeque};
use types::{
    BodyHash, DedupKey, DeviceCursor, Generation, Lsn, Offset, Position, Refusal, UserId, chat::MessageKind,
};

/// What the home needs to know of a log from outside of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Need {
    /// Its folded state.
    pub state: bool,
    /// Its first entry.
    pub first: bool,
    /// Its pin, read linearizably.
    pub pin: bool,
    /// What stands under these message ids.
    pub keys: Vec<DedupKey>,
}

impl Need {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// The answer of the store to "does this message id stand in the log?".
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup {
    pub(super) found: Option<Known>,
    /// What was durable when it was asked.
    pub(super) as_of: Lsn,
}

/// A write that is not sequenced yet.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) ticket: Ticket,
    pub(super) write: Write,
    pub(super) deadline_ms: u64,
    /// What it takes, at most.
    pub(super) bytes: usize,
}

impl Queued {
    pub(super) fn key(&self) -> DedupKey {
        let Write { sender, device, message_id, .. } = &self.write;
        DedupKey { sender: sender.clone(), device: *device, message_id: *message_id }
    }

    /// The key of the device's message before this one, where the device wants its order kept.
    pub(super) fn predecessor_key(&self) -> Option<DedupKey> {
        let message_id = self.write.after?;
        Some(DedupKey { sender: self.write.sender.clone(), device: self.write.device, message_id })
    }

    /// The key of the message that this one edits, which has to be in the log.
    pub(super) fn edited_key(&self) -> Option<&DedupKey> {
        let about = self.write.beside.about.as_deref().filter(|_| self.write.salvage.is_none())?;
        let refers_to = about.refers_to.as_ref().filter(|_| about.kind == MessageKind::Edit)?;
        Some(&refers_to.key)
    }

    /// The keys of other messages that have to be looked up for it, without its predecessor's.
    fn others(&self) -> impl Iterator<Item = &DedupKey> {
        let salvaged = self.write.salvage.iter().flat_map(|salvaged| &salvaged.targets);
        let deletes = self.write.beside.deletes.iter();
        salvaged.map(|target| &target.key).chain(deletes).chain(self.edited_key())
    }

    /// Whether what stands under a message id has to be known to decide about it.
    pub(super) fn needs(&self, key: &DedupKey) -> bool {
        self.key() == *key
            || self.predecessor_key().as_ref() == Some(key)
            || self.others().any(|other| other == key)
    }
}

/// What waits in a log's queue, in the order of the calls.
#[derive(Debug)]
pub(super) enum Item {
    Write(Box<Queued>),
    Subscribe(Ticket),
    Rehome(Box<Rehoming>),
    Effect(Box<Arrival>),
    Cursors(Vec<DeviceCursor>),
}

/// What is on its way about a log.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) state: bool,
    pub(super) first: bool,
    pub(super) pin: bool,
    pub(super) keys: HashSet<DedupKey>,
}

impl Asked {
    /// Takes what is on its way already out of `need`, and notes the rest as asked for.
    pub(super) fn ask(&mut self, need: &mut Need) {
        once(&mut self.state, &mut need.state);
        once(&mut self.first, &mut need.first);
        once(&mut self.pin, &mut need.pin);
        need.keys.retain(|key| self.keys.insert(key.clone()));
    }
}

fn once(asked: &mut bool, need: &mut bool) {
    *need &= !*asked;
    *asked |= *need;
}

/// A log in memory.
///
/// Invariant: while `state` is there, it includes every record of the log that this home has sequenced.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// `None` while it is not loaded; `Some(None)` when the log has no record.
    pub(super) state: Option<Option<LogState>>,
    /// What was asked for and has not been answered.
    pub(super) asked: Asked,
    /// The first entry, once somebody needed it.
    pub(super) first: Option<Known>,
    /// Whether its creation is known to be replicated, or to be older than this home.
    pub(super) creation_stands: bool,
    /// Where the log is pinned: the answer that the front of the queue asked for, or that was asked for because
    /// the log's own records do not tell whether it is written here.
    pub(super) pin: Option<Result<Generation, PinProblem>>,
    /// The log was sealed or imported: its pin is asked for until it tells what became of that.
    pub(super) is_watched: bool,
    /// The import that was sequenced in this epoch: a lookup from before it has not seen the entries that it
    /// stands for.
    pub(super) imported_at: Lsn,
    pub(super) queue: VecDeque<Item>,
    /// What the store said of the message ids of the queue.
    pub(super) lookups: HashMap<DedupKey, Lookup>,
    pub(super) place: Place,
    /// Somebody has subscribed.
    pub(super) followed: bool,
    /// When it was last written to, on the boot clock; zero if it was not since it is in use.
    pub(super) written_ms: u64,
}

/// Where a log stands for those who follow it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// The last entry that was published, or would have been; `None` before the log was loaded once.
    pub(super) published: Option<Position>,
    /// Up to where it is known to be replicated.
    pub(super) replicated: Position,
    /// The generation in which it is written.
    pub(super) generation: Generation,
}

/// Why a log's first record cannot be written here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PinProblem {
    /// It is pinned to another partition, in this generation, or to none.
    Elsewhere(Generation),
    /// The directory could not be asked.
    Refused(Refusal),
}

impl Log {
    /// Forgets what the store said for a write that is taken out of the queue.
    pub(super) fn forget_lookups(&mut self, queued: &Queued) {
        self.lookups.remove(&queued.key());
        if let Some(key) = queued.predecessor_key() {
            self.lookups.remove(&key);
        }
        for other in queued.others() {
            self.lookups.remove(other);
        }
    }

    /// Whether a user may write, as far as the log is loaded.
    pub(super) fn has_member(&self, user: &UserId) -> bool {
        let state = self.state.as_ref().and_then(Option::as_ref);
        state.is_some_and(|state| state.members.contains_key(user))
    }

    /// The device's message that this one follows is proven to be in the log or not to be, without a look
    /// at the store: `None` where it has to be asked.
    pub(super) fn holds_predecessor(&self, key: &DedupKey) -> Option<bool> {
        let state = self.state.as_ref()?;
        let Some(state) = state else { return Some(false) };
        if state.devices.is_latest(&key.sender, key.device, key.message_id) {
            return Some(true);
        }
        self.is_new(key).then_some(false)
    }

    /// Whether a message id is proven not to be in the log, without a look at the store.
    pub(super) fn is_new(&self, key: &DedupKey) -> bool {
        match &self.state {
            None => false,
            Some(None) => true,
            Some(Some(state)) => state.devices.is_new(&key.sender, key.device, key.message_id),
        }
    }

    /// Whether the store tells everything about it, and nothing is under way in it.
    pub(super) fn can_rest(&self, released: Lsn) -> bool {
        self.queue.is_empty() && !self.is_watched && self.state.is_some() && self.last_lsn() <= released
    }

    /// Where it stands by its records here.
    pub(super) fn standing(&self) -> Standing {
        self.state.as_ref().and_then(Option::as_ref).map(LogState::standing).unwrap_or_default()
    }

    /// The first entry, as far as the state tells: that of a log which was imported is elsewhere, and was
    /// replicated long ago.
    pub(super) fn first_elsewhere(&self) -> Option<Known> {
        let state = self.state.as_ref()?.as_ref()?;
        let position = state.position_at(Offset::FIRST).filter(|_| state.is_elsewhere(Offset::FIRST))?;
        Some(Known { lsn: Lsn::ZERO, position, hash: BodyHash([0; 16]), accepted_at_ms: state.created_at_ms })
    }

    /// Whether the log's creation is replicated, or was there when the epoch began. `None` where that is not known,
    /// and the first entry has to be looked at.
    pub(super) fn has_creation(&mut self, start_lsn: Lsn, watermark: Lsn) -> Option<bool> {
        if !self.creation_stands {
            let bar = watermark.max(start_lsn.prev());
            let state = self.state.as_ref()?.as_ref()?;
            self.creation_stands = match self.first {
                _ if state.last_lsn() <= bar || state.is_elsewhere(Offset::FIRST) => true,
                Some(first) => first.lsn <= bar,
                None => return None,
            };
        }
        Some(self.creation_stands)
    }

    /// The LSN of its last record; zero where it has none or is not loaded.
    pub(super) fn last_lsn(&self) -> Lsn {
        self.state.as_ref().and_then(Option::as_ref).map_or(Lsn::ZERO, LogState::last_lsn)
    }
}
