//! From a write to a record: the order of a log's writes, the rules, the offset and the LSN.

use super::{
    Context, Core, Loaded, Output, PENDING_MAX, PENDING_MAX_BYTES, Pressure, RECENT_MAX, Ticket,
    log::{Asked, Item, Log, Lookup, Need, PinProblem, Place, Queued},
    pressure,
    recent::Known,
    rehoming::Next,
    rules::{self, Verdict},
    settle::Waiter,
};
use crate::service::{NotHome, Salvaged, Subscribed, Target, Write, WriteError};
use log_store::{Deduped, fold::Standing};
use std::collections::BTreeSet;
use types::{
    AckPolicy, Body, BodyHash, Class, Code, DedupKey, Entry, EntryBody, Generation, LogId, Lsn, PartitionId,
    Pin, Position, Record, Refusal, StateUpdate, limits,
};

/// Bytes that a record takes beside its body, at most: ids, names and numbers.
const RECORD_OVERHEAD_BYTES: usize = 256;
/// Salvage takes at most this fraction of the room for writes.
const SALVAGE_SHARE: usize = 4;
/// How long a write that found no room should wait before it is sent again, in ms.
const OVERLOADED_RETRY_MS: u64 = 200;

/// What to do with the write at the front of its log's queue.
enum Step {
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
    pub(super) fn admit(
        &mut self,
        cx: Context,
        ticket: Ticket,
        write: Write,
        deadline_ms: u64,
        out: &mut Vec<Output>,
    ) {
        if !cx.leased() || self.is_moving() {
            out.push(Output::Reply { ticket, result: Err(self.not_home(true).into()) });
            return;
        }
        let pending = self.queued + self.writing.len() + self.unreleased.len();
        // What is put back has waited for long, and leaves the room to those who write now.
        let share = if write.salvage.is_some() { SALVAGE_SHARE } else { 1 };
        let full = pending >= PENDING_MAX / share || self.pending_bytes >= PENDING_MAX_BYTES / share;
        if full || self.rewinding {
            let message = format!("partition {} has {pending} writes under way", self.partition);
            let refusal = Refusal::new(Code::Overloaded, message).retry_after_ms(OVERLOADED_RETRY_MS);
            out.push(Output::Reply { ticket, result: Err(refusal.into()) });
            return;
        }
        let queued = Box::new(Queued { ticket, write, deadline_ms });
        let id = queued.write.log;
        let log = self.logs.wake(id, cx.now.boot_ms);
        log.written_ms = cx.now.boot_ms;
        if log.queue.is_empty() {
            log.queue.push_back(Item::Write(queued));
            self.queued += 1;
            self.advance(cx, id, out);
            return;
        }
        // Others are ahead of it: ask now what will be needed, so that its turn does not wait for it.
        let key = queued.key();
        if !log.is_new(&key) && self.recent.get(id, &key).is_none() && !log.lookups.contains_key(&key) {
            let mut need = Need { keys: vec![key], ..Need::default() };
            log.asked.ask(&mut need);
            if !need.is_nothing() {
                out.push(Output::Load { log: id, as_of: self.durable.lsn, need });
            }
        }
        log.queue.push_back(Item::Write(queued));
        self.queued += 1;
    }

    pub(super) fn subscribe(&mut self, cx: Context, ticket: Ticket, id: LogId, out: &mut Vec<Output>) {
        if let Some(place) = self.logs.resting(id) {
            out.push(Output::Subscribed { ticket, log: id, result: Ok(self.subscribed(place)) });
            return;
        }
        if self.is_moving() {
            out.push(Output::Subscribed { ticket, log: id, result: Err(self.not_home(true)) });
            return;
        }
        self.logs.wake(id, cx.now.boot_ms).queue.push_back(Item::Subscribe(ticket));
        self.queued += 1;
        self.advance(cx, id, out);
    }

