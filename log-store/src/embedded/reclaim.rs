//! Taking bodies off the disk.
//!
//! A segment that holds a body that is due is written anew without it, synced, and renamed over the old
//! one. Every frame stays and keeps its name, only shorter, so the index, the archives and a fold from
//! the beginning are as before. A crash leaves the old file or the new one; a half-written one is
//! cleared away at the opening.

use super::{
    core::Core,
    errors::{closed, io_error, is_full},
    frame::{self, Fault, Header, Kind, Location},
    queue::Request,
    reader::{Reader, describe},
    recovery::highest_group,
    rows::Mark,
    segment::{self, NEW_SUFFIX, SEGMENT_HEADER_BYTES, Segment, TABLE_EVERY, Table, sync_error},
    tail::SEQUENTIAL_BYTES,
};
use crate::{Archive, Reclaimed, StoreError, erase, files::File};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map},
    sync::Arc,
};
use tokio::sync::oneshot;
use types::{LogId, PartitionId};

/// How many bytes of a new segment are written at once.
const WRITE_BYTES: usize = 1024 * 1024;
const CHUNK: u64 = 1024;

impl Core {
    /// Takes everything that is due at `now_ms` off the disk. Waits for the disk.
    pub(crate) fn reclaim(&self, now_ms: u64) -> Result<Reclaimed, StoreError> {
        let _one_at_a_time = self.reclaiming.lock();
        self.mark_archived()?;
        let due = self.due(now_ms);
        let last_written = self.view.read().position.segment;
        if due.keys().next_back().is_some_and(|last| *last >= last_written) {
            self.rotate()?;
        }
        let mut reclaimed = Reclaimed::default();
        for (number, marked) in due {
            let rewritten = self.rewrite(number, &marked, now_ms)?;
            reclaimed.bodies += rewritten.bodies;
            reclaimed.bytes += rewritten.bytes;
            // Who began to read before has the old file and looks at the marks; who begins after, the new one.
            let _alone = self.gate.write();
            let mut view = self.view.write();
            for location in marked {
                view.unmark(location);
            }
            view.expiries.insert(number, rewritten.expires_at_ms);
            view.active.expiries.insert(number);
        }
        metrics::counter!("hearth_log_erased_bodies").increment(reclaimed.bodies);
        Ok(reclaimed)
    }

    /// The segments that hold something due, and what in them is marked.
    fn due(&self, now_ms: u64) -> BTreeMap<u32, HashSet<Location>> {
        let view = self.view.read();
        let mut due: BTreeMap<u32, HashSet<Location>> = BTreeMap::new();
        for (location, _) in view.marks.iter().filter(|(_, mark)| self.is_final(mark)) {
            due.entry(location.segment).or_default().insert(*location);
        }
        for (segment, expires_at_ms) in &view.expiries {
            if *expires_at_ms <= now_ms {
                due.entry(*segment).or_default();
            }
        }
        due
    }

    /// An archived body is due as well when the entry that stands under its message id by now has lost
    /// its own: it was salvaged, and deleted then.
    fn mark_archived(&self) -> Result<(), StoreError> {
        let archives: Vec<Archive> = self.view.read().archives.values().cloned().collect();
        let mut reader = Reader::new(&self.segments, SEQUENTIAL_BYTES);
        let mut elsewhere = Reader::new(&self.segments, frame::HEADER_BYTES);
        let mut holders: HashMap<LogId, Vec<PartitionId>> = HashMap::new();
        for archive in archives {
            let (mut next, last) = (archive.first.lsn.get(), archive.last.lsn.get());
            while next <= last {
                let until = last.min(next + CHUNK - 1);
                for location in self.index.archived(archive.id, next..=until)? {
                    let record = super::read::record(&mut reader, location)?;
                    if !erase::has_body(&record) {
                        continue;
                    }
                    let holders = match holders.entry(record.log) {
                        hash_map::Entry::Occupied(known) => known.into_mut(),
                        hash_map::Entry::Vacant(vacant) => vacant.insert(self.holders(&record.log)?),
                    };
                    for holder in &*holders {
                        if self.is_erased_elsewhere(&mut elsewhere, *holder, &record)? {
                            self.view.write().mark(location, Mark::FOREVER);
                            break;
                        }
                    }
                }
                next = until + 1;
            }
        }
        Ok(())
    }

    /// The partitions that have held a log: it may have been re-homed since a tail of it was archived.
    fn holders(&self, log: &LogId) -> Result<Vec<PartitionId>, StoreError> {
        let partitions: Vec<PartitionId> = self.view.read().partitions.keys().copied().collect();
        let mut holders = Vec::new();
        for partition in partitions {
            if self.read_state(&(partition, *log))?.is_some() {
                holders.push(partition);
            }
        }
        Ok(holders)
    }

