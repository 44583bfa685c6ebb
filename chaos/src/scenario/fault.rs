//! The faults.

use serde::Serialize;
use std::fmt;

/// A fault and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// When it begins, in ms after the load began.
    pub from_ms: u64,
    /// When it ends.
    pub until_ms: u64,
    /// What it is.
    pub fault: FaultKind,
}

/// What can be done to a deployment. Regions by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum FaultKind {
    /// Its processes are killed and its links silent; then they start again.
    Kill { region: usize },
    /// The region in which the leader of the directory runs is killed.
    KillWithLeader,
    /// One of the other regions is killed: which, is drawn.
    KillWithoutLeader { drawn: usize },
    /// Its processes stop, and go on.
    Pause { region: usize },
    /// No link from or to it carries, the directory's included.
    CutOff { region: usize },
    /// No link between it and the directory carries.
    CutFromDirectory { region: usize },
    /// No link between it and another region carries.
    CutFromPeers { region: usize },
    /// What it sends to another one does not arrive.
    CutOneWay { from: usize, to: usize },
    /// The link between two is slow and narrow.
    Slow { a: usize, b: usize, delay_ms: u64, bytes_per_s: u64 },
    /// The link between two holds everything back for so long.
    Stall { a: usize, b: usize, pause_ms: u64 },
    /// All connections between two are reset, at once.
    Reset { a: usize, b: usize },
    /// The directory, one process outside the regions, is killed.
    KillDirectory,
    /// The replica that leads the directory is killed, and nothing else.
    KillLeader,
    /// A region's replica of the directory is killed.
    KillReplica { region: usize },
    /// A region's first node is killed, and nothing else.
    KillNode { region: usize },
    /// An operator drains a region, and ends the drain later. No fault.
    Drain { region: usize },
    /// An operator moves a partition that is homed in a region to another. No fault.
    Move { from: usize, to: usize },
    /// A region's replicator is killed.
    KillReplicator { region: usize },
    /// The disk of a region's first node is full.
    FillDisk { region: usize },
    /// A region's homes take writes and do not hand them to the store, or do not answer them once they are durable. It
    /// renews, and answers whoever asks how it is.
    Stick { region: usize, durable: bool },
    /// A region's replicator stands still, and it reaches the directory and no other region.
    Isolate { region: usize },
    /// A region's wall clock is off by so much.
    StepClock { region: usize, by_s: i64 },
}

impl FaultKind {
    /// The region whose homes it takes away, where it does.
    pub const fn takes_homes_of(&self) -> Option<usize> {
        match self {
            Self::Kill { region }
            | Self::KillNode { region }
            | Self::Pause { region }
            | Self::CutOff { region }
            | Self::CutFromDirectory { region }
            | Self::Stick { region, .. }
            | Self::Isolate { region }
            | Self::FillDisk { region } => Some(*region),
            _ => None,
        }
    }

    /// Something breaks. The rest is what operators do, and fails no write.
    pub const fn breaks(&self) -> bool {
        !matches!(self, Self::Drain { .. } | Self::Move { .. })
    }

    /// What it comes to where the directory's leader runs in the region `leader` of `regions`.
    pub fn with_leader_in(&self, leader: usize, regions: usize) -> Self {
        match self {
            Self::KillWithLeader => Self::Kill { region: leader },
            Self::KillWithoutLeader { drawn } => {
                let others = regions.saturating_sub(1).max(1);
                Self::Kill { region: (leader + 1 + drawn % others) % regions }
            }
            Self::KillLeader => Self::KillReplica { region: leader },
            other => other.clone(),
        }
    }

    /// It depends on where the directory's leader runs.
    pub const fn asks_for_leader(&self) -> bool {
        matches!(self, Self::KillWithLeader | Self::KillWithoutLeader { .. } | Self::KillLeader)
    }

    /// For people, with the regions' names.
    pub fn told<'a>(&'a self, regions: &'a [String]) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            let name = |region: &usize| regions.get(*region).map_or("?", String::as_str);
            match self {
                Self::Kill { region } => write!(f, "{} killed", name(region)),
                Self::KillWithLeader => write!(f, "region of the directory's leader killed"),
                Self::KillWithoutLeader { .. } => write!(f, "region without the directory's leader killed"),
                Self::Pause { region } => write!(f, "{} paused", name(region)),
                Self::CutOff { region } => write!(f, "{} cut off", name(region)),
                Self::CutFromDirectory { region } => write!(f, "{} cut from the directory", name(region)),
                Self::CutFromPeers { region } => write!(f, "{} cut from its peers", name(region)),
                Self::CutOneWay { from, to } => write!(f, "{} → {} cut", name(from), name(to)),
                Self::Slow { a, b, delay_ms, bytes_per_s } => {
                    let kb = bytes_per_s / 1_000;
                    write!(f, "{} ↔ {} slow: {delay_ms} ms, {kb} kB/s", name(a), name(b))
                }
                Self::Stall { a, b, pause_ms } => write!(f, "{} ↔ {} stalls {pause_ms} ms", name(a), name(b)),
                Self::Reset { a, b } => write!(f, "{} ↔ {} reset", name(a), name(b)),
                Self::KillDirectory => write!(f, "directory killed"),
                Self::KillLeader => write!(f, "leader of the directory killed"),
                Self::KillReplica { region } => write!(f, "directory replica of {} killed", name(region)),
                Self::KillNode { region } => write!(f, "node of {} killed", name(region)),
                Self::Drain { region } => write!(f, "{} drained", name(region)),
                Self::Move { from, to } => write!(f, "a partition of {} moved to {}", name(from), name(to)),
                Self::KillReplicator { region } => write!(f, "replicator of {} killed", name(region)),
                Self::FillDisk { region } => write!(f, "disk of {} full", name(region)),
                Self::Stick { region, durable: false } => {
                    write!(f, "homes of {} write nothing", name(region))
                }
                Self::Stick { region, durable: true } => {
                    write!(f, "homes of {} answer nothing", name(region))
                }
                Self::Isolate { region } => {
                    write!(f, "{} cut from its peers, its replicator stands still", name(region))
                }
                Self::StepClock { region, by_s } => write!(f, "clock of {} off by {by_s} s", name(region)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_killed_without_the_leader_never_holds_it() {
        for (leader, drawn) in (0..3).flat_map(|leader| (0..8).map(move |drawn| (leader, drawn))) {
            let kill = FaultKind::KillWithoutLeader { drawn }.with_leader_in(leader, 3);
            let FaultKind::Kill { region } = kill else { panic!("{kill:?}") };
            assert!(region != leader && region < 3);
            assert_eq!(
                FaultKind::KillWithLeader.with_leader_in(leader, 3),
                FaultKind::Kill { region: leader }
            );
        }
    }
}
