use super::node_id;
use parking_lot::Mutex;
use prost::Message as _;
use proto::{
    log::{PartitionPosition, Record},
    node::{self as wire, fetch_reply, fetch_request, follow_reply, follow_request, node_server},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream, wrappers::TcpListenerStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};
use types::{Replica, StoreId, limits};

/// What a node was told that a test asks about.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Positions reported as durable, by partition.
    pub durable: BTreeMap<u32, PartitionPosition>,
    /// `common` of each truncation, by partition.
    pub truncated: Vec<(u32, PartitionPosition)>,
    /// The most bytes that were ever under way, by partition.
    pub under_way_max: BTreeMap<u32, usize>,
    /// The greatest credit given, by partition.
    pub credit_max: BTreeMap<u32, usize>,
    /// The watermark a follower was told, by partition.
    pub watermarks: BTreeMap<u32, u64>,
    pub restarts: u64,
    pub fetch_streams: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The epoch in which it is home, by partition.
    home_in: BTreeMap<u32, u64>,
    logs: BTreeMap<u32, Vec<Record>>,
    fences: BTreeMap<u32, u64>,
    /// Partitions whose requests are kept unanswered.
    held: BTreeSet<u32>,
    told: Told,
}

struct Inner {
    state: Mutex<State>,
    moved: Notify,
    cuts: watch::Sender<u64>,
}

/// A node that keeps records in memory, and is home or follower as a test wants it.
pub(crate) struct FakeNode {
    pub replica: Replica,
    pub address: SocketAddr,
    inner: Arc<Inner>,
    _task: AbortOnDropHandle<()>,
}

