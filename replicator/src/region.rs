//! One feeder and one salvager for each node of the region.

use crate::{
    feeder::{self, Target},
    health::Health,
    salvage::{self, Reach},
};
use std::{collections::BTreeMap, sync::Arc};
use tokio_util::task::AbortOnDropHandle;
use types::{NodeId, NodeRow, Placement, RegionId, Replica, Retirement};

/// Keeps one feeder and one salvager for each node of the region, as the placement names them, until the placement ends.
pub(crate) async fn feed(region: RegionId, health: Arc<Health>, reach: Reach) {
    let (dial, mut placement) = (Arc::clone(&reach.dial), reach.placement.clone());
    let mut feeders: BTreeMap<NodeId, (Target, [AbortOnDropHandle<()>; 2])> = BTreeMap::new();
    while placement.changed().await.is_ok() {
        let view = Arc::clone(&placement.borrow_and_update());
        let targets: BTreeMap<_, _> = targets(&view, &region, &dial).collect();
        feeders.retain(|node, (target, _)| targets.get(node) == Some(target));
        for (node, target) in targets {
            feeders.entry(node).or_insert_with(|| {
                tracing::info!(follower = %target.follower.node, address = %target.address, "feeds a follower");
                let feeder =
                    feeder::spawn(target.clone(), Arc::clone(&dial), Arc::clone(&health), placement.clone());
                let salvager = salvage::spawn(target.clone(), reach.clone());
                (target, [feeder, salvager])
            });
        }
    }
}

fn targets<'a>(
    placement: &'a Placement,
    region: &'a RegionId,
    dial: &'a BTreeMap<NodeId, String>,
) -> impl Iterator<Item = (NodeId, Target)> + 'a {
    let is_fed = move |row: &&NodeRow| row.region == *region && row.retirement != Retirement::Retired;
    placement.nodes().filter(is_fed).map(move |row| {
        let target = Target {
            region: region.clone(),
            follower: Replica { node: row.node.clone(), store: row.store },
            address: dial.get(&row.node).unwrap_or(&row.address).clone(),
        };
        (row.node.clone(), target)
    })
}
