//! The global directory: which node is home of which partition, and which partition holds which log.
//!
//! No message passes here. Nodes register, renew their leases, pin logs and propose in-sync sets; the
//! controller gives partitions their homes and, when a region falls silent, the next ones.
//!
//! ```text
//!   gRPC (grpc) ──▶ engine: writer, one thread, groups commands ──▶ kv: redb, one fsync per group
//!     │  (forward:       or raft, a replica of a group, ditto         (memory in tests)
//!     │   to the leader)  │ command::execute, pure
//!     ▼                   ▼ publish
//!   state: committed placement + stamps of leases ◀── look ── driver ◀──▶ controller, pure
//!     │                                                         │
//!     └─▶ watch: changes to nodes and replicators               └─▶ fence: Node.Fence
//! ```
//!
//! What decides is pure: [`command`], [`controller`], [`lease`]; [`invariants`] says what must be true after
//! every command. Only the rows are durable. A restarted directory has forgotten when it heard from whom, so
//! it presumes that everyone renewed just now, and waits that much longer before it judges anyone.

pub mod bounds;
mod channel;
mod clock;
pub mod command;
mod config;
pub mod controller;
mod driver;
mod engine;
mod failover;
mod fence;
mod forward;
mod grpc;
mod http;
pub mod invariants;
pub mod kv;
pub mod lease;
mod movers;
pub mod observations;
mod raft;
mod random;
mod rehoming;
mod rendezvous;
mod retiring;
pub mod rows;
#[cfg(test)]
mod simulation;
mod state;
mod status;
#[cfg(test)]
mod testing;
mod watch;
mod writer;

pub use config::{Config, Peer};
pub use raft::{IdentityError, OpenError, ReplicaId};

use command::DeploymentError;
use controller::Follows;
use driver::Driver;
use engine::Engine;
use failover::Policy;
use grpc::{Facts, Service, homes, names};
use host::net::Listener;
use kv::{Embedded, Kv};
use metrics_exporter_prometheus::PrometheusHandle;
use movers::Movers;
use parking_lot::Mutex;
use raft::{Group, Server};
use rehoming::Rehoming;
use state::State;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use types::Placement;
use writer::{Writer, Writing};

/// What a directory process is given by the one who runs it.
#[derive(Debug, Clone, Default)]
pub struct Deps {
    /// Ends it.
    pub shutdown: CancellationToken,
    /// What `/metrics` shows; the recorder is one per process, so whoever owns the process installs it.
    pub metrics: Option<PrometheusHandle>,
    /// Its rows, if their store is open already; the configuration's `data-dir` otherwise.
    pub rows: Option<Arc<dyn Kv>>,
}

