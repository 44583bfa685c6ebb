//! Effects in the fold: what a log's entries have caused elsewhere, and what has been caused here.
//!
//! ```text
//!   cause's log:   entry ──► pending ──(replicated at the target)──► EffectDone ──► gone
//!   target's log:                 └──sent──► Effect, above the highest cause of that log ──► its causes
//! ```
//!
//! Invariants:
//! - What is pending stands in the order of its causes, and leaves only by an `EffectDone` or with the log, or with the
//!   account that said it.
//! - An account that is closed leaves its chats, [`limits::LEAVING_AT_ONCE`] at a time; which these are is told by effects
//!   alone, which are never erased.
//! - It goes with the log when that is re-homed, and so do the causes of effects on the log wherever it is
//!   written; those of effects on one stretch stay in the partition that holds it.

use crate::{account, fold::LogState};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use types::{
    Effect, EffectAct, EffectTarget, Generation, Import, LogId, Lsn, Offset, PendingEffect, Position, UserId,
    account::{Account, AccountChange, AccountStanding, JOINED_MAX},
    limits,
};

/// An effect that is not known to be `replicated` at its target, and the LSN of the record here that tells of
/// it: before that is `replicated`, nobody may be told.
pub type Pending = (Lsn, PendingEffect);

impl LogState {
    /// What the deletion at `cause` erases in other partitions.
    fn erasures(&self, log: LogId, cause: Position, offsets: &[Offset]) -> Vec<PendingEffect> {
        let mut stretches: BTreeMap<Generation, Vec<Offset>> = BTreeMap::new();
        for offset in offsets.iter().copied().filter(|offset| self.is_elsewhere(*offset)) {
            if let Some(at) = self.position_at(offset) {
                stretches.entry(at.generation).or_default().push(offset);
            }
        }
        let effect = |(stretch, offsets)| PendingEffect {
            cause,
            target: EffectTarget { log, stretch },
            act: EffectAct::Erase { offsets },
        };
        stretches.into_iter().map(effect).collect()
    }

    /// Whether there is room for what a deletion of these offsets would leave pending.
    pub fn has_room_to_erase(&self, log: LogId, offsets: &[Offset]) -> bool {
        let more = self.erasures(log, Position::START, offsets);
        let named = |effect: &PendingEffect| match &effect.act {
            EffectAct::Erase { offsets } => offsets.len(),
            EffectAct::Joined
            | EffectAct::Left
            | EffectAct::Gone
            | EffectAct::Blocked
            | EffectAct::Unblocked => 0,
        };
        let pending = self.effects.iter().map(|(_, effect)| effect);
        let offsets = pending.chain(&more).map(named).sum::<usize>();
        more.is_empty()
            || (self.effects.len() + more.len() <= limits::EFFECTS_PENDING_MAX
                && offsets <= limits::EFFECT_OFFSETS_MAX)
    }

    pub(crate) fn cause_erasures(&mut self, log: LogId, lsn: Lsn, cause: Position, offsets: &[Offset]) {
        let more = self.erasures(log, cause, offsets);
        if !more.is_empty() {
            Arc::make_mut(&mut self.effects).extend(more.into_iter().map(|effect| (lsn, effect)));
        }
    }

    /// Whether there is room for telling so many users that they joined or left.
    pub fn has_room_to_tell(&self, users: usize) -> bool {
        self.effects.len() + users <= limits::EFFECTS_PENDING_MAX
    }

    /// Users joined or left the chat by the entry at `cause`: the logs of those who have an account are told.
    pub(crate) fn cause_memberships<'a>(
        &mut self,
        lsn: Lsn,
        cause: Position,
        changes: impl Iterator<Item = (&'a UserId, EffectAct)>,
    ) {
        let effect = |(user, act): (&UserId, EffectAct)| {
            let target = EffectTarget { log: LogId::account(user), stretch: Generation::ZERO };
            (lsn, PendingEffect { cause, target, act })
        };
        let more: Vec<Pending> = changes.filter(|(user, _)| user.is_of_account()).map(effect).collect();
        if !more.is_empty() {
            Arc::make_mut(&mut self.effects).extend(more);
        }
    }

    /// What a change of a user's account causes in chats.
    pub(crate) fn cause_by_account(
        &mut self,
        lsn: Lsn,
        cause: Position,
        user: &UserId,
        change: &AccountChange,
    ) {
        let (other, act) = match change {
            AccountChange::Blocked(other) => (other, EffectAct::Blocked),
            AccountChange::Unblocked(other) => (other, EffectAct::Unblocked),
            AccountChange::Closed => {
                // What the account said of others is over, and may be erased from now on.
                Arc::make_mut(&mut self.effects).retain(|(_, effect)| effect.act == EffectAct::Gone);
                return self.leave_chats(lsn);
            }
            _ => return,
        };
        if other != user {
            let target = EffectTarget { log: LogId::direct(user, other), stretch: Generation::ZERO };
            Arc::make_mut(&mut self.effects).push((lsn, PendingEffect { cause, target, act }));
        }
    }

    /// Whether there is room for what one more change of an account causes.
    pub fn has_room_to_cause(&self) -> bool {
        self.effects.len() < limits::EFFECTS_PENDING_MAX
    }

