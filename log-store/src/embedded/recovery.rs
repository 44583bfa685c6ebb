//! Opening: which segments there are, where they end, and what is not yet folded.
//!
//! Groups are numbered without a gap and each is synced before the next is written. So when the scan
//! stops at bytes that are no frame, behind the last whole group g:
//!
//! - a frame of a group above g + 1 anywhere behind: what is missing had been synced. That is damage, and
//!   the store does not open.
//! - none, or frames of g + 1 only: a write that never was acked was torn. It is cut.
//!
//! The recovered tail is synced before anything of it is served, because the process that wrote it may
//! have died between its write and its sync.

use super::{
    core::Core,
    errors::{damaged, io_error},
    frame::{self, Fault, Header, Kind, Location},
    index::bad_row,
    reader::{Reader, describe},
    rows::{self, FoldPosition, Mark, PartitionState},
    segment::{self, SEGMENT_HEADER_BYTES, Segment, sync_error},
    staged::StagedLogs,
    tail::SEQUENTIAL_BYTES,
    view::{Placed, View},
    writer::Tail,
};
use crate::{ArchiveId, StoreError, files::Files};
use bytes::Bytes;
use std::sync::Arc;
use types::{Epoch, Lsn, StoreId};

/// What was found in the folder.
#[derive(Debug)]
pub(crate) struct Found {
    /// The number of the last segment; they begin at 1 and have no gap.
    pub(crate) last: u32,
}

/// Lists the segments and clears away what was never finished.
pub(crate) fn find(files: &dyn Files) -> Result<Found, StoreError> {
    let names = files.list().map_err(|error| io_error("cannot list", "the folder", &error))?;
    for name in names.iter().filter(|name| name.ends_with(segment::NEW_SUFFIX)) {
        files.remove(name).map_err(|error| io_error("cannot remove", name, &error))?;
    }
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    for (at, number) in numbers.iter().enumerate() {
        let expected = at as u32 + 1;
        if *number != expected {
            return Err(damaged(&segment::name(expected), 0, "the segment is missing"));
        }
    }
    Ok(Found { last: numbers.len() as u32 })
}

