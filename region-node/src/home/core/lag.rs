//! When records became durable, coarsely: how long has a follower lacked something?

use std::collections::VecDeque;
use types::Lsn;

/// The most samples; beyond it neighbours are merged.
const SAMPLES_MAX: usize = 2_048;
/// Samples closer together than this are one.
const RESOLUTION_MS: u64 = 20;

/// See the module. Errs on the side of a greater lag.
#[derive(Debug)]
pub(super) struct Lag {
    /// Everything up to the LSN, and behind the sample before, was durable no earlier than at the time.
    samples: VecDeque<(Lsn, u64)>,
}

impl Lag {
    pub(super) fn new(durable: Lsn, boot_ms: u64) -> Self {
        Self { samples: VecDeque::from([(durable, boot_ms)]) }
    }

    pub(super) fn durable(&mut self, lsn: Lsn, boot_ms: u64) {
        match self.samples.back_mut() {
            Some((last, at)) if boot_ms.saturating_sub(*at) < RESOLUTION_MS => *last = lsn,
            _ => self.samples.push_back((lsn, boot_ms)),
        }
        if self.samples.len() > SAMPLES_MAX {
            let pairs = self.samples.make_contiguous().chunks(2);
            self.samples = pairs.map(|pair| (pair[pair.len() - 1].0, pair[0].1)).collect();
        }
    }

    /// What was durable at a time, for certain not less.
    pub(super) fn durable_at(&self, boot_ms: u64) -> Lsn {
        let later = self.samples.partition_point(|(_, at)| *at <= boot_ms);
        later.checked_sub(1).map_or(Lsn::ZERO, |at| self.samples[at].0)
    }

    /// For how long something behind `held` has been durable; 0 when nothing is.
    pub(super) fn of(&self, held: Lsn, boot_ms: u64) -> u64 {
        let lacking = self.samples.partition_point(|(lsn, _)| *lsn <= held);
        self.samples.get(lacking).map_or(0, |(_, at)| boot_ms.saturating_sub(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_oldest_record_that_is_lacking() {
        let mut lag = Lag::new(Lsn::new(5), 1_000);
        lag.durable(Lsn::new(7), 2_000);
        lag.durable(Lsn::new(9), 3_000);
        let at = |held| lag.of(Lsn::new(held), 3_500);
        assert_eq!([at(4), at(5), at(7), at(8), at(9)], [2_500, 1_500, 500, 500, 0]);
    }

    #[test]
    fn merged_samples_never_make_a_lag_smaller() {
        let mut lag = Lag::new(Lsn::ZERO, 0);
        for step in 1..=5_000_u64 {
            lag.durable(Lsn::new(step), step * RESOLUTION_MS);
        }
        assert!(lag.samples.len() <= SAMPLES_MAX);
        for held in [0_u64, 10, 4_000, 4_999] {
            let exact = 5_000 * RESOLUTION_MS - (held + 1) * RESOLUTION_MS;
            assert!(lag.of(Lsn::new(held), 5_000 * RESOLUTION_MS) >= exact, "held {held}");
        }
    }
}
