//! Failures that a region's renewals do not tell, and that observers in other regions find out.

use crate::PROGRAM;
use anyhow::ensure;
use lab::{Lab, Options, placement};
use proto::directory::StatusReply;
use std::{collections::BTreeMap, time::Duration};
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    placing::{home_of, pin_of, row, successor},
    session::{connect, message, open_group, send},
};
use types::{Epoch, NodeId, PartitionState};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The directory goes by what observers say.
fn watched() -> Options {
    let mut options = options(PROGRAM);
    options.overlay.directory.insert("canary-failover".to_owned(), true.into());
    options
}

async fn told(lab: &Lab) -> anyhow::Result<StatusReply> {
    Ok(placement::directory_status(&lab.directory_address(), ANSWER_TIMEOUT).await?)
}

/// Waits until every node has told the directory that it fails at nobody.
async fn all_observe(lab: &Lab) {
    eventually("every observer judges and sees nothing amiss", patience(), async || {
        let told = told(lab).await?;
        ensure!(told.observers.len() == REGIONS.len(), "{:?}", told.observers);
        for observer in &told.observers {
            let sees_all = observer.observed.len() == REGIONS.len() - 1;
            let is_content = observer.observed.iter().all(|one| one.failing_ms == 0);
            ensure!(observer.judges && sees_all && is_content, "{observer:?}");
        }
        Ok(())
    })
    .await;
}

/// The homes of a region, each with its epoch.
async fn homes(lab: &Lab, region: &str) -> anyhow::Result<Vec<(u32, Epoch)>> {
    let node = lab.node_id(region)?;
    let placement = placement::snapshot(&lab.directory_address(), ANSWER_TIMEOUT).await?;
    let rows = placement.partitions.iter().filter(|row| row.state == PartitionState::Homed);
    let homed = rows.filter(|row| row.home.as_ref().is_some_and(|home| home.node == node));
    Ok(homed.map(|row| (row.partition.get(), row.epoch)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_renews_but_cannot_be_reached_is_failed_over() {
    let lab = start(watched()).await;
    let [home, near, far] = REGIONS;
    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben", "cem"]).await.expect("opens");
    let pin = pin_of(&lab, &log).await.expect("is pinned");
    let before = row(&lab, pin.partition).await.expect("a row");
    assert_eq!(*home_of(&before), lab.node_id(home).expect("a region"));
    all_observe(&lab).await;

    // Its way to the directory works: it renews all the time.
    for other in [near, far] {
        lab.cut(home, other, false).expect("is cut");
    }
    let after = successor(&lab, pin.partition, before.epoch).await;
    let next = home_of(&after).clone();
    assert_ne!(next, lab.node_id(home).expect("a region"));
    for region in [near, far] {
        let mut session = connect(&lab.edge(region).expect("a region"), "ben").await.expect("connects");
        send(&mut session, message(&log, "from outside")).await.expect("is acked by the new home");
    }
    let status = told(&lab).await.expect("answers");
    let events: Vec<&str> = status.events.iter().map(|event| event.what.as_str()).collect();
    let verdict = events.iter().find(|event| event.starts_with("no canary was acked by"));
    assert!(verdict.is_some_and(|it| it.ends_with("as seen from ap-south, eu-west")), "{events:#?}");
    let failing = eventually("its next boot fails, too", patience(), async || {
        let failing = told(&lab).await?.failing;
        ensure!(!failing.is_empty(), "nothing fails");
        Ok(failing)
    });
    assert_eq!(failing.await[0].node, lab.node_id(home).expect("a region").as_str());
    assert_eq!(homes(&lab, home).await.expect("answers"), [], "it gets nothing while it fails");

    lab.heal();
    lab.wait_ready(patience()).await.expect("all are ready");
    lab.wait_in_sync(patience()).await.expect("every copy is in sync");
    all_observe(&lab).await;
    lab.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_that_reaches_nobody_has_nobody_judged() {
    let [blind, near, far] = REGIONS.map(|region| NodeId::new(&format!("{region}-1")).expect("a valid name"));
    let mut options = watched();
    // What it dials is lost. All others reach it, and replicators do not go by it.
    let nowhere = BTreeMap::from([near, far].map(|node| (node.to_string(), "127.0.0.1:9".to_owned())));
    options.overlay.only_node.entry(blind.clone()).or_default().insert("dial".to_owned(), nowhere.into());
    let lab = start(options).await;
    let mut before = Vec::new();
    for region in REGIONS {
        before.push(homes(&lab, region).await.expect("answers"));
    }

    eventually("it fails at all others for long, and judges nobody", patience(), async || {
        let told = told(&lab).await?;
        let observer = told.observers.iter().find(|observer| observer.node == blind.as_str());
        let observer = observer.ok_or_else(|| anyhow::anyhow!("it has told nothing"))?;
        let fails = observer.observed.iter().all(|one| one.failing_ms > 6_000);
        ensure!(fails && !observer.judges, "{observer:?}");
        ensure!(told.failing.is_empty(), "{:?}", told.failing);
        Ok(())
    })
    .await;
    let mut after = Vec::new();
    for region in REGIONS {
        after.push(homes(&lab, region).await.expect("answers"));
    }
    assert_eq!(after, before, "no epoch has changed");
    lab.stop().await.expect("stops");
}
