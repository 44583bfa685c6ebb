//! How long writes pause when their partition is moved, as clients see it that send each write once.
//!
//! ```text
//!   steady ─▶ move to another region ─▶ steady ─▶ …      one chat, written to from every region
//! ```
//!
//! Of each move the client that waited longest between two acks counts: of those in the two regions, and of all. The
//! goal is for those in the two regions, and depends on how far these are apart: two round trips, a commit of the
//! directory (which is a round trip from its leader to the nearest other replica), and 50 ms.

use crate::{
    check::Violation,
    history::{Device, History, Kind, Move, MoveEnd},
    observe, operate,
    report::Latency,
    run::{Opened, Options, Outcome, Stage},
    workload::Load,
};
use anyhow::Context as _;
use lab::{Place, WanTable};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write as _, ops::Range, time::Duration};
use tokio::time::{Instant, sleep};
use types::{PartitionId, PartitionState, RegionId};

/// Steady load before the first move.
const WARM_UP: Duration = Duration::from_secs(3);
/// Steady load between two moves.
const STEADY_MS: Range<u64> = 600..1_200;
/// How long a target may take until it can be moved to.
const BEGIN_PATIENCE: Duration = Duration::from_secs(20);
/// A move that has begun ends by then.
const END_PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What the goal leaves for everything that is no distance.
const GOAL_REST_MS: f64 = 50.0;
/// Acks from so long after a move was told to be over belong to it: news of it are on their way.
const NEWS_US: u64 = 400_000;

/// One move.
#[derive(Debug, Clone, Serialize)]
pub struct MoveFigures {
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// Where the directory's leader was.
    pub leader: String,
    /// The round trip between the two.
    pub rtt_ms: f64,
    /// The round trip from the directory's leader to the nearest other replica.
    pub commit_ms: f64,
    /// Two round trips, a commit, and 50 ms.
    pub goal_ms: f64,
    /// From `draining` to the new home, as the directory tells.
    pub took_ms: f64,
    /// The longest time between two acks of the client that waited longest, of those in the two regions.
    pub pair_pause_ms: f64,
    /// The same of all clients.
    pub pause_ms: f64,
    /// The same for each region's client.
    pub by_region_ms: BTreeMap<String, f64>,
    /// It came to its end.
    pub moved: bool,
}

/// The measurement, told.
#[derive(Debug, Serialize)]
pub struct MovesReport {
    /// Moves that were begun.
    pub moves: usize,
    /// Moves that were given up.
    pub aborted: usize,
    /// Acked writes per second, on the one partition, moves included.
    pub writes_per_s: f64,
    /// The write pause of the clients in the two regions.
    pub pair_pause_ms: Latency,
    /// The write pause of all clients.
    pub pause_ms: Latency,
    /// The pauses of the clients in the two regions, by pair.
    pub by_pair: BTreeMap<String, Latency>,
    /// Moves whose pause was within the goal of their pair.
    pub within_goal: usize,
    /// The goal of the move in the middle.
    pub goal_p50_ms: f64,
    /// Writes that were sent.
    pub sent: usize,
    /// Writes that were refused, or whose outcome nobody told.
    pub not_acked: usize,
    /// Violations of all checkers.
    pub violations: Vec<Violation>,
    /// What else went wrong.
    pub failures: Vec<String>,
    /// Each move.
    pub each: Vec<MoveFigures>,
}

/// Measures. `options.rounds` is the number of moves.
///
/// # Errors
/// The deployment does not come up.
pub async fn measure(
    options: &Options,
    rate_per_s: u32,
    progress: impl Fn(&str),
) -> anyhow::Result<(Outcome, MovesReport)> {
    let load = Load { plain_writes_per_s: rate_per_s, ..Load::NONE };
    let stage = Stage::set("moves", options, Opened::One, load, &progress).await?;
    let partition = stage.chats.all().first().context("no chat")?.partition;
    let mut rng = StdRng::seed_from_u64(options.seed ^ 0x3017e5);
    let mut failures = Vec::new();
    let mut leaders = Vec::new();
    sleep(WARM_UP).await;
    for number in 1..=options.rounds {
        let told = |what: &str| progress(&format!("move {number} of {}: {what}", options.rounds));
        match move_once(&stage, partition, &mut rng, told).await {
            Ok(leader) => leaders.push(leader),
            Err(error) => failures.push(format!("move {number}: {error:#}")),
        }
        sleep(Duration::from_millis(rng.random_range(STEADY_MS))).await;
    }
    let outcome = stage.finish(failures, &progress).await?;
    let report = MovesReport::of(&outcome, &leaders);
    Ok((outcome, report))
}

