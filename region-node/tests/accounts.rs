//! Accounts over REST and WebSocket, on nodes that keep their logs in memory.

mod support;

use proto::client::{self, client_frame::Frame as Ask, server_frame::Frame as Answer};
use region_node::{
    AccountRate, AccountRates,
    service::{NameOwner, NameStanding},
};
use serde_json::{Value, json};
use std::time::Duration;
use support::{World, http::ask, ws::Client};
use tokio::time::Instant;
use types::{LogId, Name, UserId};
use uuid::Uuid;

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Three regions where accounts are required.
async fn start() -> World {
    let world = World::start_with(&["us-east", "eu-west", "ap-south"], |config| {
        config.development = false;
    })
    .await;
    world.publish_keys().await;
    world
}

/// A device that has logged in.
#[derive(Debug, Clone)]
struct Device {
    user: String,
    device: String,
    token: String,
    refresh: String,
}

impl Device {
    #[track_caller]
    fn of((status, answer): support::http::Answer) -> Self {
        assert!(matches!(status, 200 | 201), "{status} {answer}");
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Self {
            user: text("user"),
            device: text("device"),
            token: text("access_token"),
            refresh: text("refresh_token"),
        }
    }
}

#[track_caller]
fn assert_refused((status, answer): &support::http::Answer, expected: u16, code: &str) {
    assert_eq!((*status, answer["code"].as_str()), (expected, Some(code)), "{answer}");
}

fn registration(username: &str) -> Value {
    json!({
        "request_id": Uuid::now_v7(), "username": username, "password": "correct horse",
        "display_name": format!("{username} the First"), "device_name": "phone",
    })
}

fn credentials(name: &str, password: &str) -> Value {
    json!({"request_id": Uuid::now_v7(), "name": name, "password": password, "device_name": "laptop"})
}

impl World {
    async fn ask(
        &self,
        at: usize,
        method: &str,
        path: &str,
        token: &str,
        body: Value,
    ) -> support::http::Answer {
        ask(self.nodes[at].address, method, path, token, &body).await
    }

    async fn register(&self, at: usize, username: &str) -> Device {
        Device::of(self.ask(at, "POST", "/v1/register", "", registration(username)).await)
    }

    async fn log_in(&self, at: usize, name: &str) -> Device {
        Device::of(self.ask(at, "POST", "/v1/login", "", credentials(name, "correct horse")).await)
    }

    /// Once every node has a key its token is good everywhere, a moment later.
    async fn refresh(&self, at: usize, token: &str) -> support::http::Answer {
        self.ask(at, "POST", "/v1/refresh", "", json!({"refresh_token": token})).await
    }

    async fn session(&self, at: usize, token: &str) -> (Client, Answer) {
        let mut client = Client::connect(self.nodes[at].address, false).await;
        let hello =
            client::Hello { protocol_version: 1, token: token.to_owned(), ..client::Hello::default() };
        let answer = client.ask(Ask::Hello(hello)).await;
        (client, answer)
    }
}

/// Waits for the end of a session, and answers the error that it was told.
async fn end_of(client: &mut Client) -> String {
    let mut told = String::new();
    while let Some(frame) = client.next().await {
        if let Some(Answer::Error(error)) = frame.frame {
            told = error.code;
        }
    }
    told
}

