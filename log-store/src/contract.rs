//! The contract that every engine keeps.

use crate::{AppendError, ReadError, Replicated, StoreError, TailError, check, fold::LogState};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use std::{fmt, sync::Arc};
use types::{
    BodyHash, DedupKey, Epoch, LogId, Lsn, Offset, PartitionId, PartitionPosition, Position, Record, StoreId,
};

/// What is durable when an append returns: the batch's last (epoch, LSN).
pub type Durable = PartitionPosition;

/// Records to append to one partition, all or none.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where to.
    pub partition: PartitionId,
    /// The epoch of the home that is obeyed: the home's own, or for a follower that of the home it
    /// copies. Not the epoch of the records, which may be older.
    pub obeys: Epoch,
    /// Dense LSNs directly behind the partition's end; per log dense offsets; epochs never going back and
    /// none above `obeys`. Between 1 and [`types::limits::BATCH_MAX_RECORDS`] records and at most
    /// [`types::limits::BATCH_MAX_BYTES`] encoded.
    pub records: Vec<Record>,
}

/// A record as it is stored: bytes that [`proto::decode_record`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Where it stands.
    pub position: PartitionPosition,
    /// The record.
    pub bytes: Bytes,
}

/// Where an epoch begins in a partition log, as far as the log itself tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochBegin {
    /// The epoch.
    pub epoch: Epoch,
    /// The LSN of its first record.
    pub first_lsn: Lsn,
}

/// The end of a partition and what fences it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionEnd {
    /// The lowest epoch that the partition still obeys; 0 where none was raised.
    pub fence: Epoch,
    /// The last durable record; zero where there is none.
    pub last: PartitionPosition,
    /// The epochs that the log holds records of, oldest first.
    pub epochs: Vec<EpochBegin>,
}

impl PartitionEnd {
    /// Moves the end behind a record that follows it.
    pub(crate) fn follow(&mut self, record: &Record) {
        if self.epochs.last().is_none_or(|begin| begin.epoch != record.epoch) {
            self.epochs.push(EpochBegin { epoch: record.epoch, first_lsn: record.lsn });
        }
        self.last = record.partition_position();
    }
}

/// What became of a message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deduped {
    /// Where its entry stands.
    pub position: Position,
    /// The LSN of that entry.
    pub lsn: Lsn,
    /// The hash of its body.
    pub hash: BodyHash,
    /// When it was accepted, in ms since 1970.
    pub accepted_at_ms: u64,
}

/// Which entries of a log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// Those behind this offset, oldest first.
    After(Offset),
    /// Those below this offset, newest first; `Offset::new(u64::MAX)` reads from the end.
    Before(Offset),
}

impl Scan {
    /// The offsets that it reads, as far as they are held without a hole: the first and the last.
    pub(crate) fn held(self, state: &LogState) -> Option<(u64, u64)> {
        match self {
            Self::After(offset) => {
                let first = offset.plus(1);
                Some((first.get(), *state.held_around(first)?.end()))
            }
            Self::Before(offset) => {
                let last = state.head.offset.min(offset.prev());
                Some((*state.held_around(last)?.start(), last.get()))
            }
        }
    }
}

/// Names one archive of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveId(pub u64);

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A divergent tail that was written aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its name.
    pub id: ArchiveId,
    /// The partition that it was cut from.
    pub partition: PartitionId,
    /// Its first and last record.
    pub first: PartitionPosition,
    /// Its last record.
    pub last: PartitionPosition,
    /// How many records it holds.
    pub records: u64,
    /// How far its salvage has come.
    pub salvage: Salvage,
}

/// How far the salvage of an archive has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Salvage {
    /// Everything up to here is settled: `replicated` again, listed as refused, or not salvaged at all.
    pub settled: Lsn,
    /// Entries that are `replicated` again.
    pub salvaged: u64,
    /// Entries that are listed as refused.
    pub refused: u64,
    /// When the last step was noted, in ms since 1970; 0 before the first.
    pub at_ms: u64,
}

/// An archived entry that is not put back, and why: durably listed until its archive is discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEntry {
    /// Which record of the archive.
    pub lsn: Lsn,
    /// Why, for people: at most [`REFUSAL_MAX_BYTES`].
    pub reason: String,
}

/// The longest reason of a refusal, in bytes.
pub const REFUSAL_MAX_BYTES: usize = 512;

/// A step of an archive's salvage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// The archive.
    pub archive: ArchiveId,
    /// What was settled before this step; where that is not so, the step was taken already, or is not due.
    pub after: Lsn,
    /// What is settled with it.
    pub through: Lsn,
    /// How many entries between them are `replicated` again.
    pub salvaged: u64,
    /// Those between them that are refused, ascending by LSN; at most [`types::limits::BATCH_MAX_RECORDS`].
    pub refused: Vec<RefusedEntry>,
    /// When, in ms since 1970.
    pub at_ms: u64,
}

