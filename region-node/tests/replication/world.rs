//! Whole nodes on the memory engine, a replicator driven by hand, and a peer that writes.

use crate::directory::{Directory, PARTITION};
use bytes::Bytes;
use log_store::{LogStore, memory::MemoryStore};
use proto::{
    directory as dir, log,
    node::{
        self as wire, fetch_reply, fetch_request, follow_reply, follow_request, peer_reply, peer_request,
    },
};
use region_node::{Config, Deps, Engine};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Streaming, transport::Channel};
use types::{LogId, NodeId, PartitionPosition, RegionId, StoreId, UserId, limits};

/// The longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type NodeClient = wire::node_client::NodeClient<Channel>;

pub(crate) struct TestNode {
    pub(crate) name: NodeId,
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) client: NodeClient,
    _running: DropGuard,
}

impl TestNode {
    pub(crate) async fn start(letter: char, directory: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let name = NodeId::new(&format!("node-{letter}")).expect("a valid name");
        let config = Config {
            node: name.clone(),
            region: RegionId::new(&format!("region-{letter}")).expect("a valid name"),
            listen: address,
            advertise: address.to_string(),
            data_dir: "unused".into(),
            directory: vec![format!("http://{directory}")],
            engine: Engine::Memory,
            ..serde_json::from_value(serde_json::json!({
                "node": "x", "region": "x", "listen": "127.0.0.1:1", "advertise": "x:1",
                "data-dir": "x", "directory": [],
            }))
            .expect("the defaults")
        };
        let store = Arc::new(MemoryStore::new(StoreId::from_bytes([letter as u8; 16])));
        let shutdown = CancellationToken::new();
        let deps = Deps {
            shutdown: shutdown.clone(),
            listener: Some(listener),
            store: Some(store.clone() as Arc<dyn LogStore>),
        };
        tokio::spawn(region_node::run(config, deps));
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("a URI");
        let client = NodeClient::new(endpoint.connect_lazy());
        Self { name, address, store, client, _running: shutdown.drop_guard() }
    }

    pub(crate) async fn status(&self) -> wire::StatusReply {
        let request = wire::StatusRequest { partitions: true };
        self.client.clone().status(request).await.expect("a status").into_inner()
    }

    /// The partition as this node sees it; `None` where it does not hold it.
    pub(crate) async fn partition(&self) -> Option<wire::PartitionStatus> {
        let status = self.status().await;
        status.partitions.into_iter().find(|status| status.partition == PARTITION.get())
    }

    pub(crate) async fn end(&self) -> PartitionPosition {
        self.store.end(PARTITION).await.expect("the end").last
    }
}

/// Waits until `holds` does.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}

pub(crate) fn chat() -> LogId {
    LogId::direct(&UserId::new("alice").expect("a name"), &UserId::new("bob").expect("a name"))
}

fn account() -> LogId {
    LogId::account(&UserId::new("alice").expect("a name"))
}

/// A peer that writes as alice.
pub(crate) struct Peer {
    requests: mpsc::Sender<wire::PeerRequest>,
    replies: Streaming<wire::PeerReply>,
}

impl Peer {
    pub(crate) async fn connect(node: &TestNode) -> Self {
        let (requests, outgoing) = mpsc::channel(16);
        let hello = wire::PeerHello {
            protocol_version: limits::NODE_PROTOCOL_VERSION,
            node: "node-x".to_owned(),
            incarnation: 1,
            region: "region-b".to_owned(),
        };
        let hello = peer_request::Request::Hello(hello);
        requests.send(wire::PeerRequest { request_id: 0, request: Some(hello) }).await.expect("open");
        let replies = node.client.clone().peer(ReceiverStream::new(outgoing)).await.expect("a stream");
        Self { requests, replies: replies.into_inner() }
    }

    pub(crate) async fn write(&self, id: u64, body: wire::append::Body, ack: log::AckPolicy) {
        self.write_to(chat(), id, body, ack).await;
    }

    async fn write_to(&self, to: LogId, id: u64, body: wire::append::Body, ack: log::AckPolicy) {
        let append = wire::Append {
            log: Bytes::copy_from_slice(&to.to_bytes()),
            partition: PARTITION.get(),
            generation: 1,
            sender: "alice".to_owned(),
            device: 1,
            message_id: Bytes::copy_from_slice(&u128::from(id).to_be_bytes()),
            body: Some(body),
            ack: ack.into(),
            deadline_ms: 5_000,
            ..wire::Append::default()
        };
        let request = Some(peer_request::Request::Append(append));
        self.requests.send(wire::PeerRequest { request_id: id, request }).await.expect("open");
    }

    pub(crate) async fn send(&self, id: u64, ack: log::AckPolicy) {
        let body = wire::append::Body::Message(log::Message { ciphertext: Bytes::from(id.to_string()) });
        self.write(id, body, ack).await;
    }

