//! What a shard waits for: the store and the directory. Each job ends in one [`Done`].

use super::{
    canary::{SingError, SingReply, Sung},
    core::{EffectOutcome, Loaded, Need, Open, Proposal, ProposalOutcome, Row},
    homes::HomeDeps,
};
use crate::{
    clock::boot_ms,
    directory::is_answer,
    lease::Lease,
    replication::sealed_by,
    service::{Earlier, WriteError},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use log_store::{Append, AppendError, Durable, LogStore, PartitionEnd, ReadError, Scan, StoreError};
use proto::directory as wire;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use types::{
    Code, Effect, EffectTarget, Epoch, Generation, LogId, Lsn, MoveId, Offset, PartitionId, PartitionRow,
    Position, Record, Refusal, Replica, limits,
};
use uuid::Uuid;

/// How often a proposal without an answer is repeated, under the same request id, before its outcome is
/// called unknown.
const PROPOSE_TRIES: usize = 3;
/// Logs with effects pending that are read at once.
const EFFECT_LOGS_PAGE: usize = 1_024;
const PROPOSE_AGAIN: Duration = Duration::from_millis(200);

/// A job has ended.
pub(super) enum Done {
    Opened {
        partition: PartitionId,
        epoch: Epoch,
        lease: Arc<Lease>,
        opened: Result<Box<Open>, OpenError>,
    },
    Appended {
        partition: PartitionId,
        epoch: Epoch,
        first: Lsn,
        result: Result<Durable, AppendError>,
    },
    Loaded {
        partition: PartitionId,
        epoch: Epoch,
        log: LogId,
        as_of: Lsn,
        loaded: Box<Result<Loaded, Refusal>>,
    },
    Proposed {
        partition: PartitionId,
        epoch: Epoch,
        number: u64,
        outcome: ProposalOutcome,
    },
    Sung {
        reply: SingReply,
        result: Result<Sung, SingError>,
    },
    Carried {
        partition: PartitionId,
        epoch: Epoch,
        log: LogId,
        target: EffectTarget,
        cause: Position,
        outcome: EffectOutcome,
    },
    Followed {
        partition: PartitionId,
        epoch: Epoch,
        log: LogId,
        retry_after_ms: u64,
    },
}

/// Why a home could not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the store obeys epoch {fence}")]
    Fenced { fence: Epoch },
    #[error("the epoch begins at lsn {start}, and the store ends at lsn {end}: records are missing here")]
    Incomplete { start: Lsn, end: Lsn },
    #[error("epoch {epoch} was sealed at lsn {seal} by move {by}, and never reopens")]
    Sealed { epoch: Epoch, seal: Lsn, by: MoveId },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What a home is to be opened with.
pub(super) struct OpenWish {
    pub(super) row: Row,
    pub(super) me: Replica,
    pub(super) lease: Arc<Lease>,
}

/// A deadline of the runtime's clock, on the boot clock.
pub(super) fn on_boot_clock(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    boot_ms().saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

/// Has the store write a canary.
pub(super) fn sing(deps: &HomeDeps, sung: Sung, reply: SingReply) -> BoxFuture<'static, Done> {
    let store = Arc::clone(&deps.store);
    async move {
        let result = store.canary().await.map(|()| sung).map_err(SingError::from);
        Done::Sung { reply, result }
    }
    .boxed()
}

/// Fences the store at the epoch and reads where it ends.
pub(super) fn open(deps: &HomeDeps, row: &PartitionRow, wish: OpenWish) -> BoxFuture<'static, Done> {
    let store = Arc::clone(&deps.store);
    let (isr_lag_ms, isr_pressure_ms) = (deps.config.isr_lag_ms, deps.config.isr_pressure_ms());
    let follow_when = deps.config.follow_when();
    let members_max = deps.config.members_max;
    let (partition, epoch, start_lsn) = (row.partition, row.epoch, row.start_lsn());
    let watermark = deps.followers.watermark(partition);
    let OpenWish { row, me, lease } = wish;
    async move {
        let opened = match fenced_end(&*store, partition, epoch, start_lsn).await {
            Err(error) => Err(error),
            Ok((end, effect_logs)) => {
                // After a move that was given up the directory knows a bound only, and this log the rest.
                let begun = end.epochs.last().filter(|begin| begin.epoch == epoch);
                let begins = begun.map_or(end.last.lsn.plus(1), |begin| begin.first_lsn);
                let start_lsn = start_lsn.max(begins);
                let open = Open {
                    partition,
                    epoch,
                    me,
                    end,
                    start_lsn,
                    watermark,
                    row,
                    isr_lag_ms,
                    isr_pressure_ms,
                    follow_when,
                    effect_logs,
                    members_max,
                };
                Ok(Box::new(open))
            }
        };
        Done::Opened { partition, epoch, lease, opened }
    }
    .boxed()
}

