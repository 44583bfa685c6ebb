//! What archives elsewhere hold for the logs that are homed here: put back, marked, by the home like any write.

use crate::{
    home::NodeHomes,
    reply::Reply,
    service::{Acked, Beside, Homes as _, Salvaged, Target, Write, WriteError},
};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all, ready},
};
use proto::{Malformed, node as wire};
use std::{collections::HashSet, time::Duration};
use tokio::time::Instant;
use types::{
    AckPolicy, Body, BodyHash, Code, DedupKey, DeviceId, Entry, Epoch, Generation, LogId, PartitionId,
    Refusal, UserId, limits,
};

/// The longest that offers are waited for.
const DEADLINE_MAX_MS: u32 = 15_000;

/// Offers each entry to its home here, in order, and answers what became of each. What comes behind an entry
/// of the same log that the home could not take now is not offered, so that their order stays.
pub(crate) async fn salvage(
    homes: &NodeHomes,
    request: wire::SalvageRequest,
) -> Result<wire::SalvageReply, Malformed> {
    let partition = PartitionId::new(request.partition);
    let wait = Duration::from_millis(u64::from(request.deadline_ms.min(DEADLINE_MAX_MS)));
    let deadline = Instant::now() + wait;
    let mut held_up = HashSet::new();
    let mut outcomes: Vec<BoxFuture<'_, wire::SalvageOutcome>> = Vec::with_capacity(request.offers.len());
    for offer in request.offers.into_iter().take(limits::BATCH_MAX_RECORDS) {
        let write = write(partition, offer, deadline)?;
        let log = write.log;
        if held_up.contains(&log) {
            outcomes.push(ready(outcome(again(log))).boxed());
            continue;
        }
        let (reply, answer) = Reply::channel();
        match homes.append(write, reply) {
            Ok(()) => outcomes.push(answer.map(outcome).boxed()),
            Err(error) => {
                if !is_final(&error) {
                    held_up.insert(log);
                }
                outcomes.push(ready(outcome(Err(error))).boxed());
            }
        }
    }
    Ok(wire::SalvageReply { outcomes: join_all(outcomes).await })
}

type Answer = Result<Acked, WriteError>;

fn outcome(answer: Answer) -> wire::SalvageOutcome {
    use wire::salvage_outcome::Outcome;
    let outcome = match answer {
        Ok(_) => Outcome::Salvaged(wire::Salvaged {}),
        Err(WriteError::Refused(refusal)) => Outcome::Refused(wire::Refused {
            code: refusal.code.as_str().to_owned(),
            retryable: refusal.is_retryable(),
            message: refusal.message,
            retry_after_ms: refusal.retry_after_ms,
        }),
        Err(WriteError::NotHome(not_home)) => Outcome::NotHome(wire::NotHome {
            partition: not_home.partition.get(),
            epoch: not_home.epoch.get(),
            home: not_home.home.map(|node| node.to_string()).unwrap_or_default(),
            moving: not_home.moving,
            closed_generation: not_home.closed.get(),
        }),
        Err(WriteError::Moved { .. } | WriteError::Indeterminate { .. }) => {
            Outcome::Unknown(wire::Unknown {})
        }
    };
    wire::SalvageOutcome { outcome: Some(outcome) }
}

fn is_final(error: &WriteError) -> bool {
    matches!(error, WriteError::Refused(refusal) if !refusal.is_retryable())
}

fn again(log: LogId) -> Answer {
    Err(Refusal::new(Code::Overloaded, format!("an entry of {log} ahead of this one could not be taken"))
        .into())
}

fn write(partition: PartitionId, offer: wire::SalvageOffer, deadline: Instant) -> Result<Write, Malformed> {
    let record = proto::decode_record(offer.record)?;
    let era = (record.generation, record.epoch);
    let Body::Entry(Entry { sender, device, message_id, expires_at_ms, about, body, .. }) = record.body
    else {
        let value = format!("an update at lsn {}", record.lsn);
        return Err(Malformed::Value { field: "offer.record", value, why: "only entries are put back" });
    };
    let targets = offer.targets.into_iter().map(target).collect::<Result<_, _>>()?;
    Ok(Write {
        log: record.log,
        partition,
        generation: Generation::new(offer.generation),
        epoch_hint: Epoch::ZERO,
        sender,
        device,
        message_id,
        after: None,
        body,
        expires_at_ms,
        ack: AckPolicy::Replicated,
        deadline,
        origin: None,
        salvage: Some(Salvaged { targets, era }),
        beside: Beside { about, ..Beside::default() },
    })
}

fn target(said: wire::SalvageTarget) -> Result<Target, Malformed> {
    let sender =
        UserId::new(&said.sender).map_err(|source| Malformed::Id { field: "target.sender", source })?;
    let message_id = proto::message_id("target.message_id", &said.message_id)?;
    let hash = said.hash.as_ref().try_into().map_err(|_| {
        let value = format!("{} bytes", said.hash.len());
        Malformed::Value { field: "target.hash", value, why: "it needs 16 bytes" }
    })?;
    let key = DedupKey { sender, device: DeviceId::new(said.device), message_id };
    Ok(Target { key, hash: BodyHash(hash) })
}
