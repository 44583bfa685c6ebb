//! Clients that are killed again and again, with a state file: what they called queued is in the chat once and in
//! order, and what they read leaves nothing out.

use crate::PROGRAM;
use lab::Lab;
use serde_json::Value;
use std::{collections::HashMap, path::PathBuf, process::Stdio};
use tests::{
    deployment::{patience, start, whole},
    session::{connect, history, open_direct, text},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// After how many queued messages each life of the sender ends.
const LIVES: [usize; 10] = [1, 40, 3, 200, 0, 90, 1, 300, 17, 60];
/// The life before which the chat's home dies.
const HOME_DIES_BEFORE: usize = 5;
const LINES_PER_LIFE: usize = 400;
/// After how many lines a life of the reader ends.
const READER_TAKES: [usize; 5] = [2, 400, 1, 700, 150];

struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(lab: &Lab, verb: &str, region: &str, who: [&str; 2], state: &PathBuf, more: &[&str]) -> Self {
        let mut edges = vec![lab.front(region).expect("a region")];
        edges.extend(lab.edges(region).expect("a region"));
        let mut child = Command::new(PROGRAM)
            .args([verb, "--json", "--as", who[0], "--with", who[1], "--edge", &edges.join(",")])
            .arg("--state")
            .arg(state)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
        Self { child, lines }
    }

    /// The next line, if it comes before the client ends.
    async fn line(&mut self) -> Option<Value> {
        let line =
            timeout(patience(), self.lines.next_line()).await.expect("a line in time").expect("is text")?;
        Some(serde_json::from_str(&line).expect("is JSON"))
    }

    /// Kills it; answers the whole lines that it had printed and nobody had read.
    async fn kill(mut self) -> Vec<Value> {
        self.child.kill().await.expect("is killed");
        let mut left = Vec::new();
        while let Ok(Some(line)) = self.lines.next_line().await
            && let Ok(line) = serde_json::from_str(&line)
        {
            left.push(line);
        }
        left
    }

    async fn ended(mut self) {
        let ended = timeout(patience(), self.child.wait()).await.expect("ends in time").expect("ends");
        assert!(ended.success(), "{ended}");
    }
}

/// One life: it is fed lines, and killed once so many were queued; answers what was, ids with texts.
async fn send_and_die(lab: &Lab, state: &PathBuf, life: usize, count: usize) -> Vec<(String, String)> {
    let mut client = Client::start(lab, "send", "us-east", ["ann", "ben"], state, &[]);
    let mut input = client.child.stdin.take().expect("is piped");
    let text = move |line: u64| format!("life {life} line {line}");
    let fed = tokio::spawn(async move {
        for line in 1..=LINES_PER_LIFE as u64 {
            // The client dies while it is fed.
            if input.write_all(format!("{}\n", text(line)).as_bytes()).await.is_err() {
                return None;
            }
        }
        // Kept open: the end of the input would be an end of the life.
        Some(input)
    });
    let mut queued = Vec::new();
    while queued.len() < count {
        let line = client.line().await.expect("the client lives");
        if line["event"] == "queued" {
            let id = line["message_id"].as_str().expect("an id").to_owned();
            queued.push((id, text(line["line"].as_u64().expect("a number"))));
        }
    }
    // What it had printed besides counts too.
    for line in client.kill().await {
        if line["event"] == "queued" {
            let id = line["message_id"].as_str().expect("an id").to_owned();
            queued.push((id, text(line["line"].as_u64().expect("a number"))));
        }
    }
    let _fed = fed.await.expect("no panic");
    queued
}

/// Reads the chat over many lives, until `last` was read; answers the texts with their offsets.
async fn read_and_die(lab: &Lab, state: &PathBuf, last: &str) -> HashMap<String, u64> {
    let mut place = 0;
    let mut read = HashMap::new();
    for takes in READER_TAKES.into_iter().cycle() {
        let mut client = Client::start(lab, "tail", "ap-south", ["ben", "ann"], state, &["--from", "start"]);
        let mut lines = 0;
        while lines < takes && !read.contains_key(last) {
            take(&client.line().await.expect("the client lives"), &mut place, &mut read);
            lines += 1;
        }
        for line in client.kill().await {
            take(&line, &mut place, &mut read);
        }
        if read.contains_key(last) {
            break;
        }
    }
    read
}

fn take(line: &Value, place: &mut u64, read: &mut HashMap<String, u64>) {
    if line["event"] == "diverged" {
        *place = line["common_offset"].as_u64().expect("a number");
        return;
    }
    let offset = line["offset"].as_u64().expect("a number");
    assert!(offset <= *place + 1, "{} entries are left out before {line}", offset - *place - 1);
    *place = offset;
    if let Some(text) = line["text"].as_str() {
        read.insert(text.to_owned(), offset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_killed_again_and_again_lose_repeat_and_reorder_nothing() {
    let lab = start(whole(PROGRAM)).await;
    let mut ann = connect(&lab.edge("us-east").expect("a region"), "ann").await.expect("connects");
    let log = open_direct(&mut ann, "ben").await.expect("opens");
    let (senders, readers) = (lab.dir().join("ann.state"), lab.dir().join("ben.state"));

    let reading = read_and_die(&lab, &readers, "the end");
    let sending = async {
        let mut queued = Vec::new();
        for (life, count) in LIVES.into_iter().enumerate() {
            if life == HOME_DIES_BEFORE {
                lab.kill("us-east").await.expect("kills");
            }
            queued.extend(send_and_die(&lab, &senders, life, count).await);
        }
        let mut last = Client::start(&lab, "send", "eu-west", ["ann", "ben"], &senders, &[]);
        let mut input = last.child.stdin.take().expect("is piped");
        input.write_all(b"the end\n").await.expect("is fed");
        drop(input);
        while last.line().await.is_some() {}
        last.ended().await;
        queued
    };
    let (read, queued) = tokio::join!(reading, sending);

    let mut ben = connect(&lab.edge("ap-south").expect("a region"), "ben").await.expect("connects");
    let entries = history(&mut ben, &log).await.expect("a history");
    let mut texts = HashMap::new();
    for entry in &entries {
        if let Some(text) = text(entry) {
            let twice = texts.insert(text, (entry.message_id.clone(), entry.offset));
            assert!(twice.is_none(), "{twice:?} is there again at {}", entry.offset);
        }
    }
    println!("{} messages called queued, {} in the chat", queued.len(), texts.len());
    let mut before = 0;
    for (id, text) in &queued {
        let (in_log, offset) = texts.get(text).unwrap_or_else(|| panic!("{text:?} was queued and is lost"));
        assert_eq!(in_log, id, "{text:?} is there under its id");
        assert!(*offset > before, "{text:?} stands before what was queued earlier");
        before = *offset;
    }
    for (text, (_, offset)) in &texts {
        assert_eq!(read.get(text), Some(offset), "{text:?} was read at its place");
    }
    lab.stop().await.expect("stops");
}
