//! What the app asks of a session.

use super::{
    Cx, From, Output, SessionCore, Timer,
    calls::{self, End, Kind},
    cx,
    link::Stage,
    local,
    log::LogSession,
    timeline::Timeline,
};
use crate::{Event, Message, Position, SendError};
use proto::client::{self as wire, client_frame};
use std::cmp::Reverse;
use types::{Code, LogId, MessageId, limits};

impl SessionCore {
    pub(super) fn send(
        &mut self,
        now_ms: u64,
        log: LogId,
        message_id: MessageId,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        let bounds = &self.config.bounds;
        let bytes = message.body.len();
        let error = if self.link.stage == Stage::Ended {
            Some(SendError::Closed)
        } else if bytes > self.body_max_bytes {
            Some(SendError::TooLarge { bytes, bytes_max: self.body_max_bytes })
        } else if self.outbox_messages >= bounds.outbox_messages
            || self.outbox_bytes + bytes > bounds.outbox_bytes
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
        match self.logs.get_mut(&log) {
            None => {
                let message = format!("a session follows at most {} chats", limits::SESSION_LOGS_MAX);
                let error = SendError::Refused(local(Code::Overloaded, message));
                cx.event(Event::Failed { log, message_id, error });
            }
            Some(session) if session.outbox.contains(&message_id) => {}
            Some(session) => {
                self.outbox_messages += 1;
                self.outbox_bytes += bytes;
                session.push(&mut cx, message_id, message);
                self.touched(log, now_ms);
            }
        }
    }

    pub(super) fn follow(&mut self, now_ms: u64, log: LogId, from: From, out: &mut Vec<Output>) {
        if let Some(session) = self.logs.get_mut(&log) {
            session.open_again(&mut cx!(self, now_ms, out));
            return;
        }
        if self.logs.len() >= limits::SESSION_LOGS_MAX {
            let message = format!("a session follows at most {} chats", limits::SESSION_LOGS_MAX);
            out.push(Output::Event(Event::Unfollowed { log, error: local(Code::Overloaded, message) }));
            return;
        }
        let start = match from {
            From::End => None,
            From::Start => Some((0, Position::start())),
            From::After { position, offset } => Some((offset, position)),
        };
        let entries_max = self.config.bounds.timeline_entries;
        let timeline = start.map(|(offset, position)| Timeline::new(offset, position, entries_max));
        let session = self.logs.entry(log).or_insert(LogSession::new(log, timeline));
        if self.link.is_live() {
            session.attach(&mut cx!(self, now_ms, out));
        }
    }

    pub(super) fn unfollow(&mut self, log: LogId, out: &mut Vec<Output>) {
        if let Some(session) = self.logs.get_mut(&log) {
            session.closing = true;
            self.drop_if_done(log, out);
        }
    }

    pub(super) fn drop_if_done(&mut self, log: LogId, out: &mut Vec<Output>) {
        if self.logs.get(&log).is_none_or(|session| !session.closing || !session.outbox.is_empty()) {
            return;
        }
        self.logs.remove(&log);
        self.marks.forget(log);
        if self.link.is_live() {
            let unsubscribe = client_frame::Frame::Unsubscribe(wire::Unsubscribe { log: log.to_string() });
            out.push(Output::Frame(wire::ClientFrame { request_id: 0, frame: Some(unsubscribe) }));
        }
    }

    pub(super) fn call(
        &mut self,
        now_ms: u64,
        id: u64,
        kind: Kind,
        frame: client_frame::Frame,
        out: &mut Vec<Output>,
    ) {
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
}
