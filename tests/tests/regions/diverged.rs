//! A client that has seen what a failover undid is told so, and ends with the same history as all.

use crate::PROGRAM;
use client::{Chat, Client, Config, Events, From, bare::Connection};
use lab::{Lab, Options};
use proto::client::{self as wire, AckPolicy, Diverged, LogCursor, resumed, server_frame::Frame as Answer};
use tests::{
    deployment::{REGIONS, options, patience, start},
    history::{place_of, same_everywhere},
    placing::{home_of, log_id, pin_of, row, successor},
    session::{connect, follow, message, open_group, receive, send, user},
    view::View,
};
use tokio::time::timeout;
use types::{DeviceId, PartitionRow};

/// Messages of each sender that the failover undoes.
const UNDONE: usize = 3;
/// The chat's creation and one replicated message.
const COMMON: usize = 2;

/// A chat homed in the first region, whose first message every region holds.
struct Scene {
    lab: Lab,
    log: String,
    row: PartitionRow,
    ann: Connection,
}

fn patient_followers() -> Options {
    let mut options = options(PROGRAM);
    options.overlay.node.insert("isr-lag-ms".to_owned(), 600_000.into());
    options
}

async fn scene() -> Scene {
    let lab = start(patient_followers()).await;
    let mut ann = connect(&lab.edge(REGIONS[0]).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben", "cem", "dan"]).await.expect("opens");
    let safe = wire::Send { ack: AckPolicy::Replicated.into(), ..message(&log, "safe") };
    send(&mut ann, safe).await.expect("is replicated");
    let pin = pin_of(&lab, &log).await.expect("is pinned");
    let row = row(&lab, pin.partition).await.expect("a row");
    assert_eq!(*home_of(&row), lab.node_id(REGIONS[0]).expect("a region"));
    Scene { lab, log, row, ann }
}

impl Scene {
    fn edge(&self, region: &str) -> String {
        self.lab.edge(region).expect("a region")
    }

    /// Messages of ann's that only the home holds.
    async fn say_at_risk(&mut self) -> Vec<wire::Send> {
        let said: Vec<wire::Send> =
            (0..UNDONE).map(|number| message(&self.log, &format!("at risk {number}"))).collect();
        for message in &said {
            let acked = send(&mut self.ann, message.clone()).await.expect("is acked");
            assert_eq!(acked.ack(), AckPolicy::Home);
        }
        said
    }

    /// Kills the home's region, waits for the next home, and lets ann's device say all of it again.
    async fn fail_over(&mut self) -> PartitionRow {
        self.lab.kill(REGIONS[0]).await.expect("is killed");
        successor(&self.lab, self.row.partition.get(), self.row.epoch).await
    }

    async fn say_again(&mut self, said: &[wire::Send]) {
        self.ann = connect(&self.edge(REGIONS[1]), "ann").await.expect("connects");
        for message in said {
            send(&mut self.ann, message.clone()).await.expect("is acked again");
        }
    }

    /// Brings the killed region back and waits until it tells what the others tell.
    async fn heal(&self) -> Vec<wire::Entry> {
        self.lab.restart(REGIONS[0]).await.expect("starts");
        self.lab.heal();
        self.lab.wait_ready(patience()).await.expect("all are ready");
        self.lab.wait_in_sync(patience()).await.expect("every copy is in sync");
        same_everywhere(&self.lab, &REGIONS, "dan", &self.log).await
    }

    async fn sdk(&self, name: &str, edges: &[&str]) -> (Client, Chat, Events) {
        let edges = edges.iter().map(|region| self.edge(region));
        let client =
            Client::connect(Config::new(edges, user(name), DeviceId::new(7))).expect("good settings");
        let events = client.events().await;
        let chat = client.chat(log_id(&self.log));
        chat.follow(From::Start).await;
        (client, chat, events)
    }
}

/// The next frame about divergence on a live session; whatever else comes before it is dropped.
async fn told_diverged(session: &mut Connection) -> Diverged {
    let listening = async {
        loop {
            match session.next().await.expect("the session goes on").frame {
                Some(Answer::Diverged(told)) => return told,
                Some(Answer::Entries(more)) => panic!("more entries before it was told: {more:?}"),
                _ => {}
            }
        }
    };
    timeout(patience(), listening).await.expect("a session is told")
}

/// What a session holds that kept the common part and got the rest anew.
async fn rest(session: &mut Connection, seen: &[wire::Entry], whole: usize) -> Vec<wire::Entry> {
    let mut entries = seen[..COMMON].to_vec();
    entries.extend(receive(session, whole - COMMON, patience()).await.expect("the rest comes"));
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_comes_back_with_an_undone_position_is_told_diverged() {
    let mut scene = scene().await;
    let [home, near, far] = REGIONS;
    let mut watcher = connect(&scene.edge(home), "cem").await.expect("connects");
    follow(&mut watcher, &scene.log, "").await.expect("follows");
    let (_ben, chat, mut events) = scene.sdk("ben", &[home, near, far]).await;
    let mut view = View::default();
    view.until("the common part", &mut events, patience(), |view| view.entries.len() == COMMON).await;

    // The home's region goes on by itself: its clients see what nobody else has.
    for other in [near, far] {
        scene.lab.cut(home, other, false).expect("is cut");
    }
    let said = scene.say_at_risk().await;
    for number in 0..UNDONE {
        chat.send(format!("from the outbox {number}")).await.expect("is accepted");
    }
    let seen = receive(&mut watcher, COMMON + 2 * UNDONE, patience()).await.expect("sees all");
    view.until("all acked at home", &mut events, patience(), |view| {
        view.entries.len() == COMMON + 2 * UNDONE && view.home.len() == UNDONE
    })
    .await;
    assert!(view.replicated.is_empty() && view.diverged.is_empty(), "{view:?}");

    scene.fail_over().await;
    let last = seen.last().expect("there are some").position.clone();
    let cursors = vec![LogCursor { log: scene.log.clone(), position: last }];
    let mut watcher = Connection::open(&scene.edge(near), &user("cem"), DeviceId::new(1), cursors)
        .await
        .expect("connects elsewhere");
    let told = timeout(patience(), resumption(&mut watcher)).await.expect("the cursor is answered");
    assert_eq!(told.common_offset, COMMON as u64);
    assert_eq!(told.common, seen[COMMON - 1].position);
    scene.say_again(&said).await;
    let watched = rest(&mut watcher, &seen, COMMON + 2 * UNDONE).await;

    view.until("the outbox is sent again", &mut events, patience(), |view| {
        view.replicated.len() == UNDONE && view.entries.len() == COMMON + 2 * UNDONE
    })
    .await;
    assert_eq!(view.diverged, [(COMMON as u64, 2 * UNDONE)]);
    let history = scene.heal().await;
    assert_eq!(history, watched, "the resumed session ends with the same history as all");
    assert_eq!(history.iter().map(|entry| entry.position.as_str()).collect::<Vec<_>>(), view.positions());
    for (id, offset) in &view.replicated {
        assert_eq!(place_of(&history, &id.to_string()).offset, *offset);
    }
    scene.lab.stop().await.expect("stops");
}

/// The answer to the one cursor of a hello.
async fn resumption(session: &mut Connection) -> Diverged {
    loop {
        match session.next().await.expect("the session goes on").frame {
            Some(Answer::Resumed(wire::Resumed {
                answer: Some(resumed::Answer::Diverged(told)), ..
            })) => return told,
            Some(Answer::Resumed(other)) => panic!("resumed with {other:?}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_session_that_saw_what_is_undone_is_told_diverged_without_coming_back() {
    let mut scene = scene().await;
    let [_, near, far] = REGIONS;
    let mut live = Vec::new();
    for (region, name) in [(near, "cem"), (far, "dan")] {
        let mut session = connect(&scene.edge(region), name).await.expect("connects");
        follow(&mut session, &scene.log, "").await.expect("follows");
        live.push(session);
    }
    let (_ben, _chat, mut events) = scene.sdk("ben", &[near]).await;
    let mut view = View::default();
    view.until("the common part", &mut events, patience(), |view| view.entries.len() == COMMON).await;

    // Sessions everywhere hear of entries that no other region has a copy of.
    for region in [near, far] {
        scene.lab.replicator(region).expect("a region").pause().await.expect("is paused");
    }
    let said = scene.say_at_risk().await;
    let mut seen = Vec::new();
    for session in &mut live {
        seen.push(receive(session, COMMON + UNDONE, patience()).await.expect("sees all"));
    }
    assert_eq!(seen[0], seen[1]);
    view.until("all heard", &mut events, patience(), |view| view.entries.len() == COMMON + UNDONE).await;

    let after = scene.fail_over().await;
    println!("the new home is {} in epoch {}", home_of(&after), after.epoch);
    for region in [near, far] {
        scene.lab.replicator(region).expect("a region").resume().await.expect("goes on");
    }
    for session in &mut live {
        let told = told_diverged(session).await;
        assert_eq!(told.common_offset, COMMON as u64);
        assert_eq!(told.common, seen[0][COMMON - 1].position);
    }
    scene.say_again(&said).await;
    let mut watched = Vec::new();
    for session in &mut live {
        watched.push(rest(session, &seen[0], COMMON + UNDONE).await);
    }
    view.until("the undone comes back", &mut events, patience(), |view| {
        !view.diverged.is_empty() && view.entries.len() == COMMON + UNDONE
    })
    .await;
    assert_eq!(view.diverged, [(COMMON as u64, UNDONE)]);

    let history = scene.heal().await;
    assert_eq!(history, watched[0]);
    assert_eq!(history, watched[1]);
    assert_eq!(history.iter().map(|entry| entry.position.as_str()).collect::<Vec<_>>(), view.positions());
    scene.lab.stop().await.expect("stops");
}
