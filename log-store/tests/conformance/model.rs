//! What a store must answer, worked out from nothing but lists of records.
//!
//! It is slow and plain on purpose: each answer is found by looking through all records, so that it can
//! be seen to be right without trusting any index.

use log_store::{
    Append, AppendError, Deduped, EpochBegin, PartitionEnd, Scan, TailError, erase, fold::LogState,
};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    Body, DedupKey, EntryBody, Epoch, Generation, LogId, Lsn, Offset, PartitionId, PartitionPosition, Record,
    StateUpdate,
};

/// A record as it was appended, and what may have become of its body.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) record: Record,
    /// A deletion stood against it at some time: an engine may have taken the body then, and need not
    /// give it back when the deletion is cut.
    was_deleted: bool,
    /// A deletion stood against it as it was archived.
    archived_deleted: bool,
    /// It was due when the store was told to reclaim.
    reclaimed: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Partition {
    fence: Epoch,
    pub(crate) records: Vec<Held>,
}

#[derive(Debug, Clone)]
pub(crate) struct Tail {
    pub(crate) partition: PartitionId,
    pub(crate) records: Vec<Held>,
}

/// All of a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) partitions: BTreeMap<PartitionId, Partition>,
    pub(crate) archives: Vec<Tail>,
}

/// What may be served for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Whole,
    Erased,
    Either,
}

impl Expected {
    /// Whether `served` is an answer for `record`.
    pub(crate) fn admits(self, record: &Record, served: &Record) -> bool {
        let mut erased = record.clone();
        erase::erase(&mut erased);
        let (whole, erased) = (served == record, *served == erased);
        match self {
            Self::Whole => whole,
            Self::Erased => erased,
            Self::Either => whole || erased,
        }
    }
}

impl Model {
    pub(crate) fn partition(&mut self, partition: PartitionId) -> &mut Partition {
        self.partitions.entry(partition).or_default()
    }

    pub(crate) fn append(&mut self, append: &Append) -> Result<PartitionPosition, AppendError> {
        let durable = self.partition(append.partition).append(append)?;
        // An engine may take an archived body, too, as soon as its message is deleted.
        let erased = self.partition(append.partition).erased();
        for tail in self.archives.iter_mut().filter(|tail| tail.partition == append.partition) {
            tail.records.iter_mut().for_each(|held| held.was_deleted |= held.is_named_among(&erased));
        }
        Ok(durable)
    }

