//! `replicated` is said of nothing that only one region holds.

use crate::PROGRAM;
use client::bare::{BareError, Connection};
use proto::client::{self as wire, AckPolicy, server_frame::Frame as Answer};
use std::time::{Duration, Instant};
use tests::{
    deployment::{REGIONS, lease, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    placing::{pin_of, row, status},
    session::{connect, follow, message, open_group, send},
};
use tokio::time::timeout;

/// Acks at `home` while nothing is copied.
const MESSAGES: u64 = 40;
/// A follower that is so far behind is taken out of the in-sync set where that is allowed.
const ISR_LAG_MS: i64 = 500;

/// Everything that a session is told until nothing has come for `quiet`.
async fn told(session: &mut Connection, quiet: Duration) -> Vec<Answer> {
    let mut frames = Vec::new();
    while let Ok(frame) = timeout(quiet, session.next()).await {
        frames.extend(frame.expect("the session goes on").frame);
    }
    frames
}

fn replicated_up_to(frames: &[Answer]) -> u64 {
    let offsets = frames.iter().filter_map(|frame| match frame {
        Answer::Replicated(up_to) => Some(up_to.offset),
        _ => None,
    });
    offsets.max().unwrap_or(0)
}

fn with_ack(log: &str, body: &str, ack: AckPolicy, deadline: Duration) -> wire::Send {
    let deadline_ms = u32::try_from(deadline.as_millis()).expect("a short time");
    wire::Send { ack: ack.into(), deadline_ms, ..message(log, body) }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_replicated_while_one_region_holds_it() {
    let mut options = options(PROGRAM);
    options.overlay.node.insert("isr-lag-ms".to_owned(), ISR_LAG_MS.into());
    // Nobody slows the writers meanwhile.
    options.overlay.node.insert("isr-pressure-ms".to_owned(), 600_000.into());
    let lab = start(options).await;
    let [home, near, far] = REGIONS;
    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    let partition = pin_of(&lab, &log).await.expect("is pinned").partition;
    send(&mut ann, with_ack(&log, "safe", AckPolicy::Replicated, patience())).await.expect("is replicated");
    lab.wait_in_sync(patience()).await.expect("every copy is in sync");
    let held = status(&lab, home, partition).await.expect("a status").watermark;

    let mut followers = Vec::new();
    for region in [home, near] {
        let mut follower = connect(&lab.edge(region).expect("a region"), "ben").await.expect("connects");
        follow(&mut follower, &log, "").await.expect("follows");
        followers.push(follower);
    }
    for region in [near, far] {
        lab.replicator(region).expect("a region").pause().await.expect("is paused");
    }

    let stalled = Instant::now();
    let unsure = with_ack(&log, "is it safe?", AckPolicy::Replicated, lease());
    match send(&mut ann, unsure.clone()).await {
        Err(BareError::Refused(error)) => assert!(error.indeterminate && error.retryable, "{error:?}"),
        other => panic!("acked at replicated by one region: {other:?}"),
    }
    println!("a write at `replicated` was answered `indeterminate` after {:?}", stalled.elapsed());
    let mut slowest = Duration::ZERO;
    for number in 0..MESSAGES {
        let began = Instant::now();
        let at_risk = with_ack(&log, &format!("at risk {number}"), AckPolicy::Home, patience());
        let acked = send(&mut ann, at_risk).await.expect("is acked at home");
        assert_eq!(acked.ack(), AckPolicy::Home, "{acked:?}");
        slowest = slowest.max(began.elapsed());
    }
    println!("{MESSAGES} acks at `home` while nothing was copied, the slowest after {slowest:?}");
    assert!(stalled.elapsed() > Duration::from_millis(2 * ISR_LAG_MS.unsigned_abs()), "the lag was noticed");

    let at_home = status(&lab, home, partition).await.expect("a status");
    assert_eq!(at_home.watermark, held, "the watermark stands");
    assert_eq!(at_home.at_risk_messages, MESSAGES);
    let written = at_home.last.expect("it holds records").lsn;
    assert!(written > held);
    for region in [near, far] {
        let copy = status(&lab, region, partition).await.expect("a status").last.expect("it holds records");
        assert_eq!(copy.lsn, held, "nothing was copied to {region}");
    }
    let set = row(&lab, partition).await.expect("a row");
    assert!(
        set.isr.len() - set.lost.len() >= 2,
        "the in-sync set never spans fewer than two regions: {set:?}"
    );
    for follower in &mut followers {
        let frames = told(follower, Duration::from_millis(300)).await;
        assert_eq!(replicated_up_to(&frames), 2, "no tick went past what two regions hold");
    }

    // One more region is enough: it joins again, and then the one that still lags leaves.
    lab.replicator(far).expect("a region").resume().await.expect("goes on");
    let resumed = Instant::now();
    eventually("the watermark moves", patience(), async || {
        let at_home = status(&lab, home, partition).await?;
        anyhow::ensure!(at_home.watermark >= written, "{at_home:?}, not yet {written}");
        Ok(())
    })
    .await;
    println!("all of it replicated {:?} after one replicator went on", resumed.elapsed());
    let again = send(&mut ann, wire::Send { deadline_ms: 60_000, ..unsure.clone() }).await.expect("is acked");
    assert_eq!(again.ack(), AckPolicy::Replicated);
    for follower in &mut followers {
        eventually_replicated(follower, MESSAGES + 3).await;
    }

    lab.replicator(near).expect("a region").resume().await.expect("goes on");
    lab.wait_in_sync(patience()).await.expect("every copy is in sync again");
    let told = same_everywhere(&lab, &REGIONS, "ben", &log).await;
    assert_eq!(place_of(&told, &unsure.message_id).offset, 3, "it was written once, at the first attempt");
    assert_eq!(told.len() as u64, MESSAGES + 3);
    lab.stop().await.expect("stops");
}

async fn eventually_replicated(session: &mut Connection, offset: u64) {
    let ticking = async {
        loop {
            if let Some(Answer::Replicated(up_to)) = session.next().await.expect("the session goes on").frame
                && up_to.offset >= offset
            {
                return;
            }
        }
    };
    timeout(patience(), ticking).await.expect("the tick comes");
}
