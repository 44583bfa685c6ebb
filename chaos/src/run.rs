//! One run: set up, steady load, faults, heal, converge, final state, verdict.
//!
//! ```text
//!   deployment ─▶ chats on every partition ─▶ load ─▶ faults by schedule ─▶ heal ─▶ no more writes
//!                                              └── observers: homes, watermarks ──┐      │
//!   verdict ◀── C1 … C13 ◀── history ◀── final state ◀── converged, within a bound ◀─────┘
//! ```

mod clocks;
mod converge;
mod deploy;
mod disk;
mod play;
mod stage;
mod switches;

pub use clocks::act_as_service;
pub use deploy::{Deployed, Layout};
pub use play::play;
pub use stage::{Opened, Stage};

use crate::{
    check::{self, Violation},
    history::{History, Kind, Recorder},
    observe,
    scenario::{Scenario, Schedule},
    workload::{Chats, Load, Workload},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a deployment has to come up, and to heal.
const READY_PATIENCE: Duration = Duration::from_secs(90);

/// Readers in each place, at least, where a storm of them is wanted.
const STORM_READERS: u32 = 30;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary that serves as directory, node and replicator.
    pub program: PathBuf,
    /// The scenario.
    pub scenario: Scenario,
    /// Decides the schedule, the chats and the clients' draws.
    pub seed: u64,
    /// How many faults a scenario of many draws.
    pub rounds: u32,
    /// What the clients do.
    pub load: Load,
    /// Partitions per region.
    pub partitions_per_region: u32,
    /// The lease.
    pub lease: Duration,
    /// Where the history goes.
    pub history: PathBuf,
    /// Where the deployment lives; none: a temporary folder.
    pub dir: Option<PathBuf>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub history: History,
    /// Which promises were not kept.
    pub violations: Vec<Violation>,
    /// What else went wrong: the run proves nothing where it did not converge, or a process ended by itself.
    pub failures: Vec<String>,
}

impl Outcome {
    /// Nothing was found, and everything was looked at.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.failures.is_empty()
    }
}

/// Runs a scenario.
///
/// # Errors
/// The deployment does not come up, or this machine lacks what the scenario needs: nothing was tried.
pub async fn run(options: &Options, progress: impl Fn(&str)) -> anyhow::Result<Outcome> {
    let schedule = Schedule::draw(options.scenario, options.seed, options.rounds);
    let name = options.scenario.name();
    let stage = Stage::set(name, options, Opened::Everywhere, load(options), &progress).await?;
    let mut failures = Vec::new();
    if let Err(error) = play(&stage.deployed, &stage.workload, &schedule, &stage.recorder, &progress).await {
        failures.push(format!("a fault could not be made or undone: {error:#}"));
    }
    stage.finish(failures, &progress).await
}

/// The load of a scenario: circles, and many readers where they are what it is about.
fn load(options: &Options) -> Load {
    let load = Load { circles: true, ..options.load };
    match options.scenario {
        Scenario::ReconnectStorm => Load { readers: load.readers.max(STORM_READERS), ..load },
        _ => load,
    }
}

/// Watches homes and watermarks until `stop`.
pub fn observe_all(
    deployed: &Deployed,
    recorder: &Recorder,
    stop: &CancellationToken,
    observers: &mut JoinSet<()>,
) {
    let lab = &deployed.lab;
    observers.spawn(observe::watch_placement(Arc::clone(lab), recorder.clone(), stop.clone()));
    for (node, region) in deployed.nodes() {
        let watching =
            observe::watch_watermarks(Arc::clone(lab), node, region, recorder.clone(), stop.clone());
        observers.spawn(watching);
    }
}

/// Heals what is still broken, waits until everything has converged, and records the final state.
pub async fn finish(
    deployed: &Deployed,
    workload: &Workload,
    chats: &Chats,
    recorder: &Recorder,
) -> Vec<String> {
    let mut failures = Vec::new();
    let began = Instant::now();
    if let Err(error) = deployed.heal().await {
        failures.push(format!("healing: {error:#}"));
    }
    workload.stop_writing();
    match converge::converge(deployed, workload, chats, recorder, READY_PATIENCE).await {
        Ok(copies) => {
            recorder.note(format!("converged after {:.1} s", began.elapsed().as_secs_f64()));
            recorder.record(Kind::Healed);
            copies.record(recorder);
            for (node, region) in deployed.nodes() {
                if let Err(error) = observe::record_archives(&deployed.lab, &node, &region, recorder).await {
                    failures.push(format!("the archives of {node}: {error:#}"));
                }
            }
        }
        Err(error) => {
            failures.push(format!("not converged within {READY_PATIENCE:?}: {error:#}"));
            recorder.record(Kind::Healed);
            if let Ok(copies) = converge::copies(deployed, chats, recorder).await {
                copies.record(recorder);
            }
        }
    }
    failures
}

/// Checks a recorded history again.
///
/// # Errors
/// It cannot be read.
pub fn check_again(path: &Path) -> anyhow::Result<(History, Vec<Violation>)> {
    let history = History::read(path)?;
    let violations = check::all(&history);
    Ok((history, violations))
}