/// Fences the store, and tells where it ends if the epoch may go on from there, and which logs have effects pending.
async fn fenced_end(
    store: &dyn LogStore,
    partition: PartitionId,
    epoch: Epoch,
    start_lsn: Lsn,
) -> Result<(PartitionEnd, Vec<LogId>), OpenError> {
    let end = store.fence(partition, epoch).await?;
    if end.fence > epoch {
        return Err(OpenError::Fenced { fence: end.fence });
    }
    if end.last.lsn < start_lsn.prev() {
        return Err(OpenError::Incomplete { start: start_lsn, end: end.last.lsn });
    }
    if end.last.epoch == epoch
        && let Some(by) = sealed_by(store, partition, end.last.lsn).await?
    {
        return Err(OpenError::Sealed { epoch, seal: end.last.lsn, by });
    }
    Ok((end, effect_logs(store, partition).await?))
}

async fn effect_logs(store: &dyn LogStore, partition: PartitionId) -> Result<Vec<LogId>, ReadError> {
    let mut logs: Vec<LogId> = Vec::new();
    loop {
        let page = store.effect_logs(partition, logs.last().copied(), EFFECT_LOGS_PAGE).await?;
        let is_last = page.len() < EFFECT_LOGS_PAGE;
        logs.extend(page);
        if is_last {
            return Ok(logs);
        }
    }
}

/// Has an effect carried out by the home of its target.
pub(super) fn carry(
    deps: &HomeDeps,
    partition: PartitionId,
    epoch: Epoch,
    effect: Effect,
) -> BoxFuture<'static, Done> {
    let carrier = Arc::clone(&deps.carrier);
    let (log, target, cause) = (effect.cause_log, effect.target, effect.cause);
    async move {
        let outcome = match carrier.carry(effect).await {
            Ok(()) => EffectOutcome::Done,
            Err(WriteError::Refused(refusal)) if !refusal.is_retryable() => {
                tracing::error!(%partition, %log, to = %target.log, stretch = %target.stretch, %cause, %refusal,
                    "an effect is refused, and stays pending");
                metrics::counter!("hearth_home_effects_refused_total").increment(1);
                EffectOutcome::Refused
            }
            Err(why) => {
                tracing::debug!(%partition, %log, stretch = %target.stretch, %cause, %why, "an effect waits");
                EffectOutcome::Again
            }
        };
        Done::Carried { partition, epoch, log, target, cause, outcome }
    }
    .boxed()
}

/// Appends a batch. The store is called now, so that batches keep their order.
pub(super) fn append(
    deps: &HomeDeps,
    partition: PartitionId,
    epoch: Epoch,
    records: Vec<Record>,
) -> BoxFuture<'static, Done> {
    let first = records.first().map_or(Lsn::ZERO, |record| record.lsn);
    metrics::histogram!("hearth_home_batch_records").record(records.len() as f64);
    let appended = deps.store.append(Append { partition, obeys: epoch, records });
    appended.map(move |result| Done::Appended { partition, epoch, first, result }).boxed()
}

