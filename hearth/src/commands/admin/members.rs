//! `hearth admin node` and `hearth admin region`: what joins the deployment and what leaves it.

use crate::{row, tables};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Subcommand;
use lab::placement;
use proto::directory::{
    AddRegionRequest, RetireNodeRequest, RetireRegionRequest, members_client::MembersClient,
};
use std::time::Duration;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};
use types::{NodeRow, PartitionRow, PlacementDelta, Retirement};
use uuid::Uuid;

/// How long the directory has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at what is left.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Nodes: a new one joins when it is started with a name of its own.
#[derive(Debug, Subcommand)]
pub(super) enum NodeAction {
    /// Every node, with what it holds.
    List,
    /// Let a node leave for good: it gets nothing new, and what it holds goes to others.
    Retire {
        /// The node.
        node: String,
        /// It stays after all.
        #[arg(long, conflicts_with = "wait")]
        keep: bool,
        /// Until it can be switched off.
        #[arg(long)]
        wait: bool,
    },
}

/// Regions.
#[derive(Debug, Subcommand)]
pub(super) enum RegionAction {
    /// Let a region join: start its nodes and replicator then.
    Add {
        /// The region.
        region: String,
    },
    /// Let a region leave for good, with all its nodes.
    Retire {
        /// The region.
        region: String,
        /// Until its nodes can be switched off.
        #[arg(long)]
        wait: bool,
    },
}

pub(super) async fn node(action: NodeAction, directory: &str) -> anyhow::Result<()> {
    match action {
        NodeAction::List => {
            print!("{}", list(&placement::snapshot(directory, TIMEOUT).await?));
            Ok(())
        }
        NodeAction::Retire { node, keep, wait } => {
            let request = RetireNodeRequest { request_id: request_id(), node: node.clone(), keep };
            connect(directory).await?.retire_node(request).await.map_err(told)?;
            if keep {
                println!("{node} stays");
                return Ok(());
            }
            println!("{node} retires");
            until_gone(directory, wait, |row| row.node.as_str() == node).await
        }
    }
}

pub(super) async fn region(action: RegionAction, directory: &str) -> anyhow::Result<()> {
    match action {
        RegionAction::Add { region } => {
            let request = AddRegionRequest { request_id: request_id(), region: region.clone() };
            connect(directory).await?.add_region(request).await.map_err(told)?;
            println!("{region} takes copies and homes as soon as it has nodes");
            Ok(())
        }
        RegionAction::Retire { region, wait } => {
            let request = RetireRegionRequest { request_id: request_id(), region: region.clone() };
            connect(directory).await?.retire_region(request).await.map_err(told)?;
            println!("{region} retires");
            until_gone(directory, wait, |row| row.region.as_str() == region).await
        }
    }
}

/// Says what is left, again and again where that is waited for.
async fn until_gone(directory: &str, wait: bool, leaves: impl Fn(&NodeRow) -> bool) -> anyhow::Result<()> {
    let mut told = String::new();
    loop {
        let rows = placement::snapshot(directory, TIMEOUT).await?;
        let leaving: Vec<&NodeRow> = rows.nodes.iter().filter(|row| leaves(row)).collect();
        if leaving.iter().all(|row| row.retirement == Retirement::Retired) {
            println!("retired: it can be switched off");
            return Ok(());
        }
        if leaving.iter().any(|row| row.retirement == Retirement::Serving) {
            bail!("somebody has decided that it stays");
        }
        let homes: usize = leaving.iter().map(|row| homes(&rows, row)).sum();
        let copies: usize = leaving.iter().map(|row| copies(&rows, row)).sum();
        let left = format!("{homes} homes and {copies} copies are left");
        if left != told {
            println!("{left}");
            told = left;
        }
        if !wait {
            return Ok(());
        }
        sleep(LOOK_INTERVAL).await;
    }
}

fn list(rows: &PlacementDelta) -> String {
    let mut table = vec![row!["NODE", "REGION", "ADDRESS", "INC", "STATE", "HOMES", "COPIES"]];
    for node in &rows.nodes {
        let state = match (node.retirement, node.live) {
            (Retirement::Retired, _) => "retired",
            (Retirement::Retiring, _) => "retiring",
            (Retirement::Serving, true) => "live",
            (Retirement::Serving, false) => "gone",
        };
        let (homes, copies) = (homes(rows, node), copies(rows, node));
        table.push(row![node.node, node.region, node.address, node.incarnation, state, homes, copies]);
    }
    tables::render(&table)
}

fn homes(rows: &PlacementDelta, node: &NodeRow) -> usize {
    let is_home = |row: &&PartitionRow| row.home.as_ref().is_some_and(|home| home.node == node.node);
    rows.partitions.iter().filter(is_home).count()
}

fn copies(rows: &PlacementDelta, node: &NodeRow) -> usize {
    let holds = |row: &&PartitionRow| row.replicas.iter().any(|copy| copy.node == node.node);
    rows.partitions.iter().filter(holds).count()
}

async fn connect(directory: &str) -> anyhow::Result<MembersClient<Channel>> {
    let endpoint = Endpoint::from_shared(directory.to_owned())?.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    let channel = endpoint.connect().await;
    Ok(MembersClient::new(channel.with_context(|| format!("the directory at {directory} does not answer"))?))
}

fn request_id() -> Bytes {
    Bytes::copy_from_slice(Uuid::new_v4().as_bytes())
}

fn told(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}
