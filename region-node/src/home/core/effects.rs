//! What the logs of the partition have caused elsewhere: sent, waited for, and noted as done.
//!
//! ```text
//!             the state is read,              the cause is `replicated`,               it is `replicated`
//!             the log is written here         nothing else is under way               at the target
//!   unread ───────────────────────► resting ────────────────────────────► sent ─────────────────────► done
//!                                      ▲                                    │                           │
//!                                      └────────── again, later ────────────┘       EffectDone ◄────────┘
//! ```
//!
//! The folded states of the logs are the truth; what is kept here is how far each of them is on its way. So a home
//! that takes over, a log that comes from another partition and a store that takes back what it had no room for
//! begin at `unread`, and at the worst send again what the target has: it drops that.
//!
//! # Invariants
//!
//! - An effect is sent only by a home that may act (its lease runs, nobody is waited for, no move is under way), when
//!   its cause is `replicated`, and while the log is written here: behind a seal or an import, once the pin says so.
//! - One effect of a log is under way to a target at a time, in the order of their causes.
//! - It leaves the fold by an `EffectDone`, which is written only once it is `replicated` at its target.

use log_store::{effects::Pending, fold::LogState};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use types::{Effect, EffectTarget, Generation, LogId, Lsn, PendingEffect, Position};

/// Effects of a partition that may be under way at a time.
const SENT_MAX: usize = 64;
/// Logs of a partition whose states are read at a time.
const READING_MAX: usize = 16;
/// After how long a state that did not come is asked for again, in ms.
const READ_AGAIN_MS: u64 = 1_000;
/// How long to wait after the first failure; twice as long after each further one, in ms.
const PAUSE_MIN_MS: u64 = 100;
/// The longest pause where the target's home cannot be reached, in ms.
const PAUSE_MAX_MS: u64 = 2_000;
/// The longest pause where it refuses, in ms.
const REFUSED_PAUSE_MAX_MS: u64 = 30_000;

/// What became of an effect that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectOutcome {
    /// It is `replicated` at its target.
    Done,
    /// It may or may not be: it is to be sent again.
    Again,
    /// The target refuses it, for a reason that may last.
    Refused,
}

/// Whether a log is written in this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Here {
    /// Its state is to be read, not before this time on the boot clock.
    Unread(u64),
    /// Its own records do not tell, and its pin has not been read.
    Unknown,
    /// In this generation.
    Yes(Generation),
}

/// How far the first effect on a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Resting { until_ms: u64, failures: u32 },
    Sent { cause: Position, failures: u32 },
    Done { cause: Position },
}

#[derive(Debug)]
struct OfLog {
    here: Here,
    pending: Arc<Vec<Pending>>,
    lines: BTreeMap<EffectTarget, Line>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Effects {
    logs: BTreeMap<LogId, OfLog>,
}

impl Effects {
    /// Of a home that begins: these logs have effects pending.
    pub(super) fn new(logs: Vec<LogId>) -> Self {
        let mut effects = Self::default();
        logs.into_iter().for_each(|log| effects.unread(log));
        effects
    }

    pub(super) fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// Effects that are not known to be `replicated`, as far as the states of their logs were read.
    pub(super) fn pending(&self) -> usize {
        self.logs.values().map(|of| of.pending.len()).sum()
    }

    /// The log's state has to be read (again).
    pub(super) fn unread(&mut self, log: LogId) {
        let of = OfLog { here: Here::Unread(0), pending: Arc::default(), lines: BTreeMap::new() };
        self.logs.insert(log, of);
    }

    /// The log is not written here any more; whoever writes it has what is pending.
    pub(super) fn forget(&mut self, log: LogId) {
        self.logs.remove(&log);
    }

