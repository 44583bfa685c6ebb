//! Users with accounts, on nodes that keep their logs in memory.

// Each test file uses a part of it.
#![allow(dead_code)]

use crate::support::{World, http, ws::Client};
use proto::client::{
    self, client_frame::Frame as Ask, resumed::Answer as Resumption, server_frame::Frame as Answer,
};
use region_node::Config;
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) const PASSWORD: &str = "correct horse";

/// A device that has logged in.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) user: String,
    pub(crate) device: String,
    pub(crate) token: String,
    pub(crate) refresh: String,
}

/// Three regions where accounts are required.
pub(crate) async fn start(change: impl Fn(&mut Config)) -> World {
    let world = World::start_with(&["us-east", "eu-west", "ap-south"], |config| {
        config.development = false;
        change(config);
    })
    .await;
    world.publish_keys().await;
    world
}

pub(crate) fn credentials(name: &str, password: &str) -> Value {
    json!({"request_id": Uuid::now_v7(), "name": name, "password": password, "device_name": "laptop"})
}

impl World {
    pub(crate) async fn ask(&self, method: &str, path: &str, token: &str, body: Value) -> http::Answer {
        http::ask(self.nodes[1].address, &method.to_uppercase(), path, token, &body).await
    }

    /// An answer that is expected to be good.
    pub(crate) async fn done(&self, method: &str, path: &str, token: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, token, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) async fn sign_in(&self, path: &str, body: Value) -> Device {
        let answer = self.done("post", path, "", body).await;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Device {
            user: text("user"),
            device: text("device"),
            token: text("access_token"),
            refresh: text("refresh_token"),
        }
    }

    pub(crate) async fn register(&self, name: &str) -> Device {
        let body = json!({
            "request_id": Uuid::now_v7(), "username": name, "password": PASSWORD, "display_name": name,
            "device_name": "phone",
        });
        self.sign_in("/v1/register", body).await
    }

    pub(crate) async fn log_in(&self, name: &str) -> Device {
        let body = credentials(name, PASSWORD);
        self.sign_in("/v1/login", body).await
    }

    pub(crate) async fn session(&self, token: &str) -> (Client, Answer) {
        let mut client = Client::connect(self.nodes[1].address, false).await;
        let hello =
            client::Hello { protocol_version: 1, token: token.to_owned(), ..client::Hello::default() };
        let answer = client.ask(Ask::Hello(hello)).await;
        (client, answer)
    }
}

/// The code of a refusal; empty: there was none.
pub(crate) fn refusal((status, answer): &http::Answer) -> String {
    match answer["code"].as_str() {
        Some(code) => code.to_owned(),
        None if (200..300).contains(status) => String::new(),
        None => format!("{status}"),
    }
}

pub(crate) fn refusal_of(answer: &Answer) -> String {
    match answer {
        Answer::Error(error) => error.code.clone(),
        Answer::Resumed(client::Resumed { answer: Some(Resumption::Error(error)), .. }) => error.code.clone(),
        _ => String::new(),
    }
}
