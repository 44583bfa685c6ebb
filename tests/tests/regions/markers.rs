//! What is deleted by its author, and what has expired, leaves every disk of every region: also what a lost region had
//! taken in alone, and has archived since it came back.

use crate::{PROGRAM, effects::holders};
use anyhow::ensure;
use client::bare::Connection;
use lab::Lab;
use proto::{
    client::{self as wire, AckPolicy, client_frame::Frame},
    node::{ArchivesRequest, salvage_client::SalvageClient},
};
use std::time::Duration;
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::same_everywhere,
    placing::{home_of, pin_of, row, successor},
    session::{connect, message, open_group, send},
};
use uuid::Uuid;

/// How long messages stay in the chat that lets them expire.
const EXPIRY: Duration = Duration::from_secs(4);

fn marker(log: &str, of: &str) -> wire::Send {
    message(log, &format!("{of} {}", Uuid::new_v4()))
}

async fn replicated(session: &mut Connection, marker: &wire::Send) {
    let safe = wire::Send { ack: AckPolicy::Replicated.into(), ..marker.clone() };
    send(session, safe).await.expect("is replicated");
}

/// Its author takes a message away.
async fn delete(lab: &Lab, region: &str, marker: &wire::Send) {
    let reference = wire::Reference {
        sender: "ann".to_owned(),
        device: 1,
        message_id: marker.message_id.clone(),
        offset: 0,
    };
    let deletion = wire::DeleteMessages {
        log: marker.log.clone(),
        message_id: Uuid::now_v7().to_string(),
        messages: vec![reference],
    };
    eventually("a deletion", patience(), async || {
        let mut ann = connect(&lab.edge(region)?, "ann").await?;
        ann.ask(Frame::DeleteMessages(deletion.clone())).await?;
        Ok(())
    })
    .await;
}

async fn on_disks_of(lab: &Lab, marker: &wire::Send, regions: &[&str]) {
    eventually("the body is on these disks", patience(), async || {
        let held = holders(lab, &marker.ciphertext);
        ensure!(held == regions, "it is on those of {held:?}");
        Ok(())
    })
    .await;
}

/// Waits until all that a region has archived is settled.
async fn settled(lab: &Lab, region: &str) {
    eventually("archives are settled", patience(), async || {
        let mut node = SalvageClient::connect(lab.http(region)?).await?;
        let archives = node.archives(ArchivesRequest::default()).await?.into_inner().archives;
        ensure!(!archives.is_empty(), "nothing is archived yet");
        let is_settled =
            |archive: &proto::node::Archive| archive.last.unwrap_or_default().lsn == archive.settled_lsn;
        ensure!(archives.iter().all(is_settled), "{archives:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_or_has_expired_leaves_every_disk_and_every_archive() {
    let [home, near, far] = REGIONS;
    let mut options = options(PROGRAM);
    for (name, value) in [
        ("reclaim-interval-ms", 500),
        // Small files are looked through sooner.
        ("segment-bytes", 1024 * 1024),
        ("isr-lag-ms", 600_000),
    ] {
        options.overlay.node.insert(name.to_owned(), value.into());
    }
    let lab = start(options).await;
    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    let lasting = open_group(&mut ann, &["ben"]).await.expect("opens");
    let passing = open_group(&mut ann, &["ben"]).await.expect("opens");
    let deleted = marker(&lasting, "deleted");
    replicated(&mut ann, &deleted).await;
    let expiry = wire::ChangeSettings {
        log: passing.clone(),
        message_id: Uuid::now_v7().to_string(),
        change: Some(wire::SettingsChange {
            expiry_ms: Some(EXPIRY.as_millis() as u64),
            ..Default::default()
        }),
    };
    on_disks_of(&lab, &deleted, &REGIONS).await;
    ann.ask(Frame::ChangeSettings(expiry)).await.expect("is set");
    let expired = marker(&passing, "expired");
    replicated(&mut ann, &expired).await;
    delete(&lab, far, &deleted).await;
    for marker in [&deleted, &expired] {
        on_disks_of(&lab, marker, &[]).await;
    }

    // What the home alone has, when it is lost. Nothing was heard of the first session for long.
    let mut ann = connect(&lab.edge(home).expect("a region"), "ann").await.expect("connects");
    for other in [near, far] {
        lab.cut(home, other, false).expect("is cut");
    }
    let (deleted_later, expired_later) = (marker(&lasting, "archived"), marker(&passing, "archived"));
    let mut rows = Vec::new();
    for marker in [&deleted_later, &expired_later] {
        let pin = pin_of(&lab, &marker.log).await.expect("a pin");
        let before = row(&lab, pin.partition).await.expect("a row");
        assert_eq!(*home_of(&before), lab.node_id(home).expect("a region"));
        rows.push(before);
        let sent = send(&mut ann, marker.clone()).await.expect("is acked");
        assert_eq!(sent.ack(), AckPolicy::Home);
    }
    drop(ann);
    lab.kill(home).await.expect("is killed");
    on_disks_of(&lab, &deleted_later, &[home]).await;
    for before in rows {
        successor(&lab, before.partition.get(), before.epoch).await;
    }
    lab.heal();
    lab.restart(home).await.expect("starts");
    lab.wait_ready(patience()).await.expect("all are ready");
    settled(&lab, home).await;
    // It came back to the chat, and so to all disks.
    on_disks_of(&lab, &deleted_later, &REGIONS).await;
    delete(&lab, near, &deleted_later).await;
    for marker in [&deleted_later, &expired_later] {
        on_disks_of(&lab, marker, &[]).await;
    }
    for log in [&lasting, &passing] {
        let history = same_everywhere(&lab, &REGIONS, "ben", log).await;
        let has_body = |entry: &wire::Entry| matches!(entry.body, Some(wire::entry::Body::Ciphertext(_)));
        assert!(!history.iter().any(has_body), "{history:?}");
    }
    lab.stop().await.expect("stops");
}
