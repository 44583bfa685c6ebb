//! What a client lacks, the newest chats first, in pieces of bounded size.
//!
//! It is begun with the user's chats and their heads, says what to read, and takes in what was found, until there is
//! nothing more to read or no more room. Whatever order that takes, the client's place in each chat moves only by what
//! it is told.

use super::{
    Event, NEAR_FIRST, NEAR_MAX,
    stand::{Place, Stand, Sum, ending_of},
};
use crate::{
    live::{ChatReceipts, ReceiptsSum},
    service::{Page, ReadRefusal},
};
use proto::client;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};
use types::{Code, EntryBody, LogId, Position, Record, Refusal};

/// Bodies that are told together, in bytes; one more entry than fits is told where it is the only one.
const BYTES_MAX: usize = 256 * 1024;
/// What an entry takes beside its body.
const ENTRY_BYTES: usize = 512;
/// What a head takes.
const HEAD_BYTES: usize = 128;
/// What a receipt takes.
const RECEIPT_BYTES: usize = 320;

/// The user's chats, as far as the accounts and the copies that could be asked know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chats {
    /// Those that the account says the user is a member of.
    pub(crate) joined: BTreeSet<LogId>,
    /// Of chats that say so too, and of the account itself.
    pub(crate) heads: BTreeMap<LogId, Head>,
    /// Of those near chats whose receipts do not add up to what the client was told.
    pub(crate) receipts: BTreeMap<LogId, ChatReceipts>,
}

/// How a chat stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its last entry.
    pub(crate) position: Position,
    /// When that was accepted, in ms since 1970.
    pub(crate) at_ms: u64,
}

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Entries and heads that are told at once.
    pub(crate) entries: usize,
    /// Chats that are near.
    pub(super) near_max: usize,
    /// Those that are at first, where there are more.
    pub(super) near_first: usize,
}

impl Room {
    /// For so many entries.
    pub(crate) const fn of(entries: usize) -> Self {
        Self { entries, near_max: NEAR_MAX, near_first: NEAR_FIRST }
    }
}

/// What to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) log: LogId,
    pub(crate) after: Position,
    pub(crate) limit: usize,
}

/// What was found behind a position that stands.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// What follows it.
    pub(crate) page: Page,
    /// Up to where the log is `replicated`, as far as is known.
    pub(crate) replicated: Position,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Catching<'a> {
    account: LogId,
    chats: &'a Chats,
    stand: &'a mut Stand,
    events: Vec<Event>,
    to_read: VecDeque<LogId>,
    room: Room,
    entries_left: usize,
    bytes_left: usize,
    has_more: bool,
    unavailable: usize,
}

/// What a client is told, whose stand was moved on by it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Caught {
    /// In order.
    pub(crate) events: Vec<Event>,
    /// There is more to tell at once.
    pub(crate) has_more: bool,
    /// Chats of which nothing can be told now.
    pub(crate) unavailable: usize,
}

impl<'a> Catching<'a> {
    /// Begins. `again`: chats that are read whatever their heads say.
    pub(crate) fn begin(
        stand: &'a mut Stand,
        account: LogId,
        chats: &'a Chats,
        again: &BTreeSet<LogId>,
        room: Room,
    ) -> Self {
        let mut catching = Self {
            account,
            chats,
            stand,
            events: Vec::new(),
            to_read: VecDeque::new(),
            room,
            entries_left: room.entries,
            bytes_left: BYTES_MAX,
            has_more: false,
            unavailable: 0,
        };
        catching.take_in_new();
        catching.plan(again);
        catching
    }

    /// What to read next; `None` at the end.
    pub(crate) fn next(&self) -> Option<Reading> {
        if self.entries_left == 0 || self.bytes_left == 0 {
            return None;
        }
        let log = *self.to_read.front()?;
        let after = self.stand.near.get(&log)?.position;
        Some(Reading { log, after, limit: self.entries_left })
    }

    /// Takes in what was found.
    pub(crate) fn take(&mut self, log: LogId, found: Result<Found, ReadRefusal>) {
        match found {
            Ok(found) => self.take_page(log, &found),
            Err(ReadRefusal::Diverged { common }) => {
                let Some(place) = self.stand.near.get_mut(&log) else { return };
                let common = place.part(common);
                self.events.push(Event::diverged(log, common));
            }
            // What the client has the log has lost.
            Err(ReadRefusal::Refused(Refusal { code: Code::PositionUnknown, .. })) => {
                self.stand.near.insert(log, Place::default());
                self.events.push(Event::diverged(log, Position::START));
            }
            Err(ReadRefusal::Refused(refusal)) if self.is_over(log, &refusal) => self.leave(log),
            Err(_) => self.give_up(log),
        }
    }

    /// There is no time for more: what was not read is told by the next answer, or cannot be told now.
    pub(crate) fn stop(&mut self) {
        match self.events.is_empty() {
            true => self.unavailable += self.to_read.len(),
            false => self.has_more |= !self.to_read.is_empty(),
        }
        self.to_read.clear();
    }

