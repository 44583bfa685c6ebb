//! `hearth lab`: hurts and heals a deployment that `hearth up` runs.

use crate::base_port::BasePort;
use clap::Subcommand;
use lab::control::{Client, CutRequest, LinkRequest};

/// Hurt and heal a deployment that `up` runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    base_port: BasePort,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// SIGKILL a region's processes and make its links silent, as if it had lost its power; or SIGKILL a node.
    Kill(Target),
    /// SIGSTOP a region's processes, or a node.
    Pause(Target),
    /// SIGCONT a region's processes, or a node.
    Resume(Target),
    /// Start what does not run in a region, or a node, and let the region's links carry again.
    Start(Target),
    /// Cut the link between two places: connections hang.
    Cut {
        /// A region, or `directory`.
        a: String,
        /// A region, or `directory`.
        b: String,
        /// Only from A to B.
        #[arg(long)]
        one_way: bool,
    },
    /// End all cuts and stalls; killed regions stay silent.
    Heal,
    /// Change the link between two places; what is not named stays as it is.
    Link(Link),
}

#[derive(Debug, clap::Args)]
struct Target {
    /// A region, a node, or `directory`.
    target: String,
}

#[derive(Debug, clap::Args)]
struct Link {
    /// A region, or `directory`.
    a: String,
    /// A region, or `directory`.
    b: String,
    /// Only from A to B.
    #[arg(long)]
    one_way: bool,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Change {
    /// One way: half the round trip.
    #[arg(long, value_name = "MS")]
    delay_ms: Option<u64>,
    /// Each chunk is late by up to this much more.
    #[arg(long, value_name = "MS")]
    jitter_ms: Option<u64>,
    /// Shared by all connections; 0 is unlimited.
    #[arg(long, value_name = "BYTES_PER_S")]
    bandwidth: Option<u64>,
    /// Hold everything back for so long, once.
    #[arg(long, value_name = "MS")]
    stall_ms: Option<u64>,
    /// Reset the connections that exist now.
    #[arg(long)]
    reset: bool,
}

/// Does one thing to the deployment.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = Client::new(args.base_port.base_port);
    match args.action {
        Action::Kill(Target { target }) => client.act("kill", &target).await?,
        Action::Pause(Target { target }) => client.act("pause", &target).await?,
        Action::Resume(Target { target }) => client.act("resume", &target).await?,
        Action::Start(Target { target }) => client.act("start", &target).await?,
        Action::Cut { a, b, one_way } => client.cut(&CutRequest { a, b, one_way }).await?,
        Action::Heal => client.heal().await?,
        Action::Link(link) => client.change_link(&link.into()).await?,
    }
    Ok(())
}

impl From<Link> for LinkRequest {
    fn from(Link { a, b, one_way, change }: Link) -> Self {
        Self {
            a,
            b,
            one_way,
            delay_ms: change.delay_ms,
            jitter_ms: change.jitter_ms,
            bandwidth_bytes_per_s: change.bandwidth,
            stall_ms: change.stall_ms,
            reset: change.reset,
        }
    }
}
