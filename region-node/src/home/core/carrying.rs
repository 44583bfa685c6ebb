//! Effects on their way through a home: out of the logs that are written here, and into those that lie here.
//!
//! An effect that comes is a record of its target's log, in the order of what else is done to that log, and is
//! answered when it is `replicated`. A log that was sealed here takes nothing but those for the stretch that lies
//! here. The fence is that of the partition, as for every other record; and since a later cause is sent only when all
//! before it are `replicated`, one that comes late, from a home that is none any more, finds a cause that is not
//! below its own, and is answered without being written.

use super::{
    Context, Core, EffectOutcome, Output, PENDING_MAX, Ticket,
    log::{Item, Log, Need},
    recent::Known,
    rehoming::{Handed, Next},
    rules::unknown_chat,
    sequence::Step,
    settle::Waiter,
};
use crate::service::WriteError;
use log_store::fold::LogState;
use sha2::{Digest as _, Sha256};
use types::{
    AckPolicy, BodyHash, Code, DeviceId, Effect, EffectAct, EffectTarget, Entry, EntryBody, Generation,
    LogId, LogKind, Lsn, MessageId, Position, Refusal, StateUpdate,
    account::{AccountStanding, JOINED_MAX},
    chat::{ChatChange, MemberChange},
    limits,
};

/// By which nobody logs in.
const NO_DEVICE: DeviceId = DeviceId::new(0);

/// An effect on its way to its target's log.
#[derive(Debug)]
pub struct Arrival {
    /// Names the call.
    pub ticket: Ticket,
    /// The effect.
    pub effect: Effect,
    /// Until when its answer is of use, on the boot clock.
    pub deadline_ms: u64,
}

impl Core {
    pub(super) fn admit_effect(&mut self, cx: Context, arrival: Box<Arrival>, out: &mut Vec<Output>) {
        let (ticket, id) = (arrival.ticket, arrival.effect.target.log);
        let refused = if !cx.leased() || self.waiting || self.rewinding || self.is_moving() {
            Some(self.not_home(true).into())
        } else if self.queued >= PENDING_MAX {
            let message = format!("partition {} has too much under way for an effect", self.partition);
            Some(Refusal::new(Code::Overloaded, message).into())
        } else {
            None
        };
        if let Some(error) = refused {
            out.push(Output::Reply { ticket, result: Err(error) });
            return;
        }
        let log = self.logs.wake(id, cx.now.boot_ms);
        log.written_ms = cx.now.boot_ms;
        log.queue.push_back(Item::Effect(arrival));
        self.queued += 1;
        if log.queue.len() == 1 {
            self.advance(cx, id, out);
        }
    }

    /// Takes an effect whose turn it is; the log is loaded.
    pub(super) fn effect_step(
        &mut self,
        cx: Context,
        arrival: &Arrival,
        log: &mut Log,
        out: &mut Vec<Output>,
    ) -> Next<()> {
        let Arrival { ticket, effect, deadline_ms } = arrival;
        let due = if self.in_sync.one_region() { AckPolicy::Home } else { AckPolicy::Replicated };
        let lsn = match self.place_of(effect, log, due) {
            Ok(Next::Need(need)) => return Next::Need(need),
            // What was taken before may not be `replicated` yet.
            Ok(Next::Is(None)) => Ok(log.last_lsn()),
            Ok(Next::Is(Some(generation))) => {
                let written = if effect.act == EffectAct::Gone {
                    self.write_departure(cx, effect, generation, log, out)
                } else {
                    let update = StateUpdate::Effect(Box::new(effect.clone()));
                    self.append_update(cx, effect.target.log, log, generation, update, out)
                };
                written.map_err(Into::into)
            }
            Err(error) => Err(error),
        };
        match lsn {
            Err(error) => out.push(Output::Reply { ticket: *ticket, result: Err(error) }),
            Ok(lsn) => {
                let (position, hash) = (Position::START, BodyHash([0; 16]));
                let known = Known { lsn, position, hash, accepted_at_ms: 0 };
                let (ticket, deadline_ms) = (*ticket, *deadline_ms);
                let handed = Some(Handed::Effected);
                self.wait(Waiter { ticket, known, due, deadline_ms, content: None, handed });
            }
        }
        Next::Is(())
    }

