//! A disk that gives back something else than was written, under a node that runs.

use crate::{PROGRAM, rehoming::Writer};
use client::bare::Connection;
use lab::{Lab, process::State};
use std::{fs, path::PathBuf};
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    placing::{home_of, pin_of, row},
    session::{connect, history, message, open_group, send, user},
};
use types::DeviceId;

fn data_of(lab: &Lab, region: &str) -> PathBuf {
    lab.dir().join("data").join(format!("node-{}", lab.node_id(region).expect("a region")))
}

/// Flips a bit of these bytes in a region's store.
fn flip(lab: &Lab, region: &str, bytes: &[u8]) {
    let files = fs::read_dir(data_of(lab, region).join("log")).expect("a store");
    for path in files.map(|file| file.expect("a file").path()).filter(|path| path.is_file()) {
        let mut held = fs::read(&path).expect("readable");
        if let Some(at) = held.windows(bytes.len()).position(|window| window == bytes) {
            held[at] ^= 1;
            let file = fs::OpenOptions::new().write(true).open(&path).expect("writable");
            std::os::unix::fs::FileExt::write_at(&file, &held[at..=at], at as u64).expect("written");
            return;
        }
    }
    panic!("{region} does not hold it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_reads_damage_gives_its_homes_away_and_is_filled_anew() {
    let lab = start(options(PROGRAM)).await;
    let [home, other, _] = REGIONS;
    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben", "cem"]).await.expect("opens");
    let old = message(&log, &format!("marker {}", uuid::Uuid::new_v4()));
    send(&mut ann, old.clone()).await.expect("is acked");
    let writer = Writer::start(&lab, other, "ben", &log).await;
    flip(&lab, home, &old.ciphertext);
    let mut reader =
        Connection::open(&lab.edge(home).expect("a region"), &user("cem"), DeviceId::new(2), vec![])
            .await
            .expect("connects");
    // What comes of the read matters less than that nothing wrong does.
    if let Ok(entries) = history(&mut reader, &log).await {
        place_of(&entries, &old.message_id);
    }
    eventually("the node has stepped down", patience(), async || {
        let state = lab.node(home)?.state();
        anyhow::ensure!(!matches!(state, State::Running { .. }), "{state:?}");
        Ok(())
    })
    .await;
    let partition = pin_of(&lab, &log).await.expect("a pin").partition;
    let now = row(&lab, partition).await.expect("a row");
    assert_ne!(
        *home_of(&now),
        lab.node_id(home).expect("a region"),
        "it was given away, and did not fail over"
    );
    assert!(now.waiting.is_empty(), "nobody waits for its lease: {:?}", now.waiting);
    lab.restart(home).await.expect("starts");
    lab.wait_ready(patience()).await.expect("all are ready");
    lab.wait_in_sync(patience()).await.expect("every copy is in sync");
    let (said, longest) = writer.stop().await;
    println!("{} messages were written meanwhile; the longest took {longest:?}", said.len());
    let names =
        fs::read_dir(data_of(&lab, home)).expect("a folder").map(|entry| entry.expect("a file").file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with("log.damaged-")).count(), 1);
    let history = same_everywhere(&lab, &REGIONS, "cem", &log).await;
    said.iter().chain([&old]).for_each(|message| drop(place_of(&history, &message.message_id).clone()));
    lab.stop().await.expect("stops");
}
