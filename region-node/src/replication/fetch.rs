//! Serves `Fetch`: sends a home's records to its followers as they become durable.
//!
//! One task per stream. It takes reports, looks again at each partition that its [`Bell`] rang for, and
//! puts one batch per partition and round into the stream's outbox, so that no partition starves the
//! others. What memory does not hold is read from the store on the side, a few partitions at a time, so
//! that a follower that is far behind holds up nobody. While the outbox is full only reports are taken, and
//! those no more either once their answers have filled it again.
//!
//! A watermark rides on the next batch of its partition; alone it is told for all partitions together, a
//! moment after the first of them has moved. Nothing is sent while nothing happens.

use super::{
    fetched::{Answer, Fetch, Fetched},
    follow::{refused, unreadable},
    pace::Pace,
    replies::Replies,
};
use crate::{
    PlacementView,
    clock::Now,
    home::{Behind, Bell, Feed, NodeHomes, Report, Rung, not_home},
    ready::Identity,
};
use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream, stream::FuturesUnordered,
};
use log_store::{Encoded, LogStore, ReadError};
use proto::{
    node::{self as wire, fetch_reply, fetch_request},
    outbox::{Outbox, outbox},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use types::{Code, Epoch, Lsn, PartitionId, PartitionPosition, Refusal, Replica, limits};

/// The most bytes of one batch.
const BATCH_BYTES: usize = 256 * 1024;
/// Partitions that are read from the store at a time, for one stream.
const READS_MAX: usize = 4;
/// Reports that are taken in one go.
const REPORTS_MAX: usize = 256;
/// How long a watermark that nothing else carries may wait for others.
const WATERMARKS_AFTER: Duration = Duration::from_millis(100);
/// After how long a home that was too busy for a report is told it again.
const REPORT_AGAIN_AFTER: Duration = Duration::from_millis(20);

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
    pub(super) pace: Arc<Pace>,
}

impl Fetches {
    /// Serves from these; copies that are not in sync are filled with so many bytes a second together.
    pub fn new(
        homes: Arc<NodeHomes>,
        store: Arc<dyn LogStore>,
        view: Arc<PlacementView>,
        identity: Arc<Identity>,
        refill_bytes_per_s: u64,
        shutdown: CancellationToken,
    ) -> Self {
        let pace = Arc::new(Pace::new(refill_bytes_per_s));
        Self { homes, store, view, identity, shutdown, pace }
    }