#[tokio::test]
async fn who_registers_here_logs_in_there_and_is_revoked_from_anywhere() {
    let world = start().await;
    let phone = world.register(0, "ann").await;
    let laptop = world.log_in(1, "Ann").await;
    assert_eq!(phone.user, laptop.user);
    assert_ne!(phone.device, laptop.device);
    let (_, devices) = world.ask(2, "GET", "/v1/devices", &phone.token, Value::Null).await;
    let names: Vec<_> = devices["devices"].as_array().expect("a list").iter().map(|it| &it["name"]).collect();
    assert_eq!(names.len(), 2, "{devices}");

    let (mut here, welcome) = world.session(0, &laptop.token).await;
    assert!(matches!(welcome, Answer::Welcome(_)), "{welcome:?}");
    let (mut there, welcome) = world.session(1, &laptop.token).await;
    assert!(matches!(welcome, Answer::Welcome(_)), "{welcome:?}");
    let began = Instant::now();
    let path = format!("/v1/devices/{}", laptop.device);
    let (status, answer) = world.ask(2, "DELETE", &path, &phone.token, Value::Null).await;
    assert_eq!(status, 204, "{answer}");
    assert_eq!(end_of(&mut here).await, "device_revoked");
    assert_eq!(end_of(&mut there).await, "device_revoked");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for at in 0..3 {
        support::eventually("the token is refused", || async {
            let answer = world.ask(at, "GET", "/v1/account", &laptop.token, Value::Null).await;
            (answer.1["code"] == "device_revoked").then_some(())
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let (mut client, answer) = world.session(at, &laptop.token).await;
        assert!(matches!(answer, Answer::Error(ref error) if error.code == "device_revoked"), "{answer:?}");
        assert!(client.next().await.is_none());
        assert_refused(&world.refresh(at, &laptop.refresh).await, 401, "unauthenticated");
    }
    let (status, own) = world.ask(1, "GET", "/v1/account", &phone.token, Value::Null).await;
    assert_eq!((status, &own["username"]), (200, &json!("ann")), "the other device goes on");
}

#[tokio::test]
async fn a_registration_is_repeated_safely_and_takes_no_name_from_anybody() {
    let world = start().await;
    let asked = registration("ann");
    let first = Device::of(world.ask(0, "POST", "/v1/register", "", asked.clone()).await);
    let again = Device::of(world.ask(1, "POST", "/v1/register", "", asked.clone()).await);
    assert_eq!((&first.user, &first.device), (&again.user, &again.device));
    let (status, _) = world.ask(2, "GET", "/v1/account", &again.token, Value::Null).await;
    assert_eq!(status, 200);

    let mut guessed = asked.clone();
    guessed["password"] = json!("another horse");
    assert_refused(&world.ask(1, "POST", "/v1/register", "", guessed).await, 409, "name_taken");
    assert_refused(&world.ask(2, "POST", "/v1/register", "", registration("ANN")).await, 409, "name_taken");
    let mut nobody = asked;
    nobody["request_id"] = json!(Uuid::nil());
    nobody["username"] = json!("ben");
    assert_refused(&world.ask(0, "POST", "/v1/register", "", nobody).await, 400, "bad_request");

    let asked = credentials("ann", "correct horse");
    let first = Device::of(world.ask(1, "POST", "/v1/login", "", asked.clone()).await);
    let again = Device::of(world.ask(2, "POST", "/v1/login", "", asked).await);
    assert_eq!(first.device, again.device, "a log-in that is repeated makes one device");
}

#[tokio::test]
async fn nobody_learns_from_a_log_in_whether_a_name_exists() {
    let world = start().await;
    world.register(0, "ann").await;
    let mut answers = Vec::new();
    for name in ["ann", "nobody_at_all"] {
        let began = Instant::now();
        let answer = world.ask(1, "POST", "/v1/login", "", credentials(name, "wrong horse")).await;
        assert_refused(&answer, 401, "bad_credentials");
        let ms = began.elapsed().as_millis();
        assert!(ms >= 500, "{name} was refused after {ms} ms");
        answers.push(answer);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_claim_that_led_to_nothing_is_taken_over_once_its_account_can_never_begin() {
    let world = start().await;
    let ghost = UserId::new("ughost").expect("valid");
    let at_ms = |ago_ms| NameStanding::Claimed { at_ms: host::clock::wall_ms() - ago_ms };
    let name = Name::new("ann").expect("valid");
    let owner = |ago_ms| NameOwner { user: ghost.clone(), standing: at_ms(ago_ms) };
    world.state.lock().names.insert(name.clone(), owner(1_000));
    let answer = world.ask(0, "POST", "/v1/register", "", registration("ann")).await;
    assert_refused(&answer, 409, "name_taken");

    world.state.lock().names.insert(name.clone(), owner(10 * 60_000));
    let ann = world.register(1, "ann").await;
    assert_eq!(world.state.lock().names[&name].standing, NameStanding::Held);
    assert_ne!(ann.user, ghost.as_str());
    let log = LogId::account(&ghost);
    let partition = world.partition_of(log);
    let entries = world.with_store(1, |store| store.copy(partition).entries(log));
    assert_eq!(entries.len(), 1, "the ghost's account was voided");
    world.log_in(2, "ann").await;
}

#[tokio::test]
async fn a_refresh_token_is_renewed_daily_and_betrays_its_copy() {
    let world = start().await;
    world.state.lock().account_age_ms = 2 * DAY_MS;
    let device = world.register(0, "ann").await;
    world.state.lock().account_age_ms = 0;
    let (status, renewed) = world.refresh(1, &device.refresh).await;
    assert_eq!(status, 200, "{renewed}");
    let second = renewed["refresh_token"].as_str().expect("it was older than a day").to_owned();
    let (_, young) = world.refresh(2, &second).await;
    assert!(young["access_token"].is_string() && young["refresh_token"].is_null(), "{young}");

    // The answer may have been lost: the one before counts for a minute.
    world.state.lock().account_age_ms = 120_000;
    let (status, renewed) = world.refresh(0, &device.refresh).await;
    assert_eq!(status, 200, "{renewed}");
    let third = renewed["refresh_token"].as_str().expect("the second may not have arrived").to_owned();
    assert_refused(&world.refresh(1, &device.refresh).await, 401, "unauthenticated");
    assert_eq!(world.refresh(1, &third).await.0, 200, "what was never good betrays nothing");
    assert_refused(&world.refresh(1, &second).await, 401, "unauthenticated");
    assert_refused(&world.refresh(1, &third).await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_forged_token_opens_nothing() {
    let world = start().await;
    let other = start().await;
    let ann = world.register(0, "ann").await;
    let stranger = other.register(0, "ann").await;
    let last = ann.token.len() - 1;
    let changed = format!("{}{}", &ann.token[..last - 20], &stranger.token[last - 20..]);
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbm4ifQ.";
    for forged in [stranger.token.as_str(), &changed, none, "v4.public.", "x", ""] {
        assert_opens_nothing(&world, forged, "unauthenticated").await;
        let (mut client, answer) = world.session(1, forged).await;
        assert!(matches!(answer, Answer::Error(ref error) if error.code == "unauthenticated"), "{answer:?}");
        assert!(client.next().await.is_none());
    }
    assert_eq!(world.ask(1, "POST", "/v1/logout", &ann.token, Value::Null).await.0, 204);
    assert_opens_nothing(&world, &ann.token, "device_revoked").await;
}

/// Every call that needs a caller refuses the token before it looks at anything else.
async fn assert_opens_nothing(world: &World, token: &str, code: &str) {
    let calls = [
        ("POST", "/v1/logout"),
        ("POST", "/v1/password"),
        ("GET", "/v1/devices"),
        ("DELETE", "/v1/devices"),
        ("PATCH", "/v1/devices/1"),
        ("DELETE", "/v1/devices/1"),
        ("GET", "/v1/account"),
        ("PATCH", "/v1/account/profile"),
        ("PUT", "/v1/account/privacy"),
        ("GET", "/v1/account/export"),
        ("POST", "/v1/account/close"),
        ("GET", "/v1/users?username=ann"),
        ("GET", "/v1/users/ann"),
        ("GET", "/v1/contacts"),
        ("PUT", "/v1/contacts/ann"),
        ("DELETE", "/v1/contacts/ann"),
        ("GET", "/v1/blocked"),
        ("PUT", "/v1/blocked/ann"),
        ("DELETE", "/v1/blocked/ann"),
        ("PUT", "/v1/chats/x/marks"),
        ("POST", "/v1/chats"),
        ("GET", "/v1/chats/x/messages"),
        ("POST", "/v1/chats/x/messages"),
    ];
    for (method, path) in calls {
        let answer = world.ask(1, method, path, token, Value::Null).await;
        assert_eq!((answer.0, answer.1["code"].as_str()), (401, Some(code)), "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn a_changed_password_logs_the_others_off() {
    let world = start().await;
    let phone = world.register(0, "ann").await;
    let laptop = world.log_in(1, "ann").await;
    let change = json!({
        "request_id": Uuid::now_v7(), "old_password": "correct horse", "new_password": "battery staple",
    });
    let mut wrong = change.clone();
    wrong["old_password"] = json!("wrong horse");
    let answer = world.ask(2, "POST", "/v1/password", &phone.token, wrong).await;
    assert_refused(&answer, 401, "bad_credentials");
    for _ in 0..2 {
        let (status, answer) = world.ask(2, "POST", "/v1/password", &phone.token, change.clone()).await;
        assert_eq!(status, 204, "{answer}");
    }
    assert_refused(&world.refresh(0, &laptop.refresh).await, 401, "unauthenticated");
    let answer = world.ask(0, "POST", "/v1/login", "", credentials("ann", "correct horse")).await;
    assert_refused(&answer, 401, "bad_credentials");
    Device::of(world.ask(0, "POST", "/v1/login", "", credentials("ann", "battery staple")).await);
    let (status, _) = world.refresh(1, &phone.refresh).await;
    assert_eq!(status, 200, "the device that changed it stays");
    assert_eq!(world.ask(1, "POST", "/v1/logout", &phone.token, Value::Null).await.0, 204);
    assert_refused(&world.refresh(1, &phone.refresh).await, 401, "unauthenticated");
}

#[tokio::test]
async fn people_find_each_other_and_block_each_other() {
    let world = start().await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(1, "ben").await);
    let profile = json!({"about": "likes horses", "avatar": "media-1"});
    assert_eq!(world.ask(0, "PATCH", "/v1/account/profile", &ben.token, profile).await.0, 204);
    let (status, found) = world.ask(2, "GET", "/v1/users?username=Ben", &ann.token, Value::Null).await;
    assert_eq!((status, &found["user"], &found["about"]), (200, &json!(ben.user), &json!("likes horses")));
    let answer = world.ask(2, "GET", "/v1/users?username=nobody", &ann.token, Value::Null).await;
    assert_refused(&answer, 404, "unknown_account");

    let path = format!("/v1/contacts/{}", ben.user);
    assert_eq!(world.ask(1, "PUT", &path, &ann.token, json!({"name": "Benny"})).await.0, 204);
    let (_, contacts) = world.ask(2, "GET", "/v1/contacts?limit=1", &ann.token, Value::Null).await;
    let expected = json!({"contacts": [{"user": ben.user, "name": "Benny"}], "has_more": false});
    assert_eq!(contacts, expected);

    let open = |with: &Device| json!({"directWith": with.user});
    assert_eq!(world.ask(0, "POST", "/v1/chats", &ann.token, open(&ben)).await.0, 201);
    let path = format!("/v1/blocked/{}", ann.user);
    assert_eq!(world.ask(2, "PUT", &path, &ben.token, Value::Null).await.0, 204);
    assert_refused(&world.ask(0, "POST", "/v1/chats", &ann.token, open(&ben)).await, 403, "forbidden");
    let (_, seen) = world.ask(0, "GET", &format!("/v1/users/{}", ben.user), &ann.token, Value::Null).await;
    assert_eq!((&seen["display_name"], &seen["about"]), (&json!("ben the First"), &json!("")));
    let (_, blocked) = world.ask(0, "GET", "/v1/blocked", &ben.token, Value::Null).await;
    assert_eq!(blocked["users"], json!([ann.user]));
    assert_eq!(world.ask(2, "DELETE", &path, &ben.token, Value::Null).await.0, 204);
    assert_eq!(world.ask(0, "POST", "/v1/chats", &ann.token, open(&ben)).await.0, 201);
    let nobody = json!({"directWith": "unobody"});
    assert_refused(&world.ask(0, "POST", "/v1/chats", &ann.token, nobody).await, 404, "unknown_account");

    let (status, export) = world.ask(1, "GET", "/v1/account/export", &ann.token, Value::Null).await;
    assert_eq!((status, &export["contacts"][0]["name"]), (200, &json!("Benny")));
    assert!(!export.to_string().contains("argon2"), "{export}");
}

#[tokio::test]
async fn an_account_that_has_ended_lets_nobody_in_and_its_name_rests() {
    let world = start().await;
    let ann = world.register(0, "ann").await;
    let (mut session, _) = world.session(2, &ann.token).await;
    let close = |password: &str| json!({"request_id": Uuid::now_v7(), "password": password});
    let answer = world.ask(1, "POST", "/v1/account/close", &ann.token, close("wrong horse")).await;
    assert_refused(&answer, 401, "bad_credentials");
    let (status, answer) =
        world.ask(1, "POST", "/v1/account/close", &ann.token, close("correct horse")).await;
    assert_eq!(status, 204, "{answer}");
    assert_eq!(end_of(&mut session).await, "device_revoked");
    assert_refused(&world.refresh(0, &ann.refresh).await, 401, "unauthenticated");
    let answer = world.ask(0, "POST", "/v1/login", "", credentials("ann", "correct horse")).await;
    assert_refused(&answer, 401, "bad_credentials");
    let answer = world.ask(0, "POST", "/v1/register", "", registration("ann")).await;
    assert_refused(&answer, 409, "name_taken");
    let name = Name::new("ann").expect("valid");
    let long_ago = NameStanding::Freed { at_ms: host::clock::wall_ms() - 31 * DAY_MS };
    world.state.lock().names.get_mut(&name).expect("it is known").standing = long_ago;
    let next = world.register(0, "ann").await;
    assert_ne!(next.user, ann.user);
}

#[tokio::test]
async fn names_change_and_those_of_before_rest_for_all_others() {
    let world = start().await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(0, "ben").await);
    let rename =
        async |at, of: &Device, body| world.ask(at, "PATCH", "/v1/account/names", &of.token, body).await;
    let refused = async |name: &str| {
        let answer = world.ask(0, "POST", "/v1/login", "", credentials(name, "correct horse")).await;
        assert_refused(&answer, 401, "bad_credentials");
    };
    let phone = "+4915112345678";
    assert_eq!(rename(1, &ann, json!({"username": "Anna", "phone": phone})).await.0, 204);
    for name in ["anna", phone] {
        assert_eq!(world.log_in(2, name).await.user, ann.user);
    }
    refused("ann").await;
    assert_refused(&world.ask(0, "POST", "/v1/register", "", registration("ann")).await, 409, "name_taken");
    assert_refused(&rename(0, &ben, json!({"username": "ann"})).await, 409, "name_taken");
    assert_refused(&rename(0, &ben, json!({"phone": phone})).await, 409, "name_taken");
    assert_refused(&rename(0, &ben, json!({"username": "a"})).await, 400, "bad_request");
    assert_eq!(
        rename(2, &ann, json!({"username": "ann", "phone": null})).await.0,
        204,
        "whoever had it has it back"
    );
    assert_eq!(world.log_in(0, "ann").await.user, ann.user);
    refused(phone).await;
    refused("anna").await;
    let standing = |name: Name| world.state.lock().names[&name].standing;
    assert_eq!(standing(Name::new("ann").expect("valid")), NameStanding::Held);
    assert!(matches!(standing(Name::new("anna").expect("valid")), NameStanding::Freed { .. }));
    let again = rename(0, &ann, json!({"username": "ann"})).await;
    assert_eq!(again.0, 204, "nothing is to be changed: {again:?}");
}

#[tokio::test]
async fn of_changes_of_names_that_race_the_account_has_one_and_the_others_are_let_go() {
    let world = start().await;
    let ann = world.register(0, "ann").await;
    let rename = async |at, name: &str| {
        world.ask(at, "PATCH", "/v1/account/names", &ann.token, json!({"username": name})).await
    };
    let (one, other) = tokio::join!(rename(0, "anna"), rename(1, "anne"));
    for answer in [&one, &other] {
        assert!(answer.0 == 204 || answer.1["code"] == "conflict", "{answer:?}");
    }
    let (_, account) = world.ask(2, "GET", "/v1/account", &ann.token, Value::Null).await;
    let has = account["username"].as_str().expect("a name").to_owned();
    for name in ["ann", "anna", "anne"] {
        let row = world.state.lock().names.get(&Name::new(name).expect("valid")).cloned();
        let is_held = row.as_ref().is_some_and(|row| row.standing == NameStanding::Held);
        assert_eq!(is_held, name == has, "{name}: {row:?}, and the account has {has}");
    }
}

#[tokio::test]
async fn who_comes_too_often_is_told_when_to_come_again() {
    let rate = AccountRate { burst: 2, per_min: 6 };
    let rates = AccountRates { guesses: rate, registrations: rate, ..AccountRates::default() };
    let world = World::start_with(&["us-east"], |config| {
        config.development = false;
        config.account_rates = rates;
    })
    .await;
    world.publish_keys().await;
    world.register(0, "ann").await;
    world.register(0, "ben").await;
    let answer = world.ask(0, "POST", "/v1/register", "", registration("carl")).await;
    assert_refused(&answer, 429, "rate_limited");
    assert!(answer.1["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 10_000), "{answer:?}");
    world.log_in(0, "ann").await;
    world.log_in(0, "ann").await;
    let answer = world.ask(0, "POST", "/v1/login", "", credentials("ann", "correct horse")).await;
    assert_refused(&answer, 429, "rate_limited");
    world.log_in(0, "ben").await;
}

#[tokio::test]
async fn a_region_that_reaches_no_home_lets_known_devices_go_on() {
    let world = start().await;
    let ann = world.register(0, "ann").await;
    let partition = world.partition_of(LogId::account(&UserId::new(&ann.user).expect("valid")));
    world.suspend(partition, 0);
    let (_session, welcome) = world.session(1, &ann.token).await;
    assert!(matches!(welcome, Answer::Welcome(_)), "{welcome:?}");
    // Its refresh waits for the next home.
    let address = world.nodes[2].address;
    let body = json!({"refresh_token": ann.refresh});
    let refreshing = tokio::spawn(async move { ask(address, "POST", "/v1/refresh", "", &body).await });
    world.fail_over(partition, 1);
    let (status, answer) = refreshing.await.expect("no panic");
    assert_eq!(status, 200, "{answer}");
}
