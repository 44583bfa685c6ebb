//! After healing: everybody is in sync, outboxes are empty, readers have read all.

use super::Deployed;
use crate::{
    history::Recorder,
    observe::{self, Copies},
    workload::{Chats, Workload},
};
use anyhow::ensure;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use types::{PartitionId, PartitionPosition};

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until nothing moves any more and all is where it should be; answers all copies.
///
/// # Errors
/// What was still missing when `patience` was over.
pub(super) async fn converge(
    deployed: &Deployed,
    workload: &Workload,
    chats: &Chats,
    recorder: &Recorder,
    patience: Duration,
) -> anyhow::Result<Copies> {
    let until = Instant::now() + patience;
    deployed.lab.wait_in_sync(patience).await?;
    loop {
        match look(deployed, workload, chats, recorder).await {
            Ok(copies) => return Ok(copies),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

async fn look(
    deployed: &Deployed,
    workload: &Workload,
    chats: &Chats,
    recorder: &Recorder,
) -> anyhow::Result<Copies> {
    ensure!(workload.pending() == 0, "{} writes are not settled", workload.pending());
    for (node, _) in deployed.nodes() {
        let unsettled = observe::unsettled(&deployed.lab, &node).await?;
        ensure!(unsettled == 0, "{unsettled} archived records of {node} are not settled");
    }
    replicas_agree(deployed).await?;
    let copies = copies(deployed, chats, recorder).await?;
    // Homes write how far users have read a little later: what was read while one did is read again.
    copies.agree()?;
    let behind = workload.heads().behind(&copies.ends());
    if let Some((session, log, at)) = behind.first() {
        anyhow::bail!("{} readers are not at the end; {session} stands at {at} of {log}", behind.len());
    }
    Ok(copies)
}

/// All copies, as they are.
pub(super) async fn copies(
    deployed: &Deployed,
    chats: &Chats,
    recorder: &Recorder,
) -> anyhow::Result<Copies> {
    let placement = observe::snapshot(&deployed.lab).await?;
    Copies::read(&deployed.lab, chats, &placement, recorder).await
}

async fn replicas_agree(deployed: &Deployed) -> anyhow::Result<()> {
    let mut lasts: BTreeMap<PartitionId, PartitionPosition> = BTreeMap::new();
    for (node, _) in deployed.nodes() {
        for (partition, view) in observe::partition_views(&deployed.lab, &node).await? {
            let last = *lasts.entry(partition).or_insert(view.last);
            ensure!(
                last == view.last,
                "partition {partition} ends at {last} and, at {node}, at {}",
                view.last
            );
            if view.home.is_some() {
                let lsn = view.last.lsn;
                ensure!(
                    view.watermark == lsn,
                    "partition {partition} is replicated up to {} of {lsn}",
                    view.watermark
                );
            }
        }
    }
    Ok(())
}
