//! What must hold while replicas die, are cut off, join and leave.

use super::cluster::Cluster;
use crate::{
    clock,
    command::{Answer, Command},
    engine::{RenewFailure, SubmitError},
    raft::{Leader, MembershipError, ReplicaId, identity},
    random,
    testing::registration,
};
use std::{collections::BTreeSet, time::Duration};
use types::{Home, Incarnation, NodeId};

async fn register(cluster: &Cluster, name: &str) -> Home {
    match cluster.submit(random::request_id(), Command::Register(registration(name, 1))).await {
        Answer::Registered(incarnation) => {
            Home { node: NodeId::new(name).expect("a valid name"), incarnation }
        }
        other => panic!("{other:?}"),
    }
}

fn only(id: u64) -> BTreeSet<u64> {
    BTreeSet::from([id])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acked_is_lost_or_done_twice_when_leaders_die_under_load() {
    let mut cluster = Cluster::born(10_000).await;
    let mut acked = Vec::new();
    for round in 0..3 {
        let us = register(&cluster, "us-east-1").await;
        for number in 0..20 {
            let text = format!("round {round} note {number}");
            if number == 10 {
                let leader = cluster.leader().await;
                // In flight when its leader dies; repeated under its own id it is done once.
                let (request, dying) =
                    (random::request_id(), cluster.replicas[&leader].running().group.clone());
                let command = Command::Note(format!("round {round} in flight"));
                let lost = tokio::spawn({
                    let envelope = crate::command::Envelope { request, at_ms: 0, command: command.clone() };
                    async move { dying.submit(envelope).await }
                });
                cluster.crash(leader).await;
                let _unknown = lost.await.expect("no panic");
                cluster.submit(request, command).await;
                cluster.start(leader).await;
            }
            cluster.note(&text).await;
            acked.push(text);
        }
        assert_eq!(us.incarnation, Incarnation::new(round + 1), "no boot is given out twice");
    }
    let total = acked.len() + 3;
    cluster
        .until("all replicas hold the same", |cluster| {
            let notes =
                |id| cluster.replicas[&id].notes().into_iter().filter(|note| note.starts_with("round"));
            let all: Vec<Vec<String>> = [1, 2, 3].map(|id| notes(id).collect()).to_vec();
            all.iter().all(|notes| notes.len() >= total && *notes == all[0])
        })
        .await;
    let notes = cluster.replicas[&1].notes();
    for text in acked.iter().cloned().chain((0..3).map(|round| format!("round {round} in flight"))) {
        assert_eq!(notes.iter().filter(|note| **note == text).count(), 1, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_answers_no_read_and_no_renewal_and_does_not_disturb_when_it_returns() {
    let cluster = Cluster::born(10_000).await;
    let us = register(&cluster, "us-east-1").await;
    let old = cluster.leader().await;
    let group = cluster.replicas[&old].running().group.clone();
    group.read_barrier().await.expect("it leads");
    group.renew(us.clone()).await.expect("it leads");
    cluster.cut(old, true);
    // Before it knows: it asks a majority, and finds none.
    assert!(matches!(group.read_barrier().await, Err(SubmitError::NotLeader(_))));
    assert!(matches!(group.renew(us.clone()).await, Err(RenewFailure::Unanswered(_))));
    let new = cluster.leader_but(&only(old)).await;
    let term = cluster.replicas[&new].running().group.leads();
    let next = register(&cluster, "us-east-1").await;
    assert!(
        matches!(group.renew(us.clone()).await, Err(RenewFailure::Unanswered(_))),
        "it cannot know better"
    );
    cluster.cut(old, false);
    cluster.until("the old leader follows", |_| matches!(group.leader(), Leader::Other(..))).await;
    assert_eq!(cluster.replicas[&new].running().group.leads(), term, "it returned without an election");
    let now = &cluster.replicas[&new].running().group;
    assert!(matches!(now.renew(us).await, Err(RenewFailure::Refused(_))), "that boot is over");
    now.renew(next).await.expect("the current boot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_cut_off_unseats_nobody_when_it_returns() {
    let cluster = Cluster::born(10_000).await;
    let leader = cluster.leader().await;
    let term = cluster.replicas[&leader].running().group.leads();
    let away = [1, 2, 3].into_iter().find(|id| *id != leader).expect("another one");
    cluster.cut(away, true);
    let group = &cluster.replicas[&away].running().group;
    cluster.until("it misses the leader", |_| group.leader() == Leader::Unknown).await;
    // Time for several elections, were it to hold any.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.note("while it was away").await;
    cluster.cut(away, false);
    cluster.until("it follows", |_| matches!(group.leader(), Leader::Other(..))).await;
    assert_eq!(cluster.replicas[&leader].running().group.leads(), term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leads_next_has_stamped_every_renewal_that_was_acknowledged() {
    let mut cluster = Cluster::born(10_000).await;
    let us = register(&cluster, "us-east-1").await;
    for _ in 0..3 {
        let leader = cluster.leader().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sent_ms = clock::boot_ms();
        cluster.replicas[&leader].running().group.renew(us.clone()).await.expect("renewed");
        cluster.crash(leader).await;
        let crashed_ms = clock::boot_ms();
        let next = cluster.leader_but(&only(leader)).await;
        let now_ms = clock::boot_ms();
        let silent_ms = cluster.replicas[&next]
            .running()
            .state
            .look(|_, leases| leases.silent_ms(&us, now_ms))
            .expect("stamped");
        let (since_ms, dead_ms) = (now_ms - sent_ms, now_ms - crashed_ms);
        assert!(
            silent_ms <= since_ms,
            "stamped {silent_ms} ms ago, sent {since_ms} ms ago: before it was sent"
        );
        // What was on its way to it may arrive a moment later; a successor is chosen later than that.
        assert!(silent_ms + 100 > dead_ms, "stamped {silent_ms} ms ago, the leader died {dead_ms} ms ago");
        cluster.start(leader).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_for_long_takes_a_snapshot_and_all_come_back_from_a_restart() {
    let mut cluster = Cluster::born(20).await;
    let leader = cluster.leader().await;
    let away = [1, 2, 3].into_iter().find(|id| *id != leader).expect("another one");
    cluster.crash(away).await;
    for number in 0..60 {
        cluster.note(&format!("note {number}")).await;
    }
    let purged = |cluster: &Cluster| cluster.replicas[&leader].running().group.inspect().purged_index;
    cluster.until("the log was purged", |cluster| purged(cluster) > 20).await;
    cluster.start(away).await;
    cluster
        .until("it has caught up", |cluster| {
            cluster.replicas[&away].notes() == cluster.replicas[&leader].notes()
        })
        .await;
    assert!(cluster.replicas[&away].running().group.inspect().snapshot_index > 20, "from a snapshot");
    let before = cluster.replicas[&leader].notes();
    for id in 1..=3 {
        cluster.crash(id).await;
    }
    for id in 1..=3 {
        cluster.start(id).await;
    }
    cluster.leader().await;
    cluster.note("after the restart").await;
    let expected: Vec<String> = before.into_iter().chain(["after the restart".to_owned()]).collect();
    cluster
        .until("everything is there", |cluster| (1..=3).all(|id| cluster.replicas[&id].notes() == expected))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_join_and_leave_and_the_leader_may_go() {
    let mut cluster = Cluster::born(10).await;
    for number in 0..30 {
        cluster.note(&format!("note {number}")).await;
    }
    cluster.place(4).await;
    cluster.start(4).await;
    let leader = cluster.leader().await;
    let group = cluster.replicas[&leader].running().group.clone();
    let add = async |id: u64, address: String| group.add(ReplicaId::new(id), &address, "ann".into()).await;
    let error = add(4, "127.0.0.1:1".into()).await;
    // The wires know where it is; an address that is another replica's is found out.
    assert!(error.is_ok() || matches!(error, Err(MembershipError::Unreachable(_))), "{error:?}");
    add(4, cluster.address(4)).await.expect("it joins");
    add(4, cluster.address(4)).await.expect("repeating it is safe");
    let voters = |group: &crate::raft::Group| group.inspect().replicas.iter().filter(|one| one.voter).count();
    assert_eq!(voters(&group), 4);
    cluster
        .until("it holds the rows", |cluster| {
            cluster.replicas[&4].notes() == cluster.replicas[&leader].notes()
        })
        .await;
    group.remove(ReplicaId::new(leader), false, "ann".into()).await.expect("the leader goes");
    let next = cluster.leader_but(&only(leader)).await;
    cluster.note("without it").await;
    let group = cluster.replicas[&next].running().group.clone();
    assert_eq!(voters(&group), 3);
    let error = group
        .add(ReplicaId::new(leader), &cluster.address(leader), "ann".into())
        .await
        .expect_err("an id is used once");
    assert_eq!(error, MembershipError::UsedBefore { id: ReplicaId::new(leader), next: 5 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_on_an_empty_disk_is_not_the_one_that_voted() {
    let mut cluster = Cluster::born(10_000).await;
    cluster.note("before").await;
    // The founder: it is the one that might found a second group.
    cluster.crash(1).await;
    cluster.replicas.get_mut(&1).expect("placed").kv = std::sync::Arc::default();
    cluster.start(1).await;
    let leader = cluster.leader_but(&only(1)).await;
    cluster.note("without it").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let group = &cluster.replicas[&1].running().group;
    assert_eq!((group.inspect().term, group.leader()), (0, Leader::Unknown), "it neither votes nor founds");
    assert_eq!(cluster.replicas[&1].notes(), Vec::<String>::new());
    let leading = cluster.replicas[&leader].running().group.clone();
    leading.remove(ReplicaId::new(1), false, "ann".into()).await.expect("two are left, and answer");
    cluster.place(4).await;
    cluster.start(4).await;
    leading
        .add(ReplicaId::new(4), &cluster.address(4), "ann".into())
        .await
        .expect("a new one takes its place");
    cluster.note("with another").await;
    let identity = identity::identify(&*cluster.replicas[&4].kv, ReplicaId::new(1));
    let error = identity.expect_err("another replica's folder");
    assert_eq!(error.to_string(), "replica-id is 1, and this folder belongs to replica 4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_takes_one_round_trip_whatever_else_is_under_way() {
    const COMMITS: u32 = 6;
    let one_way = Duration::from_millis(100);
    let cluster = Cluster::born_apart(10_000, one_way).await;
    let us = register(&cluster, "us-east-1").await;
    let group = cluster.replicas[&cluster.leader().await].running().group.clone();
    // The library has spoken to both others in this term.
    cluster.note("before").await;
    let renewing = tokio::spawn({
        let group = group.clone();
        async move {
            let mut beats = tokio::time::interval(Duration::from_millis(30));
            loop {
                beats.tick().await;
                tokio::spawn({
                    let (group, us) = (group.clone(), us.clone());
                    async move { group.renew(us).await }
                });
            }
        }
    });
    let mut fastest = Duration::MAX;
    for number in 0..COMMITS {
        let command = Command::Note(format!("note {number}"));
        let envelope = crate::command::Envelope { request: random::request_id(), at_ms: 0, command };
        let began = std::time::Instant::now();
        group.submit(envelope).await.expect("it leads");
        fastest = fastest.min(began.elapsed());
    }
    renewing.abort();
    assert!(fastest < one_way * 3, "{fastest:?} a commit, at a round trip of {:?}", one_way * 2);
}
