//! What a home shows to those who copy it: its newest durable records, from memory, and where it ends.
//!
//! One writer, the home's driver; many readers, the streams of replicators. A reader registers a
//! [`Bell`], which rings with the partition's number whenever there is something new. A record is encoded
//! once, for all who copy it; while nobody does, nothing is encoded and nothing kept.

use bytes::Bytes;
use log_store::{EpochBegin, PartitionEnd};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Weak},
};
use tokio::sync::Notify;
use types::{Epoch, Lsn, PartitionId, PartitionPosition, Record};

/// Bytes of one partition's newest records that are kept in memory; what is older is read from the store.
const TAIL_MAX_BYTES: usize = 1024 * 1024;

/// The partitions of which one reader should take another look: at once where there are records, and
/// when it finds the time where only the watermark has moved.
#[derive(Debug, Default)]
pub struct Bell {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    rung: Rung,
    watermarks: BTreeSet<PartitionId>,
}

/// What a [`Bell`] has rung for.
#[derive(Debug, Default)]
pub struct Rung {
    /// Partitions with new records, or whose home has ended.
    pub partitions: BTreeSet<PartitionId>,
    /// Whether a watermark has moved; [`Bell::moved`] tells where.
    pub moved: bool,
}

impl Bell {
    /// Asks for another look.
    pub fn ring(&self, partition: PartitionId) {
        if self.waiting.lock().rung.partitions.insert(partition) {
            self.wake.notify_one();
        }
    }

    /// A watermark has moved. The reader is woken by the first one only, until it asks where.
    fn mark(&self, partition: PartitionId) {
        let mut waiting = self.waiting.lock();
        if waiting.watermarks.is_empty() {
            waiting.rung.moved = true;
            self.wake.notify_one();
        }
        waiting.watermarks.insert(partition);
    }

    /// Takes all that has rung, waiting until something does. Cancel-safe.
    pub async fn listen(&self) -> Rung {
        loop {
            let rung = std::mem::take(&mut self.waiting.lock().rung);
            if rung.moved || !rung.partitions.is_empty() {
                return rung;
            }
            self.wake.notified().await;
        }
    }

    /// Takes the partitions whose watermark has moved.
    pub fn moved(&self) -> BTreeSet<PartitionId> {
        std::mem::take(&mut self.waiting.lock().watermarks)
    }
}

/// Where an open home stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The last durable record.
    pub end: PartitionPosition,
    /// Where the epochs begin.
    pub epochs: Vec<EpochBegin>,
    /// Up to where all is replicated.
    pub watermark: Lsn,
}

/// What a home has behind a position.
#[derive(Debug)]
pub struct Behind {
    /// The home's last durable record.
    pub end: PartitionPosition,
    /// Up to where all is replicated.
    pub watermark: Lsn,
    /// The encoded records that directly follow the position, all of the home's epoch; `None` where memory
    /// does not hold them: they are read from the store.
    pub records: Option<Vec<Bytes>>,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    /// The newest records, dense up to the end.
    tail: VecDeque<Bytes>,
    tail_bytes: usize,
    ended: bool,
    sealed: bool,
    bells: Vec<Weak<Bell>>,
}

impl State {
    fn is_heard(&self) -> bool {
        self.bells.iter().any(|bell| bell.strong_count() > 0)
    }

    /// The LSN of the first record of the tail.
    fn tail_first(&self) -> Lsn {
        Lsn::new(self.standing.end.lsn.get() + 1 - self.tail.len() as u64)
    }

    fn bells(&self) -> impl Iterator<Item = Arc<Bell>> {
        self.bells.iter().filter_map(Weak::upgrade)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Feed {
    partition: PartitionId,
    epoch: Epoch,
    state: Mutex<State>,
}

impl Feed {
    /// The feed of a home that has just opened.
    pub fn new(partition: PartitionId, epoch: Epoch, end: &PartitionEnd, watermark: Lsn) -> Self {
        let standing = Standing { end: end.last, epochs: end.epochs.clone(), watermark };
        let (tail, bells) = (VecDeque::new(), Vec::new());
        let state = State { standing, tail, tail_bytes: 0, ended: false, sealed: false, bells };
        Self { partition, epoch, state: Mutex::new(state) }
    }

    /// The home's epoch.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where the home stands; `None` once it has ended.
    pub fn standing(&self) -> Option<Standing> {
        self.with_standing(Standing::clone)
    }

    /// Looks at where the home stands; `None` once it has ended.
    pub fn with_standing<T>(&self, look: impl FnOnce(&Standing) -> T) -> Option<T> {
        let state = self.state.lock();
        (!state.ended).then(|| look(&state.standing))
    }

    /// The watermark.
    pub fn watermark(&self) -> Lsn {
        self.state.lock().standing.watermark
    }

    /// Rings `bell` from now on.
    pub fn register(&self, bell: &Arc<Bell>) {
        let mut state = self.state.lock();
        state.bells.retain(|known| known.strong_count() > 0);
        if !state.bells.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(bell))) {
            state.bells.push(Arc::downgrade(bell));
        }
    }

