//! One error per operation, each saying whether anything may have been written.

use crate::ArchiveId;
use std::sync::Arc;
use types::{Epoch, LogId, Lsn, Offset, PartitionId};

/// Why a store can do nothing of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store was closed, by its owner or by a failed sync.
    #[error("the store is closed: {reason}")]
    Closed {
        /// Why.
        reason: Arc<str>,
    },
    /// Bytes on disk are not what was written.
    #[error("{file} is damaged at byte {at}: {what}")]
    Damaged {
        /// The file, relative to the store's folder.
        file: Arc<str>,
        /// Where.
        at: u64,
        /// What is wrong.
        what: Arc<str>,
    },
    /// The folder is of another format version than this program can read.
    #[error("{file} has format version {found}, and this program reads version {known}")]
    Version {
        /// The file that says so.
        file: Arc<str>,
        /// The version found.
        found: u32,
        /// The version known.
        known: u32,
    },
    /// The disk has no room; nothing was written.
    #[error("no space left for {file}")]
    Full {
        /// The file that could not grow.
        file: Arc<str>,
    },
    /// Another process has the store open.
    #[error("{folder} is in use by another process")]
    InUse {
        /// The store's folder.
        folder: Arc<str>,
    },
    /// The operating system refused; nothing of the change is durable for certain.
    #[error("{what} {file}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        file: Arc<str>,
        /// Its answer.
        error: Arc<str>,
    },
    /// There is no such archive.
    #[error("there is no archive {archive}")]
    UnknownArchive {
        /// The name asked for.
        archive: ArchiveId,
    },
}

impl StoreError {
    /// Whether the same call can succeed later on this open store.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Whether the change may have happened.
    pub const fn is_indeterminate(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Io { .. })
    }
}

/// Why an append was not acked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A later epoch has been promised to. Nothing was written.
    #[error("partition {partition} is fenced at epoch {fence}, above {obeys}")]
    Fenced {
        /// The partition.
        partition: PartitionId,
        /// The epoch that the append obeys.
        obeys: Epoch,
        /// The fence.
        fence: Epoch,
    },
    /// The batch does not follow the partition's end. Nothing was written.
    #[error("partition {partition} goes on at lsn {expected}, and the batch has lsn {found} there")]
    Gap {
        /// The partition.
        partition: PartitionId,
        /// The LSN that comes next.
        expected: Lsn,
        /// The LSN in the batch.
        found: Lsn,
    },
    /// An entry does not follow its log's head. Nothing was written.
    #[error("log {log} goes on at offset {expected}, and the batch has offset {found} there")]
    OffsetGap {
        /// The log.
        log: LogId,
        /// The offset that comes next.
        expected: Offset,
        /// The offset in the batch.
        found: Offset,
    },
    /// The batch breaks a rule that does not depend on the store. Nothing was written.
    #[error("the batch for partition {partition} is not valid: {why}")]
    Invalid {
        /// The partition.
        partition: PartitionId,
        /// The rule.
        why: Arc<str>,
    },
    /// A message id is in its log already. Nothing was written: the home looks before it appends.
    #[error("log {log} holds the message id of lsn {lsn} already")]
    Duplicate {
        /// The log.
        log: LogId,
        /// The LSN of the batch's record.
        lsn: Lsn,
    },
    /// More is under way than the engine takes. Nothing was written.
    #[error("the store has {bytes} bytes under way, and takes no more")]
    Busy {
        /// Bytes under way.
        bytes: usize,
    },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AppendError {
    /// Whether the same batch can succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// Whether the batch may have been written.
    pub const fn is_indeterminate(&self) -> bool {
        match self {
            Self::Store(error) => error.is_indeterminate(),
            _ => false,
        }
    }
}

/// Why a tail was not archived or cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TailError {
    /// A later epoch has been promised to. Nothing changed.
    #[error("partition {partition} is fenced at epoch {fence}, above {obeys}")]
    Fenced {
        /// The partition.
        partition: PartitionId,
        /// The epoch that is obeyed.
        obeys: Epoch,
        /// The fence.
        fence: Epoch,
    },
    /// A record that would be cut is in no archive. Nothing changed.
    #[error("lsn {lsn} of partition {partition} is in no archive, so the tail stays")]
    NotArchived {
        /// The partition.
        partition: PartitionId,
        /// The first such LSN.
        lsn: Lsn,
    },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why nothing can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The LSN is past the partition's end by more than one.
    #[error("partition {partition} ends at lsn {end}, before {from}")]
    PastEnd {
        /// The partition.
        partition: PartitionId,
        /// The LSN asked for.
        from: Lsn,
        /// The last LSN.
        end: Lsn,
    },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}
