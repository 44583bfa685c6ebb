//! Nodes over real connections: register, become home, append, replicate, lose the lease, be fenced, diverge.

mod accounts;
mod directory;
mod streams;
mod world;

use directory::{Directory, PARTITION, TTL_MS};
use log_store::LogStore as _;
use proto::{
    log::AckPolicy,
    node::{self as wire, peer_reply},
};
use std::time::Duration;
use world::{Peer, Pump, TestNode, until};

/// Two nodes, the first of them home, the second following.
pub(crate) struct Pair {
    directory: Directory,
    home: TestNode,
    follower: TestNode,
    pump: Pump,
}

impl Pair {
    async fn start() -> Self {
        let (directory, address) = Directory::start().await;
        let home = TestNode::start('a', address).await;
        let follower = TestNode::start('b', address).await;
        until("both are registered", || async {
            directory.replica(&home.name).is_some() && directory.replica(&follower.name).is_some()
        })
        .await;
        directory.give(&home.name, 1, &[&home.name], &[&home.name, &follower.name]);
        until("the home is open", || async { home.partition().await.is_some_and(|status| status.home) })
            .await;
        let pump = Pump::start(&home, &follower, &directory);
        until("the follower is in sync", || async { directory.isr().len() == 2 }).await;
        Self { directory, home, follower, pump }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_home_accepts_reaches_its_follower_and_is_called_replicated() {
    let pair = Pair::start().await;
    let mut peer = Peer::connect(&pair.home).await;
    peer.create(1).await;
    assert_eq!(peer.acked().await.ack, i32::from(AckPolicy::Replicated), "creation is control");
    for id in 2..=200 {
        peer.send(id, AckPolicy::Home).await;
        let acked = peer.acked().await;
        assert_eq!(acked.position.expect("a position").offset, id);
    }
    peer.send(201, AckPolicy::Replicated).await;
    assert_eq!(peer.acked().await.ack, i32::from(AckPolicy::Replicated));
    assert_eq!(pair.follower.end().await, pair.home.end().await);
    let status = pair.home.partition().await.expect("it is home");
    assert_eq!((status.watermark, status.at_risk_messages), (201, 0));
    assert!(status.followers[0].in_sync && status.followers[0].matched);
    until("the follower knows the watermark", || async {
        pair.follower.partition().await.is_some_and(|status| status.watermark == 201)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_lapses_holds_acks_and_one_that_is_refused_ends_the_home() {
    let pair = Pair::start().await;
    let mut peer = Peer::connect(&pair.home).await;
    peer.create(1).await;
    peer.acked().await;
    pair.directory.mute(true);
    until("the lease has lapsed", || async { pair.home.status().await.lease_left_ms == 0 }).await;
    peer.send(2, AckPolicy::Home).await;
    let (_, answer) = peer.answer().await;
    assert!(matches!(answer, peer_reply::Reply::NotHome(wire::NotHome { moving: true, .. })), "{answer:?}");
    pair.directory.mute(false);
    until("the lease runs again", || async { pair.home.status().await.lease_left_ms > 0 }).await;
    peer.send(3, AckPolicy::Home).await;
    assert_eq!(peer.acked().await.position.expect("a position").offset, 2);
    let before = pair.home.status().await.incarnation;
    pair.directory.bump(&pair.home.name);
    until("the home has ended", || async { pair.home.partition().await.is_some_and(|status| !status.home) })
        .await;
    until("the node has registered again", || async { pair.home.status().await.incarnation > before + 1 })
        .await;
    peer.send(4, AckPolicy::Home).await;
    assert!(matches!(peer.answer().await.1, peer_reply::Reply::NotHome(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_write_is_not_acked_as_home_once_the_lease_is_gone() {
    let pair = Pair::start().await;
    let mut peer = Peer::connect(&pair.home).await;
    peer.create(1).await;
    peer.acked().await;
    drop(pair.pump);
    pair.home.store.hold_syncs();
    peer.send(2, AckPolicy::Home).await;
    until("the write is at the store", || async { pair.home.store.pending() > 0 }).await;
    pair.directory.mute(true);
    tokio::time::sleep(Duration::from_millis(u64::from(TTL_MS) + 300)).await;
    pair.home.store.resume_syncs();
    until("it is durable", || async { pair.home.end().await.lsn.get() == 2 }).await;
    pair.directory.bump(&pair.home.name);
    pair.directory.mute(false);
    let (_, answer) = peer.answer().await;
    let peer_reply::Reply::Refused(refused) = answer else { panic!("acked after the lease: {answer:?}") };
    assert_eq!(refused.code, "indeterminate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_home_goes_on_and_the_old_one_gives_up_what_only_it_had() {
    let pair = Pair::start().await;
    let Pair { directory, home, follower, pump } = pair;
    let mut peer = Peer::connect(&home).await;
    peer.create(1).await;
    peer.acked().await;
    drop(pump);
    for id in 2..=4 {
        peer.send(id, AckPolicy::Home).await;
        peer.acked().await;
    }
    assert_eq!(home.end().await.lsn.get(), 4);
    let one = wire::FenceOne { partition: PARTITION.get(), epoch: 2 };
    let fenced = follower.client.clone().fence(wire::FenceRequest { partitions: vec![one] }).await;
    let fenced = fenced.expect("fenced").into_inner().partitions.remove(0);
    assert_eq!((fenced.fence, fenced.last.expect("the last").lsn), (2, 1));
    directory.bump(&home.name);
    directory.give(&follower.name, 2, &[&follower.name, &home.name], &[&home.name, &follower.name]);
    until("the follower is home", || async { follower.partition().await.is_some_and(|status| status.home) })
        .await;
    let mut peer = Peer::connect(&follower).await;
    peer.send(3, AckPolicy::Home).await;
    let position = peer.acked().await.position.expect("a position");
    assert_eq!((position.epoch, position.offset), (2, 2));
    let _pump = Pump::start(&follower, &home, &directory);
    peer.send(5, AckPolicy::Replicated).await;
    assert_eq!(peer.acked().await.ack, i32::from(AckPolicy::Replicated));
    assert_eq!(home.end().await, follower.end().await);
    let archives = home.store.archives().await.expect("archives");
    assert_eq!(archives.len(), 1);
    assert_eq!(archives[0].records, 3, "what only the old home had is kept aside");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_ends_the_home_here() {
    let pair = Pair::start().await;
    let one = wire::FenceOne { partition: PARTITION.get(), epoch: 9 };
    let fenced = pair.home.client.clone().fence(wire::FenceRequest { partitions: vec![one] }).await;
    assert_eq!(fenced.expect("fenced").into_inner().partitions[0].fence, 9);
    let status = pair.home.partition().await.expect("it holds a copy");
    assert!(!status.home);
    let mut peer = Peer::connect(&pair.home).await;
    peer.create(1).await;
    assert!(matches!(peer.answer().await.1, peer_reply::Reply::NotHome(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_has_given_its_partition_away_calls_no_position_unknown() {
    let pair = Pair::start().await;
    let mut peer = Peer::connect(&pair.home).await;
    peer.create(1).await;
    peer.acked().await;
    peer.locate(2, 9, 41).await;
    let (_, answer) = peer.answer().await;
    assert!(
        matches!(&answer, peer_reply::Reply::Refused(refused) if refused.code == "position_unknown"),
        "while it is home nobody else has given out anything: {answer:?}"
    );
    pair.directory.drain(&pair.follower.name);
    until("SEAL is written", || async { pair.home.end().await.lsn.get() == 2 }).await;
    peer.locate(3, 2, 2).await;
    let (_, answer) = peer.answer().await;
    assert!(matches!(&answer, peer_reply::Reply::NotHome(not_home) if not_home.moving), "{answer:?}");
}
