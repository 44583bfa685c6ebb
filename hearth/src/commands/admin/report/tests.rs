//! Reports of a deployment of which half is dead.

use super::*;
use proto::{
    directory::{AuditEvent, Failing, NodeLiveness, Observed, Observer, StatusReply},
    node,
};
use types::{Epoch, Home, Incarnation, NodeRow, PlacementDelta, RegionRow, Replica, Retirement, StoreId};

fn replica(name: &str) -> Replica {
    Replica { node: NodeId::new(name).expect("a name"), store: StoreId::from_bytes([1; 16]) }
}

fn row(partition: u32, home: &str, state: PartitionState, epoch: u64) -> PartitionRow {
    PartitionRow {
        partition: PartitionId::new(partition),
        preferred: RegionId::new("us-east").expect("a name"),
        allowed: Vec::new(),
        replicas: vec![replica("a-1"), replica("b-1")],
        home: Some(Home { node: NodeId::new(home).expect("a name"), incarnation: Incarnation::new(1) }),
        waiting: Vec::new(),
        epoch: Epoch::new(epoch),
        state,
        isr: vec![replica("a-1"), replica("b-1")],
        lost: Vec::new(),
        isr_version: 1,
        history: Vec::new(),
        away: Vec::new(),
        moving: None,
        stays: false,
    }
}

fn node_row(name: &str, region: &str) -> NodeRow {
    NodeRow {
        node: NodeId::new(name).expect("a name"),
        region: RegionId::new(region).expect("a name"),
        address: "127.0.0.1:1".to_owned(),
        incarnation: Incarnation::new(1),
        store: StoreId::from_bytes([1; 16]),
        live: true,
        retirement: Retirement::Serving,
        keys: Vec::new(),
    }
}

fn said(partition: u32, epoch: u64, home: bool) -> PartitionStatus {
    let follower = node::FollowerStatus {
        replica: Some(proto::directory::Replica { node: "b-1".to_owned(), store: Vec::new().into() }),
        in_sync: true,
        matched: true,
        matched_lsn: 10,
        lag_records: 3,
        lag_ms: 40,
    };
    PartitionStatus {
        partition,
        epoch,
        home,
        last: None,
        watermark: 10,
        at_risk_messages: 7,
        followers: vec![follower],
        isr_lag_ms: 5_100,
        pressure: node::Pressure::Slow.into(),
    }
}

/// Two regions; `b-1` is dead, and partition 1 is homed there.
pub(in crate::commands::admin) fn seen() -> Seen {
    let placement = PlacementDelta {
        from_version: 0,
        to_version: 9,
        regions: [("us-east", RegionStatus::Active), ("eu-west", RegionStatus::Down)]
            .map(|(name, status)| RegionRow {
                region: RegionId::new(name).expect("a name"),
                status,
                retirement: Retirement::Serving,
                failback_off: false,
                alone_until_ms: 0,
            })
            .to_vec(),
        nodes: vec![node_row("a-1", "us-east"), node_row("b-1", "eu-west")],
        partitions: vec![
            row(0, "a-1", PartitionState::Homed, 2),
            row(1, "b-1", PartitionState::FailingOver, 1),
        ],
    };
    let directory = StatusReply {
        placement_version: 9,
        lease_ttl_ms: 4_000,
        automatic_failover: false,
        automatic_failover_note: "one voter".to_owned(),
        pins: 5,
        nodes: vec![NodeLiveness { node: "a-1".to_owned(), renewed_ago_ms: 300 }],
        events: vec![AuditEvent { at_ms: 2_005, what: "it was born".to_owned(), who: String::new() }],
        observers: vec![Observer {
            node: "a-1".to_owned(),
            reported_ago_ms: 300,
            judges: true,
            observed: vec![Observed { node: "b-1".to_owned(), incarnation: 1, failing_ms: 2_100 }],
        }],
        failing: vec![Failing {
            node: "b-1".to_owned(),
            failing_ms: 2_000,
            seen_from: vec!["us-east".to_owned(), "ap-south".to_owned()],
        }],
    };
    let alive = node::StatusReply {
        node: "a-1".to_owned(),
        region: "us-east".to_owned(),
        incarnation: 1,
        ready: true,
        lease_left_ms: 3_500,
        sessions: 4,
        partitions: vec![said(0, 2, true), said(1, 1, false)],
        unsettled_archives: 1,
        unsettled_records: 30,
    };
    let nodes = [
        (NodeId::new("a-1").expect("a name"), Ok(alive)),
        (NodeId::new("b-1").expect("a name"), Err("it is dead".to_owned())),
    ];
    Seen { directory_address: "http://127.0.0.1:7401".to_owned(), placement, directory, nodes: nodes.into() }
}

#[test]
fn only_homes_are_believed_about_lag_and_risk() {
    let report = report(&seen(), true);
    assert_eq!(report.at_risk_messages, 7);
    assert_eq!(report.partitions_unheard, 1);
    let lagging = report.replication.iter().find(|to| to.region.as_str() == "eu-west").expect("a region");
    assert_eq!((lagging.follows, lagging.lag_records_max, lagging.lag_ms_max), (1, 3, 40));
    assert_eq!((report.partitions.epoch_min, report.partitions.epoch_max), (1, 2));
    assert_eq!((report.partitions.homed, report.partitions.failing_over), (1, 1));
    assert_eq!(report.nodes[1].unreachable.as_deref(), Some("it is dead"));
    let list = report.partition_list.expect("it was asked for");
    assert_eq!((list[0].watermark, list[1].watermark), (Some(10), None));
}

#[test]
fn a_former_home_is_not_believed() {
    let mut seen = seen();
    let Some(Ok(reply)) = seen.nodes.get_mut(&NodeId::new("a-1").expect("a name")) else {
        panic!("it answers")
    };
    reply.partitions[0].epoch = 1;
    assert_eq!(report(&seen, false).partitions_unheard, 2);
}
