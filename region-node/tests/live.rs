//! What is live and no entry, on real sockets, over nodes that keep their logs in memory.

mod support;

use proto::client::{self, client_frame::Frame as Ask, server_frame::Frame as Answer, user_presence::State};
use serde_json::{Value, json};
use std::net::SocketAddr;
use support::{World, eventually, ws::Client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use types::{Body, LogId, StateUpdate};

const REGIONS: &[&str] = &["us-east", "eu-west", "ap-south"];

fn marks(log: &str, delivered: &str, read: &str) -> Ask {
    let (log, delivered, read) = (log.to_owned(), delivered.to_owned(), read.to_owned());
    Ask::MarkCursors(client::MarkCursors { logs: vec![client::LogMark { log, delivered, read }] })
}

impl Client {
    /// The next receipt of a user; entries and other receipts are passed over.
    async fn receipt_of(&mut self, user: &str) -> client::Receipt {
        loop {
            if let Answer::Receipts(told) = self.told().await
                && let Some(receipt) = told.receipts.into_iter().find(|receipt| receipt.user == user)
            {
                return receipt;
            }
        }
    }

    async fn receipts(
        &mut self,
        log: &str,
        offset: u64,
        after_user: &str,
        limit: u32,
    ) -> client::ReceiptsPage {
        let (log, after_user) = (log.to_owned(), after_user.to_owned());
        match self.ask(Ask::ReadReceipts(client::ReadReceipts { log, offset, after_user, limit })).await {
            Answer::ReceiptsPage(page) => page,
            other => panic!("{other:?}"),
        }
    }
}

/// The records of a log that move cursors, as the home's copy has them.
fn written(world: &World, log: &str) -> usize {
    let log: LogId = log.parse().expect("a log id");
    let partition = world.partition_of(log);
    let records = world.with_store(0, |store| store.copy(partition).entries(log));
    let moves = |body: &Body| matches!(body, Body::Update(StateUpdate::Cursors(_)));
    records.iter().filter(|record| moves(&record.body)).count()
}

#[tokio::test]
async fn what_one_reads_is_told_to_the_other_and_to_the_own_devices_in_all_regions() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[2].address, "bob", 2).await;
    let mut bobs_other = Client::hello(world.nodes[1].address, "bob", 3).await;
    let log = alice.open_direct("bob").await;
    for client in [&mut alice, &mut bob, &mut bobs_other] {
        client.follow(&log, "").await;
    }
    let first = alice.send(&log, "one").await;
    let second = alice.send(&log, "two").await;
    bob.entries_to(3).await;
    bob.say(marks(&log, &second.position, &first.position)).await;
    for client in [&mut alice, &mut bobs_other] {
        let receipt = client.receipt_of("bob").await;
        let (delivered, read) = (receipt.delivered.expect("delivered"), receipt.read.expect("read"));
        assert_eq!((delivered.position, delivered.offset), (second.position.clone(), 3));
        assert_eq!((read.position, read.offset), (first.position.clone(), 2));
        assert!(read.at_ms > 0);
    }
    let page = alice.receipts(&log, 0, "", 0).await;
    let users: Vec<&str> = page.receipts.iter().map(|receipt| receipt.user.as_str()).collect();
    assert_eq!((users, page.at_end), (vec!["alice", "bob"], true), "what is not written yet is told too");
    let page = alice.receipts(&log, 3, "", 0).await;
    assert_eq!(page.receipts.len(), 1, "only bob has all");
    assert!(!alice.receipts(&log, 0, "", 1).await.at_end);
    assert!(alice.receipts(&log, 0, "alice", 1).await.at_end);
}

#[tokio::test]
async fn many_reads_are_one_record() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[1].address, "bob", 2).await;
    let log = alice.open_direct("bob").await;
    bob.follow(&log, "").await;
    for number in 0..50 {
        let sent = alice.send(&log, &number.to_string()).await;
        bob.say(marks(&log, &sent.position, &sent.position)).await;
    }
    eventually("it is written", || async { (written(&world, &log) > 0).then_some(()) }).await;
    let records = written(&world, &log);
    assert!(records <= 2, "{records} records of 50 reads");
}

#[tokio::test]
async fn a_home_that_is_lost_before_it_has_written_loses_no_cursor() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[1].address, "bob", 2).await;
    let log = alice.open_direct("bob").await;
    alice.follow(&log, "").await;
    bob.follow(&log, "").await;
    let sent = alice.send(&log, "hi").await;
    bob.entries_to(2).await;
    bob.say(marks(&log, &sent.position, "")).await;
    alice.receipt_of("bob").await;
    assert_eq!(written(&world, &log), 0);
    world.fail_over(world.partition_of(log.parse().expect("a log id")), 2);
    eventually("the next home writes it", || async { (written(&world, &log) > 0).then_some(()) }).await;
    let page = alice.receipts(&log, 2, "", 0).await;
    assert_eq!(page.receipts[0].delivered.as_ref().map(|mark| mark.offset), Some(2));
}

