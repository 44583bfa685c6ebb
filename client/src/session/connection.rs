//! Connecting, greeting, losing the connection and ending.

use super::{Cx, Output, SessionCore, Timer, calls::End, cx, link::Stage, log, requests::Request};
use crate::{Event, Refused, SendError};
use proto::client::{self as wire, client_frame};
use std::cmp::Reverse;
use types::limits;

/// Cursors in Hello, so that it stays far below the frame limit; the other chats are subscribed one by one.
const HELLO_CURSORS_MAX: usize = 512;

impl SessionCore {
    pub(super) fn connect(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.link.connect(now_ms, &self.config.timing);
        let refused_token = self.refused_token.clone();
        out.push(Output::Connect { edge: self.link.edge().to_owned(), refused_token });
    }

    pub(super) fn greet(&mut self, now_ms: u64, out: &mut Vec<Output>) {
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
            token: self.token.clone(),
        };
        let frame = Some(client_frame::Frame::Hello(hello));
        out.push(Output::Frame(wire::ClientFrame { request_id, frame }));
    }

    pub(super) fn welcomed(&mut self, now_ms: u64, welcome: wire::Welcome, out: &mut Vec<Output>) {
        if !matches!(self.link.stage, Stage::Handshake { .. }) {
            return;
        }
        self.refused_token = None;
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
        self.watch_again(out);
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

    /// The edge has no room for the session now.
    pub(super) fn turned_away(
        &mut self,
        now_ms: u64,
        reason: String,
        retry_after_ms: u64,
        out: &mut Vec<Output>,
    ) {
        if !matches!(self.link.stage, Stage::Connecting { .. }) {
            return self.lost(now_ms, reason, false, out);
        }
        self.forget_connection();
        let retry_in_ms = self.link.turned_away(now_ms, &self.config.timing, retry_after_ms);
        out.push(Output::Event(Event::Disconnected { reason, retry_in_ms }));
    }

    pub(super) fn lost(&mut self, now_ms: u64, reason: String, disconnect: bool, out: &mut Vec<Output>) {
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

    /// Goes to where the server has sent the session.
    pub(super) fn leave(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        out.push(Output::Disconnect);
        self.forget_connection();
        self.link.leave(now_ms);
        let reason = format!("the node sends its clients elsewhere: {}", self.sent_away_for);
        out.push(Output::Event(Event::Disconnected { reason, retry_in_ms: 0 }));
    }

    pub(super) fn forget_connection(&mut self) {
        self.requests.connection_lost();
        self.calls.connection_lost();
        self.marks.connection_lost();
        for log in self.logs.values_mut() {
            log.connection_lost();
        }
    }

    pub(super) fn end(&mut self, error: &Refused, out: &mut Vec<Output>, now_ms: u64) {
        out.push(Output::Disconnect);
        self.forget_connection();
        self.link.stage = Stage::Ended;
        let mut cx = cx!(self, now_ms, out);
        for log in self.logs.values_mut() {
            log.fail(&SendError::Ended(error.clone()), &mut cx);
        }
        for (id, call) in self.calls.drain() {
            let answer = call.kind.failed(End::Refused(error.clone()));
            out.push(Output::Answer { call: id, answer });
        }
        out.push(Output::Event(Event::Ended { error: error.clone() }));
    }

    pub(super) fn close(&mut self, now_ms: u64, out: &mut Vec<Output>) {
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
}
