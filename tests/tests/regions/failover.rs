//! A killed home's chats accept writes again.

use crate::PROGRAM;
use bytes::Bytes;
use proto::directory::{GetPinsRequest, directory_client::DirectoryClient};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tests::{
    deployment::{patience, start, whole},
    eventually,
    session::{connect, message, open_group, send, user},
};
use tokio::time::Instant;
use types::{DeviceId, LogId};

/// Enough that each of the region's four partitions has one.
const CHATS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_of_a_killed_region_accepts_writes_again() {
    let lab = start(whole(PROGRAM)).await;
    let mut founder = connect(&lab.edge("us-east").expect("a region"), "ann").await.expect("connects");
    let mut chats = Vec::new();
    for _ in 0..CHATS {
        let log = open_group(&mut founder, &["ben"]).await.expect("opens");
        send(&mut founder, message(&log, "before")).await.expect("is acked");
        chats.push(log);
    }
    let partitions = partitions_of(&lab.directory_address(), &chats).await;
    let affected: BTreeSet<u32> = partitions.iter().copied().collect();
    assert!(affected.len() > 1, "the chats spread over partitions: {affected:?}");

    let survivor = lab.edge("eu-west").expect("a region");
    lab.kill("us-east").await.expect("kills");
    let died = Instant::now();
    let writers: Vec<_> = chats
        .into_iter()
        .zip(partitions)
        .enumerate()
        .map(|(number, (log, partition))| {
            let survivor = survivor.clone();
            tokio::spawn(async move {
                // One device per chat: each session is its own.
                let device = DeviceId::new(100 + number as u64);
                let after = message(&log, "after");
                eventually("a write", patience(), async || {
                    let mut session =
                        client::bare::Connection::open(&survivor, &user("ben"), device, vec![]).await?;
                    Ok(send(&mut session, after.clone()).await?)
                })
                .await;
                (partition, died.elapsed())
            })
        })
        .collect();
    let mut first_ack: BTreeMap<u32, Duration> = BTreeMap::new();
    for writer in writers {
        let (partition, after) = writer.await.expect("writes");
        let first = first_ack.entry(partition).or_insert(after);
        *first = (*first).min(after);
    }
    let mut by_time: Vec<_> = first_ack.into_iter().collect();
    by_time.sort_by_key(|(_, after)| *after);
    for (partition, after) in &by_time {
        println!("partition {partition} accepts writes {:.2} s after the kill", after.as_secs_f64());
    }
    assert_eq!(by_time.len(), affected.len(), "every affected partition is written to");
    lab.stop().await.expect("stops");
}

async fn partitions_of(directory: &str, chats: &[String]) -> Vec<u32> {
    let logs = chats
        .iter()
        .map(|chat| Bytes::copy_from_slice(&chat.parse::<LogId>().expect("a log id").to_bytes()))
        .collect();
    let mut directory = DirectoryClient::connect(directory.to_owned()).await.expect("the directory answers");
    let pins = directory.get_pins(GetPinsRequest { logs }).await.expect("pins").into_inner().pins;
    pins.iter().map(|pin| pin.segments.last().expect("the log is pinned").partition).collect()
}
