//! Once in the log: a retry gets the position of the original, through any node, in any epoch.

use crate::PROGRAM;
use client::bare::BareError;
use proto::client::AckPolicy;
use std::time::Instant;
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    hold::Switches,
    placing::{home_of, pin_of, row, successor},
    session::{connect, history, message, open_group, position, send},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_through_another_region_and_in_another_epoch_gets_the_same_position() {
    let mut options = options(PROGRAM);
    let switches = Switches::lay_into(&mut options);
    let lab = start(options).await;
    let [home, near, far] = REGIONS;

    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    let pin = pin_of(&lab, &log).await.expect("is pinned");
    let before = row(&lab, pin.partition).await.expect("a row");
    assert_eq!(*home_of(&before), lab.node_id(home).expect("a region"));

    let mut said = message(&log, "said once");
    said.ack = AckPolicy::Replicated.into();
    said.deadline_ms = 60_000;
    switches.cut_next_ack();
    let lost = send(&mut ann, said.clone()).await;
    assert!(matches!(lost, Err(BareError::Closed | BareError::Socket(_))), "{lost:?}");
    assert!(switches.was_cut(), "the connection broke over the ack");

    let mut reader = connect(&lab.edge(home).expect("a region"), "ben").await.expect("connects");
    let written = history(&mut reader, &log).await.expect("reads");
    let original = place_of(&written, &said.message_id);
    assert_eq!(position(&log, &original.position).epoch, before.epoch);

    let mut ann = connect(&lab.edge(near).expect("a region"), "ann").await.expect("connects");
    let again = send(&mut ann, said.clone()).await.expect("is acked through another region");
    assert_eq!((&again.position, again.offset), (&original.position, original.offset));

    lab.kill(home).await.expect("is killed");
    let killed = Instant::now();
    let after = successor(&lab, pin.partition, before.epoch).await;
    let mut ann =
        eventually("connecting", patience(), async || Ok(connect(&lab.edge(far)?, "ann").await?)).await;
    let across = send(&mut ann, said.clone()).await.expect("is acked in another epoch");
    println!("the same position in another epoch, {:?} after the home's region died", killed.elapsed());
    assert_eq!((&across.position, across.offset), (&original.position, original.offset));

    let mut next = message(&log, "said in the next epoch");
    next.deadline_ms = 60_000;
    let next = send(&mut ann, next).await.expect("is acked");
    assert_eq!(next.offset, original.offset + 1);
    assert!(position(&log, &next.position).epoch >= after.epoch, "the epoch has moved on");

    let mut other_body = message(&log, "something else");
    other_body.message_id.clone_from(&said.message_id);
    match send(&mut ann, other_body).await {
        Err(BareError::Refused(error)) => assert_eq!(error.code, "message_id_reused"),
        other => panic!("another body under the same id: {other:?}"),
    }
    let told = same_everywhere(&lab, &[near, far], "ben", &log).await;
    assert_eq!(place_of(&told, &said.message_id), original);
    lab.stop().await.expect("stops");
}
