//! One log leaves the partition, or comes to it.
//!
//! ```text
//!   source:  written ──seal──► sealed ──pin: a higher generation, elsewhere──► moved: its followers are told
//!               ▲                 └────pin: the next generation, here (given up)───┐
//!               └──────────────────────────────────────────────────────────────────┘
//!   target:  anything below ──import──► imported ──pin: this generation, here──► written
//! ```
//!
//! Both steps are records of the log, in the order of its writes, and are answered when they are `replicated`;
//! so a home that takes over finds in the log how far it was. Both may be asked for again: what is there already
//! is waited for and answered alike.
//!
//! # Invariants
//!
//! - Behind a seal nothing is written in its generation or below. A retry of what is in the log is still answered.
//! - Behind a seal or an import nothing is written before the pin, read linearizably, names a generation with
//!   this partition that [`log_store::fold::Standing::may_begin`]: one whose import is here, or the next one
//!   behind the seal, in which nobody else can have written.
//! - A re-homing that was given up does no harm when it comes late: a late seal is left behind by the generation
//!   that the giving up has begun; a late import is of a generation that the pin names with another partition.
//! - An import tells exactly which message ids are new (see `log_store::devices`). Of every other id the stretches
//!   of the pin before it are asked, in the partitions that hold them (`home/elsewhere.rs`).

use super::{
    Context, Core, Output, Ticket,
    log::{Item, Log, Need, PinProblem},
    recent::Known,
    sequence::before,
    settle::Waiter,
};
use crate::service::{NotHome, Subscribed, WriteError};
use types::{
    AckPolicy, Body, BodyHash, Code, Generation, Import, LogId, Lsn, Position, Record, Refusal, RegionId,
    RehomeId, StateUpdate, limits,
};

/// A step of a re-homing, on its way to the log.
#[derive(Debug)]
pub struct Rehoming {
    /// Names the call.
    pub ticket: Ticket,
    /// The log.
    pub log: LogId,
    /// Until when its answer is of use, on the boot clock.
    pub deadline_ms: u64,
    /// Which step.
    pub step: RehomingStep,
}

/// The two steps that homes take part in.
#[derive(Debug, Clone)]
pub enum RehomingStep {
    /// The log ends here in a generation.
    Seal {
        /// By which re-homing.
        rehome: RehomeId,
        /// The generation that ends.
        generation: Generation,
        /// The regions that may hold the partition where the log goes on.
        held_in: Vec<RegionId>,
    },
    /// The log goes on here.
    Import {
        /// The generation that begins.
        generation: Generation,
        /// What the log has added up to.
        import: Box<Import>,
    },
}

/// What a step hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// The log ends here, with this fold.
    Sealed(Box<Import>),
    /// The log may go on here.
    Imported,
    /// The effect is in its target's log.
    Effected,
}

/// What comes of something at the front of a log's queue.
pub(super) enum Next<T> {
    /// Ask first.
    Need(Need),
    /// This.
    Is(T),
}

impl Core {
    pub(super) fn admit_rehoming(&mut self, cx: Context, rehoming: Box<Rehoming>, out: &mut Vec<Output>) {
        let Rehoming { ticket, log: id, .. } = *rehoming;
        if !cx.leased() || self.waiting || self.rewinding || self.is_moving() {
            out.push(Output::Reply { ticket, result: Err(self.not_home(true).into()) });
            return;
        }
        let log = self.logs.wake(id, cx.now.boot_ms);
        log.written_ms = cx.now.boot_ms;
        log.queue.push_back(Item::Rehome(rehoming));
        self.queued += 1;
        if log.queue.len() == 1 {
            self.advance(cx, id, out);
        }
    }

