//! Clients that stop reading cost the node a bounded amount, and nobody else anything.

mod support;

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use prost::Message as _;
use proto::{
    client::{ClientFrame, Ping, ReadHistory, client_frame::Frame as Ask, server_frame::Frame as Answer},
    log,
    node::{self, node_client::NodeClient, peer_reply::Reply, peer_request::Request},
};
use std::time::{Duration, Instant};
use support::{
    World,
    ws::{Client, message},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::Message;
use types::LogId;

const STALLED: usize = 1_000;
const BODY_BYTES: usize = 4_096;
const MESSAGES: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(20);
/// Far longer than anything takes here that is not silence.
const SILENCE_MS: u64 = 3_000;
const COST_MAX_BYTES: usize = 256 * 1024;

/// The memory of this process that is in use, in bytes.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("it is there on Linux");
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4_096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stop_reading_cost_a_bounded_amount() {
    // These clients send no pings either, and are not to be ended for that.
    let world = World::start_with(&["us-east"], |config| config.session_silence_ms = 600_000).await;
    let address = world.nodes[0].address;
    let mut writer = Client::hello(address, "alice", 1).await;
    let log = writer.open_direct("bob").await;
    let mut reader = Client::hello(address, "bob", 1).await;
    reader.follow(&log, "").await;
    let mut stalled = Vec::new();
    for chunk in 0..STALLED / 100 {
        let connecting = (0..100).map(|number| async move {
            Client::hello(address, "bob", 1_000 + 2 * (chunk * 100 + number) as u64 + 1).await
        });
        stalled.extend(join_all(connecting).await);
    }
    join_all(stalled.iter_mut().map(|client| client.follow(&log, ""))).await;
    let before = resident_bytes();
    let text = "x".repeat(BODY_BYTES);
    let mut slowest = Duration::ZERO;
    // 1.2 MB for each of them: far more than may be kept for one.
    for number in 0..MESSAGES {
        let began = Instant::now();
        let sent = writer.ask(Ask::Send(message(&log, uuid::Uuid::now_v7(), &text))).await;
        assert!(matches!(sent, Answer::Sent(_)), "{sent:?}");
        reader.entries_to(number + 2).await;
        slowest = slowest.max(began.elapsed());
    }
    let cost = resident_bytes().saturating_sub(before) / STALLED;
    println!("{STALLED} stalled clients cost {cost} bytes each; the slowest delivery took {slowest:?}");
    assert!(cost < COST_MAX_BYTES, "{cost} bytes each");
    assert!(slowest < Duration::from_secs(2), "a delivery took {slowest:?}");
    // One that reads again is told where it stands, and catches up from there.
    let client = &mut stalled[0];
    let behind = loop {
        match client.told().await {
            Answer::Entries(_) => {}
            Answer::Behind(behind) => break behind,
            other => panic!("{other:?}"),
        }
    };
    client.follow(&log, &behind.position).await;
    let caught_up = client.entries_to(MESSAGES + 1).await;
    assert!(caught_up.windows(2).all(|pair| pair[0].offset + 1 == pair[1].offset));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let world = World::start_with(&["us-east"], |config| config.session_silence_ms = SILENCE_MS).await;
    let mut silent = Client::hello(world.nodes[0].address, "alice", 1).await;
    let message = tokio::time::timeout(PATIENCE, silent.socket.next()).await.expect("it is let go");
    let Some(Ok(Message::Close(Some(close)))) = message else { panic!("{message:?}") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4000, "no sign of life"));
}

#[tokio::test]
async fn a_client_that_sends_and_never_reads_is_let_go() {
    let world = World::start_with(&["us-east"], |config| config.session_silence_ms = SILENCE_MS).await;
    let address = world.nodes[0].address;
    let mut writer = Client::hello(address, "alice", 1).await;
    let log = writer.open_direct("bob").await;
    let mut deaf = Client::hello(address, "bob", 1).await;
    let text = "x".repeat(60_000);
    for _ in 0..20 {
        writer.send(&log, &text).await;
        // It is not to be let go for its silence.
        deaf.say(Ask::Ping(Ping { nonce: 1 })).await;
    }
    // Each page is over a megabyte: soon nothing more fits into the connection, while pings go on.
    let read = || Ask::ReadHistory(ReadHistory { log: log.clone(), limit: 20, ..ReadHistory::default() });
    let began = Instant::now();
    loop {
        let frame = ClientFrame { request_id: 1, frame: Some(read()) };
        if deaf.socket.send(Message::binary(frame.encode_to_vec())).await.is_err() {
            break;
        }
        writer.ask(Ask::Ping(Ping { nonce: 1 })).await;
        assert!(began.elapsed() < PATIENCE, "it holds its connection for good");
    }
}

#[tokio::test]
async fn writes_that_nobody_answers_hold_up_nothing_else_of_their_peer() {
    let world = World::start(&["us-east"]).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let chat: LogId = alice.open_direct("bob").await.parse().expect("a chat");
    world.with_store(0, |store| store.is_mute = true);
    let partition = world.partition_of(chat).get();
    let bytes = bytes::Bytes::copy_from_slice(&chat.to_bytes());
    let mut client =
        NodeClient::connect(format!("http://{}", world.nodes[0].address)).await.expect("it serves");
    let (requests, outgoing) = tokio::sync::mpsc::channel(64);
    let mut replies = client.peer(ReceiverStream::new(outgoing)).await.expect("a stream").into_inner();
    let append = |id: u64| node::Append {
        log: bytes.clone(),
        partition,
        generation: 1,
        sender: "alice".to_owned(),
        device: 1,
        message_id: bytes::Bytes::copy_from_slice(&u128::from(id).to_be_bytes()),
        body: Some(node::append::Body::Message(log::Message { ciphertext: bytes::Bytes::from_static(b"x") })),
        ack: log::AckPolicy::Replicated.into(),
        deadline_ms: 60_000,
        ..node::Append::default()
    };
    // One more than a peer may have unanswered.
    for request_id in 1..=16_385 {
        let request = Some(Request::Append(append(request_id)));
        requests.send(node::PeerRequest { request_id, request }).await.expect("it is read");
    }
    let locate = node::Locate { log: bytes.clone(), partition, user: "alice".into(), ..Default::default() };
    let request = Some(Request::Locate(locate));
    requests.send(node::PeerRequest { request_id: 20_000, request }).await.expect("it is read");
    let mut next = async || {
        let reply = tokio::time::timeout(PATIENCE, replies.message()).await.expect("an answer in time");
        let reply = reply.expect("the stream holds").expect("it goes on");
        (reply.request_id, reply.reply.expect("an answer"))
    };
    let refused = next().await;
    assert!(matches!(&refused, (16_385, Reply::Refused(why)) if why.code == "overloaded"), "{refused:?}");
    let located = next().await;
    assert!(matches!(&located, (20_000, Reply::Located(_))), "{located:?}");
}
