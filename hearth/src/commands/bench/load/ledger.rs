//! The books of one chat: what was sent, acked and received, and whether that adds up.
//!
//! Messages have numbers, dense from 0. [`Acks`] is the sender's side, one [`Arrivals`] each reader's.

use std::collections::BTreeSet;

/// Which messages were acked.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// A bit for each message.
    words: Vec<u64>,
    end: u64,
}

impl Acks {
    /// A message was acked.
    pub(crate) fn ack(&mut self, number: u64) {
        let (word, bit) = (number as usize / 64, number % 64);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << bit;
        self.end = self.end.max(number + 1);
    }

    fn has(&self, number: u64) -> bool {
        self.words.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

/// What arrived at one reader.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// One behind the highest that arrived.
    end: u64,
    /// What is below `end` and has not arrived: refused, lost, or out of order.
    skipped: BTreeSet<u64>,
    doubled: u64,
    reordered: u64,
}

impl Arrivals {
    /// A message arrived.
    pub(crate) fn receive(&mut self, number: u64) {
        if number >= self.end {
            self.skipped.extend(self.end..number);
            self.end = number + 1;
        } else if self.skipped.remove(&number) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// Acked messages that have not arrived.
    pub(crate) fn missing(&self, acks: &Acks) -> u64 {
        let behind = (self.end..acks.end).filter(|number| acks.has(*number)).count();
        (behind + self.skipped.iter().filter(|number| acks.has(**number)).count()) as u64
    }

    /// Messages that arrived more than once.
    pub(crate) const fn doubled(&self) -> u64 {
        self.doubled
    }

    /// Messages that arrived behind a later one.
    pub(crate) const fn reordered(&self) -> u64 {
        self.reordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(acked: impl IntoIterator<Item = u64>, received: &[u64]) -> (u64, u64, u64) {
        let (mut acks, mut arrivals) = (Acks::default(), Arrivals::default());
        received.iter().for_each(|number| arrivals.receive(*number));
        acked.into_iter().for_each(|number| acks.ack(number));
        (arrivals.missing(&acks), arrivals.doubled(), arrivals.reordered())
    }

    #[test]
    fn loss_doubling_and_disorder_are_each_seen() {
        assert_eq!(books(0..5, &[0, 1, 2, 3, 4]), (0, 0, 0));
        assert_eq!(books(0..5, &[0, 2, 1, 2, 4]), (1, 1, 1));
        assert_eq!(books(0..200, &[0]), (199, 0, 0));
        assert_eq!(books(0..5, &[]), (5, 0, 0));
    }

    #[test]
    fn what_was_not_acked_may_arrive_or_not() {
        assert_eq!(books([0, 3], &[0, 1, 3]), (0, 0, 0));
        assert_eq!(books([1], &[0, 1, 2, 3]), (0, 0, 0));
    }

    #[test]
    fn a_message_that_arrives_late_twice_is_doubled_once() {
        assert_eq!(books(0..3, &[0, 2, 1, 1]), (0, 1, 1));
    }
}
