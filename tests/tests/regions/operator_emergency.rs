//! What only an operator may say: a region is lost, one region is enough, a copy that is not in sync becomes home.

use crate::PROGRAM;
use anyhow::ensure;
use client::bare::Connection;
use lab::{Lab, placement};
use proto::client::AckPolicy;
use std::time::Duration;
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    operator::Operator,
    placing::{home_of, pin_of, row},
    session::{connect, message, open_group, send},
};
use tokio::time::timeout;
use types::PartitionState;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than a control write takes where it can be replicated.
const WHILE: Duration = Duration::from_secs(2);

async fn session(lab: &Lab, region: &str, name: &str) -> Connection {
    connect(&lab.edge(region).expect("a region"), name).await.expect("connects")
}

/// Writes until it is acked; answers the message's id.
async fn write(lab: &Lab, region: &str, log: &str, text: &str) -> String {
    let message = message(log, text);
    eventually("a write", patience(), async || {
        let mut session = connect(&lab.edge(region)?, "ben").await?;
        Ok(send(&mut session, message.clone()).await?)
    })
    .await;
    message.message_id
}

async fn stopped(lab: &Lab) -> String {
    eventually("automatic failover has stopped", patience(), async || {
        let status = placement::directory_status(&lab.directory_address(), ANSWER_TIMEOUT).await?;
        ensure!(!status.automatic_failover_note.is_empty(), "it has not");
        Ok(status.automatic_failover_note)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_silent_regions_an_operator_names_the_lost_one_and_one_region_does_for_a_time() {
    let [lost, silent, left] = REGIONS;
    let lab = start(options(PROGRAM)).await;
    let operator = Operator::new(PROGRAM, &lab);
    let mut ann = session(&lab, lost, "ann").await;
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    let mut before = message(&log, "before");
    before.ack = AckPolicy::Replicated.into();
    send(&mut ann, before.clone()).await.expect("is acked");
    drop(ann);
    let heard = operator.refused(&["fail-over", left]).await;
    assert!(heard.contains("is heard") && heard.contains("--even-if-heard"), "{heard}");

    lab.kill(lost).await.expect("it dies");
    lab.kill(silent).await.expect("it dies");
    let why = stopped(&lab).await;
    assert!(why.contains("hearth admin fail-over REGION"), "{why}");
    let nowhere = operator.refused(&["fail-over", "mars"]).await;
    assert!(nowhere.contains("region mars does not exist"), "{nowhere}");
    let said = operator.ann(&["fail-over", lost]).await;
    assert!(said.contains(&format!("4 homes in {lost} have ended")), "{said}");
    let after = write(&lab, left, &log, "after").await;
    let again = operator.refused(&["fail-over", lost]).await;
    assert!(again.contains("is failed over already"), "{again}");
    eventually("the other one follows by itself", patience(), async || {
        let rows = placement::snapshot(&lab.directory_address(), ANSWER_TIMEOUT).await?;
        ensure!(placement::all_homed(&rows) && rows.partitions.iter().all(|row| row.waiting.is_empty()));
        Ok(())
    })
    .await;

    let mut ben = session(&lab, left, "ben").await;
    assert!(
        timeout(WHILE, open_group(&mut ben, &["ann"])).await.is_err(),
        "creation is acked at replicated only"
    );
    let long = operator.refused(&["allow-one-region", left, "--minutes", "100000"]).await;
    assert!(long.contains("100000 minutes are too many"), "{long}");
    let nowhere = operator.refused(&["allow-one-region", "mars", "--minutes", "5"]).await;
    assert!(nowhere.contains("region mars does not exist"), "{nowhere}");
    operator.ann(&["allow-one-region", left, "--minutes", "5"]).await;
    eventually("a chat is created", patience(), async || {
        let mut ben = connect(&lab.edge(left)?, "ben").await?;
        timeout(WHILE, open_group(&mut ben, &["ann"])).await?
    })
    .await;
    operator.ann(&["allow-one-region", left, "--minutes", "0"]).await;
    for what in [&format!("region {lost} is failed over"), "ONE REGION IS ENOUGH", "ONE REGION IS NOT ENOUGH"]
    {
        operator.sees("ann", what).await;
    }

    lab.restart(lost).await.expect("it is back");
    lab.restart(silent).await.expect("it is back");
    lab.wait_in_sync(patience()).await.expect("all is copied there again");
    let history = same_everywhere(&lab, &REGIONS, "ben", &log).await;
    for id in [&before.message_id, &after] {
        place_of(&history, id);
    }
    lab.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_in_sync_becomes_home_by_word_and_what_it_lacked_comes_back() {
    let [first, second, behind] = REGIONS;
    let lab = start(options(PROGRAM)).await;
    let operator = Operator::new(PROGRAM, &lab);
    let mut ann = session(&lab, first, "ann").await;
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    let early = write(&lab, first, &log, "early").await;
    let partition = pin_of(&lab, &log).await.expect("is pinned").partition;
    let (number, last) = (partition.to_string(), lab.node_id(behind).expect("a region").to_string());

    for other in [first, second] {
        lab.cut(behind, other, false).expect("is cut");
    }
    eventually("its copy has left the in-sync set", patience(), async || {
        let row = row(&lab, partition).await?;
        ensure!(row.isr.len() == 2, "{:?}", row.isr);
        Ok(())
    })
    .await;
    let mut late = message(&log, "late");
    late.ack = AckPolicy::Replicated.into();
    send(&mut ann, late.clone()).await.expect("two regions hold it");
    drop(ann);
    let promote = ["promote-unsafe", &number, &last, "--i-accept-losing-acked-messages"];
    operator.misused(&promote[..3]).await;
    let homed = operator.refused(&promote).await;
    assert!(homed.contains("is not without a home") && homed.contains("fail-over REGION"), "{homed}");

    lab.kill(first).await.expect("it dies");
    eventually("the second one has taken over", patience(), async || {
        let row = row(&lab, partition).await?;
        ensure!(row.state == PartitionState::Homed && *home_of(&row) == lab.node_id(second)?, "{row:?}");
        Ok(())
    })
    .await;
    lab.kill(second).await.expect("it dies, too");
    eventually("no safe copy is left", patience(), async || {
        let row = row(&lab, partition).await?;
        ensure!(row.state == PartitionState::FailingOver, "{row:?}");
        Ok(())
    })
    .await;
    let copyless = operator.refused(&["promote-unsafe", &number, "mars-1", promote[3]]).await;
    assert!(copyless.contains("no node mars-1"), "{copyless}");
    let said = operator.ann(&promote).await;
    assert!(said.contains(&format!("partition {number} is homed at {last}")), "{said}");
    operator.sees("ann", &format!("UNSAFE PROMOTION of {last} to home of {number}@")).await;
    let after = write(&lab, behind, &log, "after").await;

    lab.heal();
    for region in [first, second] {
        lab.restart(region).await.expect("it is back");
    }
    let all = [&early, &late.message_id, &after];
    eventually("what the copy lacked is salvaged", patience(), async || {
        let mut ben = connect(&lab.edge(behind)?, "ben").await?;
        let told = tests::session::history(&mut ben, &log).await?;
        let lacks = all.iter().find(|id| !told.iter().any(|entry| entry.message_id == ***id));
        ensure!(lacks.is_none(), "{lacks:?}");
        Ok(())
    })
    .await;
    let history = same_everywhere(&lab, &REGIONS, "ben", &log).await;
    for id in all {
        place_of(&history, id);
    }
    lab.stop().await.expect("stops");
}
