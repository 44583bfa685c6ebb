//! A replicator holds nothing: killed at any time, it goes on where the followers are.

use crate::PROGRAM;
use tests::{
    deployment::{options, patience, start},
    session::{connect, message, open_group, send},
};
use tokio::time::timeout;

const KILLS: usize = 4;
const MESSAGES_PER_KILL: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn replicated_acks_go_on_through_kills_of_every_replicator() {
    let lab = start(options(PROGRAM)).await;
    let mut founder = connect(&lab.edge("us-east").expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut founder, &["ben"]).await.expect("opens");
    for kill in 0..KILLS {
        for region in ["eu-west", "ap-south"] {
            lab.replicator(region).expect("a region").kill().await.expect("kills");
        }
        for number in 0..MESSAGES_PER_KILL {
            send(&mut founder, message(&log, &format!("{kill}.{number}"))).await.expect("is acked at home");
        }
        for region in ["eu-west", "ap-south"] {
            lab.replicator(region).expect("a region").start().await.expect("starts");
        }
        let mut last = message(&log, &format!("{kill} replicated"));
        last.ack = proto::client::AckPolicy::Replicated.into();
        last.deadline_ms = 60_000;
        let sent = timeout(patience(), send(&mut founder, last)).await.expect("in time").expect("is acked");
        assert_eq!(sent.ack(), proto::client::AckPolicy::Replicated);
    }
    lab.stop().await.expect("stops");
}
