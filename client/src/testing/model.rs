//! A server in memory: one truth, any number of sessions, faults on demand. No I/O.

mod chats;
mod live;
mod reading;

use proto::client::{
    self as wire, client_frame::Frame as Ask, open_chat, resumed::Answer, server_frame::Frame as Say,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use types::{Code, Epoch, Generation, LogId, MessageId, Offset, PositionToken, Refusal, UserId, limits};

/// A fault that meets the next write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this code; nothing is written.
    Refuse(Code),
    /// It is written, and answered `indeterminate`.
    WriteButDoubt,
    /// It is not written, and answered `indeterminate`.
    DoubtOnly,
}

impl Fault {
    /// What a write that is not written is refused for.
    const fn refusal(self) -> Option<Code> {
        match self {
            Self::Refuse(code) => Some(code),
            Self::DoubtOnly => Some(Code::Indeterminate),
            Self::WriteButDoubt => None,
        }
    }
}

/// The server.
#[derive(Default)]
pub struct Model {
    logs: BTreeMap<LogId, Log>,
    sessions: HashMap<u64, Session>,
    last_session: u64,
    epoch: u64,
    /// Entries become replicated only by [`Model::replicate`].
    pub hold_replication: bool,
    /// What meets the next writes.
    pub faults: VecDeque<Fault>,
    /// What meets the next checks of positions.
    pub position_faults: VecDeque<Code>,
    /// Access tokens that have ended.
    pub ended_tokens: BTreeSet<String>,
    /// What Welcome says of the deployment.
    pub one_region: bool,
}

#[derive(Default)]
struct Log {
    entries: Vec<Stored>,
    /// Offsets by message id, sender and device.
    written: HashMap<(String, String, u64), u64>,
    replicated: u64,
    /// Delivered and read, by user.
    reached: BTreeMap<String, (u64, u64)>,
    state: chats::State,
}

struct Stored {
    epoch: u64,
    entry: wire::Entry,
}

#[derive(Default)]
struct Session {
    user: String,
    device: u64,
    /// Per followed log, the last offset that was sent.
    follows: BTreeMap<LogId, u64>,
    waiting: Vec<(u64, LogId, u64)>,
    out: VecDeque<wire::ServerFrame>,
}

impl Model {
    /// A server without chats.
    pub fn new() -> Self {
        Self { epoch: 1, ..Self::default() }
    }

    /// A connection begins.
    pub fn connect(&mut self) -> u64 {
        self.last_session += 1;
        self.sessions.insert(self.last_session, Session::default());
        self.last_session
    }

    /// A connection ends; its unread frames are gone.
    pub fn disconnect(&mut self, session: u64) {
        self.sessions.remove(&session);
    }

    /// The frames for a session since the last call.
    pub fn take(&mut self, session: u64) -> Vec<wire::ServerFrame> {
        self.sessions.get_mut(&session).map(|session| session.out.drain(..).collect()).unwrap_or_default()
    }

    /// What a log holds, oldest first: sender and message.
    pub fn entries(&self, log: LogId) -> Vec<wire::Entry> {
        let entries = self.logs.get(&log).map(|log| log.entries.iter().map(|stored| stored.entry.clone()));
        entries.into_iter().flatten().collect()
    }

    /// Up to where a log is replicated.
    pub fn replicated(&self, log: LogId) -> u64 {
        self.logs.get(&log).map_or(0, |log| log.replicated)
    }

    /// A frame of a session.
    pub fn frame(&mut self, session: u64, frame: wire::ClientFrame) {
        let id = frame.request_id;
        match frame.frame {
            Some(Ask::Hello(hello)) => self.hello(session, id, hello),
            Some(Ask::OpenChat(open)) => self.open(session, id, open),
            Some(Ask::Subscribe(subscribe)) => {
                self.subscribe(session, id, &subscribe.log, &subscribe.position)
            }
            Some(Ask::Unsubscribe(unsubscribe)) => {
                if let (Ok(log), Some(session)) = (unsubscribe.log.parse(), self.sessions.get_mut(&session)) {
                    session.follows.remove(&log);
                }
            }
            Some(Ask::Send(send)) => {
                let (user, device) = self.who(session);
                self.send(session, id, &user, device, send);
            }
            Some(Ask::ReadHistory(read)) => self.history(session, id, read),
            Some(Ask::Ping(ping)) => self.say(session, id, Say::Pong(wire::Pong { nonce: ping.nonce })),
            Some(Ask::MarkCursors(marks)) => self.mark(session, &marks),
            Some(Ask::ReadReceipts(read)) => self.receipts(session, id, &read),
            Some(Ask::Typing(typing)) => self.typing(session, &typing),
            Some(Ask::WatchPresence(watch)) => self.watch(session, id, &watch),
            Some(ask) => self.chat_frame(session, id, ask),
            None => self.refuse(session, id, Code::BadRequest, "a frame without content"),
        }
    }

