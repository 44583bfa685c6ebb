//! C9: every partition that a fault hit accepts writes again; and how soon, as clients see it.
//!
//! A fault hits the partitions that are homed, when it begins, in the regions it names. One has recovered with
//! the first ack heard after the fault began that the old home cannot have sent before: of a higher epoch, or
//! of a write that was sent after the fault began. That a partition is written to and has not recovered when
//! the history ends is a violation; how long it took is a figure. Writes to a log that was re-homed say nothing of
//! any one partition: nobody outside knows when they were sent to which.

use super::{Checker, Found, Violation, writes::Writes};
use crate::history::{Fault, History, Kind, Node, Region};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{Epoch, PartitionId};

/// How soon one partition that a fault hit accepted a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The fault.
    pub fault: Fault,
    /// When it began.
    pub began_us: u64,
    /// The partition.
    pub partition: PartitionId,
    /// From the fault to the first ack; none: not within the history.
    pub first_ack_us: Option<u64>,
    /// Writes that were sent after the fault began to logs that were in it throughout.
    pub sent: u64,
    /// The longest time between two acks, one of them after the fault began and before it ended or the
    /// partition recovered.
    pub longest_pause_us: u64,
}

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C9);
    for recovery in recoveries(history) {
        if recovery.first_ack_us.is_none() && recovery.sent > 0 {
            found.add([], || {
                let Recovery { fault, partition, sent, .. } = &recovery;
                format!("partition {partition} acked none of {sent} writes after {fault}")
            });
        }
    }
    found.done()
}

/// Who is home of what, as the history goes.
#[derive(Default)]
pub(super) struct Homes(BTreeMap<PartitionId, (Node, Region, Epoch)>);

impl Homes {
    pub(super) fn take(&mut self, history: &History, kind: &Kind) {
        if let Kind::Placed { partition, node, epoch, .. } = kind
            && self.0.get(partition).is_none_or(|(.., known)| epoch > known)
        {
            self.0.insert(*partition, (*node, history.names().node(*node).region, *epoch));
        }
    }

    /// The partitions homed in these regions now, with their epochs.
    pub(super) fn of_regions(&self, regions: &[Region]) -> BTreeMap<PartitionId, Epoch> {
        let homed = self.0.iter().filter(|(_, (_, region, _))| regions.contains(region));
        homed.map(|(partition, (.., epoch))| (*partition, *epoch)).collect()
    }
}

/// A partition that has not recovered yet, or whose fault is not over.
struct Open {
    recovery: Recovery,
    epoch: Epoch,
    last_ack_us: Option<u64>,
    fault_over: bool,
}

impl Open {
    fn is_over(&self) -> bool {
        self.fault_over && self.recovery.first_ack_us.is_some()
    }
}

/// Every partition that a fault hit, with how soon it recovered.
pub fn recoveries(history: &History) -> Vec<Recovery> {
    let writes = Writes::of(history);
    let mut homes = Homes::default();
    let mut last_ack_us: BTreeMap<PartitionId, u64> = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut done = Vec::new();
    for happened in history.events() {
        homes.take(history, &happened.kind);
        match &happened.kind {
            Kind::FaultBegan { fault, regions, .. } => {
                open.extend(homes.of_regions(regions).into_iter().map(|(partition, epoch)| Open {
                    recovery: Recovery {
                        fault: *fault,
                        began_us: happened.at_us,
                        partition,
                        first_ack_us: None,
                        sent: 0,
                        longest_pause_us: 0,
                    },
                    epoch,
                    last_ack_us: last_ack_us.get(&partition).copied(),
                    fault_over: false,
                }));
            }
            Kind::FaultEnded { fault } => {
                open.iter_mut()
                    .filter(|one| one.recovery.fault == *fault)
                    .for_each(|one| one.fault_over = true);
            }
            Kind::Invoke { message, .. } => {
                let partition = history.names().only_partition(*message);
                let hit = open.iter_mut().filter(|one| Some(one.recovery.partition) == partition);
                hit.for_each(|one| one.recovery.sent += 1);
            }
            Kind::Ok { message, at, epoch, .. } => {
                let log = history.names().message(*message).log;
                let Some(partition) = history.names().partition(log, at.generation.get()) else { continue };
                last_ack_us.insert(partition, happened.at_us);
                let epoch = epoch.unwrap_or(at.epoch);
                let sent_us = writes.get(*message).invoked.map_or(0, |invoked| invoked.at_us);
                for one in open.iter_mut().filter(|one| one.recovery.partition == partition) {
                    one.hear(happened.at_us, epoch, sent_us);
                }
            }
            _ => {}
        }
        if matches!(happened.kind, Kind::Ok { .. } | Kind::FaultEnded { .. }) {
            done.extend(open.extract_if(.., |one| one.is_over()));
        }
    }
    done.extend(open);
    let mut recoveries: Vec<_> = done.into_iter().map(|one| one.recovery).collect();
    recoveries.sort_by_key(|recovery| (recovery.fault, recovery.partition));
    recoveries
}

