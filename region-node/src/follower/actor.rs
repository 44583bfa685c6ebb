//! One request of one followed partition: it does what the core decides.

use super::{
    Replies, Shared,
    core::{Action, Core, Outcome, Request},
};
use log_store::{Append, AppendError, StoreError, TailError};
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::OwnedSemaphorePermit;
use types::{Code, Epoch, Lsn, PartitionId, PartitionPosition, Refusal, limits};

/// Something a replicator brings, and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    /// Whom it is for.
    pub partition: PartitionId,
    /// The epoch of the home on whose behalf it comes.
    pub epoch: Epoch,
    /// What; or why it makes no sense, which is then the answer.
    pub request: Result<Request, Refusal>,
    /// Takes the answer.
    pub reply: Replies,
    /// The room that it takes up; see [`super::Followers::room_for`].
    pub room: Option<OwnedSemaphorePermit>,
}

impl Ask {
    /// The bytes of its records.
    pub fn bytes(&self) -> usize {
        self.request.as_ref().map_or(0, Request::bytes)
    }
}

/// The answer of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Which.
    pub partition: PartitionId,
    /// Its fence.
    pub fence: Epoch,
    /// The last record that it holds durably.
    pub last: PartitionPosition,
    /// What became of the request.
    pub outcome: Result<Outcome, Refusal>,
}

/// A request that was put into the one before it.
pub(super) struct Joined {
    reply: Replies,
    /// The records lie in the other one's append for as long.
    _room: Option<OwnedSemaphorePermit>,
}

pub(super) struct Actor {
    pub(super) partition: PartitionId,
    pub(super) core: Arc<Mutex<Core>>,
    pub(super) shared: Arc<Shared>,
}

impl Actor {
    /// Serves a request, and answers it and those that were joined to it.
    pub(super) async fn serve(self, mut first: Ask, joined: Vec<Joined>) {
        let outcome = match &mut first.request {
            Ok(request) => self.carry_out(first.epoch, request).await,
            Err(refusal) => Err(refusal.clone()),
        };
        let outcome = self.know_the_end().await.and(outcome);
        let (fence, last) = self.core.lock().standing();
        let reply = Reply { partition: self.partition, fence, last, outcome };
        for joined in joined {
            joined.reply.put(reply.clone());
        }
        first.reply.put(reply);
    }

    async fn carry_out(&self, epoch: Epoch, request: &mut Request) -> Result<Outcome, Refusal> {
        loop {
            let action = self.core.lock().decide(epoch, request);
            let done = match action {
                Action::Answer(outcome) => return Ok(outcome),
                Action::ReadEnd => {
                    self.shared.store.end(self.partition).await.map(|end| self.core.lock().learn(end))
                }
                Action::Raise(epoch) => self.raise(epoch).await,
                Action::Append { obeys, records, encoded } => {
                    let has_seal = records.iter().any(|record| record.sealed_by().is_some());
                    let append = Append { partition: self.partition, obeys, records };
                    match self.shared.store.append_encoded(append, encoded).await {
                        Ok(last) => self.core.lock().appended(last),
                        Err(error) => return self.refused(&error),
                    }
                    if has_seal {
                        self.shared.seals.send_modify(|seals| *seals += 1);
                    }
                    Ok(())
                }
                Action::CutOff { obeys, from } => match self.cut_off(obeys, from).await {
                    Ok(()) => Ok(()),
                    Err(TailError::Fenced { .. }) => {
                        self.core.lock().forget();
                        Ok(())
                    }
                    Err(error) => return Err(internal(&error)),
                },
            };
            if let Err(error) = done {
                self.core.lock().forget();
                return Err(internal(&error));
            }
        }
    }

    /// Every answer tells where the partition ends.
    async fn know_the_end(&self) -> Result<(), Refusal> {
        if !self.core.lock().knows_the_end() {
            let end = self.shared.store.end(self.partition).await.map_err(|error| internal(&error))?;
            self.core.lock().learn(end);
        }
        Ok(())
    }

    async fn raise(&self, epoch: Epoch) -> Result<(), StoreError> {
        let end = self.shared.store.fence(self.partition, epoch).await?;
        if let Some(homes) = self.shared.homes.get() {
            homes.fenced(self.partition, epoch).await;
        }
        self.core.lock().learn(end);
        Ok(())
    }

    /// What the store refused is answered by what it holds, read anew.
    fn refused(&self, error: &AppendError) -> Result<Outcome, Refusal> {
        self.core.lock().forget();
        match error {
            AppendError::Fenced { .. } => Ok(Outcome::Fenced),
            AppendError::Gap { .. } => Ok(Outcome::Gap),
            AppendError::Busy { .. } => {
                Err(Refusal::new(Code::Overloaded, error.to_string()).retry_after_ms(100))
            }
            error => Err(internal(error)),
        }
    }

    async fn cut_off(&self, obeys: Epoch, from: Lsn) -> Result<(), TailError> {
        let archive = self.shared.store.archive_tail(self.partition, obeys, from).await?;
        if let Some(archive) = archive {
            tracing::warn!(
                partition = %self.partition, epoch = %obeys, archive = %archive.id, first = %archive.first,
                last = %archive.last, records = archive.records, "a divergent tail was archived"
            );
        }
        let end = self.shared.store.truncate(self.partition, obeys, from).await?;
        self.core.lock().learn(end);
        Ok(())
    }
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(%error, "a follower's store refused");
    Refusal::new(Code::Internal, error.to_string())
}

/// Puts batches that wait directly behind `first` into it, as long as one append holds them. Answers who
/// else is to be told.
pub(super) fn join(first: &mut Ask, waiting: &mut VecDeque<Ask>) -> Vec<Joined> {
    let mut joined = Vec::new();
    let Ok(Request::Batch(batch)) = &mut first.request else { return joined };
    let Some(mut last) = batch.records.last().map(|record| record.lsn) else { return joined };
    let mut bytes = batch.bytes();
    while let Some(Ask { epoch, request: Ok(Request::Batch(next)), .. }) = waiting.front() {
        let follows = next.records.first().is_some_and(|record| record.lsn == last.plus(1));
        let more = next.bytes();
        let fits = batch.records.len() + next.records.len() <= limits::BATCH_MAX_RECORDS
            && bytes + more <= limits::BATCH_MAX_BYTES;
        if *epoch != first.epoch || !follows || !fits || batch.end.is_none() || next.end.is_none() {
            break;
        }
        let Some(Ask { request: Ok(Request::Batch(next)), reply, room, .. }) = waiting.pop_front() else {
            break;
        };
        last = next.records.last().map_or(last, |record| record.lsn);
        bytes += more;
        batch.records.extend(next.records);
        batch.encoded.extend(next.encoded);
        batch.watermark = batch.watermark.max(next.watermark);
        batch.end = next.end;
        joined.push(Joined { reply, _room: room });
    }
    joined
}
