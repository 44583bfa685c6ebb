//! What waits for one session's task: outcomes to act on and messages to write. Messages are bounded by
//! bytes, and nothing here blocks whoever fills it.
//!
//! Entries and ticks are offered, and refused when the queue is full: they can be read from the log.
//! Answers are always taken; there are only as many as the session may have requests, and while the queue
//! is congested nothing more is read from the client. Ticks wait beside the queue, the latest of each log
//! only, and leave behind the entries that were there before them. The task is woken once for all that
//! comes before it looks.

use super::{
    Farewell,
    frame::{Encoding, SharedFrame, bytes_of, server_frame},
    session::{Finished, client_receipt},
};
use crate::live::Receipt;
use axum::extract::ws::{CloseFrame, Message};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use proto::client::{self, server_frame::Frame};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::Waker,
};
use tokio::sync::Notify;
use types::{LogId, Position, PositionToken, Refusal, UserId};

/// What a message costs beside its bytes.
const MESSAGE_BYTES: usize = 64;
/// What a waiting tick costs.
const TICK_BYTES: usize = 96;
/// What a waiting receipt costs.
const RECEIPT_BYTES: usize = 320;
/// Receipts that are written as one message.
const FRAME_RECEIPTS_MAX: usize = 64;
/// The most that is taken for writing at a time.
const BATCH_MAX_BYTES: usize = 32 * 1024;

/// The queue of one session.
#[derive(Debug)]
pub(crate) struct SessionQueue {
    encoding: Encoding,
    bytes_max: usize,
    state: Mutex<State>,
    task: AtomicWaker,
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    outcomes: Vec<Finished>,
    messages: VecDeque<Message>,
    bytes: usize,
    ticks: BTreeMap<LogId, Position>,
    receipts: BTreeMap<(LogId, UserId), Receipt>,
    closing: Option<CloseFrame>,
    is_closed: bool,
    /// The node goes down.
    is_leaving: bool,
    /// The session may not go on, and why.
    ousted: Option<Box<Refusal>>,
    /// The client is to go elsewhere; it has not been told yet.
    farewell: Option<Arc<Farewell>>,
    /// The user has joined or left a chat.
    is_rung: bool,
    /// The task will look.
    is_woken: bool,
}

impl State {
    fn messages_bytes(&self) -> usize {
        self.bytes - self.ticks.len() * TICK_BYTES - self.receipts.len() * RECEIPT_BYTES
    }

    fn put_tick(&mut self, log: LogId, position: Position, bytes_max: usize) -> bool {
        if self.is_closed {
            return false;
        }
        if let Some(earlier) = self.ticks.get_mut(&log) {
            *earlier = position;
            return true;
        }
        if self.bytes > 0 && self.bytes + TICK_BYTES > bytes_max {
            return false;
        }
        self.bytes += TICK_BYTES;
        self.ticks.insert(log, position);
        true
    }
}

/// What the task has to do beside writing.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    /// To be acted on.
    pub(crate) outcomes: Vec<Finished>,
    /// The node goes down: tell the client and close.
    pub(crate) is_leaving: bool,
    /// The session may not go on: tell the client and close.
    pub(crate) ousted: Option<Box<Refusal>>,
    /// The client is to be told to go elsewhere.
    pub(crate) farewell: Option<Arc<Farewell>>,
    /// The user has joined or left a chat. Sessions hear it from their clients.
    pub(crate) is_rung: bool,
    /// More than half full: nothing more is read from the client.
    pub(crate) is_congested: bool,
}

impl SessionQueue {
    pub(crate) fn new(encoding: Encoding, bytes_max: usize) -> Self {
        let (state, task, drained) = (Mutex::default(), AtomicWaker::new(), Notify::new());
        Self { encoding, bytes_max, state, task, drained }
    }

    /// Takes what became of something that the session had started.
    pub(crate) fn finish(&self, finished: Finished) {
        self.change(|state| {
            state.outcomes.push(finished);
            true
        });
    }

