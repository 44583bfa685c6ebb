//! Nodes whose homes and replicas are kept in memory, with a real edge on real sockets.
//!
//! A [`World`] is a deployment of such nodes. It copies each write to all nodes at once, unless told not
//! to, and fails partitions over on demand, so that a test decides what is lost.

// Each test file uses a part of it.
#![allow(dead_code)]

pub(crate) mod http;
mod names;
mod stand_in;
pub(crate) mod ws;

use parking_lot::Mutex;
use proto::node::{
    AwaitSealReply, AwaitSealRequest, FenceReply, FenceRequest, FetchReply, FetchRequest, FollowReply,
    FollowRequest, PeerReply, PeerRequest, StatusReply, StatusRequest,
    node_server::{Node, NodeServer},
};
use region_node::{
    Config, Connection, Edge, EdgeListener, Parts, PeerReplies, PeerService, PlacementView,
    ready::{Identity, Readiness},
    service::NameOwner,
};
use stand_in::{StandIn, Store};
use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use types::{
    Epoch, EpochStart, Home, Incarnation, LogId, Lsn, Name, NodeId, NodeRow, PartitionId, PartitionRow,
    PartitionState, Pin, PlacementDelta, RegionId, RegionRow, RegionStatus, Retirement, StoreId,
    VerifyingKey,
};

pub(crate) const PARTITIONS: u32 = 4;

pub(crate) struct World {
    pub(crate) nodes: Vec<TestNode>,
    pub(crate) state: Arc<Mutex<State>>,
    version: Mutex<u64>,
}

/// What all stand-ins share.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) stores: BTreeMap<NodeId, Store>,
    pub(crate) pins: BTreeMap<LogId, Pin>,
    /// Writes are no longer copied from home to followers.
    pub(crate) replication_is_cut: bool,
    /// It answers nothing but look-ups.
    pub(crate) directory_has_no_leader: bool,
    pub(crate) names: BTreeMap<Name, NameOwner>,
    /// The keys that nodes sign with.
    pub(crate) keys: BTreeMap<NodeId, Vec<VerifyingKey>>,
    /// How long ago changes of accounts are written, in ms.
    pub(crate) account_age_ms: u64,
}

pub(crate) struct TestNode {
    pub(crate) name: NodeId,
    pub(crate) region: RegionId,
    pub(crate) address: SocketAddr,
    pub(crate) view: Arc<PlacementView>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) edge: Edge,
}

impl Drop for World {
    fn drop(&mut self) {
        self.nodes.iter().for_each(|node| node.shutdown.cancel());
    }
}

impl World {
    /// One node per region; partition `p` is homed at node `p % nodes`.
    pub(crate) async fn start(regions: &[&str]) -> Self {
        Self::start_with(regions, |_| {}).await
    }

    pub(crate) async fn start_with(regions: &[&str], change: impl Fn(&mut Config)) -> Self {
        let world = Self::unplaced(regions, change).await;
        world.place_all();
        world
    }

    /// Nodes to which no placement has come.
    pub(crate) async fn unplaced(regions: &[&str], change: impl Fn(&mut Config)) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let mut nodes = Vec::new();
        for region in regions {
            nodes.push(TestNode::start(region, &state, &change).await);
        }
        Self { nodes, state, version: Mutex::new(0) }
    }

    /// The first placement comes to all nodes.
    pub(crate) fn place_all(&self) {
        let rows = (0..PARTITIONS).map(|number| {
            let at = number as usize % self.nodes.len();
            self.row(PartitionId::new(number), at, Epoch::FIRST)
        });
        self.place(rows.collect());
        for partition in 0..PARTITIONS {
            let at = partition as usize % self.nodes.len();
            self.with_store(at, |store| store.become_home(PartitionId::new(partition), Epoch::FIRST));
        }
    }

    fn row(&self, partition: PartitionId, at: usize, epoch: Epoch) -> PartitionRow {
        let home = Home { node: self.nodes[at].name.clone(), incarnation: Incarnation::new(1) };
        PartitionRow {
            partition,
            preferred: self.nodes[at].region.clone(),
            allowed: Vec::new(),
            replicas: Vec::new(),
            home: Some(home.clone()),
            waiting: Vec::new(),
            epoch,
            state: PartitionState::Homed,
            isr: Vec::new(),
            lost: Vec::new(),
            isr_version: 0,
            history: vec![EpochStart { epoch, start_lsn: Lsn::FIRST, home }],
            away: Vec::new(),
            moving: None,
            stays: false,
        }
    }

    /// Tells all nodes of partition rows.
    pub(crate) fn place(&self, partitions: Vec<PartitionRow>) {
        let keys = self.state.lock().keys.clone();
        let mut version = self.version.lock();
        let delta = PlacementDelta {
            from_version: *version,
            to_version: *version + 1,
            regions: self
                .nodes
                .iter()
                .map(|node| RegionRow {
                    region: node.region.clone(),
                    status: RegionStatus::Active,
                    retirement: Retirement::Serving,
                    failback_off: false,
                    alone_until_ms: 0,
                })
                .collect(),
            nodes: self
                .nodes
                .iter()
                .map(|node| NodeRow {
                    node: node.name.clone(),
                    region: node.region.clone(),
                    address: node.address.to_string(),
                    incarnation: Incarnation::new(1),
                    store: StoreId::from_bytes([1; 16]),
                    live: true,
                    retirement: Retirement::Serving,
                    keys: keys.get(&node.name).cloned().unwrap_or_default(),
                })
                .collect(),
            partitions,
        };
        *version += 1;
        for node in &self.nodes {
            assert!(node.view.apply(delta.clone()), "versions follow each other");
        }
    }

    pub(crate) fn with_store<T>(&self, at: usize, act: impl FnOnce(&mut Store) -> T) -> T {
        act(self.state.lock().stores.get_mut(&self.nodes[at].name).expect("each node has a store"))
    }

    /// The old home loses its office, and nobody has it.
    pub(crate) fn suspend(&self, partition: PartitionId, at: usize) {
        let epoch = self.epoch(partition);
        self.with_store(at, |store| store.end_home(partition));
        let row = PartitionRow { state: PartitionState::FailingOver, ..self.row(partition, at, epoch) };
        self.place(vec![row]);
    }

    /// The node becomes home in the next epoch, with what it holds; all other copies follow it.
    pub(crate) fn fail_over(&self, partition: PartitionId, to: usize) {
        let epoch = self.epoch(partition).next().expect("epochs do not run out");
        for at in 0..self.nodes.len() {
            self.with_store(at, |store| store.end_home(partition));
        }
        let copy = self.with_store(to, |store| store.copy(partition));
        for at in 0..self.nodes.len() {
            self.with_store(at, |store| store.replace(partition, copy.clone()));
        }
        self.with_store(to, |store| store.become_home(partition, epoch));
        let row = self.row(partition, to, epoch);
        self.place(vec![row]);
    }

    /// Every node signs access tokens with a key that all the others know.
    pub(crate) async fn publish_keys(&self) {
        let known = |world: &Self| world.state.lock().keys.len();
        eventually("every node has a key", || async { (known(self) == self.nodes.len()).then_some(()) })
            .await;
        self.place(Vec::new());
    }

    fn epoch(&self, partition: PartitionId) -> Epoch {
        self.nodes[0].view.load().partition(partition).expect("it is placed").epoch
    }

    pub(crate) fn partition_of(&self, log: LogId) -> PartitionId {
        let state = self.state.lock();
        state.pins[&log].current().expect("a pin has a segment").partition
    }
}