    /// What the client is told.
    pub(crate) fn end(mut self) -> Caught {
        if self.to_read.is_empty() {
            self.tell_heads();
            self.tell_receipts();
        }
        let has_more = self.has_more || !self.to_read.is_empty();
        Caught { events: self.events, has_more, unavailable: self.unavailable }
    }

    /// Chats that were never told become near, the latest first, while there is room for all; and the account.
    fn take_in_new(&mut self) {
        if self.chats.heads.contains_key(&self.account) {
            self.stand.near.entry(self.account).or_default();
        }
        let mut new = self.others();
        self.unavailable += self.chats.joined.len() - self.known();
        let is_first = self.stand.far.is_empty() && self.stand.near_chats(self.account) == 0;
        let room = match self.room.near_max.saturating_sub(self.stand.near_chats(self.account)) {
            // Once some are far, all that are new are: their endings tell of them.
            _ if !self.stand.far.is_empty() => 0,
            room if new.len() <= room => room,
            _ if is_first => self.room.near_first,
            _ => 0,
        };
        new.sort_unstable_by_key(|(log, head)| (Reverse(head.at_ms), *log));
        for (log, _) in new.into_iter().take(room) {
            self.stand.near.insert(log, Place::default());
            self.events.push(Event::joined(log));
        }
    }

    /// Joined chats whose heads are known.
    fn known(&self) -> usize {
        self.chats.joined.iter().filter(|log| self.chats.heads.contains_key(log)).count()
    }

    /// Joined chats that are not near.
    fn others(&self) -> Vec<(LogId, Head)> {
        let known = self.chats.joined.iter().filter(|log| !self.stand.near.contains_key(log));
        known.filter_map(|log| Some((*log, *self.chats.heads.get(log)?))).collect()
    }

    /// Tells the heads of the far chats whose endings do not add up to what the client was told.
    fn tell_heads(&mut self) {
        let mut endings: BTreeMap<u8, Vec<(LogId, Head)>> = BTreeMap::new();
        for (log, head) in self.others() {
            endings.entry(ending_of(log)).or_default().push((log, head));
        }
        for ending in self.stand.far.keys() {
            endings.entry(*ending).or_default();
        }
        // Of a chat that nobody can tell of now it cannot be told whether it is left.
        let untold = self.chats.joined.iter().filter(|log| !self.chats.heads.contains_key(log));
        let uncertain: BTreeSet<u8> = untold.map(|log| ending_of(*log)).collect();
        endings.retain(|ending, chats| {
            let sum = Sum::of(chats.iter().map(|(log, head)| (*log, head.position)));
            !uncertain.contains(ending) && self.stand.far.get(ending) != Some(&sum)
        });
        let mut changed: Vec<(u8, Vec<(LogId, Head)>)> = endings.into_iter().collect();
        for (_, chats) in &mut changed {
            chats.sort_unstable_by_key(|(log, head)| (Reverse(head.at_ms), *log));
        }
        changed.sort_by_key(|(_, chats)| Reverse(chats.first().map_or(0, |(_, head)| head.at_ms)));
        let changing: BTreeSet<u8> = changed.iter().map(|(ending, _)| *ending).collect();
        for (ending, chats) in changed {
            if self.entries_left == 0 || self.bytes_left == 0 {
                self.has_more = true;
                return;
            }
            self.tell_ending(ending, &chats, &changing);
        }
    }

    /// Tells the receipts of near chats of which all else was told.
    fn tell_receipts(&mut self) {
        let chats = self.chats;
        for (log, ChatReceipts { sum, receipts }) in &chats.receipts {
            let head = chats.heads.get(log).map(|head| head.position);
            let Some(place) = self.stand.near.get_mut(log).filter(|place| Some(place.position) == head)
            else {
                continue;
            };
            if place.receipts == *sum {
                continue;
            }
            let is_untold = receipts.is_empty() && *sum != ReceiptsSum::NONE;
            if is_untold || self.entries_left == 0 || self.bytes_left == 0 {
                self.has_more = true;
                continue;
            }
            place.receipts = *sum;
            self.entries_left = self.entries_left.saturating_sub(receipts.len());
            self.bytes_left = self.bytes_left.saturating_sub(RECEIPT_BYTES * receipts.len());
            if !receipts.is_empty() {
                self.events.push(Event::receipts(*log, receipts));
            }
        }
    }

    fn tell_ending(&mut self, ending: u8, chats: &[(LogId, Head)], changing: &BTreeSet<u8>) {
        let heads: Vec<(LogId, Position)> = chats.iter().map(|(log, head)| (*log, head.position)).collect();
        let near = self.stand.places().filter(|(log, _)| ending_of(*log) == ending && *log != self.account);
        let all: Vec<(LogId, Position)> = heads.iter().copied().chain(near).collect();
        self.entries_left = self.entries_left.saturating_sub(all.len());
        self.bytes_left = self.bytes_left.saturating_sub(HEAD_BYTES * all.len());
        self.events.push(Event::heads(ending, &all));
        let was_told = self.stand.far.contains_key(&ending);
        let mut far = &heads[..];
        // Something happens in the first one: it is told entry by entry from now on, where there is room.
        if let [(log, position), rest @ ..] = &heads[..]
            && was_told
            && (self.stand.near_chats(self.account) < self.room.near_max || self.send_off(changing))
        {
            self.stand.near.insert(*log, Place::at(*position));
            far = rest;
        }
        if far.is_empty() {
            self.stand.far.remove(&ending);
        } else {
            self.stand.far.insert(ending, Sum::of(far.iter().copied()));
        }
    }

