//! Reading: locations from the index, frames from the segments, each checked every time.

use super::{
    core::Core,
    errors::closed,
    frame::Location,
    index::{self, bad_row},
    reader::Reader,
    rows::{self, Mark},
    tail::SEQUENTIAL_BYTES,
    view::LogKey,
};
use crate::{Archive, ArchiveId, Deduped, ReadError, Scan, StoreError, erase, fold::LogState};
use bytes::Bytes;
use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};
use types::{DedupKey, LogId, Lsn, PartitionId, Record};

/// How many locations are looked up at once.
const CHUNK: u64 = 256;
/// How many bytes are read at once where records lie apart.
const SCATTERED_BYTES: usize = 1024;

/// The record at a location.
pub(crate) fn record(reader: &mut Reader<'_>, location: Location) -> Result<Record, StoreError> {
    let (_, payload) = reader.frame(location)?;
    decode(reader, location, payload)
}

fn decode(reader: &mut Reader<'_>, location: Location, payload: Bytes) -> Result<Record, StoreError> {
    proto::decode_record(payload).map_err(|error| {
        let what = format!("the record cannot be decoded: {error}");
        match reader.segment(location.segment) {
            Ok(segment) => reader.damaged(&segment, u64::from(location.origin), &what),
            Err(error) => error,
        }
    })
}

/// Which page of a log to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogPage {
    pub(crate) key: LogKey,
    pub(crate) scan: Scan,
    pub(crate) max_entries: usize,
    pub(crate) max_bytes: usize,
    /// Bodies that have expired by then are due.
    pub(crate) now_ms: u64,
}

/// A page under construction.
struct Page {
    records: Vec<Record>,
    records_max: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Page {
    fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { records: Vec::new(), records_max: records_max.max(1), bytes: 0, bytes_max }
    }

    /// Adds a record of so many encoded bytes; whether the page is then complete.
    fn push(&mut self, record: Record, bytes: usize) -> bool {
        self.bytes += bytes;
        if self.bytes > self.bytes_max && !self.records.is_empty() {
            return true;
        }
        self.records.push(record);
        self.records.len() >= self.records_max
    }

    /// How many more to look up at once.
    fn wants(&self) -> u64 {
        CHUNK.min((self.records_max - self.records.len()) as u64)
    }
}

impl Core {
    /// Locations of a partition's records.
    pub(super) fn lsns(
        &self,
        partition: PartitionId,
        wanted: RangeInclusive<u64>,
    ) -> Result<Vec<Location>, StoreError> {
        let found = index::unfolded_lsns(&self.view.read(), partition, wanted);
        let Some(below) = found.below else { return Ok(found.locations) };
        let mut locations = self.index.folded_lsns(partition, below)?;
        locations.extend(found.locations);
        Ok(locations)
    }

    /// Locations of a log's entries.
    fn offsets(&self, key: &LogKey, wanted: RangeInclusive<u64>) -> Result<Vec<Location>, StoreError> {
        let found = index::unfolded_offsets(&self.view.read(), key, wanted);
        let Some(below) = found.below else { return Ok(found.locations) };
        let mut locations = self.index.folded_offsets(key, below)?;
        locations.extend(found.locations);
        Ok(locations)
    }

    /// The same, if no disk is needed to tell.
    fn cached_offsets(&self, key: &LogKey, wanted: RangeInclusive<u64>) -> Option<Vec<Location>> {
        let found = index::unfolded_offsets(&self.view.read(), key, wanted);
        let Some(below) = found.below else { return Some(found.locations) };
        let mut locations = self.index.runs.get(key, below)?;
        locations.extend(found.locations);
        Some(locations)
    }

    /// Where the entry under a message id is.
    pub(crate) fn located(&self, hash: u128) -> Result<Option<Location>, StoreError> {
        let unfolded = index::unfolded_dedup(&self.view.read(), hash);
        unfolded.map_or_else(|| self.index.folded_dedup(hash), |location| Ok(Some(location)))
    }

