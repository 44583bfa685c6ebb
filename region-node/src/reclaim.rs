//! Deleted and expired bodies leave the disk, and archives that are done with go, in the background.

use crate::{Config, PlacementView, clock, follower::Followers, home::OpenHomes, salvage::Archives};
use log_store::{Replicated, StoreError};
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use types::Lsn;

/// How often the gauges of what is to be salvaged are brought up to date.
const METER_EVERY: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Reclaimer {
    pub(crate) config: Arc<Config>,
    pub(crate) archives: Archives,
    pub(crate) open: Arc<OpenHomes>,
    pub(crate) followers: Arc<Followers>,
    pub(crate) view: Arc<PlacementView>,
}

impl Reclaimer {
    /// Reclaims at every interval until the node goes down. A failure is told and tried again: what is due is
    /// not served either way.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut due = interval(Duration::from_millis(self.config.reclaim_interval_ms));
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut meter = interval(METER_EVERY);
        meter.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = due.tick() => self.reclaim().await,
                _ = meter.tick() => self.archives.meter().await,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "erased bodies could not be taken off the disk");
            }
        }
    }

    /// Up to where this node knows its partitions to be replicated. Where there is one region nothing ever is, and
    /// what is acked there stays.
    async fn replicated(&self) -> Result<Replicated, StoreError> {
        if self.view.load().regions().count() == 1 {
            return Ok(Replicated::everything());
        }
        let mut replicated = Replicated::nothing();
        for partition in self.archives.store.partitions().await? {
            let at_home = self.open.get(partition).map_or(Lsn::ZERO, |feed| feed.watermark());
            let watermark = at_home.max(self.followers.watermark(partition));
            replicated.known.insert(partition, watermark);
        }
        Ok(replicated)
    }

    async fn reclaim(&self) -> Result<(), StoreError> {
        let now_ms = clock::wall_ms();
        self.archives.discard_old(now_ms, self.config.archive_keep_ms).await?;
        let replicated = self.replicated().await?;
        self.archives.store.note_replicated(replicated);
        let reclaimed = self.archives.store.reclaim(now_ms).await?;
        if reclaimed.bodies > 0 {
            let (bodies, bytes) = (reclaimed.bodies, reclaimed.bytes);
            tracing::info!(bodies, bytes, "erased bodies have left the disk");
        }
        Ok(())
    }
}
