//! How soon writes succeed again after a region is killed, as clients see it; many kills in one deployment.
//!
//! ```text
//!   steady ─▶ kill at a random moment ─▶ hold ─▶ start again ─▶ in sync ─▶ steady ─▶ …
//! ```
//!
//! Of each kill the partition that took longest counts. A kill after which a partition of the killed region had
//! not acked a write before the region was started again has failed, and is counted as such.

use crate::{
    check::{self, Violation},
    history::{Header, Recorder},
    observe,
    report::{FaultReport, Latency, Summary},
    run::{self, Deployed, Outcome},
    workload::{Chats, Workload},
};
use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    ops::Range,
    sync::Arc,
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

/// Steady load before a kill.
const STEADY_MS: Range<u64> = 2_500..5_000;
/// How long a killed region stays dead: the time within which all its partitions have to recover.
const HOLD: Duration = Duration::from_secs(10);
/// How long it has to come back and catch up.
const BACK_PATIENCE: Duration = Duration::from_secs(90);

/// The measurement, told.
#[derive(Debug, Serialize)]
pub struct RtoReport {
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
    progress: impl Fn(&str),
) -> anyhow::Result<(Outcome, RtoReport)> {
    let recorder = Recorder::to_file(&options.history, Header::new("rto", options.seed, false))
        .with_context(|| format!("the history {}", options.history.display()))?;
    let deployed = Deployed::start(options).await?;
    let stop = CancellationToken::new();
    let mut observers = JoinSet::new();
    run::observe_all(&deployed, &recorder, &stop, &mut observers);
    let chats = Arc::new(Chats::open(&deployed.lab, &deployed.regions, &recorder, options.seed).await?);
    let workload =
        Workload::start(recorder.clone(), Arc::clone(&chats), &deployed.edges()?, options.load, options.seed);
    let mut rng = StdRng::seed_from_u64(options.seed ^ 0x0a70);
    let mut failures = Vec::new();
    for number in 1..=options.rounds {
        sleep(Duration::from_millis(rng.random_range(STEADY_MS))).await;
        let told = |what: &str| progress(&format!("kill {number} of {}: {what}", options.rounds));
        if let Err(error) = kill_one(&deployed, &recorder, &mut rng, told).await {
            failures.push(format!("kill {number}: {error:#}"));
            break;
        }
    }
    failures.extend(run::finish(&deployed, &workload, &chats, &recorder).await);
    failures.extend(deployed.ended_by_themselves());
    workload.stop().await;
    stop.cancel();
    while observers.join_next().await.is_some() {}
    deployed.stop().await?;
    let history = recorder.finish()?;
    let violations = check::all(&history);
    let outcome = Outcome { history, violations, failures };
    let report = RtoReport::of(&outcome);
    Ok((outcome, report))
}

async fn kill_one(
    deployed: &Deployed,
    recorder: &Recorder,
    rng: &mut StdRng,
    told: impl Fn(&str),
) -> anyhow::Result<()> {
    let homes = homes_by_region(deployed).await?;
    let hosting: Vec<_> = homes.keys().cloned().collect();
    let region = hosting[rng.random_range(0..hosting.len())].clone();
    told(&format!("{region}, home of {} partitions", homes[&region]));
    // Renewals come at a beat: the kill must not.
    sleep(Duration::from_millis(rng.random_range(0..1_000))).await;
    let id = types::RegionId::new(&region)?;
    let fault = recorder.fault_began(format!("{region} killed"), vec![recorder.region(&id)]);
    deployed.lab.kill(&region).await?;
    sleep(HOLD).await;
    deployed.lab.restart(&region).await?;
    recorder.fault_ended(fault);
    deployed.lab.wait_ready(BACK_PATIENCE).await?;
    deployed.lab.wait_in_sync(BACK_PATIENCE).await?;
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
    fn of(outcome: &Outcome) -> Self {
        let history = &outcome.history;
        let each = Summary::of(history, &outcome.violations, &outcome.failures).faults;
        let recoveries = check::recoveries(history);
        let hold_us = HOLD.as_micros() as u64;
        let failed: BTreeSet<_> = recoveries
            .iter()
            .filter(|one| one.sent > 0 && one.first_ack_us.is_none_or(|us| us >= hold_us))
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

    /// For the terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for fault in &self.each {
            let _ = writeln!(text, "{fault}");
        }
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
