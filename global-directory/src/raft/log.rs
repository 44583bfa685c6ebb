//! Vote and log of a replica. What was appended or voted is durable before anyone hears of it.
//!
//! A renewal is stamped here, when its entry comes to this replica's log for the first time: that is after the
//! node sent it, whoever is leader, so a lease that is counted from the stamp never ends too early. Every
//! replica does so on its own clock, and so whichever becomes leader knows whom it has to wait for, and how long.
//!
//! What a leader has made durable goes to the others at once ([`super::lane`]), and not before: the library lets a
//! leader that has crashed go on in the same term, and what it no longer knows must be known to nobody.

use super::{
    disk::{COMMITTED, Disk, LOG_END, PURGED, VOTE, log_key},
    lane::Fresh,
    network::Network,
    types::{Entry, LogId, ReplicaId, StorageError, Types, Vote},
};
use crate::{
    bounds, clock,
    kv::{self, Kv, Transaction},
    rows::{decode, encode},
    state::State,
};
use bytes::Bytes;
use openraft::{
    AnyError, EntryPayload, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

/// The log of one replica. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    disk: Disk,
    state: Arc<State>,
    ahead: Ahead,
}

/// Whom a replica tells at once of what it has appended.
#[derive(Clone)]
pub(super) struct Ahead {
    pub(super) own: ReplicaId,
    pub(super) network: Network,
    /// The last entry of the log, once it is known here.
    pub(super) last: Arc<Mutex<Option<LogId>>>,
}

impl Ahead {
    pub(super) fn new(own: ReplicaId, network: Network) -> Self {
        Self { own, network, last: Arc::default() }
    }

    fn appended(&self, last: LogId, entries: Vec<Bytes>) {
        let previous = self.last.lock().replace(last);
        let bytes: usize = entries.iter().map(Bytes::len).sum();
        if let Some(previous) = previous
            && bytes <= bounds::APPEND_AHEAD_MAX_BYTES
            && previous.index + entries.len() as u64 == last.index
        {
            self.network.go_ahead(self.own, &Fresh { previous, last, entries });
        }
    }
}

impl Log {
    pub(super) const fn new(disk: Disk, state: Arc<State>, ahead: Ahead) -> Self {
        Self { disk, state, ahead }
    }

    fn stamp_renewals(&self, entries: &[Entry]) {
        let now_ms = clock::boot_ms();
        for entry in entries {
            if let EntryPayload::Normal(proposal) = &entry.payload {
                proposal.renewals.iter().for_each(|home| self.state.stamp(home, now_ms));
            }
        }
    }
}

pub(super) fn failed(
    subject: ErrorSubject<super::ReplicaId>,
    verb: ErrorVerb,
) -> impl FnOnce(kv::Error) -> StorageError {
    move |error| StorageIOError::new(subject, verb, AnyError::new(&error)).into()
}

fn read<T: DeserializeOwned>(kv: &dyn Kv, key: &[u8]) -> Result<Option<T>, kv::Error> {
    let mut found = None;
    kv.read(&mut |tx| {
        found = tx.get(key)?.map(|value| decode(key, &value)).transpose()?;
        Ok(())
    })?;
    Ok(found)
}

fn delete_range(tx: &mut dyn Transaction, start: &[u8], end: &[u8]) -> Result<(), kv::Error> {
    loop {
        let pairs = tx.range(start, end, bounds::LOG_PAGE)?;
        if pairs.is_empty() {
            return Ok(());
        }
        for (key, _) in pairs {
            tx.delete(&key)?;
        }
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(index) => log_key(*index),
            Bound::Excluded(index) => log_key(index.saturating_add(1)),
            Bound::Unbounded => log_key(0),
        };
        let end = match range.end_bound() {
            Bound::Included(index) => log_key(index.saturating_add(1)),
            Bound::Excluded(index) => log_key(*index),
            Bound::Unbounded => LOG_END.to_vec(),
        };
        entries(&**self.disk.kv(), &start, &end, usize::MAX)
            .map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let limit = bounds::APPEND_MAX_ENTRIES;
        entries(&**self.disk.kv(), &log_key(start), &log_key(end), limit)
            .map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }
}

