//! When the copies of the in-sync set fall behind, the home slows its writers, and says why; a dead region slows nobody.

use crate::PROGRAM;
use anyhow::ensure;
use bytes::Bytes;
use client::{Client, Config};
use lab::{Lab, LinkChange, Options};
use proto::{client as wire, node::Pressure};
use std::{process::Stdio, time::Duration};
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    placing::{pin_of, row, status},
    session::{answers, connect, message, open_direct, send, send_ahead, user},
};
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    time::{Instant, timeout},
};
use types::DeviceId;
use uuid::Uuid;

const LAG_MS: i64 = 600;
const PRESSURE_MS: i64 = 1_000;
/// The same where nobody is to feel it: what is dead has left long before, on a busy machine, too.
const DEAD_PRESSURE_MS: i64 = 4_000;
/// What the link carries: less than is written, and enough for signs of life.
const NARROW_BYTES_PER_S: u64 = 6_000;
const BODY_BYTES: usize = 4 * 1024;
const AHEAD: usize = 40;
/// Shorter than acks at `home` are made to wait.
const PROMPT: Duration = Duration::from_millis(450);

fn brisk(mut options: Options, pressure_ms: i64) -> Options {
    options.partitions_per_region = Some(1);
    for (key, ms) in [("isr-lag-ms", LAG_MS), ("isr-pressure-ms", pressure_ms)] {
        options.overlay.node.insert(key.to_owned(), ms.into());
    }
    options
}

/// A message that does not compress.
fn large(log: &str) -> wire::Send {
    let noise: Vec<u8> = (0..BODY_BYTES / 16).flat_map(|_| Uuid::new_v4().into_bytes()).collect();
    wire::Send { ciphertext: Bytes::from(noise), ..message(log, "") }
}

fn narrow(lab: &Lab, bytes_per_s: u64) {
    let [home, other, _] = REGIONS;
    let change = LinkChange { bandwidth_bytes_per_s: Some(bytes_per_s), ..LinkChange::default() };
    lab.change_link(home, other, false, change).expect("there is a link");
}

/// Writes until the home refuses; answers what it said, and the ids of what was acked.
async fn pushed_back(lab: &Lab, log: &str, name: &str) -> (wire::Error, Vec<String>) {
    let mut session = connect(&lab.edge(REGIONS[0]).expect("a region"), name).await.expect("connects");
    let (until, mut first, mut acked) = (Instant::now() + patience(), 1_000, Vec::new());
    while Instant::now() < until {
        let messages: Vec<_> = (0..AHEAD).map(|_| large(log)).collect();
        send_ahead(&mut session, first, &messages).await.expect("they are sent");
        first += AHEAD as u64;
        let outcomes = answers(&mut session, AHEAD, patience()).await.expect("each has an answer");
        let mut refused = None;
        for (message, outcome) in messages.iter().zip(outcomes) {
            match outcome {
                Ok(_) => acked.push(message.message_id.clone()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if let Some(error) = refused {
            return (error, acked);
        }
    }
    panic!("nothing was refused, and {} were acked", acked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_whose_copies_fall_behind_slows_its_writers_and_says_how_far() {
    let [home, other, _] = REGIONS;
    let options = brisk(options(PROGRAM), PRESSURE_MS).with_regions([home, other]).expect("two regions");
    let lab = start(options).await;
    let edge = lab.edge(home).expect("a region");
    let mut ann = connect(&edge, "ann").await.expect("connects");
    let log = open_direct(&mut ann, "ben").await.expect("opens");
    let partition = pin_of(&lab, &log).await.expect("is pinned").partition;

    narrow(&lab, NARROW_BYTES_PER_S);
    let (refused, mut acked) = pushed_back(&lab, &log, "ann").await;
    assert_eq!(refused.code, "overloaded", "{refused:?}");
    assert!(refused.retry_after_ms > Some(0), "{refused:?}");
    let copies = format!("the copies of partition {partition} are ");
    let lag = refused.message.strip_prefix(&copies).and_then(|rest| rest.split_once(" ms behind: "));
    let lag_ms: i64 = lag.expect("it names the lag").0.parse().expect("in ms");
    assert!(lag_ms > PRESSURE_MS, "{refused:?}");
    let shown = status(&lab, home, partition).await.expect("answers");
    assert_eq!(shown.pressure(), Pressure::Full, "{shown:?}");

    // Neither the SDK nor `hearth send` fails: they write on when they may.
    let sdk =
        Client::connect(Config::new(vec![edge.clone()], user("ann"), DeviceId::new(7))).expect("settings");
    let chat = sdk.open_direct(&user("ben")).await.expect("opens");
    let sending = chat.send("by the SDK".to_owned()).await.expect("is taken");
    let by_sdk = sending.message_id().to_string();
    let mut command = Command::new(PROGRAM);
    command.args(["send", "--edge", &edge, "--as", "ann", "--with", "ben", "--ack", "home", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut sender = command.spawn().expect("the binary runs");
    let mut lines = sender.stdin.take().expect("its input");
    lines.write_all(b"one\ntwo\nthree\n").await.expect("it reads");
    drop(lines);
    let home_acked = sending.home();
    tokio::pin!(home_acked);
    let early = timeout(PROMPT, &mut home_acked).await;
    assert!(early.is_err(), "it waits: {early:?}");
    narrow(&lab, 0);
    timeout(patience(), home_acked).await.expect("in time").expect("is acked");
    let said = timeout(patience(), sender.wait_with_output()).await.expect("in time").expect("ends");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(String::from_utf8_lossy(&said.stdout).lines().count(), 3, "each is acked");
    acked.push(by_sdk);
    eventually("nothing is pushed back", patience(), async || {
        let shown = status(&lab, home, partition).await?;
        ensure!(shown.pressure() == Pressure::None, "{shown:?}");
        Ok(())
    })
    .await;
    let history = same_everywhere(&lab, &[home, other], "ben", &log).await;
    for id in &acked {
        place_of(&history, id);
    }
    lab.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_region_leaves_the_in_sync_set_and_slows_nobody() {
    let [home, _, dead] = REGIONS;
    let lab = start(brisk(options(PROGRAM), DEAD_PRESSURE_MS)).await;
    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_direct(&mut ann, "ben").await.expect("opens");
    let partition = pin_of(&lab, &log).await.expect("is pinned").partition;
    lab.kill(dead).await.expect("it dies");
    let (died, mut left_at) = (Instant::now(), None);
    let dead = lab.node_id(dead).expect("a region");
    // Far beyond the lag at which a living member would slow them.
    while died.elapsed() < Duration::from_millis(DEAD_PRESSURE_MS.unsigned_abs() * 2) || left_at.is_none() {
        send(&mut ann, message(&log, "on it goes")).await.expect("no write fails");
        let shown = status(&lab, home, partition).await.expect("answers");
        assert_eq!(shown.pressure(), Pressure::None, "{shown:?}");
        let row = row(&lab, partition).await.expect("a row");
        if row.isr.iter().all(|member| member.node != dead) {
            left_at = left_at.or_else(|| Some(died.elapsed()));
        }
        assert!(died.elapsed() < patience(), "it is in the in-sync set: {row:?}");
    }
    println!("it left the in-sync set {:?} after its death", left_at.expect("it did"));
    lab.stop().await.expect("stops");
}
