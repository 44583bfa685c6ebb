//! Message ids in the stretches of a log before the one that is written here.
//!
//! A retry must find its original wherever that stands (P5), and the dedup rows stay in the partitions that wrote
//! them. So of an id that the imported fold does not prove to be new each of those partitions is asked: this
//! node's copy where it holds the seal of the stretch, else the home. Both hold every entry of the stretch that
//! was ever acked, and no other: the seal was `replicated` before the log went on.

use super::{Router, pins::Stretch};
use crate::{
    peer::{client::answer, wire},
    service::{Earlier, ReadRefusal, Replicas},
};
use async_trait::async_trait;
use log_store::Deduped;
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};
use types::{Code, DedupKey, Generation, LogId, Lsn, PartitionId, Refusal};

/// How long a home is waited for.
const HOME_PATIENCE: Duration = Duration::from_secs(2);
/// When a write whose fate could not be found out may try again, in ms.
const RETRY_AFTER_MS: u64 = 500;

/// What homes want of the router of their node. The router comes to it once both are made: it stands on homes, and
/// homes on this.
#[derive(Default)]
pub(crate) struct HomeRouter {
    router: OnceLock<Router>,
}

impl fmt::Debug for HomeRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HomeRouter").finish_non_exhaustive()
    }
}

impl HomeRouter {
    /// Gives it the router of this node, once.
    pub(crate) fn route_by(&self, router: Router) {
        let _ = self.router.set(router);
    }

    pub(super) fn router(&self) -> Result<&Router, Refusal> {
        self.router.get().ok_or_else(|| Refusal::new(Code::NotReady, "the node is starting"))
    }
}

#[async_trait]
impl Earlier for HomeRouter {
    async fn find(
        &self,
        log: LogId,
        before: (Generation, PartitionId),
        key: &DedupKey,
    ) -> Result<Option<Deduped>, Refusal> {
        let router = self.router()?;
        let (generation, here) = before;
        let (_, stretches) = router.stretches_above(log, super::read::before(generation)).await?;
        let asked = stretches.iter().flat_map(|stretches| stretches.iter().rev());
        for stretch in asked.filter(|stretch| stretch.generation < generation && stretch.partition != here) {
            if let Some(found) = router.find_in(log, *stretch, key).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Router {
    async fn find_in(
        &self,
        log: LogId,
        stretch: Stretch,
        key: &DedupKey,
    ) -> Result<Option<Deduped>, Refusal> {
        let Stretch { partition, generation, .. } = stretch;
        let replicas: &Arc<dyn Replicas> = &self.parts().replicas;
        let here = replicas.find(partition, log, generation, key).await;
        let answer = match here {
            Err(_) if !self.is_home_here(partition) => self.find_at_home(log, stretch, key).await,
            here => here,
        };
        match answer {
            // An LSN of another partition is none here.
            Ok(found) => Ok(found.map(|found| Deduped { lsn: Lsn::ZERO, ..found })),
            Err(ReadRefusal::Refused(refusal)) => Err(refusal),
            Err(why) => {
                let message = format!("partition {partition}, which holds an earlier part of {log}: {why}");
                Err(Refusal::new(Code::HomeUnavailable, message).retry_after_ms(RETRY_AFTER_MS))
            }
        }
    }

    async fn find_at_home(
        &self,
        log: LogId,
        stretch: Stretch,
        key: &DedupKey,
    ) -> Result<Option<Deduped>, ReadRefusal> {
        let Stretch { partition, generation, .. } = stretch;
        let route = self.bus_route(partition).ok_or_else(|| self.not_here(partition))?;
        let request = wire::find_request(log, partition, generation, key);
        let asked = self.peers().ask(&route.node, Some(route.channel), request);
        let receiver = asked.map_err(|_| self.not_here(partition))?;
        let reply = answer(receiver, HOME_PATIENCE).await.map_err(|_| self.not_here(partition))?;
        wire::found(reply)
    }
}
