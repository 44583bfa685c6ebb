//! A chat goes to another region while people write to it, and nobody can tell but by the distance.

use crate::PROGRAM;
use client::bare::Connection;
use lab::Lab;
use proto::{
    client::{self as wire, resumed},
    directory::{RehomeRequest, directory_client::DirectoryClient},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    history::{place_of, same_everywhere},
    placing::{home_of, log_id, pin_of, row, successor},
    session::{connect, follow, message, open_group, receive, send, user},
};
use tokio::task::JoinHandle;
use types::DeviceId;
use uuid::Uuid;

/// What each writer writes between two steps of a test.
const MORE: usize = 20;

/// Has the directory re-home a chat.
pub(crate) async fn begin(lab: &Lab, log: &str, region: &str) -> anyhow::Result<()> {
    let mut directory = DirectoryClient::connect(lab.directory_address()).await?;
    let request = RehomeRequest {
        request_id: Uuid::new_v4().as_bytes().to_vec().into(),
        log: log_id(log).to_bytes().to_vec().into(),
        region: region.to_owned(),
        by: "a test".to_owned(),
    };
    directory.rehome(request).await?;
    Ok(())
}

/// Waits until a chat is written in a generation; answers the region of its home.
pub(crate) async fn homed_in(lab: &Lab, log: &str, generation: u32) -> String {
    let partition = eventually("the next generation", patience(), async || {
        let pin = pin_of(lab, log).await?;
        anyhow::ensure!(pin.generation == generation, "generation {}", pin.generation);
        Ok(pin.partition)
    });
    let home = home_of(&row(lab, partition.await).await.expect("a row")).clone();
    let is_there = |region: &&&str| lab.node_id(region).expect("a region") == home;
    (*REGIONS.iter().find(is_there).expect("a home in a region")).to_owned()
}

async fn rehome(lab: &Lab, log: &str, region: &str, generation: u32) {
    begin(lab, log, region).await.expect("is begun");
    assert_eq!(homed_in(lab, log, generation).await, region);
}

/// Somebody who writes one message after the other, each once: a refusal ends the test.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    said: Arc<AtomicUsize>,
    task: JoinHandle<(Vec<wire::Send>, Duration)>,
}