    pub(crate) async fn create(&self, id: u64) {
        let member = |user: &str| log::Member {
            user: user.to_owned(),
            role: log::Role::Member.into(),
            ..log::Member::default()
        };
        let created = log::Created {
            members: vec![member("alice"), member("bob")],
            ack_policy: log::AckPolicy::Home.into(),
            allowed_regions: vec![],
        };
        self.write(id, wire::append::Body::Created(created), log::AckPolicy::Home).await;
    }

    /// Sees that alice's account never begins.
    pub(crate) async fn void_account(&self, id: u64) {
        let change = log::account_change::Change::Voided(log::AccountVoided {});
        let body = wire::append::Body::Account(log::AccountChange { change: Some(change) });
        self.write_to(account(), id, body, log::AckPolicy::Replicated).await;
    }

    /// Asks what alice's account is.
    pub(crate) async fn read_account(&self, id: u64, any_copy: bool) {
        let read = wire::ReadAccount {
            log: Bytes::copy_from_slice(&account().to_bytes()),
            partition: PARTITION.get(),
            any_copy,
            brief: true,
        };
        let request = Some(peer_request::Request::ReadAccount(read));
        self.requests.send(wire::PeerRequest { request_id: id, request }).await.expect("open");
    }

    /// Asks what a position of the chat is.
    pub(crate) async fn locate(&self, id: u64, epoch: u64, offset: u64) {
        let locate = wire::Locate {
            log: Bytes::copy_from_slice(&chat().to_bytes()),
            partition: PARTITION.get(),
            user: "alice".to_owned(),
            position: Some(log::Position { generation: 1, epoch, offset }),
            any_copy: false,
        };
        let request = Some(peer_request::Request::Locate(locate));
        self.requests.send(wire::PeerRequest { request_id: id, request }).await.expect("open");
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> (u64, peer_reply::Reply) {
        loop {
            let reply = timeout(PATIENCE, self.replies.message()).await.expect("an answer in time");
            let reply = reply.expect("the stream holds").expect("the stream goes on");
            if reply.request_id > 0 {
                return (reply.request_id, reply.reply.expect("an answer"));
            }
        }
    }

    pub(crate) async fn acked(&mut self) -> wire::Appended {
        match self.answer().await {
            (_, peer_reply::Reply::Appended(appended)) => appended,
            other => panic!("not acked: {other:?}"),
        }
    }
}

/// A replicator for one partition, from one home to one follower. Ends when dropped.
pub(crate) struct Pump(tokio::task::JoinHandle<()>);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pump {
    pub(crate) fn start(home: &TestNode, follower: &TestNode, directory: &Directory) -> Self {
        let replica = directory.replica(&follower.name).expect("registered");
        let (home, follower) = (home.client.clone(), follower.client.clone());
        Self(tokio::spawn(async move {
            loop {
                pump(home.clone(), follower.clone(), (&replica).into()).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
    }
}

async fn pump(mut home: NodeClient, mut follower: NodeClient, replica: dir::Replica) -> Option<()> {
    let (follow, outgoing) = mpsc::channel(64);
    follow.send(say(0, probe())).await.ok()?;
    let mut answers = follower.follow(ReceiverStream::new(outgoing)).await.ok()?.into_inner();
    let (fetch, outgoing) = mpsc::channel(64);
    let hello = wire::FetchHello {
        protocol_version: limits::NODE_PROTOCOL_VERSION,
        follower: Some(replica),
        region: "region-b".to_owned(),
    };
    fetch.send(wire::FetchRequest { request: Some(fetch_request::Request::Hello(hello)) }).await.ok()?;
    let mut batches = home.fetch(ReceiverStream::new(outgoing)).await.ok()?.into_inner();
    let mut restart = true;
    loop {
        tokio::select! {
            answer = answers.message() => {
                let answer = answer.ok()??;
                restart |= !matches!(answer.outcome, Some(follow_reply::Outcome::Done(_)));
                let request = wire::Fetch {
                    partition: PARTITION.get(),
                    epoch: answer.fence,
                    last: answer.last,
                    credit_bytes: 1 << 20,
                    restart,
                };
                restart = false;
                let request = fetch_request::Request::Fetch(request);
                fetch.send(wire::FetchRequest { request: Some(request) }).await.ok()?;
            }
            batch = batches.message() => {
                let reply = batch.ok()??;
                let request = match reply.reply? {
                    fetch_reply::Reply::Batch(batch) => {
                        restart |= batch.end.is_none();
                        follow_request::Request::Batch(batch)
                    }
                    fetch_reply::Reply::Diverged(diverged) => {
                        restart = true;
                        follow_request::Request::Diverged(diverged)
                    }
                    fetch_reply::Reply::Hello(_) => continue,
                    _ => return None,
                };
                follow.send(say(reply.epoch, request)).await.ok()?;
            }
        }
    }
}

fn probe() -> follow_request::Request {
    follow_request::Request::Probe(wire::FollowProbe {})
}

fn say(epoch: u64, request: follow_request::Request) -> wire::FollowRequest {
    wire::FollowRequest { partition: PARTITION.get(), epoch, request: Some(request) }
}
