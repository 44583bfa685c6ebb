//! What is durable but not yet folded, in memory, and the small tables that always are.
//!
//! ```text
//!   writer ── publish ──► active ── freeze ──► frozen ── commit ──► fold
//!   reader ── looks in ──► active, then frozen, then the fold
//! ```
//!
//! The view holds durable records only: the writer publishes a group after its sync and before its acks.
//! A frozen overlay is dropped after the fold shows its rows, so a reader that looks in this order finds
//! each record somewhere.

use super::{
    frame::Location,
    rows::{FoldPosition, Mark, PartitionState},
    staged::StagedLogs,
};
use crate::{Archive, ArchiveId, fold::LogState};
use foldhash::HashMap;
use smallvec::{SmallVec, smallvec};
use std::{
    collections::{BTreeMap, BTreeSet, hash_map},
    sync::Arc,
};
use types::{Epoch, LogId, Lsn, PartitionId, Record};

/// A log in its partition.
pub(crate) type LogKey = (PartitionId, LogId);

/// Locations under dense numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) locations: Vec<Location>,
}

impl Run {
    fn push(&mut self, number: u64, location: Location) {
        if self.locations.is_empty() {
            self.first = number;
        }
        debug_assert_eq!(number, self.first + self.locations.len() as u64, "numbers are dense");
        self.locations.push(location);
    }

    fn goes_on_at(&self, number: u64) -> bool {
        self.locations.is_empty() || number == self.first + self.locations.len() as u64
    }

    pub(crate) fn get(&self, number: u64) -> Option<Location> {
        self.locations.get(usize::try_from(number.checked_sub(self.first)?).ok()?).copied()
    }
}

/// What a log has that is not yet folded.
#[derive(Debug, Clone)]
pub(crate) struct LogRows {
    /// The whole state, folded or not.
    pub(crate) state: Arc<LogState>,
    /// Its entries by offset: one run, and another behind each hole that an import has left. Never empty.
    pub(crate) entries: SmallVec<[Run; 1]>,
}

impl LogRows {
    fn new(state: Arc<LogState>) -> Self {
        Self { state, entries: smallvec![Run::default()] }
    }

    fn push(&mut self, offset: u64, location: Location) {
        match self.entries.last_mut() {
            Some(run) if run.goes_on_at(offset) => run.push(offset, location),
            _ => self.entries.push(Run { first: offset, locations: vec![location] }),
        }
    }
}

/// What is not yet folded.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// Records by LSN.
    pub(crate) partitions: HashMap<PartitionId, Run>,
    pub(crate) logs: HashMap<LogKey, LogRows>,
    pub(crate) dedup: HashMap<u128, Location>,
    /// Marks that were set or, with no value, taken back.
    pub(crate) marks: BTreeMap<Location, Option<Mark>>,
    /// Logs that have effects pending from now on or, false, no longer have.
    pub(crate) effects: BTreeMap<LogKey, bool>,
    /// Partitions whose end has changed.
    pub(crate) ends: BTreeSet<PartitionId>,
    /// Segments whose first expiry has changed.
    pub(crate) expiries: BTreeSet<u32>,
    pub(crate) records: usize,
}

impl Overlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0 && self.ends.is_empty() && self.marks.is_empty() && self.expiries.is_empty()
    }
}

/// An overlay on its way into the fold, with the small tables as they were when it was frozen.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) overlay: Overlay,
    pub(crate) ends: Vec<(PartitionId, PartitionState)>,
    pub(crate) expiries: Vec<(u32, u64)>,
    pub(crate) position: FoldPosition,
}

/// A record on its way into the view.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) partition: PartitionId,
    pub(crate) location: Location,
    pub(crate) record: Record,
    /// The place of its log among those of its group.
    pub(crate) log: usize,
    /// The hash of its dedup row, where it is an entry.
    pub(crate) dedup: Option<u128>,
}

/// Everything readers see that is not in the fold.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) partitions: BTreeMap<PartitionId, PartitionState>,
    pub(crate) archives: BTreeMap<ArchiveId, Archive>,
    /// All bodies that are due and still on disk: bounded by what is deleted between two reclaims.
    pub(crate) marks: HashMap<Location, Mark>,
    /// The logs that have effects pending.
    pub(crate) effects: BTreeSet<LogKey>,
    /// Per segment, when the first body in it expires.
    pub(crate) expiries: BTreeMap<u32, u64>,
    pub(crate) active: Overlay,
    pub(crate) frozen: Option<Arc<Frozen>>,
    /// Behind the last published frame.
    pub(crate) position: FoldPosition,
}

