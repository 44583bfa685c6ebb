//! C2: what was acked is there in the end, and what was refused is not.
//!
//! Every copy of which all entries are known must hold every message that was acked at `replicated`, and every
//! one that was acked at `home` once outboxes and salvage have brought it back. Excused is a `home`-acked
//! message whose device never sends it again *and* whose acking region's disk was lost, and one that salvage has
//! durably listed as refused. A message whose write was refused with proof that nothing was written is in no
//! copy. An indeterminate write may be there or not.
//!
//! The messages at risk at each fault (acked at `home`, not yet `replicated`) are counted by [`at_risk`].

use super::{Checker, Found, Violation, finals::Finals, writes::Writes};
use crate::history::{Ack, Device, Fault, History, Kind, Log, Message, Resends};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use types::Position;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let writes = Writes::of(history);
    let finals = Finals::of(history);
    let excuses = Excuses::of(history);
    let mut found = Found::new(Checker::C2);
    let mut acked: Vec<Vec<Message>> = vec![Vec::new(); history.names().logs().len()];
    for (message, write) in writes.iter() {
        let log = history.names().message(message).log;
        if write.first.is_some() {
            acked[log.index()].push(message);
        }
        if let (Some(ok), Some(failed)) = (write.first, write.failed) {
            found.add([ok.event, failed], || format!("{message} was acked and refused for good"));
        }
    }
    for (number, acked) in acked.iter().enumerate() {
        let log = Log(number as u32);
        if !acked.is_empty() && !finals.tells(log) {
            found.add([], || format!("no replica tells {log}, which has {} acked messages", acked.len()));
        }
        for (node, copy) in finals.of_log(log) {
            let held: HashSet<Message> = copy.iter().map(|held| held.message).collect();
            for message in acked.iter().filter(|message| !held.contains(message)) {
                let write = writes.get(*message);
                if let Some(ok) = write.replicated {
                    found.add([ok.event], || format!("{message}, replicated, is not at {node}"));
                } else if !excuses.excuse(history, *message, write.invoked.map(|invoked| invoked.resends)) {
                    let ok = write.first.map(|ok| ok.event);
                    found.add(ok, || format!("{message}, acked at home, is not at {node}"));
                }
            }
            for entry in copy {
                if let Some(failed) = writes.get(entry.message).failed {
                    let message = entry.message;
                    found.add([failed, entry.event], || {
                        format!("{message} was refused for good and stands at {}", entry.at)
                    });
                }
            }
        }
    }
    found.done()
}

/// Why a `home`-acked message may be missing.
struct Excuses {
    refused: HashSet<Message>,
    lost_devices: BTreeSet<Device>,
    disk_lost: bool,
}

impl Excuses {
    fn of(history: &History) -> Self {
        let mut excuses = Self { refused: HashSet::new(), lost_devices: BTreeSet::new(), disk_lost: false };
        for happened in history.events() {
            match &happened.kind {
                Kind::Archived { message, refused: Some(_), .. } => drop(excuses.refused.insert(*message)),
                Kind::DeviceLost { device } => drop(excuses.lost_devices.insert(*device)),
                Kind::DiskLost { .. } => excuses.disk_lost = true,
                _ => {}
            }
        }
        excuses
    }

    fn excuse(&self, history: &History, message: Message, resends: Option<Resends>) -> bool {
        let device = history.names().message(message).device;
        let silent = resends != Some(Resends::UntilReplicated) || self.lost_devices.contains(&device);
        self.refused.contains(&message) || (self.disk_lost && silent)
    }
}

/// What was at risk when a fault began, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtRisk {
    /// The fault.
    pub fault: Fault,
    /// Messages acked at `home` and not known to be replicated when it began, in logs homed where it struck.
    pub messages: u64,
    /// Those that a failover undid and that are there in the end, at another position.
    pub came_back: u64,
    /// Those that are nowhere.
    pub lost: u64,
}

/// Counts, for each fault that takes homes away, the messages at risk when it began. A message is known to be
/// replicated when its own device has heard so, or any reader of its log has.
pub fn at_risk(history: &History) -> Vec<AtRisk> {
    let mut counts = Vec::new();
    let finals = Finals::of(history);
    let mut final_at = vec![None; history.names().messages().len()];
    for held in finals.copies.values().flatten() {
        final_at[held.message.index()].get_or_insert(held.at);
    }
    let mut pending: HashMap<Message, Position> = HashMap::new();
    let mut replicated: HashMap<Log, Position> = HashMap::new();
    let mut homes = super::c9::Homes::default();
    for happened in history.events() {
        homes.take(history, &happened.kind);
        match &happened.kind {
            Kind::Ok { message, at, ack: Ack::Home, .. } => drop(pending.insert(*message, *at)),
            Kind::Ok { message, ack: Ack::Replicated, .. } => drop(pending.remove(message)),
            Kind::ReplicatedUpTo { log, at, .. } => {
                let known = replicated.entry(*log).or_default();
                *known = (*known).max(*at);
            }
            Kind::FaultBegan { fault, regions, .. } if !regions.is_empty() => {
                pending.retain(|message, at| {
                    let log = history.names().message(*message).log;
                    replicated.get(&log).is_none_or(|up_to| up_to < at)
                });
                let struck = homes.of_regions(regions);
                let hit = |message: Message| {
                    history.names().first_partition(message).is_some_and(|of| struck.contains_key(&of))
                };
                let mut count = AtRisk { fault: *fault, messages: 0, came_back: 0, lost: 0 };
                for (message, acked_at) in pending.iter().filter(|(message, _)| hit(**message)) {
                    count.messages += 1;
                    match final_at[message.index()] {
                        None => count.lost += 1,
                        Some(at) if at != *acked_at => count.came_back += 1,
                        Some(_) => {}
                    }
                }
                counts.push(count);
            }
            _ => {}
        }
    }
    counts
}
