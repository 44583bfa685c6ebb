//! What a home shows to those who copy it: its newest durable records, from memory, and where it ends.
//! Records are kept only while somebody copies it.
//!
//! One writer, the home's driver; many readers, the streams of replicators. A reader registers a
//! [`Bell`], which rings with the partition's number whenever there is something new.

use log_store::{EpochBegin, PartitionEnd};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Weak},
};
use tokio::sync::Notify;
use types::{Epoch, Lsn, PartitionId, PartitionPosition, Record};

use super::core::bytes_at_most;

/// Bytes of one partition's newest records that are kept in memory; what is older is read from the store.
const TAIL_MAX_BYTES: usize = 1024 * 1024;

/// The partitions of which one reader should take another look.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<BTreeSet<PartitionId>>,
    wake: Notify,
}

impl Bell {
    /// Asks for another look.
    pub fn ring(&self, partition: PartitionId) {
        if self.rung.lock().insert(partition) {
            self.wake.notify_one();
        }
    }

    /// Takes all that has rung, waiting until something does. Cancel-safe.
    pub async fn listen(&self) -> BTreeSet<PartitionId> {
        loop {
            let rung = std::mem::take(&mut *self.rung.lock());
            if !rung.is_empty() {
                return rung;
            }
            self.wake.notified().await;
        }
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

#[derive(Debug)]
struct State {
    standing: Standing,
    tail: VecDeque<Record>,
    tail_bytes: usize,
    ended: bool,
    bells: Vec<Weak<Bell>>,
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
        let state = State { standing, tail, tail_bytes: 0, ended: false, bells };
        Self { partition, epoch, state: Mutex::new(state) }
    }

    /// The home's epoch.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where the home stands; `None` once it has ended.
    pub fn standing(&self) -> Option<Standing> {
        let state = self.state.lock();
        (!state.ended).then(|| state.standing.clone())
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

    /// The records behind `after`, in LSN order, as many as fit in `max_bytes` (at least one), if memory
    /// holds them; `None`: read them from the store.
    pub fn tail_behind(&self, after: Lsn, max_records: usize, max_bytes: usize) -> Option<Vec<Record>> {
        let state = self.state.lock();
        if after >= state.standing.end.lsn {
            return Some(Vec::new());
        }
        let first = state.tail.front()?.lsn;
        if after.plus(1) < first {
            return None;
        }
        let skip = usize::try_from(after.plus(1).since(first)).ok()?;
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let first = bytes == 0;
            bytes += bytes_at_most(record);
            first || bytes <= max_bytes
        };
        Some(state.tail.iter().skip(skip).take(max_records).take_while(fits).cloned().collect())
    }

    pub(super) fn extend(&self, records: Vec<Record>, end: PartitionPosition) {
        self.change(|state| {
            if let Some(first) = records.first()
                && state.standing.epochs.last().is_none_or(|begin| begin.epoch < first.epoch)
            {
                state.standing.epochs.push(EpochBegin { epoch: first.epoch, first_lsn: first.lsn });
            }
            state.standing.end = end;
            if state.bells.iter().all(|bell| bell.strong_count() == 0) {
                // Nobody copies it: whoever begins to reads what is there from the store.
                (state.tail, state.tail_bytes) = (VecDeque::new(), 0);
                return;
            }
            for record in records {
                state.tail_bytes += bytes_at_most(&record);
                state.tail.push_back(record);
            }
            while state.tail_bytes > TAIL_MAX_BYTES {
                let Some(oldest) = state.tail.pop_front() else { break };
                state.tail_bytes -= bytes_at_most(&oldest);
            }
        });
    }

    pub(super) fn move_watermark(&self, watermark: Lsn) {
        self.change(|state| state.standing.watermark = watermark);
    }

    pub(super) fn end(&self) {
        self.change(|state| {
            state.ended = true;
            state.tail.clear();
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        for bell in state.bells.iter().filter_map(Weak::upgrade) {
            bell.ring(self.partition);
        }
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