/// Answers where the directory's leader is.
async fn move_once(
    stage: &Stage,
    partition: PartitionId,
    rng: &mut StdRng,
    told: impl Fn(&str),
) -> anyhow::Result<RegionId> {
    let lab = &stage.deployed.lab;
    let leader = observe::leader(lab).await?;
    let (from, _) = home(stage, partition).await?;
    let others: Vec<&RegionId> = stage.deployed.regions.iter().filter(|region| **region != from).collect();
    let to = others[rng.random_range(0..others.len())];
    told(&format!("{from} to {to}"));
    operate::begin_move(lab, partition, to, BEGIN_PATIENCE).await?;
    let until = Instant::now() + END_PATIENCE;
    loop {
        if let Ok((_, true)) = home(stage, partition).await {
            return Ok(leader);
        }
        anyhow::ensure!(Instant::now() < until, "it has not ended after {END_PATIENCE:?}");
        sleep(LOOK_EVERY).await;
    }
}

/// The region that a partition is homed in, and whether nothing is under way with it.
async fn home(stage: &Stage, partition: PartitionId) -> anyhow::Result<(RegionId, bool)> {
    let placement = observe::snapshot(&stage.deployed.lab).await?;
    let row =
        placement.partitions.iter().find(|row| row.partition == partition).context("no such partition")?;
    let home = row.home.as_ref().context("it has no home")?;
    let node = placement.nodes.iter().find(|node| node.node == home.node).context("its home is no node")?;
    Ok((node.region.clone(), row.state == PartitionState::Homed))
}

impl MovesReport {
    fn of(outcome: &Outcome, leaders: &[RegionId]) -> Self {
        let history = &outcome.history;
        let each = figures(history, leaders);
        let us = |ms: f64| (ms * 1e3) as u64;
        let mut by_pair: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for one in &each {
            let (a, b) = if one.from < one.to { (&one.from, &one.to) } else { (&one.to, &one.from) };
            let pair = format!("{a} ↔ {b}, {:.0} ms", one.rtt_ms);
            by_pair.entry(pair).or_default().push(us(one.pair_pause_ms));
        }
        let counted =
            |wanted: fn(&Kind) -> bool| history.events().iter().filter(|event| wanted(&event.kind)).count();
        let sent = counted(|kind| matches!(kind, Kind::Invoke { .. }));
        let acked: std::collections::BTreeSet<_> = history
            .events()
            .iter()
            .filter_map(|event| match event.kind {
                Kind::Ok { message, .. } => Some(message),
                _ => None,
            })
            .collect();
        Self {
            moves: each.len(),
            aborted: each.iter().filter(|one| !one.moved).count(),
            writes_per_s: acked.len() as f64 / writing_s(history),
            pair_pause_ms: Latency::of(each.iter().map(|one| us(one.pair_pause_ms)).collect()),
            pause_ms: Latency::of(each.iter().map(|one| us(one.pause_ms)).collect()),
            by_pair: by_pair.into_iter().map(|(pair, us)| (pair, Latency::of(us))).collect(),
            within_goal: each.iter().filter(|one| one.pair_pause_ms <= one.goal_ms).count(),
            goal_p50_ms: Latency::of(each.iter().map(|one| us(one.goal_ms)).collect()).p50,
            sent,
            not_acked: sent - acked.len(),
            violations: outcome.violations.clone(),
            failures: outcome.failures.clone(),
            each,
        }
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let Self {
            moves, aborted, writes_per_s, pause_ms, within_goal, goal_p50_ms, sent, not_acked, ..
        } = self;
        let _ = writeln!(
            text,
            "{moves} moves, {aborted} given up; {writes_per_s:.0} acked writes/s on the partition"
        );
        let _ = writeln!(text, "write pause of the clients in the two regions: {}", self.pair_pause_ms);
        for (pair, pause_ms) in &self.by_pair {
            let _ = writeln!(text, "  {pair}: {} moves, {pause_ms}", pause_ms.count);
        }
        let _ = writeln!(text, "write pause of all clients: {pause_ms}");
        let _ =
            writeln!(text, "{within_goal} within the goal of their pair (in the middle {goal_p50_ms:.0} ms)");
        let _ = writeln!(text, "{sent} writes, {not_acked} not acked");
        for violation in self.violations.iter().take(20) {
            let _ = writeln!(text, "VIOLATION {violation}");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "FAILED: {failure}");
        }
        text
    }

    /// Every move came to its end, and no write failed.
    pub fn is_clean(&self) -> bool {
        self.aborted == 0 && self.not_acked == 0 && self.violations.is_empty() && self.failures.is_empty()
    }
}

