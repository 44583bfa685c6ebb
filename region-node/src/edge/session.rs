//! The session core: what one connection's frames mean.
//!
//! ```text
//!   Greeting ──Hello──► Ready ──silence, wrong version, frame too big, device revoked──► Closed
//! ```
//!
//! Each request is answered once. What a session may have under way is bounded: unanswered writes, reads,
//! followed logs. What is over a bound is refused, typed, and the session goes on.

mod chats;
mod finishing;
mod greeting;
mod live;

pub(crate) use chats::AskOfChat;
pub(crate) use greeting::closing;
pub(crate) use live::{client_receipt, receipts_page};

use super::{
    errors::{Problem, close},
    request::{self, Message, Reading},
};
use crate::{
    accounts::Bearer,
    delivery::{Join, token},
    live::{Asked, Page as ReceiptsPage, RECEIPTS_MEMBERS_MAX, Reached, Seen},
    service::{Acked, LocateAnswer, Page, ReadRefusal},
};
use greeting::Greeting;
use log_store::locate::Located;
use proto::client::{self, ClientFrame, client_frame, resumed, server_frame::Frame};
use std::collections::{BTreeMap, BTreeSet};
use types::{Code, DeviceId, LogId, MessageId, PinSegment, Position, Refusal, UserId, limits};

/// Chats being opened and pages being read, of one session at a time.
const READS_MAX: u32 = 8;
/// Bodies of unanswered writes of one session, in bytes.
const WRITES_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What the node tells and asks of every session.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) region: String,
    pub(crate) node: String,
    pub(crate) development: bool,
    pub(crate) writes_max: u32,
    pub(crate) silence_ms: u64,
}

#[derive(Debug)]
pub(crate) enum Input {
    Frame(ClientFrame),
    /// A message that is no frame; the connection is intact.
    Malformed(String),
    Finished(Finished),
    /// Time has passed. `congested`: the client does not read, so it is not heard either.
    Tick {
        congested: bool,
    },
}

/// What became of something that the session had started.
#[derive(Debug)]
pub(crate) enum Finished {
    /// The token of the Hello was checked.
    Authenticated {
        result: Result<Bearer, Refusal>,
    },
    Appended {
        request_id: u64,
        log: LogId,
        message_id: MessageId,
        /// Of the body.
        bytes: usize,
        result: Result<Acked, Refusal>,
    },
    Opened {
        request_id: u64,
        result: Result<(LogId, Position), Refusal>,
    },
    Read {
        request_id: u64,
        log: LogId,
        result: Result<Page, ReadRefusal>,
    },
    Watched {
        request_id: u64,
        known: Vec<(UserId, Option<Seen>)>,
    },
    Receipts {
        request_id: u64,
        log: LogId,
        result: Result<ReceiptsPage, ReadRefusal>,
    },
    ToldOfChat {
        request_id: u64,
        log: LogId,
        result: Result<Frame, Refusal>,
    },
    Located {
        request_id: u64,
        log: LogId,
        follow: u64,
        position: Position,
        result: Result<(PinSegment, LocateAnswer), ReadRefusal>,
    },
}

#[derive(Debug)]
pub(crate) enum Output {
    /// Check the token of the Hello.
    Authenticate {
        token: String,
    },
    /// See that the session ends when its device is revoked.
    LookAfter(Bearer),
    Welcome {
        request_id: u64,
    },
    Answer {
        request_id: u64,
        frame: Frame,
    },
    Append {
        request_id: u64,
        user: UserId,
        device: DeviceId,
        message: Message,
    },
    Open {
        request_id: u64,
        user: UserId,
        open: client::OpenChat,
    },
    Read {
        request_id: u64,
        user: UserId,
        reading: Reading,
    },
    AskOfChat {
        request_id: u64,
        user: UserId,
        log: LogId,
        ask: AskOfChat,
    },
    Locate {
        request_id: u64,
        user: UserId,
        log: LogId,
        follow: u64,
        position: Position,
    },
    Join(Join),
    Leave(LogId),
    Mark {
        log: LogId,
        user: UserId,
        device: DeviceId,
        reached: Reached,
    },
    Typing {
        log: LogId,
        user: UserId,
        device: DeviceId,
    },
    ReadReceipts {
        request_id: u64,
        asked: Asked,
    },
    /// Tell the session of these users, as members of a chat.
    Watch {
        request_id: u64,
        watcher: UserId,
        users: Vec<UserId>,
        chat: Option<LogId>,
    },
    Unwatch(Vec<UserId>),
    Close {
        code: u16,
        reason: &'static str,
    },
}

#[derive(Debug)]
pub(crate) struct Session {
    terms: Terms,
    who: Option<(UserId, DeviceId)>,
    /// While its token is checked.
    greeting: Option<Box<Greeting>>,
    /// The number of the last Subscribe of each followed log; an earlier one's answer is void.
    followed: BTreeMap<LogId, u64>,
    /// Whom it watches.
    watched: BTreeSet<UserId>,
    next_follow: u64,
    writes: u32,
    write_bytes: usize,
    reads: u32,
    locates: usize,
    heard_ms: u64,
}