    /// Tells chats of a closed account to be left by its user, some at a time.
    fn leave_chats(&mut self, lsn: Lsn) {
        let Some(account) = self.account.as_ref().filter(|it| it.standing == AccountStanding::Closed) else {
            return;
        };
        let told: BTreeSet<LogId> = self.effects.iter().map(|(_, effect)| effect.target.log).collect();
        let room = limits::LEAVING_AT_ONCE.saturating_sub(told.len());
        let effect = |log: &LogId| {
            let target = EffectTarget { log: *log, stretch: Generation::ZERO };
            (lsn, PendingEffect { cause: self.head, target, act: EffectAct::Gone })
        };
        let untold = account.leaving.iter().filter(|log| !told.contains(log));
        let more: Vec<Pending> = untold.take(room).map(effect).collect();
        if !more.is_empty() {
            Arc::make_mut(&mut self.effects).extend(more);
        }
    }

    pub(crate) fn effect_done(&mut self, lsn: Lsn, target: &EffectTarget, cause: Position) {
        let is_done = |effect: &PendingEffect| effect.target == *target && effect.cause <= cause;
        let mut done = self.effects.iter().filter(|(_, effect)| is_done(effect)).peekable();
        if done.peek().is_none() {
            return;
        }
        let is_left = done.any(|(_, effect)| effect.act == EffectAct::Gone);
        Arc::make_mut(&mut self.effects).retain(|(_, effect)| !is_done(effect));
        if is_left && let Some(account) = &mut self.account {
            Arc::make_mut(account).leaving.remove(&target.log);
            self.leave_chats(lsn);
        }
    }

    /// Takes in that the user of this account log has become a member of a chat, or is none any more.
    fn take_membership(&mut self, lsn: Lsn, chat: LogId, is_member: bool) {
        let account = Arc::make_mut(self.account.get_or_insert_default());
        account::take_membership(account, chat, is_member);
        if *account == Account::default() {
            self.account = None;
        }
        self.leave_chats(lsn);
    }

    /// Takes in that one of the two of this direct chat takes nothing of the other, or does again.
    fn take_blocking(&mut self, account: LogId, is_blocked: bool) {
        let Some(user) = self.user_of(account).cloned() else { return };
        let chat = Arc::make_mut(self.chat.get_or_insert_default());
        if is_blocked {
            chat.blocked_by.insert(user);
        } else {
            chat.blocked_by.remove(&user);
        }
    }

    /// The member whose account a log is.
    pub fn user_of(&self, account: LogId) -> Option<&UserId> {
        self.members.keys().find(|member| LogId::account(member) == account)
    }

    pub(crate) fn take_effect(&mut self, lsn: Lsn, effect: &Effect) {
        let key = (effect.cause_log, effect.target.stretch);
        let causes = Arc::make_mut(&mut self.causes);
        let highest = causes.entry(key).or_default();
        *highest = effect.cause.max(*highest);
        match effect.act {
            EffectAct::Joined => self.take_membership(lsn, effect.cause_log, true),
            EffectAct::Left => self.take_membership(lsn, effect.cause_log, false),
            EffectAct::Blocked => return self.take_blocking(effect.cause_log, true),
            EffectAct::Unblocked => return self.take_blocking(effect.cause_log, false),
            // Who is gone leaves by an entry.
            EffectAct::Erase { .. } | EffectAct::Gone => return,
        }
        // A chat that was left is forgotten for another one: what it tells again, it tells to its end.
        let chats = self.account.as_ref().map(|account| match &account.open {
            Some(open) => &open.joined,
            None => &account.leaving,
        });
        let is_member_of = |log| chats.is_some_and(|chats| chats.contains(log));
        let causes = Arc::make_mut(&mut self.causes);
        if causes.len() > limits::EFFECT_CAUSES_MAX
            && let Some(gone) = causes.keys().find(|(log, _)| !is_member_of(log)).copied()
        {
            causes.remove(&gone);
        }
    }

    /// Whether a user can be a member of one more chat.
    pub fn has_room_to_join(&self, chat: &LogId) -> bool {
        let open = self.account.as_ref().and_then(|account| account.open.as_ref());
        open.is_none_or(|open| open.joined.len() < JOINED_MAX || open.joined.contains(chat))
    }

    /// Whether an effect was taken before: it, or one of a later cause.
    pub fn has_taken(&self, effect: &Effect) -> bool {
        let key = (effect.cause_log, effect.target.stretch);
        self.causes.get(&key).is_some_and(|highest| effect.cause <= *highest)
    }

    pub(crate) fn export_effects(&self) -> (Vec<PendingEffect>, Vec<(LogId, Position)>) {
        let follows = self.causes.iter().filter(|((_, stretch), _)| stretch.is_zero());
        let causes = follows.map(|((log, _), cause)| (*log, *cause)).collect();
        (self.effects.iter().map(|(_, effect)| effect.clone()).collect(), causes)
    }

    pub(crate) fn import_effects(&mut self, lsn: Lsn, import: &Import) {
        let brought = import.effects.iter().map(|effect| (lsn, effect.clone()));
        self.effects = Arc::new(brought.collect());
        if import.causes.is_empty() {
            return;
        }
        let causes = Arc::make_mut(&mut self.causes);
        for (log, cause) in &import.causes {
            let highest = causes.entry((*log, Generation::ZERO)).or_default();
            *highest = (*cause).max(*highest);
        }
    }
}

#[cfg(test)]
mod tests;
