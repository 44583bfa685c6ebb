//! Message ids that are looked up in an earlier stretch of a log, where it lies.

use super::*;

pub(crate) fn find_request(
    log: LogId,
    partition: PartitionId,
    generation: Generation,
    key: &DedupKey,
) -> Request {
    Request::Find(node::Find {
        log: log_bytes(log),
        partition: partition.get(),
        generation: generation.get(),
        sender: key.sender.to_string(),
        device: key.device.get(),
        message_id: Bytes::copy_from_slice(key.message_id.as_bytes()),
    })
}

pub(crate) fn find(wire: &node::Find) -> Result<(LogId, PartitionId, Generation, DedupKey), Malformed> {
    let key = DedupKey {
        sender: named("find.sender", UserId::new(&wire.sender))?,
        device: DeviceId::new(wire.device),
        message_id: proto::message_id("find.message_id", &wire.message_id)?,
    };
    let log = proto::log_id("find.log", &wire.log)?;
    Ok((log, PartitionId::new(wire.partition), Generation::new(wire.generation), key))
}

pub(crate) fn found_reply(result: &Result<Option<Deduped>, ReadRefusal>) -> Reply {
    match result {
        Ok(found) => Reply::Found(found.map_or_else(node::Found::default, |found| node::Found {
            position: Some(found.position.into()),
            hash: Bytes::copy_from_slice(&found.hash.0),
            accepted_at_ms: found.accepted_at_ms,
        })),
        Err(error) => read_refused(error),
    }
}

/// What stands under a message id in another partition: it has no LSN here.
pub(crate) fn found(reply: Reply) -> Result<Option<Deduped>, ReadRefusal> {
    let Reply::Found(wire) = reply else { return Err(read_refusal(reply)) };
    let Some(position) = wire.position else { return Ok(None) };
    let hash = wire.hash.as_ref().try_into().map_err(|_| unreadable("the hash needs 16 bytes"))?;
    let (hash, accepted_at_ms) = (BodyHash(hash), wire.accepted_at_ms);
    Ok(Some(Deduped { position: position.into(), lsn: Lsn::ZERO, hash, accepted_at_ms }))
}
