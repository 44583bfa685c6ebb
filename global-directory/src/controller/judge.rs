//! Who is dead? With the brakes of I10: where the answer is not plain, nothing is done, loudly.
//!
//! A node is *silent* when it has not renewed for the time of silence, and *fresh* when it has renewed so
//! recently that it cannot have fallen silent together with one that is silent now. A region speaks by its
//! fresh nodes:
//!
//! | the region | that is | its suspects |
//! |---|---|---|
//! | has a fresh node | *heard* | died by themselves: each is failed over, whatever happens in other regions |
//! | all its nodes are suspect | *silent* | died with it: all are failed over in one step, one region at a time |
//! | neither | *in doubt* | wait: within one renewal it is one of the two |
//!
//! A node that renews is suspect all the same when outside observers have failed at it for long enough
//! ([`super::canaries`]), and not fresh while they begin to. Where all goes on as before but nobody can write, to be
//! home of nothing does no harm: such a node is judged only while it is home of something, so that one which comes
//! back in the same state is not judged again and again.
//!
//! A silent region is failed over only while every other one is heard: silence in two says more about the
//! directory's own links than about the regions.

use super::{
    Action, Controller, Page, Settings, boot,
    canaries::{Failing, Hearing, Verdicts},
    candidates,
};
use crate::{bounds, command::Command, lease::LeaseTable};
use std::collections::{BTreeMap, BTreeSet};
use types::{Home, NodeId, NodeRow, PartitionRow, PartitionState, Placement, RegionId};

/// Why suspicion is not acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Brake {
    /// Silence in two regions says more about the directory's own links than about the regions.
    #[error(
        "nodes of {} regions are silent or failing at once: {}; this ends when one of them is back, or when an \
         operator says which is lost (hearth admin fail-over REGION)",
        .0.len(), names(.0)
    )]
    SeveralRegions(Vec<RegionId>),
    /// Another region's failover has not ended.
    #[error("region {suspect} is silent or failing while the failover of region {under_way} is under way")]
    UnderWay {
        /// What is suspect now.
        suspect: RegionId,
        /// Whose failover it is.
        under_way: RegionId,
    },
    /// No partition would get a new home.
    #[error(
        "nodes of region {0} are silent or failing, and none of their partitions has an in-sync replica elsewhere"
    )]
    NoTarget(RegionId),
    /// Those that could take the homes over have no room for them.
    #[error(
        "nodes of region {region} are silent or failing, and there is room for {room} of their {homes} homes only"
    )]
    NoRoom {
        /// Whose nodes are suspect.
        region: RegionId,
        /// What they are home of.
        homes: usize,
        /// What others may be home of beside what they are.
        room: usize,
    },
}

impl Brake {
    /// Whether an operator who was told of this one knows of the other: numbers come and go.
    fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NoRoom { region, .. }, Self::NoRoom { region: other, .. }) => region == other,
            _ => self == other,
        }
    }
}

fn names(regions: &[RegionId]) -> String {
    regions.iter().map(RegionId::as_str).collect::<Vec<_>>().join(", ")
}

impl Controller {
    /// Ends the boots of nodes that are silent or failing, or says why not.
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
        self.canary_bumps.retain(|boot| is_referred_to(boot, view));
        let court = Court {
            settings: &self.settings,
            now_ms,
            listened_ms,
            view,
            leases,
            verdicts: if self.settings.canary_failover { &self.verdicts } else { &NONE },
            canary_bumps: &self.canary_bumps,
        };
        let (mut brake, mut bumped) = (None, BTreeSet::new());
        for (region, suspects) in court.suspects() {
            match court.judge(region, &suspects) {
                Verdict::Wait => {}
                Verdict::Dead => {
                    let boots: Vec<Home> = suspects.iter().map(|node| boot(node)).collect();
                    let went_whole = court.voice(region) == Voice::Silent;
                    for node in suspects.iter().filter(|node| !court.is_silent(node)) {
                        bumped.insert((boot(node), went_whole));
                        out.extend(court.told(node).map(|told| Action::Submit(Command::Note(told))));
                    }
                    out.push(Action::Submit(Command::Bump(boots)));
                }
                // The same wherever it is seen from, so one of them is told.
                Verdict::Braked(why) => brake = brake.or(Some(why)),
            }
        }
        for (boot, went_whole) in bumped {
            self.shunned.insert(boot.node.clone(), now_ms.saturating_add(bounds::SHUN_MS));
            if went_whole {
                self.canary_bumps.insert(boot);
            }
        }
        if let Some(why) = &brake {
            let known = self
                .paged
                .as_ref()
                .filter(|(_, at_ms)| now_ms.saturating_sub(*at_ms) < bounds::PAGE_AGAIN_MS);
            if known.is_none_or(|(paged, _)| !paged.is_as(why)) {
                out.push(Action::Page(Page::Stopped(why.clone())));
            }
            // While it lasts it is told once, and again when it is back after a while.
            self.paged = Some((why.clone(), now_ms));
        }
        self.brake = brake;
    }

    /// Hears the observers, whoever may be judged.
    pub(super) fn hear(&mut self, now_ms: u64, view: &Placement, leases: &LeaseTable) {
        self.verdicts = Hearing::new(&self.settings, now_ms, self.listens_from_ms, view, leases).verdicts();
        for (node, until_ms) in &mut self.shunned {
            if self.verdicts.contains_key(node) {
                *until_ms = now_ms.saturating_add(bounds::SHUN_MS);
            }
        }
        self.shunned.retain(|_, until_ms| now_ms < *until_ms);
    }

    /// The nodes that no home is given to: observers fail at them, or did so a moment ago, before they booted.
    pub(super) fn unwell(&self) -> BTreeSet<NodeId> {
        let least_ms = self.settings.canary_failing_ms;
        let fail = |failing: &Failing| self.settings.canary_failover && failing.ms >= least_ms;
        let failing = self.verdicts.iter().filter(|(_, failing)| fail(failing)).map(|(node, _)| node);
        failing.chain(self.shunned.keys()).cloned().collect()
    }
}

