//! A directory of one partition, in memory, that a test tells what to say.

use parking_lot::Mutex;
use proto::directory::{self as wire, directory_server};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream, wrappers::WatchStream};
use tonic::{Request, Response, Status, codegen::BoxStream};
use types::{
    Epoch, EpochStart, Generation, Home, Incarnation, Lsn, Move, MoveCause, MoveId, NodeId, NodeRow, Offset,
    PartitionId, PartitionRow, PartitionState, Pin, PinSegment, PlacementDelta, RegionId, RegionRow,
    RegionStatus, Replica, Retirement, StoreId,
};

pub(crate) const PARTITION: PartitionId = PartitionId::new(7);
pub(crate) const TTL_MS: u32 = 1_000;

#[derive(Debug, Default)]
struct Rows {
    nodes: BTreeMap<NodeId, NodeRow>,
    partition: Option<PartitionRow>,
    /// No renewal is answered.
    mute: bool,
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    rows: Arc<Mutex<Rows>>,
    version: watch::Sender<u64>,
}

impl Directory {
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let directory = Self { rows: Arc::default(), version: watch::Sender::new(1) };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = directory_server::DirectoryServer::new(directory.clone());
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(server).serve_with_incoming(incoming));
        (directory, address)
    }

    pub(crate) fn mute(&self, mute: bool) {
        self.rows.lock().mute = mute;
    }

    pub(crate) fn replica(&self, node: &NodeId) -> Option<Replica> {
        let store = self.rows.lock().nodes.get(node)?.store;
        Some(Replica { node: node.clone(), store })
    }

    /// Bumps a node's incarnation: its renewals are refused from now on.
    pub(crate) fn bump(&self, node: &NodeId) {
        if let Some(row) = self.rows.lock().nodes.get_mut(node) {
            row.incarnation = row.incarnation.next();
            row.live = false;
        }
        self.publish();
    }

    /// Makes a node home of the partition in the next epoch.
    pub(crate) fn give(&self, node: &NodeId, start_lsn: u64, isr: &[&NodeId], replicas: &[&NodeId]) -> Epoch {
        let replica_of = |node: &&NodeId| self.replica(node).expect("registered");
        let isr = isr.iter().map(replica_of).collect();
        let replicas = replicas.iter().map(replica_of).collect();
        let mut rows = self.rows.lock();
        let home = Home { node: node.clone(), incarnation: rows.nodes[node].incarnation };
        let before = rows.partition.take();
        let epoch = before.as_ref().map_or(Epoch::FIRST, |row| row.epoch.plus(1));
        rows.partition = Some(PartitionRow {
            partition: PARTITION,
            preferred: rows.nodes[node].region.clone(),
            allowed: vec![],
            replicas,
            home: Some(home.clone()),
            waiting: vec![],
            epoch,
            state: PartitionState::Homed,
            isr,
            lost: vec![],
            isr_version: before.map_or(1, |row| row.isr_version + 1),
            history: vec![EpochStart { epoch, start_lsn: Lsn::new(start_lsn), home }],
            away: Vec::new(),
            moving: None,
            stays: false,
        });
        drop(rows);
        self.publish();
        epoch
    }

    /// Begins to move the partition to a node.
    pub(crate) fn drain(&self, to: &NodeId) {
        let mut rows = self.rows.lock();
        let target = Home { node: to.clone(), incarnation: rows.nodes[to].incarnation };
        if let Some(row) = &mut rows.partition {
            row.state = PartitionState::Draining;
            row.moving = Some(Move { id: MoveId::new(1), target, cause: MoveCause::Operator });
        }
        drop(rows);
        self.publish();
    }

    pub(crate) fn isr(&self) -> Vec<NodeId> {
        let rows = self.rows.lock();
        rows.partition.iter().flat_map(|row| &row.isr).map(|replica| replica.node.clone()).collect()
    }

    fn publish(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn snapshot(&self) -> wire::PlacementDelta {
        let rows = self.rows.lock();
        let regions = ["region-a", "region-b"].map(|name| RegionRow {
            region: RegionId::new(name).expect("a valid name"),
            status: RegionStatus::Active,
            retirement: Retirement::Serving,
            failback_off: false,
            alone_until_ms: 0,
        });
        let delta = PlacementDelta {
            from_version: 0,
            to_version: *self.version.borrow(),
            regions: regions.to_vec(),
            nodes: rows.nodes.values().cloned().collect(),
            partitions: rows.partition.iter().cloned().collect(),
        };
        (&delta).into()
    }

    fn current(&self, home: &wire::Home) -> bool {
        let rows = self.rows.lock();
        let node = NodeId::new(&home.node).expect("a valid name");
        rows.nodes.get(&node).is_some_and(|row| row.incarnation.get() == home.incarnation)
    }
}

