//! A directory on a free port, and nodes that are nothing but fences and renewals.

use global_directory::{Config, Deps, Error, Peer, ReplicaId, kv::Embedded, run_on};
use parking_lot::Mutex;
use proto::{
    directory::{self as wire, directory_client::DirectoryClient, members_client::MembersClient},
    node::{self, node_server::NodeServer},
};
use std::{
    collections::BTreeMap,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Channel};
use types::{PartitionId, PartitionPosition, PartitionRow, Placement, PlacementDelta, RegionId};
use uuid::Uuid;

pub(crate) const REGIONS: [&str; 3] = ["ap-south", "eu-west", "us-east"];

/// Times of the tests, in ms: a quarter of the real ones.
pub(crate) const TTL_MS: u64 = 1_000;
pub(crate) const RENEW_MS: u64 = 150;
pub(crate) const SILENCE_MS: u64 = 700;

/// How long a replica goes without a word of its leader.
pub(crate) const ELECTION_MS: u32 = 1_000;

pub(crate) struct Running {
    pub(crate) client: DirectoryClient<Channel>,
    pub(crate) members: MembersClient<Channel>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Result<(), Error>>>,
}

/// The same tests run on one process, and as `replicas` on a group of three.
fn is_replicated() -> bool {
    env!("CARGO_CRATE_NAME") == "replicas"
}

/// One configuration for each process of the directory, with the port that it is given.
pub(crate) async fn processes(config: Config) -> Vec<(TcpListener, Config)> {
    let mut listeners = Vec::new();
    for _ in 0..if is_replicated() { 3 } else { 1 } {
        listeners.push(TcpListener::bind(config.listen).await.expect("a free port"));
    }
    if !is_replicated() {
        return listeners.into_iter().map(|listener| (listener, config.clone())).collect();
    }
    let numbered = listeners.iter().enumerate().map(|(at, listener)| Peer {
        replica: ReplicaId::new(at as u64 + 1),
        address: listener.local_addr().expect("bound").to_string(),
    });
    let peers: Vec<Peer> = numbered.collect();
    let replica = |(at, listener): (usize, TcpListener)| {
        let own = Config {
            data_dir: config.data_dir.join(peers[at].replica.to_string()),
            replica_id: Some(peers[at].replica.get()),
            region: Some(config.regions[at].clone()),
            advertise: Some(peers[at].address.clone()),
            peers: peers.clone(),
            // After a restart the ports are others than those that the group knows.
            dial_replicas: peers.clone(),
            election_ms: ELECTION_MS,
            ..config.clone()
        };
        (listener, own)
    };
    listeners.into_iter().enumerate().map(replica).collect()
}

pub(crate) fn config(folder: &Path, automatic_failover: bool) -> Config {
    let listen = "127.0.0.1:0".parse().expect("an address");
    let regions = REGIONS.iter().map(|name| RegionId::new(name).expect("a valid name")).collect();
    Config {
        partitions_per_region: 4,
        lease_ttl_ms: TTL_MS as u32,
        renew_interval_ms: RENEW_MS as u32,
        silence_ms: SILENCE_MS as u32,
        canary_failing_ms: SILENCE_MS as u32,
        automatic_failover: Some(automatic_failover),
        ..Config::new(listen, folder.to_owned(), regions)
    }
}

