//! Raises fences on the directory's behalf.

use crate::{follower::Followers, home::NodeHomes};
use futures_util::{StreamExt as _, stream};
use log_store::LogStore;
use proto::node as wire;
use types::{Epoch, PartitionId};

/// Partitions that are fenced at a time; the store groups their syncs.
const AT_A_TIME: usize = 64;

/// Fences each partition, ends the homes here that are of a lower epoch, and answers where each ends.
pub(crate) async fn fence(
    store: &dyn LogStore,
    homes: &NodeHomes,
    followers: &Followers,
    request: wire::FenceRequest,
) -> wire::FenceReply {
    let fenced = stream::iter(request.partitions).map(|one| fence_one(store, homes, followers, one));
    wire::FenceReply { partitions: fenced.buffered(AT_A_TIME).collect().await }
}

async fn fence_one(
    store: &dyn LogStore,
    homes: &NodeHomes,
    followers: &Followers,
    one: wire::FenceOne,
) -> wire::Fenced {
    let (partition, epoch) = (PartitionId::new(one.partition), Epoch::new(one.epoch));
    let raised = store.fence(partition, epoch).await;
    homes.fenced(partition, epoch).await;
    followers.forget(partition);
    let mut fenced = wire::Fenced {
        partition: one.partition,
        store: bytes::Bytes::copy_from_slice(store.id().as_bytes()),
        ..wire::Fenced::default()
    };
    match raised {
        Ok(end) => {
            tracing::info!(%partition, %epoch, fence = %end.fence, last = %end.last, "fenced");
            fenced.fence = end.fence.get();
            fenced.last = Some(end.last.into());
        }
        Err(error) => {
            tracing::error!(%partition, %epoch, %error, "the fence could not be raised");
            fenced.error = error.to_string();
        }
    }
    fenced
}
