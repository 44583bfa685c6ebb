//! Deleted and expired bodies leave the disk, in the background.

use crate::clock;
use log_store::LogStore;
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Reclaims at every interval until the node goes down. A failure is told and tried again: what is due is
/// not served either way.
pub(crate) async fn run(store: Arc<dyn LogStore>, every: Duration, shutdown: CancellationToken) {
    let mut due = interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = due.tick() => {}
        }
        match store.reclaim(clock::wall_ms()).await {
            Ok(reclaimed) if reclaimed.bodies > 0 => {
                tracing::info!(
                    bodies = reclaimed.bodies,
                    bytes = reclaimed.bytes,
                    "erased bodies have left the disk"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "erased bodies could not be taken off the disk"),
        }
    }
}
