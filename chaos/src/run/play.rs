//! Plays a schedule: makes each fault at its time, and undoes it.

use super::Deployed;
use crate::{
    history::{Fault, Recorder, Region},
    scenario::{FaultKind, Planned, Schedule},
    workload::Workload,
};
use anyhow::Context as _;
use lab::{DIRECTORY, LabError, LinkChange, process::ProcessError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

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
    let mut open: Vec<Option<Fault>> = vec![None; schedule.faults.len()];
    for (at_ms, number, begins) in moments(schedule) {
        sleep_until(began + Duration::from_millis(at_ms)).await;
        let fault = &schedule.faults[number].fault;
        let told = fault.told(&names(deployed)).to_string();
        if begins {
            progress(&told);
            open[number] = Some(recorder.fault_began(&*told, struck(deployed, recorder, fault)));
            make(deployed, fault).await.with_context(|| told)?;
            workload.lose_devices();
        } else {
            progress(&format!("over: {told}"));
            undo(deployed, fault).await.with_context(|| format!("over: {told}"))?;
            if let Some(fault) = open[number].take() {
                recorder.fault_ended(fault);
            }
        }
    }
    sleep_until(began + Duration::from_millis(schedule.end_ms)).await;
    Ok(())
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
            lab.cut(deployed.region(*region), DIRECTORY, false)?;
            cut_from_peers(deployed, *region)?;
        }
        FaultKind::CutFromDirectory { region } => lab.cut(deployed.region(*region), DIRECTORY, false)?,
        FaultKind::CutFromPeers { region } => cut_from_peers(deployed, *region)?,
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
        FaultKind::Stall { .. } | FaultKind::Reset { .. } => {}
        FaultKind::KillDirectory => lab.restart(DIRECTORY).await?,
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
