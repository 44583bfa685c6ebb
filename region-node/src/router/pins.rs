//! The pins that were used lately. A cached pin grants nothing: a home refuses what is not pinned to it.

use std::collections::HashMap;
use types::{LogId, PinSegment};

/// A bounded cache of two halves: when the young half is full it becomes the old one, and what was not
/// used since the last time is gone.
#[derive(Debug)]
pub(crate) struct PinCache {
    young: HashMap<LogId, PinSegment>,
    old: HashMap<LogId, PinSegment>,
    half_max: usize,
}

impl PinCache {
    pub(crate) fn new(pins_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half_max: (pins_max / 2).max(1) }
    }

    pub(crate) fn get(&mut self, log: LogId) -> Option<PinSegment> {
        if let Some(pin) = self.young.get(&log) {
            return Some(*pin);
        }
        let pin = self.old.remove(&log)?;
        self.insert(log, pin);
        Some(pin)
    }

    /// Takes a pin over, unless a later generation is known.
    pub(crate) fn insert(&mut self, log: LogId, pin: PinSegment) {
        let known = self.young.get(&log).or_else(|| self.old.get(&log));
        if known.is_some_and(|known| known.generation > pin.generation) {
            return;
        }
        if self.young.len() >= self.half_max && !self.young.contains_key(&log) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(log, pin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Generation, Offset, PartitionId};

    fn pin(generation: u32, partition: u32) -> PinSegment {
        PinSegment {
            generation: Generation::new(generation),
            partition: PartitionId::new(partition),
            first_offset: Offset::FIRST,
        }
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = PinCache::new(4);
        let log = |key: u8| LogId::group([key; 16]);
        cache.insert(log(0), pin(1, 7));
        for key in 1..100 {
            assert_eq!(cache.get(log(0)), Some(pin(1, 7)));
            cache.insert(log(key), pin(1, 1));
        }
        assert_eq!(cache.get(log(1)), None);
        assert!(cache.young.len() + cache.old.len() <= 4);
    }

    #[test]
    fn an_earlier_generation_never_replaces_a_later_one() {
        let mut cache = PinCache::new(4);
        let log = LogId::group([1; 16]);
        cache.insert(log, pin(2, 9));
        cache.insert(log, pin(1, 3));
        assert_eq!(cache.get(log), Some(pin(2, 9)));
    }
}
