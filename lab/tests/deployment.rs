//! A deployment of children that only sleep, steered through its control API.

use lab::{
    Event, Lab, Options, Overlay, StartError,
    control::{Client, ClientError, CutRequest, LinkRequest},
    toml,
};
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A program that takes the arguments of `hearth` and does nothing.
fn sleeper(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("sleeper");
    fs::write(&path, "#!/bin/sh\necho \"$@\"\n[ \"$1\" = directory ] && exec sleep 600\nexec sleep 601\n")
        .expect("it is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it may run");
    path
}

fn options(folder: &Path) -> Options {
    Options { dir: Some(folder.join("lab")), ..Options::new(sleeper(folder)) }
        .with_regions(["near", "away"])
        .expect("regions")
}

fn code(outcome: Result<(), ClientError>) -> String {
    match outcome.expect_err("it is refused") {
        ClientError::Refused { code, .. } => code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_control_api_describes_and_steers() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = Lab::start(options(folder.path())).await.expect("it starts");
    let mut events = lab.events();
    let client = Client::new(lab.control().port());
    let described = client.describe().await.expect("an answer");
    assert_eq!(described, lab.describe());
    assert_eq!(described.regions.len(), 2);
    assert_eq!(described.regions[0].edges[0].region.as_str(), "near", "the own region first");
    assert!(described.regions.iter().flat_map(|region| &region.nodes).all(|node| node.pid.is_some()));

    client.kill_and_start("away").await;
    client.act("pause", "near").await.expect("it pauses");
    client.act("resume", "near").await.expect("it goes on");
    let cut = CutRequest { a: "near".to_owned(), b: "directory".to_owned(), one_way: true };
    client.cut(&cut).await.expect("it is cut");
    assert_eq!(lab.wan().cuts().len(), 1);
    client.heal().await.expect("it is healed");
    assert_eq!(lab.wan().cuts().len(), 0);
    let slower = LinkRequest {
        a: "near".to_owned(),
        b: "away".to_owned(),
        one_way: true,
        delay_ms: Some(5),
        ..LinkRequest::default()
    };
    client.change_link(&slower).await.expect("it is changed");
    let place = |name: &str| name.parse().expect("a place");
    let there = lab.wan().conditions(&place("near"), &place("away")).expect("a lane");
    let back = lab.wan().conditions(&place("away"), &place("near")).expect("a lane");
    assert_eq!(there.delay, Duration::from_millis(5));
    assert_eq!(back.delay, Duration::from_millis(60), "as the table says");

    assert!(matches!(events.recv().await, Ok(Event::Killed { .. })));
    lab.stop().await.expect("all end");
}

trait KillAndStart {
    async fn kill_and_start(&self, region: &str);
}

impl KillAndStart for Client {
    async fn kill_and_start(&self, region: &str) {
        assert_eq!(code(self.act("start", region).await), "running");
        self.act("kill", region).await.expect("it dies");
        let described = self.describe().await.expect("an answer");
        let killed =
            described.regions.iter().find(|known| known.region.as_str() == region).expect("it is known");
        assert_eq!((killed.nodes[0].pid, killed.replicator.pid), (None, None));
        assert_eq!(code(self.act("kill", region).await), "not_running");
        assert_eq!(code(self.act("pause", region).await), "not_running");
        self.act("start", region).await.expect("it starts");
    }
}

#[tokio::test]
async fn a_node_of_several_is_steered_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let idle = "away-2".parse().expect("a name");
    let options =
        Options { nodes_per_region: Some(2), idle: [idle].into_iter().collect(), ..options(folder.path()) };
    let lab = Lab::start(options).await.expect("it starts");
    let runs = |node: &str| lab.node(node).expect("a node").state().pid().is_some();
    assert_eq!(["near-1", "near-2", "away-1", "away-2"].map(runs), [true, true, true, false]);
    assert_eq!(lab.edges("near").expect("a region").len(), 4);
    let client = Client::new(lab.control().port());
    assert_eq!(code(client.act("kill", "away-2").await), "not_running");
    client.act("start", "away-2").await.expect("it starts");
    client.act("kill", "near-2").await.expect("it dies");
    assert_eq!(["near-1", "near-2", "away-1", "away-2"].map(runs), [true, false, true, true]);
    assert!(lab.replicator("near").expect("a region").state().pid().is_some());
    client.act("kill", "near").await.expect("the rest dies");
    client.act("start", "near-1").await.expect("it starts");
    assert_eq!(["near-1", "near-2"].map(runs), [true, false]);
    let text = fs::read_to_string(lab.dir().join("config/node-near-1.toml")).expect("a configuration");
    let config: toml::Table = text.parse().expect("TOML");
    let dial: Vec<&String> = config["dial"].as_table().expect("a table").keys().collect();
    assert_eq!(dial, ["away-1", "away-2"], "nodes of the own region are dialled as they advertise");
}