static NONE: Verdicts = Verdicts::new();

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
    verdicts: &'a Verdicts,
    /// Boots that were ended with their regions because they failed, and are still waited for.
    canary_bumps: &'a BTreeSet<Home>,
}

impl<'a> Court<'a> {
    fn suspects(&self) -> BTreeMap<&'a RegionId, Vec<&'a NodeRow>> {
        let mut suspects: BTreeMap<&RegionId, Vec<&NodeRow>> = BTreeMap::new();
        for node in self.view.nodes().filter(|node| self.is_suspect(node)) {
            suspects.entry(&node.region).or_default().push(node);
        }
        for (region, nodes) in &mut suspects {
            // With its region each goes, by itself only one that is silent or that somebody misses.
            if self.voice(region) != Voice::Silent {
                nodes.retain(|node| self.is_silent(node) || self.is_home(node));
            }
        }
        suspects.retain(|_, nodes| nodes.iter().any(|node| self.is_silent(node) || self.is_home(node)));
        suspects
    }

    fn is_suspect(&self, node: &NodeRow) -> bool {
        let ms = self.verdicts.get(&node.node).map_or(0, |failing| failing.ms);
        self.is_silent(node) || (node.live && ms >= self.settings.canary_failing_ms)
    }

    /// It renews, and has nothing that could be taken from it: like a dead region whose failover is over, it holds
    /// up nobody else's.
    fn has_failed_over(&self, region: &RegionId) -> bool {
        let mut nodes = self.view.nodes().filter(|node| node.live && node.region == *region);
        nodes.all(|node| !self.is_silent(node) && !self.is_home(node))
    }

    fn is_home(&self, node: &NodeRow) -> bool {
        let home = boot(node);
        self.view.partitions().any(|row| row.has_home() && row.home.as_ref() == Some(&home))
    }

    /// Why a node that renews is judged.
    fn told(&self, node: &NodeRow) -> Option<String> {
        let Failing { ms, seen_from } = self.verdicts.get(&node.node)?;
        Some(format!("no canary was acked by {} for {ms} ms, as seen from {}", node.node, names(seen_from)))
    }

    fn is_silent(&self, node: &NodeRow) -> bool {
        let silent_ms = self.leases.silent_ms(&boot(node), self.now_ms);
        node.live && silent_ms.is_some_and(|silent_ms| silent_ms >= self.settings.silence_ms)
    }

    /// Two that fell silent together differ by one renewal at most.
    fn is_fresh(&self, node: &NodeRow) -> bool {
        let within_ms = self.settings.silence_ms.saturating_sub(self.settings.renew_interval_ms).max(1);
        let within_ms = within_ms.min(self.listened_ms);
        // Two that began to fail together are told to do so within one canary and one report of each other.
        let apart_ms = self.settings.renew_interval_ms.saturating_mul(2);
        let failing_from_ms = self.settings.canary_failing_ms.saturating_sub(apart_ms).max(1);
        let fails = self.verdicts.get(&node.node).is_some_and(|failing| failing.ms >= failing_from_ms);
        node.live && !fails && self.leases.heard_within(&boot(node), within_ms, self.now_ms)
    }

    fn voice(&self, region: &RegionId) -> Voice {
        let mut nodes = self.view.nodes().filter(|node| node.live && node.region == *region).peekable();
        if self.view.nodes().any(|node| node.region == *region && self.is_fresh(node)) {
            Voice::Heard
        } else if nodes.peek().is_some() && nodes.all(|node| self.is_suspect(node)) {
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
                let voices = live.into_iter().map(|region| (region, self.voice(region)));
                let voices: Vec<(&RegionId, Voice)> = voices
                    .filter(|(region, voice)| *voice == Voice::Heard || !self.has_failed_over(region))
                    .collect();
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
                failover_under_way(region, self.view, self.canary_bumps).map(|under_way| Brake::UnderWay {
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
                .filter(|node| !names.contains(&node.node) && !self.is_suspect(node))
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
fn failover_under_way<'a>(
    except: &RegionId,
    view: &'a Placement,
    canary_bumps: &BTreeSet<Home>,
) -> Option<&'a RegionId> {
    let is_dead = |region: &RegionId| !view.nodes().any(|node| node.region == *region && node.live);
    let bumped_elsewhere = |boot: &Home| {
        let node = view.node(&boot.node)?;
        // One that failed and could still renew is back at once.
        let went_whole = (!node.live && is_dead(&node.region)) || canary_bumps.contains(boot);
        (node.region != *except && went_whole).then_some(&node.region)
    };
    view.partitions().find_map(|row| {
        let being_chosen = row.state == PartitionState::FailingOver && candidates(row, view).next().is_some();
        let former = row.home.iter().filter(|_| being_chosen);
        row.waiting.iter().chain(former).find_map(bumped_elsewhere)
    })
}

/// Whether rows still wait for a boot, or have not found a home after it.
fn is_referred_to(boot: &Home, view: &Placement) -> bool {
    view.partitions().any(|row| row.waiting.contains(boot) || row.home.as_ref() == Some(boot))
}
