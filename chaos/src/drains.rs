//! How long it takes to drain a region under load until it is safe to power it off, and what that does to writes.
//!
//! ```text
//!   steady ─▶ drain ─▶ safe to power off ─▶ (power off ─▶ on) ─▶ drain ended ─▶ homes moved back ─▶ steady ─▶ …
//! ```
//!
//! Clients of every region write to a chat on every partition of the drained region, each message once. After some
//! of the drains the region really loses power, and comes back later.

use crate::{
    check::{Checker, Violation},
    history::{History, Kind, MoveEnd},
    observe, operate,
    report::Latency,
    run::{Opened, Options, Outcome, Stage},
    workload::Load,
};
use anyhow::ensure;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use std::{fmt::Write as _, time::Duration};
use tokio::time::{Instant, sleep};
use types::{PartitionRow, PartitionState};

/// The region that is drained, by number.
const DRAINED: usize = 0;
/// Of so many drains the last one ends with the region's power.
const POWER_OFF_EVERY: u32 = 4;
const STEADY: Duration = Duration::from_secs(2);
/// How long a region stays without power.
const OFF: Duration = Duration::from_secs(4);
/// A drain that has not come to its end by then has failed.
const DRAIN_PATIENCE: Duration = Duration::from_secs(120);
/// How long everything has to come back.
const BACK_PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Partitions that are moved back at a time.
const BACK_AT_ONCE: usize = 8;

/// One drain.
#[derive(Debug, Clone, Serialize)]
pub struct DrainFigures {
    /// Partitions that were homed in the region.
    pub homes: usize,
    /// From the operator's word to `safe to power off`.
    pub safe_ms: f64,
    /// The region then lost its power.
    pub powered_off: bool,
}

/// The measurement, told.
#[derive(Debug, Serialize)]
pub struct DrainsReport {
    /// Drains that came to their end.
    pub drains: usize,
    /// Drains that did not.
    pub failed: usize,
    /// From the operator's word to `safe to power off`.
    pub safe_ms: Latency,
    /// Drains after which the region lost its power.
    pub powered_off: usize,
    /// Planned moves, those back included.
    pub moves: usize,
    /// Those of them that were given up.
    pub aborted: usize,
    /// The longest time between two acks of a partition around its move; over all moves.
    pub move_pause_ms: Latency,
    /// Acked writes per second, on all partitions.
    pub writes_per_s: f64,
    /// Writes that were sent.
    pub sent: usize,
    /// Writes that a move failed.
    pub failed_by_moves: usize,
    /// Writes that were not acked because their own client's region lost its power.
    pub cut_off: usize,
    /// Violations of all checkers.
    pub violations: Vec<Violation>,
    /// What else went wrong.
    pub failures: Vec<String>,
    /// Each drain.
    pub each: Vec<DrainFigures>,
}

/// Measures. `options.rounds` is the number of drains.
///
/// # Errors
/// The deployment does not come up.
pub async fn measure(
    options: &Options,
    rate_per_s: u32,
    progress: impl Fn(&str),
) -> anyhow::Result<(Outcome, DrainsReport)> {
    let load = Load { plain_writes_per_s: rate_per_s, ..Load::NONE };
    let stage = Stage::set("drains", options, Opened::In(DRAINED), load, &progress).await?;
    let mut failures = Vec::new();
    let mut each = Vec::new();
    for number in 1..=options.rounds {
        sleep(STEADY).await;
        let told = |what: &str| progress(&format!("drain {number} of {}: {what}", options.rounds));
        let powered_off = number % POWER_OFF_EVERY == 0;
        match drain_once(&stage, powered_off, told).await {
            Ok(figures) => each.push(figures),
            Err(error) => {
                failures.push(format!("drain {number}: {error:#}"));
                break;
            }
        }
    }
    let outcome = stage.finish(failures, &progress).await?;
    let report = DrainsReport::of(&outcome, each, options.rounds as usize);
    Ok((outcome, report))
}

async fn drain_once(stage: &Stage, power_off: bool, told: impl Fn(&str)) -> anyhow::Result<DrainFigures> {
    let lab = &stage.deployed.lab;
    let region = stage.deployed.region(DRAINED);
    let homes = operate::region_drain(lab, region).await?.homes.len();
    let began = Instant::now();
    operate::drain(lab, region).await?;
    loop {
        if operate::region_drain(lab, region).await.is_ok_and(|drain| drain.safe_to_power_off) {
            break;
        }
        ensure!(began.elapsed() < DRAIN_PATIENCE, "not safe to power off after {DRAIN_PATIENCE:?}");
        sleep(LOOK_EVERY).await;
    }
    let safe_ms = began.elapsed().as_secs_f64() * 1e3;
    told(&format!("{homes} partitions, safe to power off after {:.2} s", safe_ms / 1e3));
    if power_off {
        told("power off");
        let id = stage.deployed.regions[DRAINED].clone();
        let hit = vec![stage.recorder.region(&id)];
        let fault = stage.recorder.fault_began(format!("{region} without power"), hit);
        lab.kill(region).await?;
        sleep(OFF).await;
        lab.restart(region).await?;
        lab.wait_ready(BACK_PATIENCE).await?;
        lab.wait_in_sync(BACK_PATIENCE).await?;
        stage.recorder.fault_ended(fault);
    }
    operate::undrain(lab, region).await?;
    move_back(stage).await?;
    Ok(DrainFigures { homes, safe_ms, powered_off: power_off })
}

