//! Follows the placement.

use super::client::{CALL_TIMEOUT, Directory};
use crate::{PlacementView, ready::Readiness};
use proto::directory as wire;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use types::{PlacementDelta, limits};

/// How long to wait before the watch is opened again.
const AGAIN: Duration = Duration::from_millis(200);

/// Keeps `view` up to date until `shutdown`. Every replica of the directory is heard: the one that leads knows first,
/// and the nearest learns of a commit a round trip or two later. While writes wait for a new home, that counts.
pub async fn watch_placement(
    directory: Directory,
    view: Arc<PlacementView>,
    readiness: Arc<Readiness>,
    shutdown: CancellationToken,
) {
    let follow_one = |replica| {
        let (directory, view, readiness) = (directory.clone(), Arc::clone(&view), Arc::clone(&readiness));
        follow_again(directory, replica, view, readiness)
    };
    let mut following: JoinSet<()> = (0..directory.replicas()).map(follow_one).collect();
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = following.join_next() => {}
    }
}

/// Follows one replica, again and again.
async fn follow_again(
    directory: Directory,
    replica: usize,
    view: Arc<PlacementView>,
    readiness: Arc<Readiness>,
) {
    let mut from_version = 0;
    loop {
        // A view that did not fit begins again with a snapshot.
        from_version = match follow(&directory, replica, &view, &readiness, from_version).await {
            Ok(Misfit) => 0,
            Err(status) => {
                tracing::debug!(%status, replica, "the watch of the placement ended");
                view.load().version()
            }
        };
        tokio::time::sleep(AGAIN).await;
    }
}

/// A delta did not follow what is known.
struct Misfit;

async fn follow(
    directory: &Directory,
    replica: usize,
    view: &PlacementView,
    readiness: &Readiness,
    from_version: u64,
) -> Result<Misfit, Status> {
    let mut client = directory.client_of(replica);
    let request = wire::WatchPlacementRequest { protocol_version: limits::PROTOCOL_VERSION, from_version };
    let opened = tokio::time::timeout(CALL_TIMEOUT, client.watch_placement(request)).await;
    let opened = opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("the watch was not opened")));
    let mut deltas = opened?.into_inner();
    loop {
        let next = tokio::time::timeout(limits::WATCH_SILENCE_MAX, deltas.message()).await;
        let next = next.unwrap_or_else(|_| Err(Status::deadline_exceeded("the watch is silent")));
        let Some(delta) = next? else { break };
        let delta = match PlacementDelta::try_from(delta) {
            Ok(delta) => delta,
            Err(error) => {
                tracing::error!(%error, "the directory sent a placement that cannot be read");
                return Ok(Misfit);
            }
        };
        if !view.merge(delta) {
            return Ok(Misfit);
        }
        readiness.update(|conditions| conditions.placement_seen = true);
    }
    Err(Status::unavailable("the directory closed the watch"))
}
