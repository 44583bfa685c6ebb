//! What is deleted in an earlier partition of a chat leaves every disk, whoever dies meanwhile.

use crate::{PROGRAM, rehoming::homed_in};
use client::bare::Connection;
use lab::Lab;
use proto::{
    client::{Send, entry::Body},
    node::peer_reply::Reply,
};
use std::{fs, path::Path};
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    peer::Peer,
    placing::{home_of, pin_of, row, successor},
    session::{connect, history, message, open_group, position, send, user},
};
use types::DeviceId;

/// Whether a file below a folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return holds(&path, bytes);
        }
        // A file that has gone meanwhile holds nothing.
        fs::read(&path).is_ok_and(|held| held.windows(bytes.len()).any(|window| window == bytes))
    })
}

/// The regions on whose disks these bytes are.
pub(crate) fn holders(lab: &Lab, bytes: &[u8]) -> Vec<&'static str> {
    let data = |region: &&str| {
        lab.dir().join("data").join(format!("node-{}", lab.node_id(region).expect("a region")))
    };
    REGIONS.into_iter().filter(|region| holds(&data(region), bytes)).collect()
}

/// Has the chat's home delete what stands at an offset.
async fn delete(lab: &Lab, log: &str, offset: u64) {
    let deletion = Send { deadline_ms: 5_000, ..message(log, "a deletion") };
    eventually("the deletion", patience(), async || {
        let pin = pin_of(lab, log).await?;
        let row = row(lab, pin.partition).await?;
        let region = REGIONS.iter().find(|region| lab.node_id(region).is_ok_and(|id| id == *home_of(&row)));
        let mut peer = Peer::open(lab.http(region.expect("a home in a region"))?).await?;
        peer.delete(1, &pin, "ann", &deletion, vec![offset]).await?;
        match peer.answers(1, patience()).await?.pop() {
            Some(Reply::Appended(_)) => Ok(()),
            other => anyhow::bail!("answered by {other:?}"),
        }
    })
    .await;
}

async fn rehome(lab: &Lab, log: &str, region: &str, generation: u32) {
    crate::rehoming::begin(lab, log, region).await.expect("is begun");
    assert_eq!(homed_in(lab, log, generation).await, region);
}

/// Waits until the bytes are on no disk, and every region shows that something stood there.
async fn gone(lab: &Lab, log: &str, of: &Send) {
    eventually("the body has left every disk", patience(), async || {
        let left = holders(lab, &of.ciphertext);
        anyhow::ensure!(left.is_empty(), "still held in {left:?}");
        for region in REGIONS {
            let mut session =
                Connection::open(&lab.edge(region)?, &user("ben"), DeviceId::new(4), vec![]).await?;
            let entries = history(&mut session, log).await?;
            let entry = entries.iter().find(|entry| entry.message_id == of.message_id);
            let body = entry.and_then(|entry| entry.body.clone());
            anyhow::ensure!(matches!(body, Some(Body::Erased(_))), "{region} shows {body:?}");
        }
        Ok(())
    })
    .await;
}

/// Waits until a region that is home of the log has the deletion of an offset in it, replicated or not.
async fn written(lab: &Lab, home: &str, log: &str, offset: u64) {
    eventually("the home has written the deletion", patience(), async || {
        let mut session = Connection::open(&lab.edge(home)?, &user("ben"), DeviceId::new(4), vec![]).await?;
        let entries = history(&mut session, log).await?;
        let deletes = |body: &Body| matches!(body, Body::Deleted(deleted) if deleted.offsets == [offset]);
        anyhow::ensure!(entries.iter().filter_map(|entry| entry.body.as_ref()).any(deletes));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_in_an_earlier_partition_takes_the_body_off_every_disk() {
    let [one, two, three] = REGIONS;
    let mut options = options(PROGRAM);
    options.overlay.node.insert("reclaim-interval-ms".to_owned(), 500.into());
    // Small files are looked through sooner.
    options.overlay.node.insert("segment-bytes".to_owned(), (1024 * 1024).into());
    let lab = start(options).await;
    let mut ann = connect(&lab.edge(one).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    let (mut old, mut offsets) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let said = message(&log, &format!("marker {number} {}", uuid::Uuid::new_v4()));
        let sent = send(&mut ann, said.clone()).await.expect("is acked");
        offsets.push(position(&log, &sent.position).offset.get());
        old.push(said);
    }
    eventually("every region has them", patience(), async || {
        anyhow::ensure!(old.iter().all(|said| holders(&lab, &said.ciphertext).len() == REGIONS.len()));
        Ok(())
    })
    .await;
    rehome(&lab, &log, two, 2).await;
    delete(&lab, &log, offsets[0]).await;
    gone(&lab, &log, &old[0]).await;

    // The chat's home dies right behind the ack, before it can have heard that the body is erased elsewhere.
    let pin = pin_of(&lab, &log).await.expect("a pin");
    let epoch = row(&lab, pin.partition).await.expect("a row").epoch;
    lab.pause(one).await.expect("pauses");
    tokio::join!(delete(&lab, &log, offsets[1]), async {
        written(&lab, two, &log, offsets[1]).await;
        lab.resume(one).await.expect("goes on");
    });
    lab.kill(two).await.expect("is killed");
    successor(&lab, pin.partition, epoch).await;
    lab.restart(two).await.expect("starts");
    gone(&lab, &log, &old[1]).await;

    // And while the chat goes on to another partition, perhaps to that which holds what is deleted.
    lab.wait_in_sync(patience()).await.expect("every copy is in sync");
    let there = homed_in(&lab, &log, 2).await;
    let (next, last) = if there == one { (three, one) } else { (one, three) };
    rehome(&lab, &log, next, 3).await;
    delete(&lab, &log, offsets[2]).await;
    rehome(&lab, &log, last, 4).await;
    gone(&lab, &log, &old[2]).await;
    let history = same_everywhere(&lab, &REGIONS, "ben", &log).await;
    for said in &old {
        place_of(&history, &said.message_id);
    }
    lab.stop().await.expect("stops");
}