    /// The records behind `after`, in LSN order, as many as fit in `max_bytes` (at least one); `None` once
    /// the home has ended.
    pub fn behind(&self, after: Lsn, max_records: usize, max_bytes: usize) -> Option<Behind> {
        let state = self.state.lock();
        if state.ended {
            return None;
        }
        let Standing { end, watermark, .. } = state.standing;
        let first = state.tail_first();
        let records = if after >= end.lsn {
            Some(Vec::new())
        } else if after.plus(1) < first {
            None
        } else {
            let skip = usize::try_from(after.plus(1).since(first)).unwrap_or(usize::MAX);
            let mut bytes = 0;
            let fits = |record: &&Bytes| {
                let first = bytes == 0;
                bytes += record.len();
                first || bytes <= max_bytes
            };
            Some(state.tail.iter().skip(skip).take(max_records).take_while(fits).cloned().collect())
        };
        Some(Behind { end, watermark, records })
    }

    pub(super) fn extend(&self, records: Vec<Record>, end: PartitionPosition) {
        let heard = self.state.lock().is_heard();
        let encoded: Vec<Bytes> =
            if heard { records.iter().map(proto::encode_record).collect() } else { Vec::new() };
        let mut state = self.state.lock();
        if let Some(first) = records.first()
            && state.standing.epochs.last().is_none_or(|begin| begin.epoch < first.epoch)
        {
            state.standing.epochs.push(EpochBegin { epoch: first.epoch, first_lsn: first.lsn });
        }
        state.standing.end = end;
        if !heard {
            // Whoever begins to copy it reads what is there from the store.
            (state.tail, state.tail_bytes) = (VecDeque::new(), 0);
        }
        for record in encoded {
            state.tail_bytes += record.len();
            state.tail.push_back(record);
        }
        while state.tail_bytes > TAIL_MAX_BYTES {
            let Some(oldest) = state.tail.pop_front() else { break };
            state.tail_bytes -= oldest.len();
        }
        state.bells().for_each(|bell| bell.ring(self.partition));
    }

    pub(super) fn move_watermark(&self, watermark: Lsn) {
        let mut state = self.state.lock();
        state.standing.watermark = watermark;
        state.bells().for_each(|bell| bell.mark(self.partition));
    }

    /// SEAL is being written: from now on there may be a later home, whatever the lease says.
    pub(super) fn seal(&self) {
        self.state.lock().sealed = true;
    }

    /// Whether there may be a later home that was not begun by a loss of the lease.
    pub fn is_sealed(&self) -> bool {
        self.state.lock().sealed
    }

    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.tail.clear();
        state.bells().for_each(|bell| bell.ring(self.partition));
    }
}

/// The homes that are open at this node.
#[derive(Debug, Default)]
pub struct OpenHomes(parking_lot::RwLock<HashMap<PartitionId, Arc<Feed>>>);

impl OpenHomes {
    /// The feed of a partition whose home this node is.
    pub fn get(&self, partition: PartitionId) -> Option<Arc<Feed>> {
        self.0.read().get(&partition).cloned()
    }

    pub(super) fn insert(&self, partition: PartitionId, feed: Arc<Feed>) {
        self.0.write().insert(partition, feed);
    }

    pub(super) fn remove(&self, partition: PartitionId) {
        self.0.write().remove(&partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Body, Generation, LogId, StateUpdate};

    const EPOCH: Epoch = Epoch::new(2);

    fn records(lsns: std::ops::RangeInclusive<u64>) -> Vec<Record> {
        let record = |lsn| Record {
            lsn: Lsn::new(lsn),
            epoch: EPOCH,
            generation: Generation::FIRST,
            log: LogId::group([1; 16]),
            accepted_at_ms: 0,
            body: Body::Update(StateUpdate::Cursors(Vec::new())),
        };
        lsns.map(record).collect()
    }

    fn at(lsn: u64) -> PartitionPosition {
        PartitionPosition::new(EPOCH, Lsn::new(lsn))
    }

    fn behind(feed: &Feed, after: u64) -> Option<usize> {
        let behind = feed.behind(Lsn::new(after), 100, usize::MAX).expect("it has not ended");
        behind.records.map(|records| records.len())
    }

    #[test]
    fn what_nobody_listens_to_is_read_from_the_store() {
        let feed = Feed::new(PartitionId::new(1), EPOCH, &PartitionEnd::default(), Lsn::ZERO);
        feed.extend(records(1..=3), at(3));
        assert_eq!(behind(&feed, 0), None);
        assert_eq!(behind(&feed, 3), Some(0));
        let bell = Arc::new(Bell::default());
        feed.register(&bell);
        feed.extend(records(4..=6), at(6));
        assert_eq!((behind(&feed, 2), behind(&feed, 3), behind(&feed, 5)), (None, Some(3), Some(1)));
        drop(bell);
        feed.extend(records(7..=7), at(7));
        assert_eq!((behind(&feed, 5), behind(&feed, 6)), (None, None));
    }

    #[test]
    fn a_watermark_that_moves_wakes_once_until_it_is_asked_for() {
        use futures_util::FutureExt as _;
        let feed = Feed::new(PartitionId::new(1), EPOCH, &PartitionEnd::default(), Lsn::ZERO);
        let bell = Arc::new(Bell::default());
        feed.register(&bell);
        feed.move_watermark(Lsn::new(1));
        assert!(bell.listen().now_or_never().is_some_and(|rung| rung.moved && rung.partitions.is_empty()));
        feed.move_watermark(Lsn::new(2));
        assert!(bell.listen().now_or_never().is_none());
        assert_eq!(bell.moved(), BTreeSet::from([PartitionId::new(1)]));
        feed.move_watermark(Lsn::new(3));
        assert!(bell.listen().now_or_never().is_some());
    }
}
