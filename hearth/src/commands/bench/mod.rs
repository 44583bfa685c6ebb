//! `hearth bench`: what a deployment accepts and delivers, as its clients see it.
//!
//! Each pair is two real connections and one chat. The sender either keeps a window of unanswered
//! writes (closed loop) or sends at a fixed rate (open loop), where a latency counts from the moment the
//! message was *meant* to be sent, so that a stalled server is not flattered by a stalled generator
//! (coordinated omission). Bodies are random. Every acked message must reach its receiver, once and in
//! order, or the run fails.

mod ledger;
mod pair;
mod report;

use crate::base_port::BasePort;
use anyhow::{Context as _, bail};
use lab::{Description, control::Client};
use pair::{Load, Pair};
use report::Report;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Barrier, task::JoinSet, time::Instant};
use types::{AckPolicy, RegionId};

/// The most pairs of one run.
const PAIRS_MAX: usize = 5_000;
/// How long the receivers may take to get what was acked, after the last send.
const DRAIN: Duration = Duration::from_secs(30);

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many pairs write at the same time.
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// The region of the senders; the deployment's first one by default.
    #[arg(long)]
    senders: Option<RegionId>,
    /// The region of the receivers; that of the senders by default.
    #[arg(long)]
    receivers: Option<RegionId>,
    /// The home region of the chats; that of the senders by default.
    #[arg(long)]
    home: Option<RegionId>,
    /// Closed loop: how many writes each sender leaves unanswered.
    #[arg(long, default_value_t = 8, conflicts_with = "rate")]
    window: usize,
    /// Open loop: how many messages per second all senders together send.
    #[arg(long)]
    rate: Option<f64>,
    /// Which ack a sender waits for.
    #[arg(long, value_enum, default_value_t = Ack::Home)]
    ack: Ack,
    /// Bytes of random body.
    #[arg(long, default_value_t = 400)]
    body_bytes: usize,
    /// Seconds that count.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds before those.
    #[arg(long, default_value_t = 2)]
    warmup_seconds: u64,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    base_port: BasePort,
}

/// The ack that a sender waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ack {
    Home,
    Replicated,
}

impl From<Ack> for AckPolicy {
    fn from(ack: Ack) -> Self {
        match ack {
            Ack::Home => Self::Home,
            Ack::Replicated => Self::Replicated,
        }
    }
}

/// Runs the load and prints what it saw.
///
/// # Errors
/// A deployment that cannot be reached, or a message lost, doubled or out of order.
pub async fn run(args: Args) -> anyhow::Result<()> {
    check(&args)?;
    let deployment = Client::new(args.base_port.base_port).describe().await?;
    let load = load(&args, &deployment)?;
    let pairs = connect_all(&args, &load).await?;
    let report = measure(&args, pairs).await?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    if report.faults.is_empty() { Ok(()) } else { bail!("{}", report.faults.join("; ")) }
}

fn check(args: &Args) -> anyhow::Result<()> {
    if args.pairs == 0 || args.pairs > PAIRS_MAX {
        bail!("pairs is {}, not between 1 and {PAIRS_MAX}", args.pairs);
    }
    if args.window == 0 {
        bail!("window is 0");
    }
    if args.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        bail!("rate is not above 0");
    }
    let bodies = pair::HEADER_BYTES..=types::limits::BODY_MAX_BYTES;
    if !bodies.contains(&args.body_bytes) {
        bail!("body-bytes is {}, not between {} and {}", args.body_bytes, bodies.start(), bodies.end());
    }
    if args.seconds == 0 {
        bail!("seconds is 0");
    }
    Ok(())
}

fn load(args: &Args, deployment: &Description) -> anyhow::Result<Arc<Load>> {
    let names =
        || deployment.regions.iter().map(|place| place.region.as_str()).collect::<Vec<_>>().join(", ");
    let edge = |region: &RegionId| {
        let place = deployment.regions.iter().find(|place| place.region == *region);
        let url = place.map(|place| place.edge.clone());
        url.with_context(|| format!("no region is called {region:?}; there are {}", names()))
    };
    let first = &deployment.regions.first().context("the deployment has no regions")?.region;
    let senders = args.senders.as_ref().unwrap_or(first);
    let interval = args.rate.map(|rate| Duration::from_secs_f64(args.pairs as f64 / rate));
    Ok(Arc::new(Load {
        sender_edge: edge(senders)?,
        receiver_edge: edge(args.receivers.as_ref().unwrap_or(senders))?,
        home_edge: edge(args.home.as_ref().unwrap_or(senders))?,
        window: args.window,
        interval,
        ack: args.ack.into(),
        body_bytes: args.body_bytes,
        epoch: Instant::now(),
    }))
}

async fn connect_all(args: &Args, load: &Arc<Load>) -> anyhow::Result<Vec<Pair>> {
    /// Connections that are opened at the same time.
    const OPENING_MAX: usize = 64;
    let run = uuid::Uuid::new_v4().simple().to_string();
    let mut pairs = Vec::with_capacity(args.pairs);
    let mut opening = JoinSet::new();
    for number in 0..args.pairs {
        if opening.len() >= OPENING_MAX
            && let Some(pair) = opening.join_next().await
        {
            pairs.push(pair??);
        }
        let (load, run, of) = (Arc::clone(load), run.clone(), args.pairs);
        opening.spawn(async move { Pair::connect(load, &run, number, of).await });
    }
    while let Some(pair) = opening.join_next().await {
        pairs.push(pair??);
    }
    Ok(pairs)
}

async fn measure(args: &Args, pairs: Vec<Pair>) -> anyhow::Result<Report> {
    let start = Arc::new(Barrier::new(pairs.len() + 1));
    let warmup = Duration::from_secs(args.warmup_seconds);
    let counted = Duration::from_secs(args.seconds);
    let mut running = JoinSet::new();
    for pair in pairs {
        let start = Arc::clone(&start);
        running.spawn(async move {
            start.wait().await;
            pair.run(warmup, counted, DRAIN).await
        });
    }
    start.wait().await;
    let mut report = Report::new(args, counted);
    while let Some(outcome) = running.join_next().await {
        report.add(outcome??);
    }
    Ok(report)
}
