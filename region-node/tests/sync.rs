//! Long polls and event streams on real sockets, over nodes that keep their logs in memory.

mod support;

use region_node::AccountRate;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use support::{World, eventually, http::ask};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use types::LogId;
use uuid::Uuid;

/// Three regions where accounts are required.
async fn start(change: impl Fn(&mut region_node::Config)) -> World {
    let world = World::start_with(&["us-east", "eu-west", "ap-south"], |config| {
        config.development = false;
        change(config);
    })
    .await;
    world.publish_keys().await;
    world
}

/// A user on a device.
#[derive(Debug, Clone)]
struct Person {
    user: String,
    token: String,
}

/// What a client that asks has been told.
#[derive(Debug, Default)]
struct Told {
    /// The offsets that it has of each log.
    logs: BTreeMap<String, Vec<u64>>,
    /// The keys of the events, with their logs.
    events: Vec<(String, String)>,
    since: String,
}

impl Told {
    /// Takes in an answer, and checks that it follows what was told before.
    fn take(&mut self, answer: &Value) {
        for event in answer["events"].as_array().expect("events") {
            let (kind, said) = event.as_object().expect("one key").iter().next().expect("one key");
            let log = said["log"].as_str().unwrap_or_default().to_owned();
            let offsets = self.logs.entry(log.clone()).or_default();
            match kind.as_str() {
                "entries" => {
                    for entry in said["entries"].as_array().expect("entries") {
                        let offset = entry["offset"].as_str().and_then(|text| text.parse().ok());
                        assert_eq!(offset, Some(offsets.len() as u64 + 1), "in order, once: {event}");
                        offsets.push(offset.expect("a number"));
                    }
                }
                "diverged" => {
                    let common = said["commonOffset"].as_str().and_then(|text| text.parse().ok());
                    offsets.truncate(common.unwrap_or(0));
                }
                _ => {}
            }
            self.events.push((kind.clone(), log));
        }
    }

    fn count(&self, log: &str) -> usize {
        self.logs.get(log).map_or(0, Vec::len)
    }

    fn was_told(&self, kind: &str, log: &str) -> bool {
        self.events.iter().any(|(of, about)| of == kind && about == log)
    }
}

impl World {
    async fn register(&self, at: usize, name: &str) -> Person {
        let body = json!({
            "request_id": Uuid::now_v7(), "username": name, "password": "correct horse",
            "display_name": name, "device_name": "phone",
        });
        let (status, answer) = ask(self.nodes[at].address, "POST", "/v1/register", "", &body).await;
        assert!(matches!(status, 200 | 201), "{status} {answer}");
        let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
        Person { user: text("user"), token: text("access_token") }
    }

    async fn open(&self, at: usize, by: &Person, body: Value) -> String {
        let (status, answer) = ask(self.nodes[at].address, "POST", "/v1/chats", &by.token, &body).await;
        assert_eq!(status, 201, "{answer}");
        answer["log"].as_str().expect("a log").to_owned()
    }

    async fn say(&self, at: usize, by: &Person, log: &str) {
        let body = json!({"messageId": Uuid::now_v7(), "ciphertext": "aGk="});
        let path = format!("/v1/chats/{log}/messages");
        let (status, answer) = ask(self.nodes[at].address, "POST", &path, &by.token, &body).await;
        assert_eq!(status, 201, "{answer}");
    }

    /// Somebody waits at a node, and has been told all else.
    async fn waits(&self, at: usize) {
        let edge = &self.nodes[at].edge;
        eventually("a request waits", || async { (edge.waiting() > 0).then_some(()) }).await;
    }

    /// A device tells that it has come to the end of a chat.
    async fn read(&self, at: usize, by: &Person, log: &str) {
        let path = format!("/v1/chats/{log}/messages?limit=1");
        let (status, page) = ask(self.nodes[at].address, "GET", &path, &by.token, &Value::Null).await;
        assert_eq!(status, 200, "{page}");
        let position = &page["entries"][0]["position"];
        let body = json!({"delivered": position, "read": position});
        let path = format!("/v1/chats/{log}/receipts");
        let (status, answer) = ask(self.nodes[at].address, "POST", &path, &by.token, &body).await;
        assert_eq!(status, 202, "{answer}");
    }

