//! The pins that were used lately. A cached pin grants nothing: a home refuses what is not pinned to it.

use std::{collections::HashMap, sync::Arc};
use types::{Generation, LogId, Offset, PartitionId, Pin, PinSegment};

/// A part of a log's history that one partition holds: one segment of the pin, or several that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// The generation of its end.
    pub(crate) generation: Generation,
    /// Who holds it.
    pub(crate) partition: PartitionId,
    /// Its first offset.
    pub(crate) first: Offset,
    /// Its last offset; the largest one in the stretch that is written now.
    pub(crate) last: Offset,
}

/// The stretches of a pin, in order; none is empty.
pub(crate) fn stretches(pin: &Pin) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for segment in &pin.segments {
        let PinSegment { generation, partition, first_offset: first } = *segment;
        match stretches.last_mut() {
            // A re-homing that was given up: the log went on where it was.
            Some(before) if before.partition == partition => before.generation = generation,
            _ => {
                if let Some(before) = stretches.last_mut() {
                    before.last = first.prev();
                }
                stretches.push(Stretch { generation, partition, first, last: Offset::new(u64::MAX) });
            }
        }
    }
    stretches.retain(|stretch| stretch.first <= stretch.last);
    stretches
}

/// What is known of one log's pin.
#[derive(Debug, Clone)]
struct Known {
    current: PinSegment,
    /// The whole pin, where it has grown.
    stretches: Option<Arc<[Stretch]>>,
}

/// A bounded cache of two halves: when the young half is full it becomes the old one, and what was not
/// used since the last time is gone.
#[derive(Debug)]
pub(crate) struct PinCache {
    young: HashMap<LogId, Known>,
    old: HashMap<LogId, Known>,
    half_max: usize,
}

impl PinCache {
    pub(crate) fn new(pins_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half_max: (pins_max / 2).max(1) }
    }

    /// Where the log is written.
    pub(crate) fn get(&mut self, log: LogId) -> Option<PinSegment> {
        self.known(log).map(|known| known.current)
    }

    /// Where the log is written, and where all of its history is, if that is in more than one place.
    pub(crate) fn whole(&mut self, log: LogId) -> Option<(PinSegment, Option<Arc<[Stretch]>>)> {
        self.known(log).map(|known| (known.current, known.stretches.clone()))
    }

    fn known(&mut self, log: LogId) -> Option<&Known> {
        if let Some(known) = self.old.remove(&log) {
            self.put(log, known);
        }
        self.young.get(&log)
    }

    /// Takes a pin over, unless a later generation is known; answers where it says that the log is written.
    pub(crate) fn insert(&mut self, pin: &Pin) -> Option<PinSegment> {
        let current = *pin.current()?;
        let known = self.young.get(&pin.log).or_else(|| self.old.get(&pin.log));
        if known.is_some_and(|known| known.current.generation > current.generation) {
            return Some(current);
        }
        let stretches = (pin.segments.len() > 1).then(|| stretches(pin).into());
        self.old.remove(&pin.log);
        self.put(pin.log, Known { current, stretches });
        Some(current)
    }

    fn put(&mut self, log: LogId, known: Known) {
        if self.young.len() >= self.half_max && !self.young.contains_key(&log) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(log, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(generation: u32, partition: u32, first: u64) -> PinSegment {
        PinSegment {
            generation: Generation::new(generation),
            partition: PartitionId::new(partition),
            first_offset: Offset::new(first),
        }
    }

    fn pin(key: u8, generation: u32, partition: u32) -> Pin {
        Pin { log: LogId::group([key; 16]), segments: vec![segment(generation, partition, 1)] }
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut cache = PinCache::new(4);
        let log = |key: u8| LogId::group([key; 16]);
        cache.insert(&pin(0, 1, 7));
        for key in 1..100 {
            assert_eq!(cache.get(log(0)), Some(segment(1, 7, 1)));
            cache.insert(&pin(key, 1, 1));
        }
        assert_eq!(cache.get(log(1)), None);
        assert!(cache.young.len() + cache.old.len() <= 4);
    }

    #[test]
    fn an_earlier_generation_never_replaces_a_later_one() {
        let mut cache = PinCache::new(4);
        cache.insert(&pin(1, 2, 9));
        cache.insert(&pin(1, 1, 3));
        assert_eq!(cache.get(LogId::group([1; 16])), Some(segment(2, 9, 1)));
    }

    #[test]
    fn segments_that_stay_in_their_partition_are_one_stretch() {
        let segments =
            vec![segment(1, 4, 1), segment(2, 4, 1), segment(3, 9, 11), segment(4, 4, 11), segment(5, 4, 11)];
        let pin = Pin { log: LogId::group([1; 16]), segments };
        let stretch = |generation, partition, first, last| Stretch {
            generation: Generation::new(generation),
            partition: PartitionId::new(partition),
            first: Offset::new(first),
            last: Offset::new(last),
        };
        assert_eq!(stretches(&pin), [stretch(2, 4, 1, 10), stretch(5, 4, 11, u64::MAX)]);
    }
}
