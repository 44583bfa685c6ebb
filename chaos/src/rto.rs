//! How soon writes succeed again after a region is killed, as clients see it; many kills in one deployment.
//!
//! ```text
//!   steady ─▶ kill at a random moment ─▶ hold ─▶ start again ─▶ in sync ─▶ homes moved back ─▶ steady ─▶ …
//! ```
//!
//! The region that is killed holds the directory's leader, or does not, as it is asked for. Of each kill the
//! partition that took longest counts. A kill after which a partition of the killed region had not acked a write
//! before the region was started again has failed, and is counted as such.

use crate::{
    check::{self, Violation},
    history::{Fault, Recorder},
    observe, operate,
    report::{FaultReport, Latency, Summary},
    run::{self, Deployed, Opened, Outcome, Stage},
};
use anyhow::ensure;
use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    ops::Range,
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};
use types::{NodeId, PartitionRow, PartitionState, PlacementDelta};

/// Steady load before a kill.
const STEADY_MS: Range<u64> = 2_500..5_000;
/// How long a killed region stays dead at least once all its partitions have homes that may ack, and at most: the
/// time within which all its partitions have to recover.
const HOLD_AFTER: Duration = Duration::from_millis(1_500);
const HOLD_MAX: Duration = Duration::from_secs(12);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long it has to come back and catch up.
const BACK_PATIENCE: Duration = Duration::from_secs(90);

/// Which regions are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Victim {
    /// Any.
    Any,
    /// The one that the directory's leader runs in.
    WithLeader,
    /// The others.
    WithoutLeader,
}

/// The measurement, told.
#[derive(Debug, Serialize)]
pub struct RtoReport {
    /// Which regions were killed.
    pub victim: Victim,
    /// Kills that were made.
    pub kills: usize,
    /// Kills after which a partition had not recovered before the region came back.
    pub failed: usize,
    /// From the kill to the first successful write of the slowest partition; of the kills that did not fail.
    pub slowest_ms: Latency,
    /// The same for every partition.
    pub partition_ms: Latency,
    /// Messages acked at `home` and not replicated at the kills, together.
    pub at_risk: u64,
    /// Kills at which none was.
    pub kills_without_risk: usize,
    /// Messages that a failover undid and that came back.
    pub came_back: u64,
    /// `replicated` messages that are nowhere.
    pub replicated_lost: usize,
    /// `home`-acked messages that are nowhere.
    pub home_lost: u64,
    /// Violations of all checkers.
    pub violations: Vec<Violation>,
    /// What else went wrong.
    pub failures: Vec<String>,
    /// Each kill.
    pub each: Vec<FaultReport>,
}

/// Measures. `options.rounds` is the number of kills.
///
/// # Errors
/// The deployment does not come up.
pub async fn measure(
    options: &run::Options,
    victim: Victim,
    progress: impl Fn(&str),
) -> anyhow::Result<(Outcome, RtoReport)> {
    let stage = Stage::set("rto", options, Opened::Everywhere, options.load, &progress).await?;
    let mut rng = StdRng::seed_from_u64(options.seed ^ 0x0a70);
    let mut failures = Vec::new();
    for number in 1..=options.rounds {
        sleep(Duration::from_millis(rng.random_range(STEADY_MS))).await;
        let told = |what: &str| progress(&format!("kill {number} of {}: {what}", options.rounds));
        if let Err(error) = kill_one(&stage.deployed, &stage.recorder, victim, &mut rng, told).await {
            failures.push(format!("kill {number}: {error:#}"));
            break;
        }
    }
    let outcome = stage.finish(failures, &progress).await?;
    let report = RtoReport::of(&outcome, victim);
    Ok((outcome, report))
}

async fn kill_one(
    deployed: &Deployed,
    recorder: &Recorder,
    victim: Victim,
    rng: &mut StdRng,
    told: impl Fn(&str),
) -> anyhow::Result<()> {
    let region = choose(deployed, victim, rng).await?;
    let homes = homes_by_region(deployed).await?.get(&region).copied().unwrap_or(0);
    told(&format!("{region}, home of {homes} partitions"));
    // Renewals come at a beat: the kill must not.
    sleep(Duration::from_millis(rng.random_range(0..1_000))).await;
    let id = types::RegionId::new(&region)?;
    let fault = recorder.fault_began(format!("{region} killed"), vec![recorder.region(&id)]);
    deployed.lab.kill(&region).await?;
    hold(deployed, &region).await;
    deployed.lab.restart(&region).await?;
    recorder.fault_ended(fault);
    deployed.lab.wait_ready(BACK_PATIENCE).await?;
    deployed.lab.wait_in_sync(BACK_PATIENCE).await?;
    move_back(deployed).await
}

/// A region with homes, by where the leader runs.
async fn choose(deployed: &Deployed, victim: Victim, rng: &mut StdRng) -> anyhow::Result<String> {
    let mut hosting: Vec<_> = homes_by_region(deployed).await?.into_keys().collect();
    if victim != Victim::Any {
        let leader = observe::leader(&deployed.lab).await?;
        hosting.retain(|region| (region == leader.as_str()) == (victim == Victim::WithLeader));
    }
    ensure!(!hosting.is_empty(), "no region that could be killed is home of anything");
    Ok(hosting[rng.random_range(0..hosting.len())].clone())
}

