//! Tells the directory when this node's copy ends with SEAL, so that a planned move can be finished.

use crate::follower::Followers;
use log_store::{LogStore, ReadError, StoreError};
use proto::node as wire;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use types::{Epoch, Lsn, MoveId, PartitionId, PartitionPosition};

/// How long a caller may have this node wait.
const WAIT_MAX_MS: u32 = 30_000;

/// Waits until the partition's last durable record here is the SEAL of this epoch and move, and answers where it
/// stands; nothing when the time is over, or an epoch behind it has begun.
pub(crate) async fn await_seal(
    store: &dyn LogStore,
    followers: &Followers,
    request: wire::AwaitSealRequest,
) -> Result<wire::AwaitSealReply, Status> {
    let (partition, epoch) = (PartitionId::new(request.partition), Epoch::new(request.epoch));
    let wait_ms = request.wait_ms.min(WAIT_MAX_MS);
    let deadline = Instant::now() + Duration::from_millis(u64::from(wait_ms));
    let mut seals = followers.seals();
    let unreadable = |error: &dyn std::error::Error| Status::unavailable(error.to_string());
    let sealed = loop {
        seals.mark_unchanged();
        let last = store.end(partition).await.map_err(|error: StoreError| unreadable(&error))?.last;
        let is_seal = last.epoch == epoch
            && sealed_by(store, partition, last.lsn).await.map_err(|error| unreadable(&error))?
                == Some(MoveId::new(request.move_id));
        if is_seal {
            break Some(last);
        }
        if last.epoch > epoch || !matches!(timeout_at(deadline, seals.changed()).await, Ok(Ok(()))) {
            break None;
        }
    };
    Ok(wire::AwaitSealReply {
        seal: sealed.map(|seal: PartitionPosition| seal.into()),
        store: bytes::Bytes::copy_from_slice(store.id().as_bytes()),
    })
}

/// Whose SEAL the record at an LSN is, if it is one.
pub(crate) async fn sealed_by(
    store: &dyn LogStore,
    partition: PartitionId,
    lsn: Lsn,
) -> Result<Option<MoveId>, ReadError> {
    let records = store.read_partition(partition, lsn, 1, 1).await?;
    Ok(records.first().filter(|record| record.lsn == lsn).and_then(|record| record.sealed_by()))
}