impl Archive {
    /// Whether every record of it is settled.
    pub fn is_settled(&self) -> bool {
        self.salvage.settled >= self.last.lsn
    }

    /// Whether it holds the same records.
    pub fn holds_what(&self, other: &Self) -> bool {
        (self.partition, self.first, self.last, self.records)
            == (other.partition, other.first, other.last, other.records)
    }

    /// The salvage after a step, if the step is the next one.
    pub fn settle(&self, step: &Settle) -> Option<Salvage> {
        let is_next = step.after == self.salvage.settled && step.through > step.after;
        (is_next && step.through <= self.last.lsn).then(|| Salvage {
            settled: step.through,
            salvaged: self.salvage.salvaged + step.salvaged,
            refused: self.salvage.refused + step.refused.len() as u64,
            at_ms: step.at_ms,
        })
    }
}

/// What a round of reclaiming did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// Bodies that have left the disk.
    pub bodies: u64,
    /// Bytes that were given back.
    pub bytes: u64,
}

/// A store of partition logs: one per node.
///
/// # Rules that every engine keeps
///
/// 1. **Atomic and fenced.** `append` is all or nothing per partition. `append`, `archive_tail` and
///    `truncate` check the epoch they obey against the fence inside the same step as they write, and
///    below it answer `Fenced`. A partition that was never fenced or written has fence 0 and obeys all.
/// 2. **Durable before it returns.** Every method that changes the store returns `Ok` only after the
///    change would survive a crash of the machine. Readers see durable records only.
/// 3. **Dense.** LSNs per partition and offsets per log have no gap. A batch that would make one is
///    refused whole, typed, and changes nothing. A log that is re-homed goes on in its next partition at the
///    offset behind its import: so in one partition it may have holes, which other partitions hold, and only
///    where it was away. Behind a seal it takes nothing more of that generation.
/// 4. **Dedup in the same step.** The row under (log, sender, device, message id) is there exactly when
///    its entry is.
/// 5. **Derived state is a fold.** [`LogStore::log_state`] equals [`crate::fold`] over the log's records,
///    after truncation too.
/// 6. **Nothing is served damaged.** A record whose checksum does not match is reported with its place
///    and never returned.
/// 7. **Erased are the bodies of messages** and nothing else, by a deletion, the effect of one, or their expiry; what
///    other entries say is folded and stays. When a deletion is cut, an engine may give the body back or
///    not.
/// 8. **A failed sync is final.** The store closes; every later call answers `Closed`. What was not
///    acked is then of unknown fate until the store is opened again.
///
/// # Cancellation
///
/// Dropping a returned future forgets the answer, not the work: what was begun may still happen.
#[async_trait]
pub trait LogStore: Send + Sync + fmt::Debug + 'static {
    /// The id drawn when the store was made.
    fn id(&self) -> StoreId;

    /// Appends a batch.
    ///
    /// Order: batches of one partition take effect in the order of the *calls*, not of the polls, so a
    /// home may have many under way. When one is refused, those behind it fail with `Gap`.
    ///
    /// # Errors
    /// `Fenced`, `Gap` and the like prove that nothing was written; [`AppendError::is_indeterminate`]
    /// tells the rest. More than the engine's bound under way: `Busy`.
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Durable, AppendError>>;

    /// [`LogStore::append`] of records that the caller has decoded from `encoded`, one each and in their
    /// order, so that an engine need not encode them again.
    ///
    /// # Errors
    /// As those of [`LogStore::append`]; `Invalid` also where there is not one for each record.
    fn append_encoded(
        &self,
        append: Append,
        encoded: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<Durable, AppendError>> {
        match check::one_each(&append, encoded.len()) {
            Ok(()) => self.append(append),
            Err(refusal) => ready(Err(refusal)).boxed(),
        }
    }

    /// Raises a partition's fence to at least `epoch` and answers its end. Appends called before are in
    /// that end or are refused. A lower `epoch` than the fence changes nothing and is no error: the
    /// answer's `fence` tells.
    async fn fence(&self, partition: PartitionId, epoch: Epoch) -> Result<PartitionEnd, StoreError>;

    /// Where a partition ends. A partition that was never written answers the default.
    async fn end(&self, partition: PartitionId) -> Result<PartitionEnd, StoreError>;

    /// The partitions that hold a record or a fence, ascending.
    async fn partitions(&self) -> Result<Vec<PartitionId>, StoreError>;

    /// Copies all records from `from` on aside, durably, and answers the archive; `None` when there is
    /// no such record. Bodies that are deleted by then may be left out or kept until they are reclaimed.
    /// Repeating it before `truncate` answers an archive of the same records, as far as it is salvaged by then.
    async fn archive_tail(
        &self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<Option<Archive>, TailError>;

    /// Drops all records from `from` on and rewinds what was derived from them. Refused with
    /// `NotArchived` unless each of them is in an archive. Only a follower does this, never a home.
    async fn truncate(
        &self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<PartitionEnd, TailError>;

    /// Records of a partition from `from` on, in LSN order: at least one if there is any, then until
    /// either bound is reached. Bodies that are deleted, or were reclaimed as expired, come as
    /// [`types::EntryBody::Erased`]. A `from` of zero reads from the first.
    async fn read_partition(
        &self,
        partition: PartitionId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError>;

    /// [`LogStore::read_partition`] for those who pass the records on and need not look into them.
    async fn read_encoded(
        &self,
        partition: PartitionId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Encoded>, ReadError> {
        let records = self.read_partition(partition, from, max_records, max_bytes).await?;
        let encoded = |record: &Record| Encoded {
            position: record.partition_position(),
            bytes: proto::encode_record(record),
        };
        Ok(records.iter().map(encoded).collect())
    }

    /// Entries of a log, in the scan's direction, bounded likewise, up to the next hole in what is held here
    /// (see [`LogState::elsewhere`]); none where the scan begins in one. An entry whose expiry is at or
    /// before `now_ms` comes as [`types::EntryBody::Erased`], as does a deleted one, at once.
    async fn read_log(
        &self,
        partition: PartitionId,
        log: LogId,
        scan: Scan,
        max_entries: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> Result<Vec<Record>, ReadError>;

    /// The folded state of a log; `None` where it has no record.
    async fn log_state(&self, partition: PartitionId, log: LogId)
    -> Result<Option<Arc<LogState>>, ReadError>;

    /// The logs of a partition behind `after`, ascending, at most `max`.
    async fn logs(
        &self,
        partition: PartitionId,
        after: Option<LogId>,
        max: usize,
    ) -> Result<Vec<LogId>, ReadError>;

    /// The logs of a partition behind `after` that have effects pending in their folded state, ascending, at
    /// most `max`.
    async fn effect_logs(
        &self,
        partition: PartitionId,
        after: Option<LogId>,
        max: usize,
    ) -> Result<Vec<LogId>, ReadError>;

    /// The entry that stands under a message id.
    async fn find(
        &self,
        partition: PartitionId,
        log: LogId,
        key: &DedupKey,
    ) -> Result<Option<Deduped>, ReadError>;

    /// All archives, oldest first.
    async fn archives(&self) -> Result<Vec<Archive>, StoreError>;

    /// Records of an archive from `from` on, bounded like [`LogStore::read_partition`].
    async fn read_archive(
        &self,
        archive: ArchiveId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError>;

    /// Notes a step of an archive's salvage, durably and with its refusals in one piece, and answers how far
    /// the salvage has come then. A step that is not the next one changes nothing and is no error.
    async fn settle_archive(&self, step: Settle) -> Result<Salvage, StoreError>;

    /// The refused entries of an archive behind an LSN, ascending, at most `max`.
    async fn refused_entries(
        &self,
        archive: ArchiveId,
        after: Lsn,
        max: usize,
    ) -> Result<Vec<RefusedEntry>, ReadError>;

    /// Forgets an archive that is done with; its bodies leave the disk by [`LogStore::reclaim`].
    async fn discard_archive(&self, archive: ArchiveId) -> Result<(), StoreError>;

    /// Tells up to where partitions are `replicated`; without a word everything counts as such. What is deleted by a
    /// record above is shown to nobody who reads the log, but stays on disk, and comes whole to those who copy the
    /// partition: the deletion may yet be cut off.
    fn note_replicated(&self, replicated: Replicated);

    /// Takes bodies that are deleted, or expired at `now_ms`, off the disk, archives included, and gives
    /// space back. When it returns, no file of the store holds one that was due when it was called.
    ///
    /// An archived body is due when it has expired, when what stands under its message id in its log is
    /// erased, in whichever partition, or when nothing stands there and it was deleted as it was archived.
    async fn reclaim(&self, now_ms: u64) -> Result<Reclaimed, StoreError>;

    /// Writes and syncs something small that belongs to no partition: proof that the disk still writes.
    async fn canary(&self) -> Result<(), StoreError>;

    /// The first damage that a call has come upon since the store was opened: the disk has not given back what was
    /// written. Calls that do not meet it are served on; whoever owns the store is to part with it.
    fn damage(&self) -> Option<StoreError>;

    /// Notes durably that the store is damaged, and closes it: every later opening answers `Damaged`.
    ///
    /// # Errors
    /// It could not be noted. The store is closed all the same.
    async fn condemn(&self, why: &StoreError) -> Result<(), StoreError>;

    /// Ends the store after what is under way; later calls answer `Closed`.
    async fn close(&self);
}