impl Open {
    fn hear(&mut self, at_us: u64, epoch: Epoch, sent_us: u64) {
        let Recovery { began_us, first_ack_us, longest_pause_us, .. } = &mut self.recovery;
        if epoch <= self.epoch && sent_us < *began_us {
            self.last_ack_us = Some(at_us);
            return;
        }
        first_ack_us.get_or_insert(at_us - *began_us);
        if let Some(last) = self.last_ack_us {
            *longest_pause_us = (*longest_pause_us).max(at_us - last);
        }
        self.last_ack_us = Some(at_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Ack, BodySum, Header, Recorder, Resends};
    use types::{
        DeviceId, Generation, Incarnation, LogId, Lsn, MessageId, NodeId, Offset, Position, RegionId, UserId,
    };

    /// A partition loses its home, and the one chat that was in it is written to; in these partitions in turn.
    fn written_after_a_fault(pins: &[u32]) -> History {
        let recorder = Recorder::in_memory(Header::new("hand-made", 0, true), || 0);
        let name = RegionId::new("here").expect("a name");
        let (region, node) =
            (recorder.region(&name), recorder.node(&NodeId::new("here-1").expect("a name"), &name));
        let log = recorder.log(LogId::group([1; 16]));
        let partition = PartitionId::new(0);
        let home = (Epoch::FIRST, Incarnation::new(1), Lsn::FIRST);
        let (epoch, incarnation, start_lsn) = home;
        recorder.record(Kind::Placed { partition, epoch, node, incarnation, start_lsn });
        let fault = recorder.fault_began("its home is killed", vec![region]);
        let device = recorder.device(&UserId::new("ann").expect("a name"), DeviceId::new(1), &name);
        let message = recorder.message(log, device, MessageId::from(uuid::Uuid::nil()));
        let (body, resends) = (BodySum::CHANGE, Resends::Never);
        recorder.record(Kind::Invoke { message, body, after: None, resends });
        for (at, partition) in pins.iter().enumerate() {
            let (generation, partition) = (at as u32 + 1, PartitionId::new(*partition));
            recorder.record(Kind::Pinned { log, generation, partition, first_offset: at as u64 + 1 });
        }
        if let [_, _] = pins {
            let at = Position::new(Generation::new(2), Epoch::FIRST, Offset::new(2));
            let (ack, epoch, passed_us, accepted_at_ms) = (Ack::Home, None, None, 0);
            recorder.record(Kind::Ok { message, at, ack, epoch, passed_us, accepted_at_ms });
        }
        recorder.fault_ended(fault);
        recorder.finish().expect("a history")
    }

    #[test]
    fn writes_to_a_log_that_was_rehomed_say_nothing_of_its_first_partition() {
        assert_eq!(check(&written_after_a_fault(&[0])).len(), 1);
        assert_eq!(check(&written_after_a_fault(&[0, 1])), []);
    }
}
