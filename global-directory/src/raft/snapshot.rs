//! A snapshot on its way: pages of rows as they are sent, and as they are gathered by the one who receives them.

use super::{machine::ROW_SPACES, types::SnapshotRows};
use crate::{
    bounds,
    kv::{Error, Pair, View},
};
use std::{collections::BTreeMap, sync::Arc};

/// Rows that came over the wire.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

/// A snapshot is greater than what a replica takes into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot of more than {} bytes is not taken", bounds::SNAPSHOT_MAX_BYTES)]
pub(super) struct TooLarge;

impl Pairs {
    /// Takes a row.
    pub(super) fn add(&mut self, (key, value): Pair) -> Result<(), TooLarge> {
        self.bytes += key.len() + value.len();
        if self.bytes > bounds::SNAPSHOT_MAX_BYTES {
            return Err(TooLarge);
        }
        self.rows.insert(key, value);
        Ok(())
    }

    /// All of them.
    pub(super) fn finish(self) -> SnapshotRows {
        SnapshotRows(Arc::new(self))
    }
}

impl View for Pairs {
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let range = self.rows.range(start.to_vec()..end.to_vec()).take(limit);
        Ok(range.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// Reads the rows of a snapshot in pages of about one message.
pub(super) struct Pages {
    rows: SnapshotRows,
    space: usize,
    from: Vec<u8>,
}

impl Pages {
    pub(super) fn new(rows: SnapshotRows) -> Self {
        Self { rows, space: 0, from: ROW_SPACES[0].0.to_vec() }
    }

    /// The next rows; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Pair>>, Error> {
        while let Some((_, end)) = ROW_SPACES.get(self.space) {
            let mut page = self.rows.0.range(&self.from, end, bounds::SNAPSHOT_PAGE_ROWS)?;
            let mut bytes = 0;
            let fits = page.iter().position(|(key, value)| {
                bytes += key.len() + value.len();
                bytes > bounds::APPEND_MAX_BYTES
            });
            page.truncate(fits.unwrap_or(page.len()).max(1));
            if let Some((last, _)) = page.last() {
                self.from = [last.as_slice(), &[0]].concat();
                return Ok(Some(page));
            }
            self.space += 1;
            self.from = ROW_SPACES.get(self.space).map_or_else(Vec::new, |(start, _)| start.to_vec());
        }
        Ok(None)
    }
}
