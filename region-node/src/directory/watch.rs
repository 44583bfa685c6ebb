//! Follows the placement.

use super::client::{CALL_TIMEOUT, Directory};
use crate::{PlacementView, ready::Readiness};
use proto::directory as wire;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use types::{PlacementDelta, limits};

/// How long to wait before the watch is opened again.
const AGAIN: Duration = Duration::from_millis(200);

/// Keeps `view` up to date until `shutdown`.
pub async fn watch_placement(
    directory: Directory,
    view: Arc<PlacementView>,
    readiness: Arc<Readiness>,
    shutdown: CancellationToken,
) {
    let mut from_version = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = follow(&directory, &view, &readiness, from_version) => {
                // A view that did not fit begins again with a snapshot.
                from_version = match ended {
                    Ok(Misfit) => 0,
                    Err(status) => {
                        tracing::debug!(%status, "the watch of the placement ended");
                        view.load().version()
                    }
                };
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// A delta did not follow what is known.
struct Misfit;

async fn follow(
    directory: &Directory,
    view: &PlacementView,
    readiness: &Readiness,
    from_version: u64,
) -> Result<Misfit, Status> {
    let (mut client, at) = directory.client();
    let request = wire::WatchPlacementRequest { protocol_version: limits::PROTOCOL_VERSION, from_version };
    let opened = tokio::time::timeout(CALL_TIMEOUT, client.watch_placement(request)).await;
    let opened = opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("the watch was not opened")));
    let mut deltas = opened.inspect_err(|_| directory.turn_from(at))?.into_inner();
    loop {
        let next = tokio::time::timeout(limits::WATCH_SILENCE_MAX, deltas.message()).await;
        let next = next.unwrap_or_else(|_| Err(Status::deadline_exceeded("the watch is silent")));
        let Some(delta) = next.inspect_err(|_| directory.turn_from(at))? else { break };
        let delta = match PlacementDelta::try_from(delta) {
            Ok(delta) => delta,
            Err(error) => {
                tracing::error!(%error, "the directory sent a placement that cannot be read");
                return Ok(Misfit);
            }
        };
        if !view.apply(delta) {
            return Ok(Misfit);
        }
        readiness.update(|conditions| conditions.placement_seen = true);
    }
    Err(Status::unavailable("the directory closed the watch"))
}
