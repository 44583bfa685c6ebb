//! How often somebody may do something, and what somebody may not learn who does it.

#[path = "support/accounts.rs"]
mod accounts;
mod support;

use accounts::{Device, PASSWORD, credentials, refusal, refusal_of, start};
use futures_util::future::join_all;
use proto::client::{client_frame::Frame as Ask, server_frame::Frame as Answer};
use region_node::{AccountRate, AccountRates};
use serde_json::{Value, json};
use std::time::Duration;
use support::{PARTITIONS, World, http, ws};
use tokio::time::Instant;
use types::PartitionId;
use uuid::Uuid;

/// Nobody gets room again while a test runs.
const fn rate(burst: u32) -> AccountRate {
    AccountRate { burst, per_min: 1 }
}

async fn limited(rates: AccountRates) -> World {
    start(|config| config.account_rates = rates).await
}

#[track_caller]
fn assert_limited(answer: &http::Answer) {
    assert_eq!((answer.0, refusal(answer).as_str()), (429, "rate_limited"), "{answer:?}");
    assert!(answer.1["retry_after_ms"].as_u64().is_some_and(|ms| (1..=60_000).contains(&ms)), "{answer:?}");
}

async fn open_direct(world: &World, from: &Device, with: &Device) -> String {
    let opened = world.done("post", "/v1/chats", &from.token, json!({"directWith": with.user})).await;
    opened["log"].as_str().expect("a log").to_owned()
}

#[tokio::test]
async fn a_device_and_a_user_write_only_so_often() {
    let rates = AccountRates { device_writes: rate(3), user_writes: rate(4), ..AccountRates::default() };
    let world = limited(rates).await;
    let (ann, ben) = (world.register("ann").await, world.register("ben").await);
    let tablet = world.log_in("ann").await;
    let log = open_direct(&world, &ann, &ben).await;
    let path = format!("/v1/chats/{log}/messages");
    let send = |device: &Device| {
        let (world, path, token) = (&world, &path, device.token.clone());
        let body = json!({"messageId": Uuid::now_v7(), "ciphertext": "aGk="});
        async move { world.ask("post", path, &token, body).await }
    };
    for _ in 0..3 {
        assert_eq!(refusal(&send(&ann).await), "");
    }
    assert_limited(&send(&ann).await);
    let expiry =
        world.ask("patch", &format!("/v1/chats/{log}"), &ann.token, json!({"expiry_ms": 5_000})).await;
    assert_limited(&expiry);
    let (mut session, _) = world.session(&ann.token).await;
    let refused = session.refusal(Ask::Send(ws::message(&log, Uuid::now_v7(), "hi"))).await;
    assert_eq!(refused.code, "rate_limited");
    assert!(refused.retry_after_ms.is_some_and(|ms| ms > 0), "{refused:?}");

    assert_eq!(refusal(&send(&tablet).await), "", "another device has room of its own");
    assert_limited(&send(&tablet).await);
    assert_eq!(refusal(&send(&ben).await), "", "and another user");
}

#[tokio::test]
async fn log_ins_refreshes_and_look_ups_come_only_so_often() {
    let rates =
        AccountRates { logins: rate(2), refreshes: rate(2), look_ups: rate(2), ..AccountRates::default() };
    let world = limited(rates).await;
    let ann = world.register("ann").await;
    for name in ["ann", "ben", "cem"] {
        let answer = world.ask("post", "/v1/login", "", credentials(name, PASSWORD)).await;
        match name {
            "ann" => assert_eq!(refusal(&answer), ""),
            "ben" => assert_eq!(refusal(&answer), "bad_credentials"),
            _ => assert_limited(&answer),
        }
    }
    let refresh = json!({"refresh_token": ann.refresh});
    for _ in 0..2 {
        world.done("post", "/v1/refresh", "", refresh.clone()).await;
    }
    assert_limited(&world.ask("post", "/v1/refresh", "", refresh).await);
    let by_name = "/v1/users?username=ann";
    world.done("get", by_name, &ann.token, Value::Null).await;
    world.done("get", &format!("/v1/users/{}", ann.user), &ann.token, Value::Null).await;
    assert_limited(&world.ask("get", by_name, &ann.token, Value::Null).await);
}

