//! The streams that this node keeps open to the others.
//!
//! One task per other node dials, says hello, hands answers to those who asked and bus events to
//! delivery, and dials again, with a growing pause, when the stream breaks. Each stream that comes up is
//! a new [`Channel`]; a request goes out on one channel or not at all, and when that breaks its asker is
//! told so. The bytes that wait and the number of the unanswered are bounded.

use crate::{
    Config, PlacementView,
    bus::{BusEvent, BusSink, Published},
    live,
    ready::Identity,
    reply::Outcome,
};
use futures_util::StreamExt;
use host::net::Connector;
use parking_lot::Mutex;
use prost::Message as _;
use proto::{
    node::{self, PeerReply, PeerRequest, node_client::NodeClient, peer_reply::Reply, peer_request::Request},
    outbox::{Outbox, Queue, outbox},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use types::{Epoch, Generation, NodeId, PartitionId, Record, Retirement, limits};

/// Bytes of requests that wait to be sent to one peer.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// Replies that are taken in one go.
const REPLIES_MAX: usize = 256;
/// Requests to one peer that are unanswered at a time.
const UNANSWERED_MAX: usize = 65_536;
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A peer that answers no ping for this long is taken for unreachable.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// One stream to one peer, from coming up to breaking. Numbered from 1; 0 is this node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Channel(pub(crate) u64);

impl Channel {
    pub(crate) const HERE: Self = Self(0);
}

/// The request did not leave this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotSent {
    #[error("there is no stream to the peer")]
    Down,
    #[error("too much is under way to the peer")]
    Full,
}

/// The streams to all other nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Arc<Config>,
    view: Arc<PlacementView>,
    identity: Arc<Identity>,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
    changes: watch::Sender<u64>,
    bus: OnceLock<BusSink>,
}

#[derive(Debug, Default)]
struct Link {
    live: Mutex<Option<Live>>,
}

/// What a peer answered; the error tells that the stream broke first.
pub(crate) type Answer = Result<Reply, StreamBroke>;

/// The stream broke before the answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream to the peer broke")]
pub(crate) struct StreamBroke;

impl Outcome for Answer {
    fn unanswered() -> Self {
        Err(StreamBroke)
    }
}

#[derive(Debug)]
struct Live {
    channel: Channel,
    next_id: u64,
    requests: Outbox<Requests>,
    unanswered: HashMap<u64, crate::reply::Reply<Answer>>,
}

/// Requests that the connection has not taken.
#[derive(Debug, Default)]
struct Requests {
    queue: VecDeque<(PeerRequest, usize)>,
    bytes: usize,
}

impl Requests {
    /// Puts a request behind the others, if there is room.
    fn push(&mut self, request: PeerRequest) -> Result<(), NotSent> {
        let bytes = request.encoded_len();
        if self.bytes + bytes > QUEUE_BYTES {
            return Err(NotSent::Full);
        }
        self.bytes += bytes;
        self.queue.push_back((request, bytes));
        Ok(())
    }
}

impl Queue for Requests {
    type Item = PeerRequest;

    fn pop(&mut self) -> Option<PeerRequest> {
        let (request, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        Some(request)
    }
}

impl Peers {
    /// Peers that are not dialled yet.
    pub(crate) fn new(config: Arc<Config>, view: Arc<PlacementView>, identity: Arc<Identity>) -> Self {
        Self(Arc::new(Shared {
            config,
            view,
            identity,
            links: Mutex::default(),
            changes: watch::Sender::new(0),
            bus: OnceLock::new(),
        }))
    }

    /// Sends the events of the bus to `sink`; once, before [`Peers::run`].
    pub(crate) fn deliver_to(&self, sink: BusSink) {
        let _ = self.0.bus.set(sink);
    }

    /// Keeps a stream to every other node of the placement until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut versions = self.0.view.versions();
        loop {
            for node in self.0.view.load().nodes() {
                if node.node != self.0.config.node && node.retirement != Retirement::Retired {
                    self.ensure(&node.node, &shutdown);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = versions.changed() => if changed.is_err() { return },
            }
        }
    }

