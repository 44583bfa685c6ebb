//! What the server has been asked and has not answered, on this connection.

use std::collections::{HashMap, VecDeque};
use types::{LogId, MessageId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Hello,
    Send {
        log: LogId,
        message_id: MessageId,
    },
    Subscribe {
        log: LogId,
    },
    /// The last entry of a log, to follow it from there.
    FindEnd {
        log: LogId,
    },
    Call {
        call: u64,
    },
}

#[derive(Default)]
pub(super) struct Requests {
    last_id: u64,
    open: HashMap<u64, Request>,
    writes: usize,
    unread_ms: u64,
    /// Writes in the order of their sending; answered ones are skipped when they reach the front.
    write_order: VecDeque<(u64, u64)>,
}

impl Requests {
    pub(super) fn open(&mut self, now_ms: u64, request: Request) -> u64 {
        self.last_id += 1;
        if matches!(request, Request::Send { .. }) {
            self.writes += 1;
            self.write_order.push_back((self.last_id, now_ms));
        }
        self.open.insert(self.last_id, request);
        self.last_id
    }

    pub(super) fn close(&mut self, id: u64) -> Option<Request> {
        let request = self.open.remove(&id)?;
        if matches!(request, Request::Send { .. }) {
            self.writes -= 1;
            while self.write_order.front().is_some_and(|(front, _)| !self.open.contains_key(front)) {
                self.write_order.pop_front();
            }
        }
        Some(request)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) const fn writes(&self) -> usize {
        self.writes
    }

    /// Since when the oldest unanswered write has waited.
    pub(super) fn oldest_write_ms(&self) -> Option<u64> {
        self.write_order.front().map(|(_, sent_ms)| (*sent_ms).max(self.unread_ms))
    }

    /// Answers may lie unread: waiting counts from now.
    pub(super) fn postpone(&mut self, now_ms: u64) {
        self.unread_ms = now_ms;
    }

    pub(super) fn connection_lost(&mut self) {
        self.open.clear();
        self.write_order.clear();
        self.writes = 0;
    }
}