/// Every home goes back to where it was, as far as it has not gone by itself.
async fn move_back(stage: &Stage) -> anyhow::Result<()> {
    let until = Instant::now() + BACK_PATIENCE;
    let lab = &stage.deployed.lab;
    loop {
        let placement = observe::snapshot(lab).await?;
        let node = lab.node_id(stage.deployed.region(DRAINED))?;
        let region = &stage.deployed.regions[DRAINED];
        let is_away = |row: &&PartitionRow| {
            row.preferred == *region && row.home.as_ref().is_none_or(|home| home.node != node)
        };
        let away: Vec<&PartitionRow> = placement.partitions.iter().filter(is_away).collect();
        if away.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "{} partitions have not come back after {BACK_PATIENCE:?}",
            away.len()
        );
        let still: Vec<_> = away.iter().filter(|row| row.state == PartitionState::Homed).collect();
        let begun = stream::iter(still)
            .map(|row| operate::begin_move(lab, row.partition, region, Duration::from_secs(4)))
            .buffer_unordered(BACK_AT_ONCE);
        // One that cannot move just now is asked for again with the next look.
        let _ = begun.try_collect::<Vec<u64>>().await;
        sleep(LOOK_EVERY).await;
    }
}

impl DrainsReport {
    fn of(outcome: &Outcome, each: Vec<DrainFigures>, wanted: usize) -> Self {
        let history = &outcome.history;
        let us = |ms: f64| (ms * 1e3) as u64;
        let count =
            |of: &dyn Fn(&Kind) -> bool| history.events().iter().filter(|event| of(&event.kind)).count();
        let sent = count(&|kind| matches!(kind, Kind::Invoke { .. }));
        let acked: std::collections::HashSet<_> = history
            .events()
            .iter()
            .filter_map(|event| match event.kind {
                Kind::Ok { message, .. } => Some(message),
                _ => None,
            })
            .collect();
        let failed_by_moves = outcome.violations.iter().filter(|one| one.checker == Checker::C10).count();
        let pauses = crate::check::move_pauses(history);
        Self {
            drains: each.len(),
            failed: wanted - each.len(),
            safe_ms: Latency::of(each.iter().map(|one| us(one.safe_ms)).collect()),
            powered_off: each.iter().filter(|one| one.powered_off).count(),
            moves: pauses.len(),
            aborted: count(&|kind| matches!(kind, Kind::MoveEnded { end: MoveEnd::Aborted, .. })),
            move_pause_ms: Latency::of(pauses.iter().map(|one| one.longest_pause_us).collect()),
            writes_per_s: acked.len() as f64 / writing_s(history),
            sent,
            failed_by_moves,
            cut_off: (sent - acked.len()).saturating_sub(failed_by_moves),
            violations: outcome.violations.clone(),
            failures: outcome.failures.clone(),
            each,
        }
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let Self {
            drains, failed, safe_ms, powered_off, moves, aborted, move_pause_ms, writes_per_s, ..
        } = self;
        let _ = writeln!(text, "{drains} drains, {failed} failed; power off after {powered_off} of them");
        let _ = writeln!(text, "safe to power off: {safe_ms}");
        let _ = writeln!(text, "{moves} moves, {aborted} given up; pause of each partition: {move_pause_ms}");
        let _ = writeln!(
            text,
            "{} writes, {writes_per_s:.0} acked per second; {} failed by moves, {} cut off with their client's region",
            self.sent, self.failed_by_moves, self.cut_off
        );
        for violation in self.violations.iter().take(20) {
            let _ = writeln!(text, "VIOLATION {violation}");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "FAILED: {failure}");
        }
        text
    }

    /// Every drain came to its end, and no write failed for it.
    pub fn is_clean(&self) -> bool {
        self.failed == 0 && self.violations.is_empty() && self.failures.is_empty()
    }
}

/// From the first write to the last.
fn writing_s(history: &History) -> f64 {
    let mut writes = history.events().iter().filter(|event| matches!(event.kind, Kind::Invoke { .. }));
    let first = writes.next().map_or(0, |event| event.at_us);
    writes.next_back().map_or(1.0, |last| (last.at_us - first).max(1) as f64 / 1e6)
}
