//! Birth: the regions and the number of partitions, fixed once and for all.

use crate::{
    bounds,
    kv::{Error as KvError, Overlay, Transaction},
    rows::{self, Meta, Rows},
};
use serde::{Deserialize, Serialize};
use types::{
    Epoch, PartitionId, PartitionRow, PartitionState, RegionId, RegionRow, RegionStatus, Retirement,
};

/// What the configuration says a deployment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its regions.
    pub regions: Vec<RegionId>,
    /// How many partitions prefer each of them.
    pub partitions_per_region: u32,
}

/// The configuration and the rows disagree about the deployment.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// The number of partitions cannot change.
    #[error(
        "partitions-per-region is {configured}, and this deployment was born with {born}: \
         the number of partitions is fixed at birth"
    )]
    Partitions {
        /// What the configuration says.
        configured: u32,
        /// What the rows say.
        born: u32,
    },
    /// The set of regions that have partitions of their own cannot change.
    #[error(
        "regions are {configured:?}, and this deployment was born with {born:?}: more are added by command"
    )]
    Regions {
        /// What the configuration says, sorted.
        configured: Vec<String>,
        /// What the rows say, sorted.
        born: Vec<String>,
    },
    /// The rows could not be read or written.
    #[error(transparent)]
    Store(#[from] KvError),
}

/// Makes the deployment's rows where there are none, and otherwise checks that it is the same one.
/// Answers whether it was born just now.
///
/// # Errors
/// [`DeploymentError`]; nothing was written then.
pub fn found(tx: &mut dyn Transaction, deployment: &Deployment, at_ms: u64) -> Result<bool, DeploymentError> {
    let regions = sorted(&deployment.regions);
    if let Some(meta) = rows::meta(tx)? {
        let text = |regions: &[RegionId]| regions.iter().map(RegionId::to_string).collect();
        let was_born = |region: &&RegionId| !meta.added.contains(region);
        let born: Vec<RegionId> = meta.regions.iter().filter(was_born).cloned().collect();
        return if regions != born && regions != meta.regions {
            Err(DeploymentError::Regions { configured: text(&regions), born: text(&born) })
        } else if meta.partitions_per_region != deployment.partitions_per_region {
            Err(DeploymentError::Partitions {
                configured: deployment.partitions_per_region,
                born: meta.partitions_per_region,
            })
        } else {
            Ok(false)
        };
    }
    debug_assert!(deployment.partitions_per_region <= bounds::PARTITIONS_PER_REGION_MAX);
    let mut overlay = Overlay::new(tx);
    let meta = Meta::born(regions.clone(), deployment.partitions_per_region);
    let mut rows = Rows::new(&mut overlay, meta, at_ms);
    let mut number = 0;
    for region in &regions {
        rows.put_region(RegionRow {
            region: region.clone(),
            status: RegionStatus::Active,
            retirement: Retirement::Serving,
            failback_off: false,
            alone_until_ms: 0,
        })?;
        for _ in 0..deployment.partitions_per_region {
            rows.put_partition(vacant(PartitionId::new(number), region))?;
            number += 1;
        }
    }
    rows.note(format!("deployment born with {} regions and {number} partitions", regions.len()))?;
    rows.finish()?;
    overlay.keep()?;
    Ok(true)
}

fn sorted(regions: &[RegionId]) -> Vec<RegionId> {
    let mut regions = regions.to_vec();
    regions.sort();
    regions.dedup();
    regions
}

fn vacant(partition: PartitionId, preferred: &RegionId) -> PartitionRow {
    PartitionRow {
        partition,
        preferred: preferred.clone(),
        allowed: Vec::new(),
        replicas: Vec::new(),
        home: None,
        waiting: Vec::new(),
        epoch: Epoch::ZERO,
        state: PartitionState::Vacant,
        isr: Vec::new(),
        lost: Vec::new(),
        isr_version: 0,
        history: Vec::new(),
        away: Vec::new(),
        moving: None,
        stays: false,
    }
}
