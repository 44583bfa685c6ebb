//! C7: every published watermark is contained in every later home, and in the end everywhere.
//!
//! As the homes publish it: an LSN up to which a partition is durable on every in-sync member. No later epoch
//! starts at or below it. As clients see it: a position up to which a log is `replicated`, and the position of
//! every message acked so. Each stands in every known copy in the end.

use super::{Checker, Found, Violation, finals::Finals};
use crate::history::{Ack, History, Kind, Log, Node};
use std::collections::{BTreeMap, HashMap, HashSet};
use types::{Epoch, Incarnation, Lsn, PartitionId, Position};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C7);
    let starts = Starts::of(history);
    let mut published: HashMap<(Log, Position), usize> = HashMap::new();
    for (event, happened) in history.events().iter().enumerate() {
        match &happened.kind {
            Kind::Watermark { partition, epoch, lsn, .. } => {
                if let Some((later, start, placed)) = starts.lowest_above(*partition, *epoch)
                    && start <= *lsn
                {
                    found.add([event, placed], || {
                        format!(
                            "partition {partition} was replicated up to {lsn} in epoch {epoch}, and epoch {later} starts at {start}"
                        )
                    });
                }
            }
            Kind::ReplicatedUpTo { log, at, .. } if !at.offset.is_zero() => {
                published.entry((*log, *at)).or_insert(event);
            }
            Kind::Ok { message, at, ack: Ack::Replicated, .. } => {
                published.entry((history.names().message(*message).log, *at)).or_insert(event);
            }
            _ => {}
        }
    }
    let mut by_log: BTreeMap<Log, Vec<(Position, usize)>> = BTreeMap::new();
    for ((log, at), event) in published {
        by_log.entry(log).or_default().push((at, event));
    }
    let finals = Finals::of(history);
    for (log, mut published) in by_log {
        published.sort();
        for (node, copy) in finals.of_log(log) {
            let stand: HashSet<Position> = copy.iter().map(|held| held.at).collect();
            for (at, event) in published.iter().filter(|(at, _)| !stand.contains(at)) {
                found
                    .add([*event], || format!("{log} was replicated up to {at}, which {node} does not hold"));
            }
        }
    }
    found.done()
}

/// For each epoch of each partition, the lowest start of it and all later ones.
struct Starts(HashMap<PartitionId, Vec<(Epoch, Start)>>);

/// An epoch as the directory tells it.
struct Begun {
    home: (Node, Incarnation),
    start: Start,
}

impl Begun {
    /// Whether it follows a move that was given up: the same boot goes on where its own log ends, which the
    /// directory does not know.
    fn goes_on(&self, before: &Self) -> bool {
        self.home == before.home && self.start.1 == before.start.1
    }
}

/// An epoch, the LSN at which it starts, and the event that says so.
type Start = (Epoch, Lsn, usize);

impl Starts {
    fn of(history: &History) -> Self {
        let mut begins: HashMap<PartitionId, Vec<(Epoch, Begun)>> = HashMap::new();
        for (event, happened) in history.events().iter().enumerate() {
            if let Kind::Placed { partition, epoch, node, incarnation, start_lsn } = &happened.kind {
                let begun = Begun { home: (*node, *incarnation), start: (*epoch, *start_lsn, event) };
                begins.entry(*partition).or_default().push((*epoch, begun));
            }
        }
        let mut starts: HashMap<PartitionId, Vec<(Epoch, Start)>> = HashMap::new();
        for (partition, mut epochs) in begins {
            epochs.sort_by_key(|(epoch, _)| *epoch);
            let begun = epochs.iter().map(|(_, begun)| Some(begun));
            let before = std::iter::once(None).chain(begun).take(epochs.len());
            let real = epochs
                .iter()
                .zip(before)
                .filter(|((_, begun), before)| !before.is_some_and(|it| begun.goes_on(it)));
            starts.insert(partition, real.map(|((epoch, begun), _)| (*epoch, begun.start)).collect());
        }
        for epochs in starts.values_mut() {
            let mut lowest: Option<Start> = None;
            for (_, start) in epochs.iter_mut().rev() {
                match lowest {
                    Some(below) if below.1 < start.1 => *start = below,
                    _ => lowest = Some(*start),
                }
            }
        }
        Self(starts)
    }

    fn lowest_above(&self, partition: PartitionId, epoch: Epoch) -> Option<Start> {
        let epochs = self.0.get(&partition)?;
        epochs.get(epochs.partition_point(|(of, _)| *of <= epoch)).map(|(_, lowest)| *lowest)
    }
}
