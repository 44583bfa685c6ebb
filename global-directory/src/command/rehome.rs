//! One log goes from its partition to one that is homed in another region. No entry moves.
//!
//! ```text
//!              begin                       finish: the log is sealed there, and imported here
//!   pinned (g) ──────▶ pinned (g), under way ───────────────────────────▶ pinned (g + 1) to the next partition
//!                        │ abort: given up, or it took too long
//!                        └──────────────────────────────────────────────▶ pinned (g + 1) to the same partition
//! ```
//!
//! Only the row and the pin say how far it is: whoever controls next asks both homes again, whoever they are then.
//!
//! # Why (generation, epoch, offset) never names two entries
//!
//! * *Nobody writes in `g + 1` before the pin says so*: a home writes behind a seal or an import only in a
//!   generation that it read here, with its own partition, after it was sealed or imported.
//! * *Nobody writes in `g` once the next partition was handed the log*: what it imports is what the log added up
//!   to at a seal that is `replicated`. Every later home of the former partition holds that seal.
//! * *`finish` and `abort` are one compare-and-set on the same row*, so `g + 1` is begun once. Each of them raises
//!   the generation, the abort too: a seal that comes late is of `g`, and the log goes on behind it in `g + 1`; an
//!   import that comes late is of a generation that is pinned elsewhere.
//!
//! An abort needs no word from the homes: the stretch that goes on where it was has the first offset of the one
//! before it, and both are in the same partition.

use super::{Answer, Failure};
use crate::{bounds, rendezvous, rows::Rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{
    Generation, Home, LogId, NodeId, NodeRow, Offset, PartitionId, PartitionRow, PartitionState, PinSegment,
    RegionId, RegionStatus, RehomeId, limits,
};

/// A re-homing that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehome {
    /// Which.
    pub id: RehomeId,
    /// The log.
    pub log: LogId,
    /// Where it is written until then.
    pub from: PinSegment,
    /// The partition that is to write it next.
    pub to: PartitionId,
    /// The directory's wall clock when it was begun.
    pub at_ms: u64,
    /// It follows those who write it.
    #[serde(default)]
    pub follows: bool,
}

/// A log is to be re-homed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRehome {
    /// The log.
    pub log: LogId,
    /// Where it is to be homed.
    pub region: RegionId,
    /// In whose name.
    pub by: String,
    /// Whose word it is, where no operator wants it.
    #[serde(default)]
    pub follows: Option<Follow>,
}

/// A home says that its log is mostly written from another region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// Who says so.
    pub home: Home,
    /// In which generation the log is written there.
    pub generation: Generation,
    /// The regions that may hold the log; empty means all.
    pub allowed_regions: Vec<RegionId>,
}

/// An operator says whether logs follow those who write them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowingWish {
    /// Whether they do.
    pub on: bool,
    /// In whose name.
    pub by: String,
}

/// The log is sealed where it was and imported where it goes on, both `replicated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedRehome {
    /// The log.
    pub log: LogId,
    /// Which re-homing.
    pub id: RehomeId,
    /// The offset behind the seal.
    pub first_offset: Offset,
}

/// A re-homing is not to be finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedRehome {
    /// The log.
    pub log: LogId,
    /// Which re-homing; `None`: whichever is under way.
    pub id: Option<RehomeId>,
    /// In whose name.
    pub by: String,
    /// Why.
    pub why: String,
}

