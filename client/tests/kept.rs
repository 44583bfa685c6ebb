//! Clients with a store, on a real socket: what waits for the store, what a dead process leaves, what a failed
//! store means.

use client::{
    Client, Config, Event, From, KeptEvents, ResumeError, SendError, Snapshot, StoreError,
    store::{Change, DiskStore, MemoryStore, Store},
    testing::FakeServer,
};
use std::{
    future::Future,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};
use types::{DeviceId, LogId, MessageId, UserId};

const PATIENCE: Duration = Duration::from_secs(20);
const DEVICE: DeviceId = DeviceId::new(7);

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

fn config(server: &FakeServer) -> Config {
    let mut config = Config::new([server.url()], user("alice"), DEVICE);
    config.timing.backoff_base_ms = 10;
    config
}

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("timed out: {what}"))
}

fn bodies(server: &FakeServer, log: LogId) -> Vec<String> {
    let text = |entry: proto::client::Entry| match entry.body {
        Some(proto::client::entry::Body::Ciphertext(body)) => String::from_utf8(body.to_vec()).ok(),
        _ => None,
    };
    server.with(|model| model.entries(log)).into_iter().filter_map(text).collect()
}

async fn replicated(events: &mut KeptEvents, count: usize) -> Vec<MessageId> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let event = within("an outcome", events.next()).await.expect("the client lives");
        if let Event::Replicated { message_id, .. } = event {
            ids.push(message_id);
        }
    }
    ids
}

/// A store whose commits wait for a word, which says whether they succeed.
struct Slow {
    kept: MemoryStore,
    word: Receiver<bool>,
}

impl Slow {
    fn new() -> (Self, SyncSender<bool>) {
        let (say, word) = sync_channel(64);
        (Self { kept: MemoryStore::new(), word }, say)
    }
}

impl Store for Slow {
    fn load(&mut self, user: &UserId, device: DeviceId) -> Result<Snapshot, StoreError> {
        self.kept.load(user, device)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        match self.word.recv() {
            Ok(true) => self.kept.commit(changes),
            _ => Err(StoreError::Io { path: "state".into(), what: "no space left".to_owned() }),
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_and_no_send_is_answered_before_it_is_kept() {
    let server = FakeServer::start().await;
    let (store, say) = Slow::new();
    let (alice, mut events) = Client::resume(config(&server), store).expect("resumed");
    let chat = within("open", alice.open_direct(&user("bob"))).await.expect("opened");
    let mut first = chat.send_ahead("first").await.expect("accepted");
    let mut second = chat.send_ahead("second").await.expect("accepted");
    // The client works on: it answers calls while the commit waits.
    within("history", chat.history_after(&client::Position::start(), 9)).await.expect("a page");
    assert_eq!(bodies(&server, chat.log()), [""; 0]);
    for _ in 0..8 {
        say.send(true).expect("room");
    }
    within("kept", first.kept()).await.expect("kept");
    within("kept", second.kept()).await.expect("kept");
    replicated(&mut events, 2).await;
    assert_eq!(bodies(&server, chat.log()), ["first", "second"]);
}

#[tokio::test]
async fn a_store_that_fails_refuses_messages_and_says_so() {
    let server = FakeServer::start().await;
    let (store, say) = Slow::new();
    let (alice, mut events) = Client::resume(config(&server), store).expect("resumed");
    let chat = within("open", alice.open_direct(&user("bob"))).await.expect("opened");
    say.send(false).expect("room");
    for _ in 0..2 {
        let error = within("an answer", chat.send("hello")).await.expect_err("it is not kept");
        assert!(matches!(&error, SendError::NotKept(StoreError::Io { .. })), "{error:?}");
        assert!(error.is_indeterminate() && !error.is_retryable());
    }
    chat.follow(From::Start).await;
    let mut entries = 0;
    while entries == 0 {
        let event = within("an entry", events.next()).await.expect("it reads on");
        entries += usize::from(matches!(event, Event::Entry { .. }));
    }
    let error = within("an answer", events.confirm()).await.expect_err("nothing is kept any more");
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    assert_eq!(bodies(&server, chat.log()), [""; 0]);
}

#[tokio::test]
async fn the_outbox_is_full_until_outcomes_are_confirmed() {
    let server = FakeServer::start().await;
    let mut small = config(&server);
    small.bounds.outbox_messages = 2;
    let (alice, mut events) = Client::resume(small, MemoryStore::new()).expect("resumed");
    let chat = within("open", alice.open_direct(&user("bob"))).await.expect("opened");
    chat.send("1").await.expect("accepted");
    chat.send("2").await.expect("accepted");
    replicated(&mut events, 2).await;
    assert!(matches!(chat.send("3").await, Err(SendError::OutboxFull { messages: 2, .. })));
    within("confirmed", events.confirm()).await.expect("confirmed");
    within("room", chat.send_when_room("3")).await.expect("accepted");
    drop((alice, chat));
    assert_eq!(within("an answer", events.confirm()).await, Ok(()), "nothing new was taken");
}

/// One life: sends `count` messages, and dies when the last one is kept, or when all are replicated.
fn live(server_url: &str, path: &Path, first: usize, count: usize, confirms: bool) -> LogId {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let log = runtime.block_on(async {
        let store = DiskStore::open(path, &user("alice"), Some(DEVICE)).expect("opened");
        let config = Config::new([server_url], user("alice"), DEVICE);
        let (alice, mut events) = Client::resume(config, store).expect("resumed");
        let chat = within("open", alice.open_direct(&user("bob"))).await.expect("opened");
        for number in first..first + count {
            within("kept", chat.send(number.to_string())).await.expect("kept");
        }
        if confirms {
            replicated(&mut events, first + count).await;
            within("confirmed", events.confirm()).await.expect("confirmed");
        }
        let log = chat.log();
        // The process dies: no handle is dropped while the client could still do anything.
        std::mem::forget((alice, chat, events));
        log
    });
    runtime.shutdown_timeout(PATIENCE);
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_is_in_the_chat_once_and_in_order_over_many_lives() {
    let server = FakeServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let url = server.url();
    let at = path.clone();
    let lives = tokio::task::spawn_blocking(move || {
        let mut log = None;
        for life in 0..6 {
            log = Some(live(&url, &at, life * 3, 3, life == 5));
        }
        log.expect("lived")
    });
    let log = lives.await.expect("no panic");
    let expected: Vec<String> = (0..18).map(|number: i32| number.to_string()).collect();
    assert_eq!(bodies(&server, log), expected);
    let mut store = DiskStore::open(&path, &user("alice"), None).expect("free again");
    assert_eq!(store.load(&user("alice"), DEVICE).expect("loaded").outbox, []);
}

#[tokio::test]
async fn a_store_of_another_device_is_refused() {
    let server = FakeServer::start().await;
    let store = MemoryStore::new();
    Client::resume(config(&server), store.clone()).expect("resumed");
    let other = Config::new([server.url()], user("alice"), DeviceId::new(8));
    let error = Client::resume(other, store).expect_err("another device's");
    let expected = StoreError::OtherDevice { user: user("alice"), device: DEVICE };
    assert_eq!(error, ResumeError::Store(expected));
}