impl Session {
    pub(crate) const fn new(now_ms: u64, terms: Terms) -> Self {
        Self {
            terms,
            who: None,
            greeting: None,
            followed: BTreeMap::new(),
            watched: BTreeSet::new(),
            next_follow: 1,
            writes: 0,
            write_bytes: 0,
            reads: 0,
            locates: 0,
            heard_ms: now_ms,
        }
    }

    /// Whose it is, once that is known.
    pub(crate) fn who(&self) -> Option<(&UserId, DeviceId)> {
        self.who.as_ref().map(|(user, device)| (user, *device))
    }

    /// The logs that it follows.
    pub(crate) fn followed(&self) -> impl Iterator<Item = LogId> {
        self.followed.keys().copied()
    }

    pub(crate) fn handle(&mut self, now_ms: u64, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Frame(frame) => {
                self.heard_ms = now_ms;
                self.frame(frame, out);
            }
            Input::Malformed(why) => {
                self.heard_ms = now_ms;
                refuse(0, Refusal::new(Code::BadRequest, why), out);
            }
            Input::Finished(finished) => self.finished(finished, out),
            Input::Tick { congested: true } => self.heard_ms = now_ms,
            Input::Tick { congested: false } => {
                if now_ms.saturating_sub(self.heard_ms) >= self.terms.silence_ms {
                    out.push(Output::Close { code: close::SILENT, reason: "no sign of life" });
                }
            }
        }
    }

    fn frame(&mut self, frame: ClientFrame, out: &mut Vec<Output>) {
        let id = frame.request_id;
        if self.greeting.is_some() {
            return self.wait(frame, out);
        }
        let Some(frame) = frame.frame else {
            let why = "the frame is empty, or of a kind that is not known here";
            return refuse(id, Refusal::new(Code::BadRequest, why), out);
        };
        match (self.who.clone(), frame) {
            (None, client_frame::Frame::Hello(hello)) => self.hello(id, hello, out),
            (Some(_), client_frame::Frame::Hello(_)) => {
                refuse(id, Refusal::new(Code::BadRequest, "a second Hello; it comes once"), out);
            }
            (_, client_frame::Frame::Ping(ping)) => {
                let pong = Frame::Pong(client::Pong { nonce: ping.nonce });
                out.push(Output::Answer { request_id: id, frame: pong });
            }
            (None, _) => {
                let why = "the first frame must be Hello: nobody has said who this is";
                refuse(id, Refusal::new(Code::Unauthenticated, why), out);
            }
            (Some(who), frame) => self.request(id, who, frame, out),
        }
    }

    fn request(
        &mut self,
        id: u64,
        (user, device): (UserId, DeviceId),
        frame: client_frame::Frame,
        out: &mut Vec<Output>,
    ) {
        match frame {
            client_frame::Frame::Send(send) => {
                let about = (send.log.clone(), send.message_id.clone());
                self.write(id, (user, device), about, request::message(send), out);
            }
            client_frame::Frame::Subscribe(subscribe) => {
                self.follow(id, &user, &subscribe.log, &subscribe.position, out);
            }
            client_frame::Frame::Unsubscribe(unsubscribe) => match request::log(&unsubscribe.log) {
                Ok(log) => {
                    if self.followed.remove(&log).is_some() {
                        out.push(Output::Leave(log));
                    }
                }
                Err(refusal) => refuse(id, refusal, out),
            },
            client_frame::Frame::OpenChat(open) => {
                if self.may_read(id, out) {
                    out.push(Output::Open { request_id: id, user, open });
                }
            }
            client_frame::Frame::ReadHistory(read) => match request::reading(&read) {
                Ok(reading) => {
                    if self.may_read(id, out) {
                        out.push(Output::Read { request_id: id, user, reading });
                    }
                }
                Err(refusal) => about(id, refusal.into(), &read.log, "", out),
            },
            client_frame::Frame::MarkCursors(marks) => self.mark(id, &user, device, &marks, out),
            client_frame::Frame::Typing(typing) => self.typing(id, user, device, &typing, out),
            client_frame::Frame::ReadReceipts(read) => self.read_receipts(id, user, read, out),
            client_frame::Frame::WatchPresence(watch) => self.watch(id, user, &watch, out),
            client_frame::Frame::Hello(_) | client_frame::Frame::Ping(_) => {}
            frame => self.chat_request(id, (user, device), frame, out),
        }
    }

    /// Starts a write to a log under a message id, if it is one.
    pub(super) fn write(
        &mut self,
        id: u64,
        (user, device): (UserId, DeviceId),
        (log, message_id): (String, String),
        message: Result<Message, Refusal>,
        out: &mut Vec<Output>,
    ) {
        let bytes = message.as_ref().map_or(0, Message::body_bytes);
        match message {
            Err(refusal) => about(id, refusal.into(), &log, &message_id, out),
            Ok(_) if self.writes >= self.terms.writes_max => {
                let why =
                    format!("{} writes of this session are unanswered, the most there may be", self.writes);
                about(id, Refusal::new(Code::Overloaded, why).into(), &log, &message_id, out);
            }
            Ok(_) if self.write_bytes + bytes > WRITES_MAX_BYTES => {
                let why = format!(
                    "{} bytes of this session are unanswered, and {WRITES_MAX_BYTES} may be",
                    self.write_bytes
                );
                about(id, Refusal::new(Code::Overloaded, why).into(), &log, &message_id, out);
            }
            Ok(message) => {
                self.writes += 1;
                self.write_bytes += bytes;
                out.push(Output::Append { request_id: id, user, device, message });
            }
        }
    }

    pub(super) fn may_read(&mut self, id: u64, out: &mut Vec<Output>) -> bool {
        if self.reads >= READS_MAX {
            let why = format!("{READS_MAX} reads of this session are unanswered, the most there may be");
            refuse(id, Refusal::new(Code::Overloaded, why), out);
            return false;
        }
        self.reads += 1;
        true
    }

    fn follow(&mut self, id: u64, user: &UserId, log: &str, position: &str, out: &mut Vec<Output>) {
        let checked = request::log(log).and_then(|log| Ok((log, request::position(log, position)?)));
        let (log, position) = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                return resumed(id, log, resumed::Answer::Error(proto::client_error(&refusal)), out);
            }
        };
        if self.followed.len() >= limits::SESSION_LOGS_MAX && !self.followed.contains_key(&log) {
            let why =
                format!("this session follows {} logs, the most there may be", limits::SESSION_LOGS_MAX);
            let error = proto::client_error(&Refusal::new(Code::TooLarge, why));
            return resumed(id, &log.to_string(), resumed::Answer::Error(error), out);
        }
        if self.locates >= limits::SESSION_LOGS_MAX {
            let why = format!(
                "{} position checks of this session are unanswered, the most there may be",
                self.locates
            );
            let error = proto::client_error(&Refusal::new(Code::Overloaded, why));
            return resumed(id, &log.to_string(), resumed::Answer::Error(error), out);
        }
        self.locates += 1;
        let follow = self.next_follow;
        self.next_follow += 1;
        if self.followed.insert(log, follow).is_some() {
            // Nothing of the old place may come between the answer and what follows the new position.
            out.push(Output::Leave(log));
        }
        out.push(Output::Locate { request_id: id, user: user.clone(), log, follow, position });
    }

    /// What a client is told first.
    pub(crate) fn welcome(&self, server_time_ms: u64, one_region: bool) -> Frame {
        let silence_ms = u32::try_from(self.terms.silence_ms).unwrap_or(u32::MAX);
        Frame::Welcome(client::Welcome {
            protocol_version: limits::PROTOCOL_VERSION,
            region: self.terms.region.clone(),
            node: self.terms.node.clone(),
            limits: Some(client::Limits {
                body_max_bytes: limits::BODY_MAX_BYTES as u64,
                frame_max_bytes: limits::FRAME_MAX_BYTES as u64,
                page_max_entries: limits::PAGE_MAX_ENTRIES as u32,
                session_logs_max: limits::SESSION_LOGS_MAX as u32,
                session_writes_max: self.terms.writes_max,
                ping_interval_ms: silence_ms / 3,
                receipts_members_max: RECEIPTS_MEMBERS_MAX as u32,
                marks_max: live::MARKS_MAX as u32,
                watched_users_max: live::WATCHED_MAX as u32,
            }),
            server_time_ms,
            one_region,
        })
    }
}

