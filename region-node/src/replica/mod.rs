//! Reads of any copy that this node holds: pages of history and what positions are.

mod glance;
#[cfg(test)]
mod tests;

use crate::{
    PlacementView,
    clock::wall_ms,
    follower::Followers,
    home::{Feed, OpenHomes, core::rules, not_home},
    ready::Identity,
    service::{
        AccountAnswer, ChatState, Detail, Glance, LocateAnswer, Page, ReadFrom, ReadRefusal, Replicas,
    },
};
use async_trait::async_trait;
use log_store::{
    Deduped, LogStore, ReadError, Scan,
    fold::LogState,
    locate::{Located, locate},
};
use std::sync::Arc;
use types::{
    Code, DedupKey, Epoch, Generation, LogId, Lsn, Offset, PartitionId, Position, Record, Refusal, UserId,
    limits,
};

/// How far back from the head the last replicated entry is looked for.
const REPLICATED_SCAN_ENTRIES: usize = 128;
/// When whoever met a store that cannot be read should ask again, in ms.
const UNREADABLE_RETRY_MS: u64 = 1_000;

/// See [`Replicas`].
#[derive(Debug)]
pub struct NodeReplicas {
    /// The store.
    pub store: Arc<dyn LogStore>,
    /// The homes that are open here.
    pub open: Arc<OpenHomes>,
    /// The partitions that are followed here.
    pub followers: Arc<Followers>,
    /// The placement, to tell where else to ask.
    pub view: Arc<PlacementView>,
    /// Who this node is.
    pub identity: Arc<Identity>,
}

/// With which knowledge a copy is asked: up to which epoch it knows the past, and its watermark.
#[derive(Debug, Clone, Copy)]
struct Knowledge {
    epoch: Epoch,
    watermark: Lsn,
}

impl NodeReplicas {
    /// The state of a log whose generation is sealed in this copy. Whoever holds the seal, which was replicated
    /// before the log went on elsewhere, holds all of the stretch before it and nothing else. A copy that is not
    /// matched may hold another seal of the same generation, with a stretch that a failover undid.
    async fn sealed_state(
        &self,
        partition: PartitionId,
        log: LogId,
        generation: Generation,
    ) -> Result<Arc<LogState>, ReadRefusal> {
        self.knowledge(partition).await?;
        let state = self.store.log_state(partition, log).await.map_err(|error| unreadable(&error))?;
        state.filter(|state| state.sealed >= generation).ok_or(ReadRefusal::Ahead)
    }

    async fn knowledge(&self, partition: PartitionId) -> Result<Knowledge, ReadRefusal> {
        if let Some(feed) = self.open.get(partition) {
            return Ok(Knowledge { epoch: feed.epoch(), watermark: feed.watermark() });
        }
        if !self.followers.is_matched(partition) {
            return Err(not_home(&self.view.load(), partition, self.identity.node()).into());
        }
        let end = self.store.end(partition).await.map_err(|error| unreadable(&error))?;
        Ok(Knowledge { epoch: end.last.epoch, watermark: self.followers.watermark(partition) })
    }
}

#[async_trait]
impl Replicas for NodeReplicas {
    fn serves(&self, partition: PartitionId) -> bool {
        self.open.get(partition).is_some() || self.followers.is_matched(partition)
    }

    async fn read(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        from: ReadFrom,
        limit: usize,
    ) -> Result<Page, ReadRefusal> {
        let knowledge = self.knowledge(partition).await?;
        let (state, until) = readable_state(&*self.store, partition, log, user).await?;
        let known = (generation_of(&state), knowledge.epoch);
        let position = match from {
            ReadFrom::After(position) | ReadFrom::Before(Some(position)) => position,
            ReadFrom::Before(None) => Position::START,
        };
        match locate(&state, known, position) {
            Located::Continue => {}
            Located::Diverged { common } => return Err(ReadRefusal::Diverged { common }),
            Located::Ahead => return Err(ReadRefusal::Ahead),
        }
        let limit = limit.clamp(1, limits::PAGE_MAX_ENTRIES);
        let Some(until) = until else {
            return page(&*self.store, partition, log, &state, scan_of(from), limit).await;
        };
        let scan = match scan_of(from) {
            Scan::Before(offset) => Scan::Before(offset.min(until.plus(1))),
            after => after,
        };
        Ok(cut(page(&*self.store, partition, log, &state, scan, limit).await?, scan, until))
    }

