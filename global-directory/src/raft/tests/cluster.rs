//! Replicas in one process, each with a port of its own, and wires between them that can be cut.

use super::super::{Group, ReplicaId, Settings, library_config};
use crate::{
    clock,
    command::{Answer, Command, Deployment, Envelope},
    config::Peer,
    engine::SubmitError,
    kv::{Kv, Memory},
    random,
    state::State,
    testing::{REGIONS, region},
};
use proto::directory::consensus_server::ConsensusServer;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use types::{Placement, RequestId};

const ELECTION: Duration = Duration::from_millis(400);
const TTL_MS: u64 = 1_000;

/// A replica that runs.
pub(super) struct Running {
    pub(super) group: Group,
    pub(super) state: Arc<State>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

/// One replica, running or not.
pub(super) struct Replica {
    pub(super) kv: Arc<Memory>,
    address: SocketAddr,
    pub(super) running: Option<Running>,
}

pub(super) struct Cluster {
    pub(super) replicas: BTreeMap<u64, Replica>,
    peers: Vec<Peer>,
    wires: BTreeMap<(u64, u64), (SocketAddr, watch::Sender<bool>)>,
    snapshot_every: u64,
    one_way: Duration,
}

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

/// Carries what is read on, so much later.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    later: Duration,
) -> std::io::Result<()> {
    let (chunks, mut queue) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(1_024);
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            let due = tokio::time::Instant::now() + later;
            if read == 0 || chunks.send((due, buffer[..read].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((due, chunk)) = queue.recv().await {
            tokio::time::sleep_until(due).await;
            to.write_all(&chunk).await?;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// Carries connections to `to` until it is cut; cut ones are dropped and new ones refused.
async fn wire(to: SocketAddr, one_way: Duration) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (is_cut, cut) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut cut = cut.clone();
            tokio::spawn(async move {
                if *cut.borrow() {
                    return;
                }
                let Ok(mut onward) = TcpStream::connect(to).await else { return };
                let ((from_reads, from_writes), (to_reads, to_writes)) = (from.split(), onward.split());
                tokio::select! {
                    _ = carry(from_reads, to_writes, one_way) => {}
                    _ = carry(to_reads, from_writes, one_way) => {}
                    _ = cut.wait_for(|is_cut| *is_cut) => {}
                }
            });
        }
    });
    (address, is_cut)
}

pub(super) fn deployment() -> Deployment {
    Deployment { regions: REGIONS.map(region).to_vec(), partitions_per_region: 2 }
}

impl Cluster {
    /// Replicas that are far apart are more patient.
    fn election(&self) -> Duration {
        ELECTION + self.one_way * 16
    }

    /// A group of three, born and founded.
    pub(super) async fn born(snapshot_every: u64) -> Self {
        Self::born_apart(snapshot_every, Duration::ZERO).await
    }

    /// The same, and what one sends takes so long to the others.
    pub(super) async fn born_apart(snapshot_every: u64, one_way: Duration) -> Self {
        let _again =
            tracing_subscriber::fmt().with_test_writer().with_env_filter("warn,openraft=off").try_init();
        let (replicas, wires) = (BTreeMap::new(), BTreeMap::new());
        let mut cluster = Self { replicas, peers: Vec::new(), wires, snapshot_every, one_way };
        for id in 1..=3 {
            cluster.place(id).await;
            let address = cluster.replicas[&id].address.to_string();
            cluster.peers.push(Peer { replica: ReplicaId::new(id), address });
        }
        for id in 1..=3 {
            cluster.start(id).await;
        }
        let leader = cluster.leader().await;
        cluster.replicas[&leader].running().group.found(&deployment()).await.expect("founded");
        cluster
            .until("the birth is applied everywhere", |cluster| {
                cluster.running().all(|(_, running)| running.state.is_founded())
            })
            .await;
        cluster
    }

    /// Gives a replica its address, and wires to and from all others.
    pub(super) async fn place(&mut self, id: u64) {
        let address = free_port();
        for (other, replica) in &self.replicas {
            self.wires.insert((*other, id), wire(address, self.one_way).await);
            self.wires.insert((id, *other), wire(replica.address, self.one_way).await);
        }
        self.replicas.insert(id, Replica { kv: Arc::default(), address, running: None });
    }