    /// One request of a client.
    async fn sync(&self, at: usize, by: &Person, told: &mut Told, more: &str) -> Value {
        let path = format!("/v1/sync?since={}{more}", told.since);
        let (status, answer) = ask(self.nodes[at].address, "GET", &path, &by.token, &Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        told.take(&answer);
        told.since = answer["next"].as_str().expect("a token").to_owned();
        answer
    }

    /// Asks until all is told, at one node after the other.
    async fn drain(&self, by: &Person, told: &mut Told, more: &str) -> usize {
        for round in 0..100 {
            let answer = self.sync(round % self.nodes.len(), by, told, more).await;
            if answer["events"].as_array().is_some_and(Vec::is_empty) && answer["has_more"] == false {
                return round;
            }
        }
        panic!("there is always more");
    }
}

#[tokio::test]
async fn what_a_device_lacks_comes_in_bounded_pages_from_whichever_node() {
    let world = start(|_| {}).await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(1, "ben").await);
    let direct = world.open(1, &ben, json!({"directWith": ann.user})).await;
    let key = "00000000-0000-7000-8000-000000000001";
    let group = world.open(2, &ben, json!({"group": {"key": key, "members": [ann.user]}})).await;
    for number in 0..6 {
        world.say(number % 3, &ben, &direct).await;
        world.say(number % 3, &ben, &group).await;
    }
    let mut told = Told::default();
    let rounds = world.drain(&ann, &mut told, "&limit=4").await;
    assert!(rounds >= 4, "{rounds} pages");
    assert_eq!((told.count(&direct), told.count(&group)), (7, 7));
    assert!(told.was_told("joined", &direct) && told.was_told("joined", &group));
    let account = told.logs.keys().find(|log| log.starts_with("a_")).expect("the own account");
    assert!(told.count(account) >= 1, "{told:?}");
    world.say(2, &ann, &group).await;
    world.drain(&ann, &mut told, "").await;
    assert_eq!((told.count(&direct), told.count(&group)), (7, 8), "own messages too, and nothing twice");
}

#[tokio::test]
async fn a_client_that_waits_is_told_of_what_comes_first() {
    let world = start(|_| {}).await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(1, "ben").await);
    let direct = world.open(1, &ben, json!({"directWith": ann.user})).await;
    let mut told = Told::default();
    world.drain(&ann, &mut told, "").await;
    // However soon it comes: about when the question does, or while it waits.
    for (at, is_early) in [(0, true), (0, false), (1, false), (2, false)] {
        let before = told.count(&direct);
        let (answer, ()) = tokio::join!(world.sync(at, &ann, &mut told, "&wait_s=20"), async {
            if !is_early {
                world.waits(at).await;
            }
            world.say(1, &ben, &direct).await;
        });
        assert!(!answer["events"].as_array().expect("events").is_empty(), "{answer}");
        world.drain(&ann, &mut told, "").await;
        assert_eq!(told.count(&direct), before + 1);
    }
    let key = "00000000-0000-7000-8000-000000000002";
    let (_, group) = tokio::join!(world.sync(2, &ann, &mut told, "&wait_s=20"), async {
        world.waits(2).await;
        world.open(1, &ben, json!({"group": {"key": key, "members": [ann.user]}})).await
    });
    assert!(told.was_told("joined", &group), "{:?}", told.events);
    world.drain(&ann, &mut told, "").await;
    let answer = world.sync(0, &ann, &mut told, "&wait_s=1").await;
    assert_eq!(answer["events"], json!([]), "nothing came, and the wait has ended");
}

