//! The order of writes on their way to a home.
//!
//! Writes of one device to one log form a *lane*. A lane sends a write only behind all earlier ones of
//! it: many may be under way, but only in order on one channel to one home. A write that comes back
//! unwritten, or whose fate is open, takes its old place in the queue, and nothing more of the lane leaves
//! until what is under way has been answered.
//!
//! ```text
//!   submit ──► parked ──send──► sent ──acked, refused──► finished     (nothing is sent before the pin is known)
//!                ▲               │ └────deadline───────► finished: indeterminate
//!                │◄──not home────┤
//!                │◄──open────────┘  (stream broke, home does not know, home replaced or moved)
//!                └──deadline──► finished: home_unavailable, or indeterminate where it is open
//! ```
//!
//! A write is *open* once it may be in the log. An open write is sent again under its message id, which
//! finds the original; only an ack or a refusal that proves the opposite closes it.

use crate::{
    peer::Channel,
    service::{Acked, NotHome, WriteError},
};
use std::collections::{HashMap, VecDeque};
use types::{Code, DeviceId, Epoch, LogId, MessageId, NodeId, PartitionId, PinSegment, Refusal, UserId};

/// How long a lane waits for the placement to reach an epoch that a node has told of.
const HOLD_FOR_EPOCH_MS: u64 = 500;
/// How long a lane waits before it asks a home again that does not know of its office yet.
const HOLD_FOR_HOME_MS: u64 = 50;
/// How long a lane waits for room on a stream.
const HOLD_FOR_ROOM_MS: u64 = 5;
/// When a client that was refused for want of a home may try again.
const RETRY_AFTER_MS: u64 = 1_000;

/// Whose order is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) log: LogId,
    pub(crate) sender: UserId,
    pub(crate) device: DeviceId,
}

/// Where a home can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) node: NodeId,
    pub(crate) channel: Channel,
    pub(crate) epoch: Epoch,
}

/// What the placement says. It grants nothing: the home decides.
pub(crate) trait Routes {
    /// The home that can take writes now.
    fn route(&self, partition: PartitionId) -> Option<Route>;
    /// The partition's epoch.
    fn epoch(&self, partition: PartitionId) -> Epoch;
}

/// Names one sending of one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) lane: LaneKey,
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
}

/// A write that is handed in.
#[derive(Debug)]
pub(crate) struct Submission<W, R> {
    pub(crate) lane: LaneKey,
    /// Where the log is written, if that is known already.
    pub(crate) pin: Option<PinSegment>,
    pub(crate) message_id: MessageId,
    pub(crate) after: Option<MessageId>,
    pub(crate) deadline_ms: u64,
    pub(crate) write: W,
    pub(crate) reply: R,
}

#[derive(Debug)]
pub(crate) enum Input<W, R> {
    Submit(Submission<W, R>),
    /// Where the lane's log is written, or why that is not known.
    Resolved(LaneKey, Result<PinSegment, Refusal>),
    /// A home has spoken, or its stream broke (`Indeterminate`).
    Answered(Ticket, Result<Acked, WriteError>),
    /// It did not leave this node.
    NotSent(Ticket),
    /// The placement or a stream has changed.
    RoutesChanged,
    Tick,
}

#[derive(Debug)]
pub(crate) enum Output<W, R> {
    /// Find the pin of the lane's log.
    Resolve(LaneKey),
    /// To be sent in the order of the outputs.
    Send {
        ticket: Ticket,
        route: Route,
        pin: PinSegment,
        write: W,
    },
    Finish {
        reply: R,
        result: Result<Acked, Refusal>,
    },
}

/// All lanes.
#[derive(Debug)]
pub(crate) struct Lanes<W, R> {
    lanes: HashMap<LaneKey, Lane<W, R>>,
    parked: usize,
    parked_max: usize,
    next_seq: u64,
}

#[derive(Debug)]
struct Lane<W, R> {
    pin: Option<PinSegment>,
    /// In order of `seq`, all on `route`.
    sent: VecDeque<Item<W, R>>,
    /// In order of `seq`.
    parked: VecDeque<Item<W, R>>,
    route: Option<Route>,
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Item<W, R> {
    seq: u64,
    attempt: u32,
    message_id: MessageId,
    after: Option<MessageId>,
    deadline_ms: u64,
    open: bool,
    write: W,
    reply: R,
}

/// Nothing is sent before the placement has reached the epoch, or the time is over.
#[derive(Debug, Clone, Copy)]
struct Hold {
    epoch: Epoch,
    until_ms: u64,
}

impl<W: Clone, R> Lanes<W, R> {
    pub(crate) fn new(parked_max: usize) -> Self {
        Self { lanes: HashMap::new(), parked: 0, parked_max, next_seq: 1 }
    }

    /// Writes that wait.
    pub(crate) const fn parked(&self) -> usize {
        self.parked
    }

