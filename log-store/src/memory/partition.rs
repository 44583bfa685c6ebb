//! One partition's records and what is derived from them, as a plain state machine.
//!
//! The records are the truth. Everything else can be folded from them again, which is what a truncation
//! does for each log that it touches.

use crate::{
    Append, AppendError, Deduped, EpochBegin, PartitionEnd, Scan, StoreError,
    check::{Checker, Ends},
    erase,
    fold::{LogState, Standing},
};
use host::planted::{Bug, is_planted};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};
use types::{Body, DedupKey, Epoch, LogId, Lsn, Offset, PartitionPosition, Position, Record};

/// One partition.
#[derive(Debug, Clone, Default)]
pub(super) struct PartitionLog {
    fence: Epoch,
    /// The record of LSN n stands at n - 1.
    records: Vec<Record>,
    epochs: Vec<EpochBegin>,
    logs: BTreeMap<LogId, LogRows>,
}

/// What is derived from the records of one log.
#[derive(Debug, Clone, Default)]
struct LogRows {
    /// All its records, updates included.
    lsns: Vec<Lsn>,
    /// Its entries that are held here, by offset.
    entries: BTreeMap<Offset, Lsn>,
    state: Arc<LogState>,
    dedup: HashMap<DedupKey, Deduped>,
    /// Deleted offsets, each with the LSN of its first deletion.
    deleted: BTreeMap<Offset, Lsn>,
}

impl PartitionLog {
    pub(super) fn end(&self) -> PartitionEnd {
        PartitionEnd { fence: self.fence, last: self.last(), epochs: self.epochs.clone() }
    }

    /// Whether it holds neither a record nor a fence.
    pub(super) fn is_blank(&self) -> bool {
        self.fence.is_zero() && self.records.is_empty()
    }

    pub(super) fn raise_fence(&mut self, epoch: Epoch) {
        self.fence = self.fence.max(epoch);
    }

    pub(super) fn append(
        &mut self,
        append: Append,
        checker: &mut Checker,
    ) -> Result<PartitionPosition, AppendError> {
        checker.follows(&append, self)?;
        for record in append.records {
            self.push(record);
        }
        Ok(self.last())
    }

    fn push(&mut self, record: Record) {
        if self.epochs.last().is_none_or(|begin| begin.epoch != record.epoch) {
            self.epochs.push(EpochBegin { epoch: record.epoch, first_lsn: record.lsn });
        }
        self.logs.entry(record.log).or_default().push(&record);
        self.records.push(record);
    }

    /// The records from `from` on, never none of them.
    pub(super) fn tail(&self, from: Lsn) -> Option<&[Record]> {
        let tail = self.records.get(index_of(from.max(Lsn::FIRST))..)?;
        (!tail.is_empty()).then_some(tail)
    }

    /// Drops all records from `from` on and folds the logs that lost one anew.
    pub(super) fn truncate(&mut self, from: Lsn) {
        let cut = self.records.split_off(index_of(from.max(Lsn::FIRST)).min(self.records.len()));
        self.epochs.retain(|begin| begin.first_lsn < from);
        let touched: BTreeSet<LogId> = cut.iter().map(|record| record.log).collect();
        for log in touched {
            let before = self.logs.remove(&log).unwrap_or_default();
            let mut rows = LogRows::default();
            if is_planted(Bug::KeepDerived) {
                rows.dedup = before.dedup;
            }
            for record in before.lsns.iter().filter_map(|lsn| self.records.get(index_of(*lsn))) {
                rows.push(record);
            }
            if !rows.lsns.is_empty() {
                self.logs.insert(log, rows);
            }
        }
    }

    /// The record of an LSN as it is served: bodies that are deleted up to an LSN are gone.
    fn served(&self, lsn: Lsn, deleted_to: Lsn) -> Option<Record> {
        let mut record = self.records.get(index_of(lsn))?.clone();
        if self.is_deleted(&record, deleted_to) {
            erase::erase(&mut record);
        }
        Some(record)
    }

    fn is_deleted(&self, record: &Record, deleted_to: Lsn) -> bool {
        let Some(entry) = record.entry() else { return false };
        let deleted = self.logs.get(&record.log).and_then(|rows| rows.deleted.get(&entry.offset));
        deleted.is_some_and(|by| *by <= deleted_to)
    }

    /// The records from `from` on, as they are served.
    pub(super) fn records_from(&self, from: Lsn, replicated: Lsn) -> impl Iterator<Item = Record> {
        let from = from.max(Lsn::FIRST).get();
        (from..=self.last().lsn.get()).filter_map(move |lsn| self.served(Lsn::new(lsn), replicated))
    }

