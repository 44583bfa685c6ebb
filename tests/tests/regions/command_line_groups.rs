//! Groups on the command line: three users in three regions, who type.

use crate::{PROGRAM, command_line_accounts::run};
use lab::Lab;
use serde_json::Value;
use std::{path::Path, process::Stdio};
use tests::deployment::{REGIONS, patience, start, whole};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// `hearth chat --json` of somebody who types.
struct Typist {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Typist {
    fn start(lab: &Lab, region: &str, credentials: &Path, more: &[&str]) -> Self {
        let edge = lab.edge(region).expect("a region");
        let mut child = Command::new(PROGRAM)
            .args(["chat", "--json", "--edge", &edge, "--credentials"])
            .arg(credentials)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
        Self { stdin: child.stdin.take(), child, lines }
    }

    async fn types(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("goes on");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("is read");
        stdin.flush().await.expect("is read");
    }

    /// The next line that is wanted.
    async fn told(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut passed = Vec::new();
        let reading = async {
            loop {
                let line = self.lines.next_line().await.expect("is text").expect("goes on");
                let line: Value = serde_json::from_str(&line).expect("is JSON");
                if wanted(&line) {
                    return line;
                }
                passed.push(line);
            }
        };
        match timeout(patience(), reading).await {
            Ok(line) => line,
            Err(_) => panic!("never told: {what}, but {passed:#?}"),
        }
    }

    async fn event(&mut self, event: &str) -> Value {
        self.told(event, |line| line["event"] == event).await
    }

    /// A message of the chat, new or not.
    async fn message(&mut self, text: &str) -> Value {
        self.told(text, |line| line["text"] == text).await
    }

    async fn ends(mut self) {
        drop(self.stdin.take());
        let ended = timeout(patience(), self.child.wait()).await.expect("ends in time").expect("ends");
        assert!(ended.success(), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_in_three_regions_talk_in_a_group() {
    let mut options = whole(PROGRAM);
    options.overlay.node.insert("development".to_owned(), false.into());
    let lab = start(options).await;
    let mut users = Vec::new();
    for (name, region) in ["ann", "ben", "cem"].into_iter().zip(REGIONS) {
        let file = lab.dir().join(name);
        let (done, said, told) = run(&lab, region, &file, &["register", "--username", name], "").await;
        assert!(done, "{told}");
        users.push(serde_json::from_str::<Value>(&said).expect("is JSON")["user"].clone());
    }
    let file = |name: &str| lab.dir().join(name);

    let mut ann = Typist::start(&lab, REGIONS[0], &file("ann"), &[]);
    ann.types("/group garden ben").await;
    let chat = ann.event("chat").await;
    assert_eq!((&chat["title"], &chat["others"]), (&"garden".into(), &vec![users[1].clone()].into()));
    let log = chat["log"].as_str().expect("a log").to_owned();
    ann.types("hello").await;
    let hello = ann.told("replicated", |line| line["event"] == "replicated").await["offset"].clone();
    ann.types("/invite 1 1").await;
    let invitation = ann.event("invitation").await["invitation"].as_str().expect("a text").to_owned();

    let mut ben = Typist::start(&lab, REGIONS[1], &file("ben"), &["--chat", &log]);
    assert_eq!(ben.message("hello").await["event"], "history");
    ann.told("ben is there", |line| {
        line["event"] == "presence" && line["user"] == users[1] && line["online"] == true
    })
    .await;
    ann.told("ben has read", |line| {
        let of_ben = line["receipts"].as_array().into_iter().flatten().find(|of| of["user"] == users[1]);
        of_ben.is_some_and(|of| of["read"]["offset"].as_u64() >= hello.as_u64())
    })
    .await;
    ben.types("/typing").await;
    assert_eq!(ann.event("typing").await["user"], users[1]);
    ben.types(&format!("/reply {hello} hello, ann")).await;
    assert_eq!(ann.message("hello, ann").await["refers_to"]["offset"], hello);
    ben.types(&format!("/react {hello} +1")).await;
    assert_eq!(ann.message("+1").await["message_kind"], "reaction");
    ben.types(&format!("/edit {hello} bye")).await;
    ben.told("the edit is refused", |line| line["event"] == "failed").await;

    let mut cem = Typist::start(&lab, REGIONS[2], &file("cem"), &[]);
    cem.types(&format!("/join {invitation}")).await;
    assert_eq!(cem.event("chat").await["title"], "garden");
    cem.types("/remove ann").await;
    assert_eq!(cem.event("refused").await["code"], "forbidden");
    ann.types("/role ben admin").await;
    ann.event("changed").await;
    ben.types("/remove cem").await;
    ben.event("changed").await;
    assert_eq!(cem.event("unfollowed").await["code"], "forbidden");
    cem.ends().await;

    ann.types(&format!("/delete {hello}")).await;
    let deleted = ben.told("the deletion", |line| line["kind"] == "deleted").await;
    assert_eq!(deleted["offsets"], Value::from(vec![hello.clone()]));
    ann.types("/read").await;
    let receipts = ann.event("read").await["receipts"].clone();
    assert_eq!(receipts.as_array().map(Vec::len), Some(2), "{receipts}");
    ann.types("/pin on").await;
    assert_eq!(ann.event("marked").await["pinned"], true);
    let listed = loop {
        ann.types("/chats").await;
        let chats = ann.event("chats").await["chats"].clone();
        // What the list of a region tells may be a moment old.
        if chats[0]["pinned"] == true {
            break chats;
        }
    };
    assert_eq!((&listed[0]["log"], &listed[0]["name"]), (&log.as_str().into(), &"garden".into()));
    ben.ends().await;
    ann.ends().await;

    // For people: names, and what happened, in words.
    let edge = lab.edge(REGIONS[1]).expect("a region");
    let mut shown = Command::new(PROGRAM)
        .args(["chat", "--edge", &edge, "--chat", &log, "--credentials"])
        .arg(file("ben"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let mut stdin = shown.stdin.take().expect("is piped");
    stdin.write_all(b"/members\n/dance\n").await.expect("is fed");
    drop(stdin);
    let ended = timeout(patience(), shown.wait_with_output()).await.expect("ends in time").expect("ends");
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{err}");
    assert!(out.contains(&format!("ben: (to [{hello}]) hello, ann")), "{out}");
    for wanted in ["2 members: ", "ann (owner)", "ben (admin)", "ben removed ", "nobody knows /dance"] {
        assert!(err.contains(wanted), "{wanted:?} is not in {err}");
    }
    lab.stop().await.expect("stops");
}
