//! Archives and truncations: the changes that reach back.
//!
//! An archive is a frame that names records, and rows that point at them where they stand: nothing is
//! copied, so there is one body to erase. A truncation drops the rows of the records it cuts; the frames
//! stay for the archives, and lose their bodies once no archive names them.
//!
//! Each of these first folds all that came before, then writes its frame, then commits its rows in one
//! piece, and keeps the folder out meanwhile. A crash in between is healed at the opening, which finds the frame behind the fold's position
//! and does the same again.

use super::{
    core::Core,
    errors::closed,
    fold::Changes,
    folding::put_locations,
    frame::{Kind, Location},
    index::bad_row,
    reader::Reader,
    rows::{self, FoldPosition, Mark, PartitionState},
    state_row,
    writer::Writer,
};
use crate::{
    Archive, ArchiveId, PartitionEnd, RefusedEntry, Salvage, Settle, StoreError, TailError, erase,
    fold::LogState,
};
use parking_lot::MutexGuard;
use std::collections::{BTreeMap, HashMap, HashSet};
use types::{Epoch, LogId, Lsn, Offset, PartitionId, PartitionPosition, Record};

/// How many records are looked up at once.
const CHUNK: u64 = 1024;
/// How many bytes are read at once where records are read in the order they were written.
pub(crate) const SEQUENTIAL_BYTES: usize = 256 * 1024;

impl Writer {
    pub(crate) fn archive(
        &mut self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<Option<Archive>, TailError> {
        let state = self.obey(partition, obeys)?;
        let from = from.max(Lsn::FIRST);
        let last = state.end.last;
        if from > last.lsn {
            return Ok(None);
        }
        let first = PartitionPosition::new(epoch_at(&state.end, from), from);
        let records = last.lsn.since(from) + 1;
        let id = ArchiveId(self.core.view.read().position.last_archive + 1);
        let archive = Archive { id, partition, first, last, records, salvage: Salvage::default() };
        if let Some(known) = self.core.view.read().archives.values().find(|known| known.holds_what(&archive))
        {
            return Ok(Some(known.clone()));
        }
        let core = self.core.clone();
        let _folding = self.fold(&core)?;
        let position = self.write_alone(Kind::Archive, partition, &rows::encode_archive(&archive))?;
        self.applied(|core| core.apply_archive(&archive, position))?;
        Ok(Some(archive))
    }

    pub(crate) fn truncate(
        &mut self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<PartitionEnd, TailError> {
        let state = self.obey(partition, obeys)?;
        let from = from.max(Lsn::FIRST);
        if from > state.end.last.lsn {
            return Ok(state.end);
        }
        let core = self.core.clone();
        let _folding = self.fold(&core)?;
        if let Some(lsn) = self.core.first_unarchived(partition, &state.end, from)? {
            return Err(TailError::NotArchived { partition, lsn });
        }
        let position = self.write_alone(Kind::Truncate, partition, &from.get().to_le_bytes())?;
        self.applied(|core| core.apply_truncate(partition, from, position))?;
        Ok(self.core.partition(partition).end)
    }

    pub(crate) fn settle(&mut self, step: &Settle) -> Result<Salvage, StoreError> {
        let unknown = StoreError::UnknownArchive { archive: step.archive };
        let known = self.core.view.read().archives.get(&step.archive).cloned().ok_or(unknown)?;
        let Some(salvage) = known.settle(step) else { return Ok(known.salvage) };
        let core = self.core.clone();
        let _folding = self.fold(&core)?;
        let position = self.write_alone(Kind::Settle, known.partition, &rows::encode_settle(step))?;
        self.applied(|core| core.apply_settle(step, position))?;
        Ok(salvage)
    }

    pub(crate) fn discard(&mut self, archive: ArchiveId) -> Result<(), StoreError> {
        let known = self.core.view.read().archives.get(&archive).cloned();
        let known = known.ok_or(StoreError::UnknownArchive { archive })?;
        let core = self.core.clone();
        let _folding = self.fold(&core)?;
        let position = self.write_alone(Kind::Discard, known.partition, &archive.0.to_le_bytes())?;
        self.applied(|core| core.apply_discard(archive, position))
    }

    fn obey(&self, partition: PartitionId, obeys: Epoch) -> Result<PartitionState, TailError> {
        let state = self.core.partition(partition);
        let fence = state.end.fence;
        if obeys < fence { Err(TailError::Fenced { partition, obeys, fence }) } else { Ok(state) }
    }

    /// Folds everything. While the guard is held nothing else reaches the fold, so its position never goes
    /// back behind the change that is about to be applied.
    fn fold<'a>(&self, core: &'a Core) -> Result<MutexGuard<'a, ()>, StoreError> {
        core.all_folded().map_err(|error| self.fatal_unless_full(error))
    }

