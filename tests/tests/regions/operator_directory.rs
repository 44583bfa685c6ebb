//! Replicas of the directory come and go while people write: the group loses nothing and goes on.

use crate::PROGRAM;
use anyhow::{Context as _, ensure};
use client::bare::Connection;
use lab::Lab;
use std::{fs, net::TcpListener, path::Path, process::Stdio};
use tests::{
    deployment::{REGIONS, patience, start, whole},
    eventually,
    history::same_everywhere,
    load::Load,
    operator::Operator,
    placing::{home_of, pin_of, row},
    session::{connect, open_group, user},
};
use tokio::process::{Child, Command};
use types::DeviceId;

const EVERY: std::time::Duration = std::time::Duration::from_millis(50);

/// Starts a replica that waits to be added, configured like another one; answers its address.
fn joining(folder: &Path, like: &Path) -> (Child, String) {
    let text = fs::read_to_string(like).expect("the configuration of a replica");
    let mut config: toml::Table = toml::from_str(&text).expect("it is well-formed");
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    config.remove("peers");
    config.insert("join".into(), true.into());
    config.insert("replica-id".into(), 4.into());
    for key in ["listen", "advertise"] {
        config.insert(key.into(), port.to_string().into());
    }
    config.insert("data-dir".into(), folder.join("data").display().to_string().into());
    let file = folder.join("directory.toml");
    fs::write(&file, toml::to_string(&config).expect("a table")).expect("is written");
    let log = fs::File::create(folder.join("log")).expect("a file");
    let mut command = Command::new(PROGRAM);
    command.args(["directory", "--config"]).arg(&file).stderr(log).stdout(Stdio::null()).kill_on_drop(true);
    (command.spawn().expect("it starts"), port.to_string())
}

/// Kills the replica of a region, and nothing else there.
async fn end(lab: &Lab, region: &str) {
    let name = format!("directory-{region}");
    lab.directories().find(|one| one.name() == name).expect("its process").kill().await.expect("is killed");
}

fn leader(status: &serde_json::Value) -> Option<(u64, String)> {
    let leads = status["replicas"].as_array()?.iter().find(|one| one["leads"] == true)?;
    Some((leads["replica"].as_u64()?, leads["region"].as_str()?.to_owned()))
}

async fn loads(lab: &Lab, log: &str) -> Vec<Load> {
    let mut loads = Vec::new();
    for (number, region) in REGIONS.into_iter().enumerate() {
        let edge = lab.edge(region).expect("a region");
        let device = DeviceId::new(100 + number as u64);
        let session = Connection::open(&edge, &user("ben"), device, vec![]).await.expect("connects");
        loads.push(Load::start(session, log, EVERY));
    }
    loads
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_replica_is_added_and_the_leader_removed_while_people_write() {
    let lab = start(whole(PROGRAM)).await;
    let operator = Operator::new(PROGRAM, &lab);
    let mut ann = connect(&lab.edge("us-east").expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    let loads = loads(&lab, &log).await;

    let folder = tempfile::tempdir().expect("a folder");
    let like = lab.dir().join("config").join("directory-eu-west.toml");
    let (mut fourth, address) = joining(folder.path(), &like);
    let nobody = operator.refused(&["directory", "add", "9", "127.0.0.1:1"]).await;
    assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
    eventually("the new replica waits", patience(), async || {
        tokio::net::TcpStream::connect(&address).await.map(drop).context("it does not listen")
    })
    .await;
    operator.ann(&["directory", "add", "4", &address]).await;
    operator.ann(&["directory", "add", "4", &address]).await;
    let (former, region) = eventually("four vote, and one of them leads", patience(), async || {
        let status = operator.json(&["directory", "status"]).await;
        let voters = status["replicas"].as_array().context("no replicas")?.iter();
        ensure!(voters.filter(|one| one["voter"] == true).count() == 4, "{status}");
        leader(&status).with_context(|| format!("none leads: {status}"))
    })
    .await;
    let former = former.to_string();
    operator.ann(&["directory", "remove", &former]).await;
    let next = eventually("another one leads", patience(), async || {
        let status = operator.json(&["directory", "status"]).await;
        let (leader, _) = leader(&status).with_context(|| format!("none leads: {status}"))?;
        let gone =
            !status["replicas"].as_array().is_some_and(|all| all.iter().any(|one| one["replica"] == former));
        ensure!(gone && leader.to_string() != former, "{status}");
        Ok(leader)
    })
    .await;
    operator.ann(&["directory", "remove", &former]).await;
    let unknown = operator.refused(&["directory", "remove", "9"]).await;
    assert!(unknown.contains("replica 9 is not in the group"), "{unknown}");

    end(&lab, &region).await;

    // Of the three that are left another old one dies: without the vote of the new one there is no majority.
    let replica_of =
        |region: &str| 1 + REGIONS.iter().position(|one| *one == region).expect("a region") as u64;
    let dies = REGIONS.iter().find(|one| **one != region && replica_of(one) != next).expect("a follower");
    end(&lab, dies).await;
    let before = eventually("the two that are left answer", patience(), async || {
        row(&lab, pin_of(&lab, &log).await?.partition).await
    })
    .await;
    let partition = before.partition.get();
    let to =
        REGIONS.iter().find(|region| !home_of(&before).as_str().starts_with(**region)).expect("another one");
    let fresh = Operator::at(PROGRAM, format!("http://{address}"));
    fresh.ann(&["move", &partition.to_string(), to]).await;
    for what in [
        format!("replica 4 of the directory joins at {address}"),
        format!("replica {former} of the directory is taken out"),
        format!("of partition {partition}@"),
    ] {
        fresh.sees("ann", &what).await;
    }

    let mut acked = Vec::new();
    for load in loads {
        let report = load.stop().await;
        assert_eq!(report.failed, Vec::<String>::new(), "{} were acked", report.ids.len());
        acked.extend(report.ids);
    }
    assert!(!acked.is_empty());
    let told = same_everywhere(&lab, &REGIONS, "ben", &log).await;
    for id in &acked {
        assert!(told.iter().any(|entry| entry.message_id == *id), "message {id} was acked and is lost");
    }
    fourth.kill().await.expect("it ends");
    lab.stop().await.expect("stops");
}
