//! A user's list of chats is there in every region, on a new device, and when the home of the account is lost.

use crate::PROGRAM;
use anyhow::ensure;
use serde_json::{Value, json};
use tests::{
    deployment::{REGIONS, patience, start, whole},
    eventually,
    rest::{SignedIn, ask},
};

const PASSWORD: &str = "correct horse";

/// The answer to a request that is to succeed.
async fn asked(http: &str, method: &str, path: &str, of: &SignedIn, body: Value) -> anyhow::Result<Value> {
    let (status, answer) = ask(http, method, path, &of.token, &body).await?;
    ensure!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    Ok(answer)
}

async fn say(http: &str, of: &SignedIn, log: &str, number: u8) {
    let id = format!("00000000-0000-7000-8000-0000000000{number:02}");
    let body = json!({"messageId": id, "ciphertext": "aGk=", "ack": "ACK_POLICY_REPLICATED"});
    let path = format!("/v1/chats/{log}/messages");
    eventually("a message", patience(), async || asked(http, "POST", &path, of, body.clone()).await).await;
}

/// What a list tells of each chat: its id, who it is with, and what is unread.
fn told(list: &Value) -> Vec<(String, Value, u64)> {
    let chats = list["chats"].as_array().cloned().unwrap_or_default();
    let told = |chat: &Value| {
        let log = chat["log"].as_str().unwrap_or_default().to_owned();
        (log, chat["with"].clone(), chat["unread"].as_u64().unwrap_or(u64::MAX))
    };
    chats.iter().map(told).collect()
}

async fn lists(http: &str, path: &str, of: &SignedIn, expected: &[(String, Value, u64)]) -> Value {
    eventually("the list", patience(), async || {
        let list = asked(http, "GET", path, of, Value::Null).await?;
        ensure!(told(&list) == expected, "{expected:?} is not listed in {list:#}");
        Ok(list)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_chats_is_there_in_every_region_and_outlives_its_home() {
    let [home, near, far] = REGIONS;
    let mut options = whole(PROGRAM);
    options.overlay.node.insert("development".to_owned(), false.into());
    let lab = start(options).await;
    let http = |region: &str| lab.http(region).expect("a region");
    let register = async |name: &str, region: &str| {
        let make = async || SignedIn::register(&http(region), name, PASSWORD).await;
        eventually("a registration", patience(), make).await
    };
    let (ann, ben, cem) =
        (register("ann", home).await, register("ben", near).await, register("cem", far).await);

    let opened = async |by: &SignedIn, region: &str, body: Value| {
        let chat = asked(&http(region), "POST", "/v1/chats", by, body).await.expect("opens");
        chat["log"].as_str().expect("a log").to_owned()
    };
    let direct = opened(&ben, near, json!({"directWith": ann.user})).await;
    let again = opened(&ann, home, json!({"directWith": ben.user})).await;
    assert_eq!(direct, again, "there is one chat of two users");
    let key = "00000000-0000-7000-8000-000000000001";
    let members = [&ann.user, &ben.user];
    let group = opened(&cem, far, json!({"group": {"key": key, "members": members}})).await;
    say(&http(far), &cem, &group, 1).await;
    say(&http(near), &ben, &direct, 2).await;
    say(&http(near), &ben, &direct, 3).await;

    let with = |of: &SignedIn| json!(of.user);
    let of_ann = [(direct.clone(), with(&ben), 2), (group.clone(), Value::Null, 1)];
    for region in REGIONS {
        let list = lists(&http(region), "/v1/chats", &ann, &of_ann).await;
        let last = &list["chats"][0]["last"];
        assert_eq!((&last["ciphertext"], &last["sender"]), (&json!("aGk="), &with(&ben)), "{last}");
        assert_eq!((&list["chats"][1]["members"], &list["unavailable"]), (&json!(3), &json!(0)));
    }
    lists(
        &http(near),
        "/v1/chats",
        &ben,
        &[(direct.clone(), with(&ann), 0), (group.clone(), Value::Null, 1)],
    )
    .await;
    lists(&http(far), "/v1/chats", &cem, &[(group.clone(), Value::Null, 0)]).await;

    let first = lists(&http(home), "/v1/chats?limit=1", &ann, &of_ann[..1]).await;
    let next = first["next"].as_str().expect("there is more");
    let rest = lists(&http(far), &format!("/v1/chats?limit=1&after={next}"), &ann, &of_ann[1..]).await;
    assert_eq!(rest["next"], Value::Null);
    let marks = json!({"muted_until_ms": 0, "archived": true, "pinned": false});
    asked(&http(far), "PUT", &format!("/v1/chats/{direct}/marks"), &ann, marks).await.expect("marked");
    lists(&http(near), "/v1/chats?archived=true", &ann, &of_ann[..1]).await;
    lists(&http(near), "/v1/chats?archived=false", &ann, &of_ann[1..]).await;

    lab.kill(home).await.expect("kills");
    let list =
        asked(&http(near), "GET", "/v1/chats", &ann, Value::Null).await.expect("a copy answers at once");
    assert_eq!(told(&list), of_ann);
    say(&http(far), &cem, &group, 4).await;
    let later = [(group.clone(), Value::Null, 2), (direct.clone(), with(&ben), 2)];
    lists(&http(near), "/v1/chats", &ann, &later).await;
    let tablet =
        eventually("a log-in", patience(), async || SignedIn::log_in(&http(far), "ann", PASSWORD).await)
            .await;
    lists(&http(far), "/v1/chats", &tablet, &later).await;
    let page = asked(&http(far), "GET", &format!("/v1/chats/{direct}/messages"), &tablet, Value::Null)
        .await
        .expect("a new device reads what there is");
    assert_eq!(page["entries"].as_array().map(Vec::len), Some(3), "{page}");
    lab.stop().await.expect("stops");
}
