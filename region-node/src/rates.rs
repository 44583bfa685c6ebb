//! How often each of many may do something: a bucket of tokens for each, filled by time.
//!
//! A bucket that is full again is forgotten; where there are too many of them, the one that was used longest ago is.

use host::HashMap;
use std::{collections::BTreeMap, hash::Hash};

/// So many at once, and then one each so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) burst: u32,
    pub(crate) every_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it would have been full, had nobody taken from it: what is taken is time.
    spent_until_ms: u64,
    used: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rates<K> {
    buckets: HashMap<K, Bucket>,
    /// The keys by when they were used last.
    used: BTreeMap<u64, K>,
    next: u64,
    keys_max: usize,
}

impl<K: Clone + Eq + Hash> Rates<K> {
    /// Counts for at most so many at a time.
    pub(crate) fn new(keys_max: usize) -> Self {
        Self { buckets: HashMap::default(), used: BTreeMap::new(), next: 0, keys_max }
    }

    /// Counts one.
    ///
    /// # Errors
    /// There is no room; in how many ms there is.
    pub(crate) fn take(&mut self, key: &K, pace: Pace, now_ms: u64) -> Result<(), u64> {
        let cost_ms = pace.every_ms.max(1);
        let room_ms = cost_ms.saturating_mul(u64::from(pace.burst.max(1)));
        let before = self.buckets.get(key).copied();
        let spent_until_ms = before.map_or(now_ms, |bucket| bucket.spent_until_ms.max(now_ms)) + cost_ms;
        if spent_until_ms > now_ms + room_ms {
            return Err(spent_until_ms - now_ms - room_ms);
        }
        if let Some(before) = before {
            self.used.remove(&before.used);
        }
        self.next += 1;
        self.used.insert(self.next, key.clone());
        self.buckets.insert(key.clone(), Bucket { spent_until_ms, used: self.next });
        self.forget(now_ms);
        Ok(())
    }

    fn forget(&mut self, now_ms: u64) {
        while let Some((used, key)) = self.used.first_key_value() {
            let is_full = self.buckets.get(key).is_none_or(|bucket| bucket.spent_until_ms <= now_ms);
            if !is_full && self.buckets.len() <= self.keys_max {
                return;
            }
            let (used, key) = (*used, key.clone());
            self.used.remove(&used);
            self.buckets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { burst: 5, every_ms: 100 };

    #[test]
    fn a_burst_is_let_through_and_then_one_each_so_often() {
        let mut rates = Rates::new(3);
        let taken = |rates: &mut Rates<u32>, now_ms| {
            (0..100).filter(|_| rates.take(&1, PACE, now_ms).is_ok()).count()
        };
        assert_eq!(taken(&mut rates, 1_000), 5);
        assert_eq!(rates.take(&1, PACE, 1_050), Err(50));
        assert_eq!(taken(&mut rates, 1_300), 3);
        assert_eq!(rates.take(&2, PACE, 1_300), Ok(()), "another one has a bucket of their own");
        assert_eq!(taken(&mut rates, 60_000), 5);
    }

    #[test]
    fn only_so_many_are_counted() {
        let mut rates = Rates::new(3);
        for key in 0..100 {
            assert_eq!(rates.take(&key, PACE, 1_000), Ok(()));
        }
        assert_eq!((rates.buckets.len(), rates.used.len()), (3, 3));
        assert_eq!(rates.take(&99, PACE, 2_000), Ok(()));
        assert_eq!((rates.buckets.len(), rates.used.len()), (1, 1), "what is full again is forgotten");
    }
}
