//! A whole directory, as its nodes see it: real gRPC, real rows on disk, fake nodes.

mod harness;

use global_directory::bounds;
use harness::{FakeNode, REGIONS, Running, SILENCE_MS, TTL_MS, config, request_id};
use proto::directory as wire;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tonic::Code;
use types::{
    Epoch, Lsn, NodeId, PartitionPosition, PartitionRow, PartitionState, Placement, RegionId, RegionStatus,
    Retirement,
};

async fn three_nodes(directory: &Running) -> Vec<FakeNode> {
    let mut nodes = Vec::new();
    for region in REGIONS {
        nodes.push(FakeNode::start(directory, region).await);
    }
    nodes
}

fn all_homed(view: &Placement) -> bool {
    view.partitions().all(|row| row.state == PartitionState::Homed && row.replicas.len() == 3)
}

fn homed_at<'a>(view: &'a Placement, node: &FakeNode) -> Vec<&'a PartitionRow> {
    let is_home = |row: &&PartitionRow| row.home.as_ref().is_some_and(|home| home.node.as_str() == node.name);
    view.partitions().filter(is_home).collect()
}

/// Every home takes both others into its in-sync set.
async fn all_in_sync(directory: &Running, nodes: &[FakeNode]) -> Placement {
    let view = directory.placement_where("every partition homed and copied", all_homed).await;
    for home in nodes {
        for row in homed_at(&view, home) {
            home.propose(directory, row, &nodes.iter().collect::<Vec<_>>()).await.expect("accepted");
        }
    }
    directory.placement().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_region_fails_over_to_the_most_advanced() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), true)).await;
    let nodes = three_nodes(&directory).await;
    let view = all_in_sync(&directory, &nodes).await;
    let [ap, eu, us] = &nodes[..] else { unreachable!("three nodes") };
    assert_eq!(homed_at(&view, us).len(), 4);
    let (mut expected, mut partitions) = (Vec::new(), Vec::new());
    for (index, row) in homed_at(&view, us).into_iter().enumerate() {
        let (ahead, behind) = if index % 2 == 0 { (ap, eu) } else { (eu, ap) };
        ahead.holds(row.partition, PartitionPosition::new(Epoch::new(1), Lsn::new(7)));
        behind.holds(row.partition, PartitionPosition::new(Epoch::new(1), Lsn::new(6)));
        expected.push((row.partition, ahead.name.clone()));
        partitions.push(row.partition);
    }
    // A directory that has just started listens first; this one is to be judged by its ordinary times.
    tokio::time::sleep(Duration::from_millis(bounds::LISTEN_MS)).await;
    us.kill();
    let killed = Instant::now();
    let view = directory
        .placement_where("new homes", |view| {
            partitions.iter().all(|it| view.partition(*it).is_some_and(|row| row.epoch == Epoch::new(2)))
        })
        .await;
    let homed_after = killed.elapsed();
    for (partition, ahead) in &expected {
        let row = view.partition(*partition).expect("there");
        assert_eq!(row.state, PartitionState::Homed);
        assert_eq!(row.home.as_ref().expect("homed").node.as_str(), ahead);
        assert_eq!(row.history.last().expect("a step").start_lsn, Lsn::new(8));
        assert_eq!(row.isr.len(), 2, "the dead node has left: two regions remain");
        assert!(row.lost.is_empty());
        assert_eq!(row.waiting.len(), 1, "nobody acks yet");
    }
    let region = RegionId::new("us-east").expect("a valid name");
    assert_eq!(view.region(&region).expect("there").status, RegionStatus::Down);
    let refused = us.renew(&directory).await.expect_err("its boot is over");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    directory
        .placement_where("the wait is over", |view| view.partitions().all(|row| row.waiting.is_empty()))
        .await;
    let open_after = killed.elapsed();
    println!("new homes after {homed_after:?}, open after {open_after:?}");
    assert!(homed_after >= Duration::from_millis(SILENCE_MS - harness::RENEW_MS));
    assert!(open_after >= Duration::from_millis(TTL_MS * 6 / 5 - harness::RENEW_MS));
    assert!(open_after < Duration::from_millis(TTL_MS * 6 / 5 + 1_000), "{open_after:?}");

    // The region comes back: it is a follower, and takes nothing back by itself.
    let us = FakeNode::start_on(&directory, "us-east", us.fences.clone()).await;
    let view = directory.placement().await;
    assert_eq!(view.region(&region).expect("there").status, RegionStatus::Active);
    assert!(homed_at(&view, &us).is_empty());
    assert_eq!(us.incarnation, 3, "the bump took one");
    directory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reboot_moves_homes_by_the_same_rule_and_is_waited_out() {
    let folder = tempfile::tempdir().expect("a folder");
    // Even with automatic failover off: the node itself has said that its boot is over.
    let directory = Running::start(config(folder.path(), false)).await;
    let nodes = three_nodes(&directory).await;
    let view = all_in_sync(&directory, &nodes).await;
    let us = &nodes[2];
    for row in homed_at(&view, us) {
        us.holds(row.partition, PartitionPosition::new(Epoch::new(1), Lsn::new(9)));
    }
    us.kill();
    let us = FakeNode::start_on(&directory, "us-east", us.fences.clone()).await;
    assert_eq!(us.incarnation, 2);
    let view = directory
        .placement_where("homed again", |view| {
            view.partitions().all(|row| row.state == PartitionState::Homed)
        })
        .await;
    let homes = homed_at(&view, &us);
    assert_eq!(homes.len(), 4, "it holds the most");
    for row in homes {
        assert_eq!((row.epoch, row.start_lsn()), (Epoch::new(2), Lsn::new(10)));
        assert_eq!(row.waiting.len(), 1);
        assert_eq!(row.waiting[0].incarnation.get(), 1);
        assert_eq!(row.isr.len(), 3);
    }
    directory
        .placement_where("the wait is over", |view| view.partitions().all(|row| row.waiting.is_empty()))
        .await;
    directory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_judged_while_automatic_failover_is_off_or_two_regions_are_silent() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), false)).await;
    let nodes = three_nodes(&directory).await;
    let before = all_in_sync(&directory, &nodes).await;
    assert!(directory.status().await.automatic_failover_note.starts_with("automatic failover is off"));
    nodes[2].kill();
    tokio::time::sleep(Duration::from_millis(2 * SILENCE_MS)).await;
    assert_eq!(directory.placement().await, before);
    directory.stop().await;

    let directory = Running::start(config(folder.path(), true)).await;
    // Only one of the three has found the restarted directory so far.
    let eu = FakeNode::start_on(&directory, "eu-west", nodes[1].fences.clone()).await;
    let until = Instant::now() + Duration::from_secs(10);
    let note = loop {
        let note = directory.status().await.automatic_failover_note;
        if !note.is_empty() {
            break note;
        }
        assert!(Instant::now() < until, "the brake never showed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(
        note.starts_with("nodes of 2 regions are silent or failing at once: ap-south, us-east;"),
        "{note}"
    );
    let view = directory.placement().await;
    for silent in [&nodes[0], &nodes[2]] {
        assert!(view.node(&NodeId::new(&silent.name).expect("a valid name")).expect("there").live);
    }
    let events = directory.status().await.events;
    assert!(events.iter().any(|event| event.what.starts_with("page: automatic failover has stopped")));
    drop(eu);
    directory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_renews_is_failed_over_once_observers_in_two_regions_fail_at_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), true)).await;
    let nodes = three_nodes(&directory).await;
    all_in_sync(&directory, &nodes).await;
    let [ap, eu, us] = &nodes[..] else { unreachable!("three nodes") };
    ap.tells_of(&[(eu, 0), (us, 60_000)]);
    eu.tells_of(&[(ap, 0), (us, 0)]);
    us.tells_of(&[(ap, 60_000), (eu, 60_000)]);
    let heard = |status: &wire::StatusReply| {
        let judges = status.observers.iter().map(|told| (told.node.as_str(), told.judges));
        judges.eq([("ap-south-1", true), ("eu-west-1", true), ("us-east-1", false)])
    };
    let until = Instant::now() + Duration::from_secs(20);
    while !heard(&directory.status().await) {
        assert!(Instant::now() < until, "{:?}", directory.status().await.observers);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(bounds::LISTEN_MS + 2 * SILENCE_MS)).await;
    let failing = directory.status().await.failing;
    assert_eq!(failing, [], "one region is not enough, and one that fails everywhere is none");
    assert_eq!(homed_at(&directory.placement().await, us).len(), 4);

    eu.tells_of(&[(ap, 0), (us, 60_000)]);
    let view = directory.placement_where("no homes", |view| homed_at(view, us).is_empty()).await;
    let row = view.node(&NodeId::new(&us.name).expect("a valid name")).expect("there");
    assert!(!row.live, "its incarnation is bumped");
    directory
        .placement_where("new homes", |view| {
            view.partitions().all(|row| row.state == PartitionState::Homed && row.waiting.is_empty())
        })
        .await;
    directory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_fails_over_one_of_two_silent_regions_and_no_region_that_is_heard() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), true)).await;
    let nodes = three_nodes(&directory).await;
    all_in_sync(&directory, &nodes).await;
    let fail_over = |region: &str, request_id: Vec<u8>| {
        let (mut client, region) = (directory.client.clone(), region.to_owned());
        let (request_id, by) = (request_id.into(), "olga".to_owned());
        let request = wire::FailOverRequest { request_id, region, even_if_heard: false, by };
        async move { client.fail_over(request).await }
    };
    let refused = fail_over("us-east", request_id()).await.expect_err("it is heard");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("--even-if-heard"), "{refused}");
    assert_eq!(fail_over("mars", request_id()).await.expect_err("unknown").code(), Code::NotFound);
    nodes[1].kill();
    nodes[2].kill();
    let silent = |status: &wire::StatusReply| status.automatic_failover_note.contains("fail-over REGION");
    let until = Instant::now() + Duration::from_secs(20);
    while !silent(&directory.status().await) {
        assert!(Instant::now() < until, "the brake never showed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = request_id();
    let homes = fail_over("us-east", id.clone()).await.expect("taken").into_inner().homes;
    assert_eq!(homes, 4);
    assert_eq!(fail_over("us-east", id).await.expect("answered again").into_inner().homes, 4);
    directory
        .placement_where("the other follows by itself", |view| homed_at(view, &nodes[0]).len() == 12)
        .await;
    let events = directory.status().await.events;
    assert!(events.iter().any(|event| event.who == "olga" && event.what.contains("us-east is failed over")));
    directory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_everything_and_a_retry_answers_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), true)).await;
    let nodes = three_nodes(&directory).await;
    let view = all_in_sync(&directory, &nodes).await;
    let id = request_id();
    let first = nodes[0].register(&directory, id.clone()).await.expect("registered");
    assert_eq!(first.incarnation, 2);
    let row = homed_at(&view, &nodes[1])[0];
    let isr = wire::ProposeIsrRequest {
        request_id: request_id().into(),
        partition: row.partition.get(),
        epoch: row.epoch.get(),
        home: Some(wire::Home { node: nodes[1].name.clone(), incarnation: 1 }),
        isr_version: row.isr_version,
        isr: vec![nodes[1].replica(), nodes[2].replica()],
        lost: vec![],
        watermark: 3,
    };
    let shrunk = directory.client.clone().propose_isr(isr.clone()).await.expect("accepted").into_inner();
    directory.stop().await;

    let directory = Running::start(config(folder.path(), true)).await;
    let kept = directory.placement().await;
    assert!(kept.version() > view.version());
    let again = nodes[0].register(&directory, id).await.expect("answered again");
    assert_eq!(again.incarnation, first.incarnation);
    let again = directory.client.clone().propose_isr(isr.clone()).await.expect("answered again").into_inner();
    assert_eq!(again, shrunk);
    let stale = wire::ProposeIsrRequest { request_id: request_id().into(), ..isr };
    let stale = directory.client.clone().propose_isr(stale).await.expect_err("the row has moved on");
    assert_eq!(stale.code(), Code::Aborted, "{stale}");
    directory.stop().await;

    let mut other = config(folder.path(), true);
    other.partitions_per_region = 5;
    let (listener, other) = harness::processes(other).await.remove(0);
    harness::until_released(&other.data_dir).await;
    let deps = global_directory::Deps::default();
    let error = global_directory::run_on(listener, other, deps).await.expect_err("fixed at birth");
    assert!(error.to_string().contains("is 5") && error.to_string().contains("born with 4"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_pins_of_two_regions_give_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), true)).await;
    let nodes = three_nodes(&directory).await;
    all_in_sync(&directory, &nodes).await;
    for key in 0..20u8 {
        let pin = |region: &'static str| {
            let mut client = directory.client.clone();
            let log = types::LogId::group([key; 16]).to_bytes().to_vec();
            async move {
                let wish = wire::PinWish { log: log.into(), region: region.into(), allowed_regions: vec![] };
                let request = wire::PinRequest { request_id: request_id().into(), wishes: vec![wish] };
                client.pin(request).await.expect("pinned").into_inner().pins
            }
        };
        let (a, b) = tokio::join!(pin("us-east"), pin("ap-south"));
        assert_eq!(a, b);
        assert_eq!(a[0].segments.len(), 1);
        assert_eq!((a[0].segments[0].generation, a[0].segments[0].first_offset), (1, 1));
    }
    assert_eq!(directory.status().await.pins, 20);
    directory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_follows_every_change_and_hears_that_the_stream_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), true)).await;
    let request = wire::WatchPlacementRequest { protocol_version: 1, from_version: 0 };
    let mut stream = directory.client.clone().watch_placement(request).await.expect("watched").into_inner();
    let mut view = Placement::default();
    let nodes = three_nodes(&directory).await;
    all_in_sync(&directory, &nodes).await;
    let wanted = directory.placement().await;
    let mut beats = 0;
    while view != wanted || beats < 2 {
        let delta = stream.message().await.expect("streamed").expect("more");
        let delta = types::PlacementDelta::try_from(delta).expect("well formed");
        beats += u32::from(delta.from_version == delta.to_version);
        assert!(view.apply(delta), "no gap");
    }
    directory.stop().await;
    assert!(stream.message().await.is_err() || stream.message().await.expect("ended").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_has_a_home_is_not_fenced_for_an_unsafe_promotion() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), true)).await;
    let nodes = three_nodes(&directory).await;
    let view = all_in_sync(&directory, &nodes).await;
    let row = view.partitions().next().expect("there are some");
    for node in &nodes {
        let request = wire::PromoteUnsafeRequest {
            request_id: request_id().into(),
            partition: row.partition.get(),
            node: node.replica().node,
            by: String::new(),
        };
        let status = directory.client.clone().promote_unsafe(request).await.expect_err("refused");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(!node.fences.raised.lock().contains_key(&row.partition.get()), "it obeys its home");
    }
    directory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), true)).await;
    let mut client = directory.client.clone();
    let good = wire::RegisterRequest {
        protocol_version: 1,
        request_id: request_id().into(),
        node: "us-east-1".into(),
        region: "us-east".into(),
        address: "127.0.0.1:7401".into(),
        store: vec![1; 16].into(),
    };
    let cases = [
        (wire::RegisterRequest { region: "mars".into(), ..good.clone() }, Code::NotFound, "mars"),
        (wire::RegisterRequest { node: "US".into(), ..good.clone() }, Code::InvalidArgument, "register.node"),
        (wire::RegisterRequest { address: "x".into(), ..good.clone() }, Code::InvalidArgument, "host:port"),
        (wire::RegisterRequest { store: vec![1].into(), ..good.clone() }, Code::InvalidArgument, "16 bytes"),
        (wire::RegisterRequest { protocol_version: 9, ..good.clone() }, Code::InvalidArgument, "version 9"),
        (
            wire::RegisterRequest { request_id: vec![].into(), ..good.clone() },
            Code::InvalidArgument,
            "request_id",
        ),
    ];
    for (request, code, named) in cases {
        let status = client.register(request).await.expect_err("refused");
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(named), "{status}");
    }
    let renew = wire::RenewRequest { node: "us-east-1".into(), incarnation: 1, observed: vec![] };
    assert_eq!(client.renew(renew).await.expect_err("refused").code(), Code::FailedPrecondition);
    let observed = wire::Observed { node: "eu-west-1".into(), incarnation: 1, failing_ms: 0 };
    for (observed, named) in [
        (vec![observed.clone(), observed.clone()], "eu-west-1 twice"),
        (vec![observed; bounds::NODES_MAX + 1], "renew.observed"),
        (vec![wire::Observed { node: "EU".into(), incarnation: 1, failing_ms: 0 }], "renew.observed.node"),
    ] {
        let renew = wire::RenewRequest { node: "us-east-1".into(), incarnation: 1, observed };
        let status = client.renew(renew).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(named), "{status}");
    }
    let wish = |region: &str, allowed: Vec<String>| wire::PinRequest {
        request_id: request_id().into(),
        wishes: vec![wire::PinWish {
            log: types::LogId::group([1; 16]).to_bytes().to_vec().into(),
            region: region.into(),
            allowed_regions: allowed,
        }],
    };
    let status = client.pin(wish("mars", vec![])).await.expect_err("refused");
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let status = client.pin(wish("us-east", vec!["eu-west".into()])).await.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let drain = |by: String| wire::DrainRequest {
        request_id: request_id().into(),
        region: "us-east".into(),
        dry_run: false,
        by,
    };
    for by in ["o".repeat(65), "two\nlines".into(), "o".repeat(3 * 1024 * 1024)] {
        let status = client.drain(drain(by)).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains("drain.by"), "{status}");
    }
    assert_eq!(directory.status().await.pins, 0);
    client.pin(wish("us-east", vec![])).await.expect("a region without a node still has partitions");
    directory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_not_retired_before_its_archives_are_settled() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Running::start(config(folder.path(), true)).await;
    let nodes = three_nodes(&directory).await;
    all_in_sync(&directory, &nodes).await;
    // It is there for too short a time to be given anything.
    let leaving = FakeNode::start_as(&directory, REGIONS[0], 2, Arc::default()).await;
    *leaving.fences.unsettled.lock() = Some(3);
    let mut members = directory.members.clone();
    let (node, by) = (leaving.name.clone(), "ann".to_owned());
    let request = wire::RetireNodeRequest { request_id: request_id().into(), node, keep: false, by };
    members.retire_node(request).await.expect("it retires");
    let name = NodeId::new(&leaving.name).expect("a name");
    let is = |view: &Placement, state| view.node(&name).is_some_and(|row| row.retirement == state);
    let asked = || leaving.fences.asked.load(Ordering::Relaxed);
    for times in 1..=2 {
        directory
            .placement_where("it was asked, and stays", |view| {
                assert!(is(view, Retirement::Retiring), "it has archives that are not settled");
                asked() >= times
            })
            .await;
    }
    *leaving.fences.unsettled.lock() = Some(0);
    directory.placement_where("it may go", |view| is(view, Retirement::Retired)).await;
    directory.stop().await;
}