#[tokio::test]
async fn a_cursor_on_what_was_undone_counts_up_to_what_is_shared() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[1].address, "alice", 1).await;
    let mut opener = Client::hello(world.nodes[0].address, "alice", 3).await;
    let log = opener.open_direct("bob").await;
    alice.follow(&log, "").await;
    opener.send(&log, "kept").await;
    world.state.lock().replication_is_cut = true;
    let undone = opener.send(&log, "undone").await;
    alice.entries_to(3).await;
    world.state.lock().replication_is_cut = false;
    world.fail_over(world.partition_of(log.parse().expect("a log id")), 1);
    alice.say(marks(&log, &undone.position, &undone.position)).await;
    let receipt = alice.receipt_of("alice").await;
    assert_eq!(receipt.read.map(|read| read.offset), Some(2));
}

#[tokio::test]
async fn who_is_typing_is_told_to_the_others_once_in_two_seconds() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[2].address, "bob", 2).await;
    let log = alice.open_direct("bob").await;
    let sent = alice.send(&log, "hi").await;
    alice.follow(&log, &sent.position).await;
    bob.follow(&log, &sent.position).await;
    for _ in 0..5 {
        bob.say(Ask::Typing(client::Typing { log: log.clone() })).await;
    }
    let Answer::TypingSeen(seen) = alice.told().await else { panic!("bob is typing") };
    assert_eq!((seen.log.as_str(), seen.user.as_str(), seen.ttl_ms), (log.as_str(), "bob", 5_000));
    alice.send(&log, "what?").await;
    let Answer::Entries(_) = alice.told().await else { panic!("it was said once") };
    let Answer::Entries(_) = bob.told().await else { panic!("and not to bob") };
    assert_eq!(written(&world, &log), 0);
}

#[tokio::test]
async fn who_does_not_follow_a_chat_says_nothing_in_it() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut eve = Client::hello(world.nodes[1].address, "eve", 2).await;
    let log = alice.open_direct("bob").await;
    let sent = alice.send(&log, "hi").await;
    let typing = || Ask::Typing(client::Typing { log: log.clone() });
    assert_eq!(eve.refusal(marks(&log, &sent.position, "")).await.code, "bad_request");
    assert_eq!(eve.refusal(typing()).await.code, "bad_request");
    let read = client::ReadReceipts { log: log.clone(), ..Default::default() };
    assert_eq!(eve.refusal(Ask::ReadReceipts(read)).await.code, "forbidden");
    eve.follow(&log, "").await;
    assert_eq!(eve.refusal(typing()).await.code, "bad_request", "the chat cannot be followed");
    alice.follow(&log, "").await;
    assert_eq!(alice.refusal(marks(&log, "made-up", "")).await.code, "position_malformed");
    let logs = vec![client::LogMark { log: log.clone(), ..Default::default() }; 257];
    assert_eq!(alice.refusal(Ask::MarkCursors(client::MarkCursors { logs })).await.code, "too_large");
}

impl Client {
    async fn watch(&mut self, users: &[&str]) -> Vec<client::UserPresence> {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        let watch = client::WatchPresence { users, ..Default::default() };
        match self.ask(Ask::WatchPresence(watch)).await {
            Answer::Presence(presence) => presence.users,
            other => panic!("{other:?}"),
        }
    }

    /// The next thing that is told of somebody's presence.
    async fn presence(&mut self) -> client::UserPresence {
        loop {
            if let Answer::Presence(mut told) = self.told().await {
                assert_eq!(told.users.len(), 1, "{told:?}");
                return told.users.remove(0);
            }
        }
    }
}

const TTL_MS: u64 = 1_500;

async fn with_short_ttl() -> World {
    World::start_with(REGIONS, |config| config.presence_ttl_ms = TTL_MS).await
}

