//! `hearth bench` against a real deployment: what it must notice, and what it must refuse.

use crate::{
    support::{HEARTH, send, until},
    up::Up,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output, Stdio},
    time::Duration,
};

/// Messages per second, and seconds of them that count: a stall of 1 s meets one message in five.
const RATE: u32 = 200;
const SECONDS: u32 = 5;
/// Before those.
const WARMUP_SECONDS: u32 = 1;
const STALL: Duration = Duration::from_secs(1);

struct Deployment {
    up: Up,
    node: u32,
    http: String,
    _folder: tempfile::TempDir,
}

impl Deployment {
    /// On the disk where things are built: a temporary folder may be kept in memory.
    fn start() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let dir = folder.path().join("lab");
        let dir = dir.to_str().expect("a plain path");
        let up = Up::start(&["--regions", "us-east", "--partitions", "4", "--dir", dir]);
        let ready = up.until("ready");
        let region = &ready["regions"][0];
        let node = region["nodes"][0]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
        let http = region["http"].as_str().expect("an address").to_owned();
        Self { up, node, http, _folder: folder }
    }

    /// What the home has acked so far.
    fn acked(&self) -> u64 {
        let host = self.http.strip_prefix("http://").expect("an address");
        let mut stream = TcpStream::connect(host).expect("the node listens");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is read");
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).expect("metrics");
        let home = metrics
            .lines()
            .find_map(|line| line.strip_prefix("hearth_home_appends_total{outcome=\"home\"} "));
        home.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Runs an open loop, and does something once the first second that counts is half over.
    fn paced(&self, midway: impl FnOnce()) -> Output {
        let before = self.acked();
        let (rate, port) = (RATE.to_string(), self.up.base_port.to_string());
        let (seconds, warmup) = (SECONDS.to_string(), WARMUP_SECONDS.to_string());
        let bench = Command::new(HEARTH)
            .args([
                "bench",
                "--no-machine",
                "--json",
                "--base-port",
                &port,
                "pairs",
                "--pairs",
                "10",
                "--rate",
                &rate,
            ])
            .args(["--seconds", &seconds, "--warmup-seconds", &warmup])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        until("under way", || self.acked() >= before + u64::from(RATE * WARMUP_SECONDS + RATE / 2));
        midway();
        bench.wait_with_output().expect("it ends")
    }
}

fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn p99_ms(report: &Value, latency: &str) -> f64 {
    report["latencies"][latency]["p99_ms"].as_f64().expect("a latency")
}

#[test]
fn a_server_that_stalls_for_a_second_shows_in_the_p99_and_fails_nothing() {
    let deployment = Deployment::start();
    let stalled = report(&deployment.paced(|| {
        send(deployment.node, Signal::SIGSTOP);
        // The stall itself: it takes as long as it takes.
        std::thread::sleep(STALL);
        send(deployment.node, Signal::SIGCONT);
    }));
    for latency in ["ack", "delivery"] {
        assert!(p99_ms(&stalled, latency) >= 900.0, "{stalled}");
    }
    assert_eq!(stalled["faults"], Value::Array(vec![]));
    let rate = stalled["figures"]["accepted_per_s"].as_f64().expect("a rate");
    assert!(rate > f64::from(RATE) * 0.7, "an open loop sends whatever becomes of it: {stalled}");

    // Another program can stall the whole machine; three times in a row it does not.
    let calm = (0..3).any(|_| p99_ms(&report(&deployment.paced(|| ())), "ack") < 450.0);
    assert!(calm, "p99 is as high without the stall");
}

#[test]
fn a_run_reports_what_every_process_used_and_draws_it() {
    let deployment = Deployment::start();
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let output = deployment.up.hearth(&[
        "bench",
        "--no-machine",
        "--json",
        "--html",
        page.to_str().expect("a plain path"),
        "groups",
        "--members",
        "5",
        "--groups",
        "2",
        "--seconds",
        "2",
        "--warmup-seconds",
        "0",
    ]);
    let report = report(&output);
    let figure = |key: &str| report["figures"][key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"));
    assert!(figure("delivered_per_s") > 2.0 * figure("accepted_per_s"), "four readers of each message");
    assert!(figure("server_cpu_us_per_message") > 0.0 && figure("syncs_per_s") > 0.0);
    assert!(figure("disk_bytes_per_body_byte") > 0.5, "every body went to the disk: {report}");
    let names: Vec<_> =
        report["processes"].as_array().expect("processes").iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["directory", "node us-east-1", "replicator us-east", "links", "generator"]);
    let page = std::fs::read_to_string(page).expect("a page");
    assert_eq!(page.matches("<svg").count(), 3);
}

#[test]
fn servers_whose_data_is_kept_in_memory_are_refused() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
    let dir = memory.path().to_str().expect("a plain path");
    let refused = |output: Output| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("tmpfs"), "{said}");
    };
    let own = Command::new(HEARTH).args(["bench", "--up", "us-east", "--dir", dir, "pairs"]).output();
    refused(own.expect("it ends"));
    let up = Up::start(&["--regions", "us-east", "--partitions", "1", "--dir", dir]);
    up.until("ready");
    refused(up.hearth(&["bench", "pairs"]));
}

#[test]
fn mistaken_arguments_are_named_before_anything_starts() {
    let mistakes = [
        (&["pairs", "--window", "0"][..], "window is 0"),
        (&["pairs", "--rate", "10", "--window", "3"], "cannot be used with"),
        (&["groups", "--members", "1025"], "members is 1025, not between 2 and 1024"),
        (&["idle", "--chats", "3", "--members", "2"], "not a multiple of members"),
        (&["suite", "--only", "moon"], "no part is called \"moon\""),
        (&["history", "--messages", "10"], "messages is 10"),
    ];
    for (args, told) in mistakes {
        let output = Command::new(HEARTH).arg("bench").args(args).output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(told), "{told:?} in {said}");
    }
}
