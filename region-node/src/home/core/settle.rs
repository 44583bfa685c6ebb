//! From a record to its answer: durable, released, replicated, or of unknown fate.

use super::{
    Context, Core, EndReason, Failure, Input, Output, Ticket, bytes_at_most, log::Item, recent::Known,
    rehoming::Handed,
};
use crate::{
    bus::Published,
    service::{Acked, WriteError},
};
use log_store::EpochBegin;
use std::{collections::BTreeMap, sync::Arc};
use types::{
    AckPolicy, Body, Code, Epoch, LogId, Lsn, PartitionPosition, Position, Record, Refusal, StateUpdate,
};

/// Why an answer did not come in time.
const OVERDUE: &str = "the deadline passed";
/// How long a write that the store had no room for should wait, in ms.
const STORE_BUSY_RETRY_MS: u64 = 500;

/// A call that waits for what became of a record.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) known: Known,
    pub(super) due: AckPolicy,
    pub(super) deadline_ms: u64,
    /// The log, where its ack at `home` puts new content at risk.
    pub(super) content: Option<LogId>,
    /// What a step of a re-homing answers in place of an ack.
    pub(super) handed: Option<Handed>,
}

impl Core {
    pub(super) fn wait(&mut self, waiter: Waiter) {
        let waiters = match waiter.due {
            AckPolicy::Home => &mut self.home_waiters,
            AckPolicy::Replicated => &mut self.replicated_waiters,
        };
        waiters.entry(waiter.known.lsn).or_default().push(waiter);
    }

    pub(super) fn durable(&mut self, cx: Context, last: PartitionPosition, out: &mut Vec<Output>) {
        self.batches = self.batches.saturating_sub(1);
        let count = self.writing.partition_point(|record| record.lsn <= last.lsn);
        let records: Vec<Record> = self.writing.drain(..count).collect();
        if let Some(first) = records.first() {
            if self.epochs.last().is_none_or(|begin| begin.epoch < self.epoch) {
                self.epochs.push(EpochBegin { epoch: self.epoch, first_lsn: first.lsn });
            }
            self.durable = last;
            self.lag.durable(last.lsn, cx.now.boot_ms);
            self.unreleased.extend(records.iter().cloned());
            out.push(Output::Durable { records, end: last });
            self.move_watermark(out);
        }
        self.rewind_if_settled(out);
    }

    pub(super) fn failed(&mut self, first: Lsn, failure: Failure, out: &mut Vec<Output>) {
        self.batches = self.batches.saturating_sub(1);
        match failure {
            Failure::Fenced => self.end(EndReason::Fenced, first, out),
            Failure::Busy => {
                self.rewinding = true;
                self.rewind_if_settled(out);
            }
            // Behind a batch that found no room every other is refused as a gap.
            Failure::Broken if self.rewinding => self.rewind_if_settled(out),
            Failure::Broken => self.end(EndReason::StoreFailed, Lsn::new(u64::MAX), out),
        }
    }

    /// Once the store has answered every batch, what is not durable was not written: take it back.
    fn rewind_if_settled(&mut self, out: &mut Vec<Output>) {
        if !self.rewinding || self.batches > 0 {
            return;
        }
        self.rewinding = false;
        let end = self.durable.lsn;
        for record in self.writing.drain(..) {
            self.pending_bytes -= bytes_at_most(&record);
        }
        self.batch.clear();
        self.batch_bytes = 0;
        self.last = end;
        self.unseal_behind(end);
        self.recent.rewind(end);
        self.marks.rewind(end);
        let message = format!("the store of partition {} had no room; nothing was written", self.partition);
        let refusal = Refusal::new(Code::Overloaded, message).retry_after_ms(STORE_BUSY_RETRY_MS);
        for waiters in [&mut self.home_waiters, &mut self.replicated_waiters] {
            for waiter in waiters.split_off(&end.plus(1)).into_values().flatten() {
                out.push(Output::Reply { ticket: waiter.ticket, result: Err(refusal.clone().into()) });
            }
        }
        let mut stalled = Vec::new();
        for (id, log) in self.logs.iter_mut() {
            log.imported_at = log.imported_at.min(end);
            if log.last_lsn() > end {
                log.state = None;
                // What was noted as done may be pending again.
                self.effects.unread(id);
                log.first = log.first.filter(|first| first.lsn <= end);
            }
            if !log.queue.is_empty() {
                stalled.push(id);
            }
        }
        let error = WriteError::Refused(refusal);
        let not_home = self.not_home(true);
        for id in stalled {
            self.refuse_queue(id, &error, &not_home, out);
        }
    }