/// Entries until their encoded size makes one message, and at least one if there is one.
fn entries(kv: &dyn Kv, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Entry>, kv::Error> {
    let mut found = Vec::new();
    let mut bytes = 0;
    kv.read(&mut |tx| {
        for (key, value) in tx.range(start, end, limit)? {
            bytes += value.len();
            if limit != usize::MAX && !found.is_empty() && bytes > bounds::APPEND_MAX_BYTES {
                break;
            }
            found.push(decode(&key, &value)?);
        }
        Ok(())
    })?;
    Ok(found)
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let state = self.disk.run(|kv| {
            let last_purged_log_id: Option<LogId> = read(kv, PURGED)?;
            let last = last_entry(kv, last_purged_log_id.map_or(0, |id| id.index + 1))?;
            Ok(LogState { last_purged_log_id, last_log_id: last.or(last_purged_log_id) })
        });
        state.await.map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        let saved = self.disk.run(move |kv| kv.write(&mut |tx| tx.put(VOTE, &encode(&vote)?)));
        saved.await.map_err(failed(ErrorSubject::Vote, ErrorVerb::Write))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        read(&**self.disk.kv(), VOTE).map_err(failed(ErrorSubject::Vote, ErrorVerb::Read))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let saved =
            self.disk.soon(move |kv| kv.write_soon(&mut |tx| tx.put(COMMITTED, &encode(&committed)?)));
        saved.await.map_err(failed(ErrorSubject::Logs, ErrorVerb::Write))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let committed = read::<Option<LogId>>(&**self.disk.kv(), COMMITTED);
        committed.map(Option::flatten).map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.stamp_renewals(&entries);
        let last = entries.last().map(|entry| entry.log_id);
        let appended = self.disk.run(move |kv| {
            let rows = entries.iter().map(|entry| Ok((log_key(entry.log_id.index), encode(entry)?)));
            let rows: Vec<(Vec<u8>, Vec<u8>)> = rows.collect::<Result<_, kv::Error>>()?;
            kv.write(&mut |tx| rows.iter().try_for_each(|(key, value)| tx.put(key, value)))?;
            Ok(rows.into_iter().map(|(_, value)| Bytes::from(value)).collect::<Vec<Bytes>>())
        });
        let appended = appended.await;
        if let (Ok(entries), Some(last)) = (&appended, last) {
            self.ahead.appended(last, entries.clone());
        }
        let told = appended.as_ref().map(drop).map_err(|error| io::Error::other(error.clone()));
        callback.log_io_completed(told);
        appended.map(drop).map_err(failed(ErrorSubject::Logs, ErrorVerb::Write))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        *self.ahead.last.lock() = None;
        let truncated =
            self.disk.run(move |kv| kv.write(&mut |tx| delete_range(tx, &log_key(log_id.index), LOG_END)));
        truncated.await.map_err(failed(ErrorSubject::Log(log_id), ErrorVerb::Delete))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let purged = self.disk.run(move |kv| {
            kv.write(&mut |tx| {
                tx.put(PURGED, &encode(&log_id)?)?;
                delete_range(tx, &log_key(0), &log_key(log_id.index.saturating_add(1)))
            })
        });
        purged.await.map_err(failed(ErrorSubject::Log(log_id), ErrorVerb::Delete))
    }
}

/// Looks for the end of the log by doubling and halving: a store gives ranges in ascending order only.
fn last_entry(kv: &dyn Kv, first: u64) -> Result<Option<LogId>, kv::Error> {
    let mut last: Option<LogId> = None;
    kv.read(&mut |tx| {
        let entry = |from: u64| -> Result<Option<LogId>, kv::Error> {
            let pairs = tx.range(&log_key(from), LOG_END, 1)?;
            pairs.first().map(|(key, value)| Ok(decode::<Entry>(key, value)?.log_id)).transpose()
        };
        let (mut from, mut step) = (first, 1);
        // The log is dense, so each probe halves what is left once it has overshot.
        while let Some(found) = entry(from)? {
            last = Some(found);
            from = found.index.saturating_add(step);
            step = step.saturating_mul(2);
        }
        let (mut low, mut high) = (last.map_or(first, |id| id.index), from);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match entry(middle)? {
                Some(found) => {
                    last = Some(found);
                    low = found.index;
                }
                None => high = middle,
            }
        }
        Ok(())
    })?;
    Ok(last)
}
