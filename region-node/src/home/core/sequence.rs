//! From a write to a record: the order of a log's writes, the rules, the offset and the LSN.

use super::{
    Context, Core, Output, Pressure, RECENT_MAX,
    log::{Item, Log, Need, PinProblem, Queued},
    pressure,
    recent::Known,
    rehoming::Next,
    restore::is_restored_deletion,
    rules::{self, Verdict},
    settle::Waiter,
};
use crate::service::{Write, WriteError};
use log_store::{Deduped, fold::Standing};
use std::collections::BTreeSet;
use types::{
    AckPolicy, Body, BodyHash, Class, Code, Entry, EntryBody, Generation, LogId, Record, Refusal,
    StateUpdate, limits,
};

/// Bytes that a record takes beside its body, at most: ids, names and numbers.
const RECORD_OVERHEAD_BYTES: usize = 256;

/// Bytes that one cursor takes in a record, at most.
const CURSOR_BYTES: usize = 128;

/// What to do with the write at the front of its log's queue.
pub(super) enum Step {
    /// Ask first.
    Need(Need),
    Refuse(WriteError),
    /// It is in the log: its ack waits like that of the original.
    Join(Known, AckPolicy),
    /// It becomes the next entry.
    Append(Generation, AckPolicy),
    /// A deletion that is put back: what of its targets stands in the log.
    Delete(Generation, AckPolicy, Vec<Option<Known>>),
}

impl Core {
    /// Goes through a log's queue as far as everything is known.
    pub(super) fn advance(&mut self, cx: Context, id: LogId, out: &mut Vec<Output>) {
        while let Some(mut log) = self.logs.take(id) {
            let Some(mut item) = log.queue.pop_front() else {
                log.lookups.clear();
                self.logs.put(id, log);
                return;
            };
            let step = match &mut item {
                Item::Subscribe(_) | Item::Rehome(_) | Item::Effect(_) | Item::Cursors(_)
                    if log.state.is_none() =>
                {
                    Step::Need(Need::default())
                }
                Item::Subscribe(ticket) => match self.followed_here(&mut log) {
                    Next::Need(need) => Step::Need(need),
                    Next::Is(result) => {
                        out.push(Output::Subscribed { ticket: *ticket, log: id, result });
                        self.queued -= 1;
                        self.put_watched(id, log);
                        continue;
                    }
                },
                Item::Rehome(rehoming) => {
                    self.rehome_step(cx, rehoming, id, &mut log, out);
                    self.queued -= 1;
                    self.put_watched(id, log);
                    continue;
                }
                Item::Effect(arrival) => match self.effect_step(cx, arrival, &mut log, out) {
                    Next::Need(need) => Step::Need(need),
                    Next::Is(()) => {
                        self.queued -= 1;
                        self.logs.put(id, log);
                        continue;
                    }
                },
                Item::Cursors(cursors) => match self.cursors_step(cx, id, cursors, &mut log, out) {
                    Next::Need(need) => Step::Need(need),
                    Next::Is(()) => {
                        self.queued -= 1;
                        self.logs.put(id, log);
                        continue;
                    }
                },
                Item::Write(queued) => match self.locate_targets(cx, queued, &log) {
                    Some(step) => step,
                    None => self.step(cx, queued, &mut log),
                },
            };
            if let Step::Need(mut need) = step {
                need.state = log.state.is_none();
                log.asked.ask(&mut need);
                if !need.is_nothing() {
                    out.push(Output::Load { log: id, as_of: self.durable.lsn, need });
                }
                log.queue.push_front(item);
                self.logs.put(id, log);
                return;
            }
            let Item::Write(queued) = item else { continue };
            log.forget_lookups(&queued);
            self.queued -= 1;
            self.queued_bytes -= queued.bytes;
            self.take(cx, *queued, step, &mut log, out);
            self.logs.put(id, log);
        }
    }

