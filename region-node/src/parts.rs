//! What the home and follower half of a node hands to the edge half.

use crate::{
    Config, PlacementView,
    ready::{Identity, Readiness},
    service::{Homes, Names, Pins, Replicas},
};
use futures_util::stream::BoxStream;
use proto::node::{PeerReply, PeerRequest};
use std::{fmt, sync::Arc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// Everything that the edge, the router and the peers' server stand on. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// The node's configuration.
    pub config: Arc<Config>,
    /// Who is home of what, as far as is known here.
    pub view: Arc<PlacementView>,
    /// Writes and the bus, where this node is home.
    pub homes: Arc<dyn Homes>,
    /// Reads of any copy that this node holds.
    pub replicas: Arc<dyn Replicas>,
    /// Where logs are pinned.
    pub pins: Arc<dyn Pins>,
    /// Whose names are, and the keys of nodes.
    pub names: Arc<dyn Names>,
    /// Whether the node should be sent work.
    pub readiness: Arc<Readiness>,
    /// Who the node is to the directory now.
    pub identity: Arc<Identity>,
    /// Cancelled when the node goes down.
    pub shutdown: CancellationToken,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("node", &self.config.node).finish_non_exhaustive()
    }
}

/// What a peer is answered.
pub type PeerReplies = BoxStream<'static, Result<PeerReply, Status>>;

/// Serves the streams of other nodes.
pub trait PeerService: Send + Sync + 'static {
    /// Serves one stream until it ends or the node goes down.
    fn serve(&self, requests: Streaming<PeerRequest>) -> PeerReplies;
}
