//! Who becomes home of what, as the directory tells.

use crate::history::{Kind, Recorder};
use lab::Lab;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use types::{Epoch, NodeId, PartitionId, PlacementDelta, RegionId};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks at the placement again and again, and records each epoch that begins, until `stop`.
pub async fn watch_placement(lab: Arc<Lab>, recorder: Recorder, stop: CancellationToken) {
    let mut told: HashMap<PartitionId, Epoch> = HashMap::new();
    let mut version = 0;
    let watching = async {
        loop {
            // A directory that does not answer is asked again.
            if let Ok(placement) = super::snapshot(&lab).await
                && placement.to_version != version
            {
                version = placement.to_version;
                record(&placement, &mut told, &recorder);
            }
            sleep(LOOK_EVERY).await;
        }
    };
    // It never ends by itself.
    let _: Option<()> = stop.run_until_cancelled(watching).await;
}

fn record(placement: &PlacementDelta, told: &mut HashMap<PartitionId, Epoch>, recorder: &Recorder) {
    let regions: BTreeMap<&NodeId, &RegionId> =
        placement.nodes.iter().map(|node| (&node.node, &node.region)).collect();
    for row in &placement.partitions {
        let last = told.entry(row.partition).or_default();
        for start in row.history.iter().filter(|start| start.epoch > *last).collect::<Vec<_>>() {
            let Some(region) = regions.get(&start.home.node) else { continue };
            *last = start.epoch;
            recorder.record(Kind::Placed {
                partition: row.partition,
                epoch: start.epoch,
                node: recorder.node(&start.home.node, region),
                incarnation: start.home.incarnation,
                start_lsn: start.start_lsn,
            });
        }
    }
}