    pub(crate) fn read_state(&self, key: &LogKey) -> Result<Option<Arc<LogState>>, StoreError> {
        let unfolded = index::unfolded_state(&self.view.read(), key).cloned();
        unfolded.map_or_else(|| self.index.folded_state(key), |state| Ok(Some(state)))
    }

    /// Puts the records at some locations on a page, without the bodies that are due; whether the page is
    /// then complete.
    fn serve(
        &self,
        reader: &mut Reader<'_>,
        page: &mut Page,
        locations: &[Location],
        now_ms: Option<u64>,
    ) -> Result<bool, StoreError> {
        let marked = self.marked(locations, now_ms.is_some());
        for location in locations {
            let (header, payload) = reader.frame(*location)?;
            let mut record = decode(reader, *location, payload)?;
            let mut bytes = header.payload_bytes;
            let expired = now_ms.is_some_and(|now_ms| erase::is_expired(&record, now_ms));
            if (expired || marked.contains(location)) && erase::erase(&mut record) {
                bytes = proto::encode_record(&record).len();
            }
            if page.push(record, bytes) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Which of the locations hold a body that is due, for readers of the log, or for those who copy the partition.
    fn marked(&self, locations: &[Location], for_readers: bool) -> Vec<Location> {
        let view = self.view.read();
        if view.marks.is_empty() {
            return Vec::new();
        }
        let is_due = |mark: &Mark| for_readers || self.is_final(mark);
        locations.iter().copied().filter(|location| view.marks.get(location).is_some_and(is_due)).collect()
    }

    pub(crate) fn read_partition(
        &self,
        partition: PartitionId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let _gate = self.gate.read();
        let end = self.partition(partition).end.last.lsn;
        within(partition, from, end)?;
        let mut page = Page::new(max_records, max_bytes);
        let mut reader = Reader::new(&self.segments, SEQUENTIAL_BYTES);
        let mut next = from.max(Lsn::FIRST).get();
        while next <= end.get() {
            let until = end.get().min(next + page.wants() - 1);
            if self.serve(&mut reader, &mut page, &self.lsns(partition, next..=until)?, None)? {
                return Ok(page.records);
            }
            next = until + 1;
        }
        Ok(page.records)
    }

    /// A page of a log's entries.
    pub(crate) fn read_log(&self, page: &LogPage) -> Result<Vec<Record>, ReadError> {
        let _gate = self.gate.read();
        let Some(state) = self.read_state(&page.key)? else { return Ok(Vec::new()) };
        let mut reader = Reader::new(&self.segments, SCATTERED_BYTES);
        Ok(self.read_entries(page, &state, &mut reader, |wanted| self.offsets(&page.key, wanted).map(Some))?)
    }

    /// The same page, if no disk is needed for it.
    pub(crate) fn read_cached_log(&self, page: &LogPage) -> Result<Option<Vec<Record>>, ReadError> {
        let Some(_gate) = self.gate.try_read() else { return Ok(None) };
        let Some(state) = self.state_in_memory(&page.key) else { return Ok(None) };
        let mut reader = Reader::of_cached(&self.segments, SCATTERED_BYTES);
        let mut is_missing = false;
        let read = self.read_entries(page, &state, &mut reader, |wanted| {
            let locations = self.cached_offsets(&page.key, wanted);
            is_missing |= locations.is_none();
            Ok(locations)
        });
        if is_missing || reader.would_wait() { Ok(None) } else { Ok(Some(read?)) }
    }

    /// Reads a page of a log. It ends before what other partitions hold. `locate` tells where entries are, or
    /// with `None` that the page ends before them.
    fn read_entries(
        &self,
        of: &LogPage,
        state: &LogState,
        reader: &mut Reader<'_>,
        mut locate: impl FnMut(RangeInclusive<u64>) -> Result<Option<Vec<Location>>, StoreError>,
    ) -> Result<Vec<Record>, StoreError> {
        let mut page = Page::new(of.max_entries, of.max_bytes);
        let Some((mut low, mut high)) = of.scan.held(state) else { return Ok(page.records) };
        while low <= high {
            let wants = page.wants() - 1;
            let chunk = match of.scan {
                Scan::After(_) => low..=high.min(low.saturating_add(wants)),
                Scan::Before(_) => low.max(high.saturating_sub(wants))..=high,
            };
            let Some(mut locations) = locate(chunk.clone())? else { return Ok(page.records) };
            reader.expect(&locations);
            match of.scan {
                Scan::After(_) => low = chunk.end() + 1,
                Scan::Before(_) => {
                    locations.reverse();
                    high = chunk.start() - 1;
                }
            }
            if self.serve(reader, &mut page, &locations, Some(of.now_ms))? {
                return Ok(page.records);
            }
        }
        Ok(page.records)
    }

    pub(crate) fn logs(
        &self,
        partition: PartitionId,
        after: Option<&LogId>,
        max: usize,
    ) -> Result<Vec<LogId>, ReadError> {
        let _gate = self.gate.read();
        let mut logs: BTreeSet<LogId> = index::unfolded_logs(&self.view.read(), partition);
        logs.retain(|log| after.is_none_or(|after| log > after));
        logs.extend(self.index.folded_logs(partition, after, max)?);
        Ok(logs.into_iter().take(max).collect())
    }

    pub(crate) fn effect_logs(
        &self,
        partition: PartitionId,
        after: Option<LogId>,
        max: usize,
    ) -> Result<Vec<LogId>, ReadError> {
        self.check_open()?;
        let view = self.view.read();
        let is_behind = |log: &LogId| after.is_none_or(|after| *log > after);
        let behind = view.effects.iter().filter(|(of, log)| *of == partition && is_behind(log));
        Ok(behind.map(|(_, log)| *log).take(max).collect())
    }

    pub(crate) fn find(
        &self,
        partition: PartitionId,
        log: &LogId,
        key: &DedupKey,
    ) -> Result<Option<Deduped>, ReadError> {
        let _gate = self.gate.read();
        let Some(location) = self.located(rows::dedup_hash(self.store, partition, log, key))? else {
            return Ok(None);
        };
        let mut reader = Reader::new(&self.segments, SCATTERED_BYTES);
        let record = record(&mut reader, location)?;
        let (Some(position), Some(entry)) = (record.position(), record.entry()) else {
            return Err(bad_row("a dedup row leads to what is no entry").into());
        };
        if record.log != *log || entry.dedup_key() != *key {
            return Ok(None);
        }
        let (hash, accepted_at_ms) = (entry.body.hash(), record.accepted_at_ms);
        Ok(Some(Deduped { position, lsn: record.lsn, hash, accepted_at_ms }))
    }

    pub(crate) fn read_archive(
        &self,
        id: ArchiveId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let _gate = self.gate.read();
        let known: Option<Archive> = self.view.read().archives.get(&id).cloned();
        let archive = known.ok_or(StoreError::UnknownArchive { archive: id })?;
        within(archive.partition, from, archive.last.lsn)?;
        let mut page = Page::new(max_records, max_bytes);
        let mut reader = Reader::new(&self.segments, SEQUENTIAL_BYTES);
        let (mut next, end) = (from.max(archive.first.lsn).get(), archive.last.lsn.get());
        while next <= end {
            let until = end.min(next + page.wants() - 1);
            if self.serve(&mut reader, &mut page, &self.index.archived(id, next..=until)?, None)? {
                return Ok(page.records);
            }
            next = until + 1;
        }
        Ok(page.records)
    }
}

pub(super) fn within(partition: PartitionId, from: Lsn, end: Lsn) -> Result<(), ReadError> {
    if from > end.plus(1) { Err(ReadError::PastEnd { partition, from, end }) } else { Ok(()) }
}

/// Runs what may wait for a disk where it holds nobody up.
pub(crate) async fn blocking<T, E>(
    core: &Arc<Core>,
    read: impl FnOnce(&Core) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    core.check_open()?;
    let core = core.clone();
    match tokio::task::spawn_blocking(move || read(&core)).await {
        Ok(result) => result,
        Err(error) => Err(closed(format!("a read did not end: {error}")).into()),
    }
}