    fn ensure(&self, node: &NodeId, shutdown: &CancellationToken) {
        let mut links = self.0.links.lock();
        if links.contains_key(node) {
            return;
        }
        let link = Arc::new(Link::default());
        links.insert(node.clone(), Arc::clone(&link));
        let keep = keep(Arc::clone(&self.0), node.clone(), link);
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = keep => {}
            }
        });
    }

    /// Tells of every stream that came up or broke.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The stream to a node that is up now.
    pub(crate) fn channel(&self, node: &NodeId) -> Option<Channel> {
        let link = self.0.links.lock().get(node).map(Arc::clone)?;
        link.live.lock().as_ref().map(|live| live.channel)
    }

    /// Sends a request on whatever stream is up. The receiver fails when the stream breaks first. Requests
    /// leave in the order of the calls.
    pub(crate) fn ask(
        &self,
        node: &NodeId,
        channel: Option<Channel>,
        request: Request,
    ) -> Result<oneshot::Receiver<Reply>, NotSent> {
        let (sender, receiver) = oneshot::channel();
        let take = move |answer: Answer| {
            if let Ok(reply) = answer {
                // Whoever no longer waits does not want to know.
                let _ = sender.send(reply);
            }
        };
        self.ask_then(node, channel, request, crate::reply::Reply::new(take))?;
        Ok(receiver)
    }

    /// The same, with a reply that takes the answer; it gets nothing where the request was not sent.
    pub(crate) fn ask_then(
        &self,
        node: &NodeId,
        channel: Option<Channel>,
        request: Request,
        reply: crate::reply::Reply<Answer>,
    ) -> Result<(), NotSent> {
        let link = self.0.links.lock().get(node).map(Arc::clone);
        let mut live = link.as_ref().map(|link| link.live.lock());
        let live = live.as_mut().and_then(|live| live.as_mut());
        match live.filter(|live| channel.is_none_or(|it| it == live.channel)) {
            Some(live) => live.ask(request, reply),
            None => {
                reply.forget();
                Err(NotSent::Down)
            }
        }
    }

    /// Sends what needs no answer; lost where the stream is not up, and then it need not be said.
    pub(crate) fn tell(&self, node: &NodeId, channel: Channel, request: Request) {
        let Some(link) = self.0.links.lock().get(node).map(Arc::clone) else { return };
        if let Some(live) = link.live.lock().as_ref().filter(|live| live.channel == channel) {
            let request = PeerRequest { request_id: 0, request: Some(request) };
            let _ = live.requests.with(|requests| requests.push(request));
        }
    }
}

impl Live {
    fn ask(&mut self, request: Request, reply: crate::reply::Reply<Answer>) -> Result<(), NotSent> {
        let request_id = self.next_id;
        let request = PeerRequest { request_id, request: Some(request) };
        let full = self.unanswered.len() >= UNANSWERED_MAX;
        if full || self.requests.with(|requests| requests.push(request)).is_err() {
            reply.forget();
            return Err(NotSent::Full);
        }
        self.next_id += 1;
        self.unanswered.insert(request_id, reply);
        Ok(())
    }
}

