//! Lets nodes go that nothing in the rows needs any more, once nothing on their disks is needed either.
//!
//! A node that lives is asked whether it has archives that are not settled: what they hold may be nowhere else, and salvage
//! ends with the node (DESIGN I8). One that is dead cannot be asked; that it does not come back is the word of the operator
//! who retired it.

use crate::{bounds, channel, command::Command, driver::envelope, engine::Engine};
use proto::node::{StatusRequest, node_client::NodeClient};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{sleep, timeout};
use types::{NodeId, NodeRow};

/// One look at the nodes that have nothing left, at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Retiring {
    is_asking: Arc<AtomicBool>,
}

impl Retiring {
    /// Asks those that live, each at its address, and retires whoever may go. Regions without nodes go with them.
    pub(crate) fn finish(&self, engine: Engine, nodes: Vec<(NodeRow, String)>) {
        if self.is_asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let is_asking = Arc::clone(&self.is_asking);
        tokio::spawn(async move {
            let (mut done, asked) = (Vec::new(), nodes.len());
            for (row, address) in nodes {
                if !row.live || has_settled(&row.node, &address).await {
                    done.push(row.node);
                }
            }
            if asked == 0 || !done.is_empty() {
                let command = Command::FinishRetirement(done);
                if let Err(error) = engine.submit(envelope(command)).await {
                    tracing::warn!(%error, "nodes that have nothing left were not retired");
                }
            }
            sleep(Duration::from_millis(bounds::RETIRE_AGAIN_MS)).await;
            is_asking.store(false, Ordering::Release);
        });
    }
}

async fn has_settled(node: &NodeId, address: &str) -> bool {
    let within = Duration::from_millis(bounds::SURVEY_TIMEOUT_MS);
    match timeout(within, unsettled(address)).await {
        Ok(Ok(0)) => true,
        Ok(Ok(records)) => {
            tracing::info!(%node, records, "a node stays until what its archives hold is salvaged");
            false
        }
        Ok(Err(error)) => {
            tracing::warn!(%node, error, "a node that retires does not tell whether its archives are settled");
            false
        }
        Err(_) => {
            tracing::warn!(%node, "a node that retires does not answer");
            false
        }
    }
}

/// How many records its archives hold that are not settled.
async fn unsettled(address: &str) -> Result<u64, String> {
    let channel = channel::at_once(address).await.map_err(|error| format!("{error:?}"))?;
    let reply = NodeClient::new(channel).status(StatusRequest { partitions: false }).await;
    let reply = reply.map_err(|status| status.to_string())?.into_inner();
    Ok(reply.unsettled_records.max(reply.unsettled_archives))
}
