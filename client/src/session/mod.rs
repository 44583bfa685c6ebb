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

mod asks;
mod calls;
mod connection;
mod context;
mod frames;
mod link;
mod log;
mod marks;
mod outbox;
mod requests;
mod search;
mod snapshot;
mod timeline;
mod turns;
mod watching;

pub use calls::{Answer, Page};
pub use log::From;
pub use snapshot::{LogSnapshot, MessageSnapshot, Snapshot};
pub(crate) use timeline::Timeline;

use crate::{Config, Event, Message, Position, Refused};
use calls::{Calls, Kind};
use context::{Cx, cx};
use link::{Link, Stage};
use log::LogSession;
use marks::Marks;
use proto::client::{self as wire, client_frame};
use requests::{Request, Requests};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
};
use types::{Code, LogId, MessageId, UserId, limits};

/// What a session is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// Start connecting.
    Start,
    /// What to show on the connection that opens next.
    Token(String),
    /// Nobody will be let in: the device has no token any more.
    Barred {
        /// Why.
        error: Refused,
    },
    /// The driver has opened the connection that [`Output::Connect`] asked for.
    Connected,
    /// The connection, or the attempt to open it, is over.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// The attempt to open the connection was refused: the edge has no room now.
    TurnedAway {
        /// Why.
        reason: String,
        /// When it may have room again.
        retry_after_ms: u64,
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
        /// What it says.
        message: Message,
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
    /// The app has received, and its user has seen, a followed chat up to these entries (offset and position).
    Mark {
        /// The chat.
        log: LogId,
        /// Received; none: as before.
        delivered: Option<(u64, Position)>,
        /// Seen; none: as before.
        read: Option<(u64, Position)>,
    },
    /// The user is typing in a followed chat.
    Typing {
        /// The chat.
        log: LogId,
    },
    /// Tell from now on whether these users are there, with whom the user shares this chat, or a direct one each.
    Watch {
        /// Whom.
        users: Vec<UserId>,
        /// As members of this chat; none: of the direct chat with each.
        chat: Option<LogId>,
    },
    /// Tell it no longer.
    Unwatch {
        /// Of whom.
        users: Vec<UserId>,
    },
    /// Read how far members have come; answered by [`Output::Answer`].
    Receipts {
        /// Fresh for each call.
        call: u64,
        /// What to read.
        read: wire::ReadReceipts,
    },
    /// Change a chat; answered by [`Output::Answer`].
    Control {
        /// Fresh for each call.
        call: u64,
        /// What to write.
        write: client_frame::Frame,
    },
    /// Look at a chat, its members or its invites; answered by [`Output::Answer`].
    Look {
        /// Fresh for each call.
        call: u64,
        /// What to read.
        read: client_frame::Frame,
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
        /// The token that an edge has called ended: another one is wanted.
        refused_token: Option<String>,
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
    Marks,
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
    marks: Marks,
    /// Whom the app watches, and as members of which chat.
    watched: BTreeMap<UserId, Option<LogId>>,
    outbox_messages: usize,
    outbox_bytes: usize,
    body_max_bytes: usize,
    window: usize,
    one_region: bool,
    broken: Option<String>,
    /// What the server said when it sent the session away last.
    sent_away_for: String,
    token: String,
    /// Called ended by the last edge.
    refused_token: Option<String>,
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
            marks: Marks::default(),
            watched: BTreeMap::new(),
            outbox_messages: 0,
            outbox_bytes: 0,
            body_max_bytes: limits::BODY_MAX_BYTES,
            one_region: false,
            broken: None,
            sent_away_for: String::new(),
            token: String::new(),
            refused_token: None,
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
            Input::Token(token) => self.token = token,
            Input::Barred { error } => self.end(&error, out, now_ms),
            Input::Connected => self.greet(now_ms, out),
            Input::Disconnected { reason } => self.lost(now_ms, reason, false, out),
            Input::TurnedAway { reason, retry_after_ms } => {
                self.turned_away(now_ms, reason, retry_after_ms, out);
            }
            Input::Heard => {
                self.link.heard(now_ms);
                self.requests.postpone(now_ms);
            }
            Input::Frame(frame) => self.frame(now_ms, frame, out),
            Input::Send { log, message_id, message } => self.send(now_ms, log, message_id, message, out),
            Input::Follow { log, from } => self.follow(now_ms, log, from, out),
            Input::Unfollow { log } => self.unfollow(log, out),
            Input::Open { call, chat } => {
                self.call(now_ms, call, Kind::Open, client_frame::Frame::OpenChat(chat), out);
            }
            Input::History { call, read } => {
                self.call(now_ms, call, Kind::History, client_frame::Frame::ReadHistory(read), out);
            }
            Input::Mark { log, delivered, read } => self.mark(now_ms, log, delivered, read),
            Input::Typing { log } => self.typing(log, out),
            Input::Watch { users, chat } => self.watch(users, chat, out),
            Input::Unwatch { users } => self.unwatch(&users, out),
            Input::Receipts { call, read } => {
                self.call(now_ms, call, Kind::Receipts, client_frame::Frame::ReadReceipts(read), out);
            }
            Input::Control { call, write } => self.call(now_ms, call, Kind::Control, write, out),
            Input::Look { call, read } => {
                let kind = match &read {
                    client_frame::Frame::ReadMembers(_) => Kind::Members,
                    client_frame::Frame::ReadInvites(_) => Kind::Invites,
                    _ => Kind::Info,
                };
                self.call(now_ms, call, kind, read, out);
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