/// A re-homing was not begun, finished or given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RehomeError {
    /// There is no such log.
    #[error("log {0} is not pinned")]
    Unpinned(LogId),
    /// There is no such region.
    #[error("region {0} is not one of this deployment's")]
    UnknownRegion(RegionId),
    /// The region takes no homes.
    #[error("region {0} takes no homes just now")]
    RegionClosed(RegionId),
    /// Its partition has no home that could hand it over.
    #[error("partition {0}, which log {1} is written in, has no home just now")]
    NotHomed(PartitionId, LogId),
    /// Logs follow nobody.
    #[error("chats follow nobody: an operator has switched it off")]
    FollowingOff,
    /// Whoever tells of it is not its home, or not any more.
    #[error("{node} is not home of log {log} in generation {generation}", node = .0.node, log = .1, generation = .2)]
    NotItsHome(Home, LogId, Generation),
    /// No partition is homed in the region.
    #[error("no partition is homed in region {0} just now")]
    NoPartition(RegionId),
    /// One at a time.
    #[error("log {0} is being re-homed already, to partition {1}")]
    UnderWay(LogId, PartitionId),
    /// There are enough.
    #[error("{0} logs are being re-homed already")]
    TooMany(usize),
    /// The pin has grown enough.
    #[error("log {0} was re-homed {1} times, and may not be any more")]
    TooOften(LogId, usize),
    /// There is no such re-homing any more.
    #[error("log {0} is not being re-homed by re-homing {1}")]
    Over(LogId, RehomeId),
    /// Nothing is to be given up.
    #[error("log {0} is not being re-homed")]
    NotMoving(LogId),
    /// The seal stands before what the pin says.
    #[error("log {0} goes on at offset {1}, before where its last stretch begins")]
    GoesBack(LogId, Offset),
}

/// Answers how many re-homings to that region are under way for the log: none where it is homed there already.
pub(super) fn begin(rows: &mut Rows<'_>, new: &NewRehome) -> Result<Answer, Failure> {
    let NewRehome { log, region, by, follows } = new;
    let status = rows.region(region)?.map(|row| row.status);
    let status = status.ok_or_else(|| RehomeError::UnknownRegion(region.clone()))?;
    let pin = rows.pin(*log)?.ok_or(RehomeError::Unpinned(*log))?;
    let from = *pin.current().ok_or(RehomeError::Unpinned(*log))?;
    let (nodes, partitions) = (rows.nodes()?, rows.partitions()?);
    if let Some(known) = rows.rehome(*log)? {
        let target = partitions.iter().find(|row| row.partition == known.to);
        return match target.and_then(|row| region_of(row, &nodes)) {
            Some(to) if to == region => Ok(Answer::Applied(1)),
            _ => Err(RehomeError::UnderWay(*log, known.to).into()),
        };
    }
    let source = partitions.iter().find(|row| row.partition == from.partition);
    let source = source.filter(|row| is_ready(row)).ok_or(RehomeError::NotHomed(from.partition, *log))?;
    if region_of(source, &nodes) == Some(region) {
        return Ok(Answer::Applied(0));
    }
    if status != RegionStatus::Active {
        return Err(RehomeError::RegionClosed(region.clone()).into());
    }
    if let Some(follow) = follows {
        check_follow(rows, *log, &from, source, follow)?;
    }
    let (generations_max, at_once) = match follows {
        Some(_) => (bounds::FOLLOW_GENERATIONS_MAX, bounds::FOLLOWS_AT_ONCE),
        None => (limits::GENERATIONS_MAX, bounds::REHOMES_MAX),
    };
    if pin.segments.len() >= generations_max {
        return Err(RehomeError::TooOften(*log, pin.segments.len()).into());
    }
    let under_way = rows.rehomes()?;
    let alike = under_way.iter().filter(|row| follows.is_none() || row.follows).count();
    if alike >= at_once {
        return Err(RehomeError::TooMany(alike).into());
    }
    let allowed = follows.as_ref().map_or(&[][..], |follow| &follow.allowed_regions);
    let regions = &rows.meta().regions;
    let is_allowed = |row: &PartitionRow| {
        let held_in = if row.allowed.is_empty() { regions } else { &row.allowed };
        allowed.is_empty() || held_in.iter().all(|region| allowed.contains(region))
    };
    let is_there =
        |row: &&PartitionRow| is_ready(row) && region_of(row, &nodes) == Some(region) && is_allowed(row);
    let weight =
        |row: &&PartitionRow| rendezvous::weight(&log.to_bytes(), &row.partition.get().to_be_bytes());
    let target = partitions.iter().filter(is_there).max_by_key(weight);
    let to = target.ok_or_else(|| RehomeError::NoPartition(region.clone()))?.partition;
    let (id, at_ms) = (rows.next_rehome(), rows.at_ms());
    rows.put_rehome(&Rehome { id, log: *log, from, to, at_ms, follows: follows.is_some() })?;
    let from = from.partition;
    rows.note_by(by, format!("log {log} is re-homed to {region}: from partition {from} to {to} ({id})"))?;
    Ok(Answer::Applied(1))
}