/// Drops a last segment that was still being prepared when the process died: its header is synced before
/// it is written to, so one that cannot be read was never used.
pub(crate) fn drop_unprepared(
    files: &dyn Files,
    store: StoreId,
    found: &mut Found,
) -> Result<(), StoreError> {
    if found.last == 0 {
        return Ok(());
    }
    match Segment::open(files, store, found.last) {
        Ok(_) => Ok(()),
        Err(StoreError::Damaged { .. }) if !holds_frames(files, found.last)? => {
            let name = segment::name(found.last);
            files.remove(&name).map_err(|error| io_error("cannot remove", &name, &error))?;
            found.last -= 1;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn holds_frames(files: &dyn Files, number: u32) -> Result<bool, StoreError> {
    let name = segment::name(number);
    let file = files.open(&name).map_err(|error| io_error("cannot open", &name, &error))?;
    let raw = Arc::new(Segment { number, name: name.into(), file, table: None });
    Ok(highest_group(&raw, SEGMENT_HEADER_BYTES)?.is_some())
}

/// The highest group of the whole frames from a place of a segment on.
pub(crate) fn highest_group(segment: &Arc<Segment>, from: u32) -> Result<Option<u64>, StoreError> {
    let failed = |error| io_error("cannot read", &segment.name, &error);
    let len = segment.file.length().map_err(failed)?;
    let mut bytes = vec![0; usize::try_from(len.saturating_sub(u64::from(from))).unwrap_or(0)];
    let read = segment.file.read_at(u64::from(from), &mut bytes).map_err(failed)?;
    bytes.truncate(read);
    let mut highest = None;
    for at in (0..bytes.len()).step_by(8) {
        let Ok(header) = frame::peek(&bytes[at..]) else { continue };
        let here = Location { segment: segment.number, origin: from + at as u32 };
        if header.location == here && frame::check(&bytes[at..]).is_ok() {
            highest = highest.max(Some(header.group));
        }
    }
    Ok(highest)
}

/// Fills the small tables of the view from the fold.
pub(crate) fn load_view(core: &Core) -> Result<(), StoreError> {
    let unreadable = || bad_row("a row of the fold cannot be read");
    let fold = &core.index.fold;
    let begin = FoldPosition { segment: 1, origin: SEGMENT_HEADER_BYTES, group: 0, last_archive: 0 };
    let mut view = View { position: fold.position()?.unwrap_or(begin), ..View::default() };
    for row in fold.prefix(b"p") {
        let (key, value) = row?;
        let partition = rows::partition_of_key(&key).ok_or_else(unreadable)?;
        view.partitions.insert(partition, PartitionState::decode(&value).ok_or_else(unreadable)?);
    }
    for row in fold.prefix(b"a") {
        let archive = rows::decode_archive(&row?.1).ok_or_else(unreadable)?;
        view.archives.insert(archive.id, archive);
    }
    for row in fold.prefix(b"x") {
        let (key, value) = row?;
        let location = rows::mark_of_key(&key).ok_or_else(unreadable)?;
        view.marks.insert(location, Mark::decode(&value).ok_or_else(unreadable)?);
    }
    for row in fold.prefix(b"e") {
        view.effects.insert(rows::effects_key_log(&row?.0).ok_or_else(unreadable)?);
    }
    for row in fold.prefix(b"s") {
        let (key, value) = row?;
        let expires_at_ms = rows::Cursor(&value).u64().ok_or_else(unreadable)?;
        view.expiries.insert(rows::segment_of_key(&key).ok_or_else(unreadable)?, expires_at_ms);
    }
    *core.view.write() = view;
    Ok(())
}

/// Replays what is behind the fold, cuts and syncs the tail; answers where writing goes on.
pub(crate) fn replay(core: &Core, found: &mut Found) -> Result<Tail, StoreError> {
    let mut replay = Replay::new(core, found.last);
    if replay.number > found.last {
        return Err(replay.lost());
    }
    let stop = replay.run()?;
    let segment = core.segments.get(replay.number)?;
    replay.judge(&segment, stop)?;
    let group = replay.group;
    settle(core, found, &segment, stop.at)?;
    if segment.table.is_none() {
        return Ok(Tail { segment, at: stop.at, group });
    }
    // A rewritten segment takes no more frames.
    let next = segment.number + 1;
    let segment = if next <= found.last {
        core.segments.get(next)?
    } else {
        found.last = next;
        Segment::create(&*core.files, core.store, next, core.config.segment_bytes)?
    };
    core.segments.insert(segment.clone());
    Ok(Tail { segment, at: SEGMENT_HEADER_BYTES, group })
}

/// Where the scan found no more frames, and what it found instead.
#[derive(Debug, Clone, Copy)]
struct Stop {
    /// Behind the last whole group.
    at: u32,
    /// Where the bytes are that are no frame.
    fault_at: u32,
    fault: Fault,
}

struct Replay<'a> {
    core: &'a Core,
    reader: Reader<'a>,
    last: u32,
    number: u32,
    at: u32,
    /// The last whole group.
    group: u64,
    /// Frames of the group behind it.
    pending: Vec<(Header, Bytes)>,
    from: FoldPosition,
}

impl<'a> Replay<'a> {
    fn new(core: &'a Core, last: u32) -> Self {
        let from = core.view.read().position;
        let reader = Reader::new(&core.segments, 4 * SEQUENTIAL_BYTES);
        let (number, at, group) = (from.segment, from.origin, from.group);
        Self { core, reader, last, number, at, group, pending: Vec::new(), from }
    }

    fn lost(&self) -> StoreError {
        let name = segment::name(self.number);
        damaged(&name, u64::from(self.from.origin), "the segment is missing, and was folded from")
    }

    fn run(&mut self) -> Result<Stop, StoreError> {
        let mut segment = self.core.segments.get(self.number)?;
        self.at = segment.near(self.from.origin);
        let len = segment.file.length().map_err(|error| io_error("cannot read", &segment.name, &error))?;
        if len < u64::from(self.at) {
            return Err(segment.damaged(len, "the file ends before what was folded from it"));
        }
        let mut group_at = self.at;
        loop {
            let fault = match self.reader.checked(&segment, u64::from(self.at))? {
                Ok((header, payload)) if self.continues(&segment, &header) => {
                    self.at += header.stride() as u32;
                    if header.location < self.folded_until() {
                        // A rewritten segment is entered a few frames early.
                        group_at = self.at;
                        continue;
                    }
                    let ends_group = header.ends_group;
                    self.pending.push((header, payload));
                    if ends_group {
                        self.apply_group()?;
                        group_at = self.at;
                    }
                    continue;
                }
                Ok(_) => Fault::Bad("a frame of another place or group stands here"),
                Err(fault) => fault,
            };
            if !self.pending.is_empty() || !self.goes_on_in_next()? {
                return Ok(Stop { at: group_at, fault_at: self.at, fault });
            }
            self.number += 1;
            segment = self.core.segments.get(self.number)?;
            self.at = SEGMENT_HEADER_BYTES;
            group_at = self.at;
        }
    }

    const fn folded_until(&self) -> Location {
        Location { segment: self.from.segment, origin: self.from.origin }
    }

    /// Whether a frame is the one that belongs here.
    fn continues(&self, segment: &Segment, header: &Header) -> bool {
        let in_place = segment.table.is_some() || header.location.origin == self.at;
        let in_order = header.location < self.folded_until() || header.group == self.group + 1;
        header.location.segment == segment.number && in_place && in_order
    }

    /// Whether the next segment begins with the group that comes next.
    fn goes_on_in_next(&mut self) -> Result<bool, StoreError> {
        if self.number >= self.last {
            return Ok(false);
        }
        let next = self.core.segments.get(self.number + 1)?;
        let first = self.reader.checked(&next, u64::from(SEGMENT_HEADER_BYTES))?;
        Ok(first.is_ok_and(|(header, _)| header.group == self.group + 1))
    }

    /// Tells a torn tail from damage.
    fn judge(&mut self, segment: &Arc<Segment>, stop: Stop) -> Result<(), StoreError> {
        if segment.frames_end().is_some_and(|end| stop.fault_at < end) {
            return Err(self.blame(segment, stop)?);
        }
        for number in self.number..=self.last {
            let behind = self.core.segments.get(number)?;
            let from = match &behind.table {
                Some(_) if number == self.number => continue,
                // A rewritten segment was synced whole, so something is missing before it.
                Some(_) => return Err(self.blame(segment, stop)?),
                None if number == self.number => stop.fault_at,
                None => SEGMENT_HEADER_BYTES,
            };
            if highest_group(&behind, from)?.is_some_and(|group| group > self.group + 1) {
                return Err(self.blame(segment, stop)?);
            }
        }
        Ok(())
    }

    /// Names what is damaged: where the scan stopped, or the first frame of the next segment, where this
    /// one ends as a filled one does.
    fn blame(&mut self, segment: &Arc<Segment>, stop: Stop) -> Result<StoreError, StoreError> {
        let ended = stop.fault == Fault::Empty && stop.at == stop.fault_at;
        if ended && self.number < self.last {
            let next = self.core.segments.get(self.number + 1)?;
            let first = self.reader.checked(&next, u64::from(SEGMENT_HEADER_BYTES))?;
            if let Err(fault @ (Fault::Bad(_) | Fault::Short(_))) = first {
                return Ok(next.damaged(u64::from(SEGMENT_HEADER_BYTES), describe(fault)));
            }
        }
        Ok(segment.damaged(u64::from(stop.fault_at), describe(stop.fault)))
    }

    fn apply_group(&mut self) -> Result<(), StoreError> {
        let group = self.group + 1;
        let frames = std::mem::take(&mut self.pending);
        let mut position = self.core.view.read().position;
        (position.segment, position.origin, position.group) =
            (self.number, self.origin_behind(&frames), group);
        let (mut records, mut fences, mut logs) = (Vec::new(), Vec::new(), StagedLogs::default());
        for (header, payload) in &frames {
            match header.kind {
                Kind::Record => {
                    records.push(self.placed(header, payload.clone(), &mut logs)?);
                }
                Kind::Fence => fences.push((header.partition, Epoch::new(self.number_in(header, payload)?))),
                Kind::Canary => {}
                Kind::Archive | Kind::Discard | Kind::Truncate | Kind::Settle => {
                    self.apply_alone(header, payload, position)?;
                    position = self.core.view.read().position;
                }
            }
        }
        let mut view = self.core.view.write();
        self.core.publish(&mut view, &records, &mut logs)?;
        for (partition, epoch) in fences {
            view.publish_fence(partition, epoch);
        }
        view.position = position;
        let full = view.active.records >= self.core.config.fold_records;
        drop(view);
        self.group = group;
        if full { self.core.fold_all() } else { Ok(()) }
    }

    /// The origin behind the last frame of a group.
    fn origin_behind(&self, frames: &[(Header, Bytes)]) -> u32 {
        frames.last().map_or(self.at, |(header, _)| header.location.origin + header.stride() as u32)
    }

    fn apply_alone(
        &self,
        header: &Header,
        payload: &Bytes,
        position: FoldPosition,
    ) -> Result<(), StoreError> {
        self.core.fold_all()?;
        match header.kind {
            Kind::Archive => {
                let archive = rows::decode_archive(payload).ok_or_else(|| self.unreadable(header))?;
                self.core.apply_archive(&archive, position)
            }
            Kind::Settle => {
                let step = rows::decode_settle(payload).ok_or_else(|| self.unreadable(header))?;
                self.core.apply_settle(&step, position)
            }
            Kind::Discard => self.core.apply_discard(ArchiveId(self.number_in(header, payload)?), position),
            _ => {
                let from = Lsn::new(self.number_in(header, payload)?);
                self.core.apply_truncate(header.partition, from, position)
            }
        }
    }

    fn placed(&self, header: &Header, payload: Bytes, logs: &mut StagedLogs) -> Result<Placed, StoreError> {
        let record = proto::decode_record(payload).map_err(|_| self.unreadable(header))?;
        let (partition, location) = (header.partition, header.location);
        let key = (partition, record.log);
        let log = logs.place(&key, || {
            let view = self.core.view.read();
            Ok(self.core.state(&view, &key)?.unwrap_or_default())
        })?;
        let dedup_hash = |entry: &types::Entry| {
            rows::dedup_hash(self.core.store, partition, &record.log, &entry.dedup_key())
        };
        let dedup = record.entry().map(dedup_hash);
        Ok(Placed { partition, location, record, log, dedup })
    }

    fn number_in(&self, header: &Header, payload: &Bytes) -> Result<u64, StoreError> {
        rows::Cursor(payload).u64().ok_or_else(|| self.unreadable(header))
    }

    fn unreadable(&self, header: &Header) -> StoreError {
        let name = segment::name(header.location.segment);
        damaged(&name, u64::from(header.location.origin), "the frame's payload cannot be decoded")
    }
}

/// Cuts what was torn behind the last whole group, and makes all that is left durable.
fn settle(core: &Core, found: &Found, segment: &Arc<Segment>, at: u32) -> Result<(), StoreError> {
    for number in segment.number..=found.last {
        let behind = core.segments.get(number)?;
        let end = if number == segment.number { at } else { SEGMENT_HEADER_BYTES };
        if behind.table.is_none() {
            cut(core, &behind, end)?;
        }
        if !serves_unsynced_tail(core) {
            behind.file.sync_data().map_err(|error| sync_error(&behind.name, &error))?;
        }
    }
    if serves_unsynced_tail(core) {
        return Ok(());
    }
    core.files.sync_folder().map_err(|error| sync_error("the folder", &error))
}

/// Cuts a segment and gives it its room back. Also where nothing is to be cut: the scan has left large
/// pages of what is behind the end in memory, and each write into one would write all of it.
fn cut(core: &Core, segment: &Segment, end: u32) -> Result<(), StoreError> {
    let failed = |error| io_error("cannot cut", &segment.name, &error);
    segment.file.set_len(u64::from(end)).map_err(failed)?;
    match segment.file.allocate(u64::from(core.config.segment_bytes)) {
        Err(error) if !super::errors::is_full(&error) => Err(failed(error)),
        _ => Ok(()),
    }
}

#[cfg(feature = "test-switches")]
fn serves_unsynced_tail(core: &Core) -> bool {
    core.config.switches.serve_unsynced_tail
}

#[cfg(not(feature = "test-switches"))]
const fn serves_unsynced_tail(_: &Core) -> bool {
    false
}
