//! Tells the directory of a log that is mostly written from another region.

use super::{core::Follow, homes::HomeDeps, jobs::Done};
use crate::lease::Lease;
use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use proto::directory as wire;
use types::{Epoch, PartitionId, RegionId};

/// When it is told again where nobody has answered, in ms.
const UNANSWERED_AGAIN_MS: u64 = 10_000;
/// What the directory may ask to wait, in ms.
const AGAIN_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;

/// Tells it once. What comes of it the home sees when the log is sealed.
pub(super) fn tell(
    deps: &HomeDeps,
    partition: PartitionId,
    epoch: Epoch,
    lease: &Lease,
    wish: Follow,
) -> BoxFuture<'static, Done> {
    let directory = deps.directory.clone();
    let Follow { log, generation, region, allowed_regions } = wish;
    let request = wire::FollowRequest {
        request_id: Bytes::copy_from_slice(host::random::id().as_bytes()),
        log: Bytes::copy_from_slice(&log.to_bytes()),
        generation: generation.get(),
        home: Some(wire::Home {
            node: deps.identity.node().to_string(),
            incarnation: lease.incarnation().get(),
        }),
        region: region.to_string(),
        allowed_regions: allowed_regions.iter().map(RegionId::to_string).collect(),
    };
    async move {
        let (outcome, retry_after_ms) = match directory.follow(request).await {
            Ok(reply) => {
                tracing::info!(
                    %log, %partition, %epoch, %region, begun = reply.begun, why = reply.why,
                    "the log is written from another region"
                );
                let outcome = if reply.begun { "begun" } else { "not_now" };
                (outcome, reply.retry_after_ms.clamp(*AGAIN_MS.start(), *AGAIN_MS.end()))
            }
            Err(status) => {
                tracing::debug!(%log, %status, "nobody was told where a log is written from");
                ("unanswered", UNANSWERED_AGAIN_MS)
            }
        };
        metrics::counter!("hearth_home_follows_total", "outcome" => outcome).increment(1);
        Done::Followed { partition, epoch, log, retry_after_ms }
    }
    .boxed()
}
