//! The `Members` service: nodes and regions that join or leave, by operators.

use super::request;
use crate::{
    clock,
    command::{Command, Envelope},
    engine::Engine,
    status,
};
use proto::directory::{self as wire, members_server::Members};
use tonic::{Request, Response, Status};
use types::RequestId;

/// What the service asks.
pub(crate) struct Service(pub(crate) Engine);

impl Service {
    async fn submit(&self, request: RequestId, command: Command) -> Result<(), Status> {
        let envelope = Envelope { request, at_ms: clock::wall_ms(), command };
        self.0.submit(envelope).await.map(drop).map_err(|error| status::submit(&error))
    }
}

#[async_trait::async_trait]
impl Members for Service {
    async fn retire_node(
        &self,
        request: Request<wire::RetireNodeRequest>,
    ) -> Result<Response<wire::RetireNodeReply>, Status> {
        let (id, wanted) = request::retire_node(request.into_inner())?;
        self.submit(id, Command::RetireNode(wanted)).await?;
        Ok(Response::new(wire::RetireNodeReply {}))
    }

    async fn retire_region(
        &self,
        request: Request<wire::RetireRegionRequest>,
    ) -> Result<Response<wire::RetireRegionReply>, Status> {
        let (id, wish) = request::retire_region(request.into_inner())?;
        self.submit(id, Command::RetireRegion(wish)).await?;
        Ok(Response::new(wire::RetireRegionReply {}))
    }

    async fn add_region(
        &self,
        request: Request<wire::AddRegionRequest>,
    ) -> Result<Response<wire::AddRegionReply>, Status> {
        let (id, wish) = request::add_region(request.into_inner())?;
        self.submit(id, Command::AddRegion(wish)).await?;
        Ok(Response::new(wire::AddRegionReply {}))
    }
}
