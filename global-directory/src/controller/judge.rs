//! Who is dead? With the brakes of I10: where the answer is not plain, nothing is done, loudly.
//!
//! A node is *silent* when it has not renewed for the time of silence, and *fresh* when it has renewed so
//! recently that it cannot have fallen silent together with one that is silent now. A region speaks by its
//! fresh nodes:
//!
//! | the region | that is | its silent nodes |
//! |---|---|---|
//! | has a fresh node | *heard* | died by themselves: each is failed over, whatever happens in other regions |
//! | all its nodes are silent | *silent* | died with it: all are failed over in one step, one region at a time |
//! | neither | *in doubt* | wait: within one renewal it is one of the two |
//!
//! A silent region is failed over only while every other one is heard: silence in two says more about the
//! directory's own links than about the regions.

use super::{Action, Controller, Page, Settings, boot, candidates};
use crate::{bounds, command::Command, lease::LeaseTable};
use std::collections::{BTreeMap, BTreeSet};
use types::{Home, NodeId, NodeRow, PartitionRow, PartitionState, Placement, RegionId};

/// Why silence is not acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Brake {
    /// Silence in two regions says more about the directory's own links than about the regions.
    #[error("nodes of {} regions are silent at once: {}", .0.len(), names(.0))]
    SeveralRegions(Vec<RegionId>),
    /// Another region's failover has not ended.
    #[error("region {suspect} is silent while the failover of region {under_way} is under way")]
    UnderWay {
        /// What is silent now.
        suspect: RegionId,
        /// Whose failover it is.
        under_way: RegionId,
    },
    /// No partition would get a new home.
    #[error("nodes of region {0} are silent, and none of their partitions has an in-sync replica elsewhere")]
    NoTarget(RegionId),
    /// Those that could take the homes over have no room for them.
    #[error("nodes of region {region} are silent, and there is room for {room} of their {homes} homes only")]
    NoRoom {
        /// Whose nodes are silent.
        region: RegionId,
        /// What they are home of.
        homes: usize,
        /// What others may be home of beside what they are.
        room: usize,
    },
}

fn names(regions: &[RegionId]) -> String {
    regions.iter().map(RegionId::as_str).collect::<Vec<_>>().join(", ")
}

impl Controller {
    /// Ends the boots of silent nodes, or says why not.
    pub(super) fn judge(
        &mut self,
        now_ms: u64,
        view: &Placement,
        leases: &LeaseTable,
        out: &mut Vec<Action>,
    ) {
        let listened_ms = now_ms.saturating_sub(self.listens_from_ms);
        if !self.settings.automatic_failover || listened_ms < bounds::LISTEN_MS {
            return;
        }
        let court = Court { settings: &self.settings, now_ms, listened_ms, view, leases };
        let mut brake = None;
        for (region, suspects) in court.suspects() {
            match court.judge(region, &suspects) {
                Verdict::Wait => {}
                Verdict::Dead => {
                    let boots: Vec<Home> = suspects.iter().map(|node| boot(node)).collect();
                    out.push(Action::Submit(Command::Bump(boots)));
                }
                // The same wherever it is seen from, so one of them is told.
                Verdict::Braked(why) => brake = brake.or(Some(why)),
            }
        }
        if brake != self.brake {
            out.extend(brake.clone().map(|brake| Action::Page(Page::Stopped(brake))));
            self.brake = brake;
        }
    }
}

enum Verdict {
    Dead,
    Wait,
    Braked(Brake),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    Heard,
    InDoubt,
    Silent,
}

struct Court<'a> {
    settings: &'a Settings,
    now_ms: u64,
    /// For how long it has been listened: what was heard before was heard by another, or by way of another.
    listened_ms: u64,
    view: &'a Placement,
    leases: &'a LeaseTable,
}

impl<'a> Court<'a> {
    fn suspects(&self) -> BTreeMap<&'a RegionId, Vec<&'a NodeRow>> {
        let mut suspects: BTreeMap<&RegionId, Vec<&NodeRow>> = BTreeMap::new();
        for node in self.view.nodes().filter(|node| self.is_silent(node)) {
            suspects.entry(&node.region).or_default().push(node);
        }
        suspects
    }

    fn is_silent(&self, node: &NodeRow) -> bool {
        let silent_ms = self.leases.silent_ms(&boot(node), self.now_ms);
        node.live && silent_ms.is_some_and(|silent_ms| silent_ms >= self.settings.silence_ms)
    }