    /// Has the writer go on in the next segment.
    fn rotate(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Request::Rotate { reply });
        answer.blocking_recv().unwrap_or_else(|_| Err(closed("the writer has ended")))
    }

    fn rewrite(&self, number: u32, marked: &HashSet<Location>, now_ms: u64) -> Result<Rewritten, StoreError> {
        let old = Segment::open(&*self.files, self.store, number)?;
        let name = segment::name(number);
        let new_name = format!("{name}{NEW_SUFFIX}");
        let due = |location: Location, record: &types::Record| {
            marked.contains(&location) || erase::is_expired(record, now_ms)
        };
        let written = self.write_new(&old, &new_name, due);
        let rewritten = match written {
            Ok(rewritten) => rewritten,
            Err(error) => {
                let _ = self.files.remove(&new_name);
                return Err(error);
            }
        };
        if rewritten.bodies == 0 {
            self.files.remove(&new_name).map_err(|error| io_error("cannot remove", &new_name, &error))?;
            return Ok(rewritten);
        }
        self.segments.replace(number, &new_name)?;
        self.files.sync_folder().map_err(|error| self.fail(&sync_error(&name, &error)))?;
        Ok(rewritten)
    }

    /// Writes a segment anew and syncs it.
    fn write_new(
        &self,
        old: &Arc<Segment>,
        new_name: &str,
        due: impl Fn(Location, &types::Record) -> bool,
    ) -> Result<Rewritten, StoreError> {
        let file =
            self.files.create(new_name).map_err(|error| io_error("cannot create", new_name, &error))?;
        let mut new = NewSegment::new(file, new_name);
        let mut rewritten = Rewritten { expires_at_ms: u64::MAX, ..Rewritten::default() };
        let mut reader = Reader::new(&self.segments, 4 * SEQUENTIAL_BYTES);
        let mut at = SEGMENT_HEADER_BYTES;
        loop {
            let (header, payload) = match reader.checked(old, u64::from(at))? {
                Ok(found) => found,
                Err(Fault::Empty) => break,
                Err(fault) => return Err(reader.damaged(old, u64::from(at), describe(fault))),
            };
            at += header.stride() as u32;
            let kept = match header.kind {
                Kind::Record => rewritten.keep(old, &header, payload, &due)?,
                _ => payload,
            };
            new.push(&header, &kept)?;
        }
        // Zeros are the end of a segment only where nothing stands behind them: a page may have been lost.
        let ends = match old.frames_end() {
            Some(end) => at == end,
            None => highest_group(old, at)?.is_none(),
        };
        if !ends {
            return Err(reader.damaged(old, u64::from(at), describe(Fault::Empty)));
        }
        rewritten.bytes = u64::from(at.saturating_sub(new.at()));
        new.finish(self, old.number)?;
        Ok(rewritten)
    }
}

/// What became of one segment.
#[derive(Debug, Default)]
struct Rewritten {
    bodies: u64,
    bytes: u64,
    /// When the first body that is left expires.
    expires_at_ms: u64,
}

impl Rewritten {
    /// The payload of a record as it stays.
    fn keep(
        &mut self,
        old: &Segment,
        header: &Header,
        payload: Bytes,
        due: impl Fn(Location, &types::Record) -> bool,
    ) -> Result<Bytes, StoreError> {
        let mut record = proto::decode_record(payload.clone()).map_err(|error| {
            old.damaged(u64::from(header.location.origin), &format!("the record cannot be decoded: {error}"))
        })?;
        if due(header.location, &record) && erase::erase(&mut record) {
            self.bodies += 1;
            return Ok(proto::encode_record(&record));
        }
        if erase::has_body(&record)
            && let Some(expires_at_ms) = record.entry().and_then(|entry| entry.expires_at_ms)
        {
            self.expires_at_ms = self.expires_at_ms.min(expires_at_ms);
        }
        Ok(payload)
    }
}

/// A segment under construction.
struct NewSegment<'a> {
    file: Arc<dyn File>,
    name: &'a str,
    table: Table,
    frames: usize,
    /// Where the buffer will be written.
    begin: u32,
    buffer: Vec<u8>,
}

impl<'a> NewSegment<'a> {
    fn new(file: Arc<dyn File>, name: &'a str) -> Self {
        let table = Table { entries: Vec::new(), at: SEGMENT_HEADER_BYTES };
        Self { file, name, table, frames: 0, begin: SEGMENT_HEADER_BYTES, buffer: Vec::new() }
    }

    fn at(&self) -> u32 {
        self.begin + self.buffer.len() as u32
    }

    fn push(&mut self, header: &Header, payload: &[u8]) -> Result<(), StoreError> {
        if self.frames.is_multiple_of(TABLE_EVERY) {
            self.table.entries.push((header.location.origin, self.at()));
        }
        self.frames += 1;
        frame::put(&mut self.buffer, &Header { payload_bytes: payload.len(), ..*header }, payload);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.write(self.begin, &self.buffer)?;
        self.begin = self.at();
        self.buffer.clear();
        Ok(())
    }

    fn write(&self, at: u32, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_at(u64::from(at), bytes).map_err(|error| io_error("cannot write", self.name, &error))
    }

    fn finish(mut self, core: &Core, number: u32) -> Result<(), StoreError> {
        self.flush()?;
        self.table.at = self.begin;
        self.write(self.begin, &segment::encode_table(&self.table))?;
        self.write(0, &segment::header(core.store, number, Some(&self.table)))?;
        match self.file.sync_data() {
            Ok(()) => Ok(()),
            // Nothing points at this file yet, so losing it is no harm; a failed sync ends the store all the same.
            Err(error) if is_full(&error) => Err(io_error("cannot sync", self.name, &error)),
            Err(error) => Err(core.fail(&sync_error(self.name, &error))),
        }
    }
}
