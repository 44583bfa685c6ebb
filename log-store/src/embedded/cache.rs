//! The folded states of the logs used last, bounded.

use super::view::LogKey;
use crate::fold::LogState;
use foldhash::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;

/// Two generations: what was not used while one generation filled up is forgotten.
#[derive(Debug)]
pub(crate) struct StateCache {
    generations: Mutex<Generations>,
    generation_max: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<LogKey, Arc<LogState>>,
    old: HashMap<LogKey, Arc<LogState>>,
    /// States that were folded, and truncations.
    changes: u64,
}

impl StateCache {
    /// Keeps at most `logs_max` states.
    pub(crate) fn new(logs_max: usize) -> Self {
        Self { generations: Mutex::default(), generation_max: logs_max.div_ceil(2) }
    }

    /// A log's state; or, where it is not kept, how often what is kept had changed by then.
    pub(crate) fn get(&self, key: &LogKey) -> Result<Arc<LogState>, u64> {
        let mut generations = self.generations.lock();
        if let Some(state) = generations.young.get(key) {
            return Ok(state.clone());
        }
        let state = generations.old.remove(key).ok_or(generations.changes)?;
        self.put(&mut generations, *key, state.clone());
        Ok(state)
    }

    /// Keeps a state that has been folded.
    pub(crate) fn insert(&self, key: LogKey, state: Arc<LogState>) {
        let mut generations = self.generations.lock();
        generations.changes += 1;
        self.put(&mut generations, key, state);
    }

    /// Keeps a state that was read from the fold, unless one was folded since `changes` was told: it may
    /// be a newer one of the same log.
    pub(crate) fn insert_if_current(&self, key: LogKey, state: Arc<LogState>, changes: u64) {
        let mut generations = self.generations.lock();
        if generations.changes == changes {
            self.put(&mut generations, key, state);
        }
    }

    /// Forgets all, because a truncation has changed what some of them were.
    pub(crate) fn clear(&self) {
        let mut generations = self.generations.lock();
        *generations = Generations { changes: generations.changes + 1, ..Generations::default() };
    }

    fn put(&self, generations: &mut Generations, key: LogKey, state: Arc<LogState>) {
        if generations.young.len() >= self.generation_max {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.old.remove(&key);
        generations.young.insert(key, state);
    }
}
