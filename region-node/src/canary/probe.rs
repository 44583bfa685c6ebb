//! Sends canaries, and tells the observer how they fared. Decides nothing.

use super::Observer;
use crate::{Config, PlacementView, clock::boot_ms, ready::Identity};
use host::net::Connector;
use parking_lot::Mutex;
use proto::node::{CanaryRequest, canaries_client::CanariesClient};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Endpoint};
use types::{Home, limits};

/// Canaries of one node that are under way at a time.
const UNDER_WAY_MAX: usize = 4_096;

/// Watches nodes of other regions.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) config: Arc<Config>,
    pub(crate) view: Arc<PlacementView>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) observer: Arc<Mutex<Observer>>,
}

/// How a canary fared.
enum Fared {
    Acked,
    Failed,
    /// It says nothing of writes.
    Unknown,
}

impl Watcher {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        if !self.config.canaries {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.watch() => {}
        }
    }

    async fn watch(&self) {
        let mut under_way = JoinSet::new();
        let mut due = interval(Duration::from_millis(self.config.canary_interval_ms));
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = due.tick() => {
                    // A node that is not registered tells the directory nothing.
                    if self.identity.incarnation().get() > 0 {
                        self.send(&mut under_way);
                    }
                }
                Some(_) = under_way.join_next() => {}
            }
        }
    }

    fn send(&self, under_way: &mut JoinSet<()>) {
        let placement = self.view.load();
        let targets = self.observer.lock().look(boot_ms(), &placement);
        for boot in targets {
            let Some(node) = placement.node(&boot.node) else { continue };
            if under_way.len() >= UNDER_WAY_MAX {
                break;
            }
            let address = self.config.dial.get(&boot.node).unwrap_or(&node.address).clone();
            let patience = Duration::from_millis(self.config.canary_timeout_ms);
            let (observer, sent_ms) = (Arc::clone(&self.observer), boot_ms());
            under_way.spawn(async move {
                let fared = match timeout(patience, sing(&address, &boot)).await {
                    Ok(Ok(())) => Fared::Acked,
                    Ok(Err(status)) => fared(&boot, &status),
                    Err(_) => Fared::Failed,
                };
                match fared {
                    Fared::Acked => observer.lock().acked(&boot, sent_ms),
                    Fared::Failed => observer.lock().failed(&boot, sent_ms),
                    Fared::Unknown => {}
                }
                let outcome = match fared {
                    Fared::Acked => "acked",
                    Fared::Failed => "failed",
                    Fared::Unknown => "unknown",
                };
                metrics::counter!("hearth_canaries_total", "outcome" => outcome).increment(1);
            });
        }
    }
}

fn fared(boot: &Home, status: &Status) -> Fared {
    tracing::debug!(node = %boot.node, %status, "a canary was not acked");
    match status.code() {
        // The placement here is behind, or the node is older than canaries.
        Code::FailedPrecondition | Code::ResourceExhausted | Code::Unimplemented => Fared::Unknown,
        _ => Fared::Failed,
    }
}

/// On a connection of its own, as a client that comes now: one that was kept might work where no new one does.
async fn sing(address: &str, boot: &Home) -> Result<(), Status> {
    let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
    let channel = endpoint.connect_with_connector(Connector).await.map_err(unreachable)?;
    let request = CanaryRequest {
        protocol_version: limits::NODE_PROTOCOL_VERSION,
        node: boot.node.to_string(),
        incarnation: boot.incarnation.get(),
    };
    CanariesClient::new(channel).sing(request).await.map(drop)
}
