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
mod wire;

use crate::shutdown;
use anyhow::bail;
use modes::{Bench, Groups, Idle, Pairs};
use report::Report;
use servers::{Deployment, Target};

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
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// One JSON object instead of tables.
    #[arg(long, global = true)]
    json: bool,
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
        }
    }

    async fn run(&self, bench: &Bench) -> anyhow::Result<Report> {
        match self {
            Self::Pairs(args) => args.run(bench).await,
            Self::Groups(args) => args.run(bench).await,
            Self::Idle(args) => args.run(bench).await,
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
        outcome = measure(&args) => outcome,
        () = stop.cancelled() => {
            // Loads that still run would be waited for; a deployment of the run's own has been ended.
            eprintln!("hearth: stopped");
            std::process::exit(130);
        }
    }
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let deployment = Deployment::open(&args.target).await?;
    let bench = Bench::new(deployment, !args.output.no_machine).await?;
    let report = args.mode.run(&bench).await?;
    drop(bench);
    args.output.show(&report)?;
    if report.faults.is_empty() { Ok(()) } else { bail!("{}", report.faults.join("; ")) }
}

impl Output {
    fn show(&self, report: &Report) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(report)?);
        } else {
            print!("{report}");
        }
        Ok(())
    }
}
