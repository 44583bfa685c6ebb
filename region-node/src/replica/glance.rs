//! Glances at many chats at once.

use super::{NodeReplicas, unreadable};
use crate::{
    clock::wall_ms,
    service::{Detail, Glance, ReadRefusal, UNREAD_MAX},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use log_store::Scan;
use types::{EntryBody, LogId, PartitionId, Record, UserId, limits};

/// Chats that are looked at at a time.
const READS_MAX: usize = 16;
/// Receipts of all chats that are told at a time.
const RECEIPTS_MAX: usize = 1_024;

impl NodeReplicas {
    pub(super) async fn glances(
        &self,
        partition: PartitionId,
        user: &UserId,
        logs: &[LogId],
        detail: Detail<'_>,
    ) -> Result<Vec<Glance>, ReadRefusal> {
        self.knowledge(partition).await?;
        let one = |log: LogId| async move {
            let state = self.store.log_state(partition, log).await.map_err(|error| unreadable(&error))?;
            let Some(mut glance) = state.and_then(|state| Glance::of(log, &state, user, detail)) else {
                return Ok(None);
            };
            if detail == Detail::Unread && glance.read < glance.head.offset {
                glance.unread = self.unread(partition, &glance, user).await?;
            }
            Ok::<_, ReadRefusal>(Some(glance))
        };
        let glances = stream::iter(logs.iter().copied().map(one)).buffered(READS_MAX);
        let mut glances: Vec<Glance> =
            glances.try_filter_map(|glance| async move { Ok(glance) }).try_collect().await?;
        bound(&mut glances);
        Ok(glances)
    }

    /// What this partition holds of it; what was written before the chat was re-homed counts as read.
    async fn unread(
        &self,
        partition: PartitionId,
        glance: &Glance,
        user: &UserId,
    ) -> Result<usize, ReadRefusal> {
        let scan = Scan::After(glance.read);
        let read =
            self.store.read_log(partition, glance.log, scan, UNREAD_MAX, limits::PAGE_MAX_BYTES, wall_ms());
        let behind = read.await.map_err(|error| unreadable(&error))?;
        Ok(behind.iter().filter(|record| is_news(record, user)).count())
    }
}

/// Leaves out receipts that are too many.
fn bound(glances: &mut [Glance]) {
    let mut left = RECEIPTS_MAX;
    for seen in glances.iter_mut().filter_map(|glance| glance.receipts.as_mut()) {
        match left.checked_sub(seen.receipts.len()) {
            Some(fewer) => left = fewer,
            None => seen.receipts.clear(),
        }
    }
}

/// Whether an entry is a message of somebody else.
fn is_news(record: &Record, user: &UserId) -> bool {
    record
        .entry()
        .is_some_and(|entry| matches!(entry.body, EntryBody::Message { .. }) && entry.sender != *user)
}
