//! A reconnect storm: all sessions near a region lose it at once, and resume elsewhere.
//!
//! Each session follows a number of chats that are homed in the region, and is *resumed* when it has been
//! answered `continue` or `diverged` for all of them. Sessions reconnect with full jitter, as the SDK does.
//! Meanwhile others write to chats that the region's death does not touch: their acks are timed.
//!
//! All sessions are in this process. One of a surviving region's nodes is reached through a link, which is in
//! this process too and takes two more sockets: 5,000 sessions are 15,000 open files.

mod cpu;
mod crowd;
mod session;

use crate::{report::Latency, run::Deployed};
use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Sockets of a session whose node is behind a link.
const FILES_PER_SESSION: u64 = 3;
/// Files for everything else.
const FILES_BESIDE: u64 = 2_000;
/// How long all sessions have to open, and to resume.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of the others' acks in a storm, how many are told one by one.
const LONGEST_TOLD: usize = 12;
/// Writes of the others before the storm, to compare with.
const CALM: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary that serves.
    pub program: PathBuf,
    /// Sessions near the region that dies.
    pub sessions: usize,
    /// Chats that each follows.
    pub chats: usize,
    /// Decides chats and jitter.
    pub seed: u64,
    /// Partitions per region.
    pub partitions_per_region: u32,
    /// The lease.
    pub lease: Duration,
    /// Keep the deployment's data and logs here.
    pub dir: Option<PathBuf>,
}

/// The measurement, told.
#[derive(Debug, Serialize)]
pub struct StormReport {
    /// Sessions.
    pub sessions: usize,
    /// Chats that each follows.
    pub chats: usize,
    /// Sessions that were not resumed in time.
    pub not_resumed: usize,
    /// From the kill to the first ack of a new home.
    pub first_ack_ms: f64,
    /// From that ack until a session was resumed; 0 for those that were before.
    pub resumed_ms: Latency,
    /// From the kill until a session was resumed.
    pub resumed_after_kill_ms: Latency,
    /// Acks of the others' writes before the kill.
    pub others_calm_ms: Latency,
    /// From the kill until the last session was resumed.
    pub others_storm_ms: Latency,
    /// The longest of them: when it was sent, after the kill, and how long it took.
    pub others_longest_ms: Vec<(f64, f64)>,
    /// Writes of the others that were not acked.
    pub others_failed: u64,
    /// Why, and how often.
    pub others_refused: BTreeMap<String, u64>,
    /// Processor time from the kill until the last session was resumed, by process; `crowd` is this one.
    pub cpu_s: BTreeMap<String, f64>,
}

impl StormReport {
    /// For the terminal.
    pub fn text(&self) -> String {
        let Self { sessions, chats, not_resumed, .. } = self;
        let mut text = String::new();
        let _ = writeln!(text, "{sessions} sessions of {chats} chats; {not_resumed} not resumed");
        let _ = writeln!(text, "first ack of a new home {:.2} s after the kill", self.first_ack_ms / 1e3);
        let _ = writeln!(text, "resumed, from then:       {}", self.resumed_ms);
        let _ = writeln!(text, "resumed, from the kill:   {}", self.resumed_after_kill_ms);
        let _ = writeln!(text, "others' acks, calm:       {}", self.others_calm_ms);
        let _ = writeln!(
            text,
            "others' acks, storm:      {}; {} failed",
            self.others_storm_ms, self.others_failed
        );
        for (why, count) in &self.others_refused {
            let _ = writeln!(text, "  {count} × {why}");
        }
        for (at_ms, took_ms) in &self.others_longest_ms {
            let _ = writeln!(text, "  sent {at_ms:.0} ms after the kill, acked after {took_ms:.0} ms");
        }
        let cpu: Vec<String> = self.cpu_s.iter().map(|(name, s)| format!("{name} {s:.1} s")).collect();
        let _ = writeln!(text, "processor time:           {}", cpu.join(", "));
        text
    }
}

/// Several storms, told.
#[derive(Debug, Serialize)]
pub struct StormsReport {
    /// How many were made.
    pub storms: usize,
    /// Those that could not be made, or after which a session was not resumed.
    pub failed: usize,
    /// From the first ack of a new home until the last session of a storm was resumed; of those that did not fail.
    pub all_resumed_ms: Latency,
    /// The 99th percentile of the others' acks in each storm; of those that did not fail.
    pub others_p99_ms: Latency,
    /// What went wrong.
    pub failures: Vec<String>,
    /// Each storm.
    pub each: Vec<StormReport>,
}