    /// Lets go what may go at this time, which must have been read right before the replies leave.
    pub fn release(&mut self, cx: Context, out: &mut Vec<Output>) {
        if self.ended || self.waiting {
            return;
        }
        let replicated = self.watermark;
        let may_go = if cx.leased() && !self.is_sealed() { self.durable.lsn } else { replicated };
        self.publish_up_to(may_go, out);
        let paced = self.pressure.paced(self.durable.lsn, &self.lag, cx.now.boot_ms).max(replicated);
        for waiter in take_up_to(&mut self.home_waiters, may_go.min(paced)) {
            let ack = if waiter.known.lsn <= replicated { AckPolicy::Replicated } else { AckPolicy::Home };
            if let (AckPolicy::Home, Some(log)) = (ack, waiter.content) {
                self.marks.acked(waiter.known.lsn, log);
            }
            out.push(ack_of(waiter, ack, self.epoch));
        }
        for waiter in take_up_to(&mut self.replicated_waiters, replicated) {
            out.push(ack_of(waiter, AckPolicy::Replicated, self.epoch));
        }
        self.announce(replicated, out);
        self.drive_effects(cx, out);
        self.seal_if_finished(cx, out);
    }

    fn publish_up_to(&mut self, may_go: Lsn, out: &mut Vec<Output>) {
        while self.unreleased.front().is_some_and(|record| record.lsn <= may_go) {
            let Some(record) = self.unreleased.pop_front() else { return };
            self.pending_bytes -= bytes_at_most(&record);
            self.released = record.lsn;
            let Some((place, is_followed)) = self.logs.place_mut(record.log) else { continue };
            if let Body::Update(StateUpdate::LogImported(import)) = &record.body {
                place.published = Some(import.head);
            }
            let Some(position) = record.position() else { continue };
            let before = place.published.replace(position);
            if is_followed {
                let previous_era = before.map_or(Position::START.era(), |before| before.era());
                out.push(Output::Publish(Arc::new(Published { record, previous_era })));
            }
        }
    }

    fn announce(&mut self, replicated: Lsn, out: &mut Vec<Output>) {
        if replicated <= self.announced {
            return;
        }
        self.announced = replicated;
        for (id, position) in self.marks.pass(replicated) {
            let Some((place, is_followed)) = self.logs.place_mut(id) else { continue };
            place.replicated = place.replicated.max(position);
            if is_followed {
                out.push(Output::Replicated { log: id, position });
            }
        }
    }

    /// Answers those whose deadline has passed.
    pub(super) fn drop_overdue(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        for waiters in [&mut self.home_waiters, &mut self.replicated_waiters] {
            waiters.retain(|_, at_lsn| {
                for waiter in at_lsn.extract_if(.., |waiter| waiter.deadline_ms <= now_ms) {
                    out.push(indeterminate(waiter.ticket, OVERDUE));
                }
                !at_lsn.is_empty()
            });
        }
        if self.queued > 0 {
            self.refuse_overdue(now_ms, out);
        }
    }

