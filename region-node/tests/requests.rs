//! Direct chats that strangers open stand as requests, over nodes that keep their logs in memory.

mod support;

use serde_json::{Value, json};
use support::{World, http::ask};
use uuid::Uuid;

/// A user on a device, at a node.
struct Person {
    user: String,
    token: String,
    at: usize,
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
        Person { user: text("user"), token: text("access_token"), at }
    }

    async fn ok(&self, by: &Person, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = ask(self.nodes[by.at].address, method, path, &by.token, &body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    async fn open(&self, by: &Person, with: &Person) -> String {
        let opened = self.ok(by, "POST", "/v1/chats", json!({"directWith": with.user})).await;
        opened["log"].as_str().expect("a log").to_owned()
    }

    async fn say(&self, by: &Person, log: &str) {
        let body = json!({"messageId": Uuid::now_v7(), "ciphertext": "aGk="});
        self.ok(by, "POST", &format!("/v1/chats/{log}/messages"), body).await;
    }

    /// The chats of a list, and how each stands as a request.
    async fn list(&self, of: &Person, query: &str) -> Vec<(String, Value)> {
        let list = self.ok(of, "GET", &format!("/v1/chats{query}"), Value::Null).await;
        let chats = list["chats"].as_array().expect("chats");
        chats
            .iter()
            .map(|chat| (chat["log"].as_str().expect("a log").to_owned(), chat["request"].clone()))
            .collect()
    }
}

async fn start() -> World {
    let world =
        World::start_with(&["us-east", "eu-west", "ap-south"], |config| config.development = false).await;
    world.publish_keys().await;
    world
}

#[tokio::test]
async fn what_a_stranger_opens_is_a_request_until_it_is_answered_or_declined() {
    let world = start().await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(1, "ben").await);
    let direct = world.open(&ben, &ann).await;
    world.say(&ben, &direct).await;
    let pending = [(direct.clone(), json!("pending"))];
    let plain = [(direct.clone(), Value::Null)];
    assert_eq!(world.list(&ann, "").await, pending);
    assert_eq!(world.list(&ann, "?requests=pending").await, pending);
    assert_eq!(world.list(&ann, "?requests=none").await, []);
    assert_eq!(world.list(&ben, "").await, plain, "who asks has a chat");
    let marks = format!("/v1/chats/{direct}/marks");
    world.ok(&ann, "PUT", &marks, json!({"declined": true})).await;
    assert_eq!(world.list(&ann, "").await, []);
    assert_eq!(world.list(&ann, "?requests=declined").await, [(direct.clone(), json!("declined"))]);
    world.say(&ben, &direct).await;
    assert_eq!(world.list(&ann, "").await, [], "more of it changes nothing");
    world.say(&ann, &direct).await;
    assert_eq!(world.list(&ann, "").await, plain, "an answer accepts it, declined or not");
    assert_eq!(world.list(&ann, "?requests=none").await, plain);
}

#[tokio::test]
async fn a_contact_asks_for_nothing_and_a_group_is_no_request() {
    let world = start().await;
    let (ann, ben) = (world.register(0, "ann").await, world.register(1, "ben").await);
    let cem = world.register(2, "cem").await;
    let contact = format!("/v1/contacts/{}", ben.user);
    world.ok(&ann, "PUT", &contact, json!({})).await;
    let direct = world.open(&ben, &ann).await;
    let members = [&ann.user];
    let group = json!({"group": {"key": Uuid::now_v7(), "members": members}});
    world.ok(&cem, "POST", "/v1/chats", group).await;
    let of_cem = world.open(&cem, &ann).await;
    let mut list = world.list(&ann, "").await;
    list.sort_by_key(|(log, _)| log.clone());
    let requests: Vec<_> = list.iter().filter(|(_, request)| !request.is_null()).collect();
    assert_eq!((list.len(), requests), (3, vec![&(of_cem.clone(), json!("pending"))]), "{direct}");
    world.ok(&ann, "DELETE", &contact, Value::Null).await;
    world.ok(&ann, "PUT", &format!("/v1/contacts/{}", cem.user), json!({})).await;
    assert_eq!(world.list(&ann, "?requests=pending").await, [(direct, json!("pending"))]);
    let (status, answer) =
        ask(world.nodes[0].address, "GET", "/v1/chats?requests=some", &ann.token, &Value::Null).await;
    assert_eq!((status, &answer["code"]), (400, &json!("bad_request")));
}
