//! What only an operator may do, loudly: promote a copy that may lack acked messages (I6), let one region do
//! without another (I5), and say that a region is lost where the directory does not decide (I10). All is recorded.

use super::{Answer, Failure, bump};
use crate::{bounds, rows::Rows};
use serde::{Deserialize, Serialize};
use types::{Epoch, EpochStart, Home, Lsn, PartitionId, PartitionState, RegionId, Replica};

/// A copy that is not in sync becomes home, because an operator has said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsafePromotion {
    /// The partition.
    pub partition: PartitionId,
    /// The epoch that ends. The new home was fenced at the next one.
    pub epoch: Epoch,
    /// The new home.
    pub home: Home,
    /// The store that was fenced.
    pub replica: Replica,
    /// One past the last record that it held when its fence was durable.
    pub start_lsn: Lsn,
    /// In whose name.
    #[serde(default)]
    pub by: String,
}

/// Homes of a region may call `replicated` what no other region holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AloneWish {
    /// The region.
    pub region: RegionId,
    /// Until when, in ms since 1970; 0 ends it.
    pub until_ms: u64,
    /// In whose name.
    #[serde(default)]
    pub by: String,
}

/// A region is failed over, whatever stops the directory from doing so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailOverWish {
    /// The region.
    pub region: RegionId,
    /// In whose name.
    pub by: String,
}

/// An operator's wish was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmergencyError {
    /// There is no such partition.
    #[error("partition {0} does not exist")]
    UnknownPartition(PartitionId),
    /// There is no such region.
    #[error("region {0} does not exist")]
    UnknownRegion(RegionId),
    /// Nothing there can be home of anything.
    #[error("no node of region {0} is live: it is failed over already")]
    NothingLive(RegionId),
    /// The partition has a home, or is about to get a safe one.
    #[error("partition {partition} is not without a home: {why}")]
    NotStuck {
        /// The partition.
        partition: PartitionId,
        /// What was found.
        why: String,
    },
    /// The node cannot become home.
    #[error("partition {partition}: {node} {why}")]
    NoCopy {
        /// The partition.
        partition: PartitionId,
        /// The node.
        node: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What follows is what follows any silence: fences, the most advanced in-sync copy, and the wait for the leases.
pub(super) fn fail_over(rows: &mut Rows<'_>, wish: &FailOverWish) -> Result<Answer, Failure> {
    let FailOverWish { region, by } = wish;
    if rows.region(region)?.is_none() {
        return Err(EmergencyError::UnknownRegion(region.clone()).into());
    }
    let nodes = rows.nodes()?;
    let live = nodes.values().filter(|node| node.live && node.region == *region);
    let boots: Vec<Home> =
        live.map(|node| Home { node: node.node.clone(), incarnation: node.incarnation }).collect();
    if boots.is_empty() {
        return Err(EmergencyError::NothingLive(region.clone()).into());
    }
    rows.note_by(by, format!("region {region} is failed over by an operator's word"))?;
    bump::bump(rows, &boots)
}

/// The copy is all that counts of the in-sync set from now on. What former members hold and it does not is archived by
/// them when they return, and salvaged.
pub(super) fn promote_unsafe(rows: &mut Rows<'_>, promotion: &UnsafePromotion) -> Result<Answer, Failure> {
    let UnsafePromotion { partition, epoch: ending, home, replica, start_lsn, by } = promotion;
    let Some(mut row) = rows.partition(*partition)? else {
        return Err(EmergencyError::UnknownPartition(*partition).into());
    };
    let not_stuck = |why: String| Failure::from(EmergencyError::NotStuck { partition: *partition, why });
    if row.state != PartitionState::FailingOver {
        return Err(not_stuck(format!("it is {:?} in epoch {}", row.state, row.epoch)));
    }
    let (true, Ok(epoch)) = (row.epoch == *ending, ending.next()) else {
        return Err(not_stuck(format!("it is in epoch {}, not {ending}", row.epoch)));
    };
    let no_copy = |why| EmergencyError::NoCopy { partition: *partition, node: home.node.to_string(), why };
    let nodes = rows.nodes()?;
    match nodes.get(&home.node) {
        Some(node) if !node.live || node.incarnation != home.incarnation => {
            return Err(no_copy("is not the boot that was fenced").into());
        }
        Some(node) if node.store != replica.store => return Err(no_copy("has another store by now").into()),
        Some(_) => {}
        None => return Err(no_copy("is no node").into()),
    }
    if !row.replicas.contains(replica) {
        return Err(no_copy("has no copy of it").into());
    }
    let members: Vec<&str> = row.isr.iter().map(|member| member.node.as_str()).collect();
    let what = format!(
        "UNSAFE PROMOTION of {} to home of {partition}@{epoch} from lsn {start_lsn}: it was not promoted by rule, \
         the in-sync set was {}, and what was acked may be missing",
        home.node,
        members.join(", ")
    );
    rows.note_by(by, what)?;
    // A copy that lacks the beginning of the epoch that ends shares none of the history that the row tells.
    if *start_lsn < row.start_lsn() {
        row.history.clear();
    }
    // The others count for nothing until they are matched again, and leave once two regions are in sync (I5).
    row.isr.retain(|member| member != replica);
    row.lost.clone_from(&row.isr);
    row.isr.push(replica.clone());
    row.isr_version += 1;
    row.state = PartitionState::Homed;
    row.epoch = epoch;
    row.home = Some(home.clone());
    row.stays = false;
    row.history.push(EpochStart { epoch, start_lsn: *start_lsn, home: home.clone() });
    let old = row.history.len().saturating_sub(bounds::HISTORY_MAX);
    row.history.drain(..old);
    rows.put_partition(row)?;
    Ok(Answer::Done)
}

pub(super) fn allow_alone(rows: &mut Rows<'_>, wish: &AloneWish) -> Result<Answer, Failure> {
    let Some(mut row) = rows.region(&wish.region)? else {
        return Err(EmergencyError::UnknownRegion(wish.region.clone()).into());
    };
    if row.alone_until_ms != wish.until_ms {
        row.alone_until_ms = wish.until_ms;
        let what = match wish.until_ms {
            0 => format!("ONE REGION IS NOT ENOUGH any more in {}", wish.region),
            until_ms => format!(
                "ONE REGION IS ENOUGH in {} until {until_ms} ms since 1970: what is replicated there until then \
                 can be lost with it",
                wish.region
            ),
        };
        rows.note_by(&wish.by, what)?;
        rows.put_region(row)?;
    }
    Ok(Answer::Done)
}