    /// The node goes down.
    pub(crate) fn leave(&self) {
        self.change(|state| {
            state.is_leaving = true;
            true
        });
    }

    /// The session may not go on.
    pub(crate) fn oust(&self, why: Refusal) {
        self.change(|state| {
            state.ousted.get_or_insert_with(|| Box::new(why));
            true
        });
    }

    /// The client is to go elsewhere; until it does the session goes on.
    pub(crate) fn send_away(&self, farewell: Arc<Farewell>) {
        self.change(|state| {
            state.farewell = Some(farewell);
            true
        });
    }

    /// The user has joined or left a chat.
    pub(crate) fn ring(&self) {
        self.change(|state| {
            state.is_rung = true;
            true
        });
    }

    /// From now on `waker` is woken when something comes. Look for what is there already behind this.
    pub(crate) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Takes what is to be done beside writing. The task looks from now on until it [rests](Self::rest).
    pub(crate) fn errands(&self) -> Errands {
        let mut state = self.state.lock();
        state.is_woken = true;
        Errands {
            outcomes: std::mem::take(&mut state.outcomes),
            is_leaving: state.is_leaving,
            ousted: state.ousted.take(),
            farewell: state.farewell.take(),
            is_rung: std::mem::take(&mut state.is_rung),
            is_congested: self.congests(&state),
        }
    }

    /// Takes an answer.
    pub(crate) fn answer(&self, request_id: u64, frame: Frame) {
        self.push(self.encoding.encode(&server_frame(request_id, frame)));
    }

    /// Takes what is shared with other sessions, if there is room. An empty queue has room for anything.
    pub(crate) fn offer(&self, frame: &SharedFrame) -> bool {
        let message = frame.message(self.encoding);
        let cost = MESSAGE_BYTES + bytes_of(&message);
        self.change(|state| {
            if state.is_closed || (state.bytes > 0 && state.bytes + cost > self.bytes_max) {
                return false;
            }
            state.bytes += cost;
            state.messages.push_back(message);
            true
        })
    }

    /// Takes a tick, in place of an earlier one of the log, if there is room.
    pub(crate) fn offer_tick(&self, log: LogId, position: Position) -> bool {
        self.change(|state| state.put_tick(log, position, self.bytes_max))
    }

    /// The same, for whatever is written next: the task is not woken before [`SessionQueue::rouse`].
    pub(crate) fn lay_tick(&self, log: LogId, position: Position) -> bool {
        self.state.lock().put_tick(log, position, self.bytes_max)
    }

    /// Has the ticks written that were laid here.
    pub(crate) fn rouse(&self) {
        self.change(|state| !state.ticks.is_empty());
    }

    /// Takes a receipt, in place of an earlier one of the same user and log, if there is room.
    pub(crate) fn offer_receipt(&self, log: LogId, receipt: Receipt) -> bool {
        let key = (log, receipt.user.clone());
        self.change(|state| {
            if state.is_closed {
                return false;
            }
            if !state.receipts.contains_key(&key) {
                if state.bytes > 0 && state.bytes + RECEIPT_BYTES > self.bytes_max {
                    return false;
                }
                state.bytes += RECEIPT_BYTES;
            }
            state.receipts.insert(key, receipt);
            true
        })
    }

    /// Forgets the tick of a log that the session no longer follows.
    pub(crate) fn forget_tick(&self, log: LogId) {
        let mut state = self.state.lock();
        if state.ticks.remove(&log).is_some() {
            state.bytes -= TICK_BYTES;
        }
    }

    /// Writes what waits, then closes.
    pub(crate) fn close(&self, frame: CloseFrame) {
        self.change(|state| {
            if !state.is_closed {
                state.is_closed = true;
                state.closing = Some(frame);
            }
            true
        });
        self.drained.notify_waiters();
    }

