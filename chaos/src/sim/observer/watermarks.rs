//! What a home calls replicated, as it tells whoever asks.

use super::Watched;
use crate::history::{Kind, Recorder};
use host::net::Connector;
use proto::node::{StatusRequest, node_client::NodeClient};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use types::{Epoch, Lsn, PartitionId};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A node that does not answer for so long is asked on another connection.
const PATIENCE: Duration = Duration::from_secs(1);

type Told = BTreeMap<PartitionId, (Epoch, Lsn)>;

/// Asks a node for ever.
pub(super) async fn watch(watched: Watched, recorder: Recorder) {
    let mut told = Told::new();
    loop {
        if let Err(error) = watch_once(&watched, &recorder, &mut told).await {
            tracing::debug!(%error, node = %watched.node, "a node does not tell its watermarks");
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn watch_once(watched: &Watched, recorder: &Recorder, told: &mut Told) -> anyhow::Result<()> {
    let endpoint = Endpoint::from_shared(watched.address.clone())?;
    let channel: Channel = timeout(PATIENCE, endpoint.connect_with_connector(Connector)).await??;
    let mut node = NodeClient::new(channel);
    loop {
        let asking = node.status(StatusRequest { partitions: true });
        let status = timeout(PATIENCE, asking).await??.into_inner();
        for home in status.partitions.iter().filter(|partition| partition.home) {
            let partition = PartitionId::new(home.partition);
            let now = (Epoch::new(home.epoch), Lsn::new(home.watermark));
            let last = told.entry(partition).or_default();
            if now > *last {
                *last = now;
                let node = recorder.node(&watched.node, &watched.region);
                recorder.record(Kind::Watermark { partition, epoch: now.0, node, lsn: now.1 });
            }
        }
        sleep(LOOK_EVERY).await;
    }
}