impl View {
    /// Shows durable records of one partition, in order.
    pub(crate) fn publish_records(&mut self, records: &[Placed], logs: &mut StagedLogs) {
        let Some(partition) = records.first().map(|placed| placed.partition) else { return };
        self.active.records += records.len();
        let run = self.active.partitions.entry(partition).or_default();
        let end = &mut self.partitions.entry(partition).or_default().end;
        for Placed { location, record, .. } in records {
            run.push(record.lsn.get(), *location);
            end.follow(record);
        }
        self.active.ends.insert(partition);
        for placed in records {
            self.publish_in_log(placed, logs.at(placed.log).base.take());
        }
    }

    /// Shows one record in its log. `base` is the log's state before it, needed where the active overlay
    /// has none.
    fn publish_in_log(&mut self, placed: &Placed, base: Option<Arc<LogState>>) {
        let Placed { partition, location, ref record, dedup, .. } = *placed;
        let rows = match self.active.logs.entry((partition, record.log)) {
            hash_map::Entry::Occupied(known) => {
                // Another handle on the state would make folding the record copy it.
                drop(base);
                known.into_mut()
            }
            hash_map::Entry::Vacant(vacant) => vacant.insert(LogRows::new(base.unwrap_or_default())),
        };
        if let Err(error) = Arc::make_mut(&mut rows.state).apply(record) {
            tracing::error!(%partition, log = %record.log, lsn = %record.lsn, %error, "record does not fold");
        }
        let (key, has_effects) = ((partition, record.log), !rows.state.effects.is_empty());
        if let Some(entry) = record.entry() {
            rows.push(entry.offset.get(), location);
            if crate::erase::has_body(record)
                && let Some(expires_at_ms) = entry.expires_at_ms
            {
                self.expires(location.segment, expires_at_ms);
            }
        }
        if has_effects != self.effects.contains(&key) {
            self.active.effects.insert(key, has_effects);
            self.has_effects(key, has_effects);
        }
        if let Some(hash) = dedup {
            self.active.dedup.insert(hash, location);
        }
    }

    /// Notes whether a log has effects pending.
    pub(crate) fn has_effects(&mut self, key: LogKey, has_effects: bool) {
        if has_effects {
            self.effects.insert(key);
        } else {
            self.effects.remove(&key);
        }
    }

    pub(crate) fn publish_fence(&mut self, partition: PartitionId, epoch: Epoch) {
        let end = &mut self.partitions.entry(partition).or_default().end;
        end.fence = end.fence.max(epoch);
        self.active.ends.insert(partition);
    }

    fn expires(&mut self, segment: u32, expires_at_ms: u64) {
        let first = self.expiries.entry(segment).or_insert(u64::MAX);
        if expires_at_ms < *first {
            *first = expires_at_ms;
            self.active.expiries.insert(segment);
        }
    }

    /// Marks a body as due; the first cause stays.
    pub(crate) fn mark(&mut self, location: Location, mark: Mark) {
        let mark = *self.marks.entry(location).or_insert(mark);
        self.active.marks.insert(location, Some(mark));
    }

    /// Takes a mark back.
    pub(crate) fn unmark(&mut self, location: Location) {
        if self.marks.remove(&location).is_some() {
            self.active.marks.insert(location, None);
        }
    }

    /// Moves the active overlay on its way into the fold, if it may go.
    pub(crate) fn freeze(&mut self, checkpoints_max: usize) -> Option<Arc<Frozen>> {
        if self.frozen.is_some() || self.active.is_empty() {
            return self.frozen.clone();
        }
        let overlay = std::mem::take(&mut self.active);
        for partition in overlay.partitions.keys() {
            if let Some(state) = self.partitions.get_mut(partition) {
                let last: Lsn = state.end.last.lsn;
                state.checkpoints.push(last);
                let surplus = state.checkpoints.len().saturating_sub(checkpoints_max);
                state.checkpoints.drain(..surplus);
            }
        }
        let end_of = |partition: &PartitionId| {
            (*partition, self.partitions.get(partition).cloned().unwrap_or_default())
        };
        let ends = overlay.ends.iter().map(end_of).collect();
        let expiry_of = |segment: &u32| (*segment, self.expiries.get(segment).copied().unwrap_or(u64::MAX));
        let expiries = overlay.expiries.iter().map(expiry_of).collect();
        let frozen = Arc::new(Frozen { overlay, ends, expiries, position: self.position });
        self.frozen = Some(frozen.clone());
        Some(frozen)
    }
}