    async fn chat(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
    ) -> Result<ChatState, ReadRefusal> {
        self.knowledge(partition).await?;
        let (state, _) = readable_state(&*self.store, partition, log, user).await?;
        rules::role_of(log, &state, user)?;
        let (members, chat) = (Arc::clone(&state.members), state.chat.clone());
        let (generation, closed) = (generation_of(&state), state.standing().closed());
        Ok(ChatState { members, chat, created_at_ms: state.created_at_ms, generation, closed })
    }

    async fn read_stretch(
        &self,
        partition: PartitionId,
        log: LogId,
        generation: Generation,
        from: ReadFrom,
        limit: usize,
    ) -> Result<Page, ReadRefusal> {
        let state = self.sealed_state(partition, log, generation).await?;
        let limit = limit.clamp(1, limits::PAGE_MAX_ENTRIES);
        page(&*self.store, partition, log, &state, scan_of(from), limit).await
    }

    async fn find(
        &self,
        partition: PartitionId,
        log: LogId,
        generation: Generation,
        key: &DedupKey,
    ) -> Result<Option<Deduped>, ReadRefusal> {
        self.sealed_state(partition, log, generation).await?;
        self.store.find(partition, log, key).await.map_err(|error| unreadable(&error))
    }

    async fn account(&self, partition: PartitionId, log: LogId) -> Result<AccountAnswer, ReadRefusal> {
        self.knowledge(partition).await?;
        account(&*self.store, partition, log).await
    }

    async fn glance(
        &self,
        partition: PartitionId,
        user: &UserId,
        logs: &[LogId],
        detail: Detail<'_>,
    ) -> Result<Vec<Glance>, ReadRefusal> {
        self.glances(partition, user, logs, detail).await
    }

    async fn locate(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        position: Position,
    ) -> Result<LocateAnswer, ReadRefusal> {
        let knowledge = self.knowledge(partition).await?;
        answer(&*self.store, partition, knowledge, log, user, position).await
    }
}

/// What an account log adds up to in this store.
pub(crate) async fn account(
    store: &dyn LogStore,
    partition: PartitionId,
    log: LogId,
) -> Result<AccountAnswer, ReadRefusal> {
    let state = store.log_state(partition, log).await.map_err(|error| unreadable(&error))?;
    let Some(state) = state else { return Ok(AccountAnswer { account: None, closed: Generation::ZERO }) };
    Ok(AccountAnswer { account: state.account.clone(), closed: state.standing().closed() })
}

/// Locates a position with the knowledge of an open home; `Ahead` as an error, since only the home's lease
/// tells whether it was made up.
pub(crate) async fn locate_at_home(
    store: &dyn LogStore,
    partition: PartitionId,
    feed: &Feed,
    log: LogId,
    user: &UserId,
    position: Position,
) -> Result<LocateAnswer, ReadRefusal> {
    let knowledge = Knowledge { epoch: feed.epoch(), watermark: feed.watermark() };
    let answer = answer(store, partition, knowledge, log, user, position).await?;
    if answer.located == Located::Ahead { Err(ReadRefusal::Ahead) } else { Ok(answer) }
}

async fn answer(
    store: &dyn LogStore,
    partition: PartitionId,
    knowledge: Knowledge,
    log: LogId,
    user: &UserId,
    position: Position,
) -> Result<LocateAnswer, ReadRefusal> {
    let (state, until) = readable_state(store, partition, log, user).await?;
    let generation = generation_of(&state);
    let located = locate(&state, (generation, knowledge.epoch), position);
    let replicated = replicated(store, partition, log, &state, knowledge.watermark).await?;
    let (epoch, closed) = (knowledge.epoch, state.standing().closed());
    let end = until.and_then(|until| state.position_at(until)).unwrap_or(state.head);
    let replicated = if replicated.offset > end.offset { end } else { replicated };
    Ok(LocateAnswer { located, head: end, replicated, generation, epoch, closed, until })
}

/// The state of a log that a user may read, and up to where.
async fn readable_state(
    store: &dyn LogStore,
    partition: PartitionId,
    log: LogId,
    user: &UserId,
) -> Result<(Arc<LogState>, Option<Offset>), ReadRefusal> {
    let state = store.log_state(partition, log).await.map_err(|error| unreadable(&error))?;
    let state = state.ok_or_else(|| rules::unknown_chat(log))?;
    let until = rules::reads_until(log, &state, user)?;
    Ok((state, until))
}

