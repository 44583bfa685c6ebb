//! Glances at many chats at once.

use super::{NodeReplicas, unreadable};
use crate::{
    clock::wall_ms,
    service::{Glance, ReadRefusal, UNREAD_MAX},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use log_store::{Scan, fold::LogState};
use types::{EntryBody, LogId, LogKind, PartitionId, Record, UserId, limits};

/// Chats that are looked at at a time.
const READS_MAX: usize = 16;

impl NodeReplicas {
    pub(super) async fn glances(
        &self,
        partition: PartitionId,
        user: &UserId,
        logs: &[LogId],
        count: bool,
    ) -> Result<Vec<Glance>, ReadRefusal> {
        self.knowledge(partition).await?;
        let one = |log: LogId| async move {
            let state = self.store.log_state(partition, log).await.map_err(|error| unreadable(&error))?;
            let Some(mut glance) = state.and_then(|state| glance(log, &state, user)) else { return Ok(None) };
            if count && glance.read < glance.head.offset {
                glance.unread = self.unread(partition, &glance, user).await?;
            }
            Ok::<_, ReadRefusal>(Some(glance))
        };
        let glances = stream::iter(logs.iter().copied().map(one)).buffered(READS_MAX);
        glances.try_filter_map(|glance| async move { Ok(glance) }).try_collect().await
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

/// Whether an entry is a message of somebody else.
fn is_news(record: &Record, user: &UserId) -> bool {
    record
        .entry()
        .is_some_and(|entry| matches!(entry.body, EntryBody::Message { .. }) && entry.sender != *user)
}

/// `None` where the chat goes on elsewhere, or is none of the user's.
fn glance(log: LogId, state: &LogState, user: &UserId) -> Option<Glance> {
    let standing = state.standing();
    if standing.closed() >= standing.generation() || !state.members.contains_key(user) {
        return None;
    }
    let other = || state.members.keys().find(|member| *member != user).unwrap_or(user).clone();
    Some(Glance {
        log,
        head: state.head,
        head_at_ms: state.head_at_ms,
        read: state.marks_of(user).read.offset,
        members: state.members.len(),
        with: (log.kind() == LogKind::Direct).then(other),
        unread: 0,
    })
}
