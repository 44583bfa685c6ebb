//! A copy that has lost its data, or whose store is damaged, is filled while people write, and is in sync again.

use crate::PROGRAM;
use client::bare::Connection;
use lab::Lab;
use proto::client as wire;
use std::{fs, path::PathBuf, sync::Arc};
use tests::{
    deployment::{REGIONS, options, patience, start},
    history::{place_of, same_everywhere},
    session::{connect, message, open_group, send},
};
use tokio_util::sync::CancellationToken;

/// Messages that are there before a copy is lost, and their size: more than memory keeps for followers.
const BEFORE: usize = 400;
const BODY_BYTES: usize = 16 * 1024;

fn large(log: &str) -> wire::Send {
    wire::Send { ciphertext: vec![7; BODY_BYTES].into(), ..message(log, "") }
}

/// Writes without pause until it is told to end; answers the ids of what was acked.
async fn keep_writing(mut session: Connection, log: String, end: CancellationToken) -> Vec<String> {
    let mut acked = Vec::new();
    while !end.is_cancelled() {
        let message = message(&log, "meanwhile");
        send(&mut session, message.clone()).await.expect("is acked");
        acked.push(message.message_id);
    }
    acked
}

/// Where a region's node keeps what it has.
fn data_of(lab: &Lab, region: &str) -> PathBuf {
    lab.dir().join("data").join(format!("node-{}", lab.node_id(region).expect("a region")))
}

/// Kills a region's node, does something to its store, starts it under load, and waits until it is in sync.
async fn lose(lab: &Arc<Lab>, log: &str, hurt: impl FnOnce(PathBuf)) -> Vec<String> {
    let [home, _, far] = REGIONS;
    lab.kill(far).await.expect("is killed");
    hurt(data_of(lab, far).join("log"));
    let session = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let end = CancellationToken::new();
    let writing = tokio::spawn(keep_writing(session, log.to_owned(), end.clone()));
    lab.restart(far).await.expect("starts");
    lab.wait_ready(patience()).await.expect("all are ready");
    lab.wait_in_sync(patience()).await.expect("every copy is in sync");
    end.cancel();
    writing.await.expect("writes went on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_and_a_damaged_copy_are_filled_while_people_write() {
    let [home, _, far] = REGIONS;
    let mut options = options(PROGRAM);
    options.overlay.node.insert("refill-bytes-per-s".to_owned(), 8_000_000.into());
    let lab = Arc::new(start(options).await);
    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["dan"]).await.expect("opens");
    let mut acked = Vec::new();
    for _ in 0..BEFORE {
        let message = large(&log);
        send(&mut ann, message.clone()).await.expect("is acked");
        acked.push(message.message_id);
    }
    acked.extend(lose(&lab, &log, |folder| fs::remove_dir_all(folder).expect("a store")).await);
    let data = data_of(&lab, far);
    let damage = |folder: PathBuf| {
        let segments = fs::read_dir(&folder).expect("a store").map(|entry| entry.expect("a file").path());
        let first = segments.filter(|path| path.extension().is_some_and(|end| end == "segment")).min();
        let first = first.expect("a segment");
        let mut bytes = fs::read(&first).expect("readable");
        bytes[..32].fill(0xFF);
        fs::write(&first, bytes).expect("writable");
    };
    acked.extend(lose(&lab, &log, damage).await);
    let names = fs::read_dir(&data).expect("a folder").map(|entry| entry.expect("a file").file_name());
    let aside = names.filter(|name| name.to_string_lossy().starts_with("log.damaged-")).count();
    assert_eq!(aside, 1, "the damaged store is kept for those who want to look");
    let history = same_everywhere(&lab, &REGIONS, "dan", &log).await;
    for id in &acked {
        place_of(&history, id);
    }
    assert_eq!(history.len(), 1 + acked.len());
    Arc::into_inner(lab).expect("nobody else holds it").stop().await.expect("stops");
}