#[tokio::test]
async fn a_client_is_told_of_what_a_failover_undid_before_what_stands_there_now() {
    let world = start(|_| {}).await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(1, "ben").await);
    let direct = world.open(1, &ben, json!({"directWith": ann.user})).await;
    world.say(1, &ben, &direct).await;
    let mut told = Told::default();
    world.drain(&ann, &mut told, "").await;
    world.state.lock().replication_is_cut = true;
    world.say(1, &ben, &direct).await;
    world.say(1, &ben, &direct).await;
    world.sync(1, &ann, &mut told, "").await;
    assert_eq!(told.count(&direct), 4);
    world.state.lock().replication_is_cut = false;
    let partition = world.partition_of(direct.parse::<LogId>().expect("an id"));
    world.fail_over(partition, 0);
    world.say(2, &ben, &direct).await;
    world.drain(&ann, &mut told, "").await;
    assert!(told.was_told("diverged", &direct), "{:?}", told.events);
    assert_eq!(told.count(&direct), 3);
}

#[tokio::test]
async fn who_waits_while_a_failover_undoes_entries_is_told_so() {
    let world = start(|_| {}).await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(1, "ben").await);
    let direct = world.open(1, &ben, json!({"directWith": ann.user})).await;
    world.state.lock().replication_is_cut = true;
    world.say(1, &ben, &direct).await;
    let mut told = Told::default();
    for _ in 0..4 {
        world.sync(1, &ann, &mut told, "").await;
    }
    assert_eq!(told.count(&direct), 2);
    world.state.lock().replication_is_cut = false;
    let partition = world.partition_of(direct.parse::<LogId>().expect("an id"));
    let (_, ()) = tokio::join!(world.sync(1, &ann, &mut told, "&wait_s=20"), async {
        world.waits(1).await;
        world.fail_over(partition, 0);
    });
    assert!(told.was_told("diverged", &direct), "{:?}", told.events);
    assert_eq!(told.count(&direct), 1);
}

/// Up to which offset each user has read, as the last event of each says.
fn reads(answers: &[Value], log: &str) -> BTreeMap<String, String> {
    let events = answers.iter().flat_map(|answer| answer["events"].as_array().cloned().unwrap_or_default());
    let receipts = events.map(|event| event["receipts"].clone()).filter(|said| said["log"] == log);
    let each = receipts.flat_map(|said| said["receipts"].as_array().cloned().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    each.map(|receipt| (text(&receipt["user"]), text(&receipt["read"]["offset"]))).collect()
}

#[tokio::test]
async fn receipts_reach_a_client_that_waits_and_one_that_does_not() {
    let often = AccountRate { burst: 10_000, per_min: 10_000 };
    let world = start(|config| config.account_rates.syncs = often).await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(1, "ben").await);
    let direct = world.open(1, &ben, json!({"directWith": ann.user})).await;
    let mut told = Told::default();
    world.drain(&ann, &mut told, "").await;
    let (waited, ()) = tokio::join!(world.sync(0, &ann, &mut told, "&wait_s=20"), async {
        world.waits(0).await;
        world.read(1, &ben, &direct).await;
    });
    assert_eq!(reads(&[waited], &direct).get(&ben.user).map(String::as_str), Some("1"));
    world.say(1, &ben, &direct).await;
    world.drain(&ann, &mut told, "").await;
    world.read(1, &ben, &direct).await;
    // Its home writes it within two seconds.
    let told = tokio::sync::Mutex::new(told);
    eventually("a receipt is told to whoever does not wait", || async {
        let answer = world.sync(2, &ann, &mut *told.lock().await, "").await;
        reads(&[answer], &direct).get(&ben.user).filter(|offset| *offset == "2").map(|_| ())
    })
    .await;
    let rounds = world.drain(&ann, &mut told.into_inner(), "").await;
    assert_eq!(rounds, 0, "it is told once");
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_again() {
    let world = start(|config| config.account_rates.syncs = AccountRate { burst: 3, per_min: 1 }).await;
    let ann = world.register(0, "ann").await;
    for _ in 0..3 {
        world.sync(0, &ann, &mut Told::default(), "").await;
    }
    for path in ["/v1/sync", "/v1/sync?wait_s=20", "/v1/events"] {
        let (status, answer) = ask(world.nodes[0].address, "GET", path, &ann.token, &Value::Null).await;
        assert_eq!((status, &answer["code"]), (429, &json!("rate_limited")), "{path}");
        assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms > 1_000), "{answer}");
    }
}