/// A page without what comes behind an offset, for whom the log ends there.
fn cut(mut page: Page, scan: Scan, until: Offset) -> Page {
    let offset = |record: &Record| record.entry().map_or(Offset::ZERO, |entry| entry.offset);
    let read = page.records.len();
    page.records.retain(|record| offset(record) <= until);
    if let Scan::After(_) = scan {
        let reaches_end = page.records.last().is_none_or(|last| offset(last) >= until);
        page.at_end |= reaches_end || page.records.len() < read;
    }
    page.until = Some(until);
    page
}

fn generation_of(state: &LogState) -> Generation {
    state.standing().generation().max(Generation::FIRST)
}

const fn scan_of(from: ReadFrom) -> Scan {
    match from {
        ReadFrom::After(position) => Scan::After(position.offset),
        ReadFrom::Before(Some(position)) => Scan::Before(position.offset),
        ReadFrom::Before(None) => Scan::Before(Offset::new(u64::MAX)),
    }
}

/// The last entry at or below the watermark; the start where it is too far back to be looked for.
async fn replicated(
    store: &dyn LogStore,
    partition: PartitionId,
    log: LogId,
    state: &LogState,
    watermark: Lsn,
) -> Result<Position, ReadRefusal> {
    if state.last.lsn <= watermark {
        return Ok(state.head);
    }
    let scan = Scan::Before(Offset::new(u64::MAX));
    let newest = page(store, partition, log, state, scan, REPLICATED_SCAN_ENTRIES).await?;
    let at_or_below = newest.records.iter().rev().find(|record| record.lsn <= watermark);
    // What other partitions hold was replicated before it was handed over.
    let first =
        newest.records.first().and_then(Record::position).map_or(state.head.offset.plus(1), |at| at.offset);
    let handed_over = state.position_at(first.prev()).filter(|before| state.is_elsewhere(before.offset));
    Ok(at_or_below.and_then(Record::position).or(handed_over).unwrap_or(Position::START))
}

/// A page of a log whose state was judged before: a copy that has lost some of it since gives none, for what follows
/// there now does not follow what was judged.
async fn page(
    store: &dyn LogStore,
    partition: PartitionId,
    log: LogId,
    state: &LogState,
    scan: Scan,
    limit: usize,
) -> Result<Page, ReadRefusal> {
    let read = store.read_log(partition, log, scan, limit, limits::PAGE_MAX_BYTES, wall_ms());
    let mut records = read.await.map_err(|error| unreadable(&error))?;
    let last = records.last().and_then(Record::entry).map(|entry| entry.offset);
    let now = store.log_state(partition, log).await.map_err(|error| unreadable(&error))?;
    let holds = |now: &Arc<LogState>| now.position_at(state.head.offset) == Some(state.head);
    if !records.is_empty() && !state.head.offset.is_zero() && !now.as_ref().is_some_and(holds) {
        let message = format!("what this copy held of {log} was cut off while it was read");
        return Err(Refusal::new(Code::NotReady, message).retry_after_ms(UNREADABLE_RETRY_MS).into());
    }
    let at_end = match (scan, last) {
        (_, None) => true,
        (Scan::Before(_), Some(last)) => last == Offset::FIRST,
        (Scan::After(_), Some(last)) => now.is_none_or(|now| last >= now.head.offset),
    };
    if matches!(scan, Scan::Before(_)) {
        records.reverse();
    }
    let standing = state.standing();
    let (generation, closed) = (standing.generation(), standing.closed());
    Ok(Page { records, at_end, generation, closed, until: None })
}

/// What the durable records of a log add up to.
pub(crate) async fn log_state(
    store: &dyn LogStore,
    partition: PartitionId,
    log: LogId,
) -> Result<Option<Arc<LogState>>, ReadRefusal> {
    store.log_state(partition, log).await.map_err(|error| unreadable(&error))
}

fn unreadable(error: &(impl Into<ReadError> + Clone + std::fmt::Display)) -> ReadRefusal {
    tracing::error!(%error, "the store cannot be read");
    // Another copy may be sound, and this node's store may be about to close.
    Refusal::new(Code::NotReady, error.to_string()).retry_after_ms(UNREADABLE_RETRY_MS).into()
}