    /// A write that comes late, from a node that lost its client: nobody hears the answer.
    pub fn late_write(&mut self, user: &str, device: u64, send: wire::Send) {
        self.send(0, 0, user, device, send);
    }

    fn who(&self, session: u64) -> (String, u64) {
        self.sessions.get(&session).map(|session| (session.user.clone(), session.device)).unwrap_or_default()
    }

    fn hello(&mut self, session: u64, id: u64, hello: wire::Hello) {
        if hello.protocol_version != limits::PROTOCOL_VERSION {
            return self.refuse(session, id, Code::UnsupportedVersion, "version");
        }
        if self.ended_tokens.contains(&hello.token) {
            return self.refuse(session, id, Code::TokenExpired, "the token has ended");
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            (session.user, session.device) = (hello.user, hello.device);
        }
        let welcome = wire::Welcome {
            protocol_version: limits::PROTOCOL_VERSION,
            region: "memory".to_owned(),
            node: "memory-1".to_owned(),
            limits: Some(wire::Limits {
                body_max_bytes: limits::BODY_MAX_BYTES as u64,
                frame_max_bytes: limits::FRAME_MAX_BYTES as u64,
                page_max_entries: limits::PAGE_MAX_ENTRIES as u32,
                session_logs_max: limits::SESSION_LOGS_MAX as u32,
                session_writes_max: 256,
                ping_interval_ms: 10_000,
                receipts_members_max: 64,
                marks_max: 256,
                watched_users_max: 256,
            }),
            server_time_ms: 0,
            one_region: self.one_region,
        };
        self.say(session, id, Say::Welcome(welcome));
        for cursor in hello.cursors {
            self.subscribe(session, id, &cursor.log, &cursor.position);
        }
    }

    fn open(&mut self, session: u64, id: u64, open: wire::OpenChat) {
        let (user, device) = self.who(session);
        let (log, others) = match open.chat {
            Some(open_chat::Chat::DirectWith(other)) => {
                let (Ok(a), Ok(b)) = (UserId::new(&user), UserId::new(&other)) else {
                    return self.refuse(session, id, Code::BadRequest, "no user");
                };
                (LogId::direct(&a, &b), vec![other])
            }
            Some(open_chat::Chat::Group(group)) => match group.key.parse::<MessageId>() {
                Ok(key) => (LogId::group(*key.as_bytes()), group.members),
                Err(error) => return self.refuse(session, id, Code::BadRequest, &error.to_string()),
            },
            None => return self.refuse(session, id, Code::BadRequest, "no chat"),
        };
        let known = self.logs.entry(log).or_default();
        if known.entries.is_empty() {
            let mut members = vec![wire::Member { user: user.clone(), role: "owner".to_owned() }];
            members.extend(others.into_iter().map(|user| wire::Member { user, role: "member".to_owned() }));
            known.state.created(&members);
            let created = wire::Created { members, ..wire::Created::default() };
            let first = MessageId::from_bytes(*log.key());
            self.append(log, &user, device, &first.to_string(), wire::entry::Body::Created(created));
        }
        let position = self.logs[&log].entries[0].entry.position.clone();
        self.say(session, id, Say::ChatOpened(wire::ChatOpened { log: log.to_string(), position }));
    }

    fn subscribe(&mut self, session: u64, id: u64, log: &str, position: &str) {
        let name = log.to_owned();
        // Nobody calls the start unknown.
        let is_sound = |code: &Code| *code == Code::PositionUnknown && position.is_empty();
        let fault = self.position_faults.pop_front().filter(|code| !is_sound(code));
        let refused = fault.map(|code| Refusal::new(code, "as the test wants it"));
        let answer = match refused.map_or_else(|| self.locate(log, position), Err) {
            Err(error) => Answer::Error(proto::client_error(&error)),
            Ok((log, None, offset)) => {
                self.follow(session, log, offset);
                let known = &self.logs[&log];
                Answer::Continue(wire::Continue {
                    head: known.token(known.entries.len() as u64),
                    replicated: known.token(known.replicated),
                    head_offset: known.entries.len() as u64,
                    replicated_offset: known.replicated,
                })
            }
            Ok((log, Some(common), _)) => {
                self.follow(session, log, common);
                Answer::Diverged(self.diverged(log, common))
            }
        };
        self.say(session, id, Say::Resumed(wire::Resumed { log: name, answer: Some(answer) }));
        self.deliver();
        self.tell_replicated(session, log);
    }

