//! `hearth up` with its real children, from outside.

use crate::support::{HEARTH, PATIENCE, is_alive, send, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    time::Instant,
};

/// Ports behind a base port that two regions use.
const PORTS: u16 = 23;
/// Where base ports are looked for: below the range from which systems give out ports.
const FIRST_PORT: u16 = 11_000;
const SLOTS: u16 = 800;

/// A `hearth up` of the test's own.
pub(crate) struct Up {
    child: Child,
    pub(crate) base_port: u16,
    lines: mpsc::Receiver<Value>,
}

impl Up {
    pub(crate) fn start(extra: &[&str]) -> Self {
        let base_port = free_base_port();
        let mut child = Command::new(HEARTH)
            .args(["up", "--json", "--wan", "none", "--base-port", &base_port.to_string()])
            .args(extra)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (lines, received) = mpsc::sync_channel(1_000);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).expect("every line is one JSON object");
                if lines.send(value).is_err() {
                    return;
                }
            }
        });
        Self { child, base_port, lines: received }
    }

    pub(crate) fn until(&self, event: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|e| panic!("no {event}: {e}"));
            if line["event"] == event {
                return line;
            }
        }
    }

    pub(crate) fn hearth(&self, args: &[&str]) -> Output {
        let port = self.base_port.to_string();
        Command::new(HEARTH).args(args).args(["--base-port", &port]).output().expect("it ends")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A base port whose ports are free, and that no other test of this process gets: the ports are only
/// taken once the deployment starts.
fn free_base_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % u32::from(SLOTS)).expect("under the slots");
    for _ in 0..SLOTS {
        let slot = (first + GIVEN.fetch_add(1, Ordering::Relaxed)) % SLOTS;
        let base = FIRST_PORT + slot * PORTS;
        if (base..base + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
    panic!("no free ports");
}

fn pids(ready: &Value) -> Vec<u32> {
    let regions = ready["regions"].as_array().expect("regions");
    let of_regions = regions.iter().flat_map(|region| {
        let nodes = region["nodes"].as_array().expect("nodes");
        nodes.iter().map(|node| &node["pid"]).chain([&region["replicator"]["pid"]])
    });
    let directories = ready["directories"].as_array().expect("the directory's processes");
    directories
        .iter()
        .map(|directory| &directory["pid"])
        .chain(of_regions)
        .filter_map(Value::as_u64)
        .map(|pid| u32::try_from(pid).expect("a pid"))
        .collect()
}

#[test]
fn up_starts_regions_that_can_be_killed_and_started_and_ends_in_order() {
    let mut up = Up::start(&["--regions", "us-east,eu-west", "--partitions", "4"]);
    assert_eq!(up.until("starting")["temporary"], true);
    let ready = up.until("ready");
    let pids = pids(&ready);
    // A replica of the directory in each region, and a witness outside them.
    assert_eq!(pids.len(), 7);
    assert!(pids.iter().all(|pid| is_alive(*pid)));

    let status = up.hearth(&["admin", "status", "--json", "--partitions"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("one JSON object");
    assert_eq!(status["partitions"]["homed"], 8);
    assert_eq!(status["partition_list"].as_array().map(Vec::len), Some(8));
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(2));

    assert!(up.hearth(&["lab", "kill", "us-east"]).status.success());
    assert_eq!(up.until("killed")["target"], "us-east");
    until("failed over", || {
        let status = up.hearth(&["admin", "status", "--json"]);
        let Ok(status) = serde_json::from_slice::<Value>(&status.stdout) else { return false };
        let regions = status["regions"].as_array().expect("regions");
        let homes = |name: &str| regions.iter().find(|region| region["region"] == name).map(|r| &r["homes"]);
        homes("eu-west") == Some(&Value::from(8)) && status["partitions"]["failing_over"] == 0
    });
    assert!(up.hearth(&["lab", "start", "us-east"]).status.success());
    up.until("started");
    let refused = up.hearth(&["lab", "cut", "us-east", "mars"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there are us-east, eu-west"));

    send(up.child.id(), Signal::SIGINT);
    let status = up.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "nothing is left running");
    let dir = ready["dir"].as_str().expect("a folder");
    assert!(!Path::new(dir).exists(), "the temporary folder is removed");
}

#[test]
fn an_up_that_is_killed_leaves_nothing_running_and_its_folder_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("lab");
    let dir = dir.to_str().expect("a plain path");
    let first = Up::start(&["--regions", "us-east,eu-west", "--partitions", "2", "--dir", dir]);
    let ready = first.until("ready");
    send(first.child.id(), Signal::SIGKILL);
    for pid in pids(&ready) {
        until("dead", || !is_alive(pid));
    }
    let base_port = first.base_port.to_string();
    drop(first);
    let second = Command::new(HEARTH)
        .args(["up", "--regions", "us-east", "--dir", dir, "--base-port", &base_port])
        .output()
        .expect("it ends");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("was made with regions us-east,eu-west, not us-east"), "{said}");
}