    /// Shows what a frame that is durable says. Where that fails the store closes: the next opening will
    /// show it.
    fn applied(&self, apply: impl FnOnce(&Core) -> Result<(), StoreError>) -> Result<(), StoreError> {
        apply(&self.core).map_err(|error| self.core.fail(&closed(format!("a change is not folded: {error}"))))
    }
}

fn epoch_at(end: &PartitionEnd, lsn: Lsn) -> Epoch {
    let after = end.epochs.partition_point(|begin| begin.first_lsn <= lsn);
    after.checked_sub(1).map_or(Epoch::ZERO, |at| end.epochs[at].epoch)
}

/// These are called with everything folded and nothing published in between.
impl Core {
    pub(crate) fn partition(&self, partition: PartitionId) -> PartitionState {
        self.view.read().partitions.get(&partition).cloned().unwrap_or_default()
    }

    /// The first LSN from one on that no archive holds. A record that was copied back after it was
    /// archived has another frame, and the same name: (epoch, LSN).
    fn first_unarchived(
        &self,
        partition: PartitionId,
        end: &PartitionEnd,
        from: Lsn,
    ) -> Result<Option<Lsn>, StoreError> {
        let mut archived: HashMap<u64, Vec<Location>> = HashMap::new();
        for archive in self.archives_of(partition) {
            let (first, last) = (archive.first.lsn.get(), archive.last.lsn.get());
            for (lsn, location) in (first..).zip(self.index.archived(archive.id, first..=last)?) {
                archived.entry(lsn).or_default().push(location);
            }
        }
        let mut reader = Reader::new(&self.segments, SEQUENTIAL_BYTES);
        let tail = self.index.folded_lsns(partition, from.get()..=end.last.lsn.get())?;
        for (lsn, location) in (from.get()..).zip(tail) {
            let held = archived.get(&lsn).map_or(&[][..], Vec::as_slice);
            let mut is_archived = held.contains(&location);
            for copy in held.iter().filter(|_| !is_archived).copied().collect::<Vec<_>>() {
                let epoch = super::read::record(&mut reader, copy)?.epoch;
                is_archived |= epoch == epoch_at(end, Lsn::new(lsn));
            }
            if !is_archived {
                return Ok(Some(Lsn::new(lsn)));
            }
        }
        Ok(None)
    }

    /// All locations that the archives of a partition name, but for one archive's own.
    fn archived_locations(
        &self,
        partition: PartitionId,
        but: Option<ArchiveId>,
    ) -> Result<HashSet<Location>, StoreError> {
        let mut named = HashSet::new();
        for other in self.archives_of(partition).iter().filter(|other| Some(other.id) != but) {
            named.extend(self.index.archived(other.id, other.first.lsn.get()..=other.last.lsn.get())?);
        }
        Ok(named)
    }

    fn archives_of(&self, partition: PartitionId) -> Vec<Archive> {
        let view = self.view.read();
        view.archives.values().filter(|archive| archive.partition == partition).cloned().collect()
    }

