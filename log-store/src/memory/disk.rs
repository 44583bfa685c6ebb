//! What a crash leaves: all partitions and archives of one store, as a plain state machine.

use super::partition::PartitionLog;
use crate::{
    Append, AppendError, Archive, ArchiveId, PartitionEnd, Reclaimed, RefusedEntry, Replicated, Salvage,
    Settle, StoreError, TailError, check::Checker, erase,
};
use host::planted::{Bug, is_planted};
use std::collections::BTreeMap;
use types::{Epoch, Lsn, PartitionId, PartitionPosition, Record};

/// The durable contents of one store.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    partitions: BTreeMap<PartitionId, PartitionLog>,
    archives: BTreeMap<ArchiveId, Archived>,
    last_archive: u64,
    checker: Checker,
}

#[derive(Debug, Clone)]
struct Archived {
    archive: Archive,
    records: Vec<Record>,
    refused: Vec<RefusedEntry>,
}

impl Disk {
    pub(super) fn partition(&self, partition: PartitionId) -> Option<&PartitionLog> {
        self.partitions.get(&partition)
    }

    pub(super) fn end(&self, partition: PartitionId) -> PartitionEnd {
        self.partition(partition).map(PartitionLog::end).unwrap_or_default()
    }

    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        let held = self.partitions.iter().filter(|(_, log)| !log.is_blank());
        held.map(|(partition, _)| *partition).collect()
    }

    pub(super) fn append(&mut self, append: Append) -> Result<PartitionPosition, AppendError> {
        self.partitions.entry(append.partition).or_default().append(append, &mut self.checker)
    }

    pub(super) fn fence(&mut self, partition: PartitionId, epoch: Epoch) -> PartitionEnd {
        let log = self.partitions.entry(partition).or_default();
        log.raise_fence(epoch);
        log.end()
    }

    pub(super) fn archive_tail(
        &mut self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<Option<Archive>, TailError> {
        if !is_planted(Bug::TruncateUnfenced) {
            self.obey(partition, obeys)?;
        }
        let Some(log) = self.partition(partition) else { return Ok(None) };
        let Some([first, ..]) = log.tail(from) else { return Ok(None) };
        if is_planted(Bug::TruncateBeforeArchive) {
            return Ok(None);
        }
        let records: Vec<Record> = log.records_from(first.lsn, Lsn::new(u64::MAX)).collect();
        let archive = Archive {
            id: ArchiveId(self.last_archive + 1),
            partition,
            first: first.partition_position(),
            last: log.end().last,
            records: records.len() as u64,
            salvage: Salvage::default(),
        };
        if let Some(known) = self.archives.values().find(|known| known.archive.holds_what(&archive)) {
            return Ok(Some(known.archive.clone()));
        }
        self.last_archive += 1;
        self.archives.insert(archive.id, Archived { archive: archive.clone(), records, refused: vec![] });
        Ok(Some(archive))
    }

    pub(super) fn truncate(
        &mut self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<PartitionEnd, TailError> {
        if !is_planted(Bug::TruncateUnfenced) {
            self.obey(partition, obeys)?;
        }
        let tail = self.partition(partition).and_then(|log| log.tail(from)).unwrap_or_default();
        let lost = tail.iter().map(Record::partition_position).find(|at| !self.is_archived(partition, *at));
        if let Some(lost) = lost
            && !is_planted(Bug::TruncateBeforeArchive)
        {
            return Err(TailError::NotArchived { partition, lsn: lost.lsn });
        }
        if let Some(log) = self.partitions.get_mut(&partition) {
            log.truncate(from);
        }
        Ok(self.end(partition))
    }

    fn obey(&self, partition: PartitionId, obeys: Epoch) -> Result<(), TailError> {
        let fence = self.end(partition).fence;
        if obeys < fence { Err(TailError::Fenced { partition, obeys, fence }) } else { Ok(()) }
    }

    fn is_archived(&self, partition: PartitionId, at: PartitionPosition) -> bool {
        self.archives.values().filter(|known| known.archive.partition == partition).any(|known| {
            let place = at.lsn.get().checked_sub(known.archive.first.lsn.get());
            let place = place.and_then(|place| usize::try_from(place).ok());
            place
                .and_then(|place| known.records.get(place))
                .is_some_and(|held| held.partition_position() == at)
        })
    }

    pub(super) fn archives(&self) -> Vec<Archive> {
        self.archives.values().map(|known| known.archive.clone()).collect()
    }

    /// An archive with its records.
    pub(super) fn archive(&self, id: ArchiveId) -> Result<(&Archive, &[Record]), StoreError> {
        let known = self.archives.get(&id).ok_or(StoreError::UnknownArchive { archive: id })?;
        Ok((&known.archive, &known.records))
    }

    pub(super) fn settle_archive(&mut self, step: Settle) -> Result<Salvage, StoreError> {
        let unknown = StoreError::UnknownArchive { archive: step.archive };
        let known = self.archives.get_mut(&step.archive).ok_or(unknown)?;
        if let Some(salvage) = known.archive.settle(&step) {
            known.archive.salvage = salvage;
            known.refused.extend(step.refused);
        }
        Ok(known.archive.salvage.clone())
    }

    pub(super) fn refused_entries(&self, id: ArchiveId) -> Result<&[RefusedEntry], StoreError> {
        let known = self.archives.get(&id).ok_or(StoreError::UnknownArchive { archive: id })?;
        Ok(&known.refused)
    }

    pub(super) fn discard_archive(&mut self, id: ArchiveId) -> Result<(), StoreError> {
        self.archives.remove(&id).map(drop).ok_or(StoreError::UnknownArchive { archive: id })
    }

    /// Erases what is due. An archived body is due as well when the entry that stands under its message
    /// id by now has lost its own.
    pub(super) fn reclaim(&mut self, now_ms: u64, replicated: &Replicated) -> Reclaimed {
        let mut reclaimed = Reclaimed::default();
        for (partition, log) in &mut self.partitions {
            let (bodies, bytes) = log.reclaim(now_ms, replicated.watermark(*partition));
            reclaimed.bodies += bodies;
            reclaimed.bytes += bytes;
        }
        for known in self.archives.values_mut() {
            for record in &mut known.records {
                let deleted = record.entry().is_some_and(|entry| {
                    // It may have been put back in another partition, where the log went on.
                    self.partitions.iter().any(|(partition, log)| {
                        log.has_erased(&record.log, &entry.dedup_key(), replicated.watermark(*partition))
                    })
                });
                if deleted || erase::is_expired(record, now_ms) {
                    reclaimed.bodies += u64::from(erase::erase(record));
                }
            }
        }
        reclaimed
    }
}