    /// Two that fell silent together differ by one renewal at most.
    fn is_fresh(&self, node: &NodeRow) -> bool {
        let within_ms = self.settings.silence_ms.saturating_sub(self.settings.renew_interval_ms).max(1);
        let within_ms = within_ms.min(self.listened_ms);
        node.live && self.leases.heard_within(&boot(node), within_ms, self.now_ms)
    }

    fn voice(&self, region: &RegionId) -> Voice {
        let mut nodes = self.view.nodes().filter(|node| node.live && node.region == *region).peekable();
        if self.view.nodes().any(|node| node.region == *region && self.is_fresh(node)) {
            Voice::Heard
        } else if nodes.peek().is_some() && nodes.all(|node| self.is_silent(node)) {
            Voice::Silent
        } else {
            Voice::InDoubt
        }
    }

    fn judge(&self, region: &RegionId, suspects: &[&NodeRow]) -> Verdict {
        let braked = match self.voice(region) {
            Voice::InDoubt => return Verdict::Wait,
            Voice::Heard => None,
            Voice::Silent => {
                let live: BTreeSet<&RegionId> =
                    self.view.nodes().filter(|node| node.live).map(|node| &node.region).collect();
                let voices: Vec<(&RegionId, Voice)> =
                    live.into_iter().map(|region| (region, self.voice(region))).collect();
                let silent: Vec<RegionId> = voices
                    .iter()
                    .filter(|(_, voice)| *voice == Voice::Silent)
                    .map(|(region, _)| (*region).clone())
                    .collect();
                if silent.len() > 1 {
                    return Verdict::Braked(Brake::SeveralRegions(silent));
                }
                if voices.iter().any(|(_, voice)| *voice == Voice::InDoubt) {
                    return Verdict::Wait;
                }
                failover_under_way(region, self.view).map(|under_way| Brake::UnderWay {
                    suspect: region.clone(),
                    under_way: under_way.clone(),
                })
            }
        };
        braked.or_else(|| self.lacks_target(region, suspects)).map_or(Verdict::Dead, Verdict::Braked)
    }

    /// Partitions that nobody can take do not hold up the others; where nobody can take any, or there is not
    /// room for all that could be taken, nothing is gained by ending their homes.
    fn lacks_target(&self, region: &RegionId, suspects: &[&NodeRow]) -> Option<Brake> {
        let names: BTreeSet<&NodeId> = suspects.iter().map(|node| &node.node).collect();
        let is_homed_with = |row: &&PartitionRow, names: &BTreeSet<&NodeId>| {
            row.has_home() && row.home.as_ref().is_some_and(|home| names.contains(&home.node))
        };
        let homed: Vec<&PartitionRow> =
            self.view.partitions().filter(|row| is_homed_with(row, &names)).collect();
        let mut targets: BTreeSet<&NodeId> = BTreeSet::new();
        let mut homes = 0;
        for row in &homed {
            let mut takers = candidates(row, self.view)
                .filter(|node| !names.contains(&node.node) && !self.is_silent(node))
                .peekable();
            homes += usize::from(takers.peek().is_some());
            targets.extend(takers.map(|node| &node.node));
        }
        if homes == 0 {
            return (!homed.is_empty()).then(|| Brake::NoTarget(region.clone()));
        }
        let room = targets.iter().map(|target| {
            let of_target = BTreeSet::from([*target]);
            let has = self.view.partitions().filter(|row| is_homed_with(row, &of_target)).count();
            self.settings.homes_per_node_max.saturating_sub(has)
        });
        let room = room.fold(0_usize, usize::saturating_add);
        (room < homes).then(|| Brake::NoRoom { region: region.clone(), homes, room })
    }
}

/// Another region that was bumped as a whole and whose failover can still go on. Partitions that nobody can
/// take are not waited for: they would hold up every later failover until an operator comes.
fn failover_under_way<'a>(except: &RegionId, view: &'a Placement) -> Option<&'a RegionId> {
    let is_dead = |region: &RegionId| !view.nodes().any(|node| node.region == *region && node.live);
    let bumped_elsewhere = |boot: &Home| {
        let region = view.node(&boot.node).filter(|node| !node.live).map(|node| &node.region)?;
        (region != except && is_dead(region)).then_some(region)
    };
    view.partitions().find_map(|row| {
        let being_chosen = row.state == PartitionState::FailingOver && candidates(row, view).next().is_some();
        let former = row.home.iter().filter(|_| being_chosen);
        row.waiting.iter().chain(former).find_map(bumped_elsewhere)
    })
}
