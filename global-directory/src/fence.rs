//! Asks a node to raise fences.
//!
//! Raising the same fence twice does no harm, so an attempt whose outcome is unknown is repeated until the
//! time is over.

use crate::{
    bounds, channel,
    controller::{FenceAnswer, Input},
};
use proto::node::{FenceOne, FenceRequest, Fenced, node_client::NodeClient};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use types::{Epoch, NodeId, PartitionId, limits};

/// Raises fences within the time there is; what was not fenced has no answer.
pub(crate) async fn raise(node: NodeId, address: String, partitions: Vec<(PartitionId, Epoch)>) -> Input {
    let deadline = Instant::now() + Duration::from_millis(bounds::FENCE_TIMEOUT_MS);
    let asked: Vec<PartitionId> = partitions.iter().map(|(partition, _)| *partition).collect();
    let request = FenceRequest {
        partitions: partitions
            .iter()
            .map(|(partition, epoch)| FenceOne { partition: partition.get(), epoch: epoch.get() })
            .collect(),
    };
    let mut last_error = String::new();
    let attempts = async {
        loop {
            match attempt(&address, request.clone()).await {
                Ok(fenced) => break fenced,
                Err(error) => last_error = error,
            }
            sleep(Duration::from_millis(bounds::FENCE_RETRY_MS)).await;
        }
    };
    let answers = match timeout_at(deadline, attempts).await {
        Ok(fenced) => fenced.into_iter().filter_map(|one| read_answer(&node, one)).collect(),
        Err(_) => {
            let partitions = asked.len();
            tracing::warn!(%node, address, partitions, error = last_error, "a node could not be fenced in time");
            Vec::new()
        }
    };
    Input::Fenced { node, asked, answers }
}

/// A connection of its own: one that was kept might be dead without anyone having noticed.
async fn attempt(address: &str, request: FenceRequest) -> Result<Vec<Fenced>, String> {
    let channel = channel::at_once(address).await.map_err(|error| format!("{error:?}"))?;
    let mut client = NodeClient::new(channel)
        .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
    let reply = client.fence(request).await.map_err(|status| status.to_string())?;
    Ok(reply.into_inner().partitions)
}

fn read_answer(node: &NodeId, fenced: Fenced) -> Option<FenceAnswer> {
    let partition = fenced.partition;
    let refused = |error: &dyn std::fmt::Display| {
        tracing::warn!(%node, partition, %error, "a partition could not be fenced");
        None
    };
    if !fenced.error.is_empty() {
        return refused(&fenced.error);
    }
    let Some(last) = fenced.last else { return refused(&"the answer names no last record") };
    match proto::store_id("fenced.store", &fenced.store) {
        Ok(store) => Some(FenceAnswer {
            partition: PartitionId::new(partition),
            fence: Epoch::new(fenced.fence),
            last: last.into(),
            store,
        }),
        Err(error) => refused(&error),
    }
}
