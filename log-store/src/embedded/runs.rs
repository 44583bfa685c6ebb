//! Where the entries of logs stand, as it was read from the fold lately, bounded.
//!
//! A run of the fold never changes but by a truncation, which forgets all that is kept here.

use super::{frame::Location, view::LogKey};
use parking_lot::Mutex;
use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

/// A log, and the offset of a run's first entry.
type RunKey = (LogKey, u64);

/// Runs in two generations: what is used moves to the young one, and when that is full the old one goes.
#[derive(Debug)]
pub(crate) struct RunCache {
    generations: Mutex<Generations>,
    generation_max: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: BTreeMap<RunKey, Arc<[Location]>>,
    old: BTreeMap<RunKey, Arc<[Location]>>,
    young_locations: usize,
}

impl RunCache {
    /// Keeps at most so many locations.
    pub(crate) fn new(locations_max: usize) -> Self {
        Self { generations: Mutex::default(), generation_max: locations_max.div_ceil(2) }
    }

    /// The locations of a range of a log's entries, if all are kept.
    pub(crate) fn get(&self, key: &LogKey, wanted: RangeInclusive<u64>) -> Option<Vec<Location>> {
        let (mut next, high) = wanted.into_inner();
        let mut generations = self.generations.lock();
        let mut found = Vec::new();
        while next <= high {
            let (first, run) = match covering(&generations.young, key, next) {
                Some(run) => run,
                None => {
                    let (first, run) = covering(&generations.old, key, next)?;
                    generations.old.remove(&(*key, first));
                    self.put(&mut generations, (*key, first), run.clone());
                    (first, run)
                }
            };
            let from = (next - first) as usize;
            let until = run.len().min((high - first) as usize + 1);
            found.extend_from_slice(&run[from..until]);
            next = first + until as u64;
        }
        Some(found)
    }

    pub(crate) fn insert(&self, key: &LogKey, first: u64, run: Arc<[Location]>) {
        self.put(&mut self.generations.lock(), (*key, first), run);
    }

    /// Forgets all, because a truncation has changed some of it.
    pub(crate) fn clear(&self) {
        *self.generations.lock() = Generations::default();
    }

    fn put(&self, generations: &mut Generations, key: RunKey, run: Arc<[Location]>) {
        if generations.young_locations >= self.generation_max {
            generations.old = std::mem::take(&mut generations.young);
            generations.young_locations = 0;
        }
        generations.young_locations += run.len();
        let replaced = generations.young.insert(key, run);
        generations.young_locations -= replaced.map_or(0, |run| run.len());
    }
}

/// The run that an entry is in.
fn covering(
    runs: &BTreeMap<RunKey, Arc<[Location]>>,
    key: &LogKey,
    offset: u64,
) -> Option<(u64, Arc<[Location]>)> {
    let ((of, first), run) = runs.range(..=(*key, offset)).next_back()?;
    (of == key && offset - first < run.len() as u64).then(|| (*first, run.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{LogId, PartitionId};

    const LOG: LogKey = (PartitionId::new(1), LogId::group([1; 16]));

    fn run(first: u64, count: u64) -> Arc<[Location]> {
        (first..first + count).map(|at| Location { segment: 1, origin: at as u32 * 8 }).collect()
    }

    #[test]
    fn a_range_is_found_across_runs_and_only_whole() {
        let cache = RunCache::new(1_000);
        for (first, count) in [(1, 10), (11, 1), (12, 20)] {
            cache.insert(&LOG, first, run(first, count));
        }
        assert_eq!(cache.get(&LOG, 9..=14), Some(run(9, 6).to_vec()));
        assert_eq!(cache.get(&LOG, 31..=32), None);
        assert_eq!(cache.get(&(PartitionId::new(2), LOG.1), 1..=1), None);
        cache.clear();
        assert_eq!(cache.get(&LOG, 1..=1), None);
    }

    #[test]
    fn it_keeps_what_is_used_and_forgets_the_rest() {
        let cache = RunCache::new(40);
        for first in (1..=1_000).step_by(10) {
            cache.insert(&LOG, first, run(first, 10));
            assert!(cache.get(&LOG, 1..=10).is_some());
        }
        let generations = cache.generations.lock();
        assert!(generations.young.len() + generations.old.len() <= 6);
    }
}
