//! A planned move: a partition goes from one living home to another, and nothing that it acked goes with the
//! wind.
//!
//! ```text
//!            begin                      finish: the target holds SEAL
//!   Homed(e) ──────▶ Draining(e, move) ───────────────────────────────▶ Homed(e + 1) at the target
//!                      │    │ abort: given up, or it took too long
//!                      │    └──────────────────────────────────────────▶ Homed(e + 1) at the source
//!                      │ the source's boot ends
//!                      └──────────────────────────────────────────────▶ FailingOver(e): the move is over
//! ```
//!
//! # Why it loses nothing, and why nobody is waited for
//!
//! SEAL is the last record that the source writes in `e`: it is written only after the last `home` ack that the
//! source owes, and after it none passes the source's lease check in `e` any more. Whoever holds SEAL holds,
//! since LSNs are dense and (epoch, LSN) names one record, all that the source ever wrote in `e`. So
//!
//! * a target that holds SEAL durably lacks nothing that was acked, whatever the in-sync set says, and no
//!   record of `e` can come to be behind `start_lsn` = SEAL's LSN + 1;
//! * the first `home` ack of `e + 1` at the target comes after the commit of `finish`, which comes after SEAL,
//!   which comes after the last `home` ack of `e`: the lease of the source, which goes on for its other
//!   partitions, need not be waited out.
//!
//! # What if somebody crashes
//!
//! * *The source, before SEAL is durable*: its boot ends by silence or by its next registration, which makes
//!   the row `FailingOver(e)` and forgets the move; failover (F4) does the rest, the wait for the lease included.
//! * *The source, after SEAL*: the same, unless `finish` comes first, which only needs the target. Both are
//!   compare-and-sets on the same row, so one of them happens. If failover wins, the most advanced member is
//!   one that holds SEAL, if any was fenced that does; SEAL is then a record like any other.
//! * *The target*: `finish` names its boot, and is refused for one that is over. The move is given up.
//! * *The directory*: the row says all. Whoever controls next asks the target again, or gives the move up when
//!   its time is over.
//! * *The source is alive, but never hears of the move*: it goes on in `e` until the move is given up, and then goes
//!   on in `e + 1`. It reads `e + 1` from the same row that named it, so it ends `e` before it begins.
//!
//! A move that is given up raises the epoch like one that is finished: `e` may be sealed, and a sealed epoch
//! never reopens (I1). The source begins `e + 1` where its own log ends, which only itself knows; the row keeps
//! the start of `e` as a bound below.

use super::{Answer, Failure};
use crate::{bounds, rows::Rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{
    Epoch, EpochStart, Home, Lsn, Move, MoveCause, MoveId, NodeId, NodeRow, PartitionId, PartitionRow,
    PartitionState, RegionStatus, Replica, Retirement,
};

/// A partition is to be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMove {
    /// The partition.
    pub partition: PartitionId,
    /// Who is to be its next home.
    pub target: Home,
    /// Who wants it.
    pub cause: MoveCause,
    /// In whose name.
    pub by: String,
}

/// The target holds SEAL, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedMove {
    /// The partition.
    pub partition: PartitionId,
    /// The move.
    pub id: MoveId,
    /// The epoch that is sealed.
    pub epoch: Epoch,
    /// Where SEAL stands.
    pub seal: Lsn,
}

/// A move is not to be finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedMove {
    /// The partition.
    pub partition: PartitionId,
    /// The move; `None`: whichever is under way.
    pub id: Option<MoveId>,
    /// In whose name.
    pub by: String,
    /// Why.
    pub why: String,
}

/// A move was not begun, finished or given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// There is no such partition.
    #[error("partition {0} does not exist")]
    UnknownPartition(PartitionId),
    /// It has no home that could hand it over.
    #[error("partition {0} has no home just now")]
    NotHomed(PartitionId),
    /// Former homes may still act.
    #[error("partition {0} waits for the lease of a former home to end")]
    Waiting(PartitionId),
    /// One at a time.
    #[error("partition {partition} is being moved already, to {target} by move {id}")]
    UnderWay {
        /// The partition.
        partition: PartitionId,
        /// To whom.
        target: NodeId,
        /// The move.
        id: MoveId,
    },
    /// The target cannot be its home.
    #[error("partition {partition} cannot move to {node}: {why}")]
    Target {
        /// The partition.
        partition: PartitionId,
        /// The target.
        node: NodeId,
        /// What is in the way.
        why: &'static str,
    },
    /// There is no such move any more.
    #[error("partition {partition} is not being moved by move {id}")]
    Over {
        /// The partition.
        partition: PartitionId,
        /// The move.
        id: MoveId,
    },
    /// Nothing is to be given up.
    #[error("partition {0} is not being moved")]
    NotMoving(PartitionId),
    /// The record that is said to be SEAL cannot be it.
    #[error(
        "partition {partition}: epoch {epoch} is in force, and lsn {seal} of epoch {sealed} cannot end it"
    )]
    NotItsSeal {
        /// The partition.
        partition: PartitionId,
        /// Its epoch.
        epoch: Epoch,
        /// The epoch that was said to be sealed.
        sealed: Epoch,
        /// Where SEAL was said to stand.
        seal: Lsn,
    },
}