    /// Forgets what waits: nobody writes any more.
    pub(crate) fn abandon(&self) {
        self.change(|state| {
            *state = State { is_closed: true, ..State::default() };
            true
        });
        self.drained.notify_waiters();
    }

    /// More than half full: nothing more is read from the client, and no history for it.
    pub(crate) fn is_congested(&self) -> bool {
        self.congests(&self.state.lock())
    }

    const fn congests(&self, state: &State) -> bool {
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

    fn push(&self, message: Message) {
        self.change(|state| {
            if !state.is_closed {
                state.bytes += MESSAGE_BYTES + bytes_of(&message);
                state.messages.push_back(message);
            }
            true
        });
    }

    /// Changes the state, and wakes the task where that brought something (`true`) and the task is not
    /// about to look already.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) -> bool {
        let (taken, wake) = {
            let mut state = self.state.lock();
            let taken = change(&mut state);
            let wake = taken && !state.is_woken;
            state.is_woken |= taken;
            (taken, wake)
        };
        if wake {
            self.task.wake();
        }
        taken
    }

    /// The task has done all that it could, and is woken by the next thing that comes; `false`: something has
    /// come meanwhile. What waits to be written counts only where the socket `takes_more`.
    pub(crate) fn rest(&self, takes_more: bool) -> bool {
        let mut state = self.state.lock();
        let to_write = !state.messages.is_empty()
            || !state.ticks.is_empty()
            || !state.receipts.is_empty()
            || state.closing.is_some();
        if state.is_leaving
            || state.ousted.is_some()
            || state.farewell.is_some()
            || state.is_rung
            || !state.outcomes.is_empty()
            || (takes_more && to_write)
        {
            return false;
        }
        state.is_woken = false;
        true
    }

    /// Adds the next messages to write to `batch`, a bounded number of bytes; `false` behind the last one
    /// of a closed queue.
    pub(crate) fn take(&self, batch: &mut VecDeque<Message>) -> bool {
        let before = batch.len();
        {
            let mut state = self.state.lock();
            let mut bytes = 0;
            if before == 0 && state.messages_bytes() < BATCH_MAX_BYTES {
                bytes = state.messages_bytes();
                std::mem::swap(batch, &mut state.messages);
            }
            while bytes < BATCH_MAX_BYTES
                && let Some(message) = state.messages.pop_front()
            {
                bytes += MESSAGE_BYTES + bytes_of(&message);
                batch.push_back(message);
            }
            state.bytes -= bytes;
            if state.messages.is_empty() {
                let ticks = std::mem::take(&mut state.ticks);
                state.bytes -= ticks.len() * TICK_BYTES;
                batch.extend(ticks.into_iter().map(|(log, position)| self.tick(log, position)));
                let receipts = std::mem::take(&mut state.receipts);
                state.bytes -= receipts.len() * RECEIPT_BYTES;
                self.put_receipts(receipts, batch);
                batch.extend(state.closing.take().map(|frame| Message::Close(Some(frame))));
            }
            if batch.len() == before {
                return !state.is_closed;
            }
        }
        self.drained.notify_waiters();
        true
    }

    /// Gives back the room that more messages needed than are there now.
    pub(crate) fn shrink(&self) {
        self.state.lock().messages.shrink_to_fit();
    }

    fn put_receipts(&self, receipts: BTreeMap<(LogId, UserId), Receipt>, batch: &mut VecDeque<Message>) {
        let receipts: Vec<(LogId, Receipt)> =
            receipts.into_iter().map(|((log, _), receipt)| (log, receipt)).collect();
        for of_log in receipts.chunk_by(|(log, _), (next, _)| log == next) {
            for part in of_log.chunks(FRAME_RECEIPTS_MAX) {
                let log = part[0].0;
                let receipts = part.iter().map(|(_, receipt)| client_receipt(log, receipt)).collect();
                let frame = Frame::Receipts(client::Receipts { log: log.to_string(), receipts });
                batch.push_back(self.encoding.encode(&server_frame(0, frame)));
            }
        }
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
mod tests;