/// Why a directory did not start, or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error("the directory's configuration is wrong: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The folder of its rows cannot be made.
    #[error("cannot make the directory's folder {path}: {source}")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot listen.
    #[error("the directory cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The rows belong to another deployment, or cannot be read.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The replica cannot take part in its group.
    #[error(transparent)]
    Replica(#[from] OpenError),
    /// The rows cannot be read or written any more.
    #[error(transparent)]
    Store(#[from] kv::Error),
    /// Something that the process needs from its system was refused.
    #[error("the directory {what}: {source}")]
    System {
        /// What failed.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Runs a directory until `deps.shutdown`, or until its store fails. It is ready when it listens.
///
/// # Errors
/// [`Error`] when it cannot start, or had to stop.
pub async fn run(config: Config, deps: Deps) -> Result<(), Error> {
    let address = config.listen;
    let listen = |source| Error::Listen { address, source };
    let listener = Listener::bind(address).await.map_err(listen)?;
    run_on(listener, config, deps).await
}

/// [`run`] on a port that is open already; connections wait until the rows have been read.
///
/// # Errors
/// [`Error`] when it cannot start, or had to stop.
pub async fn run_on(listener: impl Into<Listener>, config: Config, deps: Deps) -> Result<(), Error> {
    config.validate().map_err(Error::Config)?;
    let kv = match deps.rows.clone() {
        Some(rows) => rows,
        None => open_store(&config)?,
    };
    // Whatever ends one part ends all; the caller's token stays its own.
    let stop = deps.shutdown.child_token();
    let Opened { state, engine, consensus, writing } = open(kv.clone(), &config, &stop).await?;
    let (movers, desk) = Movers::new(engine.clone(), config.dial.clone());
    let driver = Driver {
        state: state.clone(),
        engine: engine.clone(),
        deployment: config.deployment(),
        policy: Policy { wanted: config.automatic_failover },
        settings: config.controller(),
        dial: config.dial.clone(),
        movers,
        retiring: retiring::Retiring::default(),
        futile: parking_lot::Mutex::default(),
        shutdown: stop.clone(),
    };
    let rehoming = Rehoming {
        state: state.clone(),
        engine: engine.clone(),
        kv: kv.clone(),
        dial: config.dial.clone(),
        shutdown: stop.clone(),
    };
    let facts = Facts {
        lease_ttl_ms: config.lease_ttl_ms,
        renew_interval_ms: config.renew_interval_ms,
        settings: config.controller(),
        dial: config.dial.clone(),
    };
    let homes = homes::Service {
        state: state.clone(),
        engine: engine.clone(),
        kv: kv.clone(),
        follows: Mutex::new(Follows::new(config.following())),
    };
    let names = names::Service { engine: engine.clone(), kv: kv.clone() };
    let service = Service::new(state.clone(), engine.clone(), kv, facts, desk, stop.clone());
    let driving = tokio::spawn(driver.run());
    let rehomings = tokio::spawn(rehoming.run());
    let deps = Deps { shutdown: stop.clone(), ..deps };
    let serving = http::serve(listener.into(), service, (homes, names), (engine, consensus), state, deps);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        () = stop.cancelled() => {
            let grace = Duration::from_millis(bounds::SHUTDOWN_MS);
            tokio::time::timeout(grace, serving).await.unwrap_or(Ok(()))
        }
    };
    stop.cancel();
    let _stopped = (driving.await, rehomings.await);
    finish(writing).await?;
    served.map_err(|source| Error::System { what: "cannot serve", source })
}

/// What a directory's parts are made of.
struct Opened {
    state: Arc<State>,
    engine: Engine,
    consensus: Option<Server>,
    writing: Writing,
}

/// Opens the rows: alone, or as a replica.
async fn open(kv: Arc<dyn Kv>, config: &Config, stop: &CancellationToken) -> Result<Opened, Error> {
    let view = open_rows(&*kv, config)?;
    announce(config, &view);
    let state = Arc::new(State::new(view, u64::from(config.lease_ttl_ms), clock::boot_ms()));
    let Some(settings) = config.replica() else {
        let (writer, writing) = Writer::start(kv, state.clone(), stop.clone())
            .map_err(|source| Error::System { what: "cannot start a thread", source })?;
        let engine = Engine::One { writer, state: state.clone() };
        return Ok(Opened { state, engine, consensus: None, writing });
    };
    let (group, server) = Group::open(kv, state.clone(), settings, stop.clone()).await?;
    let (member, stop) = (group.clone(), stop.clone());
    let writing = Writing::Task(tokio::spawn(async move {
        let ended = tokio::select! {
            ended = member.ended() => ended,
            () = stop.cancelled() => None,
        };
        // Without its log a replica is of no use.
        let _stopping = stop.drop_guard();
        member.shutdown().await;
        match ended {
            Some(why) => Err(kv::Error::Engine { what: "replicate", why }),
            None => Ok(()),
        }
    }));
    Ok(Opened { state, engine: Engine::Group(group), consensus: Some(server), writing })
}

fn open_store(config: &Config) -> Result<Arc<dyn Kv>, Error> {
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|source| Error::DataDir { path: config.data_dir.clone(), source })?;
    Ok(Arc::new(Embedded::open(&config.data_dir.join("directory.redb"))?))
}

/// The writer ends once nobody can ask it any more; a store that failed is the reason to tell.
async fn finish(writing: Writing) -> Result<(), Error> {
    let grace = Duration::from_millis(bounds::SHUTDOWN_MS);
    match tokio::time::timeout(grace, writing.ended()).await {
        Ok(Some(ended)) => Ok(ended?),
        Ok(None) => {
            Err(Error::System { what: "writer has panicked", source: io::Error::other("see the log") })
        }
        // A connection that would not end still holds a handle; every answered command is durable.
        Err(_) => Ok(()),
    }
}

fn open_rows(kv: &dyn Kv, config: &Config) -> Result<Placement, Error> {
    let is_replica = raft::is_a_replica(kv)?;
    if is_replica && config.replica_id.is_none() {
        return Err(Error::Config(vec!["data-dir belongs to a replica: replica-id is missing".into()]));
    }
    let mut view = Placement::default();
    kv.read(&mut |tx| {
        view = rows::placement(tx)?;
        Ok(())
    })?;
    // The rows of a group are born by its log; here they can only be checked.
    if config.replica_id.is_some() && view.version() == 0 {
        return Ok(view);
    }
    let mut founded = Ok(false);
    let committed = kv.write(&mut |tx| {
        founded = command::found(tx, &config.deployment(), clock::wall_ms());
        Ok(())
    });
    let is_born = founded?;
    committed?;
    if is_born {
        tracing::info!(regions = config.regions.len(), "a deployment is born");
        kv.read(&mut |tx| {
            view = rows::placement(tx)?;
            Ok(())
        })?;
    }
    Ok(view)
}

/// Says loudly what this deployment does not do.
fn announce(config: &Config, view: &Placement) {
    tracing::info!(
        listen = %config.listen,
        placement_version = view.version(),
        partitions = view.partitions().count(),
        "the directory starts"
    );
    match (config.replica_id, config.automatic_failover) {
        (Some(replica), _) => tracing::info!(replica, join = config.join, "it is a replica of a group"),
        (None, Some(true)) => tracing::warn!(
            voters = 1,
            "automatic failover is ON with ONE directory voter: where the directory is cut off from a region that \
             works, it moves that region's homes; while the directory is down, nothing fails over, nothing is \
             pinned, and leases end"
        ),
        (None, _) => tracing::warn!(
            voters = 1,
            "automatic failover is OFF: it needs three directory voters in three failure domains, and there is one; \
             a region that falls silent keeps its homes until it is back (automatic-failover = true turns it on)"
        ),
    }
    if config.regions.len() == 1 {
        tracing::warn!(
            region = %config.regions[0],
            "this deployment has ONE region: nothing is ever replicated, and control changes are acked at home"
        );
    }
}
