//! What the writer, the folder and the readers share.

use super::{
    Config,
    errors::closed,
    index::{self, Index},
    queue::Queue,
    rows::Mark,
    segment::Segments,
    staged::StagedLogs,
    view::{LogKey, Placed, View},
};
use crate::{
    Replicated, StoreError, erase,
    files::{Files, Guard},
    fold::LogState,
};
use parking_lot::{Condvar, Mutex, RwLock};
use std::sync::Arc;
use types::{Offset, StoreId};

/// Shared by all threads of one open store.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: StoreId,
    pub(crate) config: Config,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) segments: Segments,
    pub(crate) index: Index,
    pub(crate) view: RwLock<View>,
    /// Held shared while something is looked up, and alone while a truncation changes what was there,
    /// or marks go because their bodies have left the disk.
    pub(crate) gate: RwLock<()>,
    pub(crate) queue: Queue,
    /// Held by whoever folds.
    pub(crate) folding: Mutex<()>,
    pub(crate) progress: Mutex<FoldProgress>,
    /// Told when a fold is wanted, or has ended.
    pub(crate) folded: Condvar,
    /// Up to where partitions are replicated.
    pub(crate) replicated: RwLock<Replicated>,
    /// Held by whoever takes bodies off the disk.
    pub(crate) reclaiming: Mutex<()>,
    /// Goes last: others may come in once nothing here touches the folder any more.
    pub(crate) _guard: Arc<dyn Guard>,
}

/// How the folder thread is doing.
#[derive(Debug, Default)]
pub(crate) struct FoldProgress {
    pub(crate) wanted: bool,
    pub(crate) stop: bool,
    pub(crate) failure: Option<StoreError>,
}

impl Core {
    /// Refuses once the store is closed.
    pub(crate) fn check_open(&self) -> Result<(), StoreError> {
        match self.queue.closed() {
            Some(reason) => Err(StoreError::Closed { reason }),
            None => Ok(()),
        }
    }

    /// Closes the store, because nobody knows any more what is on disk.
    pub(crate) fn fail(&self, error: &StoreError) -> StoreError {
        let reason: Arc<str> = match error {
            StoreError::Closed { reason } => reason.clone(),
            other => other.to_string().into(),
        };
        tracing::error!(store = %self.store, %reason, "the log store closes");
        self.queue.close(&reason);
        closed(reason)
    }

    /// A log's state, wherever it is. The caller holds the view.
    pub(crate) fn state(&self, view: &View, key: &LogKey) -> Result<Option<Arc<LogState>>, StoreError> {
        match index::unfolded_state(view, key) {
            Some(state) => Ok(Some(state.clone())),
            None => self.index.folded_state(key),
        }
    }

    /// A log's state, where no disk is needed to tell.
    pub(crate) fn state_in_memory(&self, key: &LogKey) -> Option<Arc<LogState>> {
        let view = self.view.read();
        index::unfolded_state(&view, key).cloned().or_else(|| self.index.states.get(key).ok())
    }

    /// Whether nothing can take back what a mark stands for.
    pub(crate) fn is_final(&self, mark: &Mark) -> bool {
        mark.cause <= self.replicated.read().watermark(mark.partition)
    }

    /// Shows a group of durable records. Only the writer, or the recovery before it, publishes.
    pub(crate) fn publish(
        &self,
        view: &mut View,
        records: &[Placed],
        logs: &mut StagedLogs,
    ) -> Result<(), StoreError> {
        for of_partition in records.chunk_by(|a, b| a.partition == b.partition) {
            view.publish_records(of_partition, logs);
        }
        for placed in records {
            let key = (placed.partition, placed.record.log);
            for offset in erase::erased_by(&placed.record).iter() {
                self.mark_deleted(view, &key, offset.get(), placed)?;
            }
        }
        Ok(())
    }

    fn mark_deleted(
        &self,
        view: &mut View,
        key: &LogKey,
        offset: u64,
        deletion: &Placed,
    ) -> Result<(), StoreError> {
        if self.state(view, key)?.is_some_and(|state| state.is_elsewhere(Offset::new(offset))) {
            return Ok(());
        }
        let found = index::unfolded_offsets(view, key, offset..=offset);
        let location = match found.locations.first() {
            Some(location) => *location,
            None => match self.index.folded_offsets(key, offset..=offset)?.first() {
                Some(location) => *location,
                None => return Ok(()),
            },
        };
        let mark = Mark { partition: key.0, cause: deletion.record.lsn };
        view.mark(location, mark);
        Ok(())
    }
}
