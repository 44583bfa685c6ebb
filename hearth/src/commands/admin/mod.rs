//! `hearth admin`: how a deployment is.

mod collect;
mod render;
mod report;

use crate::base_port::BasePort;
use clap::Subcommand;
use lab::control::Client;

/// See how a deployment is.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Regions, nodes, partitions, replication, and what is at risk.
    Status(Status),
}

#[derive(Debug, clap::Args)]
struct Status {
    #[command(flatten)]
    base_port: BasePort,
    /// The directory's address, `http://host:port` [default: that of the running `hearth up`]
    #[arg(long, value_name = "URL")]
    directory: Option<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// Also list every partition.
    #[arg(long)]
    partitions: bool,
}

/// Asks the directory and every node, and prints what they say.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Action::Status(args) = args.action;
    let directory = match args.directory {
        Some(url) => with_scheme(url),
        None => Client::new(args.base_port.base_port).describe().await?.directory.address,
    };
    let seen = collect::collect(&directory).await?;
    let report = report::report(&seen, args.partitions);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", render::render(&report));
    }
    Ok(())
}

/// How far behind each region is, as the homes say.
pub(super) async fn replication(directory: &str) -> anyhow::Result<Vec<report::ReplicationReport>> {
    Ok(report::report(&collect::collect(directory).await?, false).replication)
}

fn with_scheme(url: String) -> String {
    if url.contains("://") { url } else { format!("http://{url}") }
}
