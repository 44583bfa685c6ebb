//! How far each reader has read.

use crate::history::{Log, Session};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use types::Position;

/// The last position that each session has of each log.
#[derive(Debug, Default)]
pub struct Heads(Mutex<HashMap<(Session, Log), Position>>);

impl Heads {
    pub(super) fn set(&self, session: Session, log: Log, at: Position) {
        self.0.lock().insert((session, log), at);
    }

    pub(super) fn forget(&self, session: Session, log: Log) {
        self.0.lock().remove(&(session, log));
    }

    /// The sessions that are not at these ends of their logs.
    pub fn behind(&self, ends: &BTreeMap<Log, Position>) -> Vec<(Session, Log, Position)> {
        let heads = self.0.lock();
        let away = heads.iter().filter(|((_, log), at)| ends.get(log).is_some_and(|end| end != *at));
        let mut away: Vec<_> = away.map(|((session, log), at)| (*session, *log, *at)).collect();
        away.sort();
        away
    }
}
