//! What waits to be written to one session: bounded by bytes, and never blocking whoever fills it.
//!
//! Entries and ticks are offered, and refused when the queue is full: they can be read from the log.
//! Answers are always taken; there are only as many as the session may have requests, and while the queue
//! is congested nothing more is read from the client. Ticks wait beside the queue, the latest of each log
//! only, and leave behind the entries that were there before them.

use super::frame::{Encoding, SharedFrame, bytes_of, server_frame};
use axum::extract::ws::{CloseFrame, Message};
use parking_lot::Mutex;
use proto::client::{self, server_frame::Frame};
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::Notify;
use types::{LogId, Position, PositionToken};

/// What a message costs beside its bytes.
const MESSAGE_BYTES: usize = 64;
/// What a waiting tick costs.
const TICK_BYTES: usize = 96;
/// The most that is handed to the writer at a time.
const BATCH_MAX_BYTES: usize = 32 * 1024;

/// The queue of one session.
#[derive(Debug)]
pub(crate) struct SessionQueue {
    encoding: Encoding,
    bytes_max: usize,
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    ticks: BTreeMap<LogId, Position>,
    closing: Option<CloseFrame>,
    is_closed: bool,
}

impl SessionQueue {
    pub(crate) fn new(encoding: Encoding, bytes_max: usize) -> Self {
        Self { encoding, bytes_max, state: Mutex::default(), filled: Notify::new(), drained: Notify::new() }
    }

    /// Takes an answer.
    pub(crate) fn answer(&self, request_id: u64, frame: Frame) {
        self.push(self.encoding.encode(&server_frame(request_id, frame)));
    }

    /// Takes what is shared with other sessions, if there is room. An empty queue has room for anything.
    pub(crate) fn offer(&self, frame: &SharedFrame) -> bool {
        let message = frame.message(self.encoding);
        let cost = MESSAGE_BYTES + bytes_of(&message);
        {
            let mut state = self.state.lock();
            if state.is_closed || (state.bytes > 0 && state.bytes + cost > self.bytes_max) {
                return false;
            }
            state.bytes += cost;
            state.messages.push_back(message);
        }
        self.filled.notify_one();
        true
    }

    /// Takes a tick, in place of an earlier one of the log, if there is room.
    pub(crate) fn offer_tick(&self, log: LogId, position: Position) -> bool {
        {
            let mut state = self.state.lock();
            if state.is_closed {
                return false;
            }
            if let Some(earlier) = state.ticks.get_mut(&log) {
                *earlier = position;
                return true;
            }
            if state.bytes > 0 && state.bytes + TICK_BYTES > self.bytes_max {
                return false;
            }
            state.bytes += TICK_BYTES;
            state.ticks.insert(log, position);
        }
        self.filled.notify_one();
        true
    }

    /// Writes what waits, then closes.
    pub(crate) fn close(&self, frame: CloseFrame) {
        {
            let mut state = self.state.lock();
            if state.is_closed {
                return;
            }
            state.is_closed = true;
            state.closing = Some(frame);
        }
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    /// Forgets what waits: nobody writes any more.
    pub(crate) fn abandon(&self) {
        {
            let mut state = self.state.lock();
            *state = State { is_closed: true, ..State::default() };
        }
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    /// Nothing more is taken in.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// More than half full: nothing more is read from the client, and no history for it.
    pub(crate) fn is_congested(&self) -> bool {
        let state = self.state.lock();
        !state.is_closed && state.bytes > self.bytes_max / 2
    }

    /// Waits until the queue is no longer congested, or closed. Cancel-safe.
    pub(crate) async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if !self.is_congested() {
                return;
            }
            drained.await;
        }
    }