#[tokio::test]
async fn unknown_names_are_refused_with_the_known_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = Lab::start(options(folder.path())).await.expect("it starts");
    let client = Client::new(lab.control().port());
    let error = client.act("kill", "mars").await.expect_err("there is none").to_string();
    assert_eq!(error, "there is no region \"mars\"; there are near, away");
    let cut = CutRequest { a: "near".to_owned(), b: "mars".to_owned(), one_way: false };
    assert_eq!(code(client.cut(&cut).await), "unknown_region");
    let cut = CutRequest { a: "near".to_owned(), b: "near".to_owned(), one_way: false };
    assert_eq!(code(client.cut(&cut).await), "no_link");
    assert_eq!(code(client.act("kill", "../heal").await), "unknown_region");
    assert_eq!(code(client.act("praise", "near").await), "bad_request");
}

#[tokio::test]
async fn a_web_page_may_not_steer() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = Lab::start(options(folder.path())).await.expect("it starts");
    let mut stream = tokio::net::TcpStream::connect(lab.control()).await.expect("it listens");
    let request = "POST /v1/lab/kill/near HTTP/1.1\r\nhost: localhost\r\norigin: http://a.example\r\n\
                   content-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(lab.node("near").expect("a region").state().pid().is_some(), "it still runs");
}

#[tokio::test]
async fn a_child_that_ends_by_itself_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = Lab::start(options(folder.path())).await.expect("it starts");
    let mut events = lab.events();
    let pid = lab.replicator("near").expect("a region").state().pid().expect("it runs");
    // A signal before the child is what it will be would end the one that is still to become it.
    let log = lab.dir().join("logs/replicator-near.log");
    let speaks = async {
        while fs::read_to_string(&log).map_or(0, |text| text.len()) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, speaks).await.expect("it runs");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is ours");
    let event = timeout(PATIENCE, events.recv()).await.expect("in time").expect("an event");
    let Event::Exited { process, status, log } = event else { panic!("{event}") };
    assert_eq!(process, "replicator-near");
    assert!(status.contains("15"), "{status}");
    assert!(fs::read_to_string(log).expect("a log").starts_with("replicator --config "));
}

#[tokio::test]
async fn a_port_in_use_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Lab::start(options(folder.path())).await.expect("it starts");
    let base_port = first.control().port();
    let second = Options {
        base_port: Some(base_port),
        dir: Some(folder.path().join("other")),
        ..options(folder.path())
    };
    let error = Lab::start(second).await.expect_err("the port is taken");
    assert!(matches!(error, StartError::Port(_)), "{error}");
    assert!(error.to_string().contains(&format!("port {base_port}, wanted for the control API")), "{error}");
    let logs = fs::read_dir(folder.path().join("other/logs")).expect("the folder was made").count();
    assert_eq!(logs, 0, "nothing was started");
}

#[tokio::test]
async fn configurations_lead_through_links_and_take_overlays() {
    let folder = tempfile::tempdir().expect("a folder");
    let only_away = BTreeMap::from([("away-1".parse().expect("a name"), toml::toml! { parked-max = 8 })]);
    let overlay =
        Overlay { node: toml::toml! { parked-max = 7 }, only_node: only_away, ..Overlay::default() };
    let lab = Lab::start(Options { overlay, lease_ttl: Duration::from_secs(8), ..options(folder.path()) })
        .await
        .expect("it starts");
    let read = |name: &str| -> toml::Table {
        let text = fs::read_to_string(lab.dir().join("config").join(name)).expect("a configuration");
        text.parse().expect("TOML")
    };
    let node = read("node-near-1.toml");
    let described = lab.describe();
    assert_eq!(node["parked-max"].as_integer(), Some(7));
    assert_eq!(read("node-away-1.toml")["parked-max"].as_integer(), Some(8));
    assert_ne!(node["directory"][0].as_str(), Some(described.directory.address.as_str()), "through a link");
    let dialled = node["dial"]["away-1"].as_str().expect("an address");
    assert_ne!(format!("http://{dialled}"), described.regions[1].nodes[0].address, "through a link");
    let directory = read("directory.toml");
    assert_eq!(directory["silence-ms"].as_integer(), Some(6_000));
    assert_eq!(directory["dial"].as_table().map(toml::Table::len), Some(2));
}
