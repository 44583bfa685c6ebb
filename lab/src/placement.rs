//! What the directory says, asked once.

use proto::directory::{self as wire, directory_client::DirectoryClient};
use std::{error::Error, time::Duration};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use types::{PartitionState, PlacementDelta};

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
    let homed = |row: &types::PartitionRow| row.state == PartitionState::Homed && row.home.is_some();
    !placement.partitions.is_empty() && placement.partitions.iter().all(homed)
}

/// Whether every partition is in sync at all its replicas, and has as many as `regions` allow (at most 3).
pub fn all_in_sync(placement: &PlacementDelta, regions: usize) -> bool {
    const REPLICAS: usize = 3;
    let in_sync = |row: &types::PartitionRow| row.isr.len() >= regions.min(REPLICAS) && row.lost.is_empty();
    all_homed(placement) && placement.partitions.iter().all(in_sync)
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
