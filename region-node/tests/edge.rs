//! The edge on real sockets, over nodes that keep their logs in memory.

mod support;

use proto::client::{self, client_frame::Frame as Ask, resumed, server_frame::Frame as Answer};
use support::{
    World, eventually,
    ws::{Client, message, text_of},
};
use tokio_tungstenite::tungstenite::Message;
use types::{Code, LogId, limits};

const REGIONS: &[&str] = &["us-east", "eu-west", "ap-south"];

#[tokio::test]
async fn what_is_written_in_one_region_is_read_in_all_in_one_order() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[2].address, "bob", 2).await;
    let log = alice.open_direct("bob").await;
    assert_eq!(bob.open_direct("alice").await, log, "opening it again answers the chat");
    for client in [&mut alice, &mut bob] {
        let resumed = client.follow(&log, "").await;
        assert!(matches!(resumed.answer, Some(resumed::Answer::Continue(_))), "{resumed:?}");
    }
    for round in 0..20 {
        alice.send(&log, &format!("a{round}")).await;
        bob.send(&log, &format!("b{round}")).await;
    }
    let texts = |entries: Vec<client::Entry>| entries.iter().map(text_of).collect::<Vec<_>>();
    let at_alice = texts(alice.entries_to(41).await);
    let at_bob = texts(bob.entries_to(41).await);
    assert_eq!(at_alice, at_bob);
    assert_eq!(at_alice.len(), 41);
    assert_eq!(at_alice[..3], ["created", "a0", "b0"]);
}

#[tokio::test]
async fn a_chat_that_is_new_to_a_node_is_resumed_while_the_directory_has_no_leader() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let log = alice.open_direct("bob").await;
    let sent = alice.send(&log, "hi").await;
    world.state.lock().directory_has_no_leader = true;
    let mut bob = Client::hello(world.nodes[2].address, "bob", 2).await;
    let resumed = bob.follow(&log, &sent.position).await;
    assert!(matches!(resumed.answer, Some(resumed::Answer::Continue(_))), "{resumed:?}");
    assert_eq!(bob.send(&log, "hi to you").await.offset, sent.offset + 1);
    let resumed = bob.follow(&LogId::group([7; 16]).to_string(), "").await;
    let Some(resumed::Answer::Error(error)) = resumed.answer else { panic!("{resumed:?}") };
    assert_eq!(error.code, Code::DirectoryUnavailable.as_str(), "it may be there");
}

#[tokio::test]
async fn writes_that_are_sent_ahead_through_another_region_keep_their_order() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[1].address, "bob", 1).await;
    let log = alice.open_direct("bob").await;
    let mut ids = Vec::new();
    for number in 0..500 {
        ids.push(bob.say(Ask::Send(message(&log, uuid::Uuid::now_v7(), &number.to_string()))).await);
    }
    for (number, id) in ids.into_iter().enumerate() {
        let Answer::Sent(sent) = bob.answer(id).await else { panic!("write {number} was refused") };
        assert_eq!(sent.offset, number as u64 + 2);
    }
}

#[tokio::test]
async fn a_tick_comes_behind_the_entry_that_it_speaks_of() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[1].address, "bob", 1).await;
    let log = alice.open_direct("bob").await;
    bob.follow(&log, "").await;
    let sent = alice.send(&log, "hi").await;
    let mut seen = 0;
    loop {
        let frame = bob.next().await.expect("the connection stands");
        match frame.frame.expect("a frame says something") {
            Answer::Entries(entries) => seen = entries.entries.last().expect("never empty").offset,
            Answer::Replicated(tick) => {
                assert!(tick.offset <= seen, "a tick for {} while at {seen}", tick.offset);
                if tick.position == sent.position {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_session_that_saw_what_a_failover_undid_is_told_and_goes_on() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[1].address, "alice", 1).await;
    let mut opener = Client::hello(world.nodes[0].address, "alice", 3).await;
    let log_name = opener.open_direct("bob").await;
    let log: LogId = log_name.parse().expect("a log id");
    alice.follow(&log_name, "").await;
    let kept = opener.send(&log_name, "kept").await;
    world.state.lock().replication_is_cut = true;
    let undone = opener.send(&log_name, "undone").await;
    let entries = alice.entries_to(3).await;
    assert_eq!(entries.last().map(text_of).as_deref(), Some("undone"));
    world.state.lock().replication_is_cut = false;
    world.fail_over(world.partition_of(log), 2);
    let told = alice.told().await;
    let Answer::Diverged(diverged) = told else { panic!("{told:?}") };
    assert_eq!((diverged.common.as_str(), diverged.common_offset), (kept.position.as_str(), 2));
    let mut bob = Client::hello(world.nodes[0].address, "bob", 1).await;
    let after = bob.send(&log_name, "after").await;
    assert_eq!(after.offset, 3);
    assert_eq!(alice.entries_to(3).await.last().map(text_of).as_deref(), Some("after"));
    // On resume the same answer is given.
    let resumed = bob.follow(&log_name, &undone.position).await;
    let Some(resumed::Answer::Diverged(diverged)) = resumed.answer else { panic!("{resumed:?}") };
    assert_eq!(diverged.common, kept.position);
}

#[tokio::test]
async fn writes_wait_for_the_next_home_and_are_in_the_log_once() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let log_name = alice.open_direct("bob").await;
    let partition = world.partition_of(log_name.parse().expect("a log id"));
    let mut bob = Client::hello(world.nodes[1].address, "bob", 1).await;
    bob.send(&log_name, "first").await;
    // The home takes these, copies them, and never says so.
    world.with_store(0, |store| store.is_mute = true);
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push(bob.say(Ask::Send(message(&log_name, uuid::Uuid::now_v7(), &number.to_string()))).await);
    }
    eventually("the mute home has them", || async {
        (world
            .with_store(0, |store| store.copy(partition).entries(log_name.parse().expect("a log id")))
            .len()
            == 52)
            .then_some(())
    })
    .await;
    world.suspend(partition, 0);
    for number in 50..100 {
        ids.push(bob.say(Ask::Send(message(&log_name, uuid::Uuid::now_v7(), &number.to_string()))).await);
    }
    world.fail_over(partition, 2);
    for (number, id) in ids.into_iter().enumerate() {
        let Answer::Sent(sent) = bob.answer(id).await else { panic!("write {number} was refused") };
        assert_eq!(sent.offset, number as u64 + 3);
    }
}

