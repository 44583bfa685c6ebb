//! The `Node` service: each call handed to the part of the node that serves it.

use crate::{
    follower::Followers,
    parts::{PeerReplies, PeerService},
    replication::{self, Fetches, Rehomings, StatusBoard},
};
use futures_util::stream::BoxStream;
use proto::node::{self as wire, node_server, rehoming_server::RehomingServer};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use types::{Replica, limits};

/// See the module.
#[derive(Clone)]
pub(crate) struct NodeService {
    pub(crate) peer: Arc<dyn PeerService>,
    pub(crate) fetches: Fetches,
    pub(crate) followers: Arc<Followers>,
    pub(crate) status: StatusBoard,
}

impl NodeService {
    /// The service by which logs are re-homed.
    pub(crate) fn rehoming(&self) -> RehomingServer<Rehomings> {
        RehomingServer::new(Rehomings(Arc::clone(&self.fetches.homes)))
            .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
    }

    /// The service with its bounds.
    pub(crate) fn into_server(self) -> node_server::NodeServer<Self> {
        node_server::NodeServer::new(self)
            .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
            .max_encoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
    }
}

#[tonic::async_trait]
impl node_server::Node for NodeService {
    type PeerStream = PeerReplies;
    type FetchStream = BoxStream<'static, Result<wire::FetchReply, Status>>;
    type FollowStream = BoxStream<'static, Result<wire::FollowReply, Status>>;

    async fn peer(
        &self,
        request: Request<Streaming<wire::PeerRequest>>,
    ) -> Result<Response<Self::PeerStream>, Status> {
        Ok(Response::new(self.peer.serve(request.into_inner())))
    }

    async fn fetch(
        &self,
        request: Request<Streaming<wire::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        Ok(Response::new(self.fetches.serve(request.into_inner())))
    }

    async fn follow(
        &self,
        request: Request<Streaming<wire::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let Fetches { store, identity, shutdown, .. } = &self.fetches;
        let me = Replica { node: identity.node().clone(), store: store.id() };
        let followers = Arc::clone(&self.followers);
        let stream = replication::follow(followers, me, request.into_inner(), shutdown.clone());
        Ok(Response::new(stream))
    }

    async fn fence(
        &self,
        request: Request<wire::FenceRequest>,
    ) -> Result<Response<wire::FenceReply>, Status> {
        let Fetches { store, homes, .. } = &self.fetches;
        let reply = replication::fence(&**store, homes, &self.followers, request.into_inner()).await;
        Ok(Response::new(reply))
    }

    async fn await_seal(
        &self,
        request: Request<wire::AwaitSealRequest>,
    ) -> Result<Response<wire::AwaitSealReply>, Status> {
        let store = &self.fetches.store;
        let reply = replication::await_seal(&**store, &self.followers, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusReply>, Status> {
        Ok(Response::new(self.status.status(request.into_inner()).await?))
    }
}

/// Refuses a peer that speaks another version of the protocol.
pub(crate) fn check_version(version: u32) -> Result<(), Status> {
    if version == limits::NODE_PROTOCOL_VERSION {
        return Ok(());
    }
    let known = limits::NODE_PROTOCOL_VERSION;
    Err(Status::failed_precondition(format!("protocol version {version} is not spoken here, {known} is")))
}