#[tokio::test]
async fn a_user_opens_chats_only_so_often() {
    let world = start(|config| (config.openings_burst, config.openings_per_s) = (2, 1)).await;
    let (ann, ben) = (world.register("ann").await, world.register("ben").await);
    let mut opened = 0;
    let refused = loop {
        let group = json!({"group": {"key": Uuid::new_v4(), "members": [ben.user]}});
        let answer = world.ask("post", "/v1/chats", &ann.token, group).await;
        if !refusal(&answer).is_empty() {
            break answer;
        }
        opened += 1;
        assert!(opened < 50, "nobody is refused");
    };
    assert!(opened >= 2, "{opened}");
    assert_limited(&refused);
    let (mut session, _) = world.session(&ben.token).await;
    let open = || {
        let group = json!({"openChat": {"group": {"key": Uuid::new_v4()}}});
        let frame: proto::client::ClientFrame = serde_json::from_value(group).expect("a frame");
        frame.frame.expect("it says something")
    };
    for number in 0.. {
        assert!(number < 50, "nobody is refused");
        match session.ask(open()).await {
            Answer::ChatOpened(_) => {}
            answer => {
                assert_eq!(refusal_of(&answer), "rate_limited", "{answer:?}");
                break;
            }
        }
    }
}

/// Tries to log in at a node with a wrong password: the answer, and after how long it came.
async fn guess(world: &World, at: usize, name: &str) -> (http::Answer, Duration) {
    let began = Instant::now();
    let body = credentials(name, "wrong horse");
    let answer = http::ask(world.nodes[at].address, "POST", "/v1/login", "", &body).await;
    (answer, began.elapsed())
}

#[tokio::test]
async fn nobody_learns_from_a_log_in_whether_a_name_exists_while_homes_are_lost() {
    let world = start(|_| {}).await;
    world.register("ann").await;
    for partition in 0..PARTITIONS {
        world.suspend(PartitionId::new(partition), partition as usize % world.nodes.len());
    }
    let guesses = ["ann", "nobody_at_all"].map(|name| guess(&world, 0, name));
    let [(known, known_took), (unknown, unknown_took)] =
        <[_; 2]>::try_from(join_all(guesses).await).expect("two");
    assert_eq!((known.0, refusal(&known).as_str()), (503, "home_unavailable"), "{known:?}");
    assert_eq!(known, unknown);
    // Both have waited for a home, for as long.
    let patience = Duration::from_secs(10);
    assert!(known_took >= patience && unknown_took >= patience, "{known_took:?} {unknown_took:?}");
}

#[tokio::test]
async fn a_name_that_nobody_has_has_one_home_wherever_it_is_asked_for() {
    let world = start(|_| {}).await;
    for partition in 0..PARTITIONS / 2 {
        world.suspend(PartitionId::new(partition), partition as usize % world.nodes.len());
    }
    let names: Vec<String> = (0..8).map(|number| format!("nobody_{number}")).collect();
    let nodes = 0..world.nodes.len();
    let guesses = names.iter().flat_map(|name| nodes.clone().map(move |at| (at, name)));
    let guesses = join_all(guesses.map(|(at, name)| guess(&world, at, name))).await;
    let codes: Vec<String> = guesses.iter().map(|(answer, _)| refusal(answer)).collect();
    for (name, codes) in names.iter().zip(codes.chunks(world.nodes.len())) {
        assert!(codes.iter().all(|code| *code == codes[0]), "{name}: {codes:?}");
    }
    for code in ["bad_credentials", "home_unavailable"] {
        assert!(codes.iter().any(|known| known == code), "no {code}: {codes:?}");
    }
}
