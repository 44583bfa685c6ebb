//! The WebSocket of one session, as its one task polls it: reading never waits for writing.

use super::queue::SessionQueue;
use axum::{
    Error,
    extract::ws::{Message, WebSocket},
};
use futures_util::{SinkExt as _, StreamExt as _};
use metrics::Counter;
use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Socket {
    inner: WebSocket,
    writing: VecDeque<Message>,
    is_unflushed: bool,
    blocked_since: Option<Instant>,
    received: Counter,
    sent: Counter,
}

/// The client is gone, or says what is no WebSocket.
#[derive(Debug)]
pub(super) struct Broken;

impl Socket {
    pub(super) fn new(inner: WebSocket) -> Self {
        Self {
            inner,
            writing: VecDeque::new(),
            is_unflushed: false,
            blocked_since: None,
            received: metrics::counter!("hearth_edge_frames", "direction" => "in"),
            sent: metrics::counter!("hearth_edge_frames", "direction" => "out"),
        }
    }

    /// The next message; `None` at the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let message = ready!(self.inner.poll_next_unpin(cx));
        self.received.increment(1);
        Poll::Ready(message)
    }

    /// Writes what waits in the queue, many messages by one call. Ready when all of it has left: `false`
    /// when the queue is closed too.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        queue: &SessionQueue,
    ) -> Poll<Result<bool, Broken>> {
        let written = self.write_on(cx, queue);
        match written {
            Poll::Pending => drop(self.blocked_since.get_or_insert_with(Instant::now)),
            Poll::Ready(_) => self.blocked_since = None,
        }
        written
    }

    fn write_on(&mut self, cx: &mut Context<'_>, queue: &SessionQueue) -> Poll<Result<bool, Broken>> {
        loop {
            let mut is_open = true;
            if self.writing.is_empty() {
                is_open = queue.take(&mut self.writing);
                self.sent.increment(self.writing.len() as u64);
            }
            if self.writing.is_empty() {
                if self.is_unflushed {
                    ready!(self.inner.poll_flush_unpin(cx)).map_err(|_| Broken)?;
                    (self.is_unflushed, self.blocked_since) = (false, None);
                }
                return Poll::Ready(Ok(is_open));
            }
            while !self.writing.is_empty() {
                ready!(self.inner.poll_ready_unpin(cx)).map_err(|_| Broken)?;
                let Some(message) = self.writing.pop_front() else { break };
                self.inner.start_send_unpin(message).map_err(|_| Broken)?;
                (self.is_unflushed, self.blocked_since) = (true, None);
            }
        }
    }

    /// Gives back the room that a burst needed.
    pub(super) fn shrink(&mut self) {
        self.writing.shrink_to_fit();
    }

    /// Forgets what waits to be written: nobody reads it.
    pub(super) fn abandon(&mut self, queue: &SessionQueue) {
        self.writing.clear();
        self.is_unflushed = false;
        queue.abandon();
    }

    /// Whether it has taken nothing for so long.
    pub(super) fn is_blocked_for(&self, patience: Duration) -> bool {
        self.blocked_since.is_some_and(|since| since.elapsed() >= patience)
    }
}
