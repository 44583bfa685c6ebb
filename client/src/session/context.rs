//! What the parts of a session share while one input is handled.

use super::{
    Output, Timer,
    link::Link,
    requests::{Request, Requests},
};
use crate::{Config, Event};
use proto::client::{self as wire, client_frame};
use std::{cmp::Reverse, collections::BinaryHeap};
use types::LogId;

/// The shared parts, borrowed.
pub(super) struct Cx<'a> {
    pub(super) now_ms: u64,
    pub(super) config: &'a Config,
    pub(super) link: &'a mut Link,
    pub(super) requests: &'a mut Requests,
    pub(super) timers: &'a mut BinaryHeap<Reverse<(u64, Timer)>>,
    pub(super) one_region: bool,
    pub(super) broken: &'a mut Option<String>,
    pub(super) out: &'a mut Vec<Output>,
}

impl Cx<'_> {
    pub(super) fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    pub(super) fn ask(&mut self, request: Request, frame: client_frame::Frame) -> u64 {
        let request_id = self.requests.open(self.now_ms, request);
        self.out.push(Output::Frame(wire::ClientFrame { request_id, frame: Some(frame) }));
        request_id
    }

    pub(super) fn wait_ms(&mut self, attempts: u32, at_least_ms: Option<u64>) -> u64 {
        let jitter_ms = self.link.jitter(attempts, &self.config.timing);
        jitter_ms.max(at_least_ms.unwrap_or(0).min(self.config.timing.backoff_cap_ms))
    }

    pub(super) fn wake_log(&mut self, log: LogId, at_ms: u64) {
        self.timers.push(Reverse((at_ms, Timer::Log(log))));
    }

    /// The server breaks the protocol: this connection is given up.
    pub(super) fn broken(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }
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

pub(super) use cx;
