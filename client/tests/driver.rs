//! The client against a server in memory, over real sockets.

use client::{Client, Config, Encoding, Event, Events, From, HistoryError, Position, SendError, testing::*};
use std::time::Duration;
use types::{Code, DeviceId, LogId, UserId};

const PATIENCE: Duration = Duration::from_secs(20);

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

fn config(server: &FakeServer, name: &str) -> Config {
    let mut config = Config::new([server.url()], user(name), DeviceId::new(7));
    config.timing.backoff_base_ms = 10;
    config.timing.backoff_cap_ms = 100;
    config.timing.stall_ms = 500;
    config
}

fn client(server: &FakeServer, name: &str) -> Client {
    Client::connect(config(server, name)).expect("good settings")
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

async fn entries(events: &mut Events, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let event = within("an entry", events.next()).await.expect("the client lives");
        if let Event::Entry { entry, .. } = event
            && let client::EntryBody::Message(body) = entry.body
        {
            seen.push(String::from_utf8(body.to_vec()).expect("text"));
        }
    }
    seen
}

#[tokio::test]
async fn two_users_chat_in_either_encoding() {
    let server = FakeServer::start().await;
    let alice = client(&server, "alice");
    let mut json = config(&server, "bob");
    json.encoding = Encoding::Json;
    let bob = Client::connect(json).expect("good settings");
    let mut events = bob.events().await;
    let chat = within("open", alice.open_direct(&user("bob"))).await.expect("opened");
    let same = within("open", bob.open_direct(&user("alice"))).await.expect("opened");
    assert_eq!(chat.log(), same.log());
    same.follow(From::Start).await;
    let sending = chat.send("one").await.expect("accepted");
    within("replicated", sending.replicated()).await.expect("replicated");
    same.send("two").await.expect("accepted");
    assert_eq!(entries(&mut events, 2).await, ["one", "two"]);
}

#[tokio::test]
async fn every_message_arrives_once_and_in_order_over_cuts_and_refusals() {
    let server = FakeServer::start().await;
    let alice = client(&server, "alice");
    let bob = client(&server, "bob");
    let mut events = bob.events().await;
    let chat = alice.open_direct(&user("bob")).await.expect("opened");
    bob.chat(chat.log()).follow(From::Start).await;
    let mut sendings = Vec::new();
    for number in 0..2_000 {
        match number {
            300 | 900 => server.cut(),
            600 => server.with(|model| {
                model.faults.extend([
                    Fault::Refuse(Code::HomeUnavailable),
                    Fault::WriteButDoubt,
                    Fault::DoubtOnly,
                ]);
            }),
            _ => {}
        }
        sendings.push(chat.send(number.to_string()).await.expect("accepted"));
    }
    for sending in sendings {
        within("replicated", sending.replicated()).await.expect("replicated");
    }
    let expected: Vec<String> = (0..2_000).map(|number: i32| number.to_string()).collect();
    assert_eq!(bodies(&server, chat.log()), expected);
    assert_eq!(entries(&mut events, 2_000).await, expected);
}

