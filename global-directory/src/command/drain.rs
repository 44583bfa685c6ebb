//! Regions that are to give their homes away, and whether partitions come home by themselves.

use super::{Answer, Failure};
use crate::rows::Rows;
use serde::{Deserialize, Serialize};
use types::{RegionId, RegionStatus, Retirement};

/// What an operator wants of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionWish {
    /// The region.
    pub region: RegionId,
    /// In whose name.
    pub by: String,
}

/// Whether the partitions that prefer a region, or any, come home by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailbackWish {
    /// The region; `None`: all of them.
    pub region: Option<RegionId>,
    /// Whether they do.
    pub on: bool,
    /// In whose name.
    pub by: String,
}

/// An operator's wish was not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// The deployment has no such region.
    #[error("region {region} is not one of this deployment's: {known}")]
    Unknown {
        /// What was asked for.
        region: RegionId,
        /// What there is.
        known: String,
    },
    /// It leaves for good.
    #[error("region {0} leaves the deployment: its homes do not come back")]
    Retires(RegionId),
    /// Its homes would have nowhere to go.
    #[error("region {0} is the last that takes homes")]
    Last(RegionId),
}

pub(super) fn drain(rows: &mut Rows<'_>, wish: &RegionWish) -> Result<Answer, Failure> {
    let mut row = existing(rows, &wish.region)?;
    if row.status == RegionStatus::Draining {
        return Ok(Answer::Done);
    }
    let others = rows.meta().regions.iter().filter(|region| **region != wish.region);
    let mut takes_homes = false;
    for other in others {
        let takes = |row: &types::RegionRow| {
            row.status == RegionStatus::Active && row.retirement == Retirement::Serving
        };
        takes_homes |= rows.region(other)?.is_some_and(|row| takes(&row));
    }
    if !takes_homes {
        return Err(RegionError::Last(wish.region.clone()).into());
    }
    row.status = RegionStatus::Draining;
    rows.put_region(row)?;
    rows.note_by(&wish.by, format!("region {} is drained: its homes move away", wish.region))?;
    Ok(Answer::Done)
}

pub(super) fn undrain(rows: &mut Rows<'_>, wish: &RegionWish) -> Result<Answer, Failure> {
    let mut row = existing(rows, &wish.region)?;
    if row.status != RegionStatus::Draining {
        return Ok(Answer::Done);
    }
    if row.retirement != Retirement::Serving {
        return Err(RegionError::Retires(wish.region.clone()).into());
    }
    let nodes = rows.nodes()?;
    let is_here =
        |node: &&types::NodeRow| node.region == wish.region && node.retirement != Retirement::Retired;
    let mut here = nodes.values().filter(is_here).peekable();
    let is_down = here.peek().is_some() && !here.any(|node| node.live);
    row.status = if is_down { RegionStatus::Down } else { RegionStatus::Active };
    rows.put_region(row)?;
    rows.note_by(&wish.by, format!("region {} takes homes again", wish.region))?;
    Ok(Answer::Done)
}

pub(super) fn set_failback(rows: &mut Rows<'_>, wish: &FailbackWish) -> Result<Answer, Failure> {
    let wanted = wish.region.as_ref().map_or_else(|| rows.meta().regions.clone(), |it| vec![it.clone()]);
    for region in &wanted {
        let mut row = existing(rows, region)?;
        if row.failback_off == wish.on {
            row.failback_off = !wish.on;
            rows.put_region(row)?;
            let state = if wish.on { "on" } else { "off" };
            rows.note_by(&wish.by, format!("failback to region {region} is {state}"))?;
        }
    }
    Ok(Answer::Done)
}

fn existing(rows: &Rows<'_>, region: &RegionId) -> Result<types::RegionRow, Failure> {
    if let Some(row) = rows.region(region)? {
        return Ok(row);
    }
    let known = rows.meta().regions.iter().map(RegionId::to_string).collect::<Vec<_>>().join(", ");
    Err(RegionError::Unknown { region: region.clone(), known }.into())
}
