//! What the directory says: asked once, or of who leads it.

use super::ANSWER_TIMEOUT;
use anyhow::{Context as _, bail};
use lab::{Lab, placement};
use proto::directory::{InspectReply, InspectRequest, replicas_client::ReplicasClient};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use types::{PlacementDelta, RegionId};

/// How long a group that has lost its leader has to find another one.
const LEADER_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The whole placement, as a process of the directory that answers has it now.
///
/// # Errors
/// None answers.
pub async fn snapshot(lab: &Lab) -> anyhow::Result<PlacementDelta> {
    Ok(placement::snapshot(&lab.directory_address(), ANSWER_TIMEOUT).await?)
}

/// The region of the replica that leads the directory, which is a group.
///
/// # Errors
/// No replica knows a leader within a bound.
pub async fn leader(lab: &Lab) -> anyhow::Result<RegionId> {
    let until = Instant::now() + LEADER_PATIENCE;
    loop {
        for address in lab.directory_addresses() {
            // One that is killed or stopped does not answer; only the leader's own word counts.
            let Ok(Ok(told)) = timeout(ANSWER_TIMEOUT, inspect(address)).await else { continue };
            if told.leader == 0 || told.leader != told.replica {
                continue;
            }
            let leader = told.replicas.iter().find(|replica| replica.replica == told.leader);
            return Ok(RegionId::new(&leader.context("the leader is no member")?.region)?);
        }
        if Instant::now() > until {
            bail!("no replica of the directory leads it after {LEADER_PATIENCE:?}");
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn inspect(address: String) -> anyhow::Result<InspectReply> {
    let mut replicas = ReplicasClient::connect(address).await?;
    Ok(replicas.inspect(InspectRequest {}).await?.into_inner())
}