    /// The user whose account was closed leaves the chat, as if by their own hand.
    fn write_departure(
        &mut self,
        cx: Context,
        effect: &Effect,
        generation: Generation,
        log: &mut Log,
        out: &mut Vec<Output>,
    ) -> Result<Lsn, Refusal> {
        let id = effect.target.log;
        let state = log.state.get_or_insert_default().get_or_insert_default();
        let user = state.user_of(effect.cause_log).cloned().ok_or_else(|| unknown_chat(id))?;
        if !state.has_room_to_tell(1) {
            let message = format!("too many who came to chat {id} or left it are not told yet");
            return Err(Refusal::new(Code::Overloaded, message));
        }
        let gone = MemberChange { user: user.clone(), role: None };
        let entry = Entry {
            offset: state.head.offset.plus(1),
            sender: user,
            device: NO_DEVICE,
            message_id: departure_id(effect, state.head),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body: EntryBody::Chat(Box::new(ChatChange::Members(vec![gone]))),
        };
        let accepted_at_ms = cx.now.wall_ms.max(state.accepted_at_ms);
        self.enter(id, generation, accepted_at_ms, entry, log, out).map(|known| known.lsn)
    }

    /// In which generation the effect is written; `None` where it was taken before.
    fn place_of(
        &self,
        effect: &Effect,
        log: &mut Log,
        due: AckPolicy,
    ) -> Result<Next<Option<Generation>>, WriteError> {
        let EffectTarget { log: id, stretch } = effect.target;
        let Some(Some(state)) = &log.state else { return Err(unknown_chat(id).into()) };
        if state.has_taken(effect) || tells_nobody(effect, state) {
            return Ok(Next::Is(None));
        }
        fits(effect, state)?;
        if !stretch.is_zero() {
            return Ok(Next::Is(Some(state.standing().generation())));
        }
        match self.next_record(log, due) {
            Step::Need(need) => Ok(Next::Need(need)),
            Step::Append(generation, _) => Ok(Next::Is(Some(generation))),
            Step::Refuse(error) => Err(error),
            Step::Join(..) | Step::Delete(..) => Err(self.not_home(true).into()),
        }
    }

    /// What is pending in the log's state has changed, or was read.
    pub(super) fn note_effects(&mut self, id: LogId, log: &mut Log) {
        let state = log.state.as_ref().and_then(Option::as_ref);
        if self.effects.take_state(id, state) {
            log.is_watched = true;
            self.watched.insert(id);
        }
    }

    /// Sends what may be sent, and notes what is done.
    pub(super) fn drive_effects(&mut self, cx: Context, out: &mut Vec<Output>) {
        if self.effects.is_empty() || !cx.leased() || self.waiting || self.rewinding || self.is_moving() {
            return;
        }
        for id in self.effects.read(cx.now.boot_ms) {
            let log = self.logs.wake(id, cx.now.boot_ms);
            let mut need = Need { state: log.state.is_none(), ..Need::default() };
            log.asked.ask(&mut need);
            if !need.is_nothing() {
                out.push(Output::Load { log: id, as_of: self.durable.lsn, need });
            } else if log.state.is_some()
                && let Some(mut log) = self.logs.take(id)
            {
                self.note_effects(id, &mut log);
                self.logs.put(id, log);
            }
        }
        for (id, generation, target, cause) in self.effects.done() {
            self.note_done(cx, id, generation, StateUpdate::EffectDone { target, cause }, out);
        }
        let replicated = if self.in_sync.one_region() { self.durable.lsn } else { self.watermark };
        for effect in self.effects.send(cx.now.boot_ms, replicated) {
            out.push(Output::SendEffect(Box::new(effect)));
        }
    }

    fn note_done(
        &mut self,
        cx: Context,
        id: LogId,
        generation: Generation,
        done: StateUpdate,
        out: &mut Vec<Output>,
    ) {
        self.logs.wake(id, cx.now.boot_ms);
        let Some(mut log) = self.logs.take(id) else { return };
        if log.state.is_none() {
            self.effects.unread(id);
        } else if let Err(refusal) = self.append_update(cx, id, &mut log, generation, done, out) {
            tracing::error!(log = %id, %refusal, partition = %self.partition, "what is done cannot be noted");
            self.effects.unread(id);
        }
        self.logs.put(id, log);
        self.flush(out);
    }