    pub(crate) fn apply_archive(&self, archive: &Archive, position: FoldPosition) -> Result<(), StoreError> {
        let (first, last) = (archive.first.lsn.get(), archive.last.lsn.get());
        let locations = self.index.folded_lsns(archive.partition, first..=last)?;
        let mut changes = Changes::default();
        changes.put(rows::archive_key(archive.id), rows::encode_archive_row(archive));
        put_locations(&mut changes, first, &locations, |first| rows::archive_lsn_key(archive.id, first));
        let position = FoldPosition { last_archive: archive.id.0.max(position.last_archive), ..position };
        self.index.fold.commit(changes, position)?;
        let mut view = self.view.write();
        view.archives.insert(archive.id, archive.clone());
        view.position = position;
        Ok(())
    }

    pub(crate) fn apply_settle(&self, step: &Settle, position: FoldPosition) -> Result<(), StoreError> {
        let known = self.view.read().archives.get(&step.archive).cloned();
        let Some(mut archive) = known else { return Err(bad_row("a settled archive is not there")) };
        let Some(salvage) = archive.settle(step) else {
            return Err(bad_row("a settled step is not the next"));
        };
        archive.salvage = salvage;
        let mut changes = Changes::default();
        changes.put(rows::archive_key(archive.id), rows::encode_archive_row(&archive));
        for refused in &step.refused {
            changes.put(rows::refused_key(archive.id, refused.lsn), refused.reason.as_bytes().to_vec());
        }
        self.index.fold.commit(changes, position)?;
        let mut view = self.view.write();
        view.archives.insert(archive.id, archive);
        view.position = position;
        Ok(())
    }

    /// The refused entries of an archive behind an LSN.
    pub(crate) fn refused_entries(
        &self,
        archive: ArchiveId,
        after: Lsn,
        max: usize,
    ) -> Result<Vec<RefusedEntry>, StoreError> {
        if !self.view.read().archives.contains_key(&archive) {
            return Err(StoreError::UnknownArchive { archive });
        }
        let (from, to) =
            (rows::refused_key(archive, after.plus(1)), rows::refused_key(archive, Lsn::new(u64::MAX)));
        let unreadable = || bad_row("a refused entry cannot be read");
        let rows = self.index.fold.range(&from, &to).take(max);
        rows.map(|row| {
            let (key, value) = row?;
            let lsn = rows::run_first(&key).map(Lsn::new).ok_or_else(unreadable)?;
            let reason = String::from_utf8(value.to_vec()).map_err(|_| unreadable())?;
            Ok(RefusedEntry { lsn, reason })
        })
        .collect()
    }

    pub(crate) fn apply_discard(&self, id: ArchiveId, position: FoldPosition) -> Result<(), StoreError> {
        let known = self.view.read().archives.get(&id).cloned();
        let Some(archive) = known else { return Err(bad_row("a discarded archive is not there")) };
        let (first, last) = (archive.first.lsn.get(), archive.last.lsn.get());
        let mut named = self.archived_locations(archive.partition, Some(id))?;
        let end = self.partition(archive.partition).end.last.lsn.get();
        if first <= end {
            named.extend(self.index.folded_lsns(archive.partition, first..=last.min(end))?);
        }
        let mut changes = Changes::default();
        let mut dropped = self.index.archived(id, first..=last)?;
        dropped.retain(|location| !named.contains(location));
        for location in &dropped {
            changes.put(rows::mark_key(*location), Mark::FOREVER.encode());
        }
        changes.remove(rows::archive_key(id));
        for prefix in [rows::archive_prefix(id), rows::refused_prefix(id)] {
            for row in self.index.fold.prefix(&prefix) {
                changes.remove(row?.0.to_vec());
            }
        }
        self.index.fold.commit(changes, position)?;
        let mut view = self.view.write();
        view.archives.remove(&id);
        view.marks.extend(dropped.into_iter().map(|location| (location, Mark::FOREVER)));
        view.position = position;
        Ok(())
    }

