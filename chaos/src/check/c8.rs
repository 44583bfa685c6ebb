//! C8: after healing all replicas are equal, and each log is whole.
//!
//! Equal: the last record of each partition, and the number and hash of each log's entries. Whole: a known
//! copy is what its summary says, and its offsets are 1, 2, 3 …

use super::{
    Checker, Found, Violation,
    finals::{Finals, Held, Summary},
};
use crate::history::{History, Kind, Log, LogSum, Node};
use std::collections::{BTreeMap, BTreeSet};
use types::{PartitionId, PartitionPosition};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C8);
    let replicas = partitions(history, &mut found);
    let finals = Finals::of(history);
    for ((log, node), copy) in &finals.copies {
        whole(*log, *node, copy, finals.summaries.get(&(*log, *node)), &mut found);
    }
    let mut first: BTreeMap<Log, (Node, Summary)> = BTreeMap::new();
    for ((log, node), summary) in &finals.summaries {
        let (other, expected) = first.entry(*log).or_insert((*node, *summary));
        if (summary.entries, summary.sum) != (expected.entries, expected.sum) {
            let (here, there) = (summary.entries, expected.entries);
            found.add([expected.event, summary.event], || {
                format!(
                    "{log} has {here} entries at {node} and {there} at {other}, and they are not the same"
                )
            });
        }
    }
    for (number, name) in history.names().logs().iter().enumerate() {
        let log = Log(number as u32);
        let Some((_, partition, _)) = name.pins.last() else { continue };
        for node in replicas.get(partition).into_iter().flatten() {
            if first.contains_key(&log) && !finals.summaries.contains_key(&(log, *node)) {
                found.add([], || format!("{node}, a replica of partition {partition}, does not tell {log}"));
            }
        }
    }
    found.done()
}

/// Compares the last records; answers who holds which partition.
fn partitions(history: &History, found: &mut Found) -> BTreeMap<PartitionId, BTreeSet<Node>> {
    let mut first: BTreeMap<PartitionId, (PartitionPosition, Node, usize)> = BTreeMap::new();
    let mut replicas: BTreeMap<PartitionId, BTreeSet<Node>> = BTreeMap::new();
    for (event, happened) in history.events().iter().enumerate() {
        let Kind::FinalPartition { node, partition, last } = &happened.kind else { continue };
        replicas.entry(*partition).or_default().insert(*node);
        let (expected, other, known) = *first.entry(*partition).or_insert((*last, *node, event));
        if *last != expected {
            found.add([known, event], || {
                format!("partition {partition} ends at {last} at {node} and at {expected} at {other}")
            });
        }
    }
    replicas
}

fn whole(log: Log, node: Node, copy: &[Held], summary: Option<&Summary>, found: &mut Found) {
    let mut sum = LogSum::default();
    let mut last = 0;
    for held in copy {
        sum.add(held.at, held.message, held.body);
        if held.at.offset.get() != last + 1 {
            found.add([held.event], || format!("{log} at {node} has {} behind offset {last}", held.at));
        }
        last = held.at.offset.get();
    }
    match summary {
        None => found.add(copy.first().map(|held| held.event), || {
            format!("{node} tells entries of {log} and no summary")
        }),
        Some(summary) if (summary.entries, summary.sum) != (sum.entries(), sum.sum()) => {
            found.add([summary.event], || {
                let (told, held) = (summary.entries, sum.entries());
                format!("{log} at {node}: the summary says {told} entries, {held} are told, or others")
            });
        }
        Some(_) => {}
    }
}
