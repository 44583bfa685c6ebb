//! What a run counted.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// The longest latency that is told apart, in µs.
const LATENCY_MAX_US: u64 = 600_000_000;
/// How finely rates are kept over time.
pub(crate) const SLICE_US: u64 = 250_000;

/// A histogram of µs, to three digits.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, 3).expect("the bounds are valid")
}

/// Counts of one thread, or of all.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Acks inside the counted time.
    pub(crate) accepted: u64,
    /// Arrivals inside the counted time.
    pub(crate) delivered: u64,
    /// Intended send to ack, in µs.
    pub(crate) ack_us: Histogram<u64>,
    /// Intended send to arrival, in µs, by the class of the reader.
    pub(crate) deliver_us: Vec<Histogram<u64>>,
    /// Refusals by code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Acks and arrivals in each [`SLICE_US`] of the counted time.
    pub(crate) slices: Vec<(u64, u64)>,
    /// Until all that was acked had arrived, in µs since the run's epoch.
    pub(crate) took_us: u64,
    /// Messages that were sent and never answered.
    pub(crate) unanswered: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
}

impl Tally {
    pub(crate) fn new(reader_classes: usize) -> Self {
        Self {
            accepted: 0,
            delivered: 0,
            ack_us: latencies(),
            deliver_us: vec![latencies(); reader_classes],
            refused: BTreeMap::new(),
            slices: Vec::new(),
            took_us: 0,
            unanswered: 0,
            lost: 0,
            doubled: 0,
            reordered: 0,
        }
    }

    /// An ack, `since` µs into the counted time.
    pub(crate) fn accept(&mut self, since: u64) {
        self.accepted += 1;
        self.slice(since).0 += 1;
    }

    /// An arrival, `since` µs into the counted time.
    pub(crate) fn deliver(&mut self, since: u64) {
        self.delivered += 1;
        self.slice(since).1 += 1;
    }

    fn slice(&mut self, since: u64) -> &mut (u64, u64) {
        let at = (since / SLICE_US) as usize;
        if self.slices.len() <= at {
            self.slices.resize(at + 1, (0, 0));
        }
        &mut self.slices[at]
    }

    /// Adds what another thread counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.ack_us += other.ack_us;
        for (mine, others) in self.deliver_us.iter_mut().zip(other.deliver_us) {
            *mine += others;
        }
        self.took_us = self.took_us.max(other.took_us);
        for (code, count) in other.refused {
            *self.refused.entry(code).or_default() += count;
        }
        for (at, (accepted, delivered)) in other.slices.into_iter().enumerate() {
            let slice = self.slice(at as u64 * SLICE_US);
            slice.0 += accepted;
            slice.1 += delivered;
        }
        self.unanswered += other.unanswered;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
    }

    /// Intended send to arrival at any reader, in µs.
    pub(crate) fn deliveries_us(&self) -> Histogram<u64> {
        self.deliver_us.iter().fold(latencies(), |sum, of_class| sum + of_class)
    }

    /// Why the run fails; empty where it does not.
    pub(crate) fn faults(&self) -> Vec<String> {
        let faults = [
            (self.unanswered, "messages were never answered"),
            (self.lost, "acked messages did not arrive"),
            (self.doubled, "messages arrived twice"),
            (self.reordered, "messages arrived out of order"),
        ];
        faults.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_threads_counted_adds_up() {
        let (mut a, mut b) = (Tally::new(2), Tally::new(2));
        a.accept(0);
        a.deliver(SLICE_US);
        a.deliver_us[0].saturating_record(2_000);
        b.deliver(SLICE_US);
        b.deliver_us[1].saturating_record(3_000);
        b.accept(SLICE_US + 1);
        b.ack_us.saturating_record(9_000_000);
        b.refused.insert("overloaded".to_owned(), 2);
        b.lost = 3;
        a.add(b);
        assert_eq!((a.accepted, a.delivered, a.deliveries_us().len()), (2, 2, 2));
        assert_eq!(a.slices, [(1, 0), (1, 2)]);
        assert_eq!(a.refused["overloaded"], 2);
        assert!((8_990_000..9_010_000).contains(&a.ack_us.max()));
        assert_eq!(a.faults(), ["3 acked messages did not arrive"]);
    }
}
