//! The effects in a log's state, as the row holds them.

use super::super::rows::Cursor;
use crate::{effects::Pending, fold::LogState};
use std::collections::BTreeMap;
use types::{
    EffectAct, EffectTarget, Epoch, Generation, LogId, Lsn, Offset, PendingEffect, Position, limits,
};

const ERASE: u8 = 1;
const JOINED: u8 = 2;
const LEFT: u8 = 3;
const GONE: u8 = 4;
const BLOCKED: u8 = 5;
const UNBLOCKED: u8 = 6;

pub(super) fn put(into: &mut Vec<u8>, state: &LogState) {
    number(into, state.effects.len() as u64);
    for (lsn, effect) in &*state.effects {
        number(into, lsn.get());
        put_position(into, effect.cause);
        put_target(into, effect.target.log, effect.target.stretch);
        match &effect.act {
            EffectAct::Erase { offsets } => {
                into.push(ERASE);
                number(into, offsets.len() as u64);
                offsets.iter().for_each(|offset| number(into, offset.get()));
            }
            EffectAct::Joined => into.push(JOINED),
            EffectAct::Left => into.push(LEFT),
            EffectAct::Gone => into.push(GONE),
            EffectAct::Blocked => into.push(BLOCKED),
            EffectAct::Unblocked => into.push(UNBLOCKED),
        }
    }
    number(into, state.causes.len() as u64);
    for ((log, stretch), cause) in &*state.causes {
        put_target(into, *log, *stretch);
        put_position(into, *cause);
    }
}

pub(super) fn pending(cursor: &mut Cursor<'_>) -> Option<Vec<Pending>> {
    let count = cursor.u64()?;
    let effect = |_| {
        let lsn = Lsn::new(cursor.u64()?);
        let cause = position(cursor)?;
        let (log, stretch) = target(cursor)?;
        let act = match cursor.u8()? {
            ERASE => EffectAct::Erase { offsets: offsets(cursor)? },
            JOINED => EffectAct::Joined,
            LEFT => EffectAct::Left,
            GONE => EffectAct::Gone,
            BLOCKED => EffectAct::Blocked,
            UNBLOCKED => EffectAct::Unblocked,
            _ => return None,
        };
        Some((lsn, PendingEffect { cause, target: EffectTarget { log, stretch }, act }))
    };
    (0..count).map(effect).collect()
}

pub(super) fn causes(cursor: &mut Cursor<'_>) -> Option<BTreeMap<(LogId, Generation), Position>> {
    let count = cursor.u64()?;
    (0..count).map(|_| Some((target(cursor)?, position(cursor)?))).collect()
}

fn offsets(cursor: &mut Cursor<'_>) -> Option<Vec<Offset>> {
    let count = cursor.u64()?;
    if count > limits::DELETED_OFFSETS_MAX as u64 {
        return None;
    }
    (0..count).map(|_| Some(Offset::new(cursor.u64()?))).collect()
}

fn number(into: &mut Vec<u8>, number: u64) {
    into.extend_from_slice(&number.to_le_bytes());
}

fn put_target(into: &mut Vec<u8>, log: LogId, stretch: Generation) {
    into.extend_from_slice(&log.to_bytes());
    into.extend_from_slice(&stretch.get().to_le_bytes());
}

fn target(cursor: &mut Cursor<'_>) -> Option<(LogId, Generation)> {
    let log = LogId::try_from(cursor.bytes(LogId::BYTES)?).ok()?;
    Some((log, Generation::new(cursor.u32()?)))
}

fn put_position(into: &mut Vec<u8>, position: Position) {
    into.extend_from_slice(&position.generation.get().to_le_bytes());
    number(into, position.epoch.get());
    number(into, position.offset.get());
}

fn position(cursor: &mut Cursor<'_>) -> Option<Position> {
    let generation = Generation::new(cursor.u32()?);
    Some(Position::new(generation, Epoch::new(cursor.u64()?), Offset::new(cursor.u64()?)))
}
