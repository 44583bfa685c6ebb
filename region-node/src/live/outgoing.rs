//! Cursors on their way from the sessions of this node to the homes of their logs.
//!
//! ```text
//!   said ──► fresh ──asked──► under way ──taken──► kept on that stream ──15 s, the stream stands──► gone
//!              ▲                  │                      │
//!              └──not taken, lost─┘◄──another stream, another epoch──┘
//! ```
//!
//! A home takes cursors in memory and writes them a little later. So what was taken is kept for a while, and said again
//! where another home, or the same one after a crash, may not have it.
//!
//! # Invariants
//!
//! - Of each device and log only what is furthest on is kept and sent.
//! - Of one log at most one request is under way.
//! - At most [`CURSORS_MAX`] cursors are kept; past that nothing is taken in, and the client says it again when it
//!   connects anew.

use super::board::{Cursor, Reached};
use crate::router::Route;
use host::HashMap;
use std::collections::BTreeMap;
use types::{DeviceId, Generation, LogId, PartitionId, PinSegment, UserId};

/// Cursors of this node that may be on their way.
const CURSORS_MAX: usize = 65_536;
/// Cursors in one request.
const REQUEST_MAX: usize = 512;
/// How long a cursor that was taken is kept, in ms: until its home has written it, and that is replicated.
const KEEP_MS: u64 = 15_000;
/// How long to wait before something is said again that was not taken, in ms.
const AGAIN_MS: u64 = 250;
/// How long a cursor is tried to be brought to its home, in ms.
const GIVE_UP_MS: u64 = 60_000;

/// Where cursors of a log can be taken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Its pin has to be read.
    Unknown,
    /// It has no home now that can be reached.
    Closed,
    /// It is written here, and its home is there.
    To(PinSegment, Route),
}

/// The cursors of one log in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfLog {
    /// Where the log is believed to be pinned.
    pub(crate) partition: PartitionId,
    /// In which generation.
    pub(crate) generation: Generation,
    pub(crate) log: LogId,
    pub(crate) cursors: Vec<Cursor>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Ask a home to take cursors; answered by [`Outgoing::answered`].
    Ask { number: u64, route: Route, logs: Vec<OfLog> },
    /// Read the pin of a log that is not written in a generation up to this one.
    Resolve(LogId, Generation),
}

type Devices = BTreeMap<(UserId, DeviceId), Reached>;

#[derive(Debug, Default)]
struct Lane {
    /// Not sent.
    fresh: Devices,
    /// Sent in the request of this number.
    asked: Option<(u64, Route, Devices)>,
    /// Taken there, at this time.
    kept: Option<(Route, u64, Devices)>,
    not_before_ms: u64,
    since_ms: u64,
}

