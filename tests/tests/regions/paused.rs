//! A home that stood still past its lease owes its clients the truth: none of what it held is acked at `home`.

use crate::PROGRAM;
use client::bare::Connection;
use lab::{DIRECTORY, Lab};
use proto::{
    client::{self as wire, AckPolicy},
    log::AckPolicy as LogAck,
    node::peer_reply::Reply,
};
use std::collections::BTreeMap;
use tests::{
    deployment::{REGIONS, lease, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    hold::{Point, Switches},
    peer::Peer,
    placing::{home_of, pin_of, row, successor},
    session::{Outcome, answers, connect, message, open_group, position, send, send_ahead},
};
use types::Epoch;

/// Writes that a peer has under way at the home.
const BY_PEER: usize = 120;
/// Writes of a session at the home's own edge.
const AT_EDGE: usize = 80;

fn messages(log: &str, count: usize, what: &str) -> Vec<wire::Send> {
    let patient = |number| wire::Send {
        ack: AckPolicy::Home.into(),
        deadline_ms: 60_000,
        ..message(log, &format!("{what} {number}"))
    };
    (0..count).map(patient).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_paused_before_the_append_acks_nothing_once_its_lease_is_over() {
    pause_past_the_lease(Point::BeforeAppend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_paused_between_sync_and_ack_acks_nothing_once_its_lease_is_over() {
    pause_past_the_lease(Point::BeforeAck).await;
}

async fn pause_past_the_lease(point: Point) {
    let mut options = options(PROGRAM);
    let switches = Switches::lay_into(&mut options);
    // Nobody leaves the in-sync set while the links are cut.
    options.overlay.node.insert("isr-lag-ms".to_owned(), 600_000.into());
    let lab = start(options).await;
    let [home, near, far] = REGIONS;
    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben", "cem"]).await.expect("opens");
    let pin = pin_of(&lab, &log).await.expect("is pinned");
    let before = row(&lab, pin.partition).await.expect("a row");
    assert_eq!(*home_of(&before), lab.node_id(home).expect("a region"));

    // Nothing of what follows is copied, so nothing of it can become `replicated`.
    for other in [near, far] {
        lab.cut(home, other, false).expect("is cut");
    }
    switches.hold(point);
    let by_peer = messages(&log, BY_PEER, "by a peer");
    let mut peer = Peer::open(lab.http(home).expect("a region")).await.expect("opens");
    for (request_id, message) in (1..).zip(&by_peer) {
        peer.append(request_id, &pin, "ann", message).await.expect("is sent");
    }
    let at_edge = messages(&log, AT_EDGE, "at the edge");
    let mut ben = connect(&lab.edge(home).expect("a region"), "ben").await.expect("connects");
    send_ahead(&mut ben, 1, &at_edge).await.expect("are sent");
    let node = lab.node(home).expect("a region");
    eventually("the home holds all", patience(), async || {
        let held = switches.held(point);
        anyhow::ensure!(held == BY_PEER + AT_EDGE, "{held} are held");
        Ok(())
    })
    .await;
    node.pause().await.expect("is paused");
    // It will not hear of what happens meanwhile: it has nothing but its own clock.
    lab.cut(home, DIRECTORY, false).expect("is cut");
    switches.let_go(point);

    let after = successor(&lab, pin.partition, before.epoch).await;
    let mut cem = connect(&lab.edge(near).expect("a region"), "cem").await.expect("connects");
    let next = send(&mut cem, messages(&log, 1, "meanwhile").remove(0)).await.expect("the new home acks");
    assert!(position(&log, &next.position).epoch >= after.epoch);
    node.resume().await.expect("goes on");
    peer.hears_nothing(lease()).await.expect("replies are held back while the lease may yet be renewed");
    lab.heal();

    none_is_acked(&mut peer).await;
    let ended = answers(&mut ben, AT_EDGE, patience()).await.expect("every write is answered");
    let acked = acked_by_the_successor(&log, before.epoch, ended);
    println!(
        "{point:?}: {} of {AT_EDGE} writes at the old home's edge were acked by the new one",
        acked.len()
    );

    let resent = resend(&lab, near, "ann", &by_peer).await;
    let told = same_everywhere(&lab, &REGIONS, "cem", &log).await;
    for sent in acked.iter().chain(&resent).chain([&next]) {
        assert_eq!(place_of(&told, &sent.message_id).position, sent.position);
    }
    lab.stop().await.expect("stops");
}

/// The old home's own answers.
async fn none_is_acked(peer: &mut Peer) {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for answer in peer.answers(BY_PEER, patience()).await.expect("every write is answered") {
        let kind = match answer {
            Reply::Appended(appended) => format!("acked at {:?} in epoch {}", appended.ack(), appended.epoch),
            Reply::Refused(refused) => refused.code,
            Reply::NotHome(_) => "not home".to_owned(),
            other => panic!("an append was answered by {other:?}"),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    println!("a peer of the old home was told: {kinds:?}");
    let acked = kinds.keys().find(|kind| kind.contains(&format!("{:?}", LogAck::Home)));
    assert_eq!(acked, None, "acked past the lease");
}

/// What was acked at last, all of it in a later epoch: the old home's records were never copied.
fn acked_by_the_successor(log: &str, old: Epoch, ended: Vec<Outcome>) -> Vec<wire::Sent> {
    let mut acked = Vec::new();
    for outcome in ended {
        match outcome {
            Ok(sent) => {
                let at = position(log, &sent.position);
                assert!(at.epoch > old, "{sent:?} was acked by the old home: {at:?}");
                acked.push(sent);
            }
            Err(error) => assert!(error.retryable, "{error:?}"),
        }
    }
    acked
}

/// The sender's device is still there and says all of it again.
async fn resend(lab: &Lab, region: &str, name: &str, messages: &[wire::Send]) -> Vec<wire::Sent> {
    let mut session: Connection =
        connect(&lab.edge(region).expect("a region"), name).await.expect("connects");
    send_ahead(&mut session, 1, messages).await.expect("are sent");
    let ended = answers(&mut session, messages.len(), patience()).await.expect("every write is answered");
    ended.into_iter().collect::<Result<_, _>>().expect("each is acked")
}
