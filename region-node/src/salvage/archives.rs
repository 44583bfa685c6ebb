//! The archives of this node's store, as replicators and operators read them.

use super::targets;
use crate::clock;
use bytes::Bytes;
use log_store::{
    Archive, ArchiveId, LogStore, REFUSAL_MAX_BYTES, ReadError, RefusedEntry, Settle, StoreError,
};
use proto::node as wire;
use std::{collections::BTreeMap, sync::Arc};
use tonic::Status;
use types::{Lsn, StoreId, limits};

/// Bytes of records in one page, beside what deletions delete.
const PAGE_MAX_BYTES: usize = 1024 * 1024;

/// Why an archive cannot be read or settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The node has another store now.
    #[error("this node has store {here} open, not the one that was named")]
    OtherStore {
        /// The one that it has.
        here: StoreId,
    },
    /// The refusals of a step are too many.
    #[error("{count} refusals in one step, and {max} is the most", max = limits::BATCH_MAX_RECORDS)]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<ArchiveError> for Status {
    fn from(error: ArchiveError) -> Self {
        let message = error.to_string();
        match error {
            ArchiveError::OtherStore { .. } => Self::failed_precondition(message),
            ArchiveError::TooMany { .. } => Self::invalid_argument(message),
            ArchiveError::Store(StoreError::UnknownArchive { .. })
            | ArchiveError::Read(ReadError::Store(StoreError::UnknownArchive { .. })) => {
                Self::not_found(message)
            }
            ArchiveError::Store(_) | ArchiveError::Read(_) => Self::unavailable(message),
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Archives {
    pub(crate) store: Arc<dyn LogStore>,
}

impl Archives {
    /// All archives or those that are not settled, oldest first, each with the time of its last record.
    pub(crate) async fn list(&self, unsettled_only: bool) -> Result<Vec<wire::Archive>, ArchiveError> {
        let mut listed = Vec::new();
        let archives = self.store.archives().await?;
        for archive in archives.into_iter().filter(|archive| !(unsettled_only && archive.is_settled())) {
            let last = self.store.read_archive(archive.id, archive.last.lsn, 1, 0).await?;
            let accepted_at_ms = last.first().map_or(0, |record| record.accepted_at_ms);
            listed.push(told(&archive, accepted_at_ms));
        }
        Ok(listed)
    }

    /// What is still to be settled: archives and their records.
    pub(crate) async fn unsettled(&self) -> Result<(u64, u64), StoreError> {
        let archives = self.store.archives().await?;
        let unsettled = archives.iter().filter(|archive| !archive.is_settled());
        Ok(unsettled.fold((0, 0), |(count, records), archive| (count + 1, records + left(archive))))
    }

    /// A page of an archive.
    pub(crate) async fn read(
        &self,
        request: wire::ReadArchiveRequest,
    ) -> Result<wire::ReadArchiveReply, ArchiveError> {
        self.check(&request.store)?;
        let (id, from) = (ArchiveId(request.archive), Lsn::new(request.from_lsn));
        let archive = self.known(id).await?;
        if from > archive.last.lsn {
            return Ok(wire::ReadArchiveReply::default());
        }
        let max_records = (request.max_records as usize).clamp(1, limits::BATCH_MAX_RECORDS);
        let mut records = self.store.read_archive(id, from, max_records, PAGE_MAX_BYTES).await?;
        records.truncate(targets::fit(&records));
        let mut targets = targets::of(&*self.store, &archive, &records).await?;
        let refused = self.store.refused_entries(id, from.prev(), max_records).await?;
        let mut refused: BTreeMap<Lsn, String> =
            refused.into_iter().map(|refused| (refused.lsn, refused.reason)).collect();
        let told = records.iter().map(|record| wire::ArchivedRecord {
            record: proto::encode_record(record),
            targets: targets.remove(&record.lsn).unwrap_or_default(),
            refused: refused.remove(&record.lsn).unwrap_or_default(),
        });
        Ok(wire::ReadArchiveReply { records: told.collect() })
    }

    /// Notes what a replicator has settled.
    pub(crate) async fn settle(&self, request: wire::SettleArchiveRequest) -> Result<Lsn, ArchiveError> {
        self.check(&request.store)?;
        let count = request.refused.len();
        if count > limits::BATCH_MAX_RECORDS {
            return Err(ArchiveError::TooMany { count });
        }
        let step = Settle {
            archive: ArchiveId(request.archive),
            after: Lsn::new(request.after_lsn),
            through: Lsn::new(request.through_lsn),
            salvaged: request.salvaged,
            refused: request.refused.into_iter().map(refused).collect(),
            at_ms: clock::wall_ms(),
        };
        let (archive, salvaged) = (step.archive, step.salvaged);
        let salvage = self.store.settle_archive(step).await?;
        metrics::counter!("hearth_salvage_entries_total", "outcome" => "salvaged").increment(salvaged);
        metrics::counter!("hearth_salvage_entries_total", "outcome" => "refused").increment(count as u64);
        tracing::info!(
            %archive, settled = %salvage.settled, salvaged = salvage.salvaged, refused = salvage.refused,
            "a step of salvage is noted"
        );
        Ok(salvage.settled)
    }

    /// Discards what has been settled for longer than `keep_ms`. Its bodies leave the disk at the next reclaim.
    pub(crate) async fn discard_old(&self, now_ms: u64, keep_ms: u64) -> Result<(), StoreError> {
        for archive in self.store.archives().await? {
            if archive.is_settled() && archive.salvage.at_ms.saturating_add(keep_ms) <= now_ms {
                tracing::info!(archive = %archive.id, partition = %archive.partition, "an archive is discarded");
                self.store.discard_archive(archive.id).await?;
            }
        }
        Ok(())
    }

    /// Brings the gauges up to date.
    pub(crate) async fn meter(&self) -> Result<(), StoreError> {
        let (archives, records) = self.unsettled().await?;
        metrics::gauge!("hearth_salvage_unsettled_archives").set(archives as f64);
        metrics::gauge!("hearth_salvage_unsettled_records").set(records as f64);
        Ok(())
    }

    async fn known(&self, id: ArchiveId) -> Result<Archive, ArchiveError> {
        let archives = self.store.archives().await?;
        let known = archives.into_iter().find(|archive| archive.id == id);
        Ok(known.ok_or(StoreError::UnknownArchive { archive: id })?)
    }

    fn check(&self, named: &Bytes) -> Result<(), ArchiveError> {
        let here = self.store.id();
        if named.as_ref() == here.as_bytes() { Ok(()) } else { Err(ArchiveError::OtherStore { here }) }
    }
}

/// Records that are not settled yet.
fn left(archive: &Archive) -> u64 {
    archive.last.lsn.since(archive.salvage.settled.max(archive.first.lsn.prev()))
}

fn told(archive: &Archive, last_accepted_at_ms: u64) -> wire::Archive {
    wire::Archive {
        id: archive.id.0,
        partition: archive.partition.get(),
        first: Some(archive.first.into()),
        last: Some(archive.last.into()),
        records: archive.records,
        settled_lsn: archive.salvage.settled.get(),
        salvaged: archive.salvage.salvaged,
        refused: archive.salvage.refused,
        settled_at_ms: archive.salvage.at_ms,
        last_accepted_at_ms,
    }
}

fn refused(said: wire::RefusedEntry) -> RefusedEntry {
    let mut reason = said.reason;
    reason.truncate(reason.floor_char_boundary(REFUSAL_MAX_BYTES));
    RefusedEntry { lsn: Lsn::new(said.lsn), reason }
}
