//! One feeder for each node of the region.

use crate::{
    feeder::{self, Target},
    health::Health,
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use types::{NodeId, Placement, RegionId, Replica};

/// Keeps one feeder for each node of the region, as the placement names them, until the placement ends.
pub(crate) async fn feed(
    region: RegionId,
    dial: Arc<BTreeMap<NodeId, String>>,
    health: Arc<Health>,
    mut placement: watch::Receiver<Arc<Placement>>,
) {
    let mut feeders: BTreeMap<NodeId, (Target, AbortOnDropHandle<()>)> = BTreeMap::new();
    while placement.changed().await.is_ok() {
        let view = Arc::clone(&placement.borrow_and_update());
        let targets: BTreeMap<_, _> = targets(&view, &region, &dial).collect();
        feeders.retain(|node, (target, _)| targets.get(node) == Some(target));
        for (node, target) in targets {
            feeders.entry(node).or_insert_with(|| {
                tracing::info!(follower = %target.follower.node, address = %target.address, "feeds a follower");
                let task =
                    feeder::spawn(target.clone(), Arc::clone(&dial), Arc::clone(&health), placement.clone());
                (target, task)
            });
        }
    }
}

fn targets<'a>(
    placement: &'a Placement,
    region: &'a RegionId,
    dial: &'a BTreeMap<NodeId, String>,
) -> impl Iterator<Item = (NodeId, Target)> + 'a {
    placement.nodes().filter(move |row| row.region == *region).map(move |row| {
        let target = Target {
            region: region.clone(),
            follower: Replica { node: row.node.clone(), store: row.store },
            address: dial.get(&row.node).unwrap_or(&row.address).clone(),
        };
        (row.node.clone(), target)
    })
}
