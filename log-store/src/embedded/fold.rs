//! The fold on disk: one fjall keyspace, written in sorted runs.
//!
//! Each commit is one ingestion: sorted rows go straight into tables, past fjall's journal and memtable,
//! and become visible all at once, the position up to which they fold the segments among them. A crash
//! leaves one commit or the one before it. Nothing waits for a commit but the next one.

use super::{
    errors::{damaged, fold_error},
    folder::FOLD,
    frame::Location,
    rows::{self, FoldPosition},
};
use crate::StoreError;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::{collections::BTreeMap, path::Path};

const KEYSPACE: &str = "fold";
const WORKER_THREADS: usize = 1;
/// After so many rows a commit lets others run.
const YIELD_EVERY: usize = 256;

/// Rows to write, or with no value to remove.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// All but the dedup rows.
    pub(crate) rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The dedup rows, in no order, each hash once.
    pub(crate) dedup: Vec<(u128, Option<Location>)>,
}

impl Changes {
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.rows.insert(key, None);
    }
}

/// The rows.
pub(crate) struct Fold {
    keyspace: Keyspace,
    // The keyspace works only as long as its database is open.
    _database: Database,
}

impl std::fmt::Debug for Fold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fold").finish_non_exhaustive()
    }
}

/// A row as it is read.
pub(crate) type Row = (fjall::UserKey, fjall::UserValue);

impl Fold {
    /// Opens the fold beside the segments, and makes an empty one where there is none.
    pub(crate) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let opened = (|| {
            let database = Database::builder(folder.join(FOLD))
                .cache_size(cache_bytes)
                .worker_threads(WORKER_THREADS)
                .open()?;
            let keyspace = database.keyspace(KEYSPACE, KeyspaceCreateOptions::default)?;
            Ok(Self { keyspace, _database: database })
        })();
        opened.map_err(|error| fold_error("cannot open", error))
    }

    /// Removes the fold, to be folded anew.
    pub(crate) fn discard(folder: &Path) -> Result<(), StoreError> {
        match std::fs::remove_dir_all(folder.join(FOLD)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(super::errors::io_error("cannot remove", FOLD, &error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<fjall::UserValue>, StoreError> {
        self.keyspace.get(key).map_err(|error| fold_error("cannot read", error))
    }

    /// All rows under a prefix, ascending.
    pub(crate) fn prefix(&self, prefix: &[u8]) -> impl Iterator<Item = Result<Row, StoreError>> + use<> {
        self.keyspace
            .prefix(prefix)
            .map(|guard| guard.into_inner().map_err(|error| fold_error("cannot read", error)))
    }

    /// The rows from one key on up to another, both included, ascending.
    pub(crate) fn range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<> {
        self.keyspace
            .range(from..=to)
            .map(|guard| guard.into_inner().map_err(|error| fold_error("cannot read", error)))
    }

    /// The last row from one key on up to another, both included.
    pub(crate) fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError> {
        let last = self.keyspace.range(from..=to).next_back();
        last.map(|guard| guard.into_inner().map_err(|error| fold_error("cannot read", error))).transpose()
    }

    /// Up to where the segments are folded; `None` in an empty fold.
    pub(crate) fn position(&self) -> Result<Option<FoldPosition>, StoreError> {
        let Some(value) = self.get(rows::POSITION_KEY)? else { return Ok(None) };
        let position = FoldPosition::decode(&value);
        position.map(Some).ok_or_else(|| damaged(FOLD, 0, "its rows are of another version, or damaged"))
    }

    /// Writes rows, all or none, and with them up to where they fold the segments.
    pub(crate) fn commit(&self, mut changes: Changes, position: FoldPosition) -> Result<(), StoreError> {
        changes.put(rows::POSITION_KEY.to_vec(), position.encode());
        changes.dedup.sort_unstable_by_key(|(hash, _)| *hash);
        self.ingest(&changes).map_err(|error| fold_error("cannot write", error))
    }

    fn ingest(&self, changes: &Changes) -> fjall::Result<()> {
        let mut ingestion = self.keyspace.start_ingestion()?;
        let mut written = 0_usize;
        let mut write = |key: &[u8], value: Option<&[u8]>| {
            written += 1;
            if written.is_multiple_of(YIELD_EVERY) {
                // The writer may wait for this processor, and acks wait for the writer.
                std::thread::yield_now();
            }
            match value {
                Some(value) => ingestion.write(key, value),
                None => ingestion.write_tombstone(key),
            }
        };
        let (before, behind) = (b"d".to_vec(), b"e".to_vec());
        for (key, value) in changes.rows.range(..before) {
            write(key, value.as_deref())?;
        }
        let mut value = Vec::with_capacity(rows::LOCATION_BYTES);
        for (hash, location) in &changes.dedup {
            value.clear();
            if let Some(location) = location {
                rows::put_location(&mut value, *location);
            }
            write(&rows::dedup_key(*hash), location.map(|_| &value[..]))?;
        }
        for (key, value) in changes.rows.range(behind..) {
            write(key, value.as_deref())?;
        }
        ingestion.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fold_of_another_version_is_called_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let fold = Fold::open(folder.path(), 1 << 20).expect("it opens");
        assert_eq!(fold.position(), Ok(None));
        fold.commit(Changes::default(), FoldPosition::default()).expect("it is written");
        assert_eq!(fold.position(), Ok(Some(FoldPosition::default())));
        let without_version = &FoldPosition::default().encode()[8..];
        fold.keyspace.insert(rows::POSITION_KEY, without_version).expect("it is written");
        assert!(matches!(fold.position(), Err(StoreError::Damaged { .. })));
    }
}
