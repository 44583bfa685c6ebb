//! Watches the placement, and notes each new home and each planned move.

use super::{Seen, moves::Moves};
use crate::history::{Kind, Recorder};
use host::net::Connector;
use proto::directory::{WatchPlacementRequest, directory_client::DirectoryClient};
use std::{collections::BTreeSet, time::Duration};
use tonic::transport::Endpoint;
use types::{Epoch, PartitionId, Placement, PlacementDelta, limits};

/// A watch that says nothing for so long is opened anew.
const PATIENCE: Duration = Duration::from_secs(2);

/// What has been noted.
#[derive(Default)]
struct Known {
    /// Another replica may be behind the one that was asked before.
    version: u64,
    epochs: BTreeSet<(PartitionId, Epoch)>,
    moves: Moves,
}

/// Watches for ever, asking the directory's addresses in turn.
pub(super) async fn watch(directories: Vec<String>, seen: Seen, recorder: Recorder) {
    let mut known = Known::default();
    for address in directories.iter().cycle() {
        if let Err(error) = watch_one(address, &seen, &recorder, &mut known).await {
            tracing::debug!(%error, "the observer's watch broke");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn watch_one(address: &str, seen: &Seen, recorder: &Recorder, known: &mut Known) -> anyhow::Result<()> {
    let endpoint = Endpoint::from_shared(address.to_owned())?
        .connect_timeout(PATIENCE)
        .http2_keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE)
        .keep_alive_while_idle(true);
    let channel = tokio::time::timeout(PATIENCE, endpoint.connect_with_connector(Connector)).await??;
    let mut client = DirectoryClient::new(channel).max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
    let request = WatchPlacementRequest { protocol_version: limits::PROTOCOL_VERSION, from_version: 0 };
    let mut deltas = tokio::time::timeout(PATIENCE, client.watch_placement(request)).await??.into_inner();
    let mut placement = Placement::default();
    while let Some(delta) = deltas.message().await? {
        let delta = PlacementDelta::try_from(delta)?;
        anyhow::ensure!(placement.apply(delta), "a delta does not fit");
        if placement.version() < known.version {
            continue;
        }
        known.version = placement.version();
        note(&placement, recorder, known);
        known.moves.note(&placement, seen, recorder);
    }
    Ok(())
}

fn note(placement: &Placement, recorder: &Recorder, known: &mut Known) {
    for row in placement.partitions() {
        for start in &row.history {
            if !known.epochs.insert((row.partition, start.epoch)) {
                continue;
            }
            let Some(node) = placement.node(&start.home.node) else { continue };
            recorder.record(Kind::Placed {
                partition: row.partition,
                epoch: start.epoch,
                node: recorder.node(&start.home.node, &node.region),
                incarnation: start.home.incarnation,
                start_lsn: start.start_lsn,
            });
        }
    }
}