/// Only the log's present home speaks for it.
fn check_follow(
    rows: &Rows<'_>,
    log: LogId,
    from: &PinSegment,
    source: &PartitionRow,
    follow: &Follow,
) -> Result<(), Failure> {
    if rows.meta().following_off {
        return Err(RehomeError::FollowingOff.into());
    }
    if source.home.as_ref() != Some(&follow.home) || from.generation != follow.generation {
        return Err(RehomeError::NotItsHome(follow.home.clone(), log, follow.generation).into());
    }
    Ok(())
}

pub(super) fn set_following(rows: &mut Rows<'_>, wish: &FollowingWish) -> Result<Answer, Failure> {
    if rows.meta().following_off == wish.on {
        rows.set_following(wish.on);
        let state = if wish.on { "follow those who write them" } else { "follow nobody" };
        rows.note_by(&wish.by, format!("chats {state}"))?;
    }
    Ok(Answer::Done)
}

pub(super) fn finish(rows: &mut Rows<'_>, imported: &ImportedRehome) -> Result<Answer, Failure> {
    let ImportedRehome { log, id, first_offset } = *imported;
    let known = rows.rehome(log)?.filter(|known| known.id == id).ok_or(RehomeError::Over(log, id))?;
    if first_offset < known.from.first_offset {
        return Err(RehomeError::GoesBack(log, first_offset).into());
    }
    grow(rows, &known, PinSegment { partition: known.to, first_offset, ..known.from })?;
    rows.note(format!(
        "log {log} is re-homed to partition {} from offset {first_offset} on ({id})",
        known.to
    ))?;
    Ok(Answer::Done)
}

pub(super) fn abort(rows: &mut Rows<'_>, aborted: &AbortedRehome) -> Result<Answer, Failure> {
    let AbortedRehome { log, id, by, why } = aborted;
    let known = rows.rehome(*log)?;
    let known = match (known, id) {
        (Some(known), None) => known,
        (Some(known), Some(id)) if known.id == *id => known,
        (_, Some(id)) => return Err(RehomeError::Over(*log, *id).into()),
        (None, None) => return Err(RehomeError::NotMoving(*log).into()),
    };
    grow(rows, &known, known.from)?;
    let (id, partition) = (known.id, known.from.partition);
    rows.note_by(by, format!("log {log} stays in partition {partition}: {why} ({id})"))?;
    Ok(Answer::Done)
}

/// Begins the next generation, in the place of the re-homing.
fn grow(rows: &mut Rows<'_>, known: &Rehome, segment: PinSegment) -> Result<(), Failure> {
    let pin = rows.pin(known.log)?.filter(|pin| pin.current() == Some(&known.from));
    let mut pin = pin.ok_or(RehomeError::Over(known.log, known.id))?;
    pin.segments.push(PinSegment { generation: known.from.generation.plus(1), ..segment });
    rows.put_pin(&pin)?;
    rows.drop_rehome(known.log)?;
    Ok(())
}

fn is_ready(row: &PartitionRow) -> bool {
    row.state == PartitionState::Homed && row.waiting.is_empty()
}

fn region_of<'a>(row: &PartitionRow, nodes: &'a BTreeMap<NodeId, NodeRow>) -> Option<&'a RegionId> {
    nodes.get(&row.home.as_ref()?.node).map(|node| &node.region)
}
