//! The `Replicas` service: what operators ask about the group, and tell it.

use super::request;
use crate::{
    config::check_address,
    engine::Engine,
    raft::{Group, ReplicaId},
    status,
};
use proto::directory::{self as wire, replicas_server::Replicas};
use tonic::{Request, Response, Status};

/// What the service asks.
pub(crate) struct Service(pub(crate) Engine);

impl Service {
    fn group(&self) -> Result<&Group, Status> {
        let one = || Status::failed_precondition("this directory is one process, without replicas");
        self.0.group().ok_or_else(one)
    }
}

#[async_trait::async_trait]
impl Replicas for Service {
    async fn inspect(
        &self,
        _: Request<wire::InspectRequest>,
    ) -> Result<Response<wire::InspectReply>, Status> {
        Ok(Response::new(self.0.group().map(Group::inspect).unwrap_or_default()))
    }

    async fn add_replica(
        &self,
        request: Request<wire::AddReplicaRequest>,
    ) -> Result<Response<wire::AddReplicaReply>, Status> {
        let wire::AddReplicaRequest { replica, address, by } = request.into_inner();
        let by = request::operator("add_replica.by", by)?;
        check_address(&address).map_err(|why| {
            let shown: String = address.chars().take(80).collect();
            Status::invalid_argument(format!("field add_replica.address is {shown:?}: {why}"))
        })?;
        if replica == 0 {
            return Err(Status::invalid_argument("field add_replica.replica is 0: they are numbered from 1"));
        }
        let added = self.group()?.add(ReplicaId::new(replica), &address, by).await;
        added.map_err(|error| status::membership(&error))?;
        Ok(Response::new(wire::AddReplicaReply {}))
    }

    async fn remove_replica(
        &self,
        request: Request<wire::RemoveReplicaRequest>,
    ) -> Result<Response<wire::RemoveReplicaReply>, Status> {
        let wire::RemoveReplicaRequest { replica, force, by } = request.into_inner();
        let by = request::operator("remove_replica.by", by)?;
        let removed = self.group()?.remove(ReplicaId::new(replica), force, by).await;
        removed.map_err(|error| status::membership(&error))?;
        Ok(Response::new(wire::RemoveReplicaReply {}))
    }
}
