//! The session core: everything a client decides, as a plain state machine.
//!
//! Input and the time go in, ordered outputs come out; no socket, clock, randomness (but a seed) or await.
//! The driver connects, reads, writes and waits as it is told.
//!
//! Invariants:
//! - a message is in the outbox from [`Event::Accepted`] until it is replicated or refused for good;
//! - the messages of one chat enter its log in the order of their [`Input::Send`];
//! - the app is given each entry once, in offset order; [`Event::Diverged`] alone takes entries back;
//! - what a session holds is bounded by [`crate::Bounds`], and work per frame does not grow with it.

mod calls;
mod link;
mod log;
mod outbox;
mod requests;
mod snapshot;
mod timeline;

pub use calls::{Answer, Page};
pub use log::From;
pub use snapshot::{LogSnapshot, MessageSnapshot, Snapshot};

use crate::{Config, Event, OpenError, Refused, SendError};
use bytes::Bytes;
use calls::{Calls, End, Kind};
use link::{Due, Link, Stage};
use log::LogSession;
use proto::client::{self as wire, client_frame, server_frame};
use requests::{Request, Requests};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};
use timeline::Timeline;
use types::{Code, LogId, MessageId, limits};

/// Cursors in Hello, so that it stays far below the frame limit; the other chats are subscribed one by one.
const HELLO_CURSORS_MAX: usize = 512;
/// Messages of one chat that go out before it is the next chat's turn.
const TURN_MESSAGES: usize = 32;

/// What a session is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// Start connecting.
    Start,
    /// The driver has opened the connection that [`Output::Connect`] asked for.
    Connected,
    /// The connection, or the attempt to open it, is over.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// A frame arrived.
    Frame(wire::ServerFrame),
    /// Data is waiting that the driver may not read now, because the app is slow: the connection lives.
    Heard,
    /// A message for a chat, which is followed from its end where it is not followed yet.
    Send {
        /// The chat.
        log: LogId,
        /// Fresh for each message.
        message_id: MessageId,
        /// Opaque.
        body: Bytes,
    },
    /// Follow a chat; nothing where it is followed already.
    Follow {
        /// The chat.
        log: LogId,
        /// Where to begin.
        from: From,
    },
    /// Follow a chat no longer, once its messages are settled.
    Unfollow {
        /// The chat.
        log: LogId,
    },
    /// Open a chat; answered by [`Output::Answer`].
    Open {
        /// Fresh for each call.
        call: u64,
        /// What to open.
        chat: wire::OpenChat,
    },
    /// Read history; answered by [`Output::Answer`].
    History {
        /// Fresh for each call.
        call: u64,
        /// What to read.
        read: wire::ReadHistory,
    },
    /// Time has passed; due at [`SessionCore::wake_ms`].
    Tick,
    /// End.
    Close,
}

/// What the driver does, in this order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Open a connection; answered by `Connected` or `Disconnected`.
    Connect {
        /// To this address.
        edge: String,
    },
    /// Drop the connection or the attempt; not answered.
    Disconnect,
    /// Write a frame.
    Frame(wire::ClientFrame),
    /// Tell the app.
    Event(Event),
    /// A call has ended.
    Answer {
        /// As in the input.
        call: u64,
        /// What came of it.
        answer: Answer,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Calls,
    Log(LogId),
    Stall(LogId),
}

/// What the parts of a session share while one input is handled.
struct Cx<'a> {
    now_ms: u64,
    config: &'a Config,
    link: &'a mut Link,
    requests: &'a mut Requests,
    timers: &'a mut BinaryHeap<Reverse<(u64, Timer)>>,
    one_region: bool,
    broken: &'a mut Option<String>,
    out: &'a mut Vec<Output>,
}

impl Cx<'_> {
    fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    fn ask(&mut self, request: Request, frame: client_frame::Frame) -> u64 {
        let request_id = self.requests.open(self.now_ms, request);
        self.out.push(Output::Frame(wire::ClientFrame { request_id, frame: Some(frame) }));
        request_id
    }

    fn wait_ms(&mut self, attempts: u32, at_least_ms: Option<u64>) -> u64 {
        let jitter_ms = self.link.jitter(attempts, &self.config.timing);
        jitter_ms.max(at_least_ms.unwrap_or(0).min(self.config.timing.backoff_cap_ms))
    }

    fn wake_log(&mut self, log: LogId, at_ms: u64) {
        self.timers.push(Reverse((at_ms, Timer::Log(log))));
    }

    /// The server breaks the protocol: this connection is given up.
    fn broken(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }
}