pub(crate) fn sent(log: LogId, message_id: MessageId, acked: &Acked) -> Frame {
    Frame::Sent(client::Sent {
        log: log.to_string(),
        message_id: message_id.to_string(),
        position: token(log, acked.position),
        offset: acked.position.offset.get(),
        accepted_at_ms: acked.accepted_at_ms,
        ack: proto::ack_policy_to_client(acked.ack).into(),
    })
}

pub(crate) fn history_page(log: LogId, page: &Page) -> Frame {
    Frame::HistoryPage(proto::history_page(log, &page.records, page.at_end))
}

fn refuse(request_id: u64, refusal: Refusal, out: &mut Vec<Output>) {
    about(request_id, refusal.into(), "", "", out);
}

fn about(request_id: u64, problem: Problem, log: &str, message_id: &str, out: &mut Vec<Output>) {
    let cut = |text: &str| text.chars().take(80).collect::<String>();
    let error = client::Error { log: cut(log), message_id: cut(message_id), ..problem.into_client() };
    out.push(Output::Answer { request_id, frame: Frame::Error(error) });
}

fn resumed(request_id: u64, log: &str, answer: resumed::Answer, out: &mut Vec<Output>) {
    let log = log.chars().take(80).collect();
    let frame = Frame::Resumed(client::Resumed { log, answer: Some(answer) });
    out.push(Output::Answer { request_id, frame });
}