    pub(crate) fn archive_tail(
        &mut self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<Option<Tail>, TailError> {
        let log = self.partition(partition);
        log.obey(partition, obeys)?;
        let deleted = log.deleted();
        let tail = log.records.iter().filter(|held| held.record.lsn >= from).cloned();
        let records: Vec<Held> =
            tail.map(|held| Held { archived_deleted: is_among(&held.record, &deleted), ..held }).collect();
        Ok((!records.is_empty()).then_some(Tail { partition, records }))
    }

    pub(crate) fn truncate(
        &mut self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<PartitionEnd, TailError> {
        let archived: BTreeSet<PartitionPosition> = self
            .archives
            .iter()
            .filter(|tail| tail.partition == partition)
            .flat_map(|tail| tail.records.iter().map(|held| held.record.partition_position()))
            .collect();
        let log = self.partition(partition);
        log.obey(partition, obeys)?;
        let mut tail = log.records.iter().filter(|held| held.record.lsn >= from);
        if let Some(lost) = tail.find(|held| !archived.contains(&held.record.partition_position())) {
            return Err(TailError::NotArchived { partition, lsn: lost.record.lsn });
        }
        log.records.retain(|held| held.record.lsn < from);
        Ok(log.end())
    }

    pub(crate) fn reclaim(&mut self, now_ms: u64) {
        for log in self.partitions.values_mut() {
            let deleted = log.deleted();
            for held in &mut log.records {
                let due = is_among(&held.record, &deleted) || erase::is_expired(&held.record, now_ms);
                held.reclaimed |= due;
            }
        }
        // It may have been put back in another partition, where its log went on.
        let erased = self.partitions.values().flat_map(Partition::erased).collect();
        for tail in &mut self.archives {
            let log = self.partitions.get(&tail.partition).cloned().unwrap_or_default();
            let standing = log.message_ids();
            for held in &mut tail.records {
                let gone = held.is_named_among(&erased)
                    || (held.archived_deleted && !held.is_named_among(&standing));
                held.reclaimed |= gone || erase::is_expired(&held.record, now_ms);
            }
        }
    }
}

impl Partition {
    pub(crate) fn end(&self) -> PartitionEnd {
        let mut epochs: Vec<EpochBegin> = Vec::new();
        for held in &self.records {
            if epochs.last().is_none_or(|begin| begin.epoch != held.record.epoch) {
                epochs.push(EpochBegin { epoch: held.record.epoch, first_lsn: held.record.lsn });
            }
        }
        PartitionEnd { fence: self.fence, last: self.last(), epochs }
    }

    pub(crate) fn last(&self) -> PartitionPosition {
        self.records.last().map(|held| held.record.partition_position()).unwrap_or_default()
    }

    pub(crate) fn raise_fence(&mut self, epoch: Epoch) -> PartitionEnd {
        self.fence = self.fence.max(epoch);
        self.end()
    }

    fn obey(&self, partition: PartitionId, obeys: Epoch) -> Result<(), TailError> {
        let fence = self.fence;
        if obeys < fence { Err(TailError::Fenced { partition, obeys, fence }) } else { Ok(()) }
    }

    fn append(&mut self, append: &Append) -> Result<PartitionPosition, AppendError> {
        let Append { partition, obeys, records } = append;
        let (partition, obeys, fence) = (*partition, *obeys, self.fence);
        let invalid = || AppendError::Invalid { partition, why: "".into() };
        let epochs: Vec<Epoch> = records.iter().map(|record| record.epoch).collect();
        let valid = Epoch::FIRST..=obeys;
        if epochs.is_empty() || !epochs.is_sorted() || !epochs.iter().all(|epoch| valid.contains(epoch)) {
            return Err(invalid());
        }
        if records.iter().any(|record| record.generation < Generation::FIRST) {
            return Err(invalid());
        }
        if obeys < fence {
            return Err(AppendError::Fenced { partition, obeys, fence });
        }
        let mut grown = self.clone();
        for record in records {
            let (expected, found) = (grown.last().lsn.plus(1), record.lsn);
            if found != expected {
                return Err(AppendError::Gap { partition, expected, found });
            }
            if record.epoch < self.last().epoch {
                return Err(invalid());
            }
            let log = record.log;
            if let Some(entry) = record.entry() {
                let (expected, found) = (grown.head(log).plus(1), entry.offset);
                if found != expected {
                    return Err(AppendError::OffsetGap { log, expected, found });
                }
            }
            if !grown.takes(record) {
                return Err(invalid());
            }
            if let Body::Update(StateUpdate::LogImported(import)) = &record.body {
                let (expected, found) = (grown.head(log), import.head.offset);
                if found < expected {
                    return Err(AppendError::OffsetGap { log, expected, found });
                }
            }
            if let Some(entry) = record.entry() {
                let lsn = record.lsn;
                if grown.find(log, &entry.dedup_key()).is_some() {
                    return Err(AppendError::Duplicate { log, lsn });
                }
            }
            grown.records.push(Held::new(record));
        }
        let deleted = grown.deleted();
        for held in &mut grown.records {
            held.was_deleted |= is_among(&held.record, &deleted);
        }
        *self = grown;
        Ok(self.last())
    }

    /// The offset of the log's last entry, which may be elsewhere.
    pub(crate) fn head(&self, log: LogId) -> Offset {
        let reached = self.of_log(log).filter_map(|record| match &record.body {
            Body::Entry(entry) => Some(entry.offset),
            Body::Update(StateUpdate::LogImported(import)) => Some(import.head.offset),
            Body::Update(_) => None,
        });
        reached.last().unwrap_or_default()
    }

    /// Whether the log's generation is not over where the record is written in it.
    fn takes(&self, record: &Record) -> bool {
        let is =
            |of: &Record, kind: fn(&StateUpdate) -> bool| matches!(&of.body, Body::Update(it) if kind(it));
        let seals = |update: &StateUpdate| matches!(update, StateUpdate::LogSealed { .. });
        let imports = |update: &StateUpdate| matches!(update, StateUpdate::LogImported(_));
        if let Body::Update(StateUpdate::LogImported(import)) = &record.body
            && record.generation <= import.head.generation
        {
            return false;
        }
        self.of_log(record.log).all(|before| {
            let is_cursor = !(before.entry().is_some() || is(before, seals) || is(before, imports));
            match () {
                () if is(record, imports) && !is_cursor => before.generation < record.generation,
                () if is(record, seals) && !is_cursor => before.generation <= record.generation,
                () if is(before, seals) => before.generation < record.generation,
                () if is_cursor => true,
                () => before.generation <= record.generation,
            }
        })
    }

    fn of_log(&self, log: LogId) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|held| &held.record).filter(move |record| record.log == log)
    }

    fn entries(&self, log: LogId) -> impl DoubleEndedIterator<Item = &Held> {
        self.records.iter().filter(move |held| held.record.log == log && held.record.entry().is_some())
    }