pub(super) fn begin(rows: &mut Rows<'_>, new: &NewMove) -> Result<Answer, Failure> {
    let partition = new.partition;
    let mut row = existing(rows, partition)?;
    match (row.state, &row.moving) {
        (_, Some(Move { id, target, .. })) => {
            return Err(MoveError::UnderWay { partition, target: target.node.clone(), id: *id }.into());
        }
        (PartitionState::Homed, None) => {}
        _ => return Err(MoveError::NotHomed(partition).into()),
    }
    if !row.waiting.is_empty() {
        return Err(MoveError::Waiting(partition).into());
    }
    let nodes = rows.nodes()?;
    let node = sound_target(&row, &new.target, &nodes)?;
    let wrong = |why| MoveError::Target { partition, node: node.node.clone(), why };
    if row.home.as_ref().is_some_and(|home| home.node == node.node) {
        return Err(wrong("it is homed there").into());
    }
    if !row.allowed.is_empty() && !row.allowed.contains(&node.region) {
        return Err(wrong("its region may not hold the partition").into());
    }
    if rows.region(&node.region)?.is_none_or(|region| region.status != RegionStatus::Active) {
        return Err(wrong("its region takes no homes").into());
    }
    if node.retirement != Retirement::Serving {
        return Err(wrong("it leaves the deployment").into());
    }
    let id = rows.next_move();
    let source = row.home.as_ref().map_or_else(|| "nobody".to_owned(), |home| home.node.to_string());
    let (target, epoch) = (&node.node, row.epoch);
    let what = format!("move {id} of partition {partition}@{epoch} from {source} to {target} begins");
    rows.note_by(&new.by, format!("{what}: {}", new.cause.as_str()))?;
    row.state = PartitionState::Draining;
    row.moving = Some(Move { id, target: new.target.clone(), cause: new.cause });
    rows.put_partition(row)?;
    Ok(Answer::Moving(id))
}

pub(super) fn finish(rows: &mut Rows<'_>, sealed: &SealedMove) -> Result<Answer, Failure> {
    let &SealedMove { partition, id, epoch, seal } = sealed;
    let mut row = existing(rows, partition)?;
    let Some(moving) = row.moving.clone().filter(|moving| moving.id == id) else {
        return Err(MoveError::Over { partition, id }.into());
    };
    let start_lsn = seal.next().ok().filter(|start_lsn| epoch == row.epoch && *start_lsn > row.start_lsn());
    let (Some(start_lsn), Ok(next)) = (start_lsn, epoch.next()) else {
        return Err(MoveError::NotItsSeal { partition, epoch: row.epoch, sealed: epoch, seal }.into());
    };
    let nodes = rows.nodes()?;
    let node = sound_target(&row, &moving.target, &nodes)?;
    row.stays = moving.cause == MoveCause::Operator && node.region != row.preferred;
    let what = format!("move {id} of partition {partition} is done: {} is home @{next}", node.node);
    rows.note_by(moving.cause.as_str(), format!("{what} from lsn {start_lsn}"))?;
    enter(&mut row, next, moving.target, start_lsn);
    rows.put_partition(row)?;
    Ok(Answer::Done)
}

pub(super) fn abort(rows: &mut Rows<'_>, aborted: &AbortedMove) -> Result<Answer, Failure> {
    let partition = aborted.partition;
    let mut row = existing(rows, partition)?;
    let Some(moving) = row.moving.clone() else {
        return Err(match aborted.id {
            Some(id) => MoveError::Over { partition, id },
            None => MoveError::NotMoving(partition),
        }
        .into());
    };
    let id = moving.id;
    if let Some(id) = aborted.id.filter(|wanted| *wanted != id) {
        return Err(MoveError::Over { partition, id }.into());
    }
    let (Some(source), Ok(next)) = (row.home.clone(), row.epoch.next()) else {
        return Err(MoveError::NotHomed(partition).into());
    };
    let what = format!("move {id} of partition {partition} to {} is given up", moving.target.node);
    let why = &aborted.why;
    rows.note_by(&aborted.by, format!("{what}, {} goes on @{next}: {why}", source.node))?;
    let start_lsn = row.start_lsn();
    enter(&mut row, next, source, start_lsn);
    rows.put_partition(row)?;
    Ok(Answer::Done)
}

/// Ends the move with a home in the next epoch.
fn enter(row: &mut PartitionRow, epoch: Epoch, home: Home, start_lsn: Lsn) {
    row.state = PartitionState::Homed;
    row.moving = None;
    row.epoch = epoch;
    row.home = Some(home.clone());
    // A proposal of the former epoch must not match again.
    row.isr_version += 1;
    row.history.push(EpochStart { epoch, start_lsn, home });
    let old = row.history.len().saturating_sub(bounds::HISTORY_MAX);
    row.history.drain(..old);
}

fn existing(rows: &Rows<'_>, partition: PartitionId) -> Result<PartitionRow, Failure> {
    rows.partition(partition)?.ok_or_else(|| MoveError::UnknownPartition(partition).into())
}

/// The target's row, if that boot may be home of the partition.
fn sound_target<'a>(
    row: &PartitionRow,
    target: &Home,
    nodes: &'a BTreeMap<NodeId, NodeRow>,
) -> Result<&'a NodeRow, MoveError> {
    let wrong = |why| MoveError::Target { partition: row.partition, node: target.node.clone(), why };
    let node = nodes.get(&target.node).ok_or_else(|| wrong("there is no such node"))?;
    if !node.live || node.incarnation != target.incarnation {
        return Err(wrong("its boot is over"));
    }
    let replica = Replica { node: node.node.clone(), store: node.store };
    if !row.isr.contains(&replica) || row.lost.contains(&replica) {
        return Err(wrong("it is not in sync"));
    }
    Ok(node)
}
