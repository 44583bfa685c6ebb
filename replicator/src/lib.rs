//! The replicator of a region: it fetches partitions from their homes in other regions and feeds them to
//! the followers of its own, and tells the homes what is durable there.
//!
//! ```text
//!    home nodes (other regions)                        follower nodes (this region)
//!      us-east-1 ══ Fetch ══╗                       ╔══ Follow ══▶ eu-west-1
//!                           ╠══ feeder ═════════════╝
//!      ap-south-1 ═ Fetch ══╝     one per follower: a pump for each partition
//! ```
//!
//! Records pass through it as the bytes that the home made and the follower stores; it reads none of them.
//! It keeps nothing: what a follower holds is asked from the follower, and whether that is right from the
//! home. It may be killed at any time, and be wrong about the placement: a home that is none refuses, and
//! a follower's fence refuses for a home that is none any more.
//!
//! - [`pump`] decides, for one partition and one follower; the rest carries messages.
//! - [`feeder`] owns the pumps and streams of one follower, [`link`] opens the streams.
//! - [`salvage`] puts back what followers have archived, beside all that.
//! - [`routes`] and [`placement`] tell from where to fetch.

mod backoff;
#[cfg(feature = "bench")]
pub mod bench;
mod bounds;
mod config;
mod endpoint;
mod feeder;
mod health;
mod link;
mod meters;
mod outbox;
mod placement;
mod pump;
mod region;
mod routes;
mod salvage;
mod wire;

pub use config::Config;

use host::net::Listener;
use metrics_exporter_prometheus::PrometheusHandle;
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use types::Placement;

/// What a replicator is given besides its configuration.
#[derive(Debug, Clone)]
pub struct Deps {
    /// Ends it.
    pub shutdown: CancellationToken,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
}

/// Why a replicator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has mistakes.
    #[error("the configuration has mistakes: {}", .0.join("; "))]
    Config(Vec<String>),
    /// It cannot listen, or not any more.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// Runs a replicator until it is told to shut down.
///
/// # Errors
/// A mistaken configuration, or a port that cannot be had. What happens to peers is never an error.
pub async fn run(config: Config, deps: Deps) -> Result<(), Error> {
    config.validate().map_err(Error::Config)?;
    let address = config.listen;
    let listen = |source| Error::Listen { address, source };
    let listener = Listener::bind(address).await.map_err(listen)?;
    meters::describe();
    let (placement, view) = watch::channel(Arc::new(Placement::default()));
    let health = Arc::new(health::Health::new(config.region.clone(), view.clone()));
    let reach = salvage::Reach {
        directory: Arc::new(config.directory.clone()),
        dial: Arc::new(config.dial),
        placement: view,
    };
    let _watch = AbortOnDropHandle::new(tokio::spawn(placement::watch(config.directory, placement)));
    let feed = region::feed(config.region.clone(), Arc::clone(&health), reach);
    let _feed = AbortOnDropHandle::new(tokio::spawn(feed));
    tracing::info!(region = %config.region, listen = %address, "replicator runs");
    let serving = axum::serve(listener, health::router(health, deps.metrics));
    tokio::select! {
        served = serving.into_future() => served.map_err(listen),
        () = deps.shutdown.cancelled() => Ok(()),
    }
}
