//! A whole node: its parts put together on one port.

use crate::{
    Config, Connection, Edge, EdgeListener, Engine, Parts, PlacementView,
    canary::{CanaryService, Observer, Watcher},
    clock,
    directory::{
        Directory, DirectoryNames, DirectoryPins, HandOver, Registration, StoreCanary, watch_placement,
    },
    follower::Followers,
    grpc::NodeService,
    health,
    home::{HomeDeps, NodeHomes},
    parts::PeerService,
    ready::{Identity, Readiness},
    reclaim::Reclaimer,
    replica::NodeReplicas,
    replication::{Fetches, StatusBoard},
    router::HomeRouter,
    salvage::{Archives, SalvageService},
    service::{Names, Pins},
};
use host::net::Listener;
use log_store::{
    LogStore, Replicated, StoreError,
    embedded::{self, EmbeddedStore},
    memory::MemoryStore,
};
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use proto::node::canaries_server::CanariesServer;
use std::{io, path::Path, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{interval, sleep},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use types::StoreId;

/// How often the metrics' histograms are brought up to date.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// How long connections may take to end when the node goes down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// What a node is given beside its configuration.
#[derive(Debug, Default)]
pub struct Deps {
    /// Cancelled to take the node down.
    pub shutdown: CancellationToken,
    /// Where it listens, if it is bound already; the configuration's `listen` otherwise.
    pub listener: Option<TcpListener>,
    /// Its store, if it is open already; the configuration's engine otherwise.
    pub store: Option<Arc<dyn LogStore>>,
}

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration has mistakes.
    #[error("the configuration is not valid: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The port cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The store cannot be opened.
    #[error("cannot open the store: {0}")]
    Store(#[from] StoreError),
    /// An address of the directory is none.
    #[error("an address of the directory is not valid: {0}")]
    Directory(#[from] tonic::transport::Error),
    /// Metrics cannot be recorded.
    #[error("cannot record metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// Serving ended.
    #[error("serving failed: {0}")]
    Serve(#[from] io::Error),
}

/// Runs a node until `deps.shutdown` is cancelled and its sessions have gone elsewhere, or had the time to.
///
/// # Errors
/// What keeps it from starting, or ended it.
pub async fn run(config: Config, deps: Deps) -> Result<(), Error> {
    config.validate().map_err(Error::Config)?;
    let Deps { shutdown: told_to_end, listener, store } = deps;
    let shutdown = CancellationToken::new();
    let metrics = health::recorder()?;
    let listener = match listener {
        Some(listener) => listener.into(),
        None => Listener::bind(config.listen)
            .await
            .map_err(|error| Error::Listen { address: config.listen, error })?,
    };
    let store = match store {
        Some(store) => store,
        None => open_store(&config).await?,
    };
    let node = Node::start(Arc::new(config), Arc::clone(&store), shutdown.clone())?;
    let canary = Arc::clone(&node.canary);
    let served = node.serve(listener, metrics, told_to_end).await;
    if let Some(damage) = canary.condemned() {
        store.condemn(&damage).await?;
        return Err(damage.into());
    }
    store.close().await;
    match canary.closed() {
        Some(error) => Err(error.into()),
        None => served,
    }
}

async fn open_store(config: &Config) -> Result<Arc<dyn LogStore>, Error> {
    match config.engine {
        Engine::Memory => {
            tracing::warn!("the memory engine keeps nothing: everything is gone at the end of the process");
            Ok(Arc::new(MemoryStore::new(StoreId::from(host::random::id()))))
        }
        Engine::Embedded => {
            let (folder, refill_damaged) = (config.data_dir.join("log"), config.refill_damaged);
            let bounds =
                embedded::Config { segment_bytes: config.segment_bytes, ..embedded::Config::default() };
            let open = move || open_embedded(&folder, &bounds, refill_damaged);
            let opened = tokio::task::spawn_blocking(open).await;
            let store = opened.map_err(|error| Error::Serve(io::Error::other(error)))??;
            Ok(store)
        }
    }
}

/// Opens the store. A damaged one is never served: it is set aside, whole, and the node begins with an empty
/// one, under another id, which is filled from the homes of its partitions.
fn open_embedded(
    folder: &Path,
    bounds: &embedded::Config,
    refill_damaged: bool,
) -> Result<Arc<EmbeddedStore>, StoreError> {
    let damaged = match EmbeddedStore::open(folder, bounds.clone()) {
        Err(error @ StoreError::Damaged { .. }) if refill_damaged => error,
        opened => return opened,
    };
    let aside = folder.with_file_name(format!("log.damaged-{}", clock::wall_ms()));
    let failed = |error: io::Error| StoreError::Io {
        what: "cannot set aside",
        file: folder.to_string_lossy().into(),
        error: error.to_string().into(),
    };
    std::fs::rename(folder, &aside).map_err(failed)?;
    tracing::error!(
        error = %damaged, aside = %aside.display(),
        "THE STORE IS DAMAGED: it is set aside, and this node is filled anew; archives in it are not salvaged"
    );
    metrics::counter!("hearth_damaged_stores_total").increment(1);
    EmbeddedStore::open(folder, bounds.clone())
}

/// A node whose tasks run.
struct Node {
    parts: Parts,
    canary: Arc<StoreCanary>,
    edge: Edge,
    hand_over: HandOver,
    grpc: NodeService,
    salvage: SalvageService,
    canaries: CanaryService,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    fn start(
        config: Arc<Config>,
        store: Arc<dyn LogStore>,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let directory = Directory::new(&config.directory)?;
        let view = Arc::<PlacementView>::default();
        let readiness = Arc::<Readiness>::default();
        // What a home has not told yet is not known: bodies stay until it does.
        store.note_replicated(Replicated::nothing());
        let identity = Arc::new(Identity::new(config.node.clone()));
        let pins: Arc<dyn Pins> = Arc::new(DirectoryPins::new(directory.clone()));
        let names: Arc<dyn Names> = Arc::new(DirectoryNames(directory.clone()));
        let (lease_sender, leases) = watch::channel(None);
        let followers = Followers::new(Arc::clone(&store), shutdown.clone());
        let home_router = Arc::<HomeRouter>::default();
        let home_deps = HomeDeps {
            config: Arc::clone(&config),
            store: Arc::clone(&store),
            view: Arc::clone(&view),
            pins: Arc::clone(&pins),
            earlier: home_router.clone(),
            carrier: home_router.clone(),
            directory: directory.clone(),
            leases: leases.clone(),
            followers: Arc::clone(&followers),
            identity: Arc::clone(&identity),
        };
        let (homes, mut tasks) = NodeHomes::spawn(home_deps, &shutdown);
        followers.set_homes(Arc::clone(&homes));
        let replicas = NodeReplicas {
            store: Arc::clone(&store),
            open: Arc::clone(homes.open()),
            followers: Arc::clone(&followers),
            view: Arc::clone(&view),
            identity: Arc::clone(&identity),
        };
        let canary = StoreCanary::spawn(Arc::clone(&store), Arc::clone(&readiness), shutdown.clone());
        let observer = Observer::new(config.node.clone(), config.region.clone(), config.canary_interval_ms);
        let observer = Arc::new(Mutex::new(observer));
        let watcher = Watcher {
            config: Arc::clone(&config),
            view: Arc::clone(&view),
            identity: Arc::clone(&identity),
            observer: Arc::clone(&observer),
        };
        tasks.push(tokio::spawn(watcher.run(shutdown.clone())));
        let canaries = CanaryService::new(Arc::clone(&homes), Arc::clone(&identity), leases.clone());
        let registration = Registration {
            config: Arc::clone(&config),
            directory: directory.clone(),
            store: Arc::clone(&store),
            identity: Arc::clone(&identity),
            readiness: Arc::clone(&readiness),
            canary: Arc::clone(&canary),
            observer,
            leases: lease_sender,
        };
        tasks.push(tokio::spawn(registration.run(shutdown.clone())));
        let archives = Archives { store: Arc::clone(&store) };
        let reclaimer = Reclaimer {
            config: Arc::clone(&config),
            archives: archives.clone(),
            open: Arc::clone(homes.open()),
            followers: Arc::clone(&followers),
            view: Arc::clone(&view),
        };
        tasks.push(tokio::spawn(reclaimer.run(shutdown.clone())));
        let hand_over = HandOver {
            config: Arc::clone(&config),
            directory: directory.clone(),
            identity: Arc::clone(&identity),
        };
        let watch = watch_placement(directory, Arc::clone(&view), Arc::clone(&readiness), shutdown.clone());
        tasks.push(tokio::spawn(watch));
        let parts = Parts {
            config: Arc::clone(&config),
            view: Arc::clone(&view),
            homes: homes.clone(),
            replicas: Arc::new(replicas),
            pins,
            names,
            readiness: Arc::clone(&readiness),
            identity: Arc::clone(&identity),
            shutdown: shutdown.clone(),
        };
        let edge = Edge::start(parts.clone());
        let refill_bytes_per_s = config.refill_bytes_per_s;
        home_router.route_by(edge.router().clone());
        let status = StatusBoard {
            config,
            identity: Arc::clone(&identity),
            readiness,
            leases,
            homes: Arc::clone(&homes),
            followers: Arc::clone(&followers),
            archives: archives.clone(),
            store: Arc::clone(&store),
            edge: edge.clone(),
        };
        let salvage = SalvageService { archives, homes: Arc::clone(&homes), identity: Arc::clone(&identity) };
        let fetches = Fetches::new(homes, store, view, identity, refill_bytes_per_s, shutdown);
        let peer: Arc<dyn PeerService> = Arc::new(edge.clone());
        Ok(Self {
            grpc: NodeService { peer, fetches, followers, status },
            salvage,
            canaries,
            parts,
            canary,
            edge,
            hand_over,
            tasks,
        })
    }

    async fn serve(
        self,
        listener: Listener,
        metrics: PrometheusHandle,
        told_to_end: CancellationToken,
    ) -> Result<(), Error> {
        let Self { parts, canary, edge, hand_over, grpc, salvage, canaries, tasks } = self;
        let shutdown = parts.shutdown.clone();
        let rehoming = grpc.rehoming();
        let app = tonic::service::Routes::new(grpc.into_server())
            .add_service(salvage.into_server())
            .add_service(rehoming)
            .add_service(CanariesServer::new(canaries))
            .into_axum_router()
            .merge(edge.routes())
            .merge(health::router(Arc::clone(&parts.readiness), metrics.clone()))
            .into_make_service_with_connect_info::<Connection>();
        let upkeep = async move {
            let mut due = interval(METRICS_UPKEEP);
            loop {
                due.tick().await;
                metrics.run_upkeep();
            }
        };
        let (leaving, stop) = (edge.clone(), shutdown.clone());
        let readiness = Arc::clone(&parts.readiness);
        let _leaving = AbortOnDropHandle::new(tokio::spawn(async move {
            let step_down = async {
                canary.damaged().await;
                hand_over.step_down().await;
                true
            };
            let given_away = tokio::select! {
                given_away = step_down => {
                    readiness.leave();
                    given_away
                }
                () = told_to_end.cancelled() => {
                    // Sessions that stay meanwhile are served on; new ones go elsewhere.
                    readiness.leave();
                    hand_over.run().await
                }
            };
            if given_away {
                canary.condemn();
            }
            leaving.leave().await;
            stop.cancel();
        }));
        let stopped = shutdown.clone().cancelled_owned();
        let overdue = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN_GRACE).await;
        };
        let served = tokio::select! {
            served = axum::serve(EdgeListener::new(listener), app).with_graceful_shutdown(stopped) => served,
            () = upkeep => Ok(()),
            () = overdue => Ok(()),
        };
        shutdown.cancel();
        for task in tasks {
            // A task that panicked has said so.
            let _ = task.await;
        }
        Ok(served?)
    }
}
