//! `hearth admin node` and `hearth admin region`: what joins the deployment and what leaves it.

use super::by::By;
use crate::{row, tables};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Subcommand;
use lab::placement;
use proto::directory::{
    AddRegionRequest, RetireNodeRequest, RetireRegionRequest, members_client::MembersClient,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};
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
    List {
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
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
        #[command(flatten)]
        by: By,
    },
}

/// Regions.
#[derive(Debug, Subcommand)]
pub(super) enum RegionAction {
    /// Let a region join: start its nodes and replicator then.
    Add {
        /// The region.
        region: String,
        #[command(flatten)]
        by: By,
    },
    /// Let a region leave for good, with all its nodes.
    Retire {
        /// The region.
        region: String,
        /// Until its nodes can be switched off.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        by: By,
    },
}

pub(super) async fn node(action: NodeAction, directory: &str) -> anyhow::Result<()> {
    match action {
        NodeAction::List { json } => {
            let rows = placement::snapshot(directory, TIMEOUT).await?;
            if json {
                println!("{}", list_json(&rows));
            } else {
                print!("{}", list(&rows));
            }
            Ok(())
        }
        NodeAction::Retire { node, keep, wait, by } => {
            let (request_id, by) = (request_id(), by.name());
            let request = RetireNodeRequest { request_id, node: node.clone(), keep, by };
            connect(directory).await?.retire_node(request).await.map_err(told)?;
            if keep {
                println!("{node} stays");
                return Ok(());
            }
            println!("{node} retires");
            let left = |rows: &PlacementDelta| left_of_node(rows, &node);
            until_gone(directory, wait, left).await
        }
    }
}

pub(super) async fn region(action: RegionAction, directory: &str) -> anyhow::Result<()> {
    match action {
        RegionAction::Add { region, by } => {
            let (request_id, by) = (request_id(), by.name());
            let request = AddRegionRequest { request_id, region: region.clone(), by };
            connect(directory).await?.add_region(request).await.map_err(told)?;
            println!("{region} takes copies and homes as soon as it has nodes");
            Ok(())
        }
        RegionAction::Retire { region, wait, by } => {
            let (request_id, by) = (request_id(), by.name());
            let request = RetireRegionRequest { request_id, region: region.clone(), by };
            connect(directory).await?.retire_region(request).await.map_err(told)?;
            println!("{region} retires");
            let left = |rows: &PlacementDelta| left_of_region(rows, &region);
            until_gone(directory, wait, left).await
        }
    }
}

/// What leaves: how far it is, and what it still holds.
struct Leaving {
    retirement: Retirement,
    homes: usize,
    copies: usize,
}

fn left_of_node(rows: &PlacementDelta, name: &str) -> Option<Leaving> {
    let node = rows.nodes.iter().find(|row| row.node.as_str() == name)?;
    Some(Leaving { retirement: node.retirement, homes: homes(rows, node), copies: copies(rows, node) })
}

fn left_of_region(rows: &PlacementDelta, name: &str) -> Option<Leaving> {
    let region = rows.regions.iter().find(|row| row.region.as_str() == name)?;
    let nodes = || rows.nodes.iter().filter(|row| row.region == region.region);
    Some(Leaving {
        retirement: region.retirement,
        homes: nodes().map(|node| homes(rows, node)).sum(),
        copies: nodes().map(|node| copies(rows, node)).sum(),
    })
}

/// Says what is left, again and again where that is waited for. The replica that is asked may hear of the retirement
/// after the leader has answered it.
async fn until_gone(
    directory: &str,
    wait: bool,
    left: impl Fn(&PlacementDelta) -> Option<Leaving>,
) -> anyhow::Result<()> {
    let (began, mut is_known, mut told) = (Instant::now(), false, String::new());
    loop {
        let rows = placement::snapshot(directory, TIMEOUT).await?;
        let leaving = left(&rows).context("the directory does not know it any more")?;
        match leaving.retirement {
            Retirement::Retired => {
                println!("retired: it can be switched off");
                return Ok(());
            }
            Retirement::Serving if is_known => bail!("somebody has decided that it stays"),
            Retirement::Serving if began.elapsed() > TIMEOUT => {
                bail!("the directory does not say that it retires")
            }
            Retirement::Serving => {
                sleep(LOOK_INTERVAL).await;
                continue;
            }
            Retirement::Retiring => is_known = true,
        }
        let left = format!("{} homes and {} copies are left", leaving.homes, leaving.copies);
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

const fn state(node: &NodeRow) -> &'static str {
    match (node.retirement, node.live) {
        (Retirement::Retired, _) => "retired",
        (Retirement::Retiring, _) => "retiring",
        (Retirement::Serving, true) => "live",
        (Retirement::Serving, false) => "gone",
    }
}

fn list_json(rows: &PlacementDelta) -> serde_json::Value {
    let nodes = rows.nodes.iter().map(|node| {
        json!({
            "node": node.node, "region": node.region, "address": node.address,
            "incarnation": node.incarnation.get(), "state": state(node),
            "homes": homes(rows, node), "copies": copies(rows, node),
        })
    });
    nodes.collect()
}

fn list(rows: &PlacementDelta) -> String {
    let mut table = vec![row!["NODE", "REGION", "ADDRESS", "INC", "STATE", "HOMES", "COPIES"]];
    for node in &rows.nodes {
        let (homes, copies) = (homes(rows, node), copies(rows, node));
        table.push(row![node.node, node.region, node.address, node.incarnation, state(node), homes, copies]);
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