    /// The next messages to write; `None` behind the last one of a closed queue. Cancel-safe.
    pub(crate) async fn next_batch(&self) -> Option<Vec<Message>> {
        loop {
            if let Some(batch) = self.take() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    fn push(&self, message: Message) {
        {
            let mut state = self.state.lock();
            if state.is_closed {
                return;
            }
            state.bytes += MESSAGE_BYTES + bytes_of(&message);
            state.messages.push_back(message);
        }
        self.filled.notify_one();
    }

    /// `Some(None)`: closed and empty.
    fn take(&self) -> Option<Option<Vec<Message>>> {
        let mut batch = Vec::new();
        {
            let mut state = self.state.lock();
            let mut bytes = 0;
            while bytes < BATCH_MAX_BYTES
                && let Some(message) = state.messages.pop_front()
            {
                bytes += MESSAGE_BYTES + bytes_of(&message);
                batch.push(message);
            }
            state.bytes -= bytes;
            if state.messages.is_empty() {
                let ticks = std::mem::take(&mut state.ticks);
                state.bytes -= ticks.len() * TICK_BYTES;
                batch.extend(ticks.into_iter().map(|(log, position)| self.tick(log, position)));
                batch.extend(state.closing.take().map(|frame| Message::Close(Some(frame))));
            }
            if batch.is_empty() {
                return if state.is_closed { Some(None) } else { None };
            }
        }
        self.drained.notify_waiters();
        Some(Some(batch))
    }

    fn tick(&self, log: LogId, position: Position) -> Message {
        let tick = client::Replicated {
            log: log.to_string(),
            position: PositionToken::seal(log, position).into(),
            offset: position.offset.get(),
        };
        self.encoding.encode(&server_frame(0, Frame::Replicated(tick)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, Generation, Offset};

    const BYTES_MAX: usize = 1_024;

    fn queue() -> SessionQueue {
        SessionQueue::new(Encoding::Json, BYTES_MAX)
    }

    fn behind(text: &str) -> Frame {
        Frame::Behind(client::Behind { log: text.to_owned(), position: String::new() })
    }

    #[tokio::test]
    async fn a_full_queue_refuses_entries_and_takes_answers() {
        let queue = queue();
        let entry = SharedFrame::new(behind(&"x".repeat(300)));
        assert!(queue.offer(&entry) && queue.offer(&entry));
        assert!(!queue.offer(&entry), "it is over {BYTES_MAX} bytes");
        assert!(queue.is_congested());
        queue.answer(1, behind("answer"));
        let batch = queue.next_batch().await.expect("it is open");
        assert_eq!(batch.len(), 3);
        queue.room().await;
    }

    #[tokio::test]
    async fn an_entry_over_the_bound_passes_alone() {
        let queue = queue();
        assert!(queue.offer(&SharedFrame::new(behind(&"x".repeat(2 * BYTES_MAX)))));
        assert!(!queue.offer(&SharedFrame::new(behind("x"))));
    }

    #[tokio::test]
    async fn only_the_latest_tick_of_a_log_waits_and_it_waits_behind_the_entries() {
        let queue = queue();
        let log = LogId::group([1; 16]);
        for offset in 1..=100 {
            let position = Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(offset));
            assert!(queue.offer_tick(log, position));
        }
        assert!(queue.offer(&SharedFrame::new(behind("entry"))));
        let batch = queue.next_batch().await.expect("it is open");
        let texts: Vec<&str> = batch.iter().map(|message| message.to_text().expect("JSON")).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains("entry") && texts[1].contains(r#""offset":"100""#), "{texts:?}");
    }

    #[tokio::test]
    async fn a_closed_queue_is_written_to_its_end() {
        let queue = queue();
        queue.answer(1, behind("last"));
        queue.close(CloseFrame { code: 1000, reason: "bye".into() });
        queue.answer(2, behind("too late"));
        let batch = queue.next_batch().await.expect("what was there");
        assert!(matches!(batch.as_slice(), [Message::Text(_), Message::Close(Some(_))]));
        assert!(queue.next_batch().await.is_none());
    }
}
