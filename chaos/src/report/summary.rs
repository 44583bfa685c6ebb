//! The figures of one run.

use crate::{
    check::{self, AtRisk, Checker, MovePause, Recovery, Violation},
    history::{Ack, Fault, History, Kind, Told},
};
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// Violations that are told in full, for each checker.
const TOLD_MAX: usize = 5;

/// One run, in figures. The keys of its JSON are stable.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// What ran.
    pub scenario: String,
    /// By which seed.
    pub seed: u64,
    /// In a simulation.
    pub simulated: bool,
    /// From the first event to the last.
    pub seconds: f64,
    /// How many events.
    pub events: usize,
    /// What became of the writes.
    pub writes: Writes,
    /// From sending to the first ack.
    pub ack_ms: Latency,
    /// From sending to `replicated`.
    pub replicated_ms: Latency,
    /// Entries that readers were given.
    pub entries_read: u64,
    /// How often a reader was told `diverged`.
    pub diverged: u64,
    /// The faults.
    pub faults: Vec<FaultReport>,
    /// The planned moves.
    pub moves: Vec<MovePause>,
    /// The checkers.
    pub checks: Vec<Check>,
    /// What else went wrong.
    pub failures: Vec<String>,
    /// Nothing was found, and everything was looked at.
    pub clean: bool,
}

/// What became of the writes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Writes {
    /// Begun.
    pub sent: u64,
    /// Acked at any level.
    pub acked: u64,
    /// Acked at `replicated`.
    pub replicated: u64,
    /// Refused, with proof that nothing was written.
    pub refused: u64,
    /// Neither acked nor refused.
    pub unknown: u64,
    /// Acked at a second position, after a failover undid the first.
    pub moved: u64,
}

/// A distribution, in ms.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Half are at most this.
    pub p50: f64,
    /// 99 of 100 are.
    pub p99: f64,
    /// All are.
    pub max: f64,
}

impl Latency {
    /// Of values in µs.
    pub fn of(mut us: Vec<u64>) -> Self {
        us.sort_unstable();
        let at = |share: f64| {
            let rank = (us.len() as f64 * share).ceil() as usize;
            us.get(rank.saturating_sub(1)).map_or(0.0, |us| *us as f64 / 1e3)
        };
        Self { count: us.len() as u64, p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms", self.p50, self.p99, self.max)
    }
}

/// What a fault did.
#[derive(Debug, Clone, Serialize)]
pub struct FaultReport {
    /// Which.
    pub fault: Fault,
    /// What it was.
    pub what: String,
    /// From when, in s.
    pub from_s: f64,
    /// Until when; none: it never ended.
    pub until_s: Option<f64>,
    /// The partitions that it hit.
    pub partitions: usize,
    /// From its beginning to the first ack of the partition that took longest; none: it hit none.
    pub slowest_ms: Option<f64>,
    /// The same for the partition in the middle.
    pub median_ms: Option<f64>,
    /// The longest time without an ack at any of them, from before the fault until it was over.
    pub longest_pause_ms: Option<f64>,
    /// Partitions that acked nothing any more.
    pub unrecovered: usize,
    /// Messages acked at `home` and not replicated, when it began.
    pub at_risk: u64,
    /// Those that a failover undid and that came back.
    pub came_back: u64,
    /// Those that are nowhere.
    pub lost: u64,
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6.1} s  {}", self.from_s, self.what)?;
        if let (Some(slowest), Some(median)) = (self.slowest_ms, self.median_ms) {
            let (count, at_risk, back, lost) = (self.partitions, self.at_risk, self.came_back, self.lost);
            let pause = self.longest_pause_ms.unwrap_or_default() / 1e3;
            let (slowest, median) = (slowest / 1e3, median / 1e3);
            write!(f, ": {count} partitions, writes again after {slowest:.2} s (median {median:.2} s)")?;
            write!(f, ", longest pause {pause:.2} s")?;
            write!(f, "; {at_risk} messages at risk, {back} came back, {lost} lost")?;
        }
        if self.unrecovered > 0 {
            write!(f, "; {} NOT RECOVERED", self.unrecovered)?;
        }
        Ok(())
    }
}

/// What a checker found.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Who.
    pub checker: Checker,
    /// What it checks.
    pub promise: &'static str,
    /// How often it was not kept; at most so many are counted.
    pub violations: usize,
    /// The first few.
    pub first: Vec<String>,
}

