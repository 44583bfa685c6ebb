//! Writes through an edge elsewhere outlive their home: they wait there for the next one.

use crate::PROGRAM;
use client::bare::Connection;
use proto::client::{self as wire, AckPolicy};
use std::time::{Duration, Instant};
use tests::{
    deployment::{REGIONS, options, patience, start},
    history::{place_of, same_everywhere},
    session::{answers, connect, message, open_group, position, send, send_ahead},
};

/// Writes of each session before the kill, and again after it.
const MESSAGES: usize = 50;

fn messages(log: &str, name: &str, when: &str) -> Vec<wire::Send> {
    let numbered = |number| {
        let mut message = message(log, &format!("{name} {when} {number}"));
        message.ack = AckPolicy::Replicated.into();
        message.deadline_ms = 60_000;
        message
    };
    (0..MESSAGES).map(numbered).collect()
}

/// All of a session's writes are acked; answers each one's position, and when the last one came.
async fn all_acked(mut session: Connection, since: Instant) -> (Vec<wire::Sent>, Duration) {
    let outcomes = answers(&mut session, 2 * MESSAGES, patience()).await.expect("every write is answered");
    let acked: Result<Vec<wire::Sent>, wire::Error> = outcomes.into_iter().collect();
    (acked.expect("none fails"), since.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_through_other_regions_wait_for_the_new_home_and_none_fails() {
    let lab = start(options(PROGRAM)).await;
    let [home, near, far] = REGIONS;
    let mut founder = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut founder, &["ben", "cem"]).await.expect("opens");

    let mut writers = Vec::new();
    for (region, name) in [(near, "ben"), (far, "cem")] {
        let mut session = connect(&lab.edge(region).expect("a region"), name).await.expect("connects");
        send(&mut session, message(&log, &format!("{name} is here"))).await.expect("is acked");
        writers.push((name, session));
    }

    let mut sent = Vec::new();
    for (name, session) in &mut writers {
        let first = messages(&log, name, "before");
        send_ahead(session, 1, &first).await.expect("are sent");
        sent.push(first);
    }
    lab.kill(home).await.expect("is killed");
    let killed = Instant::now();
    for ((name, session), sent) in writers.iter_mut().zip(&mut sent) {
        sent.extend(messages(&log, name, "after"));
        send_ahead(session, MESSAGES as u64 + 1, &sent[MESSAGES..]).await.expect("are sent");
    }

    let waiting: Vec<_> =
        writers.into_iter().map(|(name, session)| (name, tokio::spawn(all_acked(session, killed)))).collect();
    let mut acked = Vec::new();
    for (name, waiting) in waiting {
        let (sents, took) = waiting.await.expect("no panic");
        println!("{name}: {} writes acked, the last {} ms after the kill", sents.len(), took.as_millis());
        acked.push(sents);
    }

    let told = same_everywhere(&lab, &[near, far], "ben", &log).await;
    for (sent, acked) in sent.iter().zip(&acked) {
        let mut before = 0;
        for (message, ack) in sent.iter().zip(acked) {
            let entry = place_of(&told, &message.message_id);
            assert_eq!((&entry.position, entry.offset), (&ack.position, ack.offset));
            assert!(entry.offset > before, "one sender's messages keep their order");
            before = entry.offset;
        }
        let last = acked.last().expect("there are some");
        assert!(position(&log, &last.position).epoch.get() > 1, "the last ones were written by the new home");
    }
    assert_eq!(told.len(), 1 + 2 + 4 * MESSAGES, "and nothing else is in the log");
    lab.stop().await.expect("stops");
}