    pub(super) fn effect_answered(
        &mut self,
        cx: Context,
        log: LogId,
        target: EffectTarget,
        cause: Position,
        outcome: EffectOutcome,
    ) {
        self.effects.answered(cx.now.boot_ms, log, target, cause, outcome);
    }

    /// Effects that are not known to be `replicated` at their targets.
    pub fn effects_pending(&self) -> usize {
        self.effects.pending()
    }
}

/// Whether the log here is what the effect is for.
fn fits(effect: &Effect, state: &LogState) -> Result<(), Refusal> {
    let EffectTarget { log, stretch } = effect.target;
    match &effect.act {
        EffectAct::Erase { offsets } => {
            let held = |offset: &types::Offset| {
                state.held_around(*offset).is_some()
                    && state.position_at(*offset).is_some_and(|at| at.generation == stretch)
            };
            if let Some(offset) = offsets.iter().find(|offset| !held(offset)) {
                let message = format!("{log} has no entry at offset {offset} here in generation {stretch}");
                return Err(Refusal::new(Code::BadRequest, message));
            }
            let key = (effect.cause_log, stretch);
            if state.causes.len() >= limits::EFFECT_CAUSES_MAX && !state.causes.contains_key(&key) {
                let most = limits::EFFECT_CAUSES_MAX;
                let message = format!("{most} logs have had an effect on {log} already");
                return Err(Refusal::new(Code::TooLarge, message));
            }
            Ok(())
        }
        EffectAct::Gone | EffectAct::Blocked | EffectAct::Unblocked => {
            let is_chat = match effect.act {
                EffectAct::Gone => matches!(log.kind(), LogKind::Direct | LogKind::Group),
                _ => log.kind() == LogKind::Direct,
            };
            if !is_chat || effect.cause_log.kind() != LogKind::Account || !stretch.is_zero() {
                let message = format!("{} cannot tell {log} of its user", effect.cause_log);
                return Err(Refusal::new(Code::BadRequest, message));
            }
            Ok(())
        }
        EffectAct::Joined | EffectAct::Left => {
            let is_chat = matches!(effect.cause_log.kind(), LogKind::Direct | LogKind::Group);
            if !is_chat || log.kind() != LogKind::Account || !stretch.is_zero() {
                let message = format!("{} cannot tell {log} of members", effect.cause_log);
                return Err(Refusal::new(Code::BadRequest, message));
            }
            if effect.act == EffectAct::Joined && !state.has_room_to_join(&effect.cause_log) {
                let message = format!("the user of {log} has {JOINED_MAX} chats, the most there may be");
                return Err(Refusal::new(Code::TooLarge, message));
            }
            Ok(())
        }
    }
}

/// Whether there is nobody whom the effect is of: an account that is not in use, or in a chat somebody who is no member.
/// It is done by being heard. Only who joins while the account is being closed has yet to leave.
fn tells_nobody(effect: &Effect, state: &LogState) -> bool {
    let ended =
        state.account.as_ref().filter(|account| account.open.is_none()).map(|account| account.standing);
    match effect.act {
        EffectAct::Joined => ended.is_some_and(|standing| standing != AccountStanding::Closed),
        EffectAct::Left => ended.is_some(),
        EffectAct::Gone | EffectAct::Blocked | EffectAct::Unblocked => {
            state.user_of(effect.cause_log).is_none()
        }
        EffectAct::Erase { .. } => false,
    }
}

/// The id of the entry by which who is gone leaves: another one each time that they do.
fn departure_id(effect: &Effect, head: Position) -> MessageId {
    let mut hash = Sha256::new();
    hash.update(b"hearth departure");
    hash.update(effect.cause_log.to_bytes());
    hash.update(effect.target.log.to_bytes());
    for number in [u64::from(head.generation.get()), head.epoch.get(), head.offset.get()] {
        hash.update(number.to_be_bytes());
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    MessageId::from_bytes(id)
}
