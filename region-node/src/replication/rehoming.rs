//! Seals logs and imports them, on the directory's behalf.

use crate::{
    home::{
        NodeHomes,
        core::{Handed, RehomingStep},
    },
    peer::wire as convert,
    service::WriteError,
};
use bytes::Bytes;
use proto::node::{self as wire, import_reply, peer_reply::Reply, rehoming_server, seal_reply};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use types::{Code, Generation, LogId, PartitionId, Refusal, RegionId, RehomeId};

/// The `Rehoming` service of a node.
#[derive(Debug, Clone)]
pub(crate) struct Rehomings(pub(crate) Arc<NodeHomes>);

#[tonic::async_trait]
impl rehoming_server::Rehoming for Rehomings {
    async fn seal(&self, request: Request<wire::SealRequest>) -> Result<Response<wire::SealReply>, Status> {
        let request = request.into_inner();
        let (rehome, generation) = (RehomeId::new(request.rehome), Generation::new(request.generation));
        let region = |region: &String| {
            RegionId::new(region).map_err(|error| Status::invalid_argument(error.to_string()))
        };
        let held_in = request.held_in.iter().map(region).collect::<Result<_, _>>()?;
        let step = RehomingStep::Seal { rehome, generation, held_in };
        let reply = match self.0.rehome(PartitionId::new(request.partition), log(&request.log)?, step).await {
            Ok(Handed::Sealed(import)) => seal_reply::Reply::Sealed(wire::Sealed {
                head_offset: import.head.offset.get(),
                fold: proto::encode_import(&import),
            }),
            Ok(Handed::Imported | Handed::Effected) => {
                return Err(Status::internal("a seal was answered as nothing is"));
            }
            Err(error) => match refused(error) {
                Reply::NotHome(not_home) => seal_reply::Reply::NotHome(not_home),
                Reply::Refused(refused) => seal_reply::Reply::Refused(refused),
                _ => return Err(Status::internal("a seal was refused as nothing is")),
            },
        };
        Ok(Response::new(wire::SealReply { reply: Some(reply) }))
    }

    async fn import(
        &self,
        request: Request<wire::ImportRequest>,
    ) -> Result<Response<wire::ImportReply>, Status> {
        let request = request.into_inner();
        let malformed = |error: proto::Malformed| Status::invalid_argument(error.to_string());
        let import = Box::new(proto::decode_import(&request.fold).map_err(malformed)?);
        let step = RehomingStep::Import { generation: Generation::new(request.generation), import };
        let reply = match self.0.rehome(PartitionId::new(request.partition), log(&request.log)?, step).await {
            Ok(_) => import_reply::Reply::Imported(wire::Imported {}),
            Err(error) => match refused(error) {
                Reply::NotHome(not_home) => import_reply::Reply::NotHome(not_home),
                Reply::Refused(refused) => import_reply::Reply::Refused(refused),
                _ => return Err(Status::internal("an import was refused as nothing is")),
            },
        };
        Ok(Response::new(wire::ImportReply { reply: Some(reply) }))
    }
}

fn log(bytes: &Bytes) -> Result<LogId, Status> {
    proto::log_id("rehoming.log", bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn refused(error: WriteError) -> Reply {
    match error {
        WriteError::NotHome(not_home) => convert::not_home(&not_home),
        WriteError::Refused(refusal) => convert::refused(&refusal),
        other => convert::refused(&Refusal::new(Code::Indeterminate, other.to_string())),
    }
}
