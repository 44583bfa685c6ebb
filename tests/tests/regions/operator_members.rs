//! Nodes and regions that join a deployment and leave it, by an operator's word, while people write.

use crate::PROGRAM;
use anyhow::ensure;
use client::bare::Connection;
use lab::{Lab, Options};
use serde_json::Value;
use std::time::Duration;
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::same_everywhere,
    load::Load,
    operator::Operator,
    placing::pin_of,
    session::{connect, open_group, user},
};
use types::{DeviceId, NodeId};

const EVERY: Duration = Duration::from_millis(50);

/// What is out of balance is moved soon.
fn brisk(mut options: Options) -> Options {
    for key in ["rebalance-after-ms", "failback-cooldown-ms"] {
        options.overlay.directory.insert(key.to_owned(), 1_000.into());
    }
    options
}

fn idle(names: &[&str]) -> std::collections::BTreeSet<NodeId> {
    names.iter().map(|name| NodeId::new(name).expect("a name")).collect()
}

/// What the operator is told of a node.
async fn listed(operator: &Operator, node: &str) -> Option<Value> {
    let nodes = operator.json(&["node", "list"]).await;
    nodes.as_array().expect("nodes").iter().find(|row| row["node"] == node).cloned()
}

/// Waits until a node has copies and homes.
async fn takes_part(operator: &Operator, node: &str) {
    eventually("it has copies and homes", patience(), async || {
        let row = listed(operator, node).await;
        let has = |row: &Value| row["copies"].as_u64() > Some(0) && row["homes"].as_u64() > Some(0);
        ensure!(row.as_ref().is_some_and(has), "{row:?}");
        Ok(())
    })
    .await;
}

/// Ends a load of which nothing may fail, and sees that all of it is in every region.
async fn all_is_there(lab: &Lab, load: Load, log: &str, regions: &[&str]) {
    let report = load.stop().await;
    assert_eq!((&report.failed, report.unanswered), (&Vec::new(), 0), "{} were acked", report.ids.len());
    let told = same_everywhere(lab, regions, "ben", log).await;
    for id in &report.ids {
        assert!(told.iter().any(|entry| entry.message_id == *id), "message {id} was acked and is lost");
    }
}

async fn load(lab: &Lab, region: &str) -> (Load, String) {
    let edge = lab.edge(region).expect("a region");
    let mut ann = connect(&edge, "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    let session = Connection::open(&edge, &user("ben"), DeviceId::new(7), vec![]).await.expect("connects");
    (Load::start(session, &log, EVERY), log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_takes_its_share_and_is_emptied_and_refused_once_it_is_retired() {
    let [other, region, _] = REGIONS;
    let mut options = brisk(options(PROGRAM));
    options.nodes_per_region = Some(2);
    options.idle = idle(&["us-east-2", "eu-west-2", "ap-south-2"]);
    let lab = start(options).await;
    let operator = Operator::new(PROGRAM, &lab);
    let (load, log) = load(&lab, other).await;
    let node = format!("{region}-2");
    lab.restart(&node).await.expect("it starts");
    takes_part(&operator, &node).await;

    let unknown = operator.refused(&["node", "retire", "mars-1"]).await;
    assert!(unknown.contains("there is no node mars-1"), "{unknown}");
    operator.ann(&["node", "retire", &node]).await;
    operator.ann(&["node", "retire", &node, "--keep"]).await;
    let said = operator.ann(&["node", "retire", &node, "--wait"]).await;
    assert!(said.ends_with("retired: it can be switched off\n"), "{said}");
    let row = listed(&operator, &node).await.expect("its name stays");
    assert_eq!((&row["state"], &row["copies"], &row["homes"]), (&"retired".into(), &0.into(), &0.into()));
    let done = operator.refused(&["node", "retire", &node, "--keep"]).await;
    assert!(done.contains("is retired: that is for good"), "{done}");
    operator.sees("ann", &format!("node {node} retires")).await;
    operator.sees("ann", &format!("node {node} stays after all")).await;

    // Whatever has become of its process, a new one under its name is refused.
    let _ended = lab.stop_node(&node).await;
    lab.restart(&node).await.expect("a process starts");
    let log_of = lab.dir().join("logs").join(format!("node-{node}.log"));
    eventually("it is told that it is retired", patience(), async || {
        let text = std::fs::read_to_string(&log_of)?;
        ensure!(text.contains("retired"), "not yet");
        Ok(())
    })
    .await;
    assert_eq!(listed(&operator, &node).await.expect("its name stays")["state"], "retired");
    all_is_there(&lab, load, &log, &REGIONS).await;
    lab.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_joins_takes_copies_and_homes_and_leaves_again() {
    let [first, second, third] = REGIONS;
    let mut options = brisk(options(PROGRAM));
    let regions: Vec<toml::Value> = vec![first.into(), second.into()];
    options.overlay.directory.insert("regions".to_owned(), regions.into());
    options.idle = idle(&[&format!("{third}-1")]);
    let lab = Lab::start(options).await.expect("the deployment starts");
    lab.wait_ready(patience()).await.expect("the two regions are ready");
    let operator = Operator::new(PROGRAM, &lab);
    let (load, log) = load(&lab, first).await;
    let node = format!("{third}-1");

    let few = operator.refused(&["region", "retire", first]).await;
    assert!(few.contains("one of the last two that serve"), "{few}");
    let unknown = operator.refused(&["region", "retire", third]).await;
    assert!(unknown.contains(&format!("there is no region {third}")), "{unknown}");
    operator.ann(&["region", "add", third]).await;
    lab.restart(third).await.expect("it starts");
    eventually("every partition is in sync there", patience(), async || {
        let row = listed(&operator, &node).await;
        ensure!(row.as_ref().is_some_and(|row| row["copies"] == 8), "{row:?}");
        Ok(())
    })
    .await;
    lab.wait_in_sync(patience()).await.expect("all copies are in sync");
    let partition = pin_of(&lab, &log).await.expect("is pinned").partition;
    operator.ann(&["move", &partition.to_string(), third]).await;
    takes_part(&operator, &node).await;

    let said = operator.ann(&["region", "retire", third, "--wait"]).await;
    assert!(said.ends_with("retired: it can be switched off\n"), "{said}");
    assert_eq!(listed(&operator, &node).await.expect("its name stays")["state"], "retired");
    let done = operator.refused(&["region", "add", third]).await;
    assert!(done.contains("is retired: that is for good"), "{done}");
    for what in [format!("region {third} was added"), format!("region {third} retires")] {
        operator.sees("ann", &what).await;
    }
    lab.kill(third).await.expect("it is switched off");
    all_is_there(&lab, load, &log, &[first, second]).await;
    lab.stop().await.expect("stops");
}