/// A stream of events.
struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    async fn open(address: SocketAddr, by: &Person, last_id: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("the node listens");
        let last = if last_id.is_empty() { String::new() } else { format!("last-event-id: {last_id}\r\n") };
        let request = format!(
            "GET /v1/events HTTP/1.1\r\nhost: hearth\r\nauthorization: Bearer {}\r\n{last}\r\n",
            by.token
        );
        stream.write_all(request.as_bytes()).await.expect("the connection stands");
        Self { stream, text: String::new() }
    }

    /// The next event: its name, its id and its data. Chunks hold whole events.
    async fn next(&mut self) -> (String, String, Value) {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.unwrap_or_default().trim().to_owned()
                };
                let data = field("data:");
                if !data.is_empty() {
                    return (field("event:"), field("id:"), serde_json::from_str(&data).expect("JSON"));
                }
                continue;
            }
            let mut more = vec![0; 64 * 1024];
            let read = timeout(Duration::from_secs(10), self.stream.read(&mut more)).await;
            let read = read.expect("something comes").expect("the connection stands");
            assert!(read > 0, "the stream ended: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&more[..read]));
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_at_another_node_where_it_was_left_off() {
    let world = start(|_| {}).await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(1, "ben").await);
    let direct = world.open(1, &ben, json!({"directWith": ann.user})).await;
    let mut told = Told::default();
    let mut events = Events::open(world.nodes[0].address, &ann, "").await;
    while told.count(&direct) < 1 {
        let (_, id, data) = events.next().await;
        told.take(&data);
        told.since = id;
    }
    for expected in 2..5 {
        world.say(1, &ben, &direct).await;
        while told.count(&direct) < expected {
            let (_, id, data) = events.next().await;
            told.take(&data);
            told.since = id;
        }
    }
    drop(events);
    world.say(1, &ben, &direct).await;
    let mut events = Events::open(world.nodes[2].address, &ann, &told.since).await;
    while told.count(&direct) < 5 {
        let (_, _, data) = events.next().await;
        told.take(&data);
    }
    let key = "00000000-0000-7000-8000-000000000003";
    let group = world.open(1, &ben, json!({"group": {"key": key, "members": [ann.user]}})).await;
    while !told.was_told("joined", &group) {
        let (_, _, data) = events.next().await;
        told.take(&data);
    }
}

#[tokio::test]
async fn each_wrong_request_and_each_bound_is_a_problem_by_name() {
    let world = start(|config| config.sessions_max = 2).await;
    let address = world.nodes[0].address;
    let (ann, ben) = (world.register(0, "ann").await, world.register(0, "ben").await);
    let mut told = Told::default();
    world.drain(&ann, &mut told, "").await;
    let refused = async |path: &str, by: &Person| {
        let (status, answer) = ask(address, "GET", path, &by.token, &Value::Null).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let since = &told.since;
    let expected = |status, code: &str| (status, code.to_owned());
    assert_eq!(refused("/v1/sync?since=made-up", &ann).await, expected(400, "position_malformed"));
    assert_eq!(refused(&format!("/v1/sync?since={since}"), &ben).await, expected(403, "forbidden"));
    assert_eq!(refused("/v1/sync?limit=0", &ann).await, expected(400, "bad_request"));
    assert_eq!(refused("/v1/sync?limit=501", &ann).await, expected(400, "bad_request"));
    assert_eq!(refused("/v1/sync?wait_s=61", &ann).await, expected(400, "bad_request"));
    assert_eq!(refused("/v1/sync?more=1", &ann).await, expected(400, "bad_request"));
    let (status, _) = ask(address, "GET", "/v1/sync", "", &Value::Null).await;
    assert_eq!(status, 401);
    let (status, answer) =
        ask(address, "POST", "/v1/sync", &ann.token, &json!({"since": since, "limit": 5})).await;
    assert_eq!((status, &answer["events"]), (200, &json!([])));
    let (mut first, mut second) =
        (Events::open(address, &ann, "").await, Events::open(address, &ben, "").await);
    first.next().await;
    second.next().await;
    let path = format!("/v1/sync?since={since}&wait_s=5");
    assert_eq!(refused(&path, &ann).await, expected(429, "overloaded"));
}