    pub(super) fn address(&self, id: u64) -> String {
        self.replicas[&id].address.to_string()
    }

    pub(super) async fn start(&mut self, id: u64) {
        let replica = &self.replicas[&id];
        let mut view = Placement::default();
        let read = replica.kv.read(&mut |tx| {
            view = crate::rows::placement(tx)?;
            Ok(())
        });
        read.expect("readable");
        let state = Arc::new(State::new(view, TTL_MS, clock::boot_ms()));
        let stop = CancellationToken::new();
        let dial = self.wires.iter().filter(|((from, _), _)| *from == id);
        let is_peer = self.peers.iter().any(|peer| peer.replica.get() == id);
        let settings = Settings {
            replica: ReplicaId::new(id),
            region: region(REGIONS[(id as usize - 1) % 3]),
            advertise: replica.address.to_string(),
            peers: if is_peer { self.peers.clone() } else { Vec::new() },
            dial: dial.map(|((_, to), (address, _))| (ReplicaId::new(*to), address.to_string())).collect(),
            election: self.election(),
        };
        let config = openraft::Config {
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            replication_lag_threshold: self.snapshot_every,
            max_in_snapshot_log_to_keep: 0,
            purge_batch_size: 1,
            ..library_config(self.election())
        };
        let opened =
            Group::open_with(replica.kv.clone(), state.clone(), config, settings, stop.clone()).await;
        let (group, server) = opened.expect("opened");
        let listener = TcpListener::bind(replica.address).await.expect("its port");
        let serving = tonic::transport::Server::builder().add_service(ConsensusServer::new(server));
        let serving = serving
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        let dies = stop.clone();
        let served = tokio::spawn(async move {
            tokio::select! {
                _ = serving => {}
                () = dies.cancelled() => {}
            }
        });
        let running = Running { group, state, stop, served };
        self.replicas.get_mut(&id).expect("placed").running = Some(running);
    }

    /// Ends a replica at once; what it had not synced is lost.
    pub(super) async fn crash(&mut self, id: u64) {
        let replica = self.replicas.get_mut(&id).expect("placed");
        let running = replica.running.take().expect("it runs");
        running.stop.cancel();
        let _ended = running.served.await;
        running.group.shutdown().await;
        replica.kv.crash();
    }

    /// Cuts or heals everything between a replica and all others.
    pub(super) fn cut(&self, id: u64, is_cut: bool) {
        for ((from, to), (_, switch)) in &self.wires {
            if *from == id || *to == id {
                switch.send_replace(is_cut);
            }
        }
    }

    pub(super) fn running(&self) -> impl Iterator<Item = (u64, &Running)> {
        self.replicas.iter().filter_map(|(id, replica)| Some((*id, replica.running.as_ref()?)))
    }

    /// Waits for one that leads with a majority behind it.
    pub(super) async fn leader(&self) -> u64 {
        self.leader_but(&BTreeSet::new()).await
    }

    pub(super) async fn leader_but(&self, except: &BTreeSet<u64>) -> u64 {
        self.until("a leader", |cluster| cluster.leads_now(except).is_some()).await;
        self.leads_now(except).expect("it was there just now")
    }

    fn leads_now(&self, except: &BTreeSet<u64>) -> Option<u64> {
        let mut running = self.running();
        running
            .find(|(id, running)| !except.contains(id) && running.group.leads().is_some())
            .map(|(id, _)| id)
    }

    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < deadline, "never came: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Repeats a command, as a client does, until some replica has answered it.
    pub(super) async fn submit(&self, request: RequestId, command: Command) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            for (_, running) in self.running() {
                match running.group.submit(Envelope { request, at_ms: 0, command: command.clone() }).await {
                    Ok(answer) => return answer,
                    Err(SubmitError::Refused(refusal)) => panic!("{refusal}"),
                    Err(_) => {}
                }
            }
            assert!(Instant::now() < deadline, "never answered: {command:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn note(&self, what: &str) {
        self.submit(random::request_id(), Command::Note(what.to_owned())).await;
    }
}

impl Replica {
    pub(super) fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    /// The notes in its rows, in their order.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut events = Vec::new();
        let read = self.kv.read(&mut |tx| {
            events = crate::rows::events(tx, 10_000)?;
            Ok(())
        });
        read.expect("readable");
        events.into_iter().map(|event| event.what).collect()
    }
}
