//! A client without a WebSocket asks one region after the other, and loses nothing when the home of its chats and of its
//! account is lost between two questions.

use crate::PROGRAM;
use anyhow::ensure;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Instant};
use tests::{
    deployment::{REGIONS, patience, start, whole},
    eventually,
    rest::{SignedIn, ask},
};

const PASSWORD: &str = "correct horse";

/// What a client that asks has been told.
#[derive(Debug, Default)]
struct Told {
    /// The message ids that it has of each log, in order.
    logs: BTreeMap<String, Vec<String>>,
    since: String,
}

impl Told {
    fn take(&mut self, answer: &Value) {
        for event in answer["events"].as_array().into_iter().flatten() {
            for (kind, said) in event.as_object().into_iter().flatten() {
                let ids = self.logs.entry(said["log"].as_str().unwrap_or_default().to_owned()).or_default();
                let number = |value: &Value| value.as_str().and_then(|text| text.parse::<usize>().ok());
                match kind.as_str() {
                    "entries" => {
                        for entry in said["entries"].as_array().into_iter().flatten() {
                            assert_eq!(
                                number(&entry["offset"]),
                                Some(ids.len() + 1),
                                "a gap or a repeat: {event}"
                            );
                            ids.push(entry["messageId"].as_str().unwrap_or_default().to_owned());
                        }
                    }
                    "diverged" => ids.truncate(number(&said["commonOffset"]).unwrap_or(0)),
                    "left" => panic!("nobody has left: {event}"),
                    _ => {}
                }
            }
        }
        self.since = answer["next"].as_str().expect("a token").to_owned();
    }

    /// Asks at a node until it has so many entries of a chat.
    async fn reaches(&mut self, http: &str, of: &SignedIn, log: &str, count: usize) {
        let give_up = Instant::now() + patience();
        while self.logs.get(log).is_none_or(|ids| ids.len() < count) {
            assert!(Instant::now() < give_up, "it has {:?}, and {count} entries are there", self.logs);
            let path = format!("/v1/sync?since={}&wait_s=5", self.since);
            match ask(http, "GET", &path, &of.token, &Value::Null).await {
                Ok((200, answer)) => self.take(&answer),
                Ok((_, answer)) => assert_eq!(answer["retryable"], true, "{answer}"),
                Err(why) => panic!("{http} is there: {why}"),
            }
        }
    }
}

async fn say(http: &str, of: &SignedIn, log: &str, number: u8) -> String {
    let id = format!("00000000-0000-7000-8000-0000000000{number:02}");
    let body = json!({"messageId": id, "ciphertext": "aGk=", "ack": "ACK_POLICY_REPLICATED"});
    let path = format!("/v1/chats/{log}/messages");
    eventually("a message", patience(), async || {
        let (status, answer) = ask(http, "POST", &path, &of.token, &body).await?;
        ensure!(status == 201, "{status} {answer}");
        Ok(())
    })
    .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_loses_nothing_when_a_region_is_lost_between_two_questions() {
    let [home, near, far] = REGIONS;
    let mut options = whole(PROGRAM);
    options.overlay.node.insert("development".to_owned(), false.into());
    let lab = start(options).await;
    let http = |region: &str| lab.http(region).expect("a region");
    let register = async |name: &str, region: &str| {
        let make = async || SignedIn::register(&http(region), name, PASSWORD).await;
        eventually("a registration", patience(), make).await
    };
    let (ann, ben) = (register("ann", home).await, register("ben", near).await);
    let body = json!({"directWith": ben.user});
    let (status, opened) = ask(&http(home), "POST", "/v1/chats", &ann.token, &body).await.expect("answers");
    assert_eq!(status, 201, "{opened}");
    let log = opened["log"].as_str().expect("a log").to_owned();
    let mut expected = Vec::new();
    let mut told = Told::default();
    for (number, region) in (1..).zip([home, near, far]) {
        expected.push(say(&http(near), &ben, &log, number).await);
        told.reaches(&http(region), &ann, &log, expected.len() + 1).await;
    }
    lab.kill(home).await.expect("kills");
    for (number, region) in (4..).zip([far, near]) {
        expected.push(say(&http(near), &ben, &log, number).await);
        told.reaches(&http(region), &ann, &log, expected.len() + 1).await;
    }
    assert_eq!(told.logs[&log][1..], expected);
    lab.stop().await.expect("stops");
}
