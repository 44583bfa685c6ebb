//! Planned moves, drains and failback, as operators see them.

use super::request::{name, operator, request_id};
use crate::{
    bounds,
    command::{AbortedMove, Command, FailbackWish, RegionWish},
    controller::{PowerOff, WishError, dry_run, power_off},
    movers::Asked,
    raft::Voters,
    status,
};
use proto::directory as wire;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use types::{MoveId, PartitionId, PartitionRow, PartitionState, Placement, RegionId, RegionRow, RequestId};

pub(super) fn drain(request: wire::DrainRequest) -> Result<(RequestId, RegionWish, bool), Status> {
    let id = request_id(&request.request_id)?;
    let region = name("drain.region", RegionId::new(&request.region))?;
    Ok((id, RegionWish { region, by: operator("drain.by", request.by)? }, request.dry_run))
}

pub(super) fn undrain(request: wire::UndrainRequest) -> Result<(RequestId, RegionWish), Status> {
    let id = request_id(&request.request_id)?;
    let region = name("undrain.region", RegionId::new(&request.region))?;
    Ok((id, RegionWish { region, by: operator("undrain.by", request.by)? }))
}

pub(super) fn abort(request: wire::AbortMoveRequest) -> Result<(RequestId, Command), Status> {
    let id = request_id(&request.request_id)?;
    let (partition, why) = (PartitionId::new(request.partition), "asked for".to_owned());
    Ok((
        id,
        Command::AbortMove(AbortedMove {
            partition,
            id: None,
            by: operator("abort_move.by", request.by)?,
            why,
        }),
    ))
}

pub(super) fn set_failback(request: wire::SetFailbackRequest) -> Result<(RequestId, Command), Status> {
    let id = request_id(&request.request_id)?;
    let region = match request.region.as_str() {
        "" => None,
        region => Some(name("set_failback.region", RegionId::new(region))?),
    };
    Ok((
        id,
        Command::SetFailback(FailbackWish {
            region,
            on: request.on,
            by: operator("set_failback.by", request.by)?,
        }),
    ))
}

/// Hands a wish to the controller, and waits until the move has begun or cannot.
pub(super) async fn wish(desk: &mpsc::Sender<Asked>, request: wire::MoveRequest) -> Result<MoveId, Status> {
    let id = request_id(&request.request_id)?;
    let region = name("move.region", RegionId::new(&request.region))?;
    let (reply, answer) = oneshot::channel();
    let partition = PartitionId::new(request.partition);
    let asked = Asked { request: id, partition, region, by: operator("move.by", request.by)?, reply };
    desk.try_send(asked).map_err(|_| {
        let max = bounds::WISHES_MAX;
        Status::resource_exhausted(format!("{max} moves are asked for already"))
    })?;
    let unknown = |_| Status::unavailable("the directory stops to control placement: ask again");
    answer.await.map_err(unknown)?.map_err(|error| refused(&error))
}

fn refused(error: &WishError) -> Status {
    match error {
        WishError::Refused(error) => status::moving(error),
        WishError::UnknownRegion(_) => Status::not_found(error.to_string()),
        WishError::NoMember { .. } | WishError::NotInSync { .. } | WishError::Behind { .. } => {
            Status::failed_precondition(error.to_string())
        }
        WishError::Unheard { .. } => Status::unavailable(error.to_string()),
        WishError::NotBegun { .. } => Status::aborted(error.to_string()),
    }
}

/// What a drain moves: what is under way and what is to come.
pub(super) fn planned(view: &Placement, region: &RegionId) -> Vec<wire::PlannedMove> {
    let under_way = |partition: PartitionId| {
        let moving = view.partition(partition)?.moving.as_ref()?;
        Some(moving.target.node.clone())
    };
    let moves = dry_run(view, region).into_iter().map(|(partition, target)| wire::PlannedMove {
        partition: partition.get(),
        target: under_way(partition).or(target).map(|node| node.to_string()).unwrap_or_default(),
    });
    moves.collect()
}

pub(super) fn moves_under_way(view: &Placement) -> Vec<wire::MoveUnderWay> {
    let under_way = |row: &PartitionRow| {
        Some(wire::MoveUnderWay {
            partition: row.partition.get(),
            r#move: Some(row.moving.as_ref()?.into()),
            source: row.home.as_ref().map(Into::into),
            epoch: row.epoch.get(),
        })
    };
    view.partitions().filter_map(under_way).collect()
}

/// `voters` are those of the directory, where it stands in the regions itself.
pub(super) fn region_drain(
    view: &Placement,
    voters: Option<&Voters>,
    region: &RegionId,
) -> Option<wire::RegionDrain> {
    let row: &RegionRow = view.region(region)?;
    let judged = power_off(view, region);
    let directory_needs_it = voters.is_some_and(|voters| !voters.survive_without(region));
    let safe_to_power_off = judged.is_safe() && !directory_needs_it;
    let PowerOff { homes, arriving, exposed, .. } = judged;
    let numbers = |partitions: Vec<PartitionId>| partitions.iter().map(|it| it.get()).collect();
    let is_away = |row: &&PartitionRow| {
        let home = row.home.as_ref().and_then(|home| view.node(&home.node));
        row.preferred == *region
            && row.state != PartitionState::Vacant
            && !row.stays
            && home.is_some_and(|node| node.region != *region)
    };
    let row_on_the_wire = wire::RegionRow::from(row);
    Some(wire::RegionDrain {
        region: region.to_string(),
        status: row_on_the_wire.status,
        safe_to_power_off,
        directory_needs_it,
        homes: numbers(homes),
        arriving: numbers(arriving),
        exposed: numbers(exposed),
        failback_off: row.failback_off,
        away: numbers(view.partitions().filter(is_away).map(|row| row.partition).collect()),
    })
}