    pub(crate) fn logs(&self) -> BTreeSet<LogId> {
        self.records.iter().map(|held| held.record.log).collect()
    }

    pub(crate) fn state(&self, log: LogId) -> Option<LogState> {
        let mut state = LogState::default();
        let records: Vec<&Held> = self.records.iter().filter(|held| held.record.log == log).collect();
        for held in &records {
            state.apply(&held.record).expect("only records that follow were taken");
        }
        (!records.is_empty()).then_some(state)
    }

    pub(crate) fn find(&self, log: LogId, key: &DedupKey) -> Option<Deduped> {
        self.entries(log).find_map(|held| {
            let (record, entry) = (&held.record, held.record.entry()?);
            (entry.dedup_key() == *key).then_some(Deduped {
                position: record.position()?,
                lsn: record.lsn,
                hash: entry.body.hash(),
                accepted_at_ms: record.accepted_at_ms,
            })
        })
    }

    /// The page of a log that a scan reads, at `now_ms`.
    pub(crate) fn scan(&self, log: LogId, scan: Scan, now_ms: u64) -> Vec<(Record, Expected)> {
        let deleted = self.deleted();
        let offset = |held: &&Held| held.record.entry().map_or(Offset::ZERO, |entry| entry.offset);
        let page: Vec<&Held> = match scan {
            Scan::After(after) => self.entries(log).filter(|held| offset(held) > after).collect(),
            Scan::Before(before) => self.entries(log).rev().filter(|held| offset(held) < before).collect(),
        };
        // It ends where another partition holds what comes next.
        let next = match scan {
            Scan::After(after) => after.plus(1).get(),
            Scan::Before(before) => self.head(log).min(before.prev()).get(),
        };
        let here = |at: usize, held: &Held| offset(&held).get().abs_diff(next) == at as u64;
        let held_here = page.iter().enumerate().take_while(|(at, held)| here(*at, held)).count();
        let page = page[..held_here].to_vec();
        let expected = |held: &Held| {
            let due = is_among(&held.record, &deleted) || erase::is_expired(&held.record, now_ms);
            held.expected(due)
        };
        page.into_iter().map(|held| (held.record.clone(), expected(held))).collect()
    }

    /// All records, as the partition is read.
    pub(crate) fn served(&self) -> Vec<(Record, Expected)> {
        let deleted = self.deleted();
        let expected = |held: &Held| held.expected(is_among(&held.record, &deleted));
        self.records.iter().map(|held| (held.record.clone(), expected(held))).collect()
    }

    fn deleted(&self) -> BTreeSet<(LogId, Offset)> {
        let mut deleted = BTreeSet::new();
        for held in &self.records {
            if let Body::Entry(entry) = &held.record.body
                && let EntryBody::Deleted { offsets } = &entry.body
            {
                deleted.extend(offsets.iter().map(|offset| (held.record.log, *offset)));
            }
        }
        deleted
    }

    fn message_ids(&self) -> BTreeSet<(LogId, DedupKey)> {
        let keys = self.records.iter().filter_map(|held| Some((held.record.log, held.record.entry()?)));
        keys.map(|(log, entry)| (log, entry.dedup_key())).collect()
    }

    /// The message ids whose bodies are gone.
    fn erased(&self) -> BTreeSet<(LogId, DedupKey)> {
        let deleted = self.deleted();
        let gone = |held: &&Held| {
            held.reclaimed || erase::is_erased(&held.record) || is_among(&held.record, &deleted)
        };
        let gone = self.records.iter().filter(gone);
        gone.filter_map(|held| Some((held.record.log, held.record.entry()?.dedup_key()))).collect()
    }
}

impl Tail {
    pub(crate) fn served(&self) -> Vec<(Record, Expected)> {
        self.records.iter().map(|held| (held.record.clone(), held.expected(false))).collect()
    }
}

impl Held {
    fn new(record: &Record) -> Self {
        Self { record: record.clone(), was_deleted: false, archived_deleted: false, reclaimed: false }
    }

    fn is_named_among(&self, erased: &BTreeSet<(LogId, DedupKey)>) -> bool {
        let key = self.record.entry().map(|entry| (self.record.log, entry.dedup_key()));
        key.is_some_and(|key| erased.contains(&key))
    }

    fn expected(&self, is_due: bool) -> Expected {
        if self.reclaimed || is_due {
            Expected::Erased
        } else if self.was_deleted {
            Expected::Either
        } else {
            Expected::Whole
        }
    }
}

fn is_among(record: &Record, deleted: &BTreeSet<(LogId, Offset)>) -> bool {
    record.entry().is_some_and(|entry| deleted.contains(&(record.log, entry.offset)))
}
