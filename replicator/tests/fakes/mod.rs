//! Fakes of what a replicator talks to, on loopback: a directory, and nodes that are home or follower.

mod directory;
mod node;
mod proxy;

pub(crate) use directory::FakeDirectory;
pub(crate) use node::{FakeNode, Told};
pub(crate) use proxy::Proxy;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use proto::log::{Entry, Message, Record};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use types::{NodeId, RegionId};

/// The longest wait for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

pub(crate) fn region_id(name: &str) -> RegionId {
    RegionId::new(name).expect("a valid name")
}

/// A record with a message of so many bytes.
pub(crate) fn record(epoch: u64, lsn: u64, bytes: usize) -> Record {
    // Hardly compressible, and other in each epoch.
    let mut state = (lsn << 20) ^ epoch ^ 0x9e37_79b9_7f4a_7c15;
    let ciphertext: Vec<u8> = (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    let body = proto::log::entry::Body::Message(Message { ciphertext: ciphertext.into() });
    let entry = Entry { offset: lsn, sender: "alice".to_owned(), body: Some(body), ..Entry::default() };
    Record { lsn, epoch, body: Some(proto::log::record::Body::Entry(entry)), ..Record::default() }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The one recorder of this process.
pub(crate) fn metrics() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().expect("the only recorder")).clone()
}

/// A replicator that runs until it is dropped, as abruptly as a kill.
pub(crate) struct Replicator {
    pub listen: SocketAddr,
    _task: AbortOnDropHandle<Result<(), replicator::Error>>,
}

pub(crate) fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound")
}

pub(crate) fn start(region: &str, directory: &FakeDirectory, dial: &[(&str, SocketAddr)]) -> Replicator {
    let listen = free_port();
    let config = replicator::Config {
        region: region_id(region),
        listen,
        directory: vec![format!("http://{}", directory.address)],
        dial: dial.iter().map(|(node, at)| (node_id(node), at.to_string())).collect::<BTreeMap<_, _>>(),
    };
    let deps = replicator::Deps { shutdown: CancellationToken::new(), metrics: metrics() };
    Replicator { listen, _task: AbortOnDropHandle::new(tokio::spawn(replicator::run(config, deps))) }
}
