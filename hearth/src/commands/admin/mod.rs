//! `hearth admin`: how a deployment is, and what is to change.

mod by;
mod collect;
mod directory;
mod emergency;
mod following;
mod members;
mod moves;
mod rehome;
mod render;
mod report;
mod salvage;

use crate::base_port::BasePort;
use clap::Subcommand;
use lab::control::Client;

/// See how a deployment is, and change where its homes are.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Regions, nodes, partitions, replication, and what is at risk.
    Status(Status),
    /// The replicas of the directory.
    Directory(Directory),
    /// What nodes have archived of histories that a failover undid, and what became of it.
    Salvage(Salvage),
    #[command(flatten)]
    Moves(moves::Action),
    /// UNSAFE: promotes a copy that is not in sync, where a partition has no home and no safe one is left.
    PromoteUnsafe(Emergency<emergency::PromoteUnsafe>),
    /// UNSAFE: lets one region do without another for a time.
    AllowOneRegion(Emergency<emergency::AllowOneRegion>),
    /// Say that a region is lost, where automatic failover has stopped or is off: its homes go elsewhere.
    FailOver(Emergency<emergency::FailOver>),
    /// List nodes, and let them leave.
    Node(Asked<members::NodeAction>),
    /// Let regions join and leave.
    Region(Asked<members::RegionAction>),
    /// Say whether chats follow those who write them.
    Following(following::Args),
    /// Home one chat in another region, while people write to it; without a chat, list what is under way.
    Rehome(Rehome),
}

#[derive(Debug, clap::Args)]
struct Rehome {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    args: rehome::Args,
}

/// Something that is asked of the directory.
#[derive(Debug, clap::Args)]
struct Asked<A: Subcommand> {
    #[command(flatten)]
    at: Where,
    #[command(subcommand)]
    action: A,
}

#[derive(Debug, clap::Args)]
struct Emergency<A: clap::Args> {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    args: A,
}

#[derive(Debug, clap::Args)]
struct Directory {
    #[command(flatten)]
    at: Where,
    #[command(subcommand)]
    action: directory::Action,
}

#[derive(Debug, clap::Args)]
struct Salvage {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    args: salvage::Args,
}

/// Which deployment.
#[derive(Debug, clap::Args)]
struct Where {
    #[command(flatten)]
    base_port: BasePort,
    /// Addresses of the directory's replicas, `http://host:port[,…]` [default: those of the running `hearth up`]
    #[arg(long, value_name = "URL", global = true)]
    directory: Option<String>,
}

impl Where {
    async fn directory(&self) -> anyhow::Result<String> {
        let addresses = match &self.directory {
            Some(urls) => urls.split(',').map(|url| with_scheme(url.trim().to_owned())).collect(),
            None => {
                let described = Client::new(self.base_port.base_port).describe().await?;
                let running = described.directories.into_iter().filter(|directory| directory.pid.is_some());
                running.map(|directory| directory.address).collect()
            }
        };
        directory::reachable(addresses).await
    }
}

#[derive(Debug, clap::Args)]
struct Status {
    #[command(flatten)]
    at: Where,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// Also list every partition.
    #[arg(long)]
    partitions: bool,
}

/// Asks the directory, and for the status every node, and prints what they say.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Status(args) => status(args).await,
        Action::Directory(Directory { at, action }) => directory::run(action, &at.directory().await?).await,
        Action::Salvage(Salvage { at, args }) => salvage::run(args, &at.directory().await?).await,
        Action::Moves(action) => moves::run(action).await,
        Action::PromoteUnsafe(Emergency { at, args }) => {
            emergency::promote_unsafe(args, &at.directory().await?).await
        }
        Action::AllowOneRegion(Emergency { at, args }) => {
            emergency::allow_one_region(args, &at.directory().await?).await
        }
        Action::FailOver(Emergency { at, args }) => emergency::fail_over(args, &at.directory().await?).await,
        Action::Node(Asked { at, action }) => members::node(action, &at.directory().await?).await,
        Action::Region(Asked { at, action }) => members::region(action, &at.directory().await?).await,
        Action::Following(args) => following::run(args).await,
        Action::Rehome(Rehome { at, args }) => rehome::run(args, &at.directory().await?).await,
    }
}

async fn status(args: Status) -> anyhow::Result<()> {
    let directory = args.at.directory().await?;
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
