//! `hearth admin`: how a deployment is.

mod collect;
mod render;
mod report;
mod salvage;

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
    /// What nodes have archived of histories that a failover undid, and what became of it.
    Salvage(Salvage),
}

#[derive(Debug, clap::Args)]
struct Salvage {
    #[command(flatten)]
    base_port: BasePort,
    /// The directory's address, `http://host:port` [default: that of the running `hearth up`]
    #[arg(long, value_name = "URL")]
    directory: Option<String>,
    #[command(flatten)]
    args: salvage::Args,
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
    match args.action {
        Action::Status(args) => status(args).await,
        Action::Salvage(Salvage { base_port, directory, args }) => {
            salvage::run(args, &address(base_port, directory).await?).await
        }
    }
}

async fn status(args: Status) -> anyhow::Result<()> {
    let directory = address(args.base_port, args.directory).await?;
    let seen = collect::collect(&directory).await?;
    let report = report::report(&seen, args.partitions);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", render::render(&report));
    }
    Ok(())
}

async fn address(base_port: BasePort, directory: Option<String>) -> anyhow::Result<String> {
    match directory {
        Some(url) => Ok(with_scheme(url)),
        None => Ok(Client::new(base_port.base_port).describe().await?.directory.address),
    }
}

/// How far behind each region is, as the homes say.
pub(super) async fn replication(directory: &str) -> anyhow::Result<Vec<report::ReplicationReport>> {
    Ok(report::report(&collect::collect(directory).await?, false).replication)
}

fn with_scheme(url: String) -> String {
    if url.contains("://") { url } else { format!("http://{url}") }
}
