//! Follows the directory's placement. It grants nothing: it tells whom to ask.

use crate::{backoff::Backoff, bounds, endpoint::endpoint};
use host::net::Connector;
use proto::{Malformed, directory};
use std::sync::Arc;
use tokio::{sync::watch, time::timeout};
use types::{Placement, PlacementDelta, limits};

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
    #[error("no word in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(Box<tonic::Status>),
    #[error("a placement that cannot be read: {0}")]
    Malformed(#[from] Malformed),
    #[error("a delta does not start at version {version}")]
    Gap { version: u64 },
    #[error("the directory ended the watch")]
    Ended,
}

impl From<tonic::Status> for WatchError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Keeps `placement` up to date for ever, trying the directory's addresses in turn.
pub(crate) async fn watch(addresses: Vec<String>, placement: watch::Sender<Arc<Placement>>) {
    let mut backoff = Backoff::new();
    let mut wants_snapshot = true;
    for address in addresses.iter().cycle() {
        let from_version = if wants_snapshot { 0 } else { placement.borrow().version() };
        let Err(error) = watch_one(address, from_version, &placement, &mut backoff).await;
        wants_snapshot = matches!(error, WatchError::Gap { .. } | WatchError::Malformed(_));
        if placement.is_closed() {
            return;
        }
        tracing::warn!(%address, %error, "placement watch broke");
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn watch_one(
    address: &str,
    from_version: u64,
    placement: &watch::Sender<Arc<Placement>>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, WatchError> {
    let opening = async {
        let channel = endpoint(address)?.connect_with_connector(Connector).await?;
        let mut client = directory::directory_client::DirectoryClient::new(channel)
            .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
        let request =
            directory::WatchPlacementRequest { protocol_version: limits::PROTOCOL_VERSION, from_version };
        Ok::<_, WatchError>(client.watch_placement(request).await?.into_inner())
    };
    let mut deltas = timeout(bounds::CONNECT_TIMEOUT, opening).await??;
    backoff.connected();
    while let Some(delta) = timeout(limits::WATCH_SILENCE_MAX, deltas.message()).await?? {
        let delta = PlacementDelta::try_from(delta)?;
        let mut next = Placement::clone(&placement.borrow());
        if !next.apply(delta) {
            return Err(WatchError::Gap { version: next.version() });
        }
        tracing::debug!(version = next.version(), "placement moved");
        placement.send_replace(Arc::new(next));
    }
    Err(WatchError::Ended)
}
