//! Writes and subscriptions on their way to their log's turn, and what their log is loaded with.

use super::{
    Context, Core, Loaded, Output, PENDING_MAX, PENDING_MAX_BYTES, Ticket,
    log::{Asked, Item, Lookup, Need, PinProblem, Place, Queued},
    recent::Known,
    sequence::{known_of, write_bytes_at_most},
};
use crate::service::{NotHome, Subscribed, Write, WriteError};
use types::{Code, Generation, LogId, Lsn, PartitionId, Pin, Position, Refusal};

/// Salvage takes at most this fraction of the room for writes.
const SALVAGE_SHARE: usize = 4;
/// How long a write that found no room should wait before it is sent again, in ms.
const OVERLOADED_RETRY_MS: u64 = 200;

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
        let bytes = self.pending_bytes + self.queued_bytes;
        let full = pending >= PENDING_MAX / share || bytes >= PENDING_MAX_BYTES / share;
        if full || self.rewinding {
            let message = format!("partition {} has {pending} writes under way", self.partition);
            let refusal = Refusal::new(Code::Overloaded, message).retry_after_ms(OVERLOADED_RETRY_MS);
            out.push(Output::Reply { ticket, result: Err(refusal.into()) });
            return;
        }
        let bytes = write_bytes_at_most(&write);
        self.queued_bytes += bytes;
        let queued = Box::new(Queued { ticket, write, deadline_ms, bytes });
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
            // The store is about to close, or this copy is damaged: nothing that is said of the writes here is
            // a last word, and they wait where they came from.
            Err(_) => {
                log.asked = Asked::default();
                let not_home = self.not_home(true);
                self.refuse_queue(id, &not_home.clone().into(), &not_home, out);
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
                Item::Write(write) => write.needs(&key),
                Item::Subscribe(_) | Item::Rehome(_) | Item::Effect(_) | Item::Cursors(_) => false,
            };
            if let Some(Item::Write(write)) = log.queue.pop_front_if(needs_it) {
                self.queued -= 1;
                self.queued_bytes -= write.bytes;
                out.push(Output::Reply { ticket: write.ticket, result: Err(refusal.into()) });
            }
        }
        if let Some(state) = loaded.state
            && std::mem::take(&mut log.asked.state)
        {
            log.state = Some(state.map(|state| (*state).clone()));
            self.note_loaded(id);
            if let Some(mut log) = self.logs.take(id) {
                self.note_effects(id, &mut log);
                self.logs.put(id, log);
            }
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
                Item::Cursors(_) => continue,
                Item::Write(queued) => {
                    self.queued_bytes -= queued.bytes;
                    Output::Reply { ticket: queued.ticket, result: Err(write_error.clone()) }
                }
                Item::Rehome(rehoming) => {
                    Output::Reply { ticket: rehoming.ticket, result: Err(write_error.clone()) }
                }
                Item::Effect(arrival) => {
                    Output::Reply { ticket: arrival.ticket, result: Err(write_error.clone()) }
                }
                Item::Subscribe(ticket) => {
                    Output::Subscribed { ticket, log: id, result: Err(not_home.clone()) }
                }
            });
        }
    }
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