    /// Takes over what a log's state says now. Answers whether its pin has to tell if the log is written here.
    pub(super) fn take_state(&mut self, log: LogId, state: Option<&LogState>) -> bool {
        let Some(state) = state.filter(|state| !state.effects.is_empty()) else {
            self.logs.remove(&log);
            return false;
        };
        let of = self.logs.entry(log).or_insert_with(|| OfLog {
            here: Here::Unknown,
            pending: Arc::default(),
            lines: BTreeMap::new(),
        });
        let standing = state.standing();
        of.here = match of.here {
            _ if standing.is_settled() => Here::Yes(standing.head.generation),
            Here::Yes(generation) if standing.may_begin(generation) => Here::Yes(generation),
            _ => Here::Unknown,
        };
        of.pending = Arc::clone(&state.effects);
        let targets: BTreeSet<EffectTarget> = of.pending.iter().map(|(_, effect)| effect.target).collect();
        of.lines.retain(|target, _| targets.contains(target));
        for target in targets {
            let line = of.lines.entry(target).or_insert(Line::Resting { until_ms: 0, failures: 0 });
            if let Line::Done { cause } = *line
                && of.pending.iter().all(|(_, effect)| effect.target != target || effect.cause > cause)
            {
                *line = Line::Resting { until_ms: 0, failures: 0 };
            }
        }
        of.here == Here::Unknown
    }

    /// The pin says that the log is written here.
    pub(super) fn written_here(&mut self, log: LogId, generation: Generation) {
        if let Some(of) = self.logs.get_mut(&log)
            && of.here == Here::Unknown
        {
            of.here = Here::Yes(generation);
        }
    }

    /// Logs whose state is to be read now; they are not named again for a while.
    pub(super) fn read(&mut self, now_ms: u64) -> Vec<LogId> {
        let due = self.logs.iter_mut().filter_map(|(log, of)| match &mut of.here {
            Here::Unread(at_ms) if *at_ms <= now_ms => {
                *at_ms = now_ms + READ_AGAIN_MS;
                Some(*log)
            }
            _ => None,
        });
        due.take(READING_MAX).collect()
    }

    /// What may be sent now; it counts as sent.
    pub(super) fn send(&mut self, now_ms: u64, replicated: Lsn) -> Vec<Effect> {
        let sent = |line: &&Line| matches!(line, Line::Sent { .. });
        let under_way = self.logs.values().flat_map(|of| of.lines.values()).filter(sent).count();
        let mut room = SENT_MAX.saturating_sub(under_way);
        let mut effects = Vec::new();
        for (log, of) in &mut self.logs {
            if !matches!(of.here, Here::Yes(_)) {
                continue;
            }
            // The first of each target: the others wait for it.
            let mut seen = BTreeSet::new();
            for (lsn, PendingEffect { cause, target, act }) in &*of.pending {
                if room == 0 || *lsn > replicated {
                    break;
                }
                if !seen.insert(*target) {
                    continue;
                }
                let Some(line) = of.lines.get_mut(target) else { continue };
                let Line::Resting { until_ms, failures } = *line else { continue };
                if now_ms < until_ms {
                    continue;
                }
                room -= 1;
                *line = Line::Sent { cause: *cause, failures };
                effects.push(Effect { cause_log: *log, cause: *cause, target: *target, act: act.clone() });
            }
        }
        effects
    }

    /// What was sent is answered. An answer that nothing waits for changes nothing.
    pub(super) fn answered(
        &mut self,
        now_ms: u64,
        log: LogId,
        target: EffectTarget,
        answered: Position,
        outcome: EffectOutcome,
    ) {
        let Some(line) = self.logs.get_mut(&log).and_then(|of| of.lines.get_mut(&target)) else { return };
        let Line::Sent { cause, failures } = *line else { return };
        if cause != answered {
            return;
        }
        let pause_max_ms = match outcome {
            EffectOutcome::Done => {
                *line = Line::Done { cause };
                return;
            }
            EffectOutcome::Again => PAUSE_MAX_MS,
            EffectOutcome::Refused => REFUSED_PAUSE_MAX_MS,
        };
        let pause_ms = PAUSE_MIN_MS.saturating_mul(1 << failures.min(16)).min(pause_max_ms);
        *line = Line::Resting { until_ms: now_ms + pause_ms, failures: failures.saturating_add(1) };
    }

    /// What is `replicated` at its target and still pending in the fold: the log, the generation in which it is
    /// written, the target and the cause.
    pub(super) fn done(&self) -> Vec<(LogId, Generation, EffectTarget, Position)> {
        let of_log = |(log, of): (&LogId, &OfLog)| {
            let Here::Yes(generation) = of.here else { return Vec::new() };
            let done = of.lines.iter().filter_map(|(target, line)| match line {
                Line::Done { cause } => Some((*log, generation, *target, *cause)),
                Line::Resting { .. } | Line::Sent { .. } => None,
            });
            done.collect()
        };
        self.logs.iter().flat_map(of_log).collect()
    }
}

#[cfg(test)]
mod tests;
