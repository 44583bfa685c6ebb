//! C10: planned moves fail no write.
//!
//! A write to a partition that is under way at any time of its planned move ends in an ack, unless a fault is
//! under way at the same time as the move or as the write, or has hardly ended when it is sent: what has just
//! come back may refuse. How long the writes paused is a figure: the longest time
//! between two acks of the partition, around the move.

use super::{Checker, Found, Violation, writes::Writes};
use crate::history::{Fault, History, Kind, Move};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use types::PartitionId;

/// The write pause of one planned move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovePause {
    /// The move.
    pub moving: Move,
    /// Of which partition.
    pub partition: PartitionId,
    /// From its beginning to its end; none: it has not ended within the history.
    pub took_us: Option<u64>,
    /// The longest time between two acks of which the later one was heard after the move began and the
    /// earlier one before it ended.
    pub longest_pause_us: u64,
}

/// For so long after a fault a write may fail for the fault's sake.
const SETTLES_US: u64 = 3_000_000;

/// A move as the history tells it.
struct Span {
    moving: Move,
    partition: PartitionId,
    began: usize,
    began_us: u64,
    ended_us: Option<u64>,
    /// A fault is under way at the same time.
    faulty: bool,
}

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C10);
    let spans = spans(history);
    if spans.is_empty() {
        return found.done();
    }
    let writes = Writes::of(history);
    let mut broken = Broken::default();
    for (event, happened) in history.events().iter().enumerate() {
        broken.take(&happened.kind, happened.at_us);
        let (Kind::Fail { message, .. } | Kind::Indeterminate { message, .. }) = &happened.kind else {
            continue;
        };
        let Some(invoked) = writes.get(*message).invoked else { continue };
        if broken.since(invoked.at_us) {
            continue;
        }
        let partition = history.names().first_partition(*message);
        let hit = spans.iter().find(|span| {
            Some(span.partition) == partition
                && !span.faulty
                && invoked.at_us <= span.ended_us.unwrap_or(u64::MAX)
                && happened.at_us >= span.began_us
        });
        if let Some(span) = hit {
            let (moving, of) = (span.moving, span.partition);
            found.add([span.began, invoked.event, event], || {
                format!("{message} was not acked during {moving} of partition {of}")
            });
        }
    }
    found.done()
}

/// What is broken, and when something was last.
#[derive(Default)]
struct Broken {
    now: BTreeSet<Fault>,
    last_us: Option<u64>,
}

impl Broken {
    fn take(&mut self, kind: &Kind, at_us: u64) {
        match kind {
            Kind::FaultBegan { fault, .. } => drop(self.now.insert(*fault)),
            Kind::FaultEnded { fault } => {
                self.now.remove(fault);
                self.last_us = Some(at_us);
            }
            _ => {}
        }
    }

    fn since(&self, at_us: u64) -> bool {
        !self.now.is_empty() || self.last_us.is_some_and(|last_us| last_us + SETTLES_US >= at_us)
    }
}

/// The write pauses of all planned moves.
pub fn move_pauses(history: &History) -> Vec<MovePause> {
    let spans = spans(history);
    let mut acks: BTreeMap<PartitionId, Vec<u64>> = BTreeMap::new();
    if !spans.is_empty() {
        for happened in history.events() {
            let Kind::Ok { message, at, .. } = &happened.kind else { continue };
            let log = history.names().message(*message).log;
            if let Some(partition) = history.names().partition(log, at.generation.get()) {
                acks.entry(partition).or_default().push(happened.at_us);
            }
        }
    }
    let pause = |span: &Span| {
        let heard = acks.get(&span.partition).map_or(&[][..], Vec::as_slice);
        let around = heard
            .windows(2)
            .filter(|pair| pair[1] >= span.began_us && pair[0] <= span.ended_us.unwrap_or(u64::MAX));
        MovePause {
            moving: span.moving,
            partition: span.partition,
            took_us: span.ended_us.map(|ended| ended - span.began_us),
            longest_pause_us: around.map(|pair| pair[1] - pair[0]).max().unwrap_or(0),
        }
    };
    spans.iter().map(pause).collect()
}

fn spans(history: &History) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut faults: BTreeSet<Fault> = BTreeSet::new();
    for (event, happened) in history.events().iter().enumerate() {
        match &happened.kind {
            Kind::FaultBegan { fault, .. } => {
                faults.insert(*fault);
                spans.iter_mut().filter(|span| span.ended_us.is_none()).for_each(|span| span.faulty = true);
            }
            Kind::FaultEnded { fault } => drop(faults.remove(fault)),
            Kind::MoveBegan { moving, partition, .. } => spans.push(Span {
                moving: *moving,
                partition: *partition,
                began: event,
                began_us: happened.at_us,
                ended_us: None,
                faulty: !faults.is_empty(),
            }),
            Kind::MoveEnded { moving, .. } => {
                if let Some(span) = spans.iter_mut().find(|span| span.moving == *moving) {
                    span.ended_us = Some(happened.at_us);
                }
            }
            _ => {}
        }
    }
    spans
}
