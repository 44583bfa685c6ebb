//! Clients that stop reading cost a bounded amount, and the others do not notice.

use crate::PROGRAM;
use client::bare::Connection;
use std::time::Duration;
use tests::{
    deployment::{options, patience, start},
    session::{connect, follow, message, open_group, receive, send, user},
};
use tokio::time::Instant;
use types::DeviceId;

const STALLED: u64 = 1_000;
const COST_MAX_KIB: u64 = 256;
/// Far more than a session may keep waiting: 2 MiB for each of the stalled.
const MESSAGES: usize = 64;
const BODY_BYTES: usize = 32 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_that_stop_reading_cost_at_most_256_kib_each() {
    let mut options = options(PROGRAM).with_regions(["us-east", "eu-west"]).expect("two regions");
    options.partitions_per_region = Some(1);
    let lab = start(options).await;
    let edge = lab.edge("us-east").expect("a region");
    let mut founder = connect(&edge, "ann").await.expect("connects");
    let log = open_group(&mut founder, &["ben"]).await.expect("opens");

    let mut stalled = Vec::new();
    for number in 0..STALLED {
        let device = DeviceId::new(1_000 + number);
        let mut session = Connection::open(&edge, &user("ben"), device, vec![]).await.expect("connects");
        follow(&mut session, &log, "").await.expect("follows");
        stalled.push(session);
    }
    let mut reader = connect(&edge, "ben").await.expect("connects");
    follow(&mut reader, &log, "").await.expect("follows");
    receive(&mut reader, 1, patience()).await.expect("the chat's creation");

    let pid = lab.node("us-east").expect("a region").state().pid().expect("runs");
    let before_kib = resident_kib(pid);
    let body = "x".repeat(BODY_BYTES);
    let mut slowest = Duration::ZERO;
    for _ in 0..MESSAGES {
        let sent = Instant::now();
        send(&mut founder, message(&log, &body)).await.expect("is acked");
        receive(&mut reader, 1, patience()).await.expect("is delivered to who reads");
        slowest = slowest.max(sent.elapsed());
    }
    let cost_kib = resident_kib(pid).saturating_sub(before_kib) / STALLED;
    println!("{cost_kib} KiB for each stalled client; the slowest delivery to who reads took {slowest:?}");
    assert!(cost_kib <= COST_MAX_KIB, "{cost_kib} KiB for each stalled client");
    drop(stalled);
    lab.stop().await.expect("stops");
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}
