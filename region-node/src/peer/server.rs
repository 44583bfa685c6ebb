//! Serves the streams of other nodes over this node's homes and replicas.
//!
//! One task per stream. Writes are handed to the home in the order in which they arrive, so their order
//! holds; answers leave as they come, found by their request id. Nothing is forwarded: what is not held
//! here is answered `not_home`. When a peer does not read its answers, nothing more is read from it; the
//! bus drops what does not fit, and says so.

use super::wire;
use crate::{
    Parts,
    bus::{BusEvent, BusReceiver, BusSink, SINK_MAX_EVENTS, bus_sink},
    live::{self, Live},
    parts::PeerReplies,
    service::WriteReply,
};
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use prost::Message as _;
use proto::{
    node::{self, PeerReply, PeerRequest, peer_reply::Reply, peer_request::Request},
    outbox::{Outbox, Queue, outbox},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tonic::Status;
use types::{Code, LogId, PartitionId, Refusal, RegionId, limits};

/// Writes, and as many other requests, of one peer that are unanswered at a time. Past it further writes are
/// refused, so that writes which wait for a partition's followers hold up nothing else; and with that many other
/// requests nothing more is read from the peer.
const UNANSWERED_MAX: usize = 16_384;
/// When a peer that has too many writes unanswered should send the next again, in ms.
const OVERLOADED_RETRY_MS: u64 = 200;
/// Bytes of replies that wait for a peer to read them; the last one may pass it.
const REPLIES_BYTES: usize = 4 * 1024 * 1024;
/// Logs that one peer follows at a time.
const FOLLOWED_MAX: usize = 262_144;

type Answer = BoxFuture<'static, (u64, Reply)>;

/// Replies that the connection has not taken.
#[derive(Debug, Default)]
struct Replies {
    queue: VecDeque<(PeerReply, usize)>,
    bytes: usize,
}

impl Replies {
    fn push(&mut self, reply: PeerReply) {
        let bytes = reply.encoded_len();
        self.bytes += bytes;
        self.queue.push_back((reply, bytes));
    }
}

impl Queue for Replies {
    type Item = Result<PeerReply, Status>;

    fn pop(&mut self) -> Option<Self::Item> {
        let (reply, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        Some(Ok(reply))
    }
}

/// Serves one stream until it ends or the node goes down. Dropping the replies ends it too.
pub(crate) fn serve<S>(parts: &Parts, live: &Live, requests: S) -> PeerReplies
where
    S: Stream<Item = Result<PeerRequest, Status>> + Send + Unpin + 'static,
{
    let (replies, outgoing) = outbox(Replies::default());
    let shutdown = parts.shutdown.clone();
    tokio::spawn(shutdown.run_until_cancelled_owned(run(parts.clone(), live.clone(), requests, replies)));
    outgoing.boxed()
}

async fn run<S>(parts: Parts, live: Live, mut requests: S, replies: Outbox<Replies>)
where
    S: Stream<Item = Result<PeerRequest, Status>> + Send + Unpin + 'static,
{
    let (sink, mut events) = bus_sink(SINK_MAX_EVENTS);
    let replies = Arc::new(replies);
    let mut stream = PeerStream {
        parts,
        live,
        sink,
        origin: None,
        followed: HashMap::new(),
        answers: FuturesUnordered::new(),
        replies: Arc::clone(&replies),
        writes: Arc::default(),
    };
    while replies.has_room(|replies| replies.bytes < REPLIES_BYTES).await {
        let reply = tokio::select! {
            biased;
            () = replies.abandoned() => break,
            Some(answer) = stream.answers.next(), if !stream.answers.is_empty() => Some(answer),
            // What the bus has leaves room for answers: a peer that is slow to read them can still ask, and end
            // what is too much for it.
            event = next_event(&replies, &mut events) => event.map(|event| (0, event_reply(event))),
            request = requests.next(), if stream.answers.len() < UNANSWERED_MAX => match request {
                Some(Ok(request)) => stream.take(request),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a peer's stream broke");
                    break;
                }
                None => break,
            },
        };
        if let Some((request_id, reply)) = reply {
            replies.with(|replies| replies.push(PeerReply { request_id, reply: Some(reply) }));
        }
    }
}

/// The next event of the bus, once half of the outbox is free. Cancel-safe.
async fn next_event(replies: &Outbox<Replies>, events: &mut BusReceiver) -> Option<BusEvent> {
    let is_open = replies.has_room(|replies| replies.bytes < REPLIES_BYTES / 2).await;
    if is_open { events.recv().await } else { None }
}

/// A write that is counted until it is answered or forgotten.
struct Written(Arc<AtomicUsize>);

impl Written {
    fn count(writes: &Arc<AtomicUsize>) -> Self {
        writes.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(writes))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct PeerStream {
    parts: Parts,
    live: Live,
    sink: BusSink,
    /// The region that the peer says it is in.
    origin: Option<RegionId>,
    followed: HashMap<LogId, PartitionId>,
    answers: FuturesUnordered<Answer>,
    replies: Arc<Outbox<Replies>>,
    /// Writes that are not answered yet.
    writes: Arc<AtomicUsize>,
}

impl PeerStream {
    /// Starts what is asked for; an answer that is known at once is returned.
    fn take(&mut self, request: PeerRequest) -> Option<(u64, Reply)> {
        let id = request.request_id;
        let Some(request) = request.request else {
            let missing = proto::Malformed::Missing { field: "peer_request.request" };
            return Some((id, wire::malformed(&missing)));
        };
        match self.start(id, request) {
            Ok(reply) => reply.map(|reply| (id, reply)),
            Err(error) => Some((id, wire::malformed(&error))),
        }
    }

    fn start(&mut self, id: u64, request: Request) -> Result<Option<Reply>, proto::Malformed> {
        let answer: Answer = match request {
            Request::Hello(hello) => return self.hello(&hello).map(Some),
            Request::Append(append) => {
                let write = wire::write(append, self.origin.as_ref())?;
                if self.writes.load(Ordering::Relaxed) >= UNANSWERED_MAX {
                    let why = format!("{UNANSWERED_MAX} writes of this peer are unanswered");
                    let refusal = Refusal::new(Code::Overloaded, why).retry_after_ms(OVERLOADED_RETRY_MS);
                    return Ok(Some(wire::refused(&refusal)));
                }
                let written = self.parts.homes.append(write, self.reply_to(id));
                return Ok(written.err().map(|error| wire::append_reply(&Err(error))));
            }
            Request::Read(read) => {
                let (asked, from, limit, generation) = wire::read(read)?;
                let replicas = Arc::clone(&self.parts.replicas);
                async move {
                    let wire::Asked { log, partition, user } = &asked;
                    let page = if generation.is_zero() {
                        replicas.read(*partition, *log, user, from, limit).await
                    } else {
                        replicas.read_stretch(*partition, *log, generation, from, limit).await
                    };
                    (id, wire::page_reply(&page))
                }
                .boxed()
            }
            Request::Find(find) => {
                let (log, partition, generation, key) = wire::find(&find)?;
                let replicas = Arc::clone(&self.parts.replicas);
                async move { (id, wire::found_reply(&replicas.find(partition, log, generation, &key).await)) }
                    .boxed()
            }
            Request::Effect(effect) => {
                let (partition, effect) = wire::effect(effect)?;
                let homes = Arc::clone(&self.parts.homes);
                async move { (id, wire::effect_reply(homes.take_effect(partition, effect).await)) }.boxed()
            }
            Request::TakeCursors(cursors) => {
                let (logs, live) = (live::wire::take(&cursors)?, self.live.clone());
                async move { (id, live::wire::taken_reply(&live.take(&logs).await)) }.boxed()
            }
            Request::ReadCursors(read) => {
                let ((partition, asked), live) = (live::wire::read(&read)?, self.live.clone());
                async move { (id, live::wire::page_reply(&live.page(partition, &asked).await)) }.boxed()
            }
            Request::Beat(beat) => {
                let (node, beats) = live::wire::beat(&beat)?;
                let refused = self.live.take_beats(&node, beats, &self.sink);
                return Ok(Some(live::wire::beat_reply(&refused)));
            }
            Request::Typing(typing) => {
                let (partition, log, user, device) = live::wire::typing(&typing)?;
                self.live.hear_typing(partition, log, user, device);
                return Ok(None);
            }
            Request::Locate(locate) => {
                let (asked, position, any_copy) = wire::locate(locate)?;
                let (homes, replicas) = (Arc::clone(&self.parts.homes), Arc::clone(&self.parts.replicas));
                async move {
                    let answer = if any_copy {
                        replicas.locate(asked.partition, asked.log, &asked.user, position).await
                    } else {
                        homes.locate(asked.partition, asked.log, &asked.user, position).await
                    };
                    (id, wire::located_reply(&answer))
                }
                .boxed()
            }
            Request::ReadAccount(read) => {
                let asked = wire::account_asked(&read)?;
                let (homes, replicas) = (Arc::clone(&self.parts.homes), Arc::clone(&self.parts.replicas));
                async move {
                    let answer = if asked.any_copy {
                        replicas.account(asked.partition, asked.log).await
                    } else {
                        homes.account(asked.partition, asked.log).await
                    };
                    (id, wire::account_reply(&answer, asked.brief))
                }
                .boxed()
            }
            Request::Glance(glance) => {
                let asked = wire::glance_asked(&glance)?;
                let replicas = Arc::clone(&self.parts.replicas);
                async move {
                    let detail = asked.detail();
                    let answer = replicas.glance(asked.partition, &asked.user, &asked.logs, detail).await;
                    (id, wire::glance_reply(&answer))
                }
                .boxed()
            }
            Request::ReadChat(read) => {
                let asked = wire::chat(&read)?;
                let replicas = Arc::clone(&self.parts.replicas);
                async move {
                    let wire::Asked { log, partition, user } = &asked;
                    (id, wire::chat_reply(&replicas.chat(*partition, *log, user).await))
                }
                .boxed()
            }
            Request::Subscribe(subscribe) => return self.subscribe(id, &subscribe),
            Request::Unsubscribe(unsubscribe) => {
                let log = proto::log_id("unsubscribe.log", &unsubscribe.log)?;
                if let Some(partition) = self.followed.remove(&log) {
                    self.parts.homes.unsubscribe(partition, log, self.sink.id());
                }
                return Ok(None);
            }
        };
        self.answers.push(answer);
        Ok(None)
    }

    /// Takes the outcome of a write straight into the outbox.
    fn reply_to(&self, request_id: u64) -> WriteReply {
        let replies = Arc::downgrade(&self.replies);
        let written = Written::count(&self.writes);
        WriteReply::new(move |outcome| {
            drop(written);
            // Where the stream has ended there is nobody to tell.
            let Some(replies) = replies.upgrade() else { return };
            let reply = Some(wire::append_reply(&outcome));
            replies.with(|replies| replies.push(PeerReply { request_id, reply }));
        })
    }

    fn hello(&mut self, hello: &node::PeerHello) -> Result<Reply, proto::Malformed> {
        if hello.protocol_version != limits::NODE_PROTOCOL_VERSION {
            let why = format!(
                "peer {} speaks version {}, and this node version {}",
                hello.node,
                hello.protocol_version,
                limits::NODE_PROTOCOL_VERSION
            );
            return Ok(wire::refused(&Refusal::new(Code::UnsupportedVersion, why)));
        }
        self.origin = match hello.region.as_str() {
            "" => None,
            region => Some(wire::named("hello.region", RegionId::new(region))?),
        };
        Ok(Reply::Hello(node::PeerHello {
            protocol_version: limits::NODE_PROTOCOL_VERSION,
            node: self.parts.identity.node().to_string(),
            incarnation: self.parts.identity.incarnation().get(),
            region: self.parts.config.region.to_string(),
        }))
    }

    fn subscribe(&mut self, id: u64, wire: &node::BusSubscribe) -> Result<Option<Reply>, proto::Malformed> {
        let log = proto::log_id("subscribe.log", &wire.log)?;
        let partition = PartitionId::new(wire.partition);
        if self.followed.len() >= FOLLOWED_MAX {
            let why = format!("this peer follows {FOLLOWED_MAX} logs already");
            return Ok(Some(wire::refused(&Refusal::new(Code::Overloaded, why))));
        }
        if let Some(before) = self.followed.insert(log, partition)
            && before != partition
        {
            self.parts.homes.unsubscribe(before, log, self.sink.id());
        }
        let (homes, sink) = (Arc::clone(&self.parts.homes), self.sink.clone());
        self.answers.push(
            async move { (id, wire::subscribed_reply(&homes.subscribe(partition, log, &sink).await)) }
                .boxed(),
        );
        Ok(None)
    }
}

impl Drop for PeerStream {
    /// A write that its home has taken goes on there; only its answer has nowhere to go.
    fn drop(&mut self) {
        for (log, partition) in self.followed.drain() {
            self.parts.homes.unsubscribe(partition, log, self.sink.id());
        }
    }
}

fn event_reply(event: BusEvent) -> Reply {
    match event {
        BusEvent::Published(published) => Reply::Published(node::Published {
            record: Some((&published.record).into()),
            previous_epoch: published.previous_era.1.get(),
            previous_generation: published.previous_era.0.get(),
        }),
        BusEvent::Replicated { log, position } => Reply::Replicated(node::ReplicatedUpTo {
            log: bytes::Bytes::copy_from_slice(&log.to_bytes()),
            position: Some(position.into()),
        }),
        BusEvent::Moved { log, generation } => Reply::LogMoved(node::LogMoved {
            log: bytes::Bytes::copy_from_slice(&log.to_bytes()),
            generation: generation.get(),
        }),
        BusEvent::Live(event) => live::wire::event_reply(&event),
        BusEvent::Presence(seen) => live::wire::presence_reply(&seen),
        BusEvent::Lagged => Reply::Lagged(node::BusLagged {}),
        BusEvent::Ended { partition, epoch } => {
            Reply::Ended(node::BusEnded { partition: partition.get(), epoch: epoch.get() })
        }
    }
}