    pub(crate) fn apply_truncate(
        &self,
        partition: PartitionId,
        from: Lsn,
        position: FoldPosition,
    ) -> Result<(), StoreError> {
        let cut = self.cut(partition, from)?;
        let mut changes = Changes { dedup: cut.dedup, ..Changes::default() };
        self.trim(&mut changes, from.get(), |first| rows::lsn_key(partition, first))?;
        for (log, first_cut) in &cut.logs {
            if let Some(offset) = first_cut {
                self.trim(&mut changes, offset.get(), |first| rows::offset_key(partition, log, first))?;
            }
        }
        let mut state = self.partition(partition);
        state.end.epochs.retain(|begin| begin.first_lsn < from);
        let last_epoch = state.end.epochs.last().map_or(Epoch::ZERO, |begin| begin.epoch);
        state.end.last = PartitionPosition::new(last_epoch, from.prev());
        state.checkpoints.retain(|lsn| *lsn < from);
        changes.put(rows::partition_key(partition), state.encode());
        let checkpoint = state.checkpoints.last().copied().unwrap_or(Lsn::ZERO);
        let logs = cut.logs.keys().copied().collect();
        let effects = self.rewind_states(&mut changes, partition, checkpoint, from, logs)?;
        let marks = self.marks_after_cut(partition, from, &cut.locations)?;
        for (location, mark) in &marks {
            changes.rows.insert(rows::mark_key(*location), mark.map(|mark| mark.encode()));
        }
        let _alone = self.gate.write();
        self.index.fold.commit(changes, position)?;
        self.index.states.clear();
        self.index.runs.clear();
        let mut view = self.view.write();
        view.partitions.insert(partition, state);
        for (log, has_effects) in effects {
            view.has_effects((partition, log), has_effects);
        }
        for (location, mark) in marks {
            match mark {
                Some(mark) => view.marks.insert(location, mark),
                None => view.marks.remove(&location),
            };
        }
        view.position = position;
        Ok(())
    }

    /// What the records from an LSN on have left in the fold.
    fn cut(&self, partition: PartitionId, from: Lsn) -> Result<Cut, StoreError> {
        let last = self.partition(partition).end.last.lsn;
        let mut cut = Cut::default();
        self.each_record(partition, from, last, |location, record| {
            cut.locations.insert(location);
            let first_cut = cut.logs.entry(record.log).or_default();
            if let Some(entry) = record.entry() {
                first_cut.get_or_insert(entry.offset);
                let hash = rows::dedup_hash(self.store, partition, &record.log, &entry.dedup_key());
                cut.dedup.push((hash, None));
            }
            Ok(())
        })?;
        Ok(cut)
    }