    /// Takes a step whose turn it is; the log is loaded.
    pub(super) fn rehome_step(
        &mut self,
        cx: Context,
        rehoming: &Rehoming,
        id: LogId,
        log: &mut Log,
        out: &mut Vec<Output>,
    ) {
        let taken = match &rehoming.step {
            RehomingStep::Seal { rehome, generation, held_in } => {
                residency(log, held_in).and_then(|()| self.seal_log(cx, id, log, *rehome, *generation, out))
            }
            RehomingStep::Import { generation, import } => {
                self.import_log(cx, id, log, *generation, import, out)
            }
        };
        let Rehoming { ticket, deadline_ms, .. } = *rehoming;
        match taken {
            Err(refusal) => out.push(Output::Reply { ticket, result: Err(WriteError::Refused(refusal)) }),
            Ok((lsn, handed)) => {
                log.is_watched = true;
                let due = if self.in_sync.one_region() { AckPolicy::Home } else { AckPolicy::Replicated };
                let (position, hash) = (Position::START, BodyHash([0; 16]));
                let known = Known { lsn, position, hash, accepted_at_ms: 0 };
                let handed = Some(handed);
                self.wait(Waiter { ticket, known, due, deadline_ms, content: None, handed });
            }
        }
    }

    fn seal_log(
        &mut self,
        cx: Context,
        id: LogId,
        log: &mut Log,
        rehome: RehomeId,
        generation: Generation,
        out: &mut Vec<Output>,
    ) -> Result<(Lsn, Handed), Refusal> {
        let standing = log.standing();
        if standing.head.offset.is_zero() {
            return Err(super::rules::unknown_chat(id));
        }
        if standing.generation() > generation {
            return Err(over(id, generation, standing.generation()));
        }
        if standing.sealed != generation {
            // Before it is sealed: a chat that cannot be imported goes on without a pause.
            if let Some(Some(state)) = &log.state {
                check_size(id, &state.export(rehome))?;
            }
            self.append_update(cx, id, log, generation, StateUpdate::LogSealed { rehome }, out)?;
        }
        let Some(Some(state)) = &log.state else { return Err(super::rules::unknown_chat(id)) };
        let import = state.export(rehome);
        check_size(id, &import)?;
        Ok((state.last.lsn, Handed::Sealed(Box::new(import))))
    }

    fn import_log(
        &mut self,
        cx: Context,
        id: LogId,
        log: &mut Log,
        generation: Generation,
        import: &Import,
        out: &mut Vec<Output>,
    ) -> Result<(Lsn, Handed), Refusal> {
        let standing = log.standing();
        if standing.imported != generation {
            if standing.generation() >= generation {
                return Err(over(id, generation, standing.generation()));
            }
            let update = StateUpdate::LogImported(Box::new(import.clone()));
            let lsn = self.append_update(cx, id, log, generation, update, out)?;
            self.marks.note(lsn, id, import.head, self.durable.lsn);
            (log.imported_at, log.first) = (lsn, None);
        }
        Ok((log.last_lsn(), Handed::Imported))
    }

    /// Gives an update its LSN and puts it into the batch.
    pub(super) fn append_update(
        &mut self,
        cx: Context,
        id: LogId,
        log: &mut Log,
        generation: Generation,
        update: StateUpdate,
        out: &mut Vec<Output>,
    ) -> Result<Lsn, Refusal> {
        let state = log.state.get_or_insert_default().get_or_insert_default();
        let record = Record {
            lsn: self.last.plus(1),
            epoch: self.epoch,
            generation,
            log: id,
            accepted_at_ms: cx.now.wall_ms.max(state.accepted_at_ms),
            body: Body::Update(update),
        };
        state.apply(&record).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        self.last = record.lsn;
        let lsn = record.lsn;
        let has_effects = !state.effects.is_empty();
        if has_effects || !self.effects.is_empty() {
            self.note_effects(id, log);
        }
        self.put(record, out);
        Ok(lsn)
    }

