//! Where things are: one question, asked of the view first and of the fold behind it.

use super::{
    cache::StateCache,
    errors::damaged,
    fold::Fold,
    folder::FOLD,
    frame::Location,
    rows,
    runs::RunCache,
    state_row,
    view::{LogKey, Overlay, Run, View},
};
use crate::{ArchiveId, StoreError, fold::LogState};
use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};
use types::{LogId, PartitionId};

/// The fold and the cache before it.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) fold: Fold,
    pub(crate) states: StateCache,
    pub(crate) runs: RunCache,
}

/// A row of the fold that cannot be read; throwing the fold away heals it.
pub(crate) fn bad_row(what: &str) -> StoreError {
    damaged(FOLD, 0, what)
}

/// The overlays, newest first.
fn overlays(view: &View) -> impl Iterator<Item = &Overlay> {
    std::iter::once(&view.active).chain(view.frozen.as_ref().map(|frozen| &frozen.overlay))
}

/// The part of a range of locations that is in the view, and the numbers below it that are not.
#[derive(Debug)]
pub(crate) struct Unfolded {
    pub(crate) locations: Vec<Location>,
    pub(crate) below: Option<RangeInclusive<u64>>,
}

fn unfolded<'a>(runs: impl Iterator<Item = &'a Run>, wanted: RangeInclusive<u64>) -> Unfolded {
    let (low, mut high) = wanted.into_inner();
    let mut newest_first = Vec::new();
    // Runs come newest first, and the numbers in them are dense.
    for run in runs.filter(|run| !run.locations.is_empty()) {
        while high >= low {
            let Some(location) = run.get(high) else { break };
            newest_first.push(location);
            high -= 1;
        }
    }
    newest_first.reverse();
    Unfolded { locations: newest_first, below: (high >= low && high > 0).then_some(low..=high) }
}

/// Locations of a partition's records, as far as the view has them.
pub(crate) fn unfolded_lsns(view: &View, partition: PartitionId, wanted: RangeInclusive<u64>) -> Unfolded {
    unfolded(overlays(view).filter_map(|overlay| overlay.partitions.get(&partition)), wanted)
}

/// Locations of a log's entries, as far as the view has them. There must be no hole in what is wanted.
pub(crate) fn unfolded_offsets(view: &View, key: &LogKey, wanted: RangeInclusive<u64>) -> Unfolded {
    let rows = overlays(view).filter_map(|overlay| overlay.logs.get(key));
    unfolded(rows.flat_map(|rows| rows.entries.iter().rev()), wanted)
}

/// A log's state, as far as the view has it.
pub(crate) fn unfolded_state<'a>(view: &'a View, key: &LogKey) -> Option<&'a Arc<LogState>> {
    overlays(view).find_map(|overlay| Some(&overlay.logs.get(key)?.state))
}

/// Where the entry under a message id is, as far as the view has it.
pub(crate) fn unfolded_dedup(view: &View, hash: u128) -> Option<Location> {
    overlays(view).find_map(|overlay| overlay.dedup.get(&hash).copied())
}

/// The logs of a partition that the view has, ascending.
pub(crate) fn unfolded_logs(view: &View, partition: PartitionId) -> BTreeSet<LogId> {
    let keys = overlays(view).flat_map(|overlay| overlay.logs.keys());
    keys.filter(|(of, _)| *of == partition).map(|(_, log)| *log).collect()
}

impl Index {
    /// A log's state from cache or fold.
    pub(crate) fn folded_state(&self, key: &LogKey) -> Result<Option<Arc<LogState>>, StoreError> {
        let changes = match self.states.get(key) {
            Ok(state) => return Ok(Some(state)),
            Err(changes) => changes,
        };
        let Some(row) = self.fold.get(&rows::state_key(key.0, &key.1))? else { return Ok(None) };
        let state = state_row::newest(&row).ok_or_else(|| bad_row("the state of a log cannot be read"))?;
        let state = Arc::new(state);
        self.states.insert_if_current(*key, state.clone(), changes);
        Ok(Some(state))
    }

    pub(crate) fn folded_dedup(&self, hash: u128) -> Result<Option<Location>, StoreError> {
        let Some(value) = self.fold.get(&rows::dedup_key(hash))? else { return Ok(None) };
        let location = rows::locations(&value).next();
        location.map(Some).ok_or_else(|| bad_row("a dedup row cannot be read"))
    }

    pub(crate) fn folded_lsns(
        &self,
        partition: PartitionId,
        wanted: RangeInclusive<u64>,
    ) -> Result<Vec<Location>, StoreError> {
        self.run(wanted, |first| rows::lsn_key(partition, first), |_, _| ())
    }

    pub(crate) fn folded_offsets(
        &self,
        key: &LogKey,
        wanted: RangeInclusive<u64>,
    ) -> Result<Vec<Location>, StoreError> {
        if let Some(locations) = self.runs.get(key, wanted.clone()) {
            return Ok(locations);
        }
        let keep = |first, run: &[u8]| self.runs.insert(key, first, rows::locations(run).collect());
        self.run(wanted, |first| rows::offset_key(key.0, &key.1, first), keep)
    }

    /// Locations of an archive's records.
    pub(crate) fn archived(
        &self,
        archive: ArchiveId,
        wanted: RangeInclusive<u64>,
    ) -> Result<Vec<Location>, StoreError> {
        self.run(wanted, |first| rows::archive_lsn_key(archive, first), |_, _| ())
    }

    /// The logs of a partition behind one, ascending, at most `max`.
    pub(crate) fn folded_logs(
        &self,
        partition: PartitionId,
        after: Option<&LogId>,
        max: usize,
    ) -> Result<Vec<LogId>, StoreError> {
        let from = after.map_or_else(|| rows::state_prefix(partition), |log| rows::state_key(partition, log));
        let mut to = rows::state_prefix(partition);
        to.extend_from_slice(&[u8::MAX; LogId::BYTES]);
        let mut logs = Vec::new();
        for row in self.fold.range(&from, &to) {
            let log = rows::state_key_log(&row?.0).ok_or_else(|| bad_row("the key of a log is none"))?;
            if Some(&log) != after {
                logs.push(log);
            }
            if logs.len() >= max {
                break;
            }
        }
        Ok(logs)
    }

    /// The locations under a range of dense numbers; an error where one is missing. `seen` is shown each
    /// row that was read.
    fn run(
        &self,
        wanted: RangeInclusive<u64>,
        key: impl Fn(u64) -> Vec<u8>,
        seen: impl Fn(u64, &[u8]),
    ) -> Result<Vec<Location>, StoreError> {
        let (low, high) = wanted.into_inner();
        let Some((first_key, _)) = self.fold.last(&key(0), &key(low))? else {
            return Err(bad_row("the index has no row for what was written"));
        };
        let mut found = Vec::new();
        let mut next = low;
        for row in self.fold.range(&first_key, &key(high)) {
            let (row_key, value) = row?;
            let first =
                rows::run_first(&row_key).ok_or_else(|| bad_row("the key of an index row is none"))?;
            seen(first, &value);
            let skip = next.checked_sub(first).ok_or_else(|| bad_row("the index has a gap"))?;
            for location in rows::locations(&value).skip(skip as usize) {
                if next > high {
                    break;
                }
                found.push(location);
                next += 1;
            }
        }
        if next <= high { Err(bad_row("the index ends before what was written")) } else { Ok(found) }
    }
}
