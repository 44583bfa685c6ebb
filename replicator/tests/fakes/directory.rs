use super::{FakeNode, node_id, region_id};
use proto::directory::{self as wire, directory_server};
use std::net::SocketAddr;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream, wrappers::WatchStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};
use types::{
    Epoch, Home, Incarnation, NodeRow, PartitionId, PartitionRow, PartitionState, PlacementDelta, RegionId,
    Replica, Retirement,
};

/// Answers placement watches with what it was told last, as snapshots.
pub(crate) struct FakeDirectory {
    pub address: SocketAddr,
    placement: watch::Sender<PlacementDelta>,
    _task: AbortOnDropHandle<()>,
}

struct Service(watch::Receiver<PlacementDelta>);

impl FakeDirectory {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (placement, view) = watch::channel(PlacementDelta::default());
        let serving = tonic::transport::Server::builder()
            .add_service(directory_server::DirectoryServer::new(Service(view)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.expect("it serves") });
        Self { address, placement, _task: AbortOnDropHandle::new(task) }
    }

    /// Each node in a region of its own name without the number.
    pub(crate) fn place(&self, nodes: &[&FakeNode], partitions: &[(u32, &FakeNode, u64)]) {
        let region = |node: &FakeNode| -> RegionId {
            region_id(node.replica.node.as_str().rsplit_once('-').expect("region-number").0)
        };
        let replicas: Vec<Replica> = nodes.iter().map(|node| node.replica.clone()).collect();
        let node_rows = nodes.iter().map(|node| NodeRow {
            node: node.replica.node.clone(),
            region: region(node),
            address: node.address.to_string(),
            incarnation: Incarnation::new(1),
            store: node.replica.store,
            live: true,
            retirement: Retirement::Serving,
            keys: Vec::new(),
        });
        let partition_rows = partitions.iter().map(|(partition, home, epoch)| PartitionRow {
            partition: PartitionId::new(*partition),
            preferred: region(home),
            allowed: vec![],
            replicas: replicas.clone(),
            home: Some(Home { node: node_id(home.replica.node.as_str()), incarnation: Incarnation::new(1) }),
            waiting: vec![],
            epoch: Epoch::new(*epoch),
            state: PartitionState::Homed,
            isr: vec![],
            lost: vec![],
            isr_version: 0,
            history: vec![],
            away: Vec::new(),
            moving: None,
            stays: false,
        });
        let (nodes, partitions) = (node_rows.collect(), partition_rows.collect());
        self.placement.send_modify(|delta| {
            let to_version = delta.to_version + 1;
            *delta = PlacementDelta { to_version, nodes, partitions, ..PlacementDelta::default() };
        });
    }
}

type Replies<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn absent<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in the fake"))
}

#[tonic::async_trait]
impl directory_server::Directory for Service {
    type WatchPlacementStream = Replies<wire::PlacementDelta>;

    async fn watch_placement(
        &self,
        _: Request<wire::WatchPlacementRequest>,
    ) -> Result<Response<Self::WatchPlacementStream>, Status> {
        let deltas = WatchStream::new(self.0.clone()).map(|delta| Ok((&delta).into()));
        Ok(Response::new(Box::pin(deltas)))
    }

    async fn register(
        &self,
        _: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::RegisterReply>, Status> {
        absent()
    }
    async fn renew(&self, _: Request<wire::RenewRequest>) -> Result<Response<wire::RenewReply>, Status> {
        absent()
    }
    async fn pin(&self, _: Request<wire::PinRequest>) -> Result<Response<wire::PinReply>, Status> {
        absent()
    }
    async fn get_pins(
        &self,
        _: Request<wire::GetPinsRequest>,
    ) -> Result<Response<wire::GetPinsReply>, Status> {
        absent()
    }
    async fn look_up_pins(
        &self,
        _: Request<wire::GetPinsRequest>,
    ) -> Result<Response<wire::GetPinsReply>, Status> {
        absent()
    }
    async fn propose_isr(
        &self,
        _: Request<wire::ProposeIsrRequest>,
    ) -> Result<Response<wire::ProposeIsrReply>, Status> {
        absent()
    }
    async fn drain(&self, _: Request<wire::DrainRequest>) -> Result<Response<wire::DrainReply>, Status> {
        absent()
    }
    async fn undrain(
        &self,
        _: Request<wire::UndrainRequest>,
    ) -> Result<Response<wire::UndrainReply>, Status> {
        absent()
    }
    async fn r#move(&self, _: Request<wire::MoveRequest>) -> Result<Response<wire::MoveReply>, Status> {
        absent()
    }
    async fn abort_move(
        &self,
        _: Request<wire::AbortMoveRequest>,
    ) -> Result<Response<wire::AbortMoveReply>, Status> {
        absent()
    }
    async fn set_failback(
        &self,
        _: Request<wire::SetFailbackRequest>,
    ) -> Result<Response<wire::SetFailbackReply>, Status> {
        absent()
    }
    async fn moves(&self, _: Request<wire::MovesRequest>) -> Result<Response<wire::MovesReply>, Status> {
        absent()
    }
    async fn audit(&self, _: Request<wire::AuditRequest>) -> Result<Response<wire::AuditReply>, Status> {
        absent()
    }
    async fn fail_over(
        &self,
        _: Request<wire::FailOverRequest>,
    ) -> Result<Response<wire::FailOverReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    async fn promote_unsafe(
        &self,
        _: Request<wire::PromoteUnsafeRequest>,
    ) -> Result<Response<wire::PromoteUnsafeReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    async fn allow_alone(
        &self,
        _: Request<wire::AllowAloneRequest>,
    ) -> Result<Response<wire::AllowAloneReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    async fn rehome(&self, _: Request<wire::RehomeRequest>) -> Result<Response<wire::RehomeReply>, Status> {
        absent()
    }
    async fn abort_rehome(
        &self,
        _: Request<wire::AbortRehomeRequest>,
    ) -> Result<Response<wire::AbortRehomeReply>, Status> {
        absent()
    }
    async fn rehomes(
        &self,
        _: Request<wire::RehomesRequest>,
    ) -> Result<Response<wire::RehomesReply>, Status> {
        absent()
    }
    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        absent()
    }
}
