//! What the SDK tells its app, as events of a history.

use super::Shared;
use crate::history::{Ack, BodySum, Device, Kind, Log, Message, Region, Session, Told};
use client::{EntryBody, Event};
use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};
use types::{LogId, MessageId, Position, PositionToken, UserId};

/// One device's ear: takes the SDK's events and records them.
pub(super) struct Ear {
    shared: Shared,
    device: Device,
    region: Region,
    session: Session,
    logs: HashMap<LogId, Heard>,
    /// Own messages that are not replicated.
    pending: HashSet<MessageId>,
}

/// What the app has of one log.
struct Heard {
    log: Log,
    positions: Vec<Position>,
}

impl Ear {
    /// Follows all these logs from their start.
    pub(super) fn new(
        shared: Shared,
        device: Device,
        region: Region,
        logs: impl Iterator<Item = LogId>,
    ) -> Self {
        let session = shared.recorder.session(device);
        let follow = |id: LogId| {
            let log = shared.recorder.log(id);
            shared.recorder.record(Kind::Follow { session, log, from: Position::START });
            shared.heads.set(session, log, Position::START);
            (id, Heard { log, positions: Vec::new() })
        };
        let logs = logs.map(follow).collect();
        Self { shared, device, region, session, logs, pending: HashSet::new() }
    }

    /// An own message goes into the outbox.
    pub(super) fn sent(&mut self, id: MessageId) {
        self.shared.pending.fetch_add(1, Ordering::Relaxed);
        self.pending.insert(id);
    }

    /// The user has read a log up to the entry that came last.
    pub(super) fn has_read(&self, id: LogId, user: &UserId) {
        let Some(heard) = self.logs.get(&id) else { return };
        let Some(at) = heard.positions.last().copied() else { return };
        let (session, log) = (self.session, heard.log);
        self.shared.recorder.record(Kind::Marked { session, log, at });
        self.shared.marks.set(session, log, user.clone(), at.offset);
    }

    /// The device is gone, and with it all that it would have sent again.
    pub(super) fn lost(self) {
        let Self { shared, device, session, logs, pending, .. } = self;
        shared.recorder.record(Kind::Ended { session });
        shared.recorder.record(Kind::DeviceLost { device });
        shared.marks.forget(session);
        logs.values().for_each(|heard| shared.heads.forget(session, heard.log));
        shared.pending.fetch_sub(pending.len(), Ordering::Relaxed);
    }

    /// The last position of a log that the app has.
    pub(super) fn stands_at(&self, id: &LogId) -> Position {
        self.logs.get(id).and_then(|heard| heard.positions.last().copied()).unwrap_or(Position::START)
    }

    /// Takes one event. Answers a complaint where the SDK breaks its own contract.
    pub(super) fn hear(&mut self, event: Event) {
        match event {
            Event::Entry { log, entry } | Event::Moved { log, entry } => self.see(log, &entry),
            Event::Diverged { log, common_offset, .. } => self.diverged(log, common_offset),
            Event::Home { log, message_id, position, .. } => {
                self.acked(log, message_id, &position, Ack::Home)
            }
            Event::Replicated { log, message_id, position, .. } => {
                self.acked(log, message_id, &position, Ack::Replicated);
                self.settled(message_id);
            }
            Event::ReplicatedUpTo { log, offset } => self.replicated_up_to(log, offset),
            Event::Failed { log, message_id, error } => {
                let message = self.own(log, message_id);
                // An earlier try of the same message may have been written: nothing is proven.
                self.shared.recorder.record(Kind::Indeterminate { message, code: None });
                self.shared.recorder.note(format!("{message} has left its outbox: {error}"));
                self.settled(message_id);
            }
            Event::Unfollowed { log, error } => {
                self.shared.recorder.note(format!("{} follows {log} no longer: {error}", self.session));
            }
            Event::Ended { error } => {
                self.shared.recorder.note(format!("{} was ended: {error}", self.session));
            }
            _ => {}
        }
    }

    fn own(&self, log: LogId, id: MessageId) -> Message {
        self.shared.recorder.message(self.shared.recorder.log(log), self.device, id)
    }

    fn acked(&self, log: LogId, id: MessageId, position: &client::Position, ack: Ack) {
        let message = self.own(log, id);
        let Some(at) = opened(&self.shared, log, position.as_str()) else { return };
        let kind = Kind::Ok { message, at, ack, epoch: None, passed_us: None, accepted_at_ms: 0 };
        self.shared.recorder.record(kind);
    }

    fn settled(&mut self, id: MessageId) {
        if self.pending.remove(&id) {
            self.shared.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn see(&mut self, id: LogId, entry: &client::Entry) {
        let Some(heard) = self.logs.get_mut(&id) else { return };
        let Some(at) = opened(&self.shared, id, entry.position.as_str()) else { return };
        let recorder = &self.shared.recorder;
        let message =
            recorder.message_of(heard.log, &entry.sender, entry.device, entry.message_id, self.region);
        let body = body_sum(&entry.body);
        let (session, log) = (self.session, heard.log);
        heard.positions.push(at);
        recorder.record(Kind::Seen { session, log, at, message, body, salvaged: entry.salvaged });
        self.shared.heads.set(session, log, at);
    }

    fn diverged(&mut self, id: LogId, common: u64) {
        let Some(heard) = self.logs.get_mut(&id) else { return };
        heard.positions.truncate(usize::try_from(common).unwrap_or(usize::MAX));
        let at = heard.positions.last().copied().unwrap_or(Position::START);
        let told = Told::Diverged { common };
        self.shared.recorder.record(Kind::Told { session: self.session, log: heard.log, told });
        self.shared.heads.set(self.session, heard.log, at);
        self.shared.marks.cut(self.session, heard.log, common);
    }

    fn replicated_up_to(&self, id: LogId, offset: u64) {
        let Some(heard) = self.logs.get(&id) else { return };
        let at = usize::try_from(offset).ok().and_then(|offset| heard.positions.get(offset.checked_sub(1)?));
        if let Some(at) = at {
            let (session, log, at) = (self.session, heard.log, *at);
            self.shared.recorder.record(Kind::ReplicatedUpTo { session, log, at });
        }
    }
}

/// A position token, opened. One that does not open is noted.
pub(super) fn opened(shared: &Shared, log: LogId, token: &str) -> Option<Position> {
    let opened = PositionToken::open(log, token);
    opened.map_err(|error| shared.recorder.note(format!("a position does not open: {error}"))).ok()
}

fn body_sum(body: &EntryBody) -> BodySum {
    match body {
        EntryBody::Message(bytes) => BodySum::of(bytes),
        EntryBody::Created { .. } => BodySum::CREATED,
        EntryBody::Erased => BodySum::ERASED,
        _ => BodySum::CHANGE,
    }
}