    /// Makes the near chat far in which nothing has happened for the longest time; into none of the endings that
    /// are being told.
    fn send_off(&mut self, changing: &BTreeSet<u8>) -> bool {
        let near = self.stand.near.iter().filter(|(log, _)| **log != self.account);
        let may_go = near.filter_map(|(log, place)| {
            let head = self.chats.heads.get(log).filter(|head| head.position == place.position)?;
            (!changing.contains(&ending_of(*log))).then_some((head.at_ms, *log, place.position))
        });
        let Some((_, log, position)) = may_go.min_by_key(|(at_ms, log, _)| (*at_ms, *log)) else {
            return false;
        };
        let told = self.stand.far.get(&ending_of(log)).copied().unwrap_or_default();
        self.stand.near.remove(&log);
        self.stand.far.insert(ending_of(log), told.with(log, position));
        true
    }

    /// What is to be read: the account first, then the latest, then those of which it is to be found out whether they
    /// are left.
    fn plan(&mut self, again: &BTreeSet<LogId>) {
        let mut to_read: Vec<(Reverse<u64>, LogId)> = Vec::new();
        for (log, place) in &self.stand.near {
            let head = self.chats.heads.get(log);
            let is_told = head.is_some_and(|head| head.position == place.position) && !again.contains(log);
            let is_unknown = head.is_none() && self.is_theirs(*log);
            if !is_told && (!is_unknown || again.contains(log)) {
                let at_ms = if *log == self.account { u64::MAX } else { head.map_or(0, |head| head.at_ms) };
                to_read.push((Reverse(at_ms), *log));
            }
        }
        to_read.sort_unstable();
        self.to_read = to_read.into_iter().map(|(_, log)| log).collect();
    }

    fn is_theirs(&self, log: LogId) -> bool {
        log == self.account || self.chats.joined.contains(&log)
    }

    /// Whether a refusal tells that the user is no member any more.
    fn is_over(&self, log: LogId, refusal: &Refusal) -> bool {
        match refusal.code {
            Code::Forbidden => true,
            // A copy may not have heard of it yet.
            Code::UnknownChat => !self.is_theirs(log),
            _ => false,
        }
    }

    fn take_page(&mut self, log: LogId, found: &Found) {
        let Some(place) = self.stand.near.get_mut(&log) else { return self.give_up(log) };
        let mut entries = Vec::new();
        let mut is_whole = true;
        for record in &found.page.records {
            let (Some(position), Some(entry)) = (record.position(), proto::client_entry(record)) else {
                continue;
            };
            let bytes = bytes_of(record);
            let is_first = entries.is_empty() && self.bytes_left == BYTES_MAX;
            let follows = position.offset == place.position.offset.plus(1);
            if !follows || self.entries_left == 0 || (bytes > self.bytes_left && !is_first) {
                is_whole = false;
                self.bytes_left = if follows { 0 } else { self.bytes_left };
                break;
            }
            self.entries_left -= 1;
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            place.position = position;
            entries.push(entry);
        }
        let is_empty = entries.is_empty();
        let reached = place.reach(found.replicated);
        if !is_empty {
            self.events.push(Event::Entries(client::Entries { log: log.to_string(), entries }));
        }
        self.events.extend(reached.map(|reached| Event::replicated(log, reached)));
        match () {
            () if is_whole && found.page.at_end => self.finish(log, found.page.until.is_some()),
            () if is_empty && self.bytes_left > 0 && self.entries_left > 0 => self.give_up(log),
            () => {}
        }
    }

    /// All that there is was told. `is_removed`: the user may read no further.
    fn finish(&mut self, log: LogId, is_removed: bool) {
        if is_removed || (!self.is_theirs(log) && !self.chats.heads.contains_key(&log)) {
            return self.leave(log);
        }
        self.to_read.pop_front();
    }

    fn leave(&mut self, log: LogId) {
        self.to_read.retain(|other| *other != log);
        self.stand.near.remove(&log);
        if log != self.account {
            self.events.push(Event::left(log));
        }
    }

    /// Nothing more can be told of it now.
    fn give_up(&mut self, log: LogId) {
        self.to_read.retain(|other| *other != log);
        self.unavailable += 1;
    }
}

fn bytes_of(record: &Record) -> usize {
    match record.entry().map(|entry| &entry.body) {
        Some(EntryBody::Message { ciphertext }) => ENTRY_BYTES + ciphertext.len(),
        _ => ENTRY_BYTES,
    }
}