impl FakeNode {
    pub(crate) async fn start(name: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let inner =
            Arc::new(Inner { state: Mutex::default(), moved: Notify::new(), cuts: watch::channel(0).0 });
        let replica = Replica { node: node_id(name), store: StoreId::from_bytes([7; 16]) };
        let service =
            node_server::NodeServer::new(Service { inner: Arc::clone(&inner), replica: replica.clone() })
                .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.expect("it serves") });
        Self { replica, address, inner, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn become_home(&self, partition: u32, epoch: u64) {
        self.inner.state.lock().home_in.insert(partition, epoch);
        self.inner.moved.notify_waiters();
    }

    pub(crate) fn resign(&self, partition: u32) {
        self.inner.state.lock().home_in.remove(&partition);
        self.inner.moved.notify_waiters();
    }

    pub(crate) fn write(&self, partition: u32, records: impl IntoIterator<Item = Record>) {
        self.inner.state.lock().logs.entry(partition).or_default().extend(records);
        self.inner.moved.notify_waiters();
    }

    pub(crate) fn log(&self, partition: u32) -> Vec<Record> {
        self.inner.state.lock().logs.get(&partition).cloned().unwrap_or_default()
    }

    pub(crate) fn len(&self, partition: u32) -> usize {
        self.inner.state.lock().logs.get(&partition).map_or(0, Vec::len)
    }

    /// Ends all streams.
    pub(crate) fn cut(&self) {
        self.inner.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Keeps what the follower is told of a partition unanswered.
    pub(crate) fn hold(&self, partition: u32) {
        self.inner.state.lock().held.insert(partition);
    }

    pub(crate) fn release(&self, partition: u32) {
        self.inner.state.lock().held.remove(&partition);
        self.inner.moved.notify_waiters();
    }

    pub(crate) fn told<T>(&self, ask: impl FnOnce(&Told) -> T) -> T {
        ask(&self.inner.state.lock().told)
    }
}

struct Service {
    inner: Arc<Inner>,
    replica: Replica,
}

fn position(record: &Record) -> PartitionPosition {
    PartitionPosition { epoch: record.epoch, lsn: record.lsn }
}

fn last(log: &[Record]) -> PartitionPosition {
    log.last().map_or(PartitionPosition::default(), position)
}

/// What a home remembers of one partition on one stream.
struct Session {
    sent: usize,
    last: usize,
    credit: usize,
    watermark: Option<u64>,
}

impl State {
    fn fetch(
        &mut self,
        fetch: wire::Fetch,
        sessions: &mut BTreeMap<u32, Session>,
    ) -> Option<wire::FetchReply> {
        let partition = fetch.partition;
        let asked = fetch.last.unwrap_or_default();
        let Some(&epoch) = self.home_in.get(&partition).filter(|epoch| **epoch == fetch.epoch) else {
            sessions.remove(&partition);
            let reply = fetch_reply::Reply::NotHome(wire::NotHome { partition, ..wire::NotHome::default() });
            return Some(wire::FetchReply { partition, epoch: 0, reply: Some(reply) });
        };
        if !fetch.restart && !sessions.contains_key(&partition) {
            return None;
        }
        let log = self.logs.entry(partition).or_default();
        let at = usize::try_from(asked.lsn).expect("short logs");
        if at > 0 && log.get(at - 1).map(position) != Some(asked) {
            sessions.remove(&partition);
            let shared = |record: &&Record| record.epoch <= asked.epoch && record.lsn <= asked.lsn;
            let common = Some(log.iter().rfind(shared).map_or(PartitionPosition::default(), position));
            let reply = fetch_reply::Reply::Diverged(wire::FetchDiverged { common, last: Some(asked) });
            return Some(wire::FetchReply { partition, epoch, reply: Some(reply) });
        }
        let credit = fetch.credit_bytes as usize;
        self.told.durable.insert(partition, asked);
        self.told.restarts += u64::from(fetch.restart);
        let greatest = self.told.credit_max.entry(partition).or_default();
        *greatest = credit.max(*greatest);
        let known = sessions.remove(&partition).filter(|_| !fetch.restart);
        let (sent, watermark) = known.map_or((at, None), |known| (known.sent.max(at), known.watermark));
        sessions.insert(partition, Session { sent, last: at, credit, watermark });
        None
    }

    fn push(&mut self, sessions: &mut BTreeMap<u32, Session>) -> Option<wire::FetchReply> {
        for (&partition, session) in sessions.iter_mut() {
            let Some(&epoch) = self.home_in.get(&partition) else { continue };
            let log = self.logs.entry(partition).or_default();
            let mut under_way: usize =
                log[session.last..session.sent].iter().map(|record| record.encoded_len()).sum();
            let mut records = Vec::new();
            let mut batch_bytes = 0;
            for record in &log[session.sent..] {
                let bytes = record.encoded_len();
                let fits = under_way == 0 || under_way + bytes <= session.credit;
                if !fits || batch_bytes + bytes > limits::BATCH_MAX_BYTES || records.len() == 100 {
                    break;
                }
                under_way += bytes;
                batch_bytes += bytes;
                records.push(record.clone());
            }
            let watermark = session.last as u64;
            if records.is_empty() && session.watermark == Some(watermark) {
                continue;
            }
            session.sent += records.len();
            session.watermark = Some(watermark);
            let most = self.told.under_way_max.entry(partition).or_default();
            *most = under_way.max(*most);
            let batch = wire::Batch {
                first_lsn: records.first().map_or(0, |record: &Record| record.lsn),
                epochs: proto::epoch_runs(records.iter().map(|record| types::Epoch::new(record.epoch))),
                records: records.iter().map(|record| record.encode_to_vec().into()).collect(),
                watermark,
                end: Some(last(log)),
                sent_at_ms: 0,
            };
            let reply = Some(fetch_reply::Reply::Batch(batch));
            return Some(wire::FetchReply { partition, epoch, reply });
        }
        None
    }

    fn follow(&mut self, request: wire::FollowRequest) -> Option<wire::FollowReply> {
        let partition = request.partition;
        let fence = self.fences.entry(partition).or_default();
        let log = self.logs.entry(partition).or_default();
        let outcome = if request.epoch < *fence {
            follow_reply::Outcome::Fenced(wire::FollowFenced {})
        } else {
            *fence = request.epoch;
            match request.request? {
                follow_request::Request::Batch(batch) => {
                    let next = log.len() as u64 + 1;
                    if !batch.records.is_empty() && batch.first_lsn != next {
                        follow_reply::Outcome::Gap(wire::FollowGap {})
                    } else {
                        let decode = |record: bytes::Bytes| Record::decode(record).expect("a record");
                        log.extend(batch.records.into_iter().map(decode));
                        self.told.watermarks.insert(partition, batch.watermark);
                        follow_reply::Outcome::Done(wire::FollowDone {})
                    }
                }
                follow_request::Request::Diverged(diverged) => {
                    let common = diverged.common.unwrap_or_default();
                    assert_eq!(diverged.last, Some(last(log)), "the tail that was judged");
                    log.retain(|record| record.epoch <= common.epoch && record.lsn <= common.lsn);
                    self.told.truncated.push((partition, common));
                    follow_reply::Outcome::Done(wire::FollowDone {})
                }
                _ => follow_reply::Outcome::Done(wire::FollowDone {}),
            }
        };
        Some(wire::FollowReply { partition, fence: *fence, last: Some(last(log)), outcome: Some(outcome) })
    }
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

async fn serve_fetch(
    inner: Arc<Inner>,
    mut requests: Streaming<wire::FetchRequest>,
    replies: mpsc::Sender<Result<wire::FetchReply, Status>>,
) {
    let mut cuts = inner.cuts.subscribe();
    let mut sessions = BTreeMap::new();
    loop {
        let moved = inner.moved.notified();
        while let Some(reply) = { inner.state.lock().push(&mut sessions) } {
            if replies.send(Ok(reply)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            request = requests.next() => match request {
                Some(Ok(wire::FetchRequest { request: Some(fetch_request::Request::Fetch(fetch)) })) => {
                    let reply = { inner.state.lock().fetch(fetch, &mut sessions) };
                    if let Some(reply) = reply && replies.send(Ok(reply)).await.is_err() {
                        return;
                    }
                }
                Some(Ok(_)) => {}
                _ => return,
            },
            () = moved => {}
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            _ = cuts.changed() => return,
        }
    }
}

async fn serve_follow(
    inner: Arc<Inner>,
    mut requests: Streaming<wire::FollowRequest>,
    replies: mpsc::Sender<Result<wire::FollowReply, Status>>,
) {
    let mut cuts = inner.cuts.subscribe();
    let mut kept = Vec::new();
    loop {
        let request = tokio::select! {
            request = requests.next() => match request {
                Some(Ok(request)) => Some(request),
                _ => return,
            },
            () = tokio::time::sleep(Duration::from_millis(20)) => None,
            _ = cuts.changed() => return,
        };
        kept.extend(request);
        let ready: Vec<_> = {
            let mut state = inner.state.lock();
            let (held, free): (Vec<_>, Vec<_>) =
                kept.into_iter().partition(|request| state.held.contains(&request.partition));
            kept = held;
            free.into_iter().filter_map(|request| state.follow(request)).collect()
        };
        for reply in ready {
            if replies.send(Ok(reply)).await.is_err() {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl node_server::Node for Service {
    type PeerStream = Replies<wire::PeerReply>;
    type FetchStream = Replies<wire::FetchReply>;
    type FollowStream = Replies<wire::FollowReply>;

    async fn fetch(
        &self,
        request: Request<Streaming<wire::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        self.inner.state.lock().told.fetch_streams += 1;
        let (replies, stream) = mpsc::channel(4);
        tokio::spawn(serve_fetch(Arc::clone(&self.inner), request.into_inner(), replies));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn follow(
        &self,
        request: Request<Streaming<wire::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let (replies, stream) = mpsc::channel(4);
        let hello = wire::FollowHello {
            protocol_version: limits::NODE_PROTOCOL_VERSION,
            follower: Some((&self.replica).into()),
        };
        let hello = follow_reply::Outcome::Hello(hello);
        let hello = wire::FollowReply { outcome: Some(hello), ..wire::FollowReply::default() };
        let _ = replies.send(Ok(hello)).await;
        tokio::spawn(serve_follow(Arc::clone(&self.inner), request.into_inner(), replies));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn peer(
        &self,
        _: Request<Streaming<wire::PeerRequest>>,
    ) -> Result<Response<Self::PeerStream>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }
    async fn fence(&self, _: Request<wire::FenceRequest>) -> Result<Response<wire::FenceReply>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }
    async fn await_seal(
        &self,
        _: Request<wire::AwaitSealRequest>,
    ) -> Result<Response<wire::AwaitSealReply>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }
    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        Err(Status::unimplemented("not in the fake"))
    }
}