    /// Calls back for each record of a range of LSNs, in order.
    fn each_record(
        &self,
        partition: PartitionId,
        from: Lsn,
        last: Lsn,
        mut call: impl FnMut(Location, Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut reader = Reader::new(&self.segments, SEQUENTIAL_BYTES);
        let mut next = from.get();
        while next <= last.get() {
            let until = last.get().min(next + CHUNK - 1);
            for location in self.index.folded_lsns(partition, next..=until)? {
                call(location, super::read::record(&mut reader, location)?)?;
            }
            next = until + 1;
        }
        Ok(())
    }

    /// Drops what runs hold from a number on.
    fn trim(&self, changes: &mut Changes, from: u64, key: impl Fn(u64) -> Vec<u8>) -> Result<(), StoreError> {
        for row in self.index.fold.range(&key(from), &key(u64::MAX)) {
            changes.remove(row?.0.to_vec());
        }
        if let Some((row_key, value)) = self.index.fold.last(&key(0), &key(from.saturating_sub(1)))? {
            let first =
                rows::run_first(&row_key).ok_or_else(|| bad_row("the key of an index row is none"))?;
            let keep = from.saturating_sub(first) as usize * rows::LOCATION_BYTES;
            if value.len() > keep {
                changes.put(row_key.to_vec(), value[..keep].to_vec());
            }
        }
        Ok(())
    }

    /// Folds the states of some logs anew, from a checkpoint up to a cut; tells which have effects pending then.
    fn rewind_states(
        &self,
        changes: &mut Changes,
        partition: PartitionId,
        checkpoint: Lsn,
        from: Lsn,
        logs: Vec<LogId>,
    ) -> Result<Vec<(LogId, bool)>, StoreError> {
        let unreadable = || bad_row("the state of a log cannot be read");
        let mut kept: BTreeMap<LogId, Vec<u8>> = BTreeMap::new();
        let mut states: HashMap<LogId, LogState> = HashMap::new();
        for log in logs {
            let row = self.index.fold.get(&rows::state_key(partition, &log))?.unwrap_or_default();
            let versions = state_row::versions(&row).ok_or_else(unreadable)?;
            let versions = &versions[..versions.partition_point(|(lsn, _)| *lsn <= checkpoint)];
            let state = match versions.last() {
                Some((_, bytes)) => state_row::decode(bytes).ok_or_else(unreadable)?,
                None => LogState::default(),
            };
            kept.insert(log, state_row::row(versions.iter().copied()));
            states.insert(log, state);
        }
        self.each_record(partition, checkpoint.plus(1), from.prev(), |_, record| {
            if let Some(state) = states.get_mut(&record.log)
                && let Err(error) = state.apply(&record)
            {
                tracing::error!(%partition, log = %record.log, %error, "record does not fold");
            }
            Ok(())
        })?;
        let mut effects = Vec::with_capacity(states.len());
        for (log, state) in states {
            let has_effects = !state.effects.is_empty();
            effects.push((log, has_effects));
            changes.rows.insert(rows::effects_key(partition, &log), has_effects.then(Vec::new));
            let key = rows::state_key(partition, &log);
            if state.last.lsn.is_zero() {
                changes.remove(key);
                continue;
            }
            let old = kept.remove(&log).unwrap_or_default();
            let mut versions = state_row::versions(&old).ok_or_else(unreadable)?;
            versions.retain(|(lsn, _)| *lsn < state.last.lsn);
            let newest = state_row::encode(&state);
            versions.push((state.last.lsn, &newest));
            changes.put(key, state_row::row(versions));
        }
        Ok(effects)
    }

    /// A deletion that is cut is undone, except for what is cut with it: in the archive it stays deleted.
    /// A frame that is cut and that no archive names, being a copy of one that is, has no use any more.
    fn marks_after_cut(
        &self,
        partition: PartitionId,
        from: Lsn,
        cut: &HashSet<Location>,
    ) -> Result<Vec<(Location, Option<Mark>)>, StoreError> {
        let named = self.archived_locations(partition, None)?;
        let view = self.view.read();
        let undone = view.marks.iter().filter(|(_, mark)| mark.partition == partition && mark.cause >= from);
        let mut marks: Vec<_> =
            undone.map(|(at, _)| (*at, cut.contains(at).then_some(Mark::FOREVER))).collect();
        marks.extend(cut.difference(&named).map(|at| (*at, Some(Mark::FOREVER))));
        Ok(marks)
    }

    /// Whether the entry that stands under the message id of an archived record has lost its body.
    pub(crate) fn is_erased_elsewhere(
        &self,
        reader: &mut Reader<'_>,
        partition: PartitionId,
        record: &Record,
    ) -> Result<bool, StoreError> {
        let Some(entry) = record.entry() else { return Ok(false) };
        let hash = rows::dedup_hash(self.store, partition, &record.log, &entry.dedup_key());
        let Some(location) = self.located(hash)? else { return Ok(false) };
        let mark = self.view.read().marks.get(&location).copied();
        if let Some(mark) = mark {
            return Ok(self.is_final(&mark));
        }
        Ok(!erase::has_body(&super::read::record(reader, location)?))
    }
}

/// What a truncation takes away.
#[derive(Debug, Default)]
struct Cut {
    locations: HashSet<Location>,
    dedup: Vec<(u128, Option<Location>)>,
    /// The logs that lose a record, and the first offset they lose.
    logs: BTreeMap<LogId, Option<Offset>>,
}
