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
//! While a partition moves as planned, writes leave for the home that is to come as soon as it is known, and are held
//! there: so they are where they are needed when it is home, and the change of home costs no way there.
//!
//! A write that has waited for a home is not failed by that home's being overloaded with all that has waited: it
//! waits on, until its deadline.
//!
//! A log that is re-homed has another partition under a higher generation of its pin. Once a home has said that
//! a generation is closed, nothing more is sent under it: the lane asks for the pin until it knows a higher one.
//!
//! A write is *open* once it may be in the log. An open write is sent again under its message id, which
//! finds the original; only an ack or a refusal that proves the opposite closes it.

mod words;

pub(crate) use words::{Input, LaneKey, Output, Route, Routes, Submission, Ticket};

use crate::service::{Acked, NotHome, WriteError};
use std::collections::{HashMap, VecDeque};
use types::{Code, Epoch, Generation, MessageId, PartitionId, PinSegment, Refusal};

/// How long a lane waits for the placement to reach an epoch that a node has told of.
const HOLD_FOR_EPOCH_MS: u64 = 500;
/// How long a lane waits before it asks a home again that does not know of its office yet.
const HOLD_FOR_HOME_MS: u64 = 50;
/// How long a lane waits for room on a stream.
const HOLD_FOR_ROOM_MS: u64 = 5;
/// How long a lane waits before it asks again for a pin that has not grown yet.
const HOLD_FOR_PIN_MS: u64 = 40;
/// How long a lane waits before it asks the directory again, which could not be reached, unless that says.
const HOLD_FOR_DIRECTORY_MS: u64 = 200;
/// When a client that was refused for want of a home may try again.
const RETRY_AFTER_MS: u64 = 1_000;

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
    /// Nothing is sent under a pin of this generation or below.
    closed: Generation,
    /// The pin was asked for.
    is_resolving: bool,
    /// In order of `seq`, all on `route`.
    sent: VecDeque<Item<W, R>>,
    /// In order of `seq`.
    parked: VecDeque<Item<W, R>>,
    /// Where the last writes went: the home, and the partition.
    route: Option<(Route, PartitionId)>,
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
    /// It has waited for a home: what comes out with it may be more than that home takes at once.
    waited: bool,
    write: W,
    reply: R,
}

/// Nothing is sent before the placement has reached the epoch, or the time is over.
#[derive(Debug, Clone, Copy)]
struct Hold {
    epoch: Epoch,
    until_ms: u64,
    /// A home that is to come does not count.
    waits_for_home: bool,
}

