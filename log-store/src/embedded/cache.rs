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
}

impl StateCache {
    /// Keeps at most `logs_max` states.
    pub(crate) fn new(logs_max: usize) -> Self {
        Self { generations: Mutex::default(), generation_max: logs_max.div_ceil(2) }
    }

    pub(crate) fn get(&self, key: &LogKey) -> Option<Arc<LogState>> {
        let mut generations = self.generations.lock();
        if let Some(state) = generations.young.get(key) {
            return Some(state.clone());
        }
        let state = generations.old.remove(key)?;
        self.put(&mut generations, *key, state.clone());
        Some(state)
    }

    pub(crate) fn insert(&self, key: LogKey, state: Arc<LogState>) {
        self.put(&mut self.generations.lock(), key, state);
    }

    /// Forgets all, because a truncation has changed what some of them were.
    pub(crate) fn clear(&self) {
        *self.generations.lock() = Generations::default();
    }

    fn put(&self, generations: &mut Generations, key: LogKey, state: Arc<LogState>) {
        if generations.young.len() >= self.generation_max {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.old.remove(&key);
        generations.young.insert(key, state);
    }
}
