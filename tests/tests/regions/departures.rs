//! What accounts tell chats that are homed in other regions: their users block each other, and close their accounts.

use crate::PROGRAM;
use anyhow::ensure;
use serde_json::{Value, json};
use tests::{
    deployment::{REGIONS, patience, start, whole},
    eventually,
    rest::{SignedIn, ask},
};
use uuid::Uuid;

const PASSWORD: &str = "correct horse";

/// A user, and the node where they ask.
struct Person {
    of: SignedIn,
    http: String,
}

impl Person {
    async fn ask(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        ask(&self.http, method, path, &self.of.token, body).await
    }

    /// Repeats a request until it is answered so.
    async fn until(&self, what: &str, wanted: u16, code: &str, asked: (&str, &str, Value)) -> Value {
        let (method, path, body) = asked;
        eventually(what, patience(), async || {
            let (status, answer) = self.ask(method, path, &body).await?;
            ensure!(status == wanted && (code.is_empty() || answer["code"] == code), "{status} {answer}");
            Ok(answer)
        })
        .await
    }

    async fn open(&self, body: Value) -> String {
        let opened = self.until("a chat", 201, "", ("POST", "/v1/chats", body)).await;
        opened["log"].as_str().expect("a log").to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_writes_nothing_and_who_closes_the_account_leaves_every_chat() {
    let [home, near, far] = REGIONS;
    let mut options = whole(PROGRAM);
    options.overlay.node.insert("development".to_owned(), false.into());
    let lab = start(options).await;
    let register = async |name: &str, region: &str| {
        let http = lab.http(region).expect("a region");
        let make = async || SignedIn::register(&http, name, PASSWORD).await;
        let of = eventually("a registration", patience(), make).await;
        Person { of, http }
    };
    let (ann, ben) = (register("ann", home).await, register("ben", near).await);
    let cem = register("cem", far).await;
    let direct = ann.open(json!({"directWith": ben.of.user})).await;
    let members = json!([ann.of.user, ben.of.user]);
    let group = cem.open(json!({"group": {"key": Uuid::now_v7(), "members": members}})).await;
    let says = async |by: &Person, log: &str, wanted: u16, code: &str| {
        eventually("an answer", patience(), async || {
            // Another message each time: one that is there already stays there.
            let body = json!({"messageId": Uuid::now_v7(), "ciphertext": "aGk="});
            let (status, answer) = by.ask("POST", &format!("/v1/chats/{log}/messages"), &body).await?;
            ensure!(status == wanted && (code.is_empty() || answer["code"] == code), "{status} {answer}");
            Ok(())
        })
        .await;
    };
    says(&ann, &direct, 201, "").await;
    let blocked = format!("/v1/blocked/{}", ann.of.user);
    ben.until("a block", 204, "", ("PUT", &blocked, Value::Null)).await;
    says(&ann, &direct, 403, "forbidden").await;
    says(&ben, &direct, 201, "").await;
    says(&ann, &group, 201, "").await;
    ben.until("no block", 204, "", ("DELETE", &blocked, Value::Null)).await;
    says(&ann, &direct, 201, "").await;
    let close = json!({"request_id": Uuid::now_v7(), "password": PASSWORD});
    ben.until("the end", 204, "", ("POST", "/v1/account/close", close)).await;
    eventually("two are in the group", patience(), async || {
        let (status, answer) = cem.ask("GET", &format!("/v1/chats/{group}/members"), &Value::Null).await?;
        let users: Vec<&str> =
            answer["members"].as_array().into_iter().flatten().filter_map(|it| it["user"].as_str()).collect();
        ensure!(status == 200 && users.len() == 2 && !users.contains(&&*ben.of.user), "{status} {answer}");
        Ok(())
    })
    .await;
    says(&ann, &direct, 404, "unknown_account").await;
    let list = ann.until("chats", 200, "", ("GET", "/v1/chats", Value::Null)).await;
    let direct = list["chats"].as_array().expect("chats").iter().find(|chat| chat["log"] == *direct);
    assert_eq!(direct.expect("it stays")["with"], *ben.of.user, "{list}");
    lab.stop().await.expect("stops");
}