impl Writer {
    pub(crate) async fn start(lab: &Lab, region: &str, name: &'static str, log: &str) -> Self {
        let mut session = connect(&lab.edge(region).expect("a region"), name).await.expect("connects");
        let (log, stop) = (log.to_owned(), Arc::new(AtomicBool::new(false)));
        let (stopped, said_so_far) = (Arc::clone(&stop), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&said_so_far);
        let task = tokio::spawn(async move {
            let (mut said, mut longest) = (Vec::new(), Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let next = message(&log, &format!("{name} {}", said.len()));
                let began = Instant::now();
                send(&mut session, next.clone()).await.expect("no write fails");
                longest = longest.max(began.elapsed());
                said.push(next);
                counted.store(said.len(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (said, longest)
        });
        Self { stop, said: said_so_far, task }
    }

    /// Waits until it has written so many messages more.
    pub(crate) async fn writes(&self, more: usize) {
        let enough = self.said.load(Ordering::Relaxed) + more;
        eventually("more is written", patience(), async || {
            let said = self.said.load(Ordering::Relaxed);
            anyhow::ensure!(said >= enough, "{said} of {enough}");
            Ok(())
        })
        .await;
    }

    pub(crate) async fn stop(self) -> (Vec<wire::Send>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no write fails")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_chat_goes_to_another_region_and_back_and_no_write_fails() {
    let lab = start(options(PROGRAM)).await;
    let [one, two, three] = REGIONS;
    let mut founder = connect(&lab.edge(one).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut founder, &["ben", "cem"]).await.expect("opens");
    let first = message(&log, "the first");
    let early = send(&mut founder, first.clone()).await.expect("is acked");

    let mut live = Vec::new();
    for region in REGIONS {
        let edge = lab.edge(region).expect("a region");
        let reader = eventually("following", patience(), async || {
            let mut reader = Connection::open(&edge, &user("cem"), DeviceId::new(2), vec![]).await?;
            follow(&mut reader, &log, "").await?;
            Ok(reader)
        });
        live.push(reader.await);
    }
    let ann = Writer::start(&lab, one, "ann", &log).await;
    let ben = Writer::start(&lab, two, "ben", &log).await;
    for (region, generation) in [(two, 2), (three, 3), (one, 4)] {
        ann.writes(MORE).await;
        ben.writes(MORE).await;
        rehome(&lab, &log, region, generation).await;
    }
    ann.writes(MORE).await;
    ben.writes(MORE).await;
    let (mut said, longest) = ann.stop().await;
    println!("ann wrote {} messages; the longest took {longest:?}", said.len());
    let (more, longest) = ben.stop().await;
    println!("ben wrote {} messages; the longest took {longest:?}", more.len());
    said.extend(more);

    let history = same_everywhere(&lab, &REGIONS, "cem", &log).await;
    assert_eq!(history.len(), said.len() + 2, "each message once, behind the first and the creation");
    said.iter().for_each(|message| drop(place_of(&history, &message.message_id).clone()));
    for mut reader in live {
        let seen = receive(&mut reader, history.len(), patience()).await.expect("a live session goes on");
        let positions = |entries: &[wire::Entry]| -> Vec<String> {
            entries.iter().map(|entry| entry.position.clone()).collect()
        };
        assert_eq!(positions(&seen), positions(&history), "without a hole, a double or a divergence");
    }
    for region in REGIONS {
        let edge = lab.edge(region).expect("a region");
        let mut session =
            Connection::open(&edge, &user("ann"), DeviceId::new(1), vec![]).await.expect("connects");
        // A retry of what was written three homes ago, and of what was written last.
        let again = send(&mut session, first.clone()).await.expect("is found");
        assert_eq!(again.position, early.position, "the surviving position");
        let mut session =
            Connection::open(&edge, &user("cem"), DeviceId::new(3), vec![]).await.expect("connects");
        for entry in [&history[0], &history[1], &history[history.len() / 2], &history[history.len() - 1]] {
            let told = follow(&mut session, &log, &entry.position).await.expect("is told");
            assert!(matches!(told, resumed::Answer::Continue(_)), "{told:?}");
        }
    }
    lab.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_dies_while_its_chat_leaves_and_nothing_is_lost() {
    let lab = start(options(PROGRAM)).await;
    let [one, two, three] = REGIONS;
    let mut founder = connect(&lab.edge(one).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut founder, &["ben", "cem"]).await.expect("opens");
    let safe = wire::Send { ack: wire::AckPolicy::Replicated.into(), ..message(&log, "safe") };
    send(&mut founder, safe.clone()).await.expect("is replicated");
    let before = row(&lab, pin_of(&lab, &log).await.expect("is pinned").partition).await.expect("a row");

    // The other regions' copies get nothing, so the seal cannot become `replicated`.
    for region in [two, three] {
        lab.replicator(region).expect("a region").pause().await.expect("is paused");
    }
    begin(&lab, &log, two).await.expect("is begun");
    let sealed = async {
        let late = || wire::Send { deadline_ms: 200, ..message(&log, "while it is sealed") };
        while send(&mut founder, late()).await.is_ok() {}
    };
    tokio::time::timeout(patience(), sealed).await.expect("the seal is written");
    lab.kill(one).await.expect("is killed");
    for region in [two, three] {
        lab.replicator(region).expect("a region").resume().await.expect("goes on");
    }
    successor(&lab, before.partition.get(), before.epoch).await;
    // It is finished from the next home, or given up: in both cases the chat goes on in the next generation.
    homed_in(&lab, &log, 2).await;
    let mut ben = connect(&lab.edge(two).expect("a region"), "ben").await.expect("connects");
    let after = message(&log, "after");
    let goes_on = async { while send(&mut ben, after.clone()).await.is_err() {} };
    tokio::time::timeout(patience(), goes_on).await.expect("the chat goes on");
    lab.restart(one).await.expect("starts");
    lab.wait_ready(patience()).await.expect("all are ready");
    lab.wait_in_sync(patience()).await.expect("every copy is in sync");
    let history = same_everywhere(&lab, &REGIONS, "cem", &log).await;
    place_of(&history, &safe.message_id);
    place_of(&history, &after.message_id);
    lab.stop().await.expect("stops");
}