    /// Serves one stream until it ends or the node goes down.
    pub fn serve(
        &self,
        requests: Streaming<wire::FetchRequest>,
    ) -> BoxStream<'static, Result<wire::FetchReply, Status>> {
        let (out, outgoing) = outbox(Replies::default());
        let fetches = self.clone();
        tokio::spawn(async move {
            let shutdown = fetches.shutdown.clone();
            let ended = tokio::select! {
                () = shutdown.cancelled() => Err(Status::unavailable("the node goes down")),
                ended = fetches.run(requests, &out) => ended,
            };
            if let Err(status) = ended {
                out.with(|replies| replies.fail(status));
            }
        });
        Box::pin(outgoing)
    }

    async fn run(
        self,
        mut requests: Streaming<wire::FetchRequest>,
        out: &Outbox<Replies>,
    ) -> Result<(), Status> {
        let Some(hello) = requests.message().await? else { return Ok(()) };
        let follower = follower_of(hello)?;
        let mut stream = Stream {
            fetches: self,
            follower,
            bell: Arc::default(),
            partitions: HashMap::new(),
            round: VecDeque::new(),
            again: BTreeSet::new(),
            reads: FuturesUnordered::new(),
            unread: BTreeSet::new(),
            untold: BTreeSet::new(),
            unreported: BTreeMap::new(),
            report_at: None,
            out,
        };
        stream.hello();
        let bell = Arc::clone(&stream.bell);
        let mut requests = requests.ready_chunks(REPORTS_MAX);
        let mut tell_at: Option<Instant> = None;
        loop {
            let (has_work, takes) = (stream.has_work(), out.look(Replies::has_room_for_answers));
            tokio::select! {
                taken = requests.next(), if takes => {
                    let Some(taken) = taken else { return Ok(()) };
                    for request in taken {
                        stream.request(request?)?;
                    }
                }
                Rung { partitions, moved } = bell.listen() => {
                    stream.again.extend(partitions);
                    if moved {
                        tell_at = tell_at.or_else(|| Some(Instant::now() + WATERMARKS_AFTER));
                    }
                }
                () = sleep_until(tell_at.unwrap_or_else(Instant::now)), if tell_at.is_some() => {
                    tell_at = None;
                    stream.untold.extend(bell.moved());
                }
                () = sleep_until(stream.report_at.unwrap_or_else(Instant::now)), if stream.report_at.is_some() => {
                    stream.report_again();
                }
                Some(read) = stream.reads.next() => stream.take_read(read),
                roomy = out.has_room(Replies::has_room), if has_work || !takes => if !roomy {
                    return Ok(());
                },
            }
            while stream.has_work() && out.look(Replies::has_room) {
                stream.look();
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

/// One partition on one stream.
struct Partition {
    feed: Arc<Feed>,
    fetched: Fetched,
    /// The store is being read for it.
    reading: bool,
}

/// Records that were read behind a position.
struct Read {
    partition: PartitionId,
    epoch: Epoch,
    after: Lsn,
    read: Result<Vec<Encoded>, ReadError>,
}

/// Records on their way into one batch, and what the home says with them.
struct Records {
    encoded: Vec<Bytes>,
    epochs: Vec<wire::EpochRun>,
    first: Lsn,
    end: PartitionPosition,
    watermark: Lsn,
}

/// One follower's stream.
struct Stream<'a> {
    fetches: Fetches,
    follower: Replica,
    bell: Arc<Bell>,
    partitions: HashMap<PartitionId, Partition>,
    /// The partitions that are looked at in this round …
    round: VecDeque<PartitionId>,
    /// … and in the next one.
    again: BTreeSet<PartitionId>,
    reads: FuturesUnordered<BoxFuture<'static, Read>>,
    /// Partitions that wait for one of the reads to end.
    unread: BTreeSet<PartitionId>,
    /// Partitions whose watermark has moved, and is due to be told.
    untold: BTreeSet<PartitionId>,
    /// The newest reports that their homes were too busy to take.
    unreported: BTreeMap<PartitionId, Report>,
    /// When those are told again.
    report_at: Option<Instant>,
    out: &'a Outbox<Replies>,
}

impl Stream<'_> {
    fn hello(&self) {
        let hello = wire::FetchHello {
            protocol_version: limits::NODE_PROTOCOL_VERSION,
            follower: Some((&self.follower).into()),
            ..wire::FetchHello::default()
        };
        self.send(PartitionId::new(0), Epoch::ZERO, fetch_reply::Reply::Hello(hello), 0);
    }

    fn request(&mut self, request: wire::FetchRequest) -> Result<(), Status> {
        let Some(fetch_request::Request::Fetch(fetch)) = request.request else {
            return Err(Status::invalid_argument("the stream has said hello already, or says nothing"));
        };
        let partition = PartitionId::new(fetch.partition);
        let report = Fetch {
            obeys: Epoch::new(fetch.epoch),
            last: fetch.last.unwrap_or_default().into(),
            credit_bytes: fetch.credit_bytes as usize,
            restart: fetch.restart,
        };
        let Some(feed) = self.fetches.homes.open().get(partition) else {
            self.not_home(partition);
            return Ok(());
        };
        let epoch = feed.epoch();
        if self.partitions.get(&partition).is_none_or(|known| known.fetched.epoch() != epoch) {
            feed.register(&self.bell);
            let fetched = Fetched::new(epoch);
            self.partitions.insert(partition, Partition { feed: Arc::clone(&feed), fetched, reading: false });
        }
        let Some(known) = self.partitions.get_mut(&partition) else { return Ok(()) };
        let Some(answer) = feed.with_standing(|standing| known.fetched.report(report, standing)) else {
            self.not_home(partition);
            return Ok(());
        };
        let (replica, obeys, last) = (self.follower.clone(), report.obeys, report.last);
        self.report(Report { partition, epoch, replica, obeys, last });
        match answer {
            Answer::Nothing => {
                self.again.insert(partition);
            }
            Answer::Obey => {
                let batch = wire::Batch { sent_at_ms: Now::read().wall_ms, ..wire::Batch::default() };
                self.send(partition, epoch, fetch_reply::Reply::Batch(batch), 0);
            }
            Answer::Diverged(common) => {
                let (common, last) = (Some(common.into()), Some(last.into()));
                let diverged = wire::FetchDiverged { common, last };
                self.send(partition, epoch, fetch_reply::Reply::Diverged(diverged), 0);
            }
            Answer::Stale => self.not_home(partition),
        }
        Ok(())
    }

    /// Hands a report on. It stands for those before it, and waits where it does not fit.
    fn report(&mut self, report: Report) {
        let partition = report.partition;
        self.unreported.remove(&partition);
        if let Err(report) = self.fetches.homes.report(report) {
            self.unreported.insert(partition, report);
            self.report_at = self.report_at.or_else(|| Some(Instant::now() + REPORT_AGAIN_AFTER));
        }
    }

    fn report_again(&mut self) {
        self.report_at = None;
        for report in std::mem::take(&mut self.unreported).into_values() {
            self.report(report);
        }
    }

    fn has_work(&self) -> bool {
        !self.round.is_empty() || !self.again.is_empty() || !self.untold.is_empty()
    }

    /// Tells the next watermark that is due, or sends to the next partition what it may be sent.
    fn look(&mut self) {
        if let Some(partition) = self.untold.pop_first() {
            return self.tell_watermark(partition);
        }
        if self.round.is_empty() {
            self.round.extend(std::mem::take(&mut self.again));
        }
        let Some(partition) = self.round.pop_front() else { return };
        let Some(Partition { feed, fetched, reading: false }) = self.partitions.get(&partition) else {
            return;
        };
        let may_send = fetched.may_send();
        let (after, credit) = may_send.unwrap_or((Lsn::new(u64::MAX), 0));
        let Some(behind) = feed.behind(after, limits::BATCH_MAX_RECORDS, credit.min(BATCH_BYTES)) else {
            return self.not_home(partition);
        };
        let epoch = feed.epoch();
        let Behind { end, watermark, records } = behind;
        match records {
            Some(encoded) if encoded.is_empty() => {
                if fetched.owes() {
                    self.tell_watermark(partition);
                }
            }
            Some(encoded) => {
                let run = wire::EpochRun { epoch: epoch.get(), records: encoded.len() as u32 };
                let first = after.plus(1);
                self.send_records(partition, Records { encoded, epochs: vec![run], first, end, watermark });
            }
            None => self.read(partition, epoch, after, credit.min(BATCH_BYTES)),
        }
    }

    /// Reads from the store what is behind `after`, or waits for its turn.
    fn read(&mut self, partition: PartitionId, epoch: Epoch, after: Lsn, max_bytes: usize) {
        let refills = !self.is_in_sync(partition);
        // One read is kept for copies that are in sync, so that they do not wait behind those that are filled.
        let most = if refills { READS_MAX - 1 } else { READS_MAX };
        if self.reads.len() >= most {
            self.unread.insert(partition);
            return;
        }
        let Some(known) = self.partitions.get_mut(&partition) else { return };
        known.reading = true;
        let (store, pace) = (Arc::clone(&self.fetches.store), Arc::clone(&self.fetches.pace));
        let read = async move {
            let max_records = limits::BATCH_MAX_RECORDS;
            if refills {
                pace.wait().await;
            }
            let read = store.read_encoded(partition, after.plus(1), max_records, max_bytes).await;
            if let (true, Ok(records)) = (refills, &read) {
                let bytes = records.iter().map(|record| record.bytes.len()).sum();
                metrics::counter!("hearth_refill_bytes_total").increment(bytes as u64);
                pace.pay(bytes);
            }
            Read { partition, epoch, after, read }
        };
        self.reads.push(read.boxed());
    }

    fn is_in_sync(&self, partition: PartitionId) -> bool {
        let view = self.fetches.view.load();
        view.partition(partition).is_some_and(|row| row.isr.contains(&self.follower))
    }

    fn take_read(&mut self, Read { partition, epoch, after, read }: Read) {
        // Whoever is first among them may have nothing to read any more.
        self.again.append(&mut self.unread);
        let Some(known) = self.partitions.get_mut(&partition) else { return };
        known.reading = false;
        self.again.insert(partition);
        // In the meantime it may have begun anew, from elsewhere.
        let as_asked = known.fetched.may_send().is_some_and(|(sent, _)| sent == after);
        if known.fetched.epoch() != epoch || !as_asked {
            return;
        }
        let read = read.map_err(|error| unreadable(&error)).and_then(|read| match read.is_empty() {
            true => {
                let message = format!("partition {partition} has nothing behind lsn {after}");
                Err(refused(&Refusal::new(Code::Internal, message)))
            }
            false => Ok(read),
        });
        let read = match read {
            Ok(read) => read,
            Err(why) => {
                known.fetched.silence();
                return self.send(partition, epoch, fetch_reply::Reply::Refused(why), 0);
            }
        };
        let stands = known.feed.with_standing(|standing| (standing.end, standing.watermark));
        let Some((end, watermark)) = stands else { return };
        let epochs = proto::epoch_runs(read.iter().map(|record| record.position.epoch));
        let encoded = read.into_iter().map(|record| record.bytes).collect();
        self.send_records(partition, Records { encoded, epochs, first: after.plus(1), end, watermark });
    }

    fn send_records(&mut self, partition: PartitionId, records: Records) {
        let Records { encoded, epochs, first, end, watermark } = records;
        let Some(known) = self.partitions.get_mut(&partition) else { return };
        let bytes = encoded.iter().map(Bytes::len).sum();
        let last = Lsn::new(first.get() + encoded.len() as u64 - 1);
        known.fetched.sent(last, bytes);
        known.fetched.told(watermark);
        let epoch = known.fetched.epoch();
        let batch = wire::Batch {
            records: encoded,
            watermark: watermark.get(),
            end: Some(end.into()),
            sent_at_ms: Now::read().wall_ms,
            first_lsn: first.get(),
            epochs,
        };
        metrics::counter!("hearth_fetch_sent_bytes_total").increment(bytes as u64);
        self.send(partition, epoch, fetch_reply::Reply::Batch(batch), bytes);
        if last < end.lsn {
            // The others come first.
            self.again.insert(partition);
        }
    }

    /// Tells a watermark, unless it rode on a batch.
    fn tell_watermark(&mut self, partition: PartitionId) {
        let Some(Partition { feed, fetched, .. }) = self.partitions.get_mut(&partition) else { return };
        let stands = feed.with_standing(|standing| (standing.end, standing.watermark));
        let Some((end, watermark)) = stands else { return };
        if !fetched.should_tell(watermark) {
            return;
        }
        fetched.told(watermark);
        let epoch = fetched.epoch();
        let batch = wire::Batch {
            watermark: watermark.get(),
            end: Some(end.into()),
            sent_at_ms: Now::read().wall_ms,
            ..wire::Batch::default()
        };
        self.send(partition, epoch, fetch_reply::Reply::Batch(batch), 0);
    }

    fn not_home(&mut self, partition: PartitionId) {
        self.partitions.remove(&partition);
        let known = not_home(&self.fetches.view.load(), partition, self.fetches.identity.node());
        let reply = wire::NotHome {
            partition: partition.get(),
            epoch: known.epoch.get(),
            home: known.home.map(|home| home.to_string()).unwrap_or_default(),
            moving: known.moving,
            closed_generation: 0,
        };
        self.send(partition, known.epoch, fetch_reply::Reply::NotHome(reply), 0);
    }

    fn send(&self, partition: PartitionId, epoch: Epoch, reply: fetch_reply::Reply, record_bytes: usize) {
        let reply = wire::FetchReply { partition: partition.get(), epoch: epoch.get(), reply: Some(reply) };
        self.out.with(|replies| replies.push(reply, record_bytes));
    }
}