/// Asks what a core needs to know of a log.
pub(super) fn load(
    deps: &HomeDeps,
    partition: PartitionId,
    epoch: Epoch,
    log: LogId,
    as_of: Lsn,
    need: Need,
) -> BoxFuture<'static, Done> {
    let (store, pins) = (Arc::clone(&deps.store), Arc::clone(&deps.pins));
    let earlier = Arc::clone(&deps.earlier);
    async move {
        let loaded = load_from_store(&*store, partition, log, &need).await.map_err(unreadable);
        let mut loaded = loaded.and_then(|loaded| match need.first && loaded.first.is_none() {
            true => Err(Refusal::new(Code::Internal, format!("the first entry of {log} is not there"))),
            false => Ok(loaded),
        });
        if let Ok(loaded) = &mut loaded
            && let Err(error) = find_earlier(&*store, &*earlier, partition, log, loaded).await
        {
            return Done::Loaded { partition, epoch, log, as_of, loaded: Box::new(Err(unreadable(error))) };
        }
        if let (Ok(loaded), true) = (&mut loaded, need.pin) {
            loaded.pin = Some(pins.get(log).await);
        }
        Done::Loaded { partition, epoch, log, as_of, loaded: Box::new(loaded) }
    }
    .boxed()
}

async fn load_from_store(
    store: &dyn LogStore,
    partition: PartitionId,
    log: LogId,
    need: &Need,
) -> Result<Loaded, ReadError> {
    let mut loaded = Loaded::default();
    if need.state {
        loaded.state = Some(store.log_state(partition, log).await?);
    }
    if need.first {
        let scan = Scan::After(Offset::ZERO);
        let page = store.read_log(partition, log, scan, 1, limits::PAGE_MAX_BYTES, 0).await?;
        loaded.first = page.into_iter().next();
    }
    for key in &need.keys {
        loaded.found.push((key.clone(), store.find(partition, log, key).await?));
    }
    Ok(loaded)
}

/// Of a log that was re-homed to here, asks the partitions before for the message ids that are not found here.
async fn find_earlier(
    store: &dyn LogStore,
    earlier: &dyn Earlier,
    partition: PartitionId,
    log: LogId,
    loaded: &mut Loaded,
) -> Result<(), ReadError> {
    if loaded.found.iter().all(|(_, found)| found.is_some()) {
        return Ok(());
    }
    let state = store.log_state(partition, log).await?;
    let imported = state.map_or(Generation::ZERO, |state| state.imported);
    if imported.is_zero() {
        return Ok(());
    }
    let mut found = Vec::new();
    for (key, here) in std::mem::take(&mut loaded.found) {
        let answer = match here {
            Some(_) => Ok(here),
            None => earlier.find(log, (imported, partition), &key).await,
        };
        match answer {
            Ok(known) => found.push((key, known)),
            Err(refusal) => loaded.failed.push((key, refusal)),
        }
    }
    loaded.found = found;
    Ok(())
}

fn unreadable(error: ReadError) -> Refusal {
    tracing::error!(%error, "the store could not tell about a log");
    Refusal::new(Code::Internal, error.to_string())
}

/// Proposes an in-sync set; while nobody answers, the same proposal again.
pub(super) fn propose(
    deps: &HomeDeps,
    partition: PartitionId,
    epoch: Epoch,
    lease: &Lease,
    request_id: Uuid,
    proposal: Proposal,
) -> BoxFuture<'static, Done> {
    let directory = deps.directory.clone();
    let home = wire::Home { node: deps.identity.node().to_string(), incarnation: lease.incarnation().get() };
    let request = wire::ProposeIsrRequest {
        request_id: Bytes::copy_from_slice(request_id.as_bytes()),
        partition: partition.get(),
        epoch: epoch.get(),
        home: Some(home),
        isr_version: proposal.base_version,
        isr: proposal.isr.iter().map(Into::into).collect(),
        lost: proposal.lost.iter().map(Into::into).collect(),
        watermark: proposal.watermark.get(),
    };
    async move {
        let mut outcome = ProposalOutcome::Unknown;
        for tries in 0..PROPOSE_TRIES {
            match directory.propose_isr(request.clone()).await {
                Ok(version) => {
                    outcome = ProposalOutcome::Accepted(version);
                    break;
                }
                Err(status) if is_answer(&status) => {
                    tracing::info!(%partition, %epoch, %status, "the in-sync set was not changed");
                    // An earlier try may still arrive, and find the rows to be others.
                    if tries == 0 {
                        outcome = ProposalOutcome::Refused;
                    }
                    break;
                }
                Err(_) => sleep(PROPOSE_AGAIN).await,
            }
        }
        Done::Proposed { partition, epoch, number: proposal.number, outcome }
    }
    .boxed()
}
