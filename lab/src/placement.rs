//! What the directory says, asked once.

use proto::directory::{self as wire, directory_client::DirectoryClient};
use std::{error::Error, time::Duration};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use types::{NodeRow, PartitionRow, PartitionState, PlacementDelta, Replica};

const PROTOCOL_VERSION: u32 = 1;
/// The largest snapshot that is read: 64 regions of 1,024 partitions with room to spare.
const SNAPSHOT_MAX_BYTES: usize = 256 * 1024 * 1024;

/// The directory's answer did not come, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("directory {address}: {why}")]
pub struct PlacementError {
    /// Whom was asked.
    pub address: String,
    /// What went wrong.
    pub why: String,
}

/// Reads the whole placement. `address` is `http://host:port`.
///
/// # Errors
/// [`PlacementError`], after `patience` at the latest.
pub async fn snapshot(address: &str, patience: Duration) -> Result<PlacementDelta, PlacementError> {
    bounded(address, patience, async {
        let mut client = connect(address).await?;
        let request = wire::WatchPlacementRequest { protocol_version: PROTOCOL_VERSION, from_version: 0 };
        let mut deltas = client.watch_placement(request).await?.into_inner();
        let first = deltas.message().await?.ok_or("it closed the watch before the snapshot")?;
        Ok(PlacementDelta::try_from(first)?)
    })
    .await
}

/// Asks the directory about itself. `address` is `http://host:port`.
///
/// # Errors
/// [`PlacementError`], after `patience` at the latest.
pub async fn directory_status(
    address: &str,
    patience: Duration,
) -> Result<wire::StatusReply, PlacementError> {
    bounded(address, patience, async {
        Ok(connect(address).await?.status(wire::StatusRequest {}).await?.into_inner())
    })
    .await
}

/// Whether every partition has a home.
pub fn all_homed(placement: &PlacementDelta) -> bool {
    lacks_home(placement).is_none()
}

/// The first partition without a home, if there is one, as a text for people.
pub(crate) fn lacks_home(placement: &PlacementDelta) -> Option<String> {
    if placement.partitions.is_empty() {
        return Some("there are no partitions".to_owned());
    }
    let homed = |row: &PartitionRow| row.state == PartitionState::Homed && row.home.is_some();
    placement.partitions.iter().find(|row| !homed(row)).map(describe)
}

/// The first partition that is not in sync at all its replicas, or has fewer than `regions` allow (at most 3),
/// if there is one. A copy is in sync while its node has the store that the row speaks of.
pub(crate) fn lacks_copies(placement: &PlacementDelta, regions: usize) -> Option<String> {
    const REPLICAS: usize = 3;
    let is_there = |replica: &Replica| {
        let of = |node: &&NodeRow| node.node == replica.node && node.store == replica.store && node.live;
        placement.nodes.iter().any(|node| of(&node))
    };
    let in_sync = |row: &PartitionRow| {
        row.isr.len() >= regions.min(REPLICAS) && row.lost.is_empty() && row.isr.iter().all(is_there)
    };
    lacks_home(placement).or_else(|| placement.partitions.iter().find(|row| !in_sync(row)).map(describe))
}

fn describe(row: &PartitionRow) -> String {
    let names = |replicas: &[Replica]| {
        let names: Vec<&str> = replicas.iter().map(|replica| replica.node.as_str()).collect();
        names.join(", ")
    };
    format!(
        "partition {} is {:?} in epoch {} at {}, with copies at [{}], in sync at [{}], lost at [{}]",
        row.partition,
        row.state,
        row.epoch,
        row.home.as_ref().map_or("nobody", |home| home.node.as_str()),
        names(&row.replicas),
        names(&row.isr),
        names(&row.lost),
    )
}

type Cause = Box<dyn Error + Send + Sync>;

async fn connect(address: &str) -> Result<DirectoryClient<Channel>, Cause> {
    let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
    Ok(DirectoryClient::new(channel).max_decoding_message_size(SNAPSHOT_MAX_BYTES))
}

async fn bounded<T>(
    address: &str,
    patience: Duration,
    ask: impl Future<Output = Result<T, Cause>>,
) -> Result<T, PlacementError> {
    let why = match timeout(patience, ask).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(cause)) => with_sources(cause.as_ref()),
        Err(_) => format!("no answer within {patience:?}"),
    };
    Err(PlacementError { address: address.to_owned(), why })
}

/// An error and its sources, without what was told already.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let told = inner.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        source = inner.source();
    }
    text
}