    fn follow(&mut self, session: u64, log: LogId, offset: u64) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.follows.insert(log, offset);
        }
    }

    fn tell_replicated(&mut self, session: u64, log: &str) {
        let Ok(id) = log.parse::<LogId>() else { return };
        let Some(known) = self.logs.get(&id).filter(|log| log.replicated > 0) else { return };
        let (offset, position) = (known.replicated, known.token(known.replicated));
        self.say(session, 0, Say::Replicated(wire::Replicated { log: log.to_owned(), position, offset }));
    }

    fn diverged(&self, log: LogId, common: u64) -> wire::Diverged {
        wire::Diverged { log: log.to_string(), common: self.logs[&log].token(common), common_offset: common }
    }

    /// The log, the common offset where the position diverged, and the position's own offset.
    fn locate(&self, log: &str, position: &str) -> Result<(LogId, Option<u64>, u64), Refusal> {
        let id: LogId = log.parse().map_err(|_| Refusal::new(Code::BadRequest, format!("chat {log:?}")))?;
        let known = self.logs.get(&id).ok_or_else(|| Refusal::new(Code::UnknownChat, log))?;
        let position = PositionToken::open(id, position)
            .map_err(|error| Refusal::new(Code::PositionMalformed, error.to_string()))?;
        let (epoch, offset) = (position.epoch.get(), position.offset.get());
        if offset == 0 || known.epoch_at(offset) == Some(epoch) {
            return Ok((id, None, offset));
        }
        let common = known.entries.iter().take_while(|stored| stored.epoch <= epoch).count() as u64;
        // The position itself is another entry's here, so it is not shared.
        Ok((id, Some(common.min(offset - 1)), offset))
    }

    fn send(&mut self, session: u64, id: u64, user: &str, device: u64, send: wire::Send) {
        let Some(log) = send.log.parse().ok().filter(|log| self.logs.contains_key(log)) else {
            return self.refuse(session, id, Code::UnknownChat, &send.log);
        };
        let fault = self.faults.pop_front();
        if let Some(code) = fault.and_then(Fault::refusal) {
            return self.refuse(session, id, code, "as the test wants it");
        }
        let offset = match self.logs[&log].find(user, device, &send.message_id) {
            Some(offset) => offset,
            None => {
                let after = &send.after_message_id;
                if !after.is_empty() && self.logs[&log].find(user, device, after).is_none() {
                    return self.refuse(session, id, Code::OutOfOrder, after);
                }
                self.append_entry(
                    log,
                    wire::Entry {
                        sender: user.to_owned(),
                        device,
                        message_id: send.message_id,
                        kind: send.kind,
                        refers_to: send.refers_to,
                        body: Some(wire::entry::Body::Ciphertext(send.ciphertext)),
                        ..wire::Entry::default()
                    },
                )
            }
        };
        if fault == Some(Fault::WriteButDoubt) {
            return self.refuse(session, id, Code::Indeterminate, "as the test wants it");
        }
        self.sent_when(session, id, log, offset, send.ack);
    }

    fn sent_when(&mut self, session: u64, id: u64, log: LogId, offset: u64, ack: i32) {
        let replicated = self.logs[&log].replicated >= offset;
        if ack == i32::from(wire::AckPolicy::Replicated) && !replicated {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.waiting.push((id, log, offset));
            }
            return;
        }
        self.sent(session, id, log, offset, ack);
    }

    fn sent(&mut self, session: u64, id: u64, log: LogId, offset: u64, ack: i32) {
        let entry = &self.logs[&log].entries[offset as usize - 1].entry;
        let sent = wire::Sent {
            log: log.to_string(),
            message_id: entry.message_id.clone(),
            position: entry.position.clone(),
            offset,
            accepted_at_ms: entry.accepted_at_ms,
            ack,
        };
        self.say(session, id, Say::Sent(sent));
    }

    /// Writes an entry, as any device, and answers its offset.
    pub fn append(
        &mut self,
        log: LogId,
        user: &str,
        device: u64,
        message_id: &str,
        body: wire::entry::Body,
    ) -> u64 {
        let (sender, message_id) = (user.to_owned(), message_id.to_owned());
        let entry = wire::Entry { sender, device, message_id, body: Some(body), ..wire::Entry::default() };
        self.append_entry(log, entry)
    }

    fn append_entry(&mut self, log: LogId, entry: wire::Entry) -> u64 {
        let epoch = self.epoch;
        let known = self.logs.entry(log).or_default();
        let offset = known.entries.len() as u64 + 1;
        let position = types::Position::new(Generation::FIRST, Epoch::new(epoch), Offset::new(offset));
        let entry = wire::Entry {
            position: PositionToken::seal(log, position).into(),
            offset,
            accepted_at_ms: 1_700_000_000_000 + offset,
            ..entry
        };
        let key = (entry.message_id.clone(), entry.sender.clone(), entry.device);
        known.written.insert(key, offset);
        known.entries.push(Stored { epoch, entry });
        self.deliver();
        if !self.hold_replication {
            self.replicate(log, offset);
        }
        offset
    }

    /// A log becomes replicated up to an offset.
    pub fn replicate(&mut self, log: LogId, offset: u64) {
        let Some(known) = self.logs.get_mut(&log) else { return };
        let offset = offset.min(known.entries.len() as u64);
        if offset <= known.replicated {
            return;
        }
        known.replicated = offset;
        let sessions: Vec<u64> = self.sessions.keys().copied().collect();
        for id in sessions {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let follows = session.follows.contains_key(&log);
            let (done, waiting) =
                session.waiting.drain(..).partition(|(_, of, at)| *of == log && *at <= offset);
            session.waiting = waiting;
            let done: Vec<(u64, LogId, u64)> = done;
            for (request, log, at) in done {
                self.sent(id, request, log, at, wire::AckPolicy::Replicated.into());
            }
            if follows {
                self.tell_replicated(id, &log.to_string());
            }
        }
    }

    /// A new home takes over: every log keeps what is replicated and `keep` entries more.
    pub fn fail_over(&mut self, keep: u64) {
        self.epoch += 1;
        let logs: Vec<LogId> = self.logs.keys().copied().collect();
        for log in logs {
            let Some(known) = self.logs.get_mut(&log) else { continue };
            let common = known.entries.len().min((known.replicated + keep) as usize);
            known.entries.truncate(common);
            known.written.retain(|_, offset| *offset <= common as u64);
            let common = common as u64;
            let diverged = self.diverged(log, common);
            let mut told = Vec::new();
            for (id, session) in &mut self.sessions {
                session.waiting.retain(|(_, of, at)| *of != log || *at <= common);
                if let Some(sent) = session.follows.get_mut(&log).filter(|sent| **sent > common) {
                    *sent = common;
                    told.push(*id);
                }
            }
            for id in told {
                self.say(id, 0, Say::Diverged(diverged.clone()));
            }
        }
    }

    /// Tells a session that it did not keep up, as if entries had been dropped.
    pub fn fall_behind(&mut self, log: LogId) {
        let sessions: Vec<u64> = self.sessions.keys().copied().collect();
        for id in sessions {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if let Some(offset) = session.follows.remove(&log) {
                let position = self.logs[&log].token(offset);
                self.say(id, 0, Say::Behind(wire::Behind { log: log.to_string(), position }));
            }
        }
    }

    fn deliver(&mut self) {
        for session in self.sessions.values_mut() {
            for (log, sent) in &mut session.follows {
                let entries: Vec<_> = self.logs[log].entries[*sent as usize..]
                    .iter()
                    .map(|stored| stored.entry.clone())
                    .collect();
                if entries.is_empty() {
                    continue;
                }
                *sent += entries.len() as u64;
                let frame = Say::Entries(wire::Entries { log: log.to_string(), entries });
                session.out.push_back(wire::ServerFrame { request_id: 0, frame: Some(frame) });
            }
        }
    }

    fn say(&mut self, session: u64, request_id: u64, frame: Say) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.out.push_back(wire::ServerFrame { request_id, frame: Some(frame) });
        }
    }

    fn refuse(&mut self, session: u64, id: u64, code: Code, message: &str) {
        self.say(session, id, Say::Error(proto::client_error(&Refusal::new(code, message))));
    }
}

impl Log {
    fn token(&self, offset: u64) -> String {
        let at = (offset as usize).checked_sub(1);
        at.and_then(|at| self.entries.get(at)).map_or(String::new(), |stored| stored.entry.position.clone())
    }

    fn epoch_at(&self, offset: u64) -> Option<u64> {
        self.entries.get(offset as usize - 1).map(|stored| stored.epoch)
    }

    fn find(&self, user: &str, device: u64, message_id: &str) -> Option<u64> {
        self.written.get(&(message_id.to_owned(), user.to_owned(), device)).copied()
    }
}
