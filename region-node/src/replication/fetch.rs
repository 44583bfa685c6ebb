//! Serves `Fetch`: sends a home's records to its followers as they become durable.
//!
//! One task per stream. It takes reports, looks again at each partition that its [`Bell`] rang for, and
//! sends one batch per partition and round, so that no partition starves the others.

use super::{
    fetched::{Answer, Fetch, Fetched},
    follow::{refused, unreadable},
};
use crate::{
    PlacementView,
    clock::Now,
    home::{Bell, Feed, NodeHomes, Report, not_home},
    ready::Identity,
};
use futures_util::stream::BoxStream;
use log_store::LogStore;
use proto::node::{self as wire, fetch_reply, fetch_request};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use types::{Code, Epoch, Lsn, PartitionId, Record, Refusal, Replica, limits};

/// Batches that may wait on one stream.
const BATCHES_MAX: usize = 8;
/// The most bytes of one batch.
const BATCH_BYTES: usize = 256 * 1024;
/// The least time between two batches to one partition that only tell the watermark, while it moves, in ms.
const WATERMARK_EVERY_MS: u64 = 20;
/// A follower hears from its home at least this often, in ms.
const HEARTBEAT_EVERY_MS: u64 = 500;
/// How often the heartbeats are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(20);

type Out = mpsc::Sender<Result<wire::FetchReply, Status>>;

/// What the streams stand on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetches {
    /// The homes.
    pub homes: Arc<NodeHomes>,
    /// The store, for what memory no longer holds.
    pub store: Arc<dyn LogStore>,
    /// The placement, to tell where else to ask.
    pub view: Arc<PlacementView>,
    /// Who this node is.
    pub identity: Arc<Identity>,
    /// Cancelled when the node goes down.
    pub shutdown: CancellationToken,
}

impl Fetches {
    /// Serves one stream until it ends or the node goes down.
    pub fn serve(
        &self,
        requests: Streaming<wire::FetchRequest>,
    ) -> BoxStream<'static, Result<wire::FetchReply, Status>> {
        let (out, outgoing) = mpsc::channel(BATCHES_MAX);
        let fetches = self.clone();
        tokio::spawn(async move {
            let shutdown = fetches.shutdown.clone();
            let ended = tokio::select! {
                () = shutdown.cancelled() => Err(Status::unavailable("the node goes down")),
                ended = fetches.run(requests, &out) => ended,
            };
            if let Err(status) = ended {
                let _ = out.send(Err(status)).await;
            }
        });
        Box::pin(ReceiverStream::new(outgoing))
    }

    async fn run(self, mut requests: Streaming<wire::FetchRequest>, out: &Out) -> Result<(), Status> {
        let Some(hello) = requests.message().await? else { return Ok(()) };
        let follower = follower_of(hello)?;
        let hello = wire::FetchHello {
            protocol_version: limits::PROTOCOL_VERSION,
            follower: Some((&follower).into()),
            ..wire::FetchHello::default()
        };
        let reply = Some(fetch_reply::Reply::Hello(hello));
        let mut stream = Stream {
            fetches: self,
            follower,
            bell: Arc::default(),
            partitions: HashMap::new(),
            out: out.clone(),
        };
        stream.send(PartitionId::new(0), Epoch::ZERO, reply).await?;
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let bell = Arc::clone(&stream.bell);
        loop {
            tokio::select! {
                request = requests.message() => match request? {
                    None => return Ok(()),
                    Some(request) => stream.request(request).await?,
                },
                rung = bell.listen() => stream.look_at(rung).await?,
                _ = look.tick() => stream.heartbeats().await?,
            }
        }
    }
}

