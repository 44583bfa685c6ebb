//! A text piped in at one region and tailed at another arrives whole, once, in order, through a kill.

use crate::PROGRAM;
use lab::Lab;
use std::{fmt::Write as _, process::Stdio};
use tests::deployment::{options, patience, start};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

const LINES: usize = 6_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_text_survives_the_kill_of_its_home_whole_once_and_in_order() {
    let lab = start(options(PROGRAM)).await;
    let text = text();
    let file = lab.dir().join("text");
    std::fs::write(&file, &text).expect("writes the text");

    let mut sender = command(&lab, "send", "us-east", "ann", "ben");
    let mut sender = spawn(sender.arg("--file").arg(&file));
    let count = LINES.to_string();
    let mut reader = spawn(command(&lab, "tail", "ap-south", "ben", "ann").args(["--count", &count]));
    let mut lines = BufReader::new(reader.stdout.take().expect("is piped")).lines();

    let mut arrived = String::with_capacity(text.len());
    for number in 0..LINES {
        if number == LINES / 4 {
            lab.kill("us-east").await.expect("kills");
        }
        let line = timeout(patience(), lines.next_line())
            .await
            .unwrap_or_else(|_| panic!("line {number} does not arrive"))
            .expect("is text")
            .unwrap_or_else(|| panic!("the tail ends at line {number}"));
        writeln!(arrived, "{line}").expect("a String takes all");
    }
    assert!(arrived == text, "the text arrives as it was sent");
    let ended = timeout(patience(), sender.wait()).await.expect("the sender ends").expect("ends");
    assert!(ended.success(), "{ended}");
    let ended = timeout(patience(), reader.wait()).await.expect("the reader ends").expect("ends");
    assert!(ended.success(), "{ended}");
    lab.stop().await.expect("stops");
}

fn text() -> String {
    (0..LINES).fold(String::new(), |mut text, number| {
        writeln!(text, "{number}: the quick brown fox, once more").expect("a String takes all");
        text
    })
}

fn command(lab: &Lab, verb: &str, region: &str, user: &str, with: &str) -> Command {
    let mut edges = vec![lab.front(region).expect("a region")];
    edges.extend(lab.edges(region).expect("a region"));
    let mut command = Command::new(PROGRAM);
    command.args([verb, "--as", user, "--with", with, "--edge", &edges.join(",")]);
    command
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .expect("starts")
}
