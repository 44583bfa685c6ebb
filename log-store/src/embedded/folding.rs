//! From a frozen overlay to rows of the fold, and the thread that does it beside the writer.

use super::{
    core::Core,
    fold::Changes,
    frame::Location,
    index::bad_row,
    rows::{self, PartitionState, RUN_MAX},
    state_row,
    view::{Frozen, LogKey, Run},
};
use crate::{StoreError, fold::LogState};
use parking_lot::MutexGuard;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use types::{Lsn, PartitionId};

/// How long the folder rests after it has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Core {
    /// Folds all that is published. With the writer calling, nothing is left behind.
    pub(crate) fn fold_all(&self) -> Result<(), StoreError> {
        self.all_folded().map(drop)
    }

    /// The same; while the guard is held, nobody else folds.
    pub(crate) fn all_folded(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        let folding = self.folding.lock();
        while self.fold_next()? {}
        Ok(folding)
    }

    /// Folds what is frozen, or freezes first; whether there was anything. The caller holds `folding`.
    fn fold_next(&self) -> Result<bool, StoreError> {
        let Some(frozen) = self.view.write().freeze(self.config.checkpoints) else { return Ok(false) };
        let changes = self.changes(&frozen)?;
        self.index.fold.commit(changes, frozen.position)?;
        for (key, log) in &frozen.overlay.logs {
            self.index.states.insert(*key, log.state.clone());
        }
        let done = self.view.write().frozen.take();
        // Freeing many rows takes a while, and nobody needs to wait for it.
        drop((frozen, done));
        self.folded.notify_all();
        Ok(true)
    }

    fn changes(&self, frozen: &Frozen) -> Result<Changes, StoreError> {
        let mut changes = Changes::default();
        let overlay = &frozen.overlay;
        let ends: HashMap<PartitionId, &PartitionState> =
            frozen.ends.iter().map(|(partition, state)| (*partition, state)).collect();
        for (partition, run) in &overlay.partitions {
            put_run(&mut changes, run, |first| rows::lsn_key(*partition, first));
        }
        for (key, log) in &overlay.logs {
            for run in &log.entries {
                put_run(&mut changes, run, |first| rows::offset_key(key.0, &key.1, first));
            }
            let checkpoints = ends.get(&key.0).map_or(&[][..], |state| &state.checkpoints);
            let row = self.state_row(key, &log.state, checkpoints)?;
            changes.put(rows::state_key(key.0, &key.1), row);
        }
        for (partition, state) in &frozen.ends {
            changes.put(rows::partition_key(*partition), state.encode());
        }
        for (segment, expires_at_ms) in &frozen.expiries {
            changes.put(rows::segment_key(*segment), expires_at_ms.to_le_bytes().to_vec());
        }
        for (location, mark) in &overlay.marks {
            changes.rows.insert(rows::mark_key(*location), mark.map(|mark| mark.encode()));
        }
        for ((partition, log), has_effects) in &overlay.effects {
            changes.rows.insert(rows::effects_key(*partition, log), has_effects.then(Vec::new));
        }
        changes.dedup = overlay.dedup.iter().map(|(hash, location)| (*hash, Some(*location))).collect();
        Ok(changes)
    }

    /// The versions of a log's state with the newest one behind them: all that a truncation to a
    /// checkpoint may still need.
    fn state_row(&self, key: &LogKey, state: &LogState, checkpoints: &[Lsn]) -> Result<Vec<u8>, StoreError> {
        let old = self.index.fold.get(&rows::state_key(key.0, &key.1))?;
        let mut versions = match &old {
            Some(row) => {
                state_row::versions(row).ok_or_else(|| bad_row("the state of a log cannot be read"))?
            }
            None => Vec::new(),
        };
        let newest = state_row::encode(state);
        versions.retain(|(lsn, _)| *lsn < state.last.lsn);
        versions.push((state.last.lsn, &newest));
        let floor = checkpoints.first().copied().unwrap_or(Lsn::ZERO);
        // Of the versions at or below the lowest checkpoint only the newest is ever asked for.
        let keep_from = versions.partition_point(|(lsn, _)| *lsn <= floor).saturating_sub(1);
        Ok(state_row::row(versions[keep_from..].iter().copied()))
    }
}

/// Adds the rows of a run.
pub(crate) fn put_run(changes: &mut Changes, run: &Run, key: impl Fn(u64) -> Vec<u8>) {
    put_locations(changes, run.first, &run.locations, key);
}

/// Adds rows that hold locations under dense numbers.
pub(crate) fn put_locations(
    changes: &mut Changes,
    first: u64,
    locations: &[Location],
    key: impl Fn(u64) -> Vec<u8>,
) {
    for (at, chunk) in locations.chunks(RUN_MAX).enumerate() {
        let mut value = Vec::with_capacity(chunk.len() * rows::LOCATION_BYTES);
        for location in chunk {
            rows::put_location(&mut value, *location);
        }
        changes.put(key(first + (at * RUN_MAX) as u64), value);
    }
}

/// Folds when enough has come together, and whatever there is now and then.
pub(crate) fn run(core: &Arc<Core>) {
    let interval = Duration::from_millis(core.config.fold_interval_ms);
    loop {
        let deadline = Instant::now() + interval;
        let mut progress = core.progress.lock();
        while !progress.wanted && !progress.stop {
            if core.folded.wait_until(&mut progress, deadline).timed_out() {
                break;
            }
        }
        if progress.stop {
            return;
        }
        progress.wanted = false;
        drop(progress);
        let folded = {
            let _folding = core.folding.lock();
            core.fold_next()
        };
        if let Err(error) = &folded {
            tracing::warn!(store = %core.store, %error, "the fold falls behind");
        }
        let mut progress = core.progress.lock();
        progress.failure = folded.err();
        core.folded.notify_all();
        if progress.failure.is_some() && !progress.stop {
            core.folded.wait_for(&mut progress, RETRY_AFTER);
        }
    }
}

impl Core {
    /// Tells the folder that enough has come together.
    pub(crate) fn want_fold(&self) {
        self.progress.lock().wanted = true;
        self.folded.notify_all();
    }

    /// Holds the writer back while the fold is too far behind; why it may never catch up.
    pub(crate) fn wait_for_fold(&self, behind_max: usize) -> Result<(), StoreError> {
        loop {
            {
                let view = self.view.read();
                if view.frozen.is_none() || view.active.records < behind_max {
                    return Ok(());
                }
            }
            let mut progress = self.progress.lock();
            if let Some(error) = &progress.failure {
                return Err(error.clone());
            }
            progress.wanted = true;
            self.folded.notify_all();
            // A fold that ends between the look and the wait is noticed a moment later.
            self.folded.wait_for(&mut progress, Duration::from_millis(10));
        }
    }
}
