//! REST on a real socket, over nodes that keep their logs in memory.

mod support;

use http::StatusCode;
use prost::Message as _;
use proto::client;
use serde_json::{Value, json};
use std::net::SocketAddr;
use support::World;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use types::{LogId, limits};

/// One request on its own connection: the status, the content type and the body.
async fn call(address: SocketAddr, method: &str, path: &str, user: &str, body: &str) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    let user = if user.is_empty() { String::new() } else { format!("x-hearth-user: {user}\r\n") };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: hearth\r\nconnection: close\r\n{user}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the connection stands");
    let mut response = Vec::new();
    // A refused body may be answered before it was read, and the rest of it reset the connection.
    let _ = stream.read_to_end(&mut response).await;
    let response = String::from_utf8(response).expect("text");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    (status, kind.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
}

/// A problem with this status and code, whose detail names `about`.
#[track_caller]
fn assert_problem(
    (status, kind, body): &(u16, String, Value),
    expected: StatusCode,
    code: &str,
    about: &str,
) {
    assert_eq!((*status, kind.as_str()), (expected.as_u16(), "application/problem+json"), "{body}");
    assert_eq!(body["code"], code, "{body}");
    assert_eq!(body["status"], expected.as_u16(), "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains(about)), "{body}");
}

#[tokio::test]
async fn a_chat_is_opened_written_and_read() {
    let world = World::start(&["us-east", "eu-west"]).await;
    let (here, there) = (world.nodes[0].address, world.nodes[1].address);
    let (status, _, opened) = call(here, "POST", "/v1/chats", "alice", r#"{"direct_with": "bob"}"#).await;
    assert_eq!(status, 201, "{opened}");
    let path = format!("/v1/chats/{}/messages", opened["log"].as_str().expect("a log"));
    let mut positions = Vec::new();
    for number in 0..5 {
        let body = json!({"message_id": uuid::Uuid::now_v7(), "ciphertext": "aGk="}).to_string();
        let (status, _, sent) = call(there, "POST", &path, "bob", &body).await;
        assert_eq!((status, &sent["offset"]), (201, &json!((number + 2).to_string())), "{sent}");
        let (_, _, again) = call(here, "POST", &path, "bob", &body).await;
        assert_eq!(again["position"], sent["position"], "a retry answers the original");
        positions.push(sent["position"].as_str().expect("a position").to_owned());
    }
    let query = format!("{path}?after={}&limit=2", positions[0]);
    let (status, _, page) = call(there, "GET", &query, "alice", "").await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["entries"].as_array().expect("entries").len(), 2);
    assert_eq!(page["entries"][0]["position"], json!(positions[1]));
    let (_, _, page) = call(there, "GET", &format!("{path}?before={}", positions[0]), "alice", "").await;
    assert_eq!(page["entries"].as_array().expect("entries").len(), 1);
    assert_eq!(page["atEnd"], true);
    let page = read_protobuf(here, &path).await;
    let offsets: Vec<u64> = page.entries.iter().map(|entry| entry.offset).collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5, 6]);
    assert_eq!(page.entries[1].position, positions[0]);
}

/// The newest page of a chat, as protobuf.
async fn read_protobuf(address: SocketAddr, path: &str) -> client::HistoryPage {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: hearth\r\nconnection: close\r\nx-hearth-user: alice\r\n\
         accept: text/html, application/x-protobuf;q=0.9\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("the connection stands");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.expect("the answer ends");
    let end = response.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&response[..end]);
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    client::HistoryPage::decode(&response[end + 4..]).expect("a page")
}

#[tokio::test]
async fn each_kind_of_bad_input_is_a_problem_by_name() {
    let world = World::start(&["us-east"]).await;
    let address = world.nodes[0].address;
    let (_, _, opened) = call(address, "POST", "/v1/chats", "alice", r#"{"direct_with": "bob"}"#).await;
    let log = opened["log"].as_str().expect("a log").to_owned();
    let path = format!("/v1/chats/{log}/messages");
    let (_, _, other) = call(address, "POST", "/v1/chats", "alice", r#"{"direct_with": "carol"}"#).await;
    let other = other["position"].as_str().expect("a position").to_owned();

    let answer = call(address, "POST", "/v1/chats", "", r#"{"direct_with": "bob"}"#).await;
    assert_problem(&answer, StatusCode::UNAUTHORIZED, "unauthenticated", "x-hearth-user");
    let answer = call(address, "POST", "/v1/chats", "alice", "{").await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "bad_request", "request body");
    let answer =
        call(address, "POST", "/v1/chats", "alice", r#"{"direct_with": "bob", "allowed_regions": ["mars"]}"#)
            .await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "unknown_region", "mars");
    let unknown = LogId::group([7; 16]).to_string();
    let answer = call(address, "GET", &format!("/v1/chats/{unknown}/messages"), "alice", "").await;
    assert_problem(&answer, StatusCode::NOT_FOUND, "unknown_chat", &unknown);
    let answer = call(address, "GET", &path, "eve", "").await;
    assert_problem(&answer, StatusCode::FORBIDDEN, "forbidden", "eve");
    let answer = call(address, "GET", &format!("{path}?after=made-up"), "alice", "").await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "position_malformed", "made-up");
    let answer = call(address, "GET", &format!("{path}?after={other}"), "alice", "").await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "position_of_other_chat", &other);
    let answer = call(address, "GET", &format!("{path}?limit=501"), "alice", "").await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "bad_request", "501");
    // 87,384 characters of base64 are 65,538 bytes.
    let body = json!({"message_id": uuid::Uuid::now_v7(), "ciphertext": "A".repeat(87_384)}).to_string();
    let answer = call(address, "POST", &path, "alice", &body).await;
    assert_problem(&answer, StatusCode::PAYLOAD_TOO_LARGE, "too_large", "65538");
    let body = "x".repeat(limits::FRAME_MAX_BYTES + 1);
    let answer = call(address, "POST", &path, "alice", &body).await;
    assert_problem(&answer, StatusCode::PAYLOAD_TOO_LARGE, "too_large", "131072");
}