#[tonic::async_trait]
impl directory_server::Directory for Directory {
    type WatchPlacementStream = BoxStream<wire::PlacementDelta>;

    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::RegisterReply>, Status> {
        let request = request.into_inner();
        let node = NodeId::new(&request.node).expect("a valid name");
        let mut rows = self.rows.lock();
        let incarnation = rows.nodes.get(&node).map_or(Incarnation::new(0), |row| row.incarnation).next();
        let row = NodeRow {
            node: node.clone(),
            region: RegionId::new(&request.region).expect("a valid name"),
            address: request.address,
            incarnation,
            store: StoreId::try_from(&request.store[..]).expect("16 bytes"),
            live: true,
            retirement: Retirement::Serving,
            keys: Vec::new(),
        };
        rows.nodes.insert(node, row);
        drop(rows);
        self.publish();
        Ok(Response::new(wire::RegisterReply {
            protocol_version: 1,
            incarnation: incarnation.get(),
            lease_ttl_ms: TTL_MS,
            renew_interval_ms: 100,
        }))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::RenewReply>, Status> {
        let wire::RenewRequest { node, incarnation, .. } = request.into_inner();
        if self.rows.lock().mute {
            return Err(Status::unavailable("the directory says nothing"));
        }
        if !self.current(&wire::Home { node, incarnation }) {
            return Err(Status::failed_precondition("not the current incarnation"));
        }
        Ok(Response::new(wire::RenewReply {}))
    }

    async fn watch_placement(
        &self,
        _: Request<wire::WatchPlacementRequest>,
    ) -> Result<Response<Self::WatchPlacementStream>, Status> {
        let directory = self.clone();
        let deltas = WatchStream::new(self.version.subscribe()).map(move |_| Ok(directory.snapshot()));
        Ok(Response::new(Box::pin(deltas)))
    }

    async fn pin(&self, _: Request<wire::PinRequest>) -> Result<Response<wire::PinReply>, Status> {
        Err(Status::unimplemented("no test pins"))
    }

    async fn get_pins(
        &self,
        request: Request<wire::GetPinsRequest>,
    ) -> Result<Response<wire::GetPinsReply>, Status> {
        let segment =
            PinSegment { generation: Generation::FIRST, partition: PARTITION, first_offset: Offset::FIRST };
        let pins = request.into_inner().logs.into_iter().map(|log| {
            let log = types::LogId::try_from(&log[..]).expect("a log id");
            (&Pin { log, segments: vec![segment] }).into()
        });
        Ok(Response::new(wire::GetPinsReply { pins: pins.collect() }))
    }

    async fn look_up_pins(
        &self,
        request: Request<wire::GetPinsRequest>,
    ) -> Result<Response<wire::GetPinsReply>, Status> {
        self.get_pins(request).await
    }

    async fn propose_isr(
        &self,
        request: Request<wire::ProposeIsrRequest>,
    ) -> Result<Response<wire::ProposeIsrReply>, Status> {
        let request = request.into_inner();
        let replicas = |wire: Vec<wire::Replica>| {
            wire.into_iter().map(|one| Replica::try_from(one).expect("a replica")).collect()
        };
        let mut rows = self.rows.lock();
        let row = rows.partition.as_mut().ok_or_else(|| Status::not_found("no partition"))?;
        if row.epoch.get() != request.epoch || row.isr_version != request.isr_version {
            return Err(Status::aborted("the row has moved on"));
        }
        row.isr = replicas(request.isr);
        row.lost = replicas(request.lost);
        row.isr_version += 1;
        let isr_version = row.isr_version;
        drop(rows);
        self.publish();
        Ok(Response::new(wire::ProposeIsrReply { isr_version }))
    }

    async fn drain(&self, _: Request<wire::DrainRequest>) -> Result<Response<wire::DrainReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }
    async fn undrain(
        &self,
        _: Request<wire::UndrainRequest>,
    ) -> Result<Response<wire::UndrainReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }
    async fn r#move(&self, _: Request<wire::MoveRequest>) -> Result<Response<wire::MoveReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }
    async fn abort_move(
        &self,
        _: Request<wire::AbortMoveRequest>,
    ) -> Result<Response<wire::AbortMoveReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }
    async fn set_failback(
        &self,
        _: Request<wire::SetFailbackRequest>,
    ) -> Result<Response<wire::SetFailbackReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }
    async fn moves(&self, _: Request<wire::MovesRequest>) -> Result<Response<wire::MovesReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }
    async fn audit(&self, _: Request<wire::AuditRequest>) -> Result<Response<wire::AuditReply>, Status> {
        Err(Status::unimplemented("no test asks"))
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
        Err(Status::unimplemented("no test asks"))
    }

    async fn abort_rehome(
        &self,
        _: Request<wire::AbortRehomeRequest>,
    ) -> Result<Response<wire::AbortRehomeReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    async fn rehomes(
        &self,
        _: Request<wire::RehomesRequest>,
    ) -> Result<Response<wire::RehomesReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }
}