fn follower_of(request: wire::FetchRequest) -> Result<Replica, Status> {
    let Some(fetch_request::Request::Hello(hello)) = request.request else {
        return Err(Status::invalid_argument("a fetch stream begins with a hello"));
    };
    crate::grpc::check_version(hello.protocol_version)?;
    let missing = || Status::invalid_argument("the hello names no follower");
    let follower = hello.follower.ok_or_else(missing)?;
    Replica::try_from(follower).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// One follower's stream.
struct Stream {
    fetches: Fetches,
    follower: Replica,
    bell: Arc<Bell>,
    partitions: HashMap<PartitionId, (Arc<Feed>, Fetched)>,
    out: Out,
}

impl Stream {
    async fn request(&mut self, request: wire::FetchRequest) -> Result<(), Status> {
        let Some(fetch_request::Request::Fetch(fetch)) = request.request else {
            return Err(Status::invalid_argument("the stream has said hello already, or says nothing"));
        };
        let partition = PartitionId::new(fetch.partition);
        let Some(feed) = self.fetches.homes.open().get(partition) else {
            return self.not_home(partition).await;
        };
        let Some(standing) = feed.standing() else { return self.not_home(partition).await };
        let report = Fetch {
            obeys: Epoch::new(fetch.epoch),
            last: fetch.last.unwrap_or_default().into(),
            credit_bytes: fetch.credit_bytes as usize,
            restart: fetch.restart,
        };
        let epoch = feed.epoch();
        let known = self.partitions.remove(&partition).filter(|(_, fetched)| fetched.epoch() == epoch);
        let mut fetched = known.map_or_else(|| Fetched::new(epoch), |(_, fetched)| fetched);
        let answer = fetched.report(report, &standing);
        feed.register(&self.bell);
        self.partitions.insert(partition, (Arc::clone(&feed), fetched));
        let (replica, obeys, last) = (self.follower.clone(), report.obeys, report.last);
        self.fetches.homes.report(Report { partition, epoch, replica, obeys, last });
        match answer {
            Answer::Nothing => {
                self.bell.ring(partition);
                Ok(())
            }
            Answer::Obey => {
                let batch = wire::Batch { sent_at_ms: Now::read().wall_ms, ..wire::Batch::default() };
                self.send(partition, epoch, Some(fetch_reply::Reply::Batch(batch))).await
            }
            Answer::Diverged(common) => {
                let diverged = wire::FetchDiverged { common: Some(common.into()) };
                self.send(partition, epoch, Some(fetch_reply::Reply::Diverged(diverged))).await
            }
            Answer::Stale => self.not_home(partition).await,
        }
    }

    /// Sends to each of the partitions what it may be sent.
    async fn look_at(&mut self, rung: BTreeSet<PartitionId>) -> Result<(), Status> {
        for partition in rung {
            let Some((feed, fetched)) = self.partitions.get(&partition) else { continue };
            let feed = Arc::clone(feed);
            let Some(standing) = feed.standing() else {
                self.partitions.remove(&partition);
                self.not_home(partition).await?;
                continue;
            };
            let Some((after, credit)) = fetched.may_send() else { continue };
            if after >= standing.end.lsn {
                self.tell_watermark(partition, WATERMARK_EVERY_MS).await?;
                continue;
            }
            match self.records(partition, &feed, after, credit.min(BATCH_BYTES)).await {
                Ok(records) => self.send_records(partition, &feed, records).await?,
                Err(error) => {
                    if let Some((_, fetched)) = self.partitions.get_mut(&partition) {
                        fetched.silence();
                    }
                    let reply = fetch_reply::Reply::Refused(error);
                    self.send(partition, feed.epoch(), Some(reply)).await?;
                }
            }
        }
        Ok(())
    }

    async fn records(
        &self,
        partition: PartitionId,
        feed: &Feed,
        after: Lsn,
        max_bytes: usize,
    ) -> Result<Vec<Record>, wire::Refused> {
        if let Some(records) = feed.tail_behind(after, limits::BATCH_MAX_RECORDS, max_bytes) {
            return Ok(records);
        }
        let store = &self.fetches.store;
        let read = store.read_partition(partition, after.plus(1), limits::BATCH_MAX_RECORDS, max_bytes);
        let records = read.await.map_err(|error| unreadable(&error))?;
        if records.is_empty() {
            let message = format!("partition {partition} has nothing behind lsn {after}");
            return Err(refused(&Refusal::new(Code::Internal, message)));
        }
        Ok(records)
    }

    async fn send_records(
        &mut self,
        partition: PartitionId,
        feed: &Feed,
        records: Vec<Record>,
    ) -> Result<(), Status> {
        let Some(last) = records.last().map(|record| record.lsn) else { return Ok(()) };
        let Some(standing) = feed.standing() else { return Ok(()) };
        let bytes = records.iter().map(crate::home::core::bytes_at_most).sum();
        let now = Now::read();
        if let Some((_, fetched)) = self.partitions.get_mut(&partition) {
            fetched.sent(last, bytes);
            fetched.told_watermark = standing.watermark;
            fetched.told_at_ms = now.boot_ms;
        }
        let batch = wire::Batch {
            records: records.iter().map(Into::into).collect(),
            watermark: standing.watermark.get(),
            end: Some(standing.end.into()),
            sent_at_ms: now.wall_ms,
        };
        metrics::counter!("hearth_fetch_sent_bytes_total").increment(bytes as u64);
        self.send(partition, feed.epoch(), Some(fetch_reply::Reply::Batch(batch))).await?;
        // There may be more; the others come first.
        self.bell.ring(partition);
        Ok(())
    }

    /// Tells the watermark if it has moved and nothing was told for `every_ms`, or as a heartbeat.
    async fn tell_watermark(&mut self, partition: PartitionId, every_ms: u64) -> Result<(), Status> {
        let Some((feed, fetched)) = self.partitions.get_mut(&partition) else { return Ok(()) };
        let now = Now::read();
        let silent_ms = now.boot_ms.saturating_sub(fetched.told_at_ms);
        let moved = silent_ms >= every_ms && feed.watermark() > fetched.told_watermark;
        if !fetched.is_following() || !(moved || silent_ms >= HEARTBEAT_EVERY_MS) {
            return Ok(());
        }
        let Some(standing) = feed.standing() else { return Ok(()) };
        fetched.told_watermark = standing.watermark;
        fetched.told_at_ms = now.boot_ms;
        let epoch = feed.epoch();
        let batch = wire::Batch {
            records: vec![],
            watermark: standing.watermark.get(),
            end: Some(standing.end.into()),
            sent_at_ms: now.wall_ms,
        };
        self.send(partition, epoch, Some(fetch_reply::Reply::Batch(batch))).await
    }

    async fn heartbeats(&mut self) -> Result<(), Status> {
        let now_ms = Now::read().boot_ms;
        let due = |(partition, (_, fetched)): (&PartitionId, &(Arc<Feed>, Fetched))| {
            (now_ms.saturating_sub(fetched.told_at_ms) >= WATERMARK_EVERY_MS).then_some(*partition)
        };
        let partitions: Vec<PartitionId> = self.partitions.iter().filter_map(due).collect();
        for partition in partitions {
            self.tell_watermark(partition, WATERMARK_EVERY_MS).await?;
        }
        Ok(())
    }

    async fn not_home(&mut self, partition: PartitionId) -> Result<(), Status> {
        self.partitions.remove(&partition);
        let known = not_home(&self.fetches.view.load(), partition, self.fetches.identity.node());
        let reply = wire::NotHome {
            partition: partition.get(),
            epoch: known.epoch.get(),
            home: known.home.map(|home| home.to_string()).unwrap_or_default(),
            moving: known.moving,
        };
        self.send(partition, known.epoch, Some(fetch_reply::Reply::NotHome(reply))).await
    }

    async fn send(
        &self,
        partition: PartitionId,
        epoch: Epoch,
        reply: Option<fetch_reply::Reply>,
    ) -> Result<(), Status> {
        let reply = wire::FetchReply { partition: partition.get(), epoch: epoch.get(), reply };
        // Nobody reads any more: the stream's end tells nobody either.
        self.out.send(Ok(reply)).await.map_err(|_| Status::cancelled("the replicator has gone"))
    }
}