/// From the first write to the last.
fn writing_s(history: &History) -> f64 {
    let mut writes = history.events().iter().filter(|event| matches!(event.kind, Kind::Invoke { .. }));
    let first = writes.next().map_or(0, |event| event.at_us);
    writes.next_back().map_or(1.0, |last| (last.at_us - first).max(1) as f64 / 1e6)
}

struct Span {
    moving: Move,
    from: String,
    to: String,
    began_us: u64,
    ended_us: u64,
    moved: bool,
}

fn spans(history: &History) -> Vec<Span> {
    let region = |node| history.names().region(history.names().node(node).region).to_string();
    let mut spans: Vec<Span> = Vec::new();
    for event in history.events() {
        match event.kind {
            Kind::MoveBegan { moving, from, to, .. } => spans.push(Span {
                moving,
                from: region(from),
                to: region(to),
                began_us: event.at_us,
                ended_us: u64::MAX,
                moved: false,
            }),
            Kind::MoveEnded { moving, end } => {
                if let Some(span) = spans.iter_mut().find(|span| span.moving == moving) {
                    span.ended_us = event.at_us;
                    span.moved = end == MoveEnd::Moved;
                }
            }
            _ => {}
        }
    }
    spans
}

fn figures(history: &History, leaders: &[RegionId]) -> Vec<MoveFigures> {
    let mut acks: BTreeMap<Device, Vec<u64>> = BTreeMap::new();
    for event in history.events() {
        if let Kind::Ok { message, .. } = event.kind {
            acks.entry(history.names().message(message).device).or_default().push(event.at_us);
        }
    }
    let figures = |(number, span): (usize, Span)| {
        let mut by_region_ms = BTreeMap::new();
        for (device, heard) in &acks {
            let region = history.names().region(history.names().device(*device).region).to_string();
            by_region_ms.insert(region, pause_us(heard, &span) as f64 / 1e3);
        }
        let leader = leaders.get(number).or(leaders.last()).map(ToString::to_string).unwrap_or_default();
        let rtt_ms = rtt_ms(&span.from, &span.to);
        let others = history.names().regions().iter().map(ToString::to_string).filter(|one| *one != leader);
        let commit_ms = others.map(|other| self::rtt_ms(&leader, &other)).fold(f64::INFINITY, f64::min);
        MoveFigures {
            rtt_ms,
            commit_ms,
            goal_ms: 2.0 * rtt_ms + commit_ms + GOAL_REST_MS,
            took_ms: span.ended_us.saturating_sub(span.began_us) as f64 / 1e3,
            pair_pause_ms: [&span.from, &span.to]
                .into_iter()
                .filter_map(|region| by_region_ms.get(region))
                .copied()
                .fold(0.0, f64::max),
            pause_ms: by_region_ms.values().copied().fold(0.0, f64::max),
            by_region_ms,
            moved: span.moved,
            from: span.from,
            to: span.to,
            leader,
        }
    };
    spans(history).into_iter().enumerate().map(figures).collect()
}

/// The longest time between two acks that reaches into the move.
fn pause_us(heard: &[u64], span: &Span) -> u64 {
    let until_us = span.ended_us.saturating_add(NEWS_US);
    let first = heard.partition_point(|at_us| *at_us < span.began_us).saturating_sub(1);
    let around = heard[first..].windows(2).take_while(|pair| pair[0] <= until_us);
    around.map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

fn rtt_ms(a: &str, b: &str) -> f64 {
    let place = |name: &str| RegionId::new(name).map(Place::from).ok();
    match (place(a), place(b)) {
        (Some(a), Some(b)) => WanTable::default().rtt(&a, &b).as_secs_f64() * 1e3,
        _ => 0.0,
    }
}
