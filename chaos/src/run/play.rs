//! Plays a schedule: makes each fault at its time, and undoes it.

use super::Deployed;
use crate::{
    history::{Fault, Recorder, Region},
    observe, operate,
    scenario::{FaultKind, Planned, Schedule},
    workload::Workload,
};
use anyhow::Context as _;
use lab::{DIRECTORY, LabError, LinkChange, process::ProcessError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use types::{NodeId, PartitionRow};

/// How long a target may take until it can be moved to.
const MOVE_PATIENCE: Duration = Duration::from_secs(20);

/// Plays all of it, to its end.
///
/// # Errors
/// A fault could not be made or undone; the rest of the schedule was not played.
pub async fn play(
    deployed: &Deployed,
    workload: &Workload,
    schedule: &Schedule,
    recorder: &Recorder,
    progress: impl Fn(&str),
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut open: Vec<Option<Open>> = vec![None; schedule.faults.len()];
    for (at_ms, number, begins) in moments(schedule) {
        sleep_until(began + Duration::from_millis(at_ms)).await;
        if begins {
            let fault = resolved(deployed, &schedule.faults[number].fault).await?;
            let told = fault.told(&names(deployed)).to_string();
            progress(&told);
            let recorded = match fault.breaks() {
                true => Some(recorder.fault_began(&*told, struck(deployed, recorder, &fault))),
                false => {
                    recorder.note(&*told);
                    None
                }
            };
            make(deployed, &fault).await.with_context(|| told)?;
            if fault.breaks() {
                workload.lose_devices();
            }
            open[number] = Some(Open { fault, recorded });
        } else if let Some(Open { fault, recorded }) = open[number].take() {
            let told = format!("over: {}", fault.told(&names(deployed)));
            progress(&told);
            undo(deployed, &fault).await.with_context(|| told)?;
            if let Some(recorded) = recorded {
                recorder.fault_ended(recorded);
            }
        }
    }
    sleep_until(began + Duration::from_millis(schedule.end_ms)).await;
    Ok(())
}

/// What has begun and is not over.
#[derive(Clone)]
struct Open {
    fault: FaultKind,
    recorded: Option<Fault>,
}

/// The fault with the regions that it comes to now.
async fn resolved(deployed: &Deployed, fault: &FaultKind) -> anyhow::Result<FaultKind> {
    if !fault.asks_for_leader() {
        return Ok(fault.clone());
    }
    let leader = deployed.number(&observe::leader(&deployed.lab).await?)?;
    Ok(fault.with_leader_in(leader, deployed.regions.len()))
}

/// When which fault begins or ends, in order.
fn moments(schedule: &Schedule) -> Vec<(u64, usize, bool)> {
    let both = |(number, planned): (usize, &Planned)| {
        [(planned.from_ms, number, true), (planned.until_ms, number, false)]
    };
    let mut moments: Vec<_> = schedule.faults.iter().enumerate().flat_map(both).collect();
    moments.sort_by_key(|(at_ms, number, begins)| (*at_ms, *number, !begins));
    moments
}

fn names(deployed: &Deployed) -> Vec<String> {
    deployed.regions.iter().map(ToString::to_string).collect()
}

fn struck(deployed: &Deployed, recorder: &Recorder, fault: &FaultKind) -> Vec<Region> {
    let region = fault.takes_homes_of().map(|number| recorder.region(&deployed.regions[number]));
    region.into_iter().collect()
}

async fn make(deployed: &Deployed, fault: &FaultKind) -> anyhow::Result<()> {
    let lab = &deployed.lab;
    match fault {
        FaultKind::Kill { region } => lab.kill(deployed.region(*region)).await?,
        FaultKind::Pause { region } => lab.pause(deployed.region(*region)).await?,
        FaultKind::CutOff { region } => {
            if deployed.has_directory_outside() {
                lab.cut(deployed.region(*region), DIRECTORY, false)?;
            }
            cut_from_peers(deployed, *region)?;
        }
        FaultKind::CutFromDirectory { region } => lab.cut(deployed.region(*region), DIRECTORY, false)?,
        FaultKind::CutFromPeers { region } => cut_from_peers(deployed, *region)?,
        FaultKind::Stick { region, durable } => {
            let switches = deployed.layout.switches.as_ref().context("no switches")?;
            switches.stick(&node(deployed, *region)?, *durable)?;
        }
        FaultKind::Isolate { region } => {
            lab.replicator(deployed.region(*region))?.pause().await?;
            cut_from_peers(deployed, *region)?;
        }
        FaultKind::CutOneWay { from, to } => lab.cut(deployed.region(*from), deployed.region(*to), true)?,
        FaultKind::Slow { a, b, delay_ms, bytes_per_s } => {
            let delay = Some(Duration::from_millis(*delay_ms));
            let change =
                LinkChange { delay, bandwidth_bytes_per_s: Some(*bytes_per_s), ..LinkChange::default() };
            lab.change_link(deployed.region(*a), deployed.region(*b), false, change)?;
        }
        FaultKind::Stall { a, b, pause_ms } => {
            let stall = Some(Duration::from_millis(*pause_ms));
            let change = LinkChange { stall, ..LinkChange::default() };
            lab.change_link(deployed.region(*a), deployed.region(*b), false, change)?;
        }
        FaultKind::Reset { a, b } => {
            let change = LinkChange { reset: true, ..LinkChange::default() };
            lab.change_link(deployed.region(*a), deployed.region(*b), false, change)?;
        }
        FaultKind::KillDirectory => lab.kill(DIRECTORY).await?,
        FaultKind::KillReplica { region } => lab.kill(&replica(deployed, *region)).await?,
        FaultKind::KillNode { region } => lab.kill(node(deployed, *region)?.as_str()).await?,
        FaultKind::Drain { region } => operate::drain(lab, deployed.region(*region)).await?,
        FaultKind::Move { from, to } => move_one(deployed, *from, *to).await?,
        FaultKind::KillWithLeader | FaultKind::KillWithoutLeader { .. } | FaultKind::KillLeader => {
            anyhow::bail!("nobody has said where the leader is")
        }
        FaultKind::KillReplicator { region } => lab.replicator(deployed.region(*region))?.kill().await?,
        FaultKind::FillDisk { region } => {
            deployed.layout.disks.get(*region).context("no small disk")?.fill()?
        }
        FaultKind::StepClock { region, by_s } => {
            let clocks = deployed.layout.clocks.as_ref().context("no clocks")?;
            clocks.step(deployed.region(*region), *by_s)?;
        }
    }
    Ok(())
}

fn replica(deployed: &Deployed, region: usize) -> String {
    format!("{DIRECTORY}-{}", deployed.region(region))
}

fn node(deployed: &Deployed, region: usize) -> Result<NodeId, LabError> {
    deployed.lab.node_id(deployed.region(region))
}

/// Nothing is moved where no partition is homed there just now.
async fn move_one(deployed: &Deployed, from: usize, to: usize) -> anyhow::Result<()> {
    let placement = observe::snapshot(&deployed.lab).await?;
    let (source, target) = (node(deployed, from)?, &deployed.regions[to]);
    let is_there = |row: &&PartitionRow| row.home.as_ref().is_some_and(|home| home.node == source);
    match placement.partitions.iter().find(is_there) {
        Some(row) => {
            operate::begin_move(&deployed.lab, row.partition, target, MOVE_PATIENCE).await?;
            Ok(())
        }
        None => Ok(()),
    }
}

fn cut_from_peers(deployed: &Deployed, region: usize) -> Result<(), LabError> {
    let others = deployed.regions.iter().enumerate().filter(|(number, _)| *number != region);
    for (_, other) in others {
        deployed.lab.cut(deployed.region(region), other.as_str(), false)?;
    }
    Ok(())
}

async fn undo(deployed: &Deployed, fault: &FaultKind) -> anyhow::Result<()> {
    let lab = &deployed.lab;
    match fault {
        FaultKind::Kill { region } => lab.restart(deployed.region(*region)).await?,
        FaultKind::Pause { region } => lab.resume(deployed.region(*region)).await?,
        FaultKind::Stick { region, durable } => {
            let switches = deployed.layout.switches.as_ref().context("no switches")?;
            switches.let_go(&node(deployed, *region)?, *durable)?;
        }
        FaultKind::Isolate { region } => {
            lab.heal();
            lab.replicator(deployed.region(*region))?.resume().await?;
        }
        FaultKind::CutOff { .. }
        | FaultKind::CutFromDirectory { .. }
        | FaultKind::CutFromPeers { .. }
        | FaultKind::CutOneWay { .. } => lab.heal(),
        FaultKind::Slow { a, b, .. } => {
            let delay = lab::WanTable::default()
                .rtt(&deployed.regions[*a].clone().into(), &deployed.regions[*b].clone().into())
                / 2;
            let change =
                LinkChange { delay: Some(delay), bandwidth_bytes_per_s: Some(0), ..LinkChange::default() };
            lab.change_link(deployed.region(*a), deployed.region(*b), false, change)?;
        }
        FaultKind::Stall { .. }
        | FaultKind::Reset { .. }
        | FaultKind::Move { .. }
        | FaultKind::KillWithLeader
        | FaultKind::KillWithoutLeader { .. }
        | FaultKind::KillLeader => {}
        FaultKind::Drain { region } => operate::undrain(lab, deployed.region(*region)).await?,
        FaultKind::KillDirectory => lab.restart(DIRECTORY).await?,
        FaultKind::KillReplica { region } => lab.restart(&replica(deployed, *region)).await?,
        FaultKind::KillNode { region } => lab.restart(node(deployed, *region)?.as_str()).await?,
        FaultKind::KillReplicator { region } => match lab.replicator(deployed.region(*region))?.start().await
        {
            // The region was started in between.
            Ok(()) | Err(ProcessError::Running { .. }) => {}
            Err(error) => return Err(error.into()),
        },
        FaultKind::FillDisk { region } => {
            deployed.layout.disks.get(*region).context("no small disk")?.free()?
        }
        FaultKind::StepClock { region, .. } => {
            let clocks = deployed.layout.clocks.as_ref().context("no clocks")?;
            clocks.step(deployed.region(*region), 0)?;
        }
    }
    Ok(())
}