    /// The entries of a log in the scan's direction, as they are served at `now_ms`.
    pub(super) fn entries(&self, log: &LogId, scan: Scan, now_ms: u64) -> impl Iterator<Item = Record> {
        let rows = self.logs.get(log);
        let held = rows.and_then(|rows| scan.held(&rows.state).map(|held| (held, rows)));
        let entries = held.into_iter().flat_map(|((first, last), rows)| {
            rows.entries.range(Offset::new(first)..=Offset::new(last)).map(|(_, lsn)| *lsn)
        });
        let (forward, backward) = match scan {
            Scan::After(_) => (Some(entries), None),
            Scan::Before(_) => (None, Some(entries.rev())),
        };
        forward.into_iter().flatten().chain(backward.into_iter().flatten()).filter_map(move |lsn| {
            let mut record = self.served(lsn, Lsn::new(u64::MAX))?;
            if erase::is_expired(&record, now_ms) {
                erase::erase(&mut record);
            }
            Some(record)
        })
    }

    pub(super) fn state(&self, log: &LogId) -> Option<Arc<LogState>> {
        self.logs.get(log).map(|rows| rows.state.clone())
    }

    pub(super) fn logs_behind(&self, after: Option<LogId>) -> impl Iterator<Item = LogId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.logs.range((from, Bound::Unbounded)).map(|(log, _)| *log)
    }

    /// The logs behind one that have effects pending.
    pub(super) fn effect_logs(&self, after: Option<LogId>) -> impl Iterator<Item = LogId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.logs.range((from, Bound::Unbounded));
        behind.filter(|(_, rows)| !rows.state.effects.is_empty()).map(|(log, _)| *log)
    }

    pub(super) fn find(&self, log: &LogId, key: &DedupKey) -> Option<Deduped> {
        self.logs.get(log)?.dedup.get(key).copied()
    }

    /// Whether the entry that stands under a message id here has lost its body for good.
    pub(super) fn has_erased(&self, log: &LogId, key: &DedupKey, replicated: Lsn) -> bool {
        self.find(log, key)
            .and_then(|found| self.served(found.lsn, replicated))
            .is_some_and(|record| erase::is_erased(&record))
    }

    /// Erases what is due at `now_ms`; answers how many bodies and bytes.
    pub(super) fn reclaim(&mut self, now_ms: u64, replicated: Lsn) -> (u64, u64) {
        let (mut bodies, mut bytes) = (0, 0);
        for at in 0..self.records.len() {
            let record = &self.records[at];
            if !self.is_deleted(record, replicated) && !erase::is_expired(record, now_ms) {
                continue;
            }
            let before = proto::encode_record(record).len();
            let record = &mut self.records[at];
            if erase::erase(record) {
                bodies += 1;
                bytes += before.saturating_sub(proto::encode_record(record).len()) as u64;
            }
        }
        (bodies, bytes)
    }
}

impl Ends for PartitionLog {
    fn fence(&self) -> Epoch {
        self.fence
    }

    fn last(&self) -> PartitionPosition {
        self.records.last().map_or(PartitionPosition::ZERO, Record::partition_position)
    }

    fn standing(&mut self, log: &LogId) -> Result<Standing, StoreError> {
        Ok(self.logs.get(log).map(|rows| rows.state.standing()).unwrap_or_default())
    }

    fn holds(&mut self, log: &LogId, key: &DedupKey) -> Result<bool, StoreError> {
        Ok(self.find(log, key).is_some())
    }
}

impl LogRows {
    fn push(&mut self, record: &Record) {
        Arc::make_mut(&mut self.state).apply(record).expect("the check lets only records pass that follow");
        self.lsns.push(record.lsn);
        for offset in erase::erased_by(record).iter() {
            self.deleted.entry(*offset).or_insert(record.lsn);
        }
        let Body::Entry(entry) = &record.body else { return };
        self.entries.insert(entry.offset, record.lsn);
        let row = Deduped {
            position: Position::new(record.generation, record.epoch, entry.offset),
            lsn: record.lsn,
            hash: entry.body.hash(),
            accepted_at_ms: record.accepted_at_ms,
        };
        self.dedup.insert(entry.dedup_key(), row);
    }
}

/// Where the record of an LSN stands; the LSN zero stands nowhere.
fn index_of(lsn: Lsn) -> usize {
    usize::try_from(lsn.get()).map_or(usize::MAX, |lsn| lsn.wrapping_sub(1))
}
