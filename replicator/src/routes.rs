//! What the placement asks of one follower: which partitions to fetch, and from where.

use crate::pump::Route;
use std::collections::BTreeMap;
use types::{PartitionId, Placement, Replica};

/// The partitions that `follower` should hold, each with its home. None is fetched from the follower
/// itself, and none that has not had a home.
pub(crate) fn of(placement: &Placement, follower: &Replica) -> BTreeMap<PartitionId, Option<Route>> {
    placement
        .partitions()
        .filter(|row| row.replicas.contains(follower))
        .map(|row| {
            let home = row.home.as_ref().filter(|home| home.node != follower.node);
            (row.partition, home.map(|home| Route { home: home.node.clone(), epoch: row.epoch }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{
        Epoch, Home, Incarnation, NodeId, PartitionRow, PartitionState, PlacementDelta, RegionId, StoreId,
    };

    fn replica(name: &str, store: u8) -> Replica {
        Replica { node: NodeId::new(name).expect("a valid name"), store: StoreId::from_bytes([store; 16]) }
    }

    fn row(partition: u32, replicas: Vec<Replica>, home: Option<&str>) -> PartitionRow {
        PartitionRow {
            partition: PartitionId::new(partition),
            preferred: RegionId::new("a").expect("a valid name"),
            allowed: vec![],
            replicas,
            home: home.map(|node| Home { node: replica(node, 0).node, incarnation: Incarnation::new(1) }),
            waiting: vec![],
            epoch: Epoch::new(3),
            state: PartitionState::Homed,
            isr: vec![],
            lost: vec![],
            isr_version: 0,
            history: vec![],
            away: Vec::new(),
            moving: None,
            stays: false,
        }
    }

    #[test]
    fn a_follower_is_fed_what_lists_its_store_and_has_another_home() {
        let me = replica("b-1", 2);
        let mut placement = Placement::default();
        let delta = PlacementDelta {
            to_version: 1,
            partitions: vec![
                row(0, vec![replica("a-1", 1), me.clone()], Some("a-1")),
                row(1, vec![replica("a-1", 1), me.clone()], Some("b-1")),
                row(2, vec![replica("a-1", 1), replica("b-1", 9)], Some("a-1")),
                row(3, vec![me.clone()], None),
            ],
            ..PlacementDelta::default()
        };
        assert!(placement.apply(delta));
        let routes = of(&placement, &me);
        let home = Route { home: replica("a-1", 1).node, epoch: Epoch::new(3) };
        let expected = [(0, Some(home)), (1, None), (3, None)]
            .map(|(partition, route)| (PartitionId::new(partition), route));
        assert_eq!(routes, BTreeMap::from(expected));
    }
}
