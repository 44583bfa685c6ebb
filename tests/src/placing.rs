//! Where a log is placed, as the directory and the nodes tell.

use crate::{deployment::patience, eventually};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use lab::{Lab, placement};
use proto::{
    directory::{GetPinsRequest, PinSegment, directory_client::DirectoryClient},
    node::{PartitionStatus, StatusRequest, node_client::NodeClient},
};
use std::time::Duration;
use types::{Epoch, LogId, NodeId, PartitionId, PartitionRow, PartitionState};

/// How long a process has to answer one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A log's id, from its text.
///
/// # Panics
/// When it is none.
pub fn log_id(log: &str) -> LogId {
    log.parse().expect("a log id")
}

/// Where a log is written now.
///
/// # Errors
/// The directory does not answer, or the log is not pinned.
pub async fn pin_of(lab: &Lab, log: &str) -> anyhow::Result<PinSegment> {
    let mut directory = DirectoryClient::connect(lab.directory_address()).await?;
    let logs = vec![Bytes::copy_from_slice(&log_id(log).to_bytes())];
    let pins = directory.get_pins(GetPinsRequest { logs }).await?.into_inner().pins;
    let pin = pins.into_iter().next().context("no answer about the log")?;
    pin.segments.last().copied().context("the log is not pinned")
}

/// A partition's row at the directory.
///
/// # Errors
/// The directory does not answer, or there is no such partition.
pub async fn row(lab: &Lab, partition: u32) -> anyhow::Result<PartitionRow> {
    let placement = placement::snapshot(&lab.directory_address(), ANSWER_TIMEOUT).await?;
    let partition = PartitionId::new(partition);
    let row = placement.partitions.into_iter().find(|row| row.partition == partition);
    row.with_context(|| format!("there is no partition {partition}"))
}

/// Waits until a partition has a home that may ack in a later epoch than `epoch`; answers its row.
///
/// # Panics
/// When that takes too long.
pub async fn successor(lab: &Lab, partition: u32, epoch: Epoch) -> PartitionRow {
    eventually("a new home", patience(), async || {
        let row = row(lab, partition).await?;
        ensure!(row.epoch > epoch, "epoch {} still", row.epoch);
        ensure!(row.state == PartitionState::Homed, "{:?}", row.state);
        ensure!(row.waiting.is_empty(), "waits for {:?}", row.waiting);
        Ok(row)
    })
    .await
}

/// The node that is a partition's home.
///
/// # Panics
/// When there is none.
pub fn home_of(row: &PartitionRow) -> &NodeId {
    &row.home.as_ref().expect("a partition with a home").node
}

/// What a region's node says of a partition.
///
/// # Errors
/// It does not answer, or holds no such partition.
pub async fn status(lab: &Lab, region: &str, partition: u32) -> anyhow::Result<PartitionStatus> {
    let mut node = NodeClient::connect(lab.http(region)?).await?;
    let all = node.status(StatusRequest { partitions: true }).await?.into_inner().partitions;
    let found = all.into_iter().find(|status| status.partition == partition);
    found.with_context(|| format!("the node of {region} holds no partition {partition}"))
}