    /// Decides about the write at the front. The order of the checks is the order of the refusals.
    fn step(&self, cx: Context, queued: &Queued, log: &mut Log) -> Step {
        let write = &queued.write;
        let key = queued.key();
        let creation_stands = log.has_creation(self.start_lsn, self.watermark);
        // The state mostly tells that the message id is new, so the id is not asked for together with it.
        let Some(state) = &log.state else { return Step::Need(Need::default()) };
        let found = self.lookup(write.log, &key, log);
        if !cx.leased() {
            return Step::Refuse(self.not_home(true).into());
        }
        let Some(found) = found else { return Step::Need(Need { keys: vec![key], ..Need::default() }) };
        let policy = state.as_ref().map_or(AckPolicy::Home, |state| state.ack_policy);
        let mut due = rules::due(write, policy, self.in_sync.one_region());
        if due == AckPolicy::Home && !self.in_sync.one_region() {
            // What is said in a chat whose creation a failover undoes could be put back by nobody.
            match creation_stands {
                None if state.is_some() => return Step::Need(Need { first: true, ..Need::default() }),
                Some(false) => due = AckPolicy::Replicated,
                Some(true) | None => {}
            }
        }
        if let Some(known) = found {
            return match known.hash == write.body.hash() || is_restored_deletion(write) {
                true => Step::Join(known, due),
                false => Step::Refuse(reused(write).into()),
            };
        }
        if cx.now.boot_ms >= queued.deadline_ms {
            let message = format!("the deadline of the write to {} passed before it was begun", write.log);
            return Step::Refuse(Refusal::new(Code::HomeUnavailable, message).into());
        }
        let standing = log.standing();
        if !standing.closed().is_zero() && write.generation <= standing.closed() {
            return Step::Refuse(self.closed(standing.closed()).into());
        }
        if self.pressure == Pressure::Full && due == AckPolicy::Home && !self.in_sync.one_region() {
            return Step::Refuse(self.pushed_back().into());
        }
        match rules::judge(write, state.as_ref(), cx.now.wall_ms, self.members_max) {
            Err(refusal) => Step::Refuse(refusal.into()),
            Ok(Verdict::AlreadyCreated) => match log.first.or_else(|| log.first_elsewhere()) {
                Some(first) => Step::Join(first, due),
                None => Step::Need(Need { first: true, ..Need::default() }),
            },
            Ok(Verdict::Restore) => self.restore(write, log, due),
            Ok(Verdict::Append) => match self.edits_what_is_there(queued, log) {
                None => Step::Need(Need {
                    keys: queued.edited_key().into_iter().cloned().collect(),
                    ..Need::default()
                }),
                Some(false) => Step::Refuse(unknown_message(write.log).into()),
                Some(true) => self.behind_predecessor(queued, log, due),
            },
        }
    }

    fn behind_predecessor(&self, queued: &Queued, log: &mut Log, due: AckPolicy) -> Step {
        let is_there = matches!(log.state, Some(Some(_)));
        match queued.predecessor_key().filter(|_| is_there) {
            None => self.next_record(log, due),
            Some(key) => match self.holds_predecessor(queued.write.log, &key, log) {
                None => Step::Need(Need { keys: vec![key], ..Need::default() }),
                Some(false) => Step::Refuse(out_of_order(&queued.write).into()),
                Some(true) => self.next_record(log, due),
            },
        }
    }

    fn pushed_back(&self) -> Refusal {
        metrics::counter!("hearth_home_pushed_back_total").increment(1);
        let (partition, at_risk, lag_ms) = (self.partition, self.marks.at_risk(), self.lag_ms);
        let message = format!(
            "the copies of partition {partition} are {lag_ms} ms behind: {at_risk} messages are in one region only"
        );
        Refusal::new(Code::Overloaded, message).retry_after_ms(pressure::RETRY_MS)
    }

    /// A log's first record, and the first one behind a seal or an import, is written only at a generation that
    /// was read linearizably for it.
    pub(super) fn next_record(&self, log: &mut Log, due: AckPolicy) -> Step {
        let standing = log.standing();
        if standing.is_settled() {
            return Step::Append(standing.head.generation, due);
        }
        match log.pin.take() {
            None => Step::Need(Need { pin: true, ..Need::default() }),
            Some(Ok(generation)) if standing == Standing::default() || standing.may_begin(generation) => {
                Step::Append(generation, due)
            }
            Some(Ok(generation)) => Step::Refuse(self.closed(standing.closed().max(generation)).into()),
            Some(Err(PinProblem::Refused(refusal))) => Step::Refuse(refusal.into()),
            Some(Err(PinProblem::Elsewhere(generation))) => {
                Step::Refuse(self.closed(standing.closed().max(before(generation))).into())
            }
        }
    }

    /// Gives a deletion the offsets of the messages that it names; `None` where it has them, or names none.
    fn locate_targets(&self, cx: Context, queued: &mut Queued, log: &Log) -> Option<Step> {
        let (id, deletes) = (queued.write.log, &queued.write.beside.deletes);
        if deletes.is_empty() || !cx.leased() {
            return None;
        }
        if log.state.is_none() {
            return Some(Step::Need(Need::default()));
        }
        let (mut offsets, mut keys) = (BTreeSet::new(), Vec::new());
        let mut is_whole = true;
        for key in deletes {
            match self.lookup(id, key, log) {
                None => keys.push(key.clone()),
                Some(None) => is_whole = false,
                Some(Some(known)) => drop(offsets.insert(known.position.offset)),
            }
        }
        if !keys.is_empty() {
            return Some(Step::Need(Need { keys, ..Need::default() }));
        }
        if !is_whole {
            return Some(Step::Refuse(unknown_message(id).into()));
        }
        queued.write.body = EntryBody::Deleted { offsets: offsets.into_iter().collect() };
        None
    }