/// Dials one node for ever.
async fn keep(shared: Arc<Shared>, node: NodeId, link: Arc<Link>) {
    let mut pause = PAUSE_MIN;
    loop {
        match connect(&shared, &node).await {
            Ok((requests, replies)) => {
                pause = PAUSE_MIN;
                let channel = shared.come_up(&link, requests);
                tracing::info!(peer = %node, channel = channel.0, "the stream to a peer is up");
                let why = shared.receive(&link, replies).await;
                shared.break_down(&link);
                tracing::info!(peer = %node, channel = channel.0, why, "the stream to a peer broke");
            }
            Err(error) => tracing::debug!(peer = %node, %error, "a peer cannot be reached"),
        }
        let jitter = 0.5 + host::random::fraction() / 2.0;
        tokio::time::sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

type Opened = (Outbox<Requests>, tonic::Streaming<PeerReply>);

/// Opens a stream and exchanges hellos.
async fn connect(shared: &Shared, node: &NodeId) -> anyhow::Result<Opened> {
    let address = shared.address(node).ok_or_else(|| anyhow::anyhow!("it has no address"))?;
    let endpoint = Endpoint::from_shared(address)?
        .connect_timeout(DIAL_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(1 << 21));
    let channel = tokio::time::timeout(DIAL_TIMEOUT, endpoint.connect_with_connector(Connector)).await??;
    let mut client = NodeClient::new(channel).max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
    let (requests, outgoing) = outbox(Requests::default());
    let hello = node::PeerHello {
        protocol_version: limits::NODE_PROTOCOL_VERSION,
        node: shared.config.node.to_string(),
        incarnation: shared.identity.incarnation().get(),
        region: shared.config.region.to_string(),
    };
    let hello = PeerRequest { request_id: 0, request: Some(Request::Hello(hello)) };
    requests.with(|requests| requests.push(hello))?;
    let open = async {
        let mut replies = client.peer(outgoing).await?.into_inner();
        let first = replies.message().await?.and_then(|reply| reply.reply);
        anyhow::Ok((first, replies))
    };
    let (first, replies) = tokio::time::timeout(DIAL_TIMEOUT, open).await??;
    match first {
        Some(Reply::Hello(hello)) if hello.node == node.as_str() => Ok((requests, replies)),
        Some(Reply::Hello(hello)) => anyhow::bail!("{} answers in its place", hello.node),
        Some(Reply::Refused(refused)) => anyhow::bail!("{}: {}", refused.code, refused.message),
        _ => anyhow::bail!("it says no hello"),
    }
}

impl Shared {
    fn address(&self, node: &NodeId) -> Option<String> {
        let address = match self.config.dial.get(node) {
            Some(address) => address.clone(),
            None => self.view.load().node(node)?.address.clone(),
        };
        Some(if address.contains("://") { address } else { format!("http://{address}") })
    }

    fn come_up(&self, link: &Link, requests: Outbox<Requests>) -> Channel {
        let mut channel = Channel::HERE;
        self.changes.send_modify(|number| {
            *number += 1;
            channel = Channel(*number);
            *link.live.lock() = Some(Live { channel, next_id: 1, requests, unanswered: HashMap::new() });
        });
        channel
    }

    /// All who wait for an answer learn that it does not come.
    fn break_down(&self, link: &Link) {
        let broken = link.live.lock().take();
        drop(broken);
        self.changes.send_modify(|number| *number += 1);
    }

    /// Hands out what comes until the stream ends; answers why it ended.
    async fn receive(&self, link: &Link, replies: tonic::Streaming<PeerReply>) -> String {
        let mut replies = replies.ready_chunks(REPLIES_MAX);
        while let Some(arrived) = replies.next().await {
            for reply in arrived {
                match reply {
                    Ok(PeerReply { request_id, reply: Some(reply) }) => {
                        self.hand_out(link, request_id, reply)
                    }
                    Ok(PeerReply { reply: None, .. }) => {}
                    Err(status) => return status.to_string(),
                }
            }
        }
        "the peer ended it".to_owned()
    }

    fn hand_out(&self, link: &Link, request_id: u64, reply: Reply) {
        if request_id == 0 {
            return self.publish(reply);
        }
        let asker = link.live.lock().as_mut().and_then(|live| live.unanswered.remove(&request_id));
        if let Some(asker) = asker {
            asker.give(Ok(reply));
        }
    }

    fn publish(&self, reply: Reply) {
        let Some(bus) = self.bus.get() else { return };
        match event(reply) {
            Ok(Some(event)) => {
                bus.offer(event);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a peer published something malformed"),
        }
    }
}

fn event(reply: Reply) -> Result<Option<BusEvent>, proto::Malformed> {
    Ok(Some(match reply {
        Reply::Published(node::Published { record: Some(record), previous_epoch, previous_generation }) => {
            let record = Record::try_from(record)?;
            let previous_era = (Generation::new(previous_generation), Epoch::new(previous_epoch));
            BusEvent::Published(Arc::new(Published { record, previous_era }))
        }
        Reply::LogMoved(moved) => {
            let generation = Generation::new(moved.generation);
            BusEvent::Moved { log: proto::log_id("moved.log", &moved.log)?, generation }
        }
        Reply::Replicated(node::ReplicatedUpTo { log, position: Some(position) }) => {
            BusEvent::Replicated { log: proto::log_id("replicated.log", &log)?, position: position.into() }
        }
        Reply::Lagged(_) => BusEvent::Lagged,
        reply @ (Reply::Receipts(_) | Reply::Typing(_) | Reply::ChatsChanged(_) | Reply::Presence(_)) => {
            return live::wire::event(&reply);
        }
        Reply::Ended(ended) => {
            BusEvent::Ended { partition: PartitionId::new(ended.partition), epoch: Epoch::new(ended.epoch) }
        }
        _ => return Ok(None),
    }))
}

/// Waits for an answer.
///
/// # Errors
/// Nothing came: the stream broke, or the time is over.
pub(crate) async fn answer(
    receiver: oneshot::Receiver<Reply>,
    patience: Duration,
) -> Result<Reply, &'static str> {
    match tokio::time::timeout(patience, receiver).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => Err("the stream to the peer broke"),
        Err(_) => Err("the peer did not answer in time"),
    }
}
