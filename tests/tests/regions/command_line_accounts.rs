//! Accounts on the command line: register, log in, talk as oneself, log out.

use crate::PROGRAM;
use lab::Lab;
use serde_json::Value;
use std::{path::Path, process::Stdio};
use tests::deployment::{patience, start, whole};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

const PASSWORD: &str = "correct horse battery staple";

/// Runs a command to its end; answers whether it succeeded, and what it printed.
pub(crate) async fn run(
    lab: &Lab,
    region: &str,
    file: &Path,
    args: &[&str],
    input: &str,
) -> (bool, String, String) {
    let edge = lab.edge(region).expect("a region").replace("ws://", "http://").replace("/v1/ws", "");
    let mut child = Command::new(PROGRAM)
        .args(args)
        .args(["--json", "--edge", &edge, "--credentials"])
        .arg(file)
        .env("HEARTH_PASSWORD", PASSWORD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("is piped");
    stdin.write_all(input.as_bytes()).await.expect("is fed");
    drop(stdin);
    let ended = timeout(patience(), child.wait_with_output()).await.expect("ends in time").expect("ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("is text");
    (ended.status.success(), text(ended.stdout), text(ended.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn users_register_talk_and_log_out() {
    let mut options = whole(PROGRAM);
    options.overlay.node.insert("development".to_owned(), false.into());
    let lab = start(options).await;
    let [ann, ann_again, ben] = ["ann", "ann-again", "ben"].map(|name| lab.dir().join(name));

    let register = ["register", "--username", "ann"];
    let (done, said, told) = run(&lab, "us-east", &ann, &register, "").await;
    assert!(done, "{told}");
    let user = serde_json::from_str::<Value>(&said).expect("is JSON")["user"].clone();
    let (done, _, told) = run(&lab, "ap-south", &ben, &["register", "--username", "ben"], "").await;
    assert!(done, "{told}");
    let (done, _, told) = run(&lab, "eu-west", &ann_again, &["register", "--username", "ann"], "").await;
    assert!(!done && told.contains("name_taken"), "{told}");

    // The token of a file that says that it has ended is refreshed before it is shown.
    let kept = std::fs::read_to_string(&ann).expect("is there");
    let mut ended: Value = serde_json::from_str(&kept).expect("is JSON");
    ended["access_token_until_ms"] = 0.into();
    std::fs::write(&ann, ended.to_string()).expect("is written");
    let (done, _, told) = run(&lab, "us-east", &ann, &["send", "--with", "ben"], "hello\nben\n").await;
    assert!(done, "{told}");
    let fresh = std::fs::read_to_string(&ann).expect("is there");
    let fresh: Value = serde_json::from_str(&fresh).expect("is JSON");
    assert!(fresh["access_token_until_ms"].as_u64() > Some(0), "{fresh}");

    let tail = ["tail", "--with", "ann", "--from", "start", "--count", "2"];
    let (done, said, told) = run(&lab, "ap-south", &ben, &tail, "").await;
    assert!(done, "{told}");
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    let texts: Vec<&str> = lines.iter().filter_map(|line| line["text"].as_str()).collect();
    assert_eq!(texts, ["hello", "ben"]);
    assert!(lines.iter().all(|line| line["sender"] == user), "{said}");

    // The same user on another device; then the first device leaves.
    let (done, _, told) = run(&lab, "eu-west", &ann_again, &["login", "--name", "ann"], "").await;
    assert!(done, "{told}");
    let copy = lab.dir().join("copy");
    std::fs::copy(&ann, &copy).expect("is copied");
    let (done, _, told) = run(&lab, "us-east", &ann, &["logout"], "").await;
    assert!(done && !ann.exists(), "{told}");
    let (done, _, told) = run(&lab, "us-east", &copy, &["send", "--with", "ben"], "late\n").await;
    assert!(!done && told.contains("device_revoked"), "{told}");
    let (done, _, told) = run(&lab, "eu-west", &ann_again, &["send", "--with", "ben"], "still me\n").await;
    assert!(done, "{told}");
    lab.stop().await.expect("stops");
}
