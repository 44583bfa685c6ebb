//! A bare connection that follows all its chats, drops the connection again and again, and resumes elsewhere:
//! what the server itself answers about positions. A guest follows one chat, and may be out of it.

use super::{Place, Shared, sdk::opened};
use crate::history::{BodySum, Kind, Log, Message, Region, Session, Told};
use client::bare::{BareError, Connection};
use proto::client::{
    Diverged, Entries, Entry, Error, LogCursor, Ping, Resumed, Subscribe, client_frame::Frame, entry::Body,
    resumed, server_frame::Frame as Answer,
};
use rand::RngExt as _;
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    time::{Duration, Instant},
};
use tokio::time::{Instant as Deadline, interval, sleep, sleep_until, timeout};
use types::{Code, DeviceId, LogId, MessageId, Position, PositionToken, UserId};

/// How long a connection is kept.
const KEPT_MS: Range<u64> = 2_500..7_000;
/// A connection on which nothing comes, not even a pong, is dead after so long.
const SILENCE: Duration = Duration::from_secs(6);
const PING_EVERY: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After a log could not be followed.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// The requests that it makes; nothing else is asked.
const SUBSCRIBES: u64 = 7;
/// Between two connections.
pub(super) const AWAY: Duration = Duration::from_millis(20);

pub(super) struct Reader {
    shared: Shared,
    is_guest: bool,
    region: Region,
    session: Session,
    logs: HashMap<LogId, (Log, Vec<Position>)>,
    /// Logs to subscribe to again, from where the reader stands.
    again: Vec<LogId>,
    /// Logs whose subscription was not answered: what comes of them still follows the one before.
    asked: HashSet<LogId>,
}

/// When the reader subscribes again to what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    AskNow,
    Wait,
    /// It is no member.
    Out,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Another one follows it.
    Dropped,
    /// The guest is no member of its chat.
    Out,
}

/// Runs until the workload stops.
pub(super) async fn run(shared: Shared, mut place: Place) {
    let stop = shared.stop.clone();
    let chats: Vec<LogId> = shared.chats.of(&place.user).map(|chat| chat.id).collect();
    let mut reader = Reader::new(shared, &place, chats, false);
    while !stop.is_cancelled() {
        // A connection that breaks is followed by another.
        let _ = stop.run_until_cancelled(reader.read_once(&mut place)).await;
        sleep(AWAY).await;
    }
}

impl Reader {
    /// Follows one chat, in a session of its own.
    pub(super) fn guest(shared: Shared, place: &Place, chat: LogId) -> Self {
        Self::new(shared, place, vec![chat], true)
    }

    fn new(shared: Shared, place: &Place, chats: Vec<LogId>, is_guest: bool) -> Self {
        let recorder = shared.recorder.clone();
        let device = recorder.device(&place.user, place.device, &place.region);
        let session = recorder.session(device);
        let region = recorder.region(&place.region);
        let mut logs = HashMap::new();
        for id in chats {
            let log = recorder.log(id);
            recorder.record(Kind::Follow { session, log, from: Position::START });
            // Nobody waits for a guest that is out.
            if !is_guest {
                shared.heads.set(session, log, Position::START);
            }
            logs.insert(id, (log, Vec::new()));
        }
        Self { shared, is_guest, region, session, logs, again: Vec::new(), asked: HashSet::new() }
    }

    /// Ends the session.
    pub(super) fn end(self) {
        let Self { shared, session, logs, .. } = self;
        shared.recorder.record(Kind::Ended { session });
        logs.values().for_each(|(log, _)| shared.heads.forget(session, *log));
    }

    /// Reads through one connection.
    pub(super) async fn read_once(&mut self, place: &mut Place) -> Result<Ended, BareError> {
        let edge = place.edges[place.rng.random_range(0..place.edges.len())].clone();
        let kept = Duration::from_millis(place.rng.random_range(KEPT_MS));
        self.read(&edge, &place.user, place.device, kept).await
    }

