//! Effects, as records hold them and as homes send them to each other.

use crate::{
    convert::{Malformed, log_id, require},
    log,
};
use bytes::Bytes;
use types::{Effect, EffectAct, EffectTarget, EntryBody, Generation, LogId, PendingEffect, Position};

impl From<&EffectTarget> for log::EffectTarget {
    fn from(target: &EffectTarget) -> Self {
        Self { log: log_bytes(target.log), stretch: target.stretch.get() }
    }
}

pub(super) fn target(wire: Option<log::EffectTarget>) -> Result<EffectTarget, Malformed> {
    let wire = require("effect.target", wire)?;
    let log = log_id("effect.target.log", &wire.log)?;
    Ok(EffectTarget { log, stretch: Generation::new(wire.stretch) })
}

impl From<&EffectAct> for log::effect::Act {
    fn from(act: &EffectAct) -> Self {
        match act {
            EffectAct::Erase { offsets } => {
                Self::Erase(log::Deleted { offsets: offsets.iter().map(|offset| offset.get()).collect() })
            }
            EffectAct::Joined => Self::Joined(log::Joined {}),
            EffectAct::Left => Self::Left(log::Left {}),
            EffectAct::Gone => Self::Gone(log::Gone {}),
            EffectAct::Blocked => Self::Blocked(log::Blocked {}),
            EffectAct::Unblocked => Self::Unblocked(log::Unblocked {}),
        }
    }
}

fn act(wire: Option<log::effect::Act>) -> Result<EffectAct, Malformed> {
    match require("effect.act", wire)? {
        log::effect::Act::Erase(deleted) => match deleted.try_into()? {
            EntryBody::Deleted { offsets } => Ok(EffectAct::Erase { offsets }),
            _ => Err(Malformed::Missing { field: "effect.erase" }),
        },
        log::effect::Act::Joined(_) => Ok(EffectAct::Joined),
        log::effect::Act::Left(_) => Ok(EffectAct::Left),
        log::effect::Act::Gone(_) => Ok(EffectAct::Gone),
        log::effect::Act::Blocked(_) => Ok(EffectAct::Blocked),
        log::effect::Act::Unblocked(_) => Ok(EffectAct::Unblocked),
    }
}

impl From<&Effect> for log::Effect {
    fn from(effect: &Effect) -> Self {
        Self {
            cause_log: log_bytes(effect.cause_log),
            cause: Some(effect.cause.into()),
            target: Some((&effect.target).into()),
            act: Some((&effect.act).into()),
        }
    }
}

impl TryFrom<log::Effect> for Effect {
    type Error = Malformed;
    fn try_from(wire: log::Effect) -> Result<Self, Malformed> {
        let cause_log = log_id("effect.cause_log", &wire.cause_log)?;
        let PendingEffect { cause, target, act } = pending(wire)?;
        Ok(Self { cause_log, cause, target, act })
    }
}

/// In a fold the log of the cause is the log itself, and is not said.
impl From<&PendingEffect> for log::Effect {
    fn from(pending: &PendingEffect) -> Self {
        Self {
            cause_log: Bytes::new(),
            cause: Some(pending.cause.into()),
            target: Some((&pending.target).into()),
            act: Some((&pending.act).into()),
        }
    }
}

pub(super) fn pending(wire: log::Effect) -> Result<PendingEffect, Malformed> {
    let cause = require("effect.cause", wire.cause)?.into();
    Ok(PendingEffect { cause, target: target(wire.target)?, act: act(wire.act)? })
}

pub(super) fn wire_cause((log, position): &(LogId, Position)) -> log::Cause {
    log::Cause { log: log_bytes(*log), position: Some((*position).into()) }
}

pub(super) fn cause(wire: log::Cause) -> Result<(LogId, Position), Malformed> {
    Ok((log_id("cause.log", &wire.log)?, require("cause.position", wire.position)?.into()))
}

fn log_bytes(log: LogId) -> Bytes {
    Bytes::copy_from_slice(&log.to_bytes())
}