impl TestNode {
    async fn start(region: &str, state: &Arc<Mutex<State>>, change: &impl Fn(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let name = NodeId::new(&format!("{region}-1")).expect("a valid name");
        let region = RegionId::new(region).expect("a valid name");
        let config = serde_json::json!({
            "node": name, "region": region, "listen": address, "advertise": address.to_string(),
            "data-dir": "/nowhere", "directory": ["http://127.0.0.1:1"], "development": true,
        });
        let mut config: Config = serde_json::from_value(config).expect("a valid configuration");
        change(&mut config);
        state.lock().stores.insert(name.clone(), Store::default());
        let view = Arc::new(PlacementView::default());
        let stand_in = Arc::new(StandIn::new(name.clone(), Arc::clone(state), Arc::clone(&view)));
        let identity = Identity::new(name.clone());
        identity.set_incarnation(Incarnation::new(1));
        let shutdown = CancellationToken::new();
        let parts = Parts {
            config: Arc::new(config),
            view: Arc::clone(&view),
            homes: stand_in.clone(),
            replicas: stand_in.clone(),
            pins: stand_in.clone(),
            names: stand_in,
            readiness: Arc::new(Readiness::default()),
            identity: Arc::new(identity),
            shutdown: shutdown.clone(),
        };
        let edge = Edge::start(parts);
        let grpc = tonic::service::Routes::new(NodeServer::new(PeerOnly(edge.clone()))).into_axum_router();
        let routes = edge.routes().merge(grpc).into_make_service_with_connect_info::<Connection>();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            let serve = axum::serve(EdgeListener::new(listener), routes);
            tokio::select! {
                served = async { serve.await } => served.expect("a listener serves"),
                () = stop.cancelled() => {}
            }
        });
        Self { name, region, address, view, shutdown, edge }
    }
}

/// Waits for a condition, at most 10 s.
pub(crate) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < give_up, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The node service, of which only the peers' half is there.
struct PeerOnly(Edge);

type Stream<T> = futures_util::stream::BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Node for PeerOnly {
    type PeerStream = PeerReplies;
    type FetchStream = Stream<FetchReply>;
    type FollowStream = Stream<FollowReply>;

    async fn peer(
        &self,
        request: Request<Streaming<PeerRequest>>,
    ) -> Result<Response<Stream<PeerReply>>, Status> {
        Ok(Response::new(self.0.serve(request.into_inner())))
    }

    async fn fetch(
        &self,
        _: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("no replication here"))
    }

    async fn follow(
        &self,
        _: Request<Streaming<FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("no replication here"))
    }

    async fn fence(&self, _: Request<FenceRequest>) -> Result<Response<FenceReply>, Status> {
        Err(Status::unimplemented("no fences here"))
    }

    async fn await_seal(&self, _: Request<AwaitSealRequest>) -> Result<Response<AwaitSealReply>, Status> {
        Err(Status::unimplemented("no moves here"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Err(Status::unimplemented("no status here"))
    }
}