    /// Whether what a message edits is in the log, if it edits; `None` when the store has to be asked.
    fn edits_what_is_there(&self, queued: &Queued, log: &Log) -> Option<bool> {
        match queued.edited_key() {
            None => Some(true),
            Some(key) => self.lookup(queued.write.log, key, log).map(|found| found.is_some()),
        }
    }

    /// Whether the device's message before this one is in the log; `None` when the store has to be asked.
    fn holds_predecessor(&self, id: LogId, key: &types::DedupKey, log: &Log) -> Option<bool> {
        log.holds_predecessor(key).or_else(|| Some(self.lookup(id, key, log)?.is_some()))
    }

    /// What stands under a message id; `None` when the store has to be asked (again).
    pub(super) fn lookup(&self, id: LogId, key: &types::DedupKey, log: &Log) -> Option<Option<Known>> {
        if let Some(known) = self.recent.get(id, key) {
            return Some(Some(known));
        }
        if log.is_new(key) {
            return Some(None);
        }
        let lookup = log.lookups.get(key)?;
        let bar = self.recent.from().max(log.imported_at);
        (lookup.found.is_some() || lookup.as_of >= bar).then_some(lookup.found)
    }

    fn take(&mut self, cx: Context, queued: Queued, step: Step, log: &mut Log, out: &mut Vec<Output>) {
        let Queued { ticket, write, deadline_ms, .. } = queued;
        let (write, step) = match step {
            Step::Delete(generation, due, found) => {
                match self.write_targets(cx, write, found, generation, log, out) {
                    Ok(write) => (write, Step::Append(generation, due)),
                    Err(refusal) => {
                        out.push(Output::Reply { ticket, result: Err(refusal.into()) });
                        return;
                    }
                }
            }
            step => (write, step),
        };
        let (known, due) = match step {
            Step::Need(_) | Step::Delete(..) => return,
            Step::Refuse(error) => {
                out.push(Output::Reply { ticket, result: Err(error) });
                return;
            }
            Step::Join(known, due) => (known, due),
            Step::Append(generation, due) => match self.sequence(cx, write, generation, log, out) {
                Ok((known, content)) => {
                    let waiter = Waiter { ticket, known, due, deadline_ms, content, handed: None };
                    self.wait(waiter);
                    return;
                }
                Err(refusal) => {
                    out.push(Output::Reply { ticket, result: Err(refusal.into()) });
                    return;
                }
            },
        };
        self.wait(Waiter { ticket, known, due, deadline_ms, content: None, handed: None });
    }

    /// Gives the write its offset and LSN and puts it into the batch.
    pub(super) fn sequence(
        &mut self,
        cx: Context,
        write: Write,
        generation: Generation,
        log: &mut Log,
        out: &mut Vec<Output>,
    ) -> Result<(Known, Option<LogId>), Refusal> {
        let content = (write.body.class() == Class::Content).then_some(write.log);
        if content.is_some() && write.salvage.is_none() {
            self.follow_writers(cx, &write, generation, log, out);
        }
        let state = log.state.get_or_insert_default().get_or_insert_default();
        let accepted_at_ms = cx.now.wall_ms.max(state.accepted_at_ms);
        let is_said_now = write.salvage.is_none() && matches!(write.body, EntryBody::Message { .. });
        let expires_at_ms = Some(state.settings().expiry_ms)
            .filter(|ms| is_said_now && *ms != 0)
            .map(|ms| accepted_at_ms.saturating_add(ms));
        let entry = Entry {
            offset: state.head.offset.plus(1),
            sender: write.sender,
            device: write.device,
            message_id: write.message_id,
            expires_at_ms: write.expires_at_ms.or(expires_at_ms),
            salvaged: write.salvage.is_some(),
            about: write.beside.about,
            body: write.body,
        };
        Ok((self.enter(write.log, generation, accepted_at_ms, entry, log, out)?, content))
    }

    /// Gives an entry its LSN, and puts it into the batch.
    pub(super) fn enter(
        &mut self,
        id: LogId,
        generation: Generation,
        accepted_at_ms: u64,
        entry: Entry,
        log: &mut Log,
        out: &mut Vec<Output>,
    ) -> Result<Known, Refusal> {
        let hash = entry.body.hash();
        let state = log.state.get_or_insert_default().get_or_insert_default();
        let record = Record {
            lsn: self.last.plus(1),
            epoch: self.epoch,
            generation,
            log: id,
            accepted_at_ms,
            body: Body::Entry(entry),
        };
        if let Err(error) = state.apply(&record) {
            return Err(Refusal::new(Code::Internal, error.to_string()));
        }
        let Some(known) = known_with(&record, hash) else {
            return Err(Refusal::new(Code::Internal, "a write became no entry"));
        };
        let has_effects = !state.effects.is_empty();
        if has_effects || !self.effects.is_empty() {
            self.note_effects(record.log, log);
        }
        if log.first.is_none() && known.position.offset == types::Offset::FIRST {
            log.first = Some(known);
        }
        if let Body::Entry(entry) = &record.body {
            self.recent.insert(record.log, entry.dedup_key(), known);
        }
        self.recent.trim(self.durable.lsn, RECENT_MAX);
        self.marks.note(record.lsn, record.log, known.position, self.durable.lsn);
        log.place.generation = generation;
        self.last = record.lsn;
        self.put(record, out);
        Ok(known)
    }

