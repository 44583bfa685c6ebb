//! Logs that are to be homed where they are written from.
//!
//! ```text
//!   entry of another region ──▶ counted: half of it is gone after a half-life
//!                                  │ two thirds of at least `weight_min` come from one other region
//!                                  ▼
//!                               it leads ──for `hold_ms` without a break──▶ told to the directory, which decides
//! ```
//!
//! Counts are kept in memory only, and only of logs that other regions write to: whoever becomes home begins anew.
//! A lead is judged when an entry comes, so nothing is ever asked for a log that nobody writes to.
//!
//! # Invariants
//!
//! - Regions that take turns of at most `hold_ms` each, and write alike, are never told of: only an entry of the
//!   region that leads tells of it, and it has led for less than its turn then.
//! - The table holds at most [`LOGS_MAX`] logs with [`ORIGINS_MAX`] regions each, whatever is written.

use super::{Context, Core, Follow, Output, log::Log};
use crate::service::Write;
use host::HashMap;
use types::{Generation, LogId, RegionId};

/// Logs of a partition that are counted. Where there are more, the half that is written to most stays.
const LOGS_MAX: usize = 512;
/// Other regions that are told apart for one log.
const ORIGINS_MAX: usize = 4;
/// How long the directory has to answer before a log is told of again, in ms.
const ANSWER_MS: u64 = 30_000;

/// When a log is to follow those who write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowWhen {
    /// Where the home is.
    pub region: RegionId,
    /// After how long an entry counts half, in ms; 0: nothing is counted.
    pub half_life_ms: u64,
    /// For how long another region must have led, in ms.
    pub hold_ms: u64,
    /// The least weight of all entries together on which anything is judged.
    pub weight_min: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Following {
    when: FollowWhen,
    logs: HashMap<LogId, Tally>,
}

/// Where one log is written from.
#[derive(Debug, Default)]
struct Tally {
    /// As of when the weights are.
    at_ms: u64,
    /// What was written in the home's region, or in one of too many others.
    rest: f64,
    others: Vec<(RegionId, f64)>,
    lead: Option<(RegionId, u64)>,
    not_before_ms: u64,
}

impl Core {
    /// Counts an entry by where it was written, and tells the directory where that is due.
    pub(super) fn follow_writers(
        &mut self,
        cx: Context,
        write: &Write,
        generation: Generation,
        log: &Log,
        out: &mut Vec<Output>,
    ) {
        let Some(region) = self.following.count(cx.now.boot_ms, write.log, write.origin.as_ref()) else {
            return;
        };
        let state = log.state.as_ref().and_then(Option::as_ref);
        let allowed_regions = state.map(|state| state.allowed_regions.clone()).unwrap_or_default();
        out.push(Output::Follow(Follow { log: write.log, generation, region, allowed_regions }));
    }
}

impl Following {
    pub(super) fn new(when: FollowWhen) -> Self {
        Self { when, logs: HashMap::default() }
    }

    /// Counts an entry; answers the region that the log is to follow it to, if that is due. `None` is the home's own.
    pub(super) fn count(&mut self, now_ms: u64, log: LogId, origin: Option<&RegionId>) -> Option<RegionId> {
        let other = origin.filter(|region| **region != self.when.region);
        if self.when.half_life_ms == 0 || (other.is_none() && self.logs.is_empty()) {
            return None;
        }
        if other.is_some() && self.logs.len() >= LOGS_MAX && !self.logs.contains_key(&log) {
            self.make_room(now_ms);
        }
        let tally = match other {
            Some(_) => self.logs.entry(log).or_default(),
            None => self.logs.get_mut(&log)?,
        };
        tally.decay(now_ms, self.when.half_life_ms);
        if tally.total() < f64::from(self.when.weight_min) {
            tally.lead = None;
        }
        tally.add(other);
        tally.judge(now_ms, &self.when);
        tally.due(now_ms, other?, &self.when)
    }

    /// The log is not told of again before then.
    pub(super) fn put_off(&mut self, log: LogId, until_ms: u64) {
        if let Some(tally) = self.logs.get_mut(&log) {
            tally.not_before_ms = until_ms;
        }
    }

    /// The log is not written here any more.
    pub(super) fn forget(&mut self, log: LogId) {
        self.logs.remove(&log);
    }

    fn make_room(&mut self, now_ms: u64) {
        let half_life_ms = self.when.half_life_ms;
        self.logs.values_mut().for_each(|tally| tally.decay(now_ms, half_life_ms));
        let mut weights: Vec<f64> = self.logs.values().map(Tally::total).collect();
        let (_, median, _) = weights.select_nth_unstable_by(LOGS_MAX / 2, f64::total_cmp);
        let median = *median;
        self.logs.retain(|_, tally| tally.total() > median);
    }
}

impl Tally {
    fn decay(&mut self, now_ms: u64, half_life_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        let left = (-(passed_ms as f64) / half_life_ms as f64).exp2();
        self.rest *= left;
        for (_, weight) in &mut self.others {
            *weight *= left;
        }
    }

    fn add(&mut self, origin: Option<&RegionId>) {
        let Some(origin) = origin else {
            self.rest += 1.0;
            return;
        };
        if let Some((_, weight)) = self.others.iter_mut().find(|(region, _)| region == origin) {
            *weight += 1.0;
            return;
        }
        if self.others.len() == ORIGINS_MAX {
            let weight = |at: usize| self.others[at].1;
            let least = (0..ORIGINS_MAX).min_by(|one, other| weight(*one).total_cmp(&weight(*other)));
            self.rest += least.map_or(0.0, |least| self.others.swap_remove(least).1);
        }
        self.others.push((origin.clone(), 1.0));
    }

    fn total(&self) -> f64 {
        self.rest + self.others.iter().map(|(_, weight)| weight).sum::<f64>()
    }

    /// Notes who leads, and since when.
    fn judge(&mut self, now_ms: u64, when: &FollowWhen) {
        let total = self.total();
        let leads = |(_, weight): &&(RegionId, f64)| 3.0 * weight >= 2.0 * total;
        let enough = total >= f64::from(when.weight_min);
        let leader = self.others.iter().find(leads).filter(|_| enough).map(|(region, _)| region);
        if leader != self.lead.as_ref().map(|(region, _)| region) {
            self.lead = leader.map(|region| (region.clone(), now_ms));
        }
    }

    /// The region that has just written, where it has led for long enough.
    fn due(&mut self, now_ms: u64, origin: &RegionId, when: &FollowWhen) -> Option<RegionId> {
        let (region, since_ms) = self.lead.as_ref().filter(|(region, _)| region == origin)?;
        if now_ms.saturating_sub(*since_ms) < when.hold_ms || now_ms < self.not_before_ms {
            return None;
        }
        self.not_before_ms = now_ms.saturating_add(ANSWER_MS);
        Some(region.clone())
    }
}

#[cfg(test)]
mod tests;