#[tokio::test]
async fn a_write_whose_time_is_over_says_whether_it_may_be_in_the_log() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[1].address, "alice", 1).await;
    let log = alice.open_direct("bob").await;
    let mut bob = Client::hello(world.nodes[0].address, "bob", 1).await;
    bob.send(&log, "hi").await;
    let brief = |text| client::Send { deadline_ms: 300, ..message(&log, uuid::Uuid::now_v7(), text) };
    world.with_store(1, |store| store.is_mute = true);
    let error = bob.refusal(Ask::Send(brief("taken"))).await;
    assert_eq!((error.code.as_str(), error.indeterminate), ("indeterminate", true), "{error:?}");
    world.suspend(world.partition_of(log.parse().expect("a log id")), 1);
    let error = bob.refusal(Ask::Send(brief("parked"))).await;
    assert_eq!((error.code.as_str(), error.indeterminate), ("home_unavailable", false), "{error:?}");
    assert!(error.retry_after_ms.is_some());
}

#[tokio::test]
async fn history_is_read_here_while_the_home_cannot_be_reached() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[1].address, "bob", 1).await;
    let log = alice.open_direct("bob").await;
    for number in 0..10 {
        alice.send(&log, &number.to_string()).await;
    }
    world.nodes[0].shutdown.cancel();
    let read = client::ReadHistory {
        log: log.clone(),
        from: Some(client::read_history::From::After(String::new())),
        limit: 100,
    };
    let Answer::HistoryPage(page) = bob.ask(Ask::ReadHistory(read)).await else { panic!("no page") };
    assert!(page.at_end && page.entries.len() == 11);
    let resumed = bob.follow(&log, &page.entries[4].position).await;
    assert!(matches!(resumed.answer, Some(resumed::Answer::Continue(_))), "{resumed:?}");
    assert_eq!(bob.entries_to(11).await.len(), 6);
}

#[tokio::test]
async fn a_position_that_this_copy_has_not_reached_is_asked_at_the_home() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let mut bob = Client::hello(world.nodes[1].address, "bob", 1).await;
    let log = alice.open_direct("bob").await;
    world.state.lock().replication_is_cut = true;
    let sent = alice.send(&log, "only at home").await;
    let resumed = bob.follow(&log, &sent.position).await;
    assert!(matches!(resumed.answer, Some(resumed::Answer::Continue(_))), "{resumed:?}");
    let resumed = bob.follow(&log, "").await;
    assert!(matches!(resumed.answer, Some(resumed::Answer::Continue(_))), "{resumed:?}");
    assert_eq!(bob.entries_to(2).await.len(), 2);
}