    pub(super) fn put(&mut self, record: Record, out: &mut Vec<Output>) {
        let bytes = bytes_at_most(&record);
        let full = self.batch.len() >= limits::BATCH_MAX_RECORDS
            || self.batch_bytes + bytes > limits::BATCH_MAX_BYTES;
        if full {
            self.flush(out);
        }
        self.pending_bytes += bytes;
        self.batch_bytes += bytes;
        self.writing.push_back(record.clone());
        self.batch.push(record);
    }

    /// Hands everything that was sequenced to the store.
    pub fn flush(&mut self, out: &mut Vec<Output>) {
        if self.batch.is_empty() {
            return;
        }
        self.batches += 1;
        self.batch_bytes = 0;
        out.push(Output::Write(std::mem::take(&mut self.batch)));
    }
}

/// What a record takes on disk and on a wire, at most.
pub(crate) fn bytes_at_most(record: &Record) -> usize {
    let body = match &record.body {
        Body::Entry(entry) => {
            let about = if entry.about.is_some() { RECORD_OVERHEAD_BYTES } else { 0 };
            about + body_bytes_at_most(&entry.body)
        }
        Body::Update(StateUpdate::LogImported(import)) => proto::encode_import(import).len(),
        Body::Update(StateUpdate::Effect(_)) => log_store::erase::erased_by(record).len() * 10,
        Body::Update(StateUpdate::Cursors(cursors)) => cursors.len() * CURSOR_BYTES,
        Body::Update(_) => 0,
    };
    body + RECORD_OVERHEAD_BYTES
}

/// What a write takes until it is a record, at most.
pub(crate) fn write_bytes_at_most(write: &Write) -> usize {
    let salvaged = write.salvage.as_ref().map_or(0, |salvaged| salvaged.targets.len());
    let targets = salvaged + write.beside.deletes.len() + usize::from(write.beside.about.is_some());
    body_bytes_at_most(&write.body) + (1 + targets) * RECORD_OVERHEAD_BYTES
}

fn body_bytes_at_most(body: &EntryBody) -> usize {
    match body {
        EntryBody::Message { ciphertext } => ciphertext.len(),
        EntryBody::Created { members, allowed_regions, .. } => {
            let names = members.iter().map(|(user, _)| user.as_str().len() + 8).sum::<usize>();
            names + allowed_regions.iter().map(|region| region.as_str().len() + 4).sum::<usize>()
        }
        EntryBody::Deleted { offsets } => offsets.len() * 10,
        EntryBody::Erased { .. } => 20,
        EntryBody::Account(change) => proto::encode_account_change(change).len(),
        EntryBody::Chat(change) => proto::encode_chat_change(change).len(),
    }
}

/// The generation below one.
pub(super) const fn before(generation: Generation) -> Generation {
    Generation::new(generation.get().saturating_sub(1))
}

pub(super) fn known_of(record: &Record) -> Option<Known> {
    known_with(record, record.entry()?.body.hash())
}

fn known_with(record: &Record, hash: BodyHash) -> Option<Known> {
    let position = record.position()?;
    Some(Known { lsn: record.lsn, position, hash, accepted_at_ms: record.accepted_at_ms })
}

impl From<Deduped> for Known {
    fn from(deduped: Deduped) -> Self {
        let Deduped { position, lsn, hash, accepted_at_ms } = deduped;
        Self { lsn, position, hash, accepted_at_ms }
    }
}

fn reused(write: &Write) -> Refusal {
    let message = format!("message id {} was used in {} with another body", write.message_id, write.log);
    Refusal::new(Code::MessageIdReused, message)
}

/// The refusal of whoever names a message that the chat does not have.
fn unknown_message(log: LogId) -> Refusal {
    Refusal::new(Code::UnknownMessage, format!("chat {log} has no such message of this author"))
}

fn out_of_order(write: &Write) -> Refusal {
    let message = match write.after {
        Some(after) => format!("message {after}, which this one follows, is not in chat {}", write.log),
        None => format!("what this message follows is not in chat {}", write.log),
    };
    Refusal::new(Code::OutOfOrder, message)
}