impl Hold {
    /// Until a time, whatever the placement says.
    const fn until(until_ms: u64) -> Self {
        Self { epoch: Epoch::new(u64::MAX), until_ms, waits_for_home: true }
    }
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
            Input::Resolved(key, pin) => self.with_lane(&key, |lane, parked| {
                lane.is_resolving = false;
                match pin {
                    Ok(pin) => lane.learn(pin),
                    // A lane that has learnt its pin otherwise may have sent what waits in it.
                    Err(_) if lane.pin.is_some() => {}
                    // Writes wait for the directory as for a home: until their deadline.
                    Err(refusal) if refusal.is_retryable() => {
                        let wait_ms = refusal.retry_after_ms.unwrap_or(HOLD_FOR_DIRECTORY_MS);
                        lane.hold = Some(Hold::until(now_ms + wait_ms));
                    }
                    Err(refusal) => return lane.refuse_all(&refusal, parked, out),
                }
                if lane.is_closed() {
                    lane.hold = Some(Hold::until(now_ms + HOLD_FOR_PIN_MS));
                }
                lane.advance(now_ms, &key, routes, parked, out);
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
                    lane.hold = Some(Hold::until(now_ms + HOLD_FOR_ROOM_MS));
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
            out.extend(pin.is_none().then(|| Output::Resolve(key.clone(), Generation::ZERO)));
            Lane { is_resolving: pin.is_none(), ..Lane::new() }
        });
        pin.into_iter().for_each(|pin| lane.learn(pin));
        let item = Item {
            seq,
            attempt: 0,
            message_id,
            after,
            deadline_ms,
            open: false,
            waited: false,
            write,
            reply,
        };
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
        Self {
            pin: None,
            closed: Generation::ZERO,
            is_resolving: false,
            sent: VecDeque::new(),
            parked: VecDeque::new(),
            route: None,
            hold: None,
        }
    }

    /// Takes a pin over, unless a later one is known.
    fn learn(&mut self, pin: PinSegment) {
        if self.pin.is_none_or(|known| known.generation <= pin.generation) {
            self.pin = Some(pin);
        }
    }

    /// The pin that is known is of a generation that is over.
    fn is_closed(&self) -> bool {
        self.pin.is_some_and(|pin| pin.generation <= self.closed)
    }

    fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.parked.is_empty()
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
        let Some(pin) = self.pin else { return self.ask_for_pin(now_ms, key, out) };
        let Some(first) = self.parked.front() else { return };
        let next = routes.next(pin.partition);
        if let Some(hold) = self.hold {
            let to_come = next.as_ref().filter(|_| !hold.waits_for_home).map(|next| next.epoch);
            if now_ms < hold.until_ms && to_come.max(Some(routes.epoch(pin.partition))) < Some(hold.epoch) {
                return self.wait();
            }
            self.hold = None;
        }
        if self.is_closed() {
            if !std::mem::replace(&mut self.is_resolving, true) {
                out.push(Output::Resolve(key.clone(), self.closed));
            }
            return;
        }
        let is_to_come = next.is_some();
        let Some(route) = routes.route(pin.partition).or(next) else { return self.wait() };
        let to = (route.clone(), pin.partition);
        let in_order = match self.sent.back() {
            None => true,
            Some(last) => last.seq < first.seq && self.route.as_ref() == Some(&to),
        };
        if !in_order {
            return;
        }
        self.route = Some(to);
        *parked -= self.parked.len();
        for mut item in self.parked.drain(..) {
            item.attempt += 1;
            item.waited |= is_to_come;
            let ticket = Ticket { lane: key.clone(), seq: item.seq, attempt: item.attempt };
            out.push(Output::Send { ticket, route: route.clone(), pin, write: item.write.clone() });
            self.sent.push_back(item);
        }
    }

    /// Asks for the pin, unless that is under way or was in vain just now.
    fn ask_for_pin(&mut self, now_ms: u64, key: &LaneKey, out: &mut Vec<Output<W, R>>) {
        let is_held = self.hold.is_some_and(|hold| now_ms < hold.until_ms);
        if !is_held && !self.parked.is_empty() && !std::mem::replace(&mut self.is_resolving, true) {
            self.hold = None;
            out.push(Output::Resolve(key.clone(), self.closed));
        }
    }

    /// Notes that what came last waits for a home.
    fn wait(&mut self) {
        self.parked.iter_mut().rev().take_while(|item| !item.waited).for_each(|item| item.waited = true);
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
        let partition = self.route.as_ref().map(|(_, partition)| *partition);
        let known = partition.map_or(Epoch::ZERO, |partition| routes.epoch(partition));
        // One that was to be home, and said no, is not asked again at once.
        let waits_for_home = self.route.as_ref().is_some_and(|(route, _)| route.epoch > known);
        let hold_for = |epoch, until_ms| Hold { epoch, until_ms, waits_for_home };
        let again = |until_ms| hold_for(known.plus(1), until_ms);
        let hold = match outcome {
            Ok(acked) => {
                out.push(Output::Finish { reply: item.reply, result: Ok(acked) });
                return;
            }
            // All that was parked comes out at once, and a pause fails no write.
            Err(WriteError::Refused(Refusal { code: Code::Overloaded, retry_after_ms, .. }))
                if item.waited =>
            {
                again(now_ms + retry_after_ms.unwrap_or(HOLD_FOR_HOME_MS))
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
            Err(WriteError::NotHome(NotHome { closed, .. })) if !closed.is_zero() => {
                self.closed = self.closed.max(closed);
                item.waited = true;
                self.hold = None;
                self.park(item, parked);
                return;
            }
            Err(WriteError::Moved { epoch, .. }) => {
                item.open = true;
                hold_for(epoch.plus(1), now_ms + HOLD_FOR_EPOCH_MS)
            }
            Err(WriteError::NotHome(NotHome { epoch, .. })) if epoch > known => {
                hold_for(epoch, now_ms + HOLD_FOR_EPOCH_MS)
            }
            Err(WriteError::NotHome(_)) => again(now_ms + HOLD_FOR_HOME_MS),
        };
        item.waited = true;
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
        let Some((sent_to, partition)) = &self.route else { return };
        if routes.route(*partition).is_none_or(|route| route.epoch <= sent_to.epoch) {
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