#[tokio::test]
async fn each_kind_of_bad_input_is_told_by_name() {
    let world = World::start(REGIONS).await;
    let address = world.nodes[0].address;
    for is_json in [false, true] {
        let mut client = Client::connect(address, is_json).await;
        let early = client.refusal(Ask::OpenChat(client::OpenChat::default())).await;
        assert_eq!(early.code, Code::Unauthenticated.as_str());
        let garbage =
            if is_json { Message::text(r#"{"send": 7}"#) } else { Message::binary(vec![0xff, 0xff, 0xff]) };
        client.say_raw(garbage).await;
        let Answer::Error(error) = client.told().await else { panic!("no error") };
        assert_eq!(error.code, "bad_request");
        assert!(error.message.contains("ClientFrame"), "{error:?}");
        let other_kind = if is_json { Message::binary(vec![1]) } else { Message::text("{}") };
        client.say_raw(other_kind).await;
        let Answer::Error(error) = client.told().await else { panic!("no error") };
        assert!(error.message.contains("takes"), "{error:?}");
        let hello = |version, user: &str| {
            Ask::Hello(client::Hello { protocol_version: version, user: user.into(), ..Default::default() })
        };
        let error = client.refusal(hello(1, "a/b")).await;
        assert!(error.code == "bad_request" && error.message.contains("a/b"), "{error:?}");
        let error = client.refusal(hello(9, "alice")).await;
        assert!(error.code == "unsupported_version" && error.message.contains('9'), "{error:?}");
        assert!(client.next().await.is_none(), "the connection ends");
    }
}

#[tokio::test]
async fn bad_requests_of_a_session_are_told_by_name_and_it_goes_on() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    let log = alice.open_direct("bob").await;
    let other = alice.open_direct("carol").await;
    let unknown = LogId::group([9; 16]).to_string();
    let error = alice.refusal(Ask::Send(message(&unknown, uuid::Uuid::now_v7(), "x"))).await;
    assert!(error.code == "unknown_chat" && error.message.contains(&unknown), "{error:?}");
    let error = alice.refusal(Ask::Send(message("nonsense", uuid::Uuid::now_v7(), "x"))).await;
    assert!(error.code == "bad_request" && error.message.contains("nonsense"), "{error:?}");
    let large = "x".repeat(limits::BODY_MAX_BYTES + 1);
    let error = alice.refusal(Ask::Send(message(&log, uuid::Uuid::now_v7(), &large))).await;
    assert!(error.code == "too_large" && error.message.contains("65537"), "{error:?}");
    let open = client::OpenChat {
        chat: Some(client::open_chat::Chat::DirectWith("dave".to_owned())),
        allowed_regions: vec!["mars".to_owned()],
        ..Default::default()
    };
    let error = alice.refusal(Ask::OpenChat(open)).await;
    assert!(error.code == "unknown_region" && error.message.contains("mars"), "{error:?}");
    let sent = alice.send(&other, "hi").await;
    for (position, code) in
        [("made-up", "position_malformed"), (sent.position.as_str(), "position_of_other_chat")]
    {
        let resumed = alice.follow(&log, position).await;
        let Some(resumed::Answer::Error(error)) = resumed.answer else { panic!("{resumed:?}") };
        assert_eq!(error.code, code);
        assert!(error.message.contains(position));
    }
    let mut eve = Client::hello(world.nodes[1].address, "eve", 1).await;
    let error = eve.refusal(Ask::Send(message(&log, uuid::Uuid::now_v7(), "x"))).await;
    assert_eq!(error.code, "forbidden");
    let resumed = eve.follow(&log, "").await;
    let Some(resumed::Answer::Error(error)) = resumed.answer else { panic!("{resumed:?}") };
    assert_eq!(error.code, "forbidden");
    alice.send(&log, "still here").await;
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_connection_with_its_code() {
    let world = World::start(REGIONS).await;
    let mut alice = Client::hello(world.nodes[0].address, "alice", 1).await;
    alice.say_raw(Message::binary(vec![0; limits::FRAME_MAX_BYTES + 1])).await;
    let Answer::Error(error) = alice.told().await else { panic!("no error") };
    assert!(error.code == "too_large" && error.message.contains("131072"), "{error:?}");
    assert!(alice.next().await.is_none());
}

#[tokio::test]
async fn a_connection_that_offers_no_subprotocol_is_told_the_two() {
    let world = World::start(&["us-east"]).await;
    let refused = tokio_tungstenite::connect_async(format!("ws://{}/v1/ws", world.nodes[0].address)).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!(response.status(), 400);
    let body = String::from_utf8(response.into_body().expect("a problem")).expect("text");
    assert!(body.contains("hearth.v1.proto") && body.contains("hearth.v1.json"), "{body}");
}

#[tokio::test]
async fn a_client_is_welcomed_only_once_it_is_known_how_many_regions_there_are() {
    for (regions, expected) in [(REGIONS, false), (&REGIONS[..1], true)] {
        let world = World::unplaced(regions, |_| {}).await;
        let address = world.nodes[0].address;
        let early = Client::try_connect(address, false).await;
        assert_eq!(early.err().map(|status| status.as_u16()), Some(503), "no placement has come");
        world.place_all();
        let mut client = Client::connect(address, false).await;
        let hello =
            client::Hello { protocol_version: 1, user: "alice".into(), device: 1, ..Default::default() };
        let Answer::Welcome(welcome) = client.ask(Ask::Hello(hello)).await else { panic!("no welcome") };
        assert_eq!(welcome.one_region, expected, "{} regions", regions.len());
    }
}
