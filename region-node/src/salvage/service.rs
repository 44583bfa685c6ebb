//! The `Salvage` service: each call handed to the part of this folder that serves it.

use super::{Archives, offers};
use crate::{grpc::check_version, home::NodeHomes, ready::Identity};
use bytes::Bytes;
use proto::node::{self as wire, salvage_server};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use types::limits;

/// See the module.
#[derive(Clone)]
pub(crate) struct SalvageService {
    pub(crate) archives: Archives,
    pub(crate) homes: Arc<NodeHomes>,
    pub(crate) identity: Arc<Identity>,
}

impl SalvageService {
    /// The service with its bounds.
    pub(crate) fn into_server(self) -> salvage_server::SalvageServer<Self> {
        salvage_server::SalvageServer::new(self)
            .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
            .max_encoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
    }
}

#[tonic::async_trait]
impl salvage_server::Salvage for SalvageService {
    async fn archives(
        &self,
        request: Request<wire::ArchivesRequest>,
    ) -> Result<Response<wire::ArchivesReply>, Status> {
        let archives = self.archives.list(request.into_inner().unsettled_only).await?;
        let node = self.identity.node().to_string();
        let store = Bytes::copy_from_slice(self.archives.store.id().as_bytes());
        Ok(Response::new(wire::ArchivesReply { node, store, archives }))
    }

    async fn read(
        &self,
        request: Request<wire::ReadArchiveRequest>,
    ) -> Result<Response<wire::ReadArchiveReply>, Status> {
        Ok(Response::new(self.archives.read(request.into_inner()).await?))
    }

    async fn settle(
        &self,
        request: Request<wire::SettleArchiveRequest>,
    ) -> Result<Response<wire::SettleArchiveReply>, Status> {
        let settled = self.archives.settle(request.into_inner()).await?;
        Ok(Response::new(wire::SettleArchiveReply { settled_lsn: settled.get() }))
    }

    async fn offer(
        &self,
        request: Request<wire::SalvageRequest>,
    ) -> Result<Response<wire::SalvageReply>, Status> {
        let request = request.into_inner();
        check_version(request.protocol_version)?;
        let malformed = |error: proto::Malformed| Status::invalid_argument(error.to_string());
        Ok(Response::new(offers::salvage(&self.homes, request).await.map_err(malformed)?))
    }
}