/// One session of one device.
pub struct SessionCore {
    config: Config,
    link: Link,
    requests: Requests,
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    logs: HashMap<LogId, LogSession>,
    ready: VecDeque<LogId>,
    calls: Calls,
    outbox_messages: usize,
    outbox_bytes: usize,
    body_max_bytes: usize,
    window: usize,
    one_region: bool,
    broken: Option<String>,
}

/// Borrows the shared parts beside `logs` and `calls`.
macro_rules! cx {
    ($core:ident, $now_ms:ident, $out:ident) => {
        Cx {
            now_ms: $now_ms,
            config: &$core.config,
            link: &mut $core.link,
            requests: &mut $core.requests,
            timers: &mut $core.timers,
            one_region: $core.one_region,
            broken: &mut $core.broken,
            out: $out,
        }
    };
}

impl SessionCore {
    /// A session that goes on where `snapshot` ends. `seed` spreads its waits.
    pub fn new(config: Config, snapshot: Snapshot, seed: u64) -> Self {
        let mut core = Self {
            link: Link::new(config.edges.clone(), &config.timing, seed),
            window: config.bounds.window,
            config,
            requests: Requests::default(),
            timers: BinaryHeap::new(),
            logs: HashMap::new(),
            ready: VecDeque::new(),
            calls: Calls::default(),
            outbox_messages: 0,
            outbox_bytes: 0,
            body_max_bytes: limits::BODY_MAX_BYTES,
            one_region: false,
            broken: None,
        };
        core.restore(snapshot);
        core
    }

    /// When to come back with [`Input::Tick`] at the latest.
    pub fn wake_ms(&self) -> Option<u64> {
        let timer = self.timers.peek().map(|Reverse((at_ms, _))| *at_ms);
        let unanswered =
            self.requests.oldest_write_ms().map(|sent_ms| sent_ms + self.config.timing.write_answer_ms);
        [timer, unanswered, self.link.wake_ms(&self.config.timing)].into_iter().flatten().min()
    }

    /// Messages in the outbox, and the bytes of their bodies.
    pub const fn outbox_size(&self) -> (usize, usize) {
        (self.outbox_messages, self.outbox_bytes)
    }

