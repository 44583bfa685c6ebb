//! The binary as a process: it dies with the lab that started it, and refuses what is wrong.

use crate::support::{HEARTH, is_alive, send, until};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn directory_config(folder: &Path) -> PathBuf {
    let path = folder.join("directory.toml");
    let data = folder.join("data");
    let text = format!("listen = \"127.0.0.1:0\"\ndata-dir = {data:?}\nregions = [\"us-east\"]\n");
    fs::write(&path, text).expect("it is written");
    path
}

#[test]
fn a_service_dies_with_the_process_that_started_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let script = format!(
        "HEARTH_PARENT_PID=$$ {HEARTH} directory --config {} 2>{} & echo $!; wait",
        directory_config(folder.path()).display(),
        log.display()
    );
    let mut parent =
        Command::new("/bin/sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("a shell");
    let mut pid = String::new();
    let mut output = BufReader::new(parent.stdout.take().expect("its output"));
    output.read_line(&mut pid).expect("a pid");
    let pid: u32 = pid.trim().parse().expect("a pid");
    until("running", || fs::read_to_string(&log).is_ok_and(|text| text.contains("starts")));
    send(parent.id(), Signal::SIGKILL);
    parent.wait().expect("it is dead");
    until("dead", || !is_alive(pid));
}

#[test]
fn a_mistaken_configuration_is_refused_with_all_its_mistakes() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("directory.toml");
    fs::write(
        &config,
        "listen = \"127.0.0.1:0\"\ndata-dir = \"x\"\nregions = []\npartitions-per-region = 0\n",
    )
    .expect("it is written");
    let output = Command::new(HEARTH)
        .args(["directory", "--config"])
        .arg(&config)
        .env("HEARTH_DIRECTORY_RENEW_INTERVAL_MS", "0")
        .output()
        .expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for mistake in ["regions is empty", "partitions-per-region is 0", "renew-interval-ms is 0"] {
        assert!(said.contains(mistake), "{mistake:?} in {said}");
    }
}

#[test]
fn up_names_a_port_that_is_in_use_and_who_wants_it() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("an address").port();
    let output = Command::new(HEARTH)
        .args(["up", "--regions", "us-east", "--base-port"])
        .arg(port.to_string())
        .output()
        .expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(&format!("port {port}, wanted for the control API, is in use")), "{said}");
}

#[test]
fn without_a_deployment_the_commands_say_where_they_looked() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    for command in [&["lab", "heal"][..], &["admin", "status"], &["lab", "kill", "us-east"]] {
        let output = Command::new(HEARTH)
            .args(command)
            .args(["--base-port", &free.to_string()])
            .output()
            .expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(said.contains(&format!("no deployment answers at 127.0.0.1:{free}")), "{said}");
    }
}