    async fn read(
        &mut self,
        edge: &str,
        user: &UserId,
        device: DeviceId,
        kept: Duration,
    ) -> Result<Ended, BareError> {
        let opening = Connection::open(edge, user, device, self.cursors());
        let Ok(connection) = timeout(CONNECT_TIMEOUT, opening).await else { return Ok(Ended::Dropped) };
        let mut connection = connection?;
        self.again.clear();
        self.asked = self.logs.keys().copied().collect();
        let until = Deadline::now() + kept;
        let mut pings = interval(PING_EVERY);
        let mut retries = interval(AGAIN_AFTER);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                frame = connection.next() => {
                    heard = Instant::now();
                    match self.take(frame?.frame) {
                        Next::AskNow => retries.reset_immediately(),
                        Next::Wait => {}
                        Next::Out => return Ok(Ended::Out),
                    }
                }
                _ = pings.tick() => {
                    connection.feed(0, Frame::Ping(Ping { nonce: 2 })).await?;
                    connection.flush().await?;
                }
                _ = retries.tick(), if !self.again.is_empty() => {
                    for id in std::mem::take(&mut self.again) {
                        let subscribe = Subscribe { log: id.to_string(), position: self.token(&id) };
                        connection.feed(SUBSCRIBES, Frame::Subscribe(subscribe)).await?;
                        self.asked.insert(id);
                    }
                    connection.flush().await?;
                }
                () = sleep_until(until) => return Ok(Ended::Dropped),
            }
            if heard.elapsed() > SILENCE {
                return Ok(Ended::Dropped);
            }
        }
    }

    fn stands_at(&self, id: &LogId) -> Position {
        self.logs.get(id).and_then(|(_, seen)| seen.last().copied()).unwrap_or(Position::START)
    }

    fn token(&self, id: &LogId) -> String {
        let at = self.stands_at(id);
        if at == Position::START { String::new() } else { PositionToken::seal(*id, at).into() }
    }

    fn cursors(&self) -> Vec<LogCursor> {
        self.logs.keys().map(|id| LogCursor { log: id.to_string(), position: self.token(id) }).collect()
    }

    fn take(&mut self, frame: Option<Answer>) -> Next {
        match frame {
            Some(Answer::Entries(entries)) => self.see(entries),
            Some(Answer::Resumed(Resumed { log, answer })) => {
                if let Ok(id) = log.parse() {
                    self.asked.remove(&id);
                }
                match answer {
                    Some(resumed::Answer::Continue(_)) => self.told(&log, Told::Continue),
                    Some(resumed::Answer::Diverged(diverged)) => return self.diverged(&diverged),
                    Some(resumed::Answer::Error(error)) if self.is_out(&error) => return Next::Out,
                    Some(resumed::Answer::Error(_)) | None => self.subscribe_again(&log),
                }
            }
            Some(Answer::Diverged(diverged)) => return self.diverged(&diverged),
            Some(Answer::Behind(behind)) => {
                self.told(&behind.log, Told::Lagged);
                self.subscribe_again(&behind.log);
            }
            Some(Answer::Replicated(up_to)) => {
                let Ok(id) = up_to.log.parse::<LogId>() else { return Next::Wait };
                let Some(at) = opened(&self.shared, id, &up_to.position) else { return Next::Wait };
                let Some((log, seen)) = self.logs.get(&id) else { return Next::Wait };
                // It counts only where the reader's own entry is the one that is meant.
                if seen.get((at.offset.get() as usize).wrapping_sub(1)) == Some(&at) {
                    let (session, log) = (self.session, *log);
                    self.shared.recorder.record(Kind::ReplicatedUpTo { session, log, at });
                }
            }
            Some(Answer::Removed(_)) if self.is_guest => return Next::Out,
            Some(Answer::Error(error)) if self.is_out(&error) => return Next::Out,
            Some(Answer::Error(error)) => {
                if let Ok(id) = error.log.parse() {
                    self.asked.remove(&id);
                }
                self.subscribe_again(&error.log);
            }
            _ => {}
        }
        Next::Wait
    }

    fn is_out(&self, error: &Error) -> bool {
        self.is_guest && error.code.parse().is_ok_and(|code: Code| code == Code::Forbidden)
    }

    fn subscribe_again(&mut self, log: &str) {
        if let Ok(id) = log.parse()
            && self.logs.contains_key(&id)
            && !self.again.contains(&id)
        {
            self.again.push(id);
        }
    }

    fn told(&self, log: &str, told: Told) {
        if let Some((log, _)) = log.parse().ok().and_then(|id: LogId| self.logs.get(&id)) {
            self.shared.recorder.record(Kind::Told { session: self.session, log: *log, told });
        }
    }

    fn diverged(&mut self, diverged: &Diverged) -> Next {
        let common = diverged.common_offset;
        let Ok(id) = diverged.log.parse::<LogId>() else { return Next::Wait };
        if self.asked.contains(&id) {
            // It is about a position where the reader does not stand any more.
            return Next::Wait;
        }
        self.told(&diverged.log, Told::Diverged { common });
        let Some((log, seen)) = self.logs.get_mut(&id) else { return Next::Wait };
        seen.truncate(common as usize);
        let at = seen.last().copied().unwrap_or(Position::START);
        self.shared.heads.set(self.session, *log, at);
        if opened(&self.shared, id, &diverged.common) == Some(at) {
            return Next::Wait;
        }
        // The reader's own entry there is not the one that is common: it asks from its own.
        self.subscribe_again(&diverged.log);
        Next::AskNow
    }

    fn see(&mut self, entries: Entries) {
        let Ok(id) = entries.log.parse::<LogId>() else { return };
        if self.again.contains(&id) || self.asked.contains(&id) {
            return;
        }
        let Some((log, seen)) = self.logs.get_mut(&id) else { return };
        for entry in entries.entries {
            let Some((at, message, body)) = told(&self.shared, (id, *log), self.region, &entry) else {
                return;
            };
            let (session, log, salvaged) = (self.session, *log, entry.salvaged);
            self.shared.recorder.record(Kind::Seen { session, log, at, message, body, salvaged });
            seen.push(at);
            self.shared.heads.set(session, log, at);
        }
    }
}

/// What an entry tells: where it stands, what it is, and a hash of its body.
pub(super) fn told(
    shared: &Shared,
    (id, log): (LogId, Log),
    region: Region,
    entry: &Entry,
) -> Option<(Position, Message, BodySum)> {
    let at = opened(shared, id, &entry.position)?;
    let (Ok(sender), Ok(message_id)) = (UserId::new(&entry.sender), entry.message_id.parse::<MessageId>())
    else {
        shared.recorder.note(format!("an entry of {id} cannot be read"));
        return None;
    };
    let body = match &entry.body {
        Some(Body::Ciphertext(bytes)) => BodySum::of(bytes),
        Some(Body::Created(_)) => BodySum::CREATED,
        Some(Body::Erased(_)) => BodySum::ERASED,
        _ => BodySum::CHANGE,
    };
    let device = DeviceId::new(entry.device);
    Some((at, shared.recorder.message_of(log, &sender, device, message_id, region), body))
}