    /// Refuses what waits for the store or the directory since before its deadline: none of it was begun.
    fn refuse_overdue(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let (queued, queued_bytes) = (&mut self.queued, &mut self.queued_bytes);
        for (id, log) in self.logs.iter_mut() {
            let is_overdue = |item: &Item| match item {
                Item::Write(write) => write.deadline_ms <= now_ms,
                Item::Rehome(rehoming) => rehoming.deadline_ms <= now_ms,
                Item::Effect(arrival) => arrival.deadline_ms <= now_ms,
                Item::Subscribe(_) | Item::Cursors(_) => false,
            };
            if !log.queue.iter().any(is_overdue) {
                continue;
            }
            for item in std::mem::take(&mut log.queue) {
                match item {
                    Item::Write(write) if write.deadline_ms <= now_ms => {
                        log.forget_lookups(&write);
                        *queued -= 1;
                        *queued_bytes -= write.bytes;
                        let message = format!("the deadline of the write to {id} passed before it was begun");
                        let refusal = Refusal::new(Code::HomeUnavailable, message);
                        out.push(Output::Reply { ticket: write.ticket, result: Err(refusal.into()) });
                    }
                    Item::Rehome(rehoming) if rehoming.deadline_ms <= now_ms => {
                        *queued -= 1;
                        let refusal = Refusal::new(Code::HomeUnavailable, "it was not begun in time");
                        out.push(Output::Reply { ticket: rehoming.ticket, result: Err(refusal.into()) });
                    }
                    Item::Effect(arrival) if arrival.deadline_ms <= now_ms => {
                        *queued -= 1;
                        let refusal = Refusal::new(Code::HomeUnavailable, "it was not begun in time");
                        out.push(Output::Reply { ticket: arrival.ticket, result: Err(refusal.into()) });
                    }
                    item => log.queue.push_back(item),
                }
            }
        }
    }

    /// Ends the epoch. What stands at `not_written_from` and behind it is known not to have been written.
    pub(super) fn end(&mut self, reason: EndReason, not_written_from: Lsn, out: &mut Vec<Output>) {
        let not_home = self.not_home(true);
        for waiters in [std::mem::take(&mut self.home_waiters), std::mem::take(&mut self.replicated_waiters)]
        {
            for waiter in waiters.into_values().flatten() {
                let ticket = waiter.ticket;
                out.push(if waiter.known.lsn >= not_written_from {
                    Output::Reply { ticket, result: Err(not_home.clone().into()) }
                } else if self.is_moving() && reason == EndReason::RowMoved {
                    let (partition, epoch) = (self.partition, self.epoch);
                    Output::Reply { ticket, result: Err(WriteError::Moved { partition, epoch }) }
                } else {
                    indeterminate(ticket, reason.as_str())
                });
            }
        }
        let logs: Vec<LogId> = self.logs.iter_mut().map(|(id, _)| id).collect();
        for id in logs {
            self.refuse_queue(id, &not_home.clone().into(), &not_home, out);
        }
        self.batch.clear();
        self.ended = true;
        out.push(Output::Ended(reason));
    }

    pub(super) fn refuse_all_after_end(&self, input: Input, out: &mut Vec<Output>) {
        let not_home = self.not_home(true);
        match input {
            Input::Append { ticket, .. } => {
                out.push(Output::Reply { ticket, result: Err(not_home.into()) });
            }
            Input::Subscribe { ticket, log } => {
                out.push(Output::Subscribed { ticket, log, result: Err(not_home) });
            }
            Input::Effect(arrival) => {
                out.push(Output::Reply { ticket: arrival.ticket, result: Err(not_home.into()) });
            }
            Input::Rehome(rehoming) => {
                out.push(Output::Reply { ticket: rehoming.ticket, result: Err(not_home.into()) });
            }
            _ => {}
        }
    }
}

fn take_up_to(waiters: &mut BTreeMap<Lsn, Vec<Waiter>>, last: Lsn) -> impl Iterator<Item = Waiter> + use<> {
    let rest = waiters.split_off(&last.plus(1));
    std::mem::replace(waiters, rest).into_values().flatten()
}

fn ack_of(waiter: Waiter, ack: AckPolicy, epoch: Epoch) -> Output {
    if let Some(handed) = waiter.handed {
        return Output::Rehomed { ticket: waiter.ticket, handed };
    }
    let Known { position, accepted_at_ms, .. } = waiter.known;
    Output::Reply { ticket: waiter.ticket, result: Ok(Acked { position, accepted_at_ms, ack, epoch }) }
}

const fn indeterminate(ticket: Ticket, why: &'static str) -> Output {
    Output::Reply { ticket, result: Err(WriteError::Indeterminate { why }) }
}
