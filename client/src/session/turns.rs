//! Whose turn it is: time, and the sending of what waits.

use super::{Cx, Output, SessionCore, Timer, calls::End, cx, link::Due, log::LogSession, requests::Request};
use crate::{Event, Refused, SendError};
use proto::client::{self as wire, client_frame};
use std::cmp::Reverse;
use types::LogId;

/// Messages of one chat that go out before it is the next chat's turn.
const TURN_MESSAGES: usize = 32;

impl SessionCore {
    pub(super) fn on_named_log(
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
            self.marks.forget(id);
            out.push(Output::Event(Event::Unfollowed { log: id, error }));
        }
    }

    pub(super) fn on_log(
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
    pub(super) fn touched(&mut self, id: LogId, now_ms: u64) {
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
    pub(super) fn pump(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if !self.link.is_live() || self.link.is_leaving() {
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

    pub(super) fn tick(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        match self.link.due(now_ms, &self.config.timing, self.requests.is_empty()) {
            Due::Nothing => {}
            Due::Connect => self.connect(now_ms, out),
            Due::Ping => {
                let ping = client_frame::Frame::Ping(wire::Ping { nonce: now_ms });
                out.push(Output::Frame(wire::ClientFrame { request_id: 0, frame: Some(ping) }));
            }
            Due::Leave => self.leave(now_ms, out),
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
                Timer::Marks => self.tick_marks(now_ms, out),
                Timer::Log(id) => self.tick_log(now_ms, id, out),
                Timer::Stall(id) => self.on_log(now_ms, id, out, |log, cx| {
                    log.stall_timer = false;
                    log.resend_stalled(cx);
                }),
            }
        }
    }

    pub(super) fn tick_log(&mut self, now_ms: u64, id: LogId, out: &mut Vec<Output>) {
        if self.link.is_live() {
            self.on_log(now_ms, id, out, LogSession::tick);
        }
    }

    pub(super) fn tick_calls(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let timeout_ms = self.config.timing.call_timeout_ms;
        for id in self.calls.overdue(now_ms, timeout_ms) {
            if let Some(call) = self.calls.remove(id) {
                let end = End::TimedOut { waited_ms: timeout_ms, last: call.last };
                out.push(Output::Answer { call: id, answer: call.kind.failed(end) });
            }
        }
        if !self.link.is_live() || self.link.is_leaving() {
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