/// A replica that was stopped lets its store go once its last message to another one has timed out.
pub(crate) async fn until_released(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let until = Instant::now() + Duration::from_secs(5);
    while let Err(error) = Embedded::open(&folder.join("directory.redb")) {
        assert!(Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        let _again =
            tracing_subscriber::fmt().with_test_writer().with_env_filter("info,openraft=error").try_init();
        let stop = CancellationToken::new();
        let (mut tasks, mut address) = (Vec::new(), String::new());
        for (listener, config) in processes(config).await {
            // The last one is asked: most of the time another one leads.
            address = listener.local_addr().expect("bound").to_string();
            until_released(&config.data_dir).await;
            let deps = Deps { shutdown: stop.clone(), ..Deps::default() };
            tasks.push(tokio::spawn(run_on(listener, config, deps)));
        }
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = channel.connect().await.expect("it listens");
        let client = DirectoryClient::new(channel.clone());
        let running = Self { client, members: MembersClient::new(channel), stop, tasks };
        let until = Instant::now() + Duration::from_secs(20);
        while let Err(status) = running.client.clone().status(wire::StatusRequest {}).await {
            assert!(Instant::now() < until, "it never answered: {status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        drop(self.client);
        for task in self.tasks {
            task.await.expect("no panic").expect("a clean end");
        }
    }

    /// The placement, at least as new as what was answered before this call: a replica that is asked for a
    /// watch may be behind.
    pub(crate) async fn placement(&self) -> Placement {
        let version = self.status().await.placement_version;
        let request = wire::WatchPlacementRequest { protocol_version: 1, from_version: 0 };
        let mut stream = self.client.clone().watch_placement(request).await.expect("watched").into_inner();
        let mut view = Placement::default();
        while view.version() < version {
            let delta = stream.message().await.expect("streamed").expect("a snapshot");
            assert!(view.apply(PlacementDelta::try_from(delta).expect("well formed")));
        }
        view
    }

    /// Waits until the placement is as wanted, and answers it.
    pub(crate) async fn placement_where(&self, what: &str, is_so: impl Fn(&Placement) -> bool) -> Placement {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let view = self.placement().await;
            if is_so(&view) {
                return view;
            }
            assert!(Instant::now() < until, "never came: {what}; {view:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn status(&self) -> wire::StatusReply {
        self.client.clone().status(wire::StatusRequest {}).await.expect("a status").into_inner()
    }
}

pub(crate) fn request_id() -> Vec<u8> {
    Uuid::new_v4().as_bytes().to_vec()
}

/// A node: it registers, renews while it is alive, and answers fences.
pub(crate) struct FakeNode {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) store: [u8; 16],
    pub(crate) address: String,
    pub(crate) incarnation: u64,
    pub(crate) fences: Arc<Fences>,
    /// What it tells of others with each renewal.
    observed: Arc<Mutex<Vec<wire::Observed>>>,
    alive: CancellationToken,
}

/// What a fake node's store holds.
#[derive(Default)]
pub(crate) struct Fences {
    pub(crate) last: Mutex<BTreeMap<u32, PartitionPosition>>,
    pub(crate) raised: Mutex<BTreeMap<u32, u64>>,
    /// Archived records that are not settled, and how often it was asked; a node that was not told answers nothing.
    pub(crate) unsettled: Mutex<Option<u64>>,
    pub(crate) asked: AtomicUsize,
    store: [u8; 16],
}

impl FakeNode {
    pub(crate) async fn start(directory: &Running, region: &str) -> Self {
        let store = *Uuid::new_v4().as_bytes();
        Self::start_on(directory, region, Arc::new(Fences { store, ..Fences::default() })).await
    }

    /// Boots on a store that is there already.
    pub(crate) async fn start_on(directory: &Running, region: &str, fences: Arc<Fences>) -> Self {
        Self::start_as(directory, region, 1, fences).await
    }

    /// Boots as one of several nodes of a region.
    pub(crate) async fn start_as(
        directory: &Running,
        region: &str,
        number: u32,
        fences: Arc<Fences>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let alive = CancellationToken::new();
        let server = tonic::transport::Server::builder()
            .add_service(NodeServer::from_arc(fences.clone()))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), alive.clone().cancelled_owned());
        tokio::spawn(server);
        let mut node = Self {
            name: format!("{region}-{number}"),
            region: region.to_owned(),
            store: fences.store,
            address,
            incarnation: 0,
            fences,
            observed: Arc::default(),
            alive,
        };
        node.incarnation = node.register(directory, request_id()).await.expect("registered").incarnation;
        node.renew_forever(directory);
        node
    }

    pub(crate) async fn register(
        &self,
        directory: &Running,
        request_id: Vec<u8>,
    ) -> Result<wire::RegisterReply, Status> {
        let request = wire::RegisterRequest {
            protocol_version: 1,
            request_id: request_id.into(),
            node: self.name.clone(),
            region: self.region.clone(),
            address: self.address.clone(),
            store: self.store.to_vec().into(),
        };
        directory.client.clone().register(request).await.map(Response::into_inner)
    }

    pub(crate) async fn renew(&self, directory: &Running) -> Result<(), Status> {
        let request =
            wire::RenewRequest { node: self.name.clone(), incarnation: self.incarnation, observed: vec![] };
        directory.client.clone().renew(request).await.map(drop)
    }

    /// Tells from now on for how long it has failed at each of these.
    pub(crate) fn tells_of(&self, watched: &[(&FakeNode, u32)]) {
        let told = watched.iter().map(|(node, failing_ms)| wire::Observed {
            node: node.name.clone(),
            incarnation: node.incarnation,
            failing_ms: *failing_ms,
        });
        *self.observed.lock() = told.collect();
    }

    fn renew_forever(&self, directory: &Running) {
        let (node, incarnation) = (self.name.clone(), self.incarnation);
        let (mut client, alive) = (directory.client.clone(), self.alive.clone());
        let observed = self.observed.clone();
        tokio::spawn(async move {
            while !alive.is_cancelled() {
                let observed = observed.lock().clone();
                let request = wire::RenewRequest { node: node.clone(), incarnation, observed };
                let _refused = client.renew(request).await;
                tokio::time::sleep(Duration::from_millis(RENEW_MS)).await;
            }
        });
    }

    /// Stops renewing and answering.
    pub(crate) fn kill(&self) {
        self.alive.cancel();
    }

    pub(crate) fn replica(&self) -> wire::Replica {
        wire::Replica { node: self.name.clone(), store: self.store.to_vec().into() }
    }

    /// What the home of `row` sends to make these nodes the in-sync set.
    pub(crate) async fn propose(
        &self,
        directory: &Running,
        row: &PartitionRow,
        isr: &[&FakeNode],
    ) -> Result<u64, Status> {
        let request = wire::ProposeIsrRequest {
            request_id: request_id().into(),
            partition: row.partition.get(),
            epoch: row.epoch.get(),
            home: Some(wire::Home { node: self.name.clone(), incarnation: self.incarnation }),
            isr_version: row.isr_version,
            isr: isr.iter().map(|node| node.replica()).collect(),
            lost: vec![],
            watermark: 0,
        };
        directory.client.clone().propose_isr(request).await.map(|reply| reply.into_inner().isr_version)
    }

    pub(crate) fn holds(&self, partition: PartitionId, last: PartitionPosition) {
        self.fences.last.lock().insert(partition.get(), last);
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.kill();
    }
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl node::node_server::Node for Fences {
    type PeerStream = Replies<node::PeerReply>;
    type FetchStream = Replies<node::FetchReply>;
    type FollowStream = Replies<node::FollowReply>;

    async fn peer(
        &self,
        _: Request<tonic::Streaming<node::PeerRequest>>,
    ) -> Result<Response<Self::PeerStream>, Status> {
        Err(Status::unimplemented("a fake node"))
    }

    async fn fetch(
        &self,
        _: Request<tonic::Streaming<node::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("a fake node"))
    }

    async fn follow(
        &self,
        _: Request<tonic::Streaming<node::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("a fake node"))
    }

    async fn await_seal(
        &self,
        _: Request<node::AwaitSealRequest>,
    ) -> Result<Response<node::AwaitSealReply>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }

    async fn fence(
        &self,
        request: Request<node::FenceRequest>,
    ) -> Result<Response<node::FenceReply>, Status> {
        let mut raised = self.raised.lock();
        let last = self.last.lock();
        let partitions = request.into_inner().partitions.into_iter().map(|one| {
            let fence = raised.entry(one.partition).or_default();
            *fence = one.epoch.max(*fence);
            node::Fenced {
                partition: one.partition,
                fence: *fence,
                last: Some(last.get(&one.partition).copied().unwrap_or_default().into()),
                store: self.store.to_vec().into(),
                error: String::new(),
            }
        });
        Ok(Response::new(node::FenceReply { partitions: partitions.collect() }))
    }

    async fn status(&self, _: Request<node::StatusRequest>) -> Result<Response<node::StatusReply>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let unsettled = *self.unsettled.lock();
        let unsettled_records = unsettled.ok_or_else(|| Status::unimplemented("a fake node"))?;
        Ok(Response::new(node::StatusReply { unsettled_records, ..node::StatusReply::default() }))
    }
}