impl Summary {
    /// Of a history and what was found in it.
    pub fn of(history: &History, violations: &[Violation], failures: &[String]) -> Self {
        let header = history.header();
        let mut counts = Counts::default();
        counts.count(history);
        let check = |checker: Checker| {
            let of = || violations.iter().filter(move |violation| violation.checker == checker);
            Check {
                checker,
                promise: checker.promise(),
                violations: of().count(),
                first: of().take(TOLD_MAX).map(|violation| violation.what.clone()).collect(),
            }
        };
        Self {
            scenario: header.scenario.clone(),
            seed: header.seed,
            simulated: header.simulated,
            seconds: history.events().last().map_or(0.0, |event| event.at_us as f64 / 1e6),
            events: history.events().len(),
            writes: counts.writes,
            ack_ms: Latency::of(counts.ack_us),
            replicated_ms: Latency::of(counts.replicated_us),
            entries_read: counts.entries_read,
            diverged: counts.diverged,
            faults: faults(history),
            moves: check::move_pauses(history),
            checks: Checker::ALL.into_iter().map(check).collect(),
            failures: failures.to_vec(),
            clean: violations.is_empty() && failures.is_empty(),
        }
    }
}

#[derive(Default)]
struct Counts {
    writes: Writes,
    ack_us: Vec<u64>,
    replicated_us: Vec<u64>,
    entries_read: u64,
    diverged: u64,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    sent_us: Option<u64>,
    home: Option<types::Position>,
    replicated: bool,
    refused: bool,
    moved: bool,
}

impl Counts {
    fn count(&mut self, history: &History) {
        let mut seen = vec![Seen::default(); history.names().messages().len()];
        for event in history.events() {
            match &event.kind {
                Kind::Invoke { message, .. } => seen[message.index()].sent_us = Some(event.at_us),
                Kind::Ok { message, at, ack, .. } => {
                    let write = &mut seen[message.index()];
                    let took_us = event.at_us - write.sent_us.unwrap_or(event.at_us);
                    match write.home {
                        None => self.ack_us.push(took_us),
                        Some(known) => write.moved |= known != *at,
                    }
                    write.home = Some(*at);
                    if *ack == Ack::Replicated && !std::mem::replace(&mut write.replicated, true) {
                        self.replicated_us.push(took_us);
                    }
                }
                Kind::Fail { message, .. } => seen[message.index()].refused = true,
                Kind::Seen { .. } => self.entries_read += 1,
                Kind::Told { told: Told::Diverged { .. }, .. } => self.diverged += 1,
                _ => {}
            }
        }
        for write in seen.iter().filter(|write| write.sent_us.is_some()) {
            self.writes.sent += 1;
            self.writes.acked += u64::from(write.home.is_some());
            self.writes.replicated += u64::from(write.replicated);
            self.writes.refused += u64::from(write.refused);
            self.writes.unknown += u64::from(write.home.is_none() && !write.refused);
            self.writes.moved += u64::from(write.moved);
        }
    }
}

fn faults(history: &History) -> Vec<FaultReport> {
    let recoveries = check::recoveries(history);
    let at_risk: BTreeMap<Fault, AtRisk> =
        check::at_risk(history).into_iter().map(|one| (one.fault, one)).collect();
    let mut faults: Vec<FaultReport> = Vec::new();
    for event in history.events() {
        match &event.kind {
            Kind::FaultBegan { fault, what, .. } => {
                let of: Vec<&Recovery> =
                    recoveries.iter().filter(|one| one.fault == *fault && one.sent > 0).collect();
                let mut first_us: Vec<u64> = of.iter().filter_map(|one| one.first_ack_us).collect();
                first_us.sort_unstable();
                let ms = |us: Option<&u64>| us.map(|us| *us as f64 / 1e3);
                let risk = at_risk.get(fault);
                faults.push(FaultReport {
                    fault: *fault,
                    what: what.clone(),
                    from_s: event.at_us as f64 / 1e6,
                    until_s: None,
                    partitions: of.len(),
                    slowest_ms: ms(first_us.last()),
                    median_ms: ms(first_us.get(first_us.len() / 2)),
                    longest_pause_ms: ms(of.iter().map(|one| &one.longest_pause_us).max()),
                    unrecovered: of.len() - first_us.len(),
                    at_risk: risk.map_or(0, |risk| risk.messages),
                    came_back: risk.map_or(0, |risk| risk.came_back),
                    lost: risk.map_or(0, |risk| risk.lost),
                });
            }
            Kind::FaultEnded { fault } => {
                let over = faults.iter_mut().filter(|one| one.fault == *fault);
                over.for_each(|one| one.until_s = Some(event.at_us as f64 / 1e6));
            }
            _ => {}
        }
    }
    faults
}
