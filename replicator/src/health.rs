//! `/healthz`, `/readyz` and `/metrics`.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;
use types::{NodeId, Placement, RegionId};

/// What readiness is told by.
#[derive(Debug)]
pub(crate) struct Health {
    region: RegionId,
    placement: watch::Receiver<Arc<Placement>>,
    /// The region's nodes, and whether the stream to each is there.
    connected: Mutex<BTreeMap<NodeId, bool>>,
}

impl Health {
    pub(crate) fn new(region: RegionId, placement: watch::Receiver<Arc<Placement>>) -> Self {
        Self { region, placement, connected: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) fn connected(&self, node: &NodeId, is: bool) {
        self.connected.lock().insert(node.clone(), is);
    }

    /// Why it is not ready; `None` where it is.
    fn missing(&self) -> Option<String> {
        let placement = self.placement.borrow();
        if placement.version() == 0 {
            return Some("the placement is not known".to_owned());
        }
        let connected = self.connected.lock();
        let mut nodes = placement.nodes().filter(|row| row.region == self.region && row.live).peekable();
        if nodes.peek().is_none() {
            return Some(format!("region {} has no live node", self.region));
        }
        let apart = nodes.find(|row| !connected.get(&row.node).copied().unwrap_or(false))?;
        Some(format!("node {} is not connected", apart.node))
    }
}

pub(crate) fn router(health: Arc<Health>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(health)
        .route("/metrics", get(async move || metrics.render()))
}

async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    match health.missing() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
