//! `hearth bench`: what a deployment accepts and delivers, as its clients see it, and what that costs.
//!
//! ```text
//!   modes ──▶ load ──▶ wire ══ WebSocket ══▶ the servers
//!     │                                         ▲
//!     ├──▶ servers: finds or starts them, and watches them through the system ─┘
//!     └──▶ report ──▶ table, JSON, page
//! ```
//!
//! A sender either keeps a window of messages under way (closed loop) or sends at a fixed rate (open loop),
//! where a latency counts from the moment the message was *meant* to be sent. Bodies are random. Every acked
//! message must reach every reader, once and in order, or the run fails. The servers' data must be on a disk.
//!
//! The generator shares the machine with the servers, so it must be cheap: few threads carry all
//! connections ([`load`]), and frames are written and read in place ([`wire`]).

mod args;
mod load;
mod machine;
mod modes;
mod report;
mod servers;
mod suite;
mod wire;

use crate::shutdown;
use anyhow::{Context as _, bail};
use modes::{Bench, CatchUp, Groups, History, Idle, Lag, Pairs, Proxied};
use report::Report;
use servers::{Deployment, Target};
use suite::Suite;

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    mode: Mode,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Mode {
    /// One-to-one chats: messages per second, latencies, CPU per message.
    Pairs(Pairs),
    /// Groups of 2 to 1,024: deliveries per second, counted at every member.
    Groups(Groups),
    /// Idle connections: memory of each, and how long until all have resumed.
    Idle(Idle),
    /// Pages of a long chat over REST.
    History(History),
    /// Writes whose home is in another region: latency above the bare round trip.
    Proxied(Proxied),
    /// Replication: time until other regions have a message, above the way there.
    Lag(Lag),
    /// A region that was away copies what it missed. Kills that region.
    CatchUp(CatchUp),
    /// Every goal beside what is measured, with deployments of its own.
    Suite(Suite),
    /// The machine alone: hashing, syncs in --dir, loopback.
    Machine,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// One JSON object instead of tables.
    #[arg(long, global = true)]
    json: bool,
    /// Also write one self-contained page with plots.
    #[arg(long, value_name = "FILE", global = true)]
    html: Option<std::path::PathBuf>,
    /// Leave out the machine's own yardsticks, which take three seconds.
    #[arg(long, global = true)]
    no_machine: bool,
}

impl Mode {
    fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Pairs(args) => args.check(),
            Self::Groups(args) => args.check(),
            Self::Idle(args) => args.check(),
            Self::History(args) => args.check(),
            Self::Proxied(args) => args.check(),
            Self::Lag(args) => args.check(),
            Self::CatchUp(args) => args.check(),
            Self::Suite(args) => args.check(),
            Self::Machine => Ok(()),
        }
    }

    async fn run(&self, bench: &Bench) -> anyhow::Result<Report> {
        match self {
            Self::Pairs(args) => args.run(bench).await,
            Self::Groups(args) => args.run(bench).await,
            Self::Idle(args) => args.run(bench).await,
            Self::History(args) => args.run(bench).await,
            Self::Proxied(args) => args.run(bench).await,
            Self::Lag(args) => args.run(bench).await,
            Self::CatchUp(args) => args.run(bench).await,
            Self::Suite(_) | Self::Machine => bail!("it is no run against one deployment"),
        }
    }
}

/// Runs the load and prints what it saw.
///
/// # Errors
/// A deployment that cannot be reached, or a message lost, doubled or out of order.
pub async fn run(args: Args) -> anyhow::Result<()> {
    args.mode.check()?;
    let stop = shutdown::on_signal()?;
    tokio::select! {
        outcome = run_mode(&args) => outcome,
        () = stop.cancelled() => {
            // Loads that still run would be waited for; a deployment of the run's own has been ended.
            eprintln!("hearth: stopped");
            std::process::exit(130);
        }
    }
}

async fn run_mode(args: &Args) -> anyhow::Result<()> {
    let Output { json, .. } = args.output;
    match &args.mode {
        Mode::Suite(suite) => suite.run(&args.target, &args.output).await,
        Mode::Machine => {
            let dir = args.target.dir.clone().unwrap_or_else(std::env::temp_dir);
            let measured = modes::blocking(move || machine::measure(&dir)).await?;
            println!("{}", if json { serde_json::to_string(&measured)? } else { measured.to_string() });
            Ok(())
        }
        _ => {
            let report = measure(args).await?;
            args.output.show(&report)?;
            if report.faults.is_empty() { Ok(()) } else { bail!("{}", report.faults.join("; ")) }
        }
    }
}

/// One run against one deployment.
async fn measure(args: &Args) -> anyhow::Result<Report> {
    let deployment = Deployment::open(&args.target).await?;
    let bench = Bench::new(deployment, !args.output.no_machine).await?;
    args.mode.run(&bench).await
}

impl Output {
    fn show(&self, report: &Report) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(report)?);
        } else {
            print!("{report}");
        }
        if let Some(file) = &self.html {
            let page = report::page("hearth bench", "", std::slice::from_ref(report));
            std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}