impl StormsReport {
    /// Makes `count` storms, one after the other, the seeds counted up.
    pub async fn measure(options: &Options, count: u64, progress: impl Fn(&str)) -> Self {
        let (mut each, mut failures) = (Vec::new(), Vec::new());
        for number in 0..count {
            let told = |what: &str| progress(&format!("storm {} of {count}: {what}", number + 1));
            let options = Options { seed: options.seed + number, ..options.clone() };
            match measure(&options, told).await {
                Ok(report) => {
                    report.text().lines().for_each(&progress);
                    each.push(report);
                }
                Err(error) => failures.push(format!("storm {}: {error:#}", number + 1)),
            }
        }
        let us = |ms: f64| (ms * 1e3) as u64;
        let good = || each.iter().filter(|one| one.not_resumed == 0);
        Self {
            storms: each.len() + failures.len(),
            failed: each.len() + failures.len() - good().count(),
            all_resumed_ms: Latency::of(good().map(|one| us(one.resumed_ms.max)).collect()),
            others_p99_ms: Latency::of(good().map(|one| us(one.others_storm_ms.p99)).collect()),
            failures,
            each,
        }
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let Self { storms, failed, all_resumed_ms, others_p99_ms, .. } = self;
        let mut text = String::new();
        let _ = writeln!(text, "{storms} storms, {failed} failed");
        let _ = writeln!(text, "all sessions resumed, from the first ack of a new home: {all_resumed_ms}");
        let _ = writeln!(text, "99th percentile of the others' acks: {others_p99_ms}");
        self.failures.iter().for_each(|failure| {
            let _ = writeln!(text, "FAILED: {failure}");
        });
        text
    }
}

/// Makes one storm, in a deployment of its own.
///
/// # Errors
/// The deployment or the sessions do not come up, or the machine has too few open files.
pub async fn measure(options: &Options, progress: impl Fn(&str)) -> anyhow::Result<StormReport> {
    raise_file_limit(options.sessions)?;
    let deployed = Deployed::plain(
        &options.program,
        options.seed,
        options.partitions_per_region,
        options.lease,
        options.dir.clone(),
    )
    .await?;
    let [home, near, far] = [0, 1, 2].map(|number| deployed.region(number).to_owned());
    progress("opening chats");
    let crowd =
        crowd::Crowd::open(&deployed.lab, &home, options.sessions, options.chats, options.seed).await?;
    let bystanders = crowd::open_bystanders(&deployed.lab, &near).await?;
    progress(&format!("connecting {} sessions", options.sessions));
    let board = Arc::new(session::Board::default());
    let edges = deployed.lab.edges(&home)?;
    let sessions = crowd.start(&edges, &board, options.seed);
    await_count("open", options.sessions, || board.open()).await?;
    let others = crowd::Others::start(&deployed.lab.edge(&near)?, &bystanders)?;
    sleep(CALM).await;
    let calm = others.take();
    let prober = crowd.probe(deployed.lab.edge(&far)?);
    progress(&format!("killing {home}"));
    let before = cpu::Taken::now();
    let killed = Instant::now();
    board.storm_began();
    deployed.lab.kill(&home).await?;
    let first_ack = prober.await.context("the prober")??;
    progress(&format!("a new home acks after {:.2} s", (first_ack - killed).as_secs_f64()));
    let all = await_count("resumed", options.sessions, || board.resumed().len()).await;
    if let Err(error) = &all {
        progress(&error.to_string());
    }
    let cpu_s = cpu::Taken::now().since(&before);
    let mut storm = others.take();
    storm.acks.sort_unstable_by_key(|(_, took)| std::cmp::Reverse(*took));
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let longest = storm.acks.iter().take(LONGEST_TOLD);
    let others_longest_ms =
        longest.map(|(sent, took)| (ms(sent.saturating_duration_since(killed)), ms(*took))).collect();
    let resumed = board.resumed();
    drop(sessions);
    deployed.stop().await?;
    let us =
        |from: Instant| resumed.iter().map(move |at| at.saturating_duration_since(from).as_micros() as u64);
    Ok(StormReport {
        sessions: options.sessions,
        chats: options.chats,
        not_resumed: options.sessions - resumed.len(),
        first_ack_ms: (first_ack - killed).as_secs_f64() * 1e3,
        resumed_ms: Latency::of(us(first_ack).collect()),
        resumed_after_kill_ms: Latency::of(us(killed).collect()),
        others_calm_ms: calm.latency(),
        others_storm_ms: storm.latency(),
        others_longest_ms,
        others_failed: calm.failed() + storm.failed(),
        others_refused: storm.refused,
        cpu_s,
    })
}

async fn await_count(what: &str, wanted: usize, count: impl Fn() -> usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while count() < wanted {
        ensure!(Instant::now() < until, "{} of {wanted} sessions are {what} after {PATIENCE:?}", count());
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn raise_file_limit(sessions: usize) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let wanted = sessions as u64 * FILES_PER_SESSION + FILES_BESIDE;
    ensure!(hard >= wanted, "{sessions} sessions take {wanted} open files, and the limit is {hard}");
    Ok(())
}