    /// Nothing waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(crate) fn handle(
        &mut self,
        now_ms: u64,
        input: Input<W, R>,
        routes: &impl Routes,
        out: &mut Vec<Output<W, R>>,
    ) {
        match input {
            Input::Submit(submission) => self.submit(now_ms, submission, routes, out),
            Input::Resolved(key, pin) => self.with_lane(&key, |lane, parked| match pin {
                Ok(pin) => {
                    lane.pin = Some(pin);
                    lane.advance(now_ms, &key, routes, parked, out);
                }
                // A lane that has learnt its pin otherwise may have sent what waits in it.
                Err(_) if lane.pin.is_some() => {}
                Err(refusal) => lane.refuse_all(&refusal, parked, out),
            }),
            Input::Answered(ticket, outcome) => {
                self.with_lane(&ticket.lane, |lane, parked| {
                    lane.answered(now_ms, &ticket, outcome, routes, parked, out);
                    lane.advance(now_ms, &ticket.lane, routes, parked, out);
                });
            }
            Input::NotSent(ticket) => self.with_lane(&ticket.lane, |lane, parked| {
                if let Some(item) = lane.take_sent(&ticket) {
                    lane.park(item, parked);
                    lane.hold =
                        Some(Hold { epoch: Epoch::new(u64::MAX), until_ms: now_ms + HOLD_FOR_ROOM_MS });
                }
            }),
            Input::RoutesChanged | Input::Tick => self.sweep(now_ms, routes, out),
        }
    }

    fn submit(
        &mut self,
        now_ms: u64,
        submission: Submission<W, R>,
        routes: &impl Routes,
        out: &mut Vec<Output<W, R>>,
    ) {
        let Submission { lane: key, pin, message_id, after, deadline_ms, write, reply } = submission;
        let seq = self.next_seq;
        self.next_seq += 1;
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
            out.extend(pin.is_none().then(|| Output::Resolve(key.clone())));
            Lane::new()
        });
        lane.pin = lane.pin.or(pin);
        let item = Item { seq, attempt: 0, message_id, after, deadline_ms, open: false, write, reply };
        lane.park(item, &mut self.parked);
        lane.advance(now_ms, &key, routes, &mut self.parked, out);
        if self.parked > self.parked_max
            && let Some(item) = lane.parked.pop_back_if(|item| item.seq == seq)
        {
            self.parked -= 1;
            let why = format!("{} writes wait for a home on this node already", self.parked_max);
            let refusal = Refusal::new(Code::Overloaded, why).retry_after_ms(RETRY_AFTER_MS);
            out.push(Output::Finish { reply: item.reply, result: Err(refusal) });
        }
        if lane.is_empty() {
            self.lanes.remove(&key);
        }
    }

    fn with_lane(&mut self, key: &LaneKey, act: impl FnOnce(&mut Lane<W, R>, &mut usize)) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        act(lane, &mut self.parked);
        if lane.is_empty() {
            self.lanes.remove(key);
        }
    }

    fn sweep(&mut self, now_ms: u64, routes: &impl Routes, out: &mut Vec<Output<W, R>>) {
        let parked = &mut self.parked;
        self.lanes.retain(|key, lane| {
            lane.expire(now_ms, parked, out);
            lane.leave_replaced_home(routes, parked);
            lane.advance(now_ms, key, routes, parked, out);
            !lane.is_empty()
        });
    }
}

impl<W: Clone, R> Lane<W, R> {
    const fn new() -> Self {
        Self { pin: None, sent: VecDeque::new(), parked: VecDeque::new(), route: None, hold: None }
    }

    fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.parked.is_empty()
    }

    fn epoch(&self, routes: &impl Routes) -> Epoch {
        self.pin.map_or(Epoch::ZERO, |pin| routes.epoch(pin.partition))
    }

    /// The log cannot be written, or it is not known where: nothing of the lane has been sent.
    fn refuse_all(&mut self, refusal: &Refusal, parked: &mut usize, out: &mut Vec<Output<W, R>>) {
        *parked -= self.parked.len();
        for item in self.parked.drain(..) {
            out.push(Output::Finish { reply: item.reply, result: Err(refusal.clone()) });
        }
    }

    fn park(&mut self, item: Item<W, R>, parked: &mut usize) {
        let at = self.parked.partition_point(|other| other.seq < item.seq);
        self.parked.insert(at, item);
        *parked += 1;
    }

    fn take_sent(&mut self, ticket: &Ticket) -> Option<Item<W, R>> {
        let at =
            self.sent.iter().position(|item| item.seq == ticket.seq && item.attempt == ticket.attempt)?;
        self.sent.remove(at)
    }

    /// Sends what may be sent.
    fn advance(
        &mut self,
        now_ms: u64,
        key: &LaneKey,
        routes: &impl Routes,
        parked: &mut usize,
        out: &mut Vec<Output<W, R>>,
    ) {
        let (Some(first), Some(pin)) = (self.parked.front(), self.pin) else { return };
        if let Some(hold) = self.hold {
            if now_ms < hold.until_ms && routes.epoch(pin.partition) < hold.epoch {
                return;
            }
            self.hold = None;
        }
        let Some(route) = routes.route(pin.partition) else { return };
        let in_order = match self.sent.back() {
            None => true,
            Some(last) => last.seq < first.seq && self.route.as_ref() == Some(&route),
        };
        if !in_order {
            return;
        }
        self.route = Some(route.clone());
        *parked -= self.parked.len();
        for mut item in self.parked.drain(..) {
            item.attempt += 1;
            let ticket = Ticket { lane: key.clone(), seq: item.seq, attempt: item.attempt };
            out.push(Output::Send { ticket, route: route.clone(), pin, write: item.write.clone() });
            self.sent.push_back(item);
        }
    }

    fn answered(
        &mut self,
        now_ms: u64,
        ticket: &Ticket,
        outcome: Result<Acked, WriteError>,
        routes: &impl Routes,
        parked: &mut usize,
        out: &mut Vec<Output<W, R>>,
    ) {
        let Some(mut item) = self.take_sent(ticket) else { return };
        let known = self.epoch(routes);
        let again = |until_ms| Hold { epoch: known.plus(1), until_ms };
        let hold = match outcome {
            Ok(acked) => {
                out.push(Output::Finish { reply: item.reply, result: Ok(acked) });
                return;
            }
            Err(WriteError::Refused(refusal)) if !self.is_open_behind(&item, &refusal) => {
                out.push(Output::Finish { reply: item.reply, result: Err(refusal) });
                return;
            }
            Err(WriteError::Refused(_)) => again(now_ms + HOLD_FOR_HOME_MS),
            Err(WriteError::Indeterminate { .. }) => {
                item.open = true;
                again(now_ms + HOLD_FOR_HOME_MS)
            }
            Err(WriteError::Moved { epoch, .. }) => {
                item.open = true;
                Hold { epoch: epoch.plus(1), until_ms: now_ms + HOLD_FOR_EPOCH_MS }
            }
            Err(WriteError::NotHome(NotHome { epoch, .. })) if epoch > known => {
                Hold { epoch, until_ms: now_ms + HOLD_FOR_EPOCH_MS }
            }
            Err(WriteError::NotHome(_)) => again(now_ms + HOLD_FOR_HOME_MS),
        };
        self.hold = Some(hold);
        self.park(item, parked);
    }

    /// Whether a refusal leaves the write to be sent again: it does not prove that an open write is not in
    /// the log, or it only says that an earlier write, which this lane still holds, is missing.
    fn is_open_behind(&self, item: &Item<W, R>, refusal: &Refusal) -> bool {
        match refusal.code {
            Code::OutOfOrder => self
                .sent
                .iter()
                .chain(&self.parked)
                .any(|earlier| earlier.seq < item.seq && Some(earlier.message_id) == item.after),
            Code::Overloaded
            | Code::HomeUnavailable
            | Code::NotReady
            | Code::DirectoryUnavailable
            | Code::Internal => item.open,
            _ => false,
        }
    }

    /// Takes back what is under way to a home that has a successor: its answer may never come.
    fn leave_replaced_home(&mut self, routes: &impl Routes, parked: &mut usize) {
        if self.sent.is_empty() {
            return;
        }
        let sent_in = self.route.as_ref().map_or(Epoch::ZERO, |route| route.epoch);
        let route = self.pin.and_then(|pin| routes.route(pin.partition));
        if route.is_none_or(|route| route.epoch <= sent_in) {
            return;
        }
        for mut item in std::mem::take(&mut self.sent) {
            item.open = true;
            self.park(item, parked);
        }
        self.hold = None;
    }

    fn expire(&mut self, now_ms: u64, parked: &mut usize, out: &mut Vec<Output<W, R>>) {
        let is_due = |item: &mut Item<W, R>| item.deadline_ms <= now_ms;
        while let Some(at) = self.parked.iter_mut().position(is_due) {
            let Some(item) = self.parked.remove(at) else { break };
            *parked -= 1;
            let refusal =
                if item.open { indeterminate(item.message_id) } else { unavailable(item.message_id) };
            out.push(Output::Finish { reply: item.reply, result: Err(refusal) });
        }
        while let Some(at) = self.sent.iter_mut().position(is_due) {
            let Some(item) = self.sent.remove(at) else { break };
            out.push(Output::Finish { reply: item.reply, result: Err(indeterminate(item.message_id)) });
        }
    }
}

fn indeterminate(message_id: MessageId) -> Refusal {
    let why = format!("message {message_id} may or may not be in the log; send it again under the same id");
    Refusal::new(Code::Indeterminate, why)
}

fn unavailable(message_id: MessageId) -> Refusal {
    let why = format!("the chat's home could not be reached in time; message {message_id} was not written");
    Refusal::new(Code::HomeUnavailable, why).retry_after_ms(RETRY_AFTER_MS)
}
