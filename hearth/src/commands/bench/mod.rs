//! `hearth bench`: what a deployment accepts and delivers, as its clients see it.
//!
//! Each pair is two real connections and one chat. The sender either keeps a window of unanswered
//! writes (closed loop) or sends at a fixed rate (open loop), where a latency counts from the moment the
//! message was *meant* to be sent. Bodies are random. Every acked message must reach its receiver, once and
//! in order, or the run fails.
//!
//! The generator shares the machine with the servers, so it must be cheap: few threads carry all
//! connections ([`load`]), and frames are written and read in place ([`wire`]).

mod load;
mod report;
mod wire;

use crate::base_port::BasePort;
use anyhow::{Context as _, bail};
use lab::{Description, control::Client};
use load::{Pace, Plan, Shape, Span};
use report::Report;
use std::time::{Duration, Instant};
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
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
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
    let shape = shape(&args, &deployment)?;
    let report = tokio::task::spawn_blocking({
        let args = args.clone();
        move || measure(&args, &shape)
    })
    .await??;
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
    let bodies = load::HEADER_BYTES..=types::limits::BODY_MAX_BYTES;
    if !bodies.contains(&args.body_bytes) {
        bail!("body-bytes is {}, not between {} and {}", args.body_bytes, bodies.start(), bodies.end());
    }
    if args.threads == 0 {
        bail!("threads is 0");
    }
    if args.seconds == 0 {
        bail!("seconds is 0");
    }
    Ok(())
}

fn shape(args: &Args, deployment: &Description) -> anyhow::Result<Shape> {
    let names =
        || deployment.regions.iter().map(|place| place.region.as_str()).collect::<Vec<_>>().join(", ");
    let edge = |region: &RegionId| {
        let place = deployment.regions.iter().find(|place| place.region == *region);
        let url = place.map(|place| place.edge.clone());
        url.with_context(|| format!("no region is called {region:?}; there are {}", names()))
    };
    let first = &deployment.regions.first().context("the deployment has no regions")?.region;
    let senders = args.senders.as_ref().unwrap_or(first);
    Ok(Shape {
        sender_edge: edge(senders)?,
        reader_edges: vec![edge(args.receivers.as_ref().unwrap_or(senders))?],
        home_edge: edge(args.home.as_ref().unwrap_or(senders))?,
        members: 2,
        chats: 1,
    })
}

fn measure(args: &Args, shape: &Shape) -> anyhow::Result<Report> {
    let parties = load::connect_all(shape, args.pairs)?;
    let epoch = Instant::now();
    let counts_from = args.warmup_seconds * 1_000_000;
    let sends_until = counts_from + args.seconds * 1_000_000;
    let pace = match args.rate {
        Some(rate) => Pace::Every(args.pairs as f64 / rate * 1e6),
        None => Pace::Window(args.window),
    };
    let plan = Plan {
        pace,
        span: Span { counts_from, sends_until },
        drain: DRAIN,
        body_bytes: args.body_bytes,
        ack: proto::ack_policy_to_client(args.ack.into()).into(),
        epoch,
    };
    let tally = load::run(&plan, parties, args.threads)?;
    Ok(Report::new(args, tally))
}
