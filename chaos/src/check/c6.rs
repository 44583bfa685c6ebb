//! C6: one writer per epoch; nothing is acked in an epoch after the first ack of a later one.
//!
//! Devices hear an ack later than it passed the home's lease check, so their times alone do not order two acks.
//! Three rules are sound all the same:
//!
//! 1. A write that was *sent* after somebody had heard an ack of epoch e+1 is not acked in e or below, at
//!    either level: its lease check came after that ack.
//! 2. Where the history tells when acks passed the lease check, no `home` ack of e passed after the first of a
//!    later epoch.
//! 3. An epoch has one home and one start.

use super::{Checker, Found, Violation, writes::Writes};
use crate::history::{Ack, History, Kind, Node};
use std::collections::{BTreeMap, HashMap, hash_map::Entry};
use types::{Epoch, Incarnation, Lsn, PartitionId};

/// When each epoch of a partition was first acked in: by time, each with the highest epoch so far.
type Firsts = BTreeMap<PartitionId, Vec<(u64, Epoch, usize)>>;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C6);
    let writes = Writes::of(history);
    let mut heard = Firsts::new();
    let mut passed: BTreeMap<PartitionId, Vec<(u64, Epoch, Ack, usize)>> = BTreeMap::new();
    let mut homes: HashMap<(PartitionId, Epoch), (Node, Incarnation, Lsn, usize)> = HashMap::new();
    for (event, happened) in history.events().iter().enumerate() {
        match &happened.kind {
            Kind::Ok { message, at, ack, epoch, passed_us, .. } => {
                let log = history.names().message(*message).log;
                let Some(partition) = history.names().partition(log, at.generation.get()) else { continue };
                let epoch = epoch.unwrap_or(at.epoch);
                let firsts = heard.entry(partition).or_default();
                if let Some(invoked) = writes.get(*message).invoked
                    && let Some((_, later, first)) = highest_before(firsts, invoked.at_us)
                    && later > epoch
                {
                    found.add([first, invoked.event, event], || {
                        format!("{message} is acked in epoch {epoch} of partition {partition}, sent after an ack of {later}")
                    });
                }
                if firsts.last().is_none_or(|(_, highest, _)| epoch > *highest) {
                    firsts.push((happened.at_us, epoch, event));
                }
                if let Some(passed_us) = passed_us {
                    passed.entry(partition).or_default().push((*passed_us, epoch, *ack, event));
                }
            }
            Kind::Placed { partition, epoch, node, incarnation, start_lsn } => {
                let home = (*node, *incarnation, *start_lsn, event);
                match homes.entry((*partition, *epoch)) {
                    Entry::Vacant(vacant) => drop(vacant.insert(home)),
                    Entry::Occupied(occupied) => {
                        let (of, boot, start, first) = *occupied.get();
                        if (of, boot, start) != (*node, *incarnation, *start_lsn) {
                            found.add([first, event], || {
                                format!("epoch {epoch} of partition {partition} has two homes or two starts")
                            });
                        }
                    }
                }
            }
            _ => {}
        }
    }
    by_lease_check(passed, &mut found);
    found.done()
}

fn highest_before(firsts: &[(u64, Epoch, usize)], at_us: u64) -> Option<(u64, Epoch, usize)> {
    let count = firsts.partition_point(|(heard_us, ..)| *heard_us < at_us);
    count.checked_sub(1).map(|last| firsts[last])
}

fn by_lease_check(passed: BTreeMap<PartitionId, Vec<(u64, Epoch, Ack, usize)>>, found: &mut Found) {
    for (partition, mut acks) in passed {
        acks.sort_by_key(|(passed_us, epoch, ..)| (*passed_us, *epoch));
        let mut highest: Option<(Epoch, usize)> = None;
        for (_, epoch, ack, event) in acks {
            match highest {
                Some((later, first)) if later > epoch => {
                    if ack == Ack::Home {
                        found.add([first, event], || {
                            format!(
                                "a home ack of epoch {epoch} of partition {partition} passed the lease check after one of {later}"
                            )
                        });
                    }
                }
                _ => {
                    highest = Some((
                        epoch,
                        highest.filter(|(same, _)| *same == epoch).map_or(event, |(_, first)| first),
                    ))
                }
            }
        }
    }
}
