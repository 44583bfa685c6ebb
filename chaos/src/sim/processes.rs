//! The services' own `run`, with a simulated host under each.

use super::{host::Process, plan::Plan};
use global_directory::kv::Memory;
use log_store::memory::MemoryStore;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use std::{net::IpAddr, sync::Arc};
use types::{NodeId, RegionId};

/// The port of every service.
pub(super) const PORT: u16 = 7_000;

/// Where a service of a host is: `host:port`.
pub(super) fn at(address: IpAddr) -> String {
    format!("{address}:{PORT}")
}

/// A configuration as an operator writes it, so that whatever it does not say has its default.
fn config<C: serde::de::DeserializeOwned>(value: Value) -> C {
    serde_json::from_value(value).expect("the simulation writes right configurations")
}

/// A replica of the directory: the one numbered `replica` of those at `peers`, each in its region.
pub(super) fn directory(replica: usize, peers: &[IpAddr], rows: Arc<Memory>, plan: &Plan) -> Process {
    let listen = at(peers[replica]);
    let peers: Vec<Value> = peers
        .iter()
        .enumerate()
        .map(|(peer, address)| json!({ "replica": peer + 1, "address": at(*address) }))
        .collect();
    let config: global_directory::Config = config(json!({
        "listen": listen,
        "data-dir": "/nowhere",
        "regions": plan.regions,
        "partitions-per-region": plan.partitions_per_region,
        "failback-cooldown-ms": plan.failback_cooldown_ms,
        "replica-id": replica + 1,
        "region": plan.regions[replica],
        "advertise": listen,
        "peers": peers,
    }));
    let deps = global_directory::Deps { rows: Some(rows), ..Default::default() };
    Box::pin(async move { told("directory", global_directory::run(config, deps).await) })
}

/// A node.
pub(super) fn node(
    address: IpAddr,
    node: &NodeId,
    region: &RegionId,
    directories: &[String],
    store: MemoryStore,
) -> Process {
    let config: region_node::Config = config(json!({
        "node": node,
        "region": region,
        "listen": at(address),
        "advertise": at(address),
        "data-dir": "/nowhere",
        "directory": directories,
        "engine": "memory",
        "development": true,
        "canaries": false,
    }));
    let deps = region_node::Deps { store: Some(Arc::new(store)), ..Default::default() };
    Box::pin(async move { told("node", region_node::run(config, deps).await) })
}

/// A region's replicator.
pub(super) fn replicator(address: IpAddr, region: &RegionId, directories: &[String]) -> Process {
    let config: replicator::Config = config(json!({
        "region": region,
        "listen": at(address),
        "directory": directories,
    }));
    let deps = replicator::Deps {
        shutdown: Default::default(),
        metrics: PrometheusBuilder::new().build_recorder().handle(),
    };
    Box::pin(async move { told("replicator", replicator::run(config, deps).await) })
}

/// Nobody stops a process of a simulation but by killing it: one that ends by itself has a reason.
fn told<E: std::fmt::Display>(process: &str, ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::warn!(process, %error, "a process ended");
    }
}