impl Lane {
    fn len(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |(_, _, devices)| devices.len());
        let kept = self.kept.as_ref().map_or(0, |(_, _, devices)| devices.len());
        self.fresh.len() + asked + kept
    }

    fn say_again(&mut self, devices: Devices) {
        for (device, reached) in devices {
            let mut earlier = reached;
            earlier.raise(self.fresh.get(&device).copied().unwrap_or_default());
            self.fresh.insert(device, earlier);
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    lanes: HashMap<LogId, Lane>,
    /// Cursors of all lanes, at most.
    cursors: usize,
    last_number: u64,
}

impl Outgoing {
    /// Takes in what a device says; `false` where there is no room.
    pub(super) fn say(&mut self, now_ms: u64, log: LogId, cursor: Cursor) -> bool {
        if self.cursors >= CURSORS_MAX {
            return false;
        }
        let lane = self.lanes.entry(log).or_default();
        if lane.fresh.is_empty() {
            lane.since_ms = now_ms;
        }
        let before = lane.fresh.len();
        lane.fresh.entry((cursor.user, cursor.device)).or_default().raise(cursor.reached);
        self.cursors += lane.fresh.len() - before;
        true
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Sends what can be sent.
    pub(super) fn send(&mut self, now_ms: u64, way: impl Fn(LogId) -> Way, out: &mut Vec<Output>) {
        let mut requests: BTreeMap<u64, Request> = BTreeMap::new();
        for (log, lane) in &mut self.lanes {
            if lane.fresh.is_empty() || lane.asked.is_some() || now_ms < lane.not_before_ms {
                continue;
            }
            let (pin, route) = match way(*log) {
                Way::To(pin, route) => (pin, route),
                Way::Closed => continue,
                Way::Unknown => {
                    lane.not_before_ms = now_ms + AGAIN_MS;
                    out.push(Output::Resolve(*log, Generation::ZERO));
                    continue;
                }
            };
            let request = requests.entry(route.channel.0).or_insert_with(|| {
                self.last_number += 1;
                Request { number: self.last_number, route: route.clone(), logs: Vec::new(), cursors: 0 }
            });
            if request.cursors > 0 && request.cursors + lane.fresh.len() > REQUEST_MAX {
                continue;
            }
            request.cursors += lane.fresh.len();
            let devices = std::mem::take(&mut lane.fresh);
            let (partition, generation) = (pin.partition, pin.generation);
            request.logs.push(OfLog { partition, generation, log: *log, cursors: cursors(&devices) });
            lane.asked = Some((request.number, route, devices));
        }
        let ask = |Request { number, route, logs, .. }| Output::Ask { number, route, logs };
        out.extend(requests.into_values().map(ask));
    }

    /// What became of a request for one of its logs.
    pub(super) fn answered(
        &mut self,
        now_ms: u64,
        (number, log): (u64, LogId),
        answer: Result<(), Refused>,
        out: &mut Vec<Output>,
    ) {
        let Some(lane) = self.lanes.get_mut(&log) else { return };
        let Some((_, route, devices)) = lane.asked.take_if(|(asked, _, _)| *asked == number) else { return };
        match answer {
            Ok(()) => match &mut lane.kept {
                Some((on, at_ms, kept)) if *on == route => {
                    *at_ms = now_ms;
                    for (device, reached) in devices {
                        kept.entry(device).or_default().raise(reached);
                    }
                }
                kept => {
                    if let Some((_, _, earlier)) = kept.replace((route, now_ms, devices)) {
                        lane.say_again(earlier);
                    }
                }
            },
            Err(Refused::Moved(closed)) => {
                lane.say_again(devices);
                lane.not_before_ms = now_ms + AGAIN_MS;
                out.push(Output::Resolve(log, closed));
            }
            Err(Refused::Later) => {
                lane.say_again(devices);
                lane.not_before_ms = now_ms + AGAIN_MS;
            }
        }
    }

    /// Lets go what is safe, and says again what may be lost.
    pub(super) fn look(&mut self, now_ms: u64, way: impl Fn(LogId) -> Way) {
        for (log, lane) in &mut self.lanes {
            let Some((route, at_ms, _)) = &lane.kept else { continue };
            match way(*log) {
                Way::To(_, now) if now == *route => {
                    if now_ms >= at_ms + KEEP_MS {
                        lane.kept = None;
                    }
                }
                Way::To(..) => {
                    if let Some((_, _, devices)) = lane.kept.take() {
                        if lane.fresh.is_empty() {
                            lane.since_ms = now_ms;
                        }
                        lane.say_again(devices);
                    }
                }
                Way::Closed | Way::Unknown => {}
            }
        }
        self.lanes.retain(|_, lane| {
            if !lane.fresh.is_empty() && now_ms >= lane.since_ms + GIVE_UP_MS {
                lane.fresh.clear();
            }
            lane.len() > 0
        });
        self.cursors = self.lanes.values().map(Lane::len).sum();
    }
}

/// Why the cursors of a log were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The log is written elsewhere, and in no generation up to this one there.
    Moved(Generation),
    /// It may be said again.
    Later,
}

#[derive(Debug)]
struct Request {
    number: u64,
    route: Route,
    logs: Vec<OfLog>,
    cursors: usize,
}

fn cursors(devices: &Devices) -> Vec<Cursor> {
    let cursor = |((user, device), reached): (&(UserId, DeviceId), &Reached)| Cursor {
        user: user.clone(),
        device: *device,
        reached: *reached,
    };
    devices.iter().map(cursor).collect()
}

#[cfg(test)]
mod tests;
