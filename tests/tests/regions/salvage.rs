//! What a lost region had acked comes back with its disk: once, in order, marked, whoever else sends it again.

use crate::PROGRAM;
use anyhow::ensure;
use client::{Client, Config};
use lab::Lab;
use proto::{
    client::{self as wire, AckPolicy},
    node::{ArchivesRequest, salvage_client::SalvageClient},
};
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    placing::{home_of, log_id, pin_of, row, successor},
    session::{connect, history, message, open_group, send, user},
};
use types::DeviceId;

/// Messages of each sender that only the home has acked.
const UNDONE: usize = 20;
/// The chat's creation and one replicated message.
const COMMON: usize = 2;

/// Waits until everything that the returned region has archived is settled; answers how much of it was refused.
async fn settled(lab: &Lab, region: &str) -> u64 {
    eventually("archives are settled", patience(), async || {
        let mut node = SalvageClient::connect(lab.http(region)?).await?;
        let reply = node.archives(ArchivesRequest::default()).await?.into_inner();
        ensure!(!reply.archives.is_empty(), "nothing is archived yet");
        for archive in &reply.archives {
            let last = archive.last.unwrap_or_default().lsn;
            ensure!(archive.settled_lsn == last, "{archive:?} is not settled");
        }
        Ok(reply.archives.iter().map(|archive| archive.refused).sum())
    })
    .await
}

/// Waits until a region tells so many entries of a chat.
async fn until_held(lab: &Lab, region: &str, log: &str, entries: usize) {
    eventually("a region tells the whole chat", patience(), async || {
        let mut reader = connect(&lab.edge(region)?, "dan").await?;
        let held = history(&mut reader, log).await?.len();
        ensure!(held >= entries, "{region} tells {held} entries of {entries}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_region_had_acked_comes_back_once_and_marked() {
    let [home, near, far] = REGIONS;
    let mut options = options(PROGRAM);
    options.overlay.node.insert("isr-lag-ms".to_owned(), 600_000.into());
    let lab = start(options).await;
    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben", "cem", "dan"]).await.expect("opens");
    let safe = wire::Send { ack: AckPolicy::Replicated.into(), ..message(&log, "safe") };
    send(&mut ann, safe).await.expect("is replicated");
    let pin = pin_of(&lab, &log).await.expect("is pinned");
    let before = row(&lab, pin.partition).await.expect("a row");
    assert_eq!(*home_of(&before), lab.node_id(home).expect("a region"));

    // Cem's device knows the lost region only, ben's has another as well: one sends again while the archive
    // is put back, the other before.
    let sdk = async |name: &str, edges: &[&str]| {
        let edges = edges.iter().map(|region| lab.edge(region).expect("a region"));
        Client::connect(Config::new(edges, user(name), DeviceId::new(7))).expect("good settings")
    };
    let (ben, cem) = (sdk("ben", &[home, near]).await, sdk("cem", &[home]).await);
    for other in [near, far] {
        lab.cut(home, other, false).expect("is cut");
    }
    let mut gone = Vec::new();
    for number in 0..UNDONE {
        let message = message(&log, &format!("of a device that is gone {number}"));
        let acked = send(&mut ann, message.clone()).await.expect("is acked");
        assert_eq!(acked.ack(), AckPolicy::Home);
        gone.push(message.message_id);
        for (client, name) in [(&ben, "ben"), (&cem, "cem")] {
            client.chat(log_id(&log)).send(format!("{name} {number}")).await.expect("is accepted");
        }
    }
    let whole = COMMON + 3 * UNDONE;
    until_held(&lab, home, &log, whole).await;
    drop(ann);

    lab.kill(home).await.expect("is killed");
    successor(&lab, pin.partition, before.epoch).await;
    lab.heal();
    let outbox = COMMON + UNDONE;
    until_held(&lab, near, &log, outbox).await;
    lab.restart(home).await.expect("starts");
    lab.wait_ready(patience()).await.expect("all are ready");
    assert_eq!(settled(&lab, home).await, 0, "nothing is refused");
    until_held(&lab, near, &log, whole).await;
    lab.wait_in_sync(patience()).await.expect("every copy is in sync");
    let history = same_everywhere(&lab, &REGIONS, "dan", &log).await;
    assert_eq!(history.len(), whole, "each message once");
    let back: Vec<&wire::Entry> = gone.iter().map(|id| place_of(&history, id)).collect();
    assert!(back.iter().all(|entry| entry.salvaged), "each is marked");
    assert!(back.is_sorted_by_key(|entry| entry.offset), "in the order of their first acks");
    let of = |name: &str| history.iter().filter(|entry| entry.sender == name).collect::<Vec<_>>();
    assert!(of("ben").iter().all(|entry| !entry.salvaged), "ben's own device was first");
    for name in ["ben", "cem"] {
        let said: Vec<String> =
            of(name).iter().map(|entry| String::from_utf8_lossy(ciphertext(entry)).into_owned()).collect();
        let sent: Vec<String> = (0..UNDONE).map(|number| format!("{name} {number}")).collect();
        assert_eq!(said, sent, "what {name} sent, in order");
    }
    lab.stop().await.expect("stops");
}

fn ciphertext(entry: &wire::Entry) -> &[u8] {
    match &entry.body {
        Some(wire::entry::Body::Ciphertext(ciphertext)) => ciphertext,
        other => panic!("no message: {other:?}"),
    }
}
