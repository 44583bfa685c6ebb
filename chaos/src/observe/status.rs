//! What nodes tell of their partitions.

use super::ANSWER_TIMEOUT;
use crate::history::{Kind, Recorder};
use anyhow::Context as _;
use lab::Lab;
use proto::node::{StatusRequest, node_client::NodeClient};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use types::{Epoch, Lsn, NodeId, PartitionId, PartitionPosition, RegionId};

/// Between two looks at the homes' watermarks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One node's view of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionView {
    /// It is the home, in this epoch.
    pub home: Option<Epoch>,
    /// Its last record.
    pub last: PartitionPosition,
    /// What it publishes as replicated, where it is home.
    pub watermark: Lsn,
}

/// What a node says of all its partitions.
///
/// # Errors
/// It does not answer.
pub async fn partition_views(
    lab: &Lab,
    node: &NodeId,
) -> anyhow::Result<BTreeMap<PartitionId, PartitionView>> {
    let address = lab.http(node.as_str())?;
    let asking = async {
        let mut node = NodeClient::connect(address).await?;
        anyhow::Ok(node.status(StatusRequest { partitions: true }).await?.into_inner())
    };
    let status = timeout(ANSWER_TIMEOUT, asking).await.context("no answer in time")??;
    let view = |status: proto::node::PartitionStatus| {
        let last = status.last.unwrap_or_default();
        let view = PartitionView {
            home: status.home.then(|| Epoch::new(status.epoch)),
            last: PartitionPosition::new(Epoch::new(last.epoch), Lsn::new(last.lsn)),
            watermark: Lsn::new(status.watermark),
        };
        (PartitionId::new(status.partition), view)
    };
    Ok(status.partitions.into_iter().map(view).collect())
}

/// Asks a node for the watermarks it publishes, again and again, and records them, until `stop`.
pub async fn watch_watermarks(
    lab: Arc<Lab>,
    node: NodeId,
    region: RegionId,
    recorder: Recorder,
    stop: CancellationToken,
) {
    let number = recorder.node(&node, &region);
    let mut told: HashMap<PartitionId, (Epoch, Lsn)> = HashMap::new();
    let watching = async {
        loop {
            // A node that does not answer publishes nothing.
            for (partition, view) in partition_views(&lab, &node).await.unwrap_or_default() {
                let Some(epoch) = view.home else { continue };
                let last = told.entry(partition).or_default();
                if (epoch, view.watermark) > *last {
                    *last = (epoch, view.watermark);
                    recorder.record(Kind::Watermark { partition, epoch, node: number, lsn: view.watermark });
                }
            }
            sleep(LOOK_EVERY).await;
        }
    };
    // It never ends by itself.
    let _: Option<()> = stop.run_until_cancelled(watching).await;
}