#[tokio::test]
async fn what_a_failover_undoes_is_told_and_sent_again() {
    let server = FakeServer::start().await;
    let alice = client(&server, "alice");
    let mut events = alice.events().await;
    let chat = alice.open_direct(&user("bob")).await.expect("opened");
    let first = chat.send("first").await.expect("accepted");
    within("replicated", first.replicated()).await.expect("replicated");
    server.with(|model| model.hold_replication = true);
    let second = chat.send("second").await.expect("accepted");
    let id = second.message_id();
    let (_, second) = within("home", second.home_then()).await.expect("home");
    server.with(|model| {
        model.fail_over(0);
        model.hold_replication = false;
    });
    let position = within("replicated", second.replicated()).await.expect("replicated");
    assert_eq!(bodies(&server, chat.log()), ["first", "second"]);
    let mut undone = false;
    loop {
        match within("moved", events.next()).await.expect("the client lives") {
            Event::Diverged { undone: ids, .. } => {
                assert_eq!(ids, [id]);
                undone = true;
            }
            Event::Moved { entry, .. } => {
                assert!(undone);
                assert_eq!((entry.message_id, entry.position), (id, position));
                break;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_full_outbox_refuses_and_makes_room_again() {
    let server = FakeServer::start().await;
    server.with(|model| model.hold_replication = true);
    let mut small = config(&server, "alice");
    small.bounds.outbox_messages = 2;
    let alice = Client::connect(small).expect("good settings");
    let chat = alice.open_direct(&user("bob")).await.expect("opened");
    let first = chat.send("1").await.expect("accepted");
    chat.send("2").await.expect("accepted");
    let error = chat.send("3").await.expect_err("full");
    assert!(matches!(error, SendError::OutboxFull { messages: 2, messages_max: 2, .. }), "{error}");
    assert!(error.is_retryable() && !error.is_indeterminate());
    within("home", first.home()).await.expect("home");
    server.with(|model| {
        model.hold_replication = false;
        model.replicate(chat.log(), u64::MAX);
    });
    within("room", chat.send_when_room("3")).await.expect("accepted").replicated().await.expect("replicated");
    assert_eq!(bodies(&server, chat.log()), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_snapshot_goes_on_without_repeating() {
    let server = FakeServer::start().await;
    server.with(|model| model.hold_replication = true);
    let alice = client(&server, "alice");
    let chat = alice.open_direct(&user("bob")).await.expect("opened");
    for number in 0..5 {
        let sending = chat.send(number.to_string()).await.expect("accepted");
        within("home", sending.home()).await.expect("home");
    }
    let snapshot = alice.snapshot().await.expect("alive");
    assert_eq!(snapshot.outbox.len(), 5);
    let text = serde_json::to_string(&snapshot).expect("serialisable");
    drop((alice, chat.clone()));
    let snapshot = serde_json::from_str(&text).expect("the same");
    let again = Client::restore(config(&server, "alice"), snapshot).expect("good settings");
    let more = again.chat(chat.log()).send("5").await.expect("accepted");
    within("home", more.home()).await.expect("home");
    server.with(|model| {
        model.hold_replication = false;
        model.replicate(chat.log(), u64::MAX);
    });
    assert_eq!(bodies(&server, chat.log()), ["0", "1", "2", "3", "4", "5"]);
    within("the outbox to empty", async {
        while again.snapshot().await.is_none_or(|snapshot| !snapshot.outbox.is_empty()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_dead_edge_costs_little() {
    let server = FakeServer::start().await;
    let mut two = config(&server, "alice");
    two.edges = vec!["ws://127.0.0.1:9/v1/ws".to_owned(), server.url()];
    let alice = Client::connect(two).expect("good settings");
    let begun = std::time::Instant::now();
    within("open", alice.open_direct(&user("bob"))).await.expect("opened");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn refusals_are_typed() {
    let server = FakeServer::start().await;
    let alice = client(&server, "alice");
    let unknown = alice.chat(LogId::group([9; 16]));
    let error = unknown.history_after(&Position::start(), 10).await.expect_err("unknown");
    let HistoryError::Refused(refused) = &error else { panic!("{error}") };
    assert_eq!(refused.known(), Some(Code::UnknownChat));
    assert!(!error.is_retryable());
    let error = unknown.send("x").await.expect("accepted").home().await.expect_err("unknown");
    assert!(matches!(error, SendError::Refused(_)), "{error}");
    let error = unknown.send(vec![0; 65_537]).await.expect_err("too large");
    assert_eq!(error, SendError::TooLarge { bytes: 65_537, bytes_max: 65_536 });
}

#[tokio::test]
async fn an_app_that_does_not_take_its_events_still_gets_them_all() {
    let server = FakeServer::start().await;
    let alice = client(&server, "alice");
    let mut slow = config(&server, "bob");
    slow.bounds.events = 4;
    let bob = Client::connect(slow).expect("good settings");
    let mut events = bob.events().await;
    let chat = alice.open_direct(&user("bob")).await.expect("opened");
    bob.chat(chat.log()).follow(From::Start).await;
    let mut last = None;
    for number in 0..500 {
        last = Some(chat.send(number.to_string()).await.expect("accepted"));
    }
    within("replicated", last.expect("sent").replicated()).await.expect("replicated");
    let expected: Vec<String> = (0..500).map(|number: i32| number.to_string()).collect();
    assert_eq!(entries(&mut events, 500).await, expected);
}

/// The next receipts that name a user.
async fn receipt_of(events: &mut Events, name: &str) -> client::Receipt {
    loop {
        let event = within("a receipt", events.next()).await.expect("the client lives");
        if let Event::Receipts { receipts, .. } = event
            && let Some(receipt) = receipts.into_iter().find(|receipt| receipt.user.as_str() == name)
        {
            return receipt;
        }
    }
}

#[tokio::test]
async fn what_was_read_is_told_and_told_again_to_a_server_that_has_lost_it() {
    let server = FakeServer::start().await;
    let (alice, bob) = (client(&server, "alice"), client(&server, "bob"));
    let (mut told, mut events) = (alice.events().await, bob.events().await);
    let chat = alice.open_direct(&user("bob")).await.expect("opened");
    let bobs = bob.chat(chat.log());
    chat.follow(From::Start).await;
    bobs.follow(From::Start).await;
    chat.send("one").await.expect("accepted").home().await.expect("home");
    let entry = loop {
        let event = within("an entry", events.next()).await.expect("the client lives");
        if let Event::Entry { entry, .. } = event
            && entry.offset == 2
        {
            break entry;
        }
    };
    bobs.mark_read(&entry).await;
    let receipt = receipt_of(&mut told, "bob").await;
    let read = receipt.read.expect("it was read");
    assert_eq!((read.offset, &read.position), (2, &entry.position));
    assert_eq!(receipt_of(&mut events, "bob").await.read.map(|read| read.offset), Some(2));
    server.with(|model| model.forget_receipts());
    server.cut();
    // Whoever is back later than bob is not told by itself, and asks.
    let page = within("bob tells it again", async {
        loop {
            let page = chat.receipts(0, None, 10).await.expect("read");
            let mut read = page.receipts.iter().filter_map(|receipt| receipt.read.as_ref());
            if read.any(|read| read.offset == 2) {
                break page;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!((page.receipts.len(), page.at_end), (1, true));
    // Typing is told only to those who follow.
    within("alice follows again", async {
        while !matches!(told.next().await, Some(Event::Following { .. })) {}
    })
    .await;
    bobs.typing().await;
    loop {
        let event = within("bob types", told.next()).await.expect("the client lives");
        if let Event::Typing { user, ttl_ms, .. } = event {
            assert_eq!((user.as_str(), ttl_ms), ("bob", 5_000));
            break;
        }
    }
}
