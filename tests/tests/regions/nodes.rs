//! Regions of two nodes: one dies, and every process is started anew, one after the other, while people write.

use crate::PROGRAM;
use client::{Client, Config, From};
use lab::{Lab, Options, placement};
use std::time::Duration;
use tests::{
    deployment::{REGIONS, patience, start, whole},
    eventually,
    history::same_everywhere,
    session::user,
    view::View,
};
use tokio::time::{Instant, sleep};
use types::{DeviceId, NodeId, PartitionId, PlacementDelta};

const EVENTS_MAX: usize = 100_000;
const WRITE_EVERY: Duration = Duration::from_millis(50);

fn two_nodes_each() -> Options {
    let mut options = whole(PROGRAM);
    options.nodes_per_region = Some(2);
    options
}

async fn rows(lab: &Lab) -> PlacementDelta {
    placement::snapshot(&lab.directory_address(), patience()).await.expect("the directory answers")
}

fn homes(rows: &PlacementDelta, node: &NodeId) -> Vec<PartitionId> {
    let is_home = |row: &&types::PartitionRow| row.home.as_ref().is_some_and(|home| home.node == *node);
    rows.partitions.iter().filter(is_home).map(|row| row.partition).collect()
}

/// A client near `region`, by the front first.
fn open_client(lab: &Lab, region: &str, name: &str, device: u64) -> Client {
    let mut edges = vec![lab.front(region).expect("a region")];
    edges.extend(lab.edges(region).expect("a region"));
    let mut config = Config::new(edges, user(name), DeviceId::new(device));
    // Its events are read at the end.
    config.bounds.events = EVENTS_MAX;
    Client::connect(config).expect("good settings")
}

/// Writes in one chat while `meanwhile` goes on, and checks that every message is in it once, in the order of
/// its sending, as every region tells it. Answers how long the longest wait for an ack at `home` was.
async fn write_through(lab: &Lab, region: &str, meanwhile: impl Future<Output = ()>) -> Duration {
    let writer = open_client(lab, region, "ann", 1);
    let mut events = writer.events().await;
    let chat = writer.open_direct(&user("ben")).await.expect("opens");
    chat.follow(From::Start).await;
    tokio::pin!(meanwhile);
    let (mut longest, mut sent) = (Duration::ZERO, Vec::new());
    let mut is_over = false;
    while !is_over {
        tokio::select! {
            () = &mut meanwhile => is_over = true,
            () = sleep(WRITE_EVERY) => {}
        }
        let began = Instant::now();
        let sending = chat.send(format!("message {}", sent.len())).await.expect("is taken");
        sent.push(sending.message_id());
        sending.home().await.expect("no write fails");
        longest = longest.max(began.elapsed());
    }
    let mut view = View::default();
    let count = sent.len();
    view.until("all replicated", &mut events, patience(), |view| view.replicated.len() == count).await;
    let history = same_everywhere(lab, &REGIONS, "ben", &chat.log().to_string()).await;
    let told: Vec<&str> = history.iter().skip(1).map(|entry| entry.message_id.as_str()).collect();
    let sent: Vec<String> = sent.iter().map(ToString::to_string).collect();
    assert_eq!(told, sent, "every message once, in its order");
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_of_two_loses_its_own_homes_only_and_nothing_written() {
    let lab = start(two_nodes_each()).await;
    let before = rows(&lab).await;
    let [killed, sister] = &lab.node_ids("us-east").expect("a region")[..] else { panic!("two nodes") };
    let kept = homes(&before, sister);
    let longest = Box::pin(write_through(&lab, "us-east", async {
        lab.kill(killed.as_str()).await.expect("kills");
        eventually("its homes are elsewhere", patience(), async || {
            let rows = rows(&lab).await;
            anyhow::ensure!(homes(&rows, killed).is_empty(), "it has some");
            anyhow::ensure!(placement::all_homed(&rows), "not all are homed");
            Ok(())
        })
        .await;
        lab.restart(killed.as_str()).await.expect("starts");
        lab.wait_ready(patience()).await.expect("all are ready");
    }))
    .await;
    println!("the longest wait for an ack was {:.2} s", longest.as_secs_f64());
    assert_eq!(homes(&rows(&lab).await, sister), kept, "the other node keeps what it has");
    lab.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_every_process_anew_one_by_one_fails_no_write_and_keeps_one_order() {
    let lab = start(two_nodes_each()).await;
    let started = async |target: &str| {
        lab.restart(target).await.expect("starts");
        lab.wait_ready(patience()).await.expect("all are ready");
        lab.wait_in_sync(patience()).await.expect("all are in sync");
    };
    let longest = Box::pin(write_through(&lab, "eu-west", async {
        for region in REGIONS {
            for node in lab.node_ids(region).expect("a region") {
                lab.stop_node(node.as_str()).await.expect("ends");
                started(node.as_str()).await;
            }
            lab.replicator(region).expect("a region").stop(patience()).await.expect("ends");
            started(region).await;
            let name = format!("directory-{region}");
            let directory = lab.directories().find(|directory| directory.name() == name);
            directory.expect("a replica in each region").stop(patience()).await.expect("ends");
            started(region).await;
        }
    }))
    .await;
    println!("the longest wait for an ack was {:.2} s", longest.as_secs_f64());
    lab.stop().await.expect("stops");
}
