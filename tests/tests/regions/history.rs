//! History is served by any replica, with or without the home.

use crate::PROGRAM;
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    session::{connect, history, message, open_group, send},
};

const MESSAGES: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn history_is_the_same_from_every_region_with_the_home_cut_off() {
    let lab = start(options(PROGRAM)).await;
    let names = ["ann", "ben", "cem"];
    let mut founder = connect(&lab.edge("us-east").expect("a region"), names[0]).await.expect("connects");
    let log = open_group(&mut founder, &names[1..]).await.expect("opens");
    for number in 0..MESSAGES {
        let mut message = message(&log, &format!("message {number}"));
        // The last one is answered when everything is in every in-sync region.
        if number + 1 == MESSAGES {
            message.ack = proto::client::AckPolicy::Replicated.into();
        }
        send(&mut founder, message).await.expect("is acked");
    }

    lab.cut("us-east", "eu-west", false).expect("cuts");
    lab.cut("us-east", "ap-south", false).expect("cuts");
    let mut histories = Vec::new();
    for (region, name) in REGIONS.iter().zip(names) {
        let edge = lab.edge(region).expect("a region");
        let read = eventually(region, patience(), async || {
            let mut reader = connect(&edge, name).await?;
            let entries = history(&mut reader, &log).await?;
            anyhow::ensure!(entries.len() == MESSAGES + 1, "{} entries", entries.len());
            Ok(entries)
        });
        histories.push(read.await);
    }
    assert_eq!(histories[0], histories[1]);
    assert_eq!(histories[0], histories[2]);
    lab.stop().await.expect("stops");
}