    pub(super) fn loaded(
        &mut self,
        cx: Context,
        id: LogId,
        as_of: Lsn,
        loaded: Result<Loaded, Refusal>,
        out: &mut Vec<Output>,
    ) {
        let Some(log) = self.logs.get_mut(id) else { return };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(refusal) => {
                log.asked = Asked::default();
                let not_home = self.not_home(true);
                self.refuse_queue(id, &WriteError::Refused(refusal), &not_home, out);
                return;
            }
        };
        if let Some(first) = loaded.first {
            log.asked.first = false;
            log.first = known_of(&first);
        }
        if let Some(pin) = loaded.pin {
            log.asked.pin = false;
            log.pin = Some(generation_here(pin, self.partition));
            if log.is_watched {
                self.watched(id, out);
            }
        }
        let Some(log) = self.logs.get_mut(id) else { return };
        for (key, found) in loaded.found {
            log.asked.keys.remove(&key);
            log.lookups.insert(key, Lookup { found: found.map(Known::from), as_of });
        }
        for (key, refusal) in loaded.failed {
            log.asked.keys.remove(&key);
            let needs_it = |item: &mut Item| match item {
                Item::Write(write) => write.key() == key || write.predecessor_key().as_ref() == Some(&key),
                Item::Subscribe(_) | Item::Rehome(_) => false,
            };
            if let Some(Item::Write(write)) = log.queue.pop_front_if(needs_it) {
                self.queued -= 1;
                out.push(Output::Reply { ticket: write.ticket, result: Err(refusal.into()) });
            }
        }
        if let Some(state) = loaded.state
            && std::mem::take(&mut log.asked.state)
        {
            log.state = Some(state.map(|state| (*state).clone()));
            self.note_loaded(id);
        }
        self.advance(cx, id, out);
    }

    /// Notes where a log stood when it was loaded.
    fn note_loaded(&mut self, id: LogId) {
        let Some(log) = self.logs.get_mut(id) else { return };
        let state = log.state.as_ref().and_then(Option::as_ref);
        let (head, last) = state.map_or((Position::START, Lsn::ZERO), |state| (state.head, state.last.lsn));
        log.place.published.get_or_insert(head);
        log.place.generation = log.place.generation.max(head.generation).max(Generation::FIRST);
        if last <= self.announced {
            log.place.replicated = head;
        } else {
            self.marks.note(last, id, head, self.durable.lsn);
        }
    }

    pub(super) fn subscribed(&self, place: &Place) -> Subscribed {
        let head = place.published.unwrap_or(Position::START);
        let Place { replicated, generation, .. } = *place;
        Subscribed { head, replicated, epoch: self.epoch, generation }
    }

    /// Goes through a log's queue as far as everything is known.
    pub(super) fn advance(&mut self, cx: Context, id: LogId, out: &mut Vec<Output>) {
        while let Some(mut log) = self.logs.take(id) {
            let Some(item) = log.queue.pop_front() else {
                log.lookups.clear();
                self.logs.put(id, log);
                return;
            };
            let step = match &item {
                Item::Subscribe(_) | Item::Rehome(_) if log.state.is_none() => Step::Need(Need::default()),
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
                Item::Write(queued) => self.step(cx, queued, &mut log),
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
            self.take(cx, *queued, step, &mut log, out);
            self.logs.put(id, log);
        }
    }

    /// Decides about the write at the front. The order of the checks is the order of the refusals.
    fn step(&self, cx: Context, queued: &Queued, log: &mut Log) -> Step {
        let write = &queued.write;
        let key = queued.key();
        // The state mostly tells that the message id is new, so the id is not asked for together with it.
        let Some(state) = &log.state else { return Step::Need(Need::default()) };
        let found = self.lookup(write.log, &key, log);
        if !cx.leased() {
            return Step::Refuse(self.not_home(true).into());
        }
        let Some(found) = found else { return Step::Need(Need { keys: vec![key], ..Need::default() }) };
        let policy = state.as_ref().map_or(AckPolicy::Home, |state| state.ack_policy);
        let due = rules::due(write, policy, self.in_sync.one_region());
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
        match rules::judge(write, state.as_ref(), cx.now.wall_ms) {
            Err(refusal) => Step::Refuse(refusal.into()),
            Ok(Verdict::AlreadyCreated) => match log.first.or_else(|| log.first_elsewhere()) {
                Some(first) => Step::Join(first, due),
                None => Step::Need(Need { first: true, ..Need::default() }),
            },
            Ok(Verdict::Restore) => self.restore(write, log, due),
            Ok(Verdict::Append) => match (state, queued.predecessor_key()) {
                (Some(_), Some(key)) => match self.holds_predecessor(write.log, &key, log) {
                    None => Step::Need(Need { keys: vec![key], ..Need::default() }),
                    Some(false) => Step::Refuse(out_of_order(write).into()),
                    Some(true) => self.next_record(log, due),
                },
                _ => self.next_record(log, due),
            },
        }
    }

    fn pushed_back(&self) -> Refusal {
        metrics::counter!("hearth_home_pushed_back_total").increment(1);
        let at_risk = self.marks.at_risk();
        let message = format!("partition {} has {at_risk} messages in one region only", self.partition);
        Refusal::new(Code::Overloaded, message).retry_after_ms(pressure::RETRY_MS)
    }

    /// A deletion that is put back deletes what its targets are now.
    fn restore(&self, write: &Write, log: &mut Log, due: AckPolicy) -> Step {
        let Some(salvaged) = &write.salvage else { return Step::Need(Need::default()) };
        let looked_up =
            salvaged.targets.iter().map(|target| (target, self.lookup(write.log, &target.key, log)));
        let (mut keys, mut found) = (Vec::new(), Vec::new());
        for (target, known) in looked_up {
            match known {
                Some(known) => found.push(known),
                None => keys.push(target.key.clone()),
            }
        }
        if !keys.is_empty() {
            return Step::Need(Need { keys, ..Need::default() });
        }
        match self.next_record(log, due) {
            Step::Append(generation, due) => Step::Delete(generation, due, found),
            other => other,
        }
    }

    /// A log's first record, and the first one behind a seal or an import, is written only at a generation that
    /// was read linearizably for it.
    fn next_record(&self, log: &mut Log, due: AckPolicy) -> Step {
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

    /// Whether the device's message before this one is in the log; `None` when the store has to be asked.
    fn holds_predecessor(&self, id: LogId, key: &types::DedupKey, log: &Log) -> Option<bool> {
        log.holds_predecessor(key).or_else(|| Some(self.lookup(id, key, log)?.is_some()))
    }

    /// What stands under a message id; `None` when the store has to be asked (again).
    fn lookup(&self, id: LogId, key: &types::DedupKey, log: &Log) -> Option<Option<Known>> {
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
        let Queued { ticket, write, deadline_ms } = queued;
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

    /// Gives a deletion the offsets that its targets have now. A target that is not there yet gets its place
    /// at once, erased: when it comes, it finds that it is there already.
    fn write_targets(
        &mut self,
        cx: Context,
        mut write: Write,
        found: Vec<Option<Known>>,
        generation: Generation,
        log: &mut Log,
        out: &mut Vec<Output>,
    ) -> Result<Write, Refusal> {
        let mut offsets = BTreeSet::new();
        let targets = std::mem::take(&mut write.salvage).unwrap_or_default().targets;
        for (target, known) in targets.into_iter().zip(found) {
            if (&target.key.sender, target.key.device, target.key.message_id)
                == (&write.sender, write.device, write.message_id)
            {
                continue;
            }
            // A target that is named twice has its place by the second time.
            let known = match known.or_else(|| self.recent.get(write.log, &target.key)) {
                Some(known) => known,
                None if !log.has_member(&target.key.sender) => continue,
                None => {
                    let Target { key: DedupKey { sender, device, message_id }, hash } = target;
                    let body = EntryBody::Erased { hash };
                    let salvage = Some(Salvaged::default());
                    let erased = Write { sender, device, message_id, body, salvage, ..write.clone() };
                    self.sequence(cx, erased, generation, log, out)?.0
                }
            };
            offsets.insert(known.position.offset);
        }
        if offsets.is_empty() {
            let message =
                format!("nothing that message {} deletes can be in chat {}", write.message_id, write.log);
            return Err(Refusal::new(Code::Forbidden, message));
        }
        write.salvage = Some(Salvaged::default());
        write.body = EntryBody::Deleted { offsets: offsets.into_iter().collect() };
        Ok(write)
    }

    /// Gives the write its offset and LSN and puts it into the batch.
    fn sequence(
        &mut self,
        cx: Context,
        write: Write,
        generation: Generation,
        log: &mut Log,
        out: &mut Vec<Output>,
    ) -> Result<(Known, Option<LogId>), Refusal> {
        let hash = write.body.hash();
        let content = (write.body.class() == Class::Content).then_some(write.log);
        let state = log.state.get_or_insert_default().get_or_insert_default();
        let record = Record {
            lsn: self.last.plus(1),
            epoch: self.epoch,
            generation,
            log: write.log,
            accepted_at_ms: cx.now.wall_ms.max(state.accepted_at_ms),
            body: Body::Entry(Entry {
                offset: state.head.offset.plus(1),
                sender: write.sender,
                device: write.device,
                message_id: write.message_id,
                expires_at_ms: write.expires_at_ms,
                salvaged: write.salvage.is_some(),
                body: write.body,
            }),
        };
        if let Err(error) = state.apply(&record) {
            return Err(Refusal::new(Code::Internal, error.to_string()));
        }
        let Some(known) = known_with(&record, hash) else {
            return Err(Refusal::new(Code::Internal, "a write became no entry"));
        };
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
        Ok((known, content))
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

    /// Empties a log's queue: none of it was begun.
    pub(super) fn refuse_queue(
        &mut self,
        id: LogId,
        write_error: &WriteError,
        not_home: &NotHome,
        out: &mut Vec<Output>,
    ) {
        let Some(log) = self.logs.get_mut(id) else { return };
        log.lookups.clear();
        for item in log.queue.drain(..) {
            self.queued -= 1;
            out.push(match item {
                Item::Write(queued) => {
                    Output::Reply { ticket: queued.ticket, result: Err(write_error.clone()) }
                }
                Item::Rehome(rehoming) => {
                    Output::Reply { ticket: rehoming.ticket, result: Err(write_error.clone()) }
                }
                Item::Subscribe(ticket) => {
                    Output::Subscribed { ticket, log: id, result: Err(not_home.clone()) }
                }
            });
        }
    }
}

/// What a record takes on disk and on a wire, at most.
pub(crate) fn bytes_at_most(record: &Record) -> usize {
    use types::EntryBody::{Created, Deleted, Erased, Message};
    let body = match &record.body {
        Body::Entry(entry) => match &entry.body {
            Message { ciphertext } => ciphertext.len(),
            Created { members, allowed_regions, .. } => {
                let names = members.iter().map(|(user, _)| user.as_str().len() + 8).sum::<usize>();
                names + allowed_regions.iter().map(|region| region.as_str().len() + 4).sum::<usize>()
            }
            Deleted { offsets } => offsets.len() * 10,
            Erased { .. } => 20,
        },
        Body::Update(StateUpdate::LogImported(import)) => proto::encode_import(import).len(),
        Body::Update(_) => 0,
    };
    body + RECORD_OVERHEAD_BYTES
}

fn generation_here(
    pin: Result<Option<Pin>, Refusal>,
    partition: PartitionId,
) -> Result<Generation, PinProblem> {
    let pin = pin.map_err(PinProblem::Refused)?;
    match pin.as_ref().and_then(Pin::current) {
        Some(segment) if segment.partition == partition => Ok(segment.generation),
        Some(segment) => Err(PinProblem::Elsewhere(segment.generation)),
        None => Err(PinProblem::Elsewhere(Generation::ZERO)),
    }
}

/// The generation below one.
pub(super) const fn before(generation: Generation) -> Generation {
    Generation::new(generation.get().saturating_sub(1))
}

fn known_of(record: &Record) -> Option<Known> {
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

/// What it deletes may stand at other offsets by now, and so its body has another hash.
fn is_restored_deletion(write: &Write) -> bool {
    write.salvage.is_some() && matches!(write.body, EntryBody::Deleted { .. })
}

fn out_of_order(write: &Write) -> Refusal {
    let message = match write.after {
        Some(after) => format!("message {after}, which this one follows, is not in chat {}", write.log),
        None => format!("what this message follows is not in chat {}", write.log),
    };
    Refusal::new(Code::OutOfOrder, message)
}
