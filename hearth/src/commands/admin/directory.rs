//! `hearth admin directory`: the replicas of the directory, and how they are replaced.

use super::by::By;
use crate::{row, tables};
use anyhow::{Context, bail};
use clap::Subcommand;
use lab::placement;
use proto::directory::{
    AddReplicaRequest, InspectReply, InspectRequest, RemoveReplicaRequest, replicas_client::ReplicasClient,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// How long a replica has to say what it knows.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a replica may take to copy the log before it votes.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Who leads, and how far each replica is.
    Status {
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Lets a replica join that was started with `join = true`: it copies the log first, then it votes.
    Add {
        /// Its `replica-id`: one that no replica ever had.
        id: u64,
        /// Where it listens, `host:port`, as the other replicas reach it.
        address: String,
        #[command(flatten)]
        by: By,
    },
    /// Takes a replica out for good: a lost one, so that another can take its place, or one that is retired.
    Remove {
        /// Its `replica-id`.
        id: u64,
        /// Even where the voters that are left and answer are no majority.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        by: By,
    },
}

/// The first of these that knows a leader, or else that answers.
pub(super) async fn reachable(addresses: Vec<String>) -> anyhow::Result<String> {
    let mut answers = None;
    for address in &addresses {
        match inspect(address).await {
            Ok(reply) if reply.leader != 0 || reply.replica == 0 => return Ok(address.clone()),
            Ok(_) => answers = answers.or(Some(address)),
            Err(error) => tracing::debug!(address, %error, "a replica of the directory does not answer"),
        }
    }
    answers.or(addresses.first()).cloned().context("no address of the directory is known")
}

async fn connect(address: &str) -> anyhow::Result<ReplicasClient<Channel>> {
    let channel = Endpoint::from_shared(address.to_owned())?.connect().await;
    Ok(ReplicasClient::new(channel.with_context(|| format!("the directory at {address}"))?))
}

async fn inspect(address: &str) -> anyhow::Result<InspectReply> {
    let asked = async { Ok(connect(address).await?.inspect(InspectRequest {}).await?.into_inner()) };
    timeout(INSPECT_TIMEOUT, asked).await.context("no answer in time")?
}

/// Asks the replica at `address`, which hands on what is the leader's.
pub(super) async fn run(action: Action, address: &str) -> anyhow::Result<()> {
    match action {
        Action::Status { json } => status(address, json).await,
        Action::Add { id, address: of, by } => {
            let request = AddReplicaRequest { replica: id, address: of, by: by.name() };
            let mut client = connect(address).await?;
            let added =
                timeout(CHANGE_TIMEOUT, client.add_replica(request)).await.context("no answer in time")?;
            added.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
            println!("replica {id} holds the log and votes");
            Ok(())
        }
        Action::Remove { id, force, by } => {
            let request = RemoveReplicaRequest { replica: id, force, by: by.name() };
            let mut client = connect(address).await?;
            let removed =
                timeout(CHANGE_TIMEOUT, client.remove_replica(request)).await.context("no answer in time")?;
            removed.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
            println!("replica {id} is out of the group; its id is not used again");
            Ok(())
        }
    }
}

async fn status(address: &str, as_json: bool) -> anyhow::Result<()> {
    let asked = inspect(address).await?;
    if asked.replica == 0 {
        bail!("the directory at {address} is one process, without replicas");
    }
    // Only the leader knows how far the others are.
    let leader = asked.replicas.iter().find(|one| one.replica == asked.leader);
    let seen = match leader {
        Some(leader) if leader.replica != asked.replica => {
            inspect(&format!("http://{}", leader.address)).await.unwrap_or(asked)
        }
        _ => asked,
    };
    let placement = placement::directory_status(address, INSPECT_TIMEOUT).await.ok();
    if as_json {
        println!("{}", json_of(&seen));
    } else {
        print!("{}", text_of(&seen));
        if let Some(note) = placement.filter(|status| !status.automatic_failover) {
            println!("AUTOMATIC FAILOVER OFF: {}", note.automatic_failover_note);
        }
    }
    Ok(())
}

fn lag(seen: &InspectReply, matched: Option<u64>) -> Option<u64> {
    matched.map(|matched| seen.last_index.saturating_sub(matched))
}

fn json_of(seen: &InspectReply) -> serde_json::Value {
    let replicas: Vec<_> = seen
        .replicas
        .iter()
        .map(|one| {
            json!({
                "replica": one.replica, "region": one.region, "address": one.address, "voter": one.voter,
                "leads": one.replica == seen.leader, "behind_entries": lag(seen, one.matched_index),
            })
        })
        .collect();
    json!({
        "asked": seen.replica, "leader": seen.leader, "term": seen.term, "last_index": seen.last_index,
        "applied_index": seen.applied_index, "snapshot_index": seen.snapshot_index,
        "purged_index": seen.purged_index, "quorum_ago_ms": seen.quorum_ago_ms, "replicas": replicas,
    })
}

fn text_of(seen: &InspectReply) -> String {
    let head = match seen.leader {
        0 => format!("NO LEADER is known to replica {}", seen.replica),
        leader => format!("replica {leader} leads"),
    };
    let majority =
        seen.quorum_ago_ms.map_or_else(String::new, |ago| format!("  majority heard {ago} ms ago"));
    let mut rows = vec![row!["REPLICA", "REGION", "ADDRESS", "ROLE", "BEHIND"]];
    for one in &seen.replicas {
        let role = match (one.replica == seen.leader, one.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let behind =
            lag(seen, one.matched_index).map_or_else(|| "?".to_owned(), |entries| entries.to_string());
        rows.push(row![one.replica, one.region, one.address, role, behind]);
    }
    format!(
        "{head}  term {}  log {}  applied {}{majority}\n\n{}",
        seen.term,
        seen.last_index,
        seen.applied_index,
        tables::render(&rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::directory::ReplicaStatus;

    #[test]
    fn a_replica_that_is_behind_and_a_missing_leader_are_shown() {
        let replica = |replica, matched_index| ReplicaStatus {
            replica,
            region: format!("region-{replica}"),
            voter: replica != 3,
            matched_index,
            ..ReplicaStatus::default()
        };
        let seen = InspectReply {
            replica: 1,
            leader: 1,
            term: 4,
            last_index: 20,
            replicas: vec![replica(1, Some(20)), replica(2, Some(15)), replica(3, None)],
            ..InspectReply::default()
        };
        let text = text_of(&seen);
        assert!(text.starts_with("replica 1 leads  term 4  log 20"), "{text}");
        let line = |of: &str| text.lines().find(|line| line.contains(of)).expect("a line").to_owned();
        assert!(line("region-1").contains("leader") && line("region-2").trim_end().ends_with('5'), "{text}");
        assert!(line("region-3").contains("learner") && line("region-3").trim_end().ends_with('?'), "{text}");
        assert_eq!(json_of(&seen)["replicas"][1]["behind_entries"], 5);
        assert!(text_of(&InspectReply { leader: 0, ..seen }).starts_with("NO LEADER is known to replica 1"));
    }
}