    /// Takes one input in.
    pub fn handle(&mut self, now_ms: u64, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Start if self.link.stage == Stage::Idle => self.connect(now_ms, out),
            Input::Start => {}
            Input::Connected => self.greet(now_ms, out),
            Input::Disconnected { reason } => self.lost(now_ms, reason, false, out),
            Input::Heard => {
                self.link.heard(now_ms);
                self.requests.postpone(now_ms);
            }
            Input::Frame(frame) => self.frame(now_ms, frame, out),
            Input::Send { log, message_id, body } => self.send(now_ms, log, message_id, body, out),
            Input::Follow { log, from } => self.follow(now_ms, log, from, out),
            Input::Unfollow { log } => self.unfollow(log, out),
            Input::Open { call, chat } => {
                self.call(now_ms, call, Kind::Open, client_frame::Frame::OpenChat(chat), out);
            }
            Input::History { call, read } => {
                self.call(now_ms, call, Kind::History, client_frame::Frame::ReadHistory(read), out);
            }
            Input::Tick => {}
            Input::Close => self.close(now_ms, out),
        }
        self.tick(now_ms, out);
        if let Some(reason) = self.broken.take() {
            self.lost(now_ms, reason, true, out);
        }
        self.pump(now_ms, out);
    }

    // ---- the connection ----

    fn connect(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.link.connect(now_ms, &self.config.timing);
        out.push(Output::Connect { edge: self.link.edge().to_owned() });
    }

    fn greet(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if !matches!(self.link.stage, Stage::Connecting { .. }) {
            return;
        }
        self.link.connected(now_ms, &self.config.timing);
        let request_id = self.requests.open(now_ms, Request::Hello);
        let cursors = self.logs.values_mut().take(HELLO_CURSORS_MAX).filter_map(|log| log.greet(request_id));
        let hello = wire::Hello {
            protocol_version: limits::PROTOCOL_VERSION,
            user: self.config.user.to_string(),
            device: self.config.device.get(),
            cursors: cursors.collect(),
            agent: self.config.agent.clone(),
        };
        let frame = Some(client_frame::Frame::Hello(hello));
        out.push(Output::Frame(wire::ClientFrame { request_id, frame }));
    }

    fn welcomed(&mut self, now_ms: u64, welcome: wire::Welcome, out: &mut Vec<Output>) {
        if !matches!(self.link.stage, Stage::Handshake { .. }) {
            return;
        }
        let limits = welcome.limits.unwrap_or_default();
        self.link.welcomed(now_ms, &self.config.timing, limits.ping_interval_ms);
        if limits.session_writes_max > 0 {
            self.window = self.config.bounds.window.min(limits.session_writes_max as usize);
        }
        if limits.body_max_bytes > 0 {
            self.body_max_bytes = limits.body_max_bytes as usize;
        }
        self.one_region = welcome.one_region;
        out.push(Output::Event(Event::Connected {
            edge: self.link.edge().to_owned(),
            region: welcome.region,
            node: welcome.node,
            one_region: welcome.one_region,
        }));
        let mut cx = cx!(self, now_ms, out);
        for log in self.logs.values_mut().filter(|log| log.stage == log::Stage::Detached) {
            log.attach(&mut cx);
        }
        for call in self.calls.waiting() {
            self.timers.push(Reverse((now_ms, Timer::Calls)));
            if let Some(call) = self.calls.get_mut(call) {
                call.retry_ms = now_ms;
            }
        }
    }

    fn lost(&mut self, now_ms: u64, reason: String, disconnect: bool, out: &mut Vec<Output>) {
        if matches!(self.link.stage, Stage::Idle | Stage::Ended | Stage::Backoff { .. }) {
            return;
        }
        if disconnect {
            out.push(Output::Disconnect);
        }
        self.forget_connection();
        let retry_in_ms = self.link.lost(now_ms, &self.config.timing);
        out.push(Output::Event(Event::Disconnected { reason, retry_in_ms }));
    }

    fn forget_connection(&mut self) {
        self.requests.connection_lost();
        self.calls.connection_lost();
        for log in self.logs.values_mut() {
            log.connection_lost();
        }
    }

    fn end(&mut self, error: &Refused, out: &mut Vec<Output>, now_ms: u64) {
        out.push(Output::Disconnect);
        self.forget_connection();
        self.link.stage = Stage::Ended;
        let mut cx = cx!(self, now_ms, out);
        for log in self.logs.values_mut() {
            log.fail(&SendError::Refused(error.clone()), &mut cx);
        }
        for (id, call) in self.calls.drain() {
            let answer = call.kind.failed(End::Refused(error.clone()));
            out.push(Output::Answer { call: id, answer });
        }
        out.push(Output::Event(Event::Ended { error: error.clone() }));
    }

    fn close(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        out.push(Output::Disconnect);
        self.forget_connection();
        self.link.stage = Stage::Ended;
        let mut cx = cx!(self, now_ms, out);
        for log in self.logs.values_mut() {
            log.fail(&SendError::Closed, &mut cx);
        }
        for (id, call) in self.calls.drain() {
            out.push(Output::Answer { call: id, answer: call.kind.failed(End::Closed) });
        }
    }

    // ---- what the app asks ----

    fn send(&mut self, now_ms: u64, log: LogId, message_id: MessageId, body: Bytes, out: &mut Vec<Output>) {
        let bounds = &self.config.bounds;
        let error = if self.link.stage == Stage::Ended {
            Some(SendError::Closed)
        } else if body.len() > self.body_max_bytes {
            Some(SendError::TooLarge { bytes: body.len(), bytes_max: self.body_max_bytes })
        } else if self.outbox_messages >= bounds.outbox_messages
            || self.outbox_bytes + body.len() > bounds.outbox_bytes
        {
            Some(SendError::OutboxFull {
                messages: self.outbox_messages,
                bytes: self.outbox_bytes,
                messages_max: bounds.outbox_messages,
                bytes_max: bounds.outbox_bytes,
            })
        } else {
            None
        };
        if let Some(error) = error {
            out.push(Output::Event(Event::Failed { log, message_id, error }));
            return;
        }
        self.follow(now_ms, log, From::End, out);
        let mut cx = cx!(self, now_ms, out);
        if let Some(session) = self.logs.get_mut(&log).filter(|session| !session.outbox.contains(&message_id))
        {
            self.outbox_messages += 1;
            self.outbox_bytes += body.len();
            session.push(&mut cx, message_id, body, false);
            self.touched(log, now_ms);
        }
    }

    fn follow(&mut self, now_ms: u64, log: LogId, from: From, out: &mut Vec<Output>) {
        if let Some(session) = self.logs.get_mut(&log) {
            session.closing = false;
            return;
        }
        if self.logs.len() >= limits::SESSION_LOGS_MAX {
            let message = format!("a session follows at most {} chats", limits::SESSION_LOGS_MAX);
            out.push(Output::Event(Event::Unfollowed { log, error: local(Code::Overloaded, message) }));
            return;
        }
        let start = match from {
            From::End => None,
            From::Start => Some((0, crate::Position::start())),
            From::After { position, offset } => Some((offset, position)),
        };
        let entries_max = self.config.bounds.timeline_entries;
        let timeline = start.map(|(offset, position)| Timeline::new(offset, position, entries_max));
        let session = self.logs.entry(log).or_insert(LogSession::new(log, timeline));
        if self.link.is_live() {
            session.attach(&mut cx!(self, now_ms, out));
        }
    }

    fn unfollow(&mut self, log: LogId, out: &mut Vec<Output>) {
        if let Some(session) = self.logs.get_mut(&log) {
            session.closing = true;
            self.drop_if_done(log, out);
        }
    }

    fn drop_if_done(&mut self, log: LogId, out: &mut Vec<Output>) {
        if self.logs.get(&log).is_none_or(|session| !session.closing || !session.outbox.is_empty()) {
            return;
        }
        self.logs.remove(&log);
        if self.link.is_live() {
            let unsubscribe = client_frame::Frame::Unsubscribe(wire::Unsubscribe { log: log.to_string() });
            out.push(Output::Frame(wire::ClientFrame { request_id: 0, frame: Some(unsubscribe) }));
        }
    }

    fn call(&mut self, now_ms: u64, id: u64, kind: Kind, frame: client_frame::Frame, out: &mut Vec<Output>) {
        let end = if self.link.stage == Stage::Ended {
            End::Closed
        } else if self.calls.is_full() {
            End::Refused(local(Code::Overloaded, format!("{} calls are under way", calls::CALLS_MAX)))
        } else {
            self.calls.insert(id, kind, frame, now_ms);
            let deadline_ms = now_ms + self.config.timing.call_timeout_ms;
            self.timers.push(Reverse((now_ms, Timer::Calls)));
            self.timers.push(Reverse((deadline_ms, Timer::Calls)));
            return;
        };
        out.push(Output::Answer { call: id, answer: kind.failed(end) });
    }

    // ---- what the server says ----

    fn frame(&mut self, now_ms: u64, frame: wire::ServerFrame, out: &mut Vec<Output>) {
        use server_frame::Frame;
        self.link.heard(now_ms);
        let request_id = frame.request_id;
        let request = self.requests.close(request_id);
        match frame.frame {
            Some(Frame::Welcome(welcome)) => self.welcomed(now_ms, welcome, out),
            Some(Frame::Error(error)) => self.refused(now_ms, request, error, out),
            Some(Frame::Sent(sent)) => {
                if let Some(Request::Send { log, message_id }) = request {
                    self.on_log(now_ms, log, out, |log, cx| log.sent(&message_id, sent, cx));
                }
            }
            Some(Frame::ChatOpened(opened)) => self.opened(request, opened, out),
            Some(Frame::HistoryPage(page)) => self.page(now_ms, request, page, out),
            Some(Frame::Resumed(resumed)) => {
                self.on_named_log(now_ms, &resumed.log, out, |log, cx| {
                    log.resumed(request_id, resumed.answer, cx)
                });
            }
            Some(Frame::Entries(entries)) => {
                self.on_named_log(now_ms, &entries.log, out, |log, cx| {
                    log.entries(entries.entries, cx);
                    Ok(())
                });
            }
            Some(Frame::Replicated(here)) => {
                self.on_named_log(now_ms, &here.log, out, |log, cx| {
                    log.replicated(here.position.into(), here.offset, cx);
                    Ok(())
                });
            }
            Some(Frame::Diverged(diverged)) => {
                let name = diverged.log.clone();
                self.on_named_log(now_ms, &name, out, |log, cx| {
                    log.diverged(diverged, cx);
                    Ok(())
                });
            }
            Some(Frame::Behind(behind)) => {
                self.on_named_log(now_ms, &behind.log, out, |log, cx| {
                    log.behind(cx);
                    Ok(())
                });
            }
            Some(Frame::GoAway(away)) => {
                self.lost(now_ms, format!("the node is going away: {}", away.reason), true, out);
                self.link.stage = Stage::Backoff { until_ms: now_ms };
            }
            Some(Frame::Pong(_)) | None => {}
        }
    }

    fn refused(&mut self, now_ms: u64, request: Option<Request>, error: wire::Error, out: &mut Vec<Output>) {
        let error = Refused::from(error);
        match request {
            Some(Request::Send { log, message_id }) => {
                self.on_log(now_ms, log, out, |log, cx| log.send_refused(&message_id, error, cx));
            }
            Some(Request::Subscribe { log } | Request::FindEnd { log }) => {
                self.on_named_log(now_ms, &log.to_string(), out, |log, cx| log.follow_refused(error, cx));
            }
            Some(Request::Call { call }) => self.call_refused(now_ms, call, error, out),
            Some(Request::Hello) | None if matches!(self.link.stage, Stage::Handshake { .. }) => {
                match error.retryable {
                    true => self.lost(now_ms, error.to_string(), true, out),
                    false => self.end(&error, out, now_ms),
                }
            }
            Some(Request::Hello) | None => {}
        }
    }

    fn call_refused(&mut self, now_ms: u64, id: u64, error: Refused, out: &mut Vec<Output>) {
        if !error.retryable {
            if let Some(call) = self.calls.remove(id) {
                out.push(Output::Answer { call: id, answer: call.kind.failed(End::Refused(error)) });
            }
            return;
        }
        let mut cx = cx!(self, now_ms, out);
        if let Some(call) = self.calls.get_mut(id) {
            call.asked = false;
            call.retry_ms = now_ms + cx.wait_ms(call.attempts, error.retry_after_ms);
            call.attempts += 1;
            call.last = Some(error);
            cx.timers.push(Reverse((call.retry_ms, Timer::Calls)));
        }
    }

    fn opened(&mut self, request: Option<Request>, opened: wire::ChatOpened, out: &mut Vec<Output>) {
        let Some(Request::Call { call }) = request else { return };
        if self.calls.remove(call).is_none() {
            return;
        }
        let answer = match opened.log.parse() {
            Ok(log) => Ok((log, opened.position.into())),
            Err(error) => Err(OpenError::Refused(local(Code::Internal, format!("chat opened: {error}")))),
        };
        out.push(Output::Answer { call, answer: Answer::Opened(answer) });
    }

    fn page(
        &mut self,
        now_ms: u64,
        request: Option<Request>,
        page: wire::HistoryPage,
        out: &mut Vec<Output>,
    ) {
        match request {
            Some(Request::FindEnd { log }) => {
                self.on_log(now_ms, log, out, |log, cx| log.end_found(page, cx));
            }
            Some(Request::Call { call }) if self.calls.remove(call).is_some() => {
                let entries = page.entries.into_iter().map(crate::Entry::try_from).collect();
                let answer = match entries {
                    Ok(entries) => Ok(Page { entries, at_end: page.at_end }),
                    Err(error) => {
                        Err(crate::HistoryError::Refused(local(Code::Internal, format!("history: {error}"))))
                    }
                };
                out.push(Output::Answer { call, answer: Answer::Page(answer) });
            }
            _ => {}
        }
    }

    // ---- logs ----

    fn on_named_log(
        &mut self,
        now_ms: u64,
        name: &str,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut LogSession, &mut Cx) -> Result<(), Refused>,
    ) {
        let Ok(id) = name.parse::<LogId>() else {
            self.broken.get_or_insert(format!("the node names the chat {name:?}"));
            return;
        };
        let mut given_up = None;
        self.on_log(now_ms, id, out, |log, cx| given_up = act(log, cx).err());
        if let Some(error) = given_up {
            self.on_log(now_ms, id, out, |log, cx| log.fail(&SendError::Refused(error.clone()), cx));
            self.logs.remove(&id);
            out.push(Output::Event(Event::Unfollowed { log: id, error }));
        }
    }

    fn on_log(
        &mut self,
        now_ms: u64,
        id: LogId,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut LogSession, &mut Cx),
    ) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        act(log, &mut cx!(self, now_ms, out));
        self.touched(id, now_ms);
        self.drop_if_done(id, out);
    }

    /// Something about a log changed: accounts for it, and lets it send.
    fn touched(&mut self, id: LogId, now_ms: u64) {
        let Some(log) = self.logs.get_mut(&id) else { return };
        let (messages, bytes) = std::mem::take(&mut log.freed);
        self.outbox_messages -= messages;
        self.outbox_bytes -= bytes;
        if log.outbox.is_empty() {
            return;
        }
        if !log.stall_timer {
            log.stall_timer = true;
            let at_ms = now_ms + self.config.timing.stall_ms;
            self.timers.push(Reverse((at_ms, Timer::Stall(id))));
        }
        if !log.listed {
            log.listed = true;
            self.ready.push_back(id);
        }
    }

    /// Sends what may be sent, chat by chat in turn.
    fn pump(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if !self.link.is_live() {
            return;
        }
        while self.requests.writes() < self.window {
            let Some(id) = self.ready.pop_front() else { return };
            let Some(log) = self.logs.get_mut(&id) else { continue };
            let mut turn = 0;
            let mut cx = cx!(self, now_ms, out);
            while turn < TURN_MESSAGES && cx.requests.writes() < self.window && log.send_next(&mut cx) {
                turn += 1;
            }
            // Below a full turn either the window is full or the log has nothing to send until it is touched.
            log.listed = turn == TURN_MESSAGES || self.requests.writes() >= self.window;
            if log.listed {
                self.ready.push_back(id);
            }
        }
    }

    // ---- time ----

    fn tick(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        match self.link.due(now_ms, &self.config.timing) {
            Due::Nothing => {}
            Due::Connect => self.connect(now_ms, out),
            Due::Ping => {
                let ping = client_frame::Frame::Ping(wire::Ping { nonce: now_ms });
                out.push(Output::Frame(wire::ClientFrame { request_id: 0, frame: Some(ping) }));
            }
            Due::GiveUp(why) => self.lost(now_ms, why.to_owned(), true, out),
        }
        let answer_ms = self.config.timing.write_answer_ms;
        if self.requests.oldest_write_ms().is_some_and(|sent_ms| now_ms >= sent_ms + answer_ms) {
            self.lost(now_ms, "a write was not answered in time".to_owned(), true, out);
        }
        while let Some(Reverse((at_ms, timer))) = self.timers.peek().copied() {
            if at_ms > now_ms {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Calls => self.tick_calls(now_ms, out),
                Timer::Log(id) => self.tick_log(now_ms, id, out),
                Timer::Stall(id) => self.on_log(now_ms, id, out, |log, cx| {
                    log.stall_timer = false;
                    log.resend_stalled(cx);
                }),
            }
        }
    }

    fn tick_log(&mut self, now_ms: u64, id: LogId, out: &mut Vec<Output>) {
        if self.link.is_live() {
            self.on_log(now_ms, id, out, LogSession::tick);
        }
    }

    fn tick_calls(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let timeout_ms = self.config.timing.call_timeout_ms;
        for id in self.calls.overdue(now_ms, timeout_ms) {
            if let Some(call) = self.calls.remove(id) {
                let end = End::TimedOut { waited_ms: timeout_ms, last: call.last };
                out.push(Output::Answer { call: id, answer: call.kind.failed(end) });
            }
        }
        if !self.link.is_live() {
            return;
        }
        let mut cx = cx!(self, now_ms, out);
        for id in self.calls.waiting() {
            if let Some(call) = self.calls.get_mut(id).filter(|call| now_ms >= call.retry_ms) {
                call.asked = true;
                cx.ask(Request::Call { call: id }, call.frame.clone());
            }
        }
    }
}

/// A refusal that the session itself makes.
fn local(code: Code, message: String) -> Refused {
    Refused {
        code: code.as_str().to_owned(),
        message,
        retryable: code.is_retryable(),
        indeterminate: code.is_indeterminate(),
        retry_after_ms: None,
        common: None,
    }
}