    /// Whether the log can be followed here, and from where.
    pub(super) fn followed_here(&self, log: &mut Log) -> Next<Result<Subscribed, NotHome>> {
        let standing = log.standing();
        if standing.head.offset.is_zero() || standing.is_settled() {
            log.followed = true;
            return Next::Is(Ok(self.subscribed(&log.place)));
        }
        let elsewhere = match &log.pin {
            None => return Next::Need(Need { pin: true, ..Need::default() }),
            Some(Err(PinProblem::Refused(_))) => return Next::Is(Err(self.not_home(true))),
            Some(Err(PinProblem::Elsewhere(generation))) => *generation,
            // While it is sealed and the pin has not moved, its head stands here.
            Some(Ok(generation)) => {
                log.is_watched |= !standing.may_begin(*generation);
                log.place.generation = *generation;
                log.followed = true;
                return Next::Is(Ok(self.subscribed(&log.place)));
            }
        };
        log.pin = None;
        Next::Is(Err(self.closed(standing.closed().max(before(elsewhere)))))
    }

    /// Puts a log back, and has its pin watched if that is wanted.
    pub(super) fn put_watched(&mut self, id: LogId, log: Box<Log>) {
        if log.is_watched {
            self.watched.insert(id);
        }
        self.logs.put(id, log);
    }

    /// Asks for the pins of logs that were sealed or imported, one question each at a time.
    pub(super) fn watch_pins(&mut self, out: &mut Vec<Output>) {
        for id in &self.watched {
            let Some(log) = self.logs.get_mut(*id) else { continue };
            let mut need = Need { pin: true, state: log.state.is_none(), ..Need::default() };
            log.asked.ask(&mut need);
            if !need.is_nothing() {
                out.push(Output::Load { log: *id, as_of: self.durable.lsn, need });
            }
        }
    }

    /// The pin of a watched log has been read.
    pub(super) fn watched(&mut self, id: LogId, out: &mut Vec<Output>) {
        let Some(log) = self.logs.get_mut(id) else { return };
        let standing = log.standing();
        if log.state.is_none() {
            return;
        }
        match &log.pin {
            // It goes on here: the answer is kept for the first write.
            Some(Ok(generation)) if standing.is_settled() || standing.may_begin(*generation) => {
                log.place.generation = log.place.generation.max(*generation);
                self.effects.written_here(id, *generation);
            }
            Some(Err(PinProblem::Elsewhere(generation))) if *generation >= standing.generation() => {
                let generation = *generation;
                log.pin = None;
                self.effects.forget(id);
                if generation > standing.sealed && standing.sealed >= standing.imported {
                    tracing::info!(log = %id, %generation, partition = %self.partition, "the log was re-homed");
                    log.followed = false;
                    self.following.forget(id);
                    out.push(Output::Moved { log: id, generation });
                }
            }
            _ => {
                if log.queue.is_empty() {
                    log.pin = None;
                }
                return;
            }
        }
        log.is_watched = false;
        self.watched.remove(&id);
    }
}

/// Whether the log may be held in all these regions.
fn residency(log: &Log, held_in: &[RegionId]) -> Result<(), Refusal> {
    let allowed = log.state.as_ref().and_then(Option::as_ref).map_or(&[][..], |state| &state.allowed_regions);
    match held_in.iter().find(|region| !allowed.is_empty() && !allowed.contains(region)) {
        None => Ok(()),
        Some(region) => Err(Refusal::new(Code::Forbidden, format!("it may not be held in {region}"))),
    }
}

/// What a log adds up to crosses wires and is one record.
fn check_size(id: LogId, import: &Import) -> Result<(), Refusal> {
    let (bytes, most) = (proto::encode_import(import).len(), limits::IMPORT_MAX_BYTES);
    if bytes <= most {
        return Ok(());
    }
    Err(Refusal::new(
        Code::TooLarge,
        format!("what {id} adds up to has {bytes} bytes, and {most} is the most"),
    ))
}

fn over(id: LogId, generation: Generation, known: Generation) -> Refusal {
    let message = format!("{id} is in generation {known} here, and {generation} is over");
    Refusal::new(Code::BadRequest, message)
}
