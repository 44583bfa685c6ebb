//! What an operator sees of this node.

use crate::{
    Config, Edge,
    clock::boot_ms,
    follower::Followers,
    home::{NodeHomes, core},
    lease::Lease,
    ready::{Identity, Readiness},
    salvage::Archives,
};
use log_store::LogStore;
use proto::node as wire;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;
use tonic::Status;
use types::{Epoch, PartitionId};

/// Where the status is put together from.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    /// The node's configuration.
    pub config: Arc<Config>,
    /// Who it is to the directory.
    pub identity: Arc<Identity>,
    /// Whether it is ready.
    pub readiness: Arc<Readiness>,
    /// Its lease.
    pub leases: watch::Receiver<Option<Arc<Lease>>>,
    /// Its homes.
    pub homes: Arc<NodeHomes>,
    /// What it follows.
    pub followers: Arc<Followers>,
    /// Its store.
    pub store: Arc<dyn LogStore>,
    /// What the store has archived.
    pub(crate) archives: Archives,
    /// Its edge, which counts the sessions.
    pub edge: Edge,
}

impl StatusBoard {
    /// The status now.
    ///
    /// # Errors
    /// The store's, where partitions are asked for.
    pub async fn status(&self, request: wire::StatusRequest) -> Result<wire::StatusReply, Status> {
        let lease = self.leases.borrow().clone();
        let left_ms = lease.map_or(0, |lease| lease.left_ms(boot_ms()));
        let unreadable = |error: log_store::StoreError| Status::unavailable(error.to_string());
        let (unsettled_archives, unsettled_records) = self.archives.unsettled().await.map_err(unreadable)?;
        let partitions = if request.partitions { self.partitions().await? } else { vec![] };
        Ok(wire::StatusReply {
            node: self.identity.node().to_string(),
            region: self.config.region.to_string(),
            incarnation: self.identity.incarnation().get(),
            ready: self.readiness.is_ready(),
            lease_left_ms: u32::try_from(left_ms).unwrap_or(u32::MAX),
            sessions: self.edge.sessions() as u64,
            partitions,
            unsettled_archives,
            unsettled_records,
        })
    }

    async fn partitions(&self) -> Result<Vec<wire::PartitionStatus>, Status> {
        let unreadable = |error: log_store::StoreError| Status::unavailable(error.to_string());
        let views = self.homes.views().await;
        let mut homes: BTreeMap<PartitionId, (Epoch, core::View)> =
            views.into_iter().map(|(partition, epoch, view)| (partition, (epoch, view))).collect();
        let mut statuses = Vec::new();
        for partition in self.store.partitions().await.map_err(unreadable)? {
            if let Some((epoch, view)) = homes.remove(&partition) {
                statuses.push(home_status(partition, epoch, view));
                continue;
            }
            let end = self.store.end(partition).await.map_err(unreadable)?;
            statuses.push(wire::PartitionStatus {
                partition: partition.get(),
                epoch: end.fence.get(),
                home: false,
                last: Some(end.last.into()),
                watermark: self.followers.watermark(partition).get(),
                ..wire::PartitionStatus::default()
            });
        }
        statuses
            .extend(homes.into_iter().map(|(partition, (epoch, view))| home_status(partition, epoch, view)));
        Ok(statuses)
    }
}

fn home_status(partition: PartitionId, epoch: Epoch, view: core::View) -> wire::PartitionStatus {
    let followers = view.followers.iter().map(|follower| {
        let matched = follower.matched.unwrap_or_default();
        wire::FollowerStatus {
            replica: Some((&follower.replica).into()),
            in_sync: follower.in_sync,
            matched: follower.matched.is_some(),
            matched_lsn: matched.get(),
            lag_records: view.last.lsn.since(matched),
            lag_ms: follower.lag_ms,
        }
    });
    wire::PartitionStatus {
        partition: partition.get(),
        epoch: epoch.get(),
        home: true,
        last: Some(view.last.into()),
        watermark: view.watermark.get(),
        at_risk_messages: view.at_risk,
        isr_lag_ms: view.isr_lag_ms,
        pressure: match view.pressure {
            core::Pressure::None => wire::Pressure::None,
            core::Pressure::Slow => wire::Pressure::Slow,
            core::Pressure::Full => wire::Pressure::Full,
        }
        .into(),
        followers: followers.collect(),
    }
}