/// Until the region is home of nothing, and a while longer. Only looks: what counts is what clients hear.
async fn hold(deployed: &Deployed, region: &str) {
    let until = Instant::now() + HOLD_MAX;
    let recovered = |placement: &PlacementDelta| {
        let of_region = |row: &PartitionRow| {
            let home =
                row.home.as_ref().and_then(|home| placement.nodes.iter().find(|node| node.node == home.node));
            home.is_none_or(|node| node.region.as_str() == region)
        };
        let rows = &placement.partitions;
        rows.iter().all(|row| !of_region(row) && row.waiting.is_empty() && row.state == PartitionState::Homed)
    };
    while Instant::now() < until {
        if observe::snapshot(&deployed.lab).await.is_ok_and(|placement| recovered(&placement)) {
            return sleep_until(until.min(Instant::now() + HOLD_AFTER)).await;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Moves every partition home that a failover has taken away, so that each kill hits as many.
async fn move_back(deployed: &Deployed) -> anyhow::Result<()> {
    let placement = observe::snapshot(&deployed.lab).await?;
    let region_of =
        |node: &NodeId| placement.nodes.iter().find(|row| row.node == *node).map(|row| &row.region);
    let is_away = |row: &&PartitionRow| {
        row.home
            .as_ref()
            .and_then(|home| region_of(&home.node))
            .is_some_and(|region| *region != row.preferred)
    };
    let moves = placement.partitions.iter().filter(is_away);
    let moves =
        moves.map(|row| operate::begin_move(&deployed.lab, row.partition, &row.preferred, BACK_PATIENCE));
    for begun in join_all(moves).await {
        begun?;
    }
    // A move that has begun ends within two seconds.
    deployed.lab.wait_ready(BACK_PATIENCE).await?;
    Ok(())
}

/// How many partitions are homed in each region that has any.
async fn homes_by_region(deployed: &Deployed) -> anyhow::Result<BTreeMap<String, usize>> {
    let placement = observe::snapshot(&deployed.lab).await?;
    let mut homes = BTreeMap::new();
    for home in placement.partitions.iter().filter_map(|row| row.home.as_ref()) {
        if let Some(node) = placement.nodes.iter().find(|node| node.node == home.node) {
            *homes.entry(node.region.to_string()).or_default() += 1;
        }
    }
    Ok(homes)
}

impl RtoReport {
    fn of(outcome: &Outcome, victim: Victim) -> Self {
        let history = &outcome.history;
        let each = Summary::of(history, &outcome.violations, &outcome.failures).faults;
        let recoveries = check::recoveries(history);
        let held_us = |fault: Fault| {
            let of = each.iter().find(|one| one.fault == fault);
            of.and_then(|one| Some(((one.until_s? - one.from_s) * 1e6) as u64)).unwrap_or(u64::MAX)
        };
        let failed: BTreeSet<_> = recoveries
            .iter()
            .filter(|one| one.sent > 0 && one.first_ack_us.is_none_or(|us| us >= held_us(one.fault)))
            .map(|one| one.fault)
            .collect();
        let good = || recoveries.iter().filter(|one| !failed.contains(&one.fault));
        let mut slowest: BTreeMap<_, u64> = BTreeMap::new();
        for (one, us) in good().filter_map(|one| Some((one, one.first_ack_us?))) {
            let known = slowest.entry(one.fault).or_default();
            *known = us.max(*known);
        }
        let replicated_lost =
            outcome.violations.iter().filter(|one| one.what.contains("replicated, is not at"));
        Self {
            victim,
            kills: each.len(),
            failed: failed.len(),
            slowest_ms: Latency::of(slowest.into_values().collect()),
            partition_ms: Latency::of(good().filter_map(|one| one.first_ack_us).collect()),
            at_risk: each.iter().map(|one| one.at_risk).sum(),
            kills_without_risk: each.iter().filter(|one| one.at_risk == 0).count(),
            came_back: each.iter().map(|one| one.came_back).sum(),
            replicated_lost: replicated_lost.count(),
            home_lost: each.iter().map(|one| one.lost).sum(),
            violations: outcome.violations.clone(),
            failures: outcome.failures.clone(),
            each,
        }
    }

    /// Each kill, for the terminal.
    pub fn kills_text(&self) -> String {
        self.each.iter().map(|fault| format!("{fault}\n")).collect()
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let Self { kills, failed, slowest_ms, partition_ms, at_risk, came_back, .. } = self;
        let _ = writeln!(text, "{kills} kills, {failed} failed");
        let _ = writeln!(text, "slowest partition of each kill: {slowest_ms}");
        let _ = writeln!(text, "all partitions:                 {partition_ms}");
        let _ = writeln!(
            text,
            "{at_risk} messages at risk at the kills (none at {} of them), {came_back} undone and back, {} home-acked lost, {} replicated lost",
            self.kills_without_risk, self.home_lost, self.replicated_lost
        );
        for violation in self.violations.iter().take(20) {
            let _ = writeln!(text, "VIOLATION {violation}");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "FAILED: {failure}");
        }
        text
    }

    /// Every kill recovered, and no promise was broken.
    pub fn is_clean(&self) -> bool {
        self.failed == 0 && self.violations.is_empty() && self.failures.is_empty()
    }
}
