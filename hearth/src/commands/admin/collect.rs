//! Asks the directory and, all at once, every node.

use crate::causes;
use anyhow::Context;
use lab::placement;
use proto::{
    directory,
    node::{self, node_client::NodeClient},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::Endpoint;
use types::{NodeId, PlacementDelta, Retirement};

/// How long the directory has to answer.
const DIRECTORY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node has; one that is dead or paused takes all of it.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// A node's answer with every partition and follower.
const STATUS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What everybody answered.
pub(super) struct Seen {
    pub(super) directory_address: String,
    pub(super) placement: PlacementDelta,
    pub(super) directory: directory::StatusReply,
    /// Why there is no answer, where there is none.
    pub(super) nodes: BTreeMap<NodeId, Result<node::StatusReply, String>>,
}

impl Seen {
    /// What nodes that answer say.
    pub(super) fn replies(&self) -> impl Iterator<Item = &node::StatusReply> {
        self.nodes.values().filter_map(|answer| answer.as_ref().ok())
    }
}

/// Nodes that do not answer are part of the answer; a directory that does not is an error.
pub(super) async fn collect(directory_address: &str) -> anyhow::Result<Seen> {
    let (placement, directory) = tokio::try_join!(
        placement::snapshot(directory_address, DIRECTORY_TIMEOUT),
        placement::directory_status(directory_address, DIRECTORY_TIMEOUT),
    )?;
    // Those that have left for good are asked nothing, and shown by `admin node list` only.
    let mut placement = placement;
    placement.nodes.retain(|row| row.retirement != Retirement::Retired);
    let mut asked = JoinSet::new();
    for row in &placement.nodes {
        let (node, address) = (row.node.clone(), format!("http://{}", row.address));
        asked.spawn(async move {
            let answer = match timeout(NODE_TIMEOUT, ask(&address)).await {
                Ok(answer) => answer.map_err(|error| causes::told(&error)),
                Err(_) => Err(format!("no answer within {NODE_TIMEOUT:?}")),
            };
            (node, answer)
        });
    }
    let nodes = asked.join_all().await.into_iter().collect();
    Ok(Seen { directory_address: directory_address.to_owned(), placement, directory, nodes })
}

async fn ask(address: &str) -> anyhow::Result<node::StatusReply> {
    let channel =
        Endpoint::from_shared(address.to_owned())?.connect().await.context("it cannot be reached")?;
    let mut client = NodeClient::new(channel).max_decoding_message_size(STATUS_MAX_BYTES);
    let reply = client.status(node::StatusRequest { partitions: true }).await;
    Ok(reply.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner())
}