#[tokio::test]
async fn who_comes_and_goes_is_told_to_watchers_in_another_region_and_to_no_stranger() {
    let world = with_short_ttl().await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut eve = Client::hello(world.nodes[0].address, "eve", 1).await;
    alice.open_direct("bob").await;
    for watcher in [&mut alice, &mut eve] {
        let known = watcher.watch(&["bob"]).await;
        assert_eq!((known.len(), known[0].state()), (1, State::Unspecified), "nobody knows yet");
    }
    assert_eq!(alice.presence().await.state(), State::Offline);
    let mut bob = Client::hello(world.nodes[2].address, "bob", 2).await;
    let seen = alice.presence().await;
    assert_eq!(seen.state(), State::Online);
    assert!(seen.last_seen_ms.is_some());
    let known = alice.watch(&["bob"]).await;
    assert_eq!(known[0].state(), State::Online, "it is known here");
    let mut second = Client::hello(world.nodes[1].address, "bob", 3).await;
    bob.socket.close(None).await.expect("the connection stands");
    second.socket.close(None).await.expect("the connection stands");
    assert_eq!(alice.presence().await.state(), State::Offline);
    let log = eve.open_direct("carol").await;
    let sent = eve.send(&log, "hi").await;
    eve.follow(&log, &sent.position).await;
    eve.send(&log, "nothing of bob came before this").await;
    assert!(matches!(eve.told().await, Answer::Entries(_)));
    let users = (0..257).map(|number| format!("user{number}")).collect();
    let watch = client::WatchPresence { users, ..Default::default() };
    assert_eq!(eve.refusal(Ask::WatchPresence(watch)).await.code, "too_large");
}

#[tokio::test]
async fn nobody_flaps_when_the_home_of_their_presence_fails_over() {
    let world = with_short_ttl().await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[1].address, "bob", 2).await;
    let log = alice.open_direct("bob").await;
    let sent = alice.send(&log, "hi").await;
    alice.follow(&log, &sent.position).await;
    alice.watch(&["bob"]).await;
    assert_eq!(alice.presence().await.state(), State::Online);
    let account = LogId::account(&types::UserId::new("bob").expect("a valid name"));
    let number =
        u64::from_be_bytes(account.key()[..8].try_into().expect("8 bytes")) % u64::from(support::PARTITIONS);
    let partition = types::PartitionId::new(number as u32);
    for to in [1, 2, 0] {
        world.fail_over(partition, to);
        // Time in which a home that knows nothing of bob could call him gone: that it does not is the point.
        tokio::time::sleep(std::time::Duration::from_millis(2 * TTL_MS)).await;
    }
    alice.send(&log, "nothing of bob came before this").await;
    assert!(matches!(alice.told().await, Answer::Entries(_)), "bob was there all the time");
    bob.socket.close(None).await.expect("the connection stands");
    assert_eq!(alice.presence().await.state(), State::Offline, "and the last home knows it");
}

#[tokio::test]
async fn users_of_a_node_that_is_silent_are_offline_once_their_time_is_over() {
    let world = with_short_ttl().await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    alice.open_direct("ben").await;
    let _user = Client::hello(world.nodes[2].address, "ben", 2).await;
    alice.watch(&["ben"]).await;
    assert_eq!(alice.presence().await.state(), State::Online);
    world.nodes[2].shutdown.cancel();
    assert_eq!(alice.presence().await.state(), State::Offline);
}

/// One request on its own connection: the status and the body.
async fn call(address: SocketAddr, method: &str, path: &str, user: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: hearth\r\nconnection: close\r\nx-hearth-user: {user}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the connection stands");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("text");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn receipts_are_said_and_read_over_rest() {
    let world = World::start(REGIONS).await;
    let (here, there) = (world.nodes[0].address, world.nodes[1].address);
    let mut alice = Client::hello(here, "alice", 1).await;
    let log = alice.open_direct("bob").await;
    let sent = alice.send(&log, "hi").await;
    let path = format!("/v1/chats/{log}/receipts");
    let body = json!({"read": sent.position}).to_string();
    for _ in 0..2 {
        let (status, answer) = call(there, "POST", &path, "bob", &body).await;
        assert_eq!(status, 202, "{answer}");
    }
    let page = eventually("bob has read it", || async {
        let (status, page) = call(there, "GET", &format!("{path}?offset=2"), "alice", "").await;
        assert_eq!(status, 200, "{page}");
        (page["receipts"] != json!([])).then_some(page)
    });
    let page = page.await;
    assert_eq!((&page["receipts"][0]["user"], &page["at_end"]), (&json!("bob"), &json!(true)));
    assert_eq!(page["receipts"][0]["read"]["offset"], 2);
    assert_eq!(page["receipts"][0]["delivered"]["position"], json!(sent.position));
    for (method, query, user, body, status, code) in [
        ("GET", "", "eve", "", 403, "forbidden"),
        ("POST", "", "eve", body.as_str(), 403, "forbidden"),
        ("POST", "", "bob", r#"{"read": "made-up"}"#, 400, "position_malformed"),
        ("POST", "", "bob", r#"{"seen": ""}"#, 400, "bad_request"),
        ("GET", "?limit=501", "bob", "", 400, "bad_request"),
        ("GET", "?after_user=a/b", "bob", "", 400, "bad_request"),
    ] {
        let (found, problem) = call(here, method, &format!("{path}{query}"), user, body).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{method} {query} {body}: {problem}");
    }
}
