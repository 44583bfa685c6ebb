//! Homes that ack too late, epochs that reopen, watermarks that do not hold, partitions that stay down.

use super::*;

#[test]
fn an_ack_of_a_former_home_for_a_write_sent_after_the_first_of_its_successor() {
    caught_by(Checker::C6, |history, events| {
        let partition = |message| history.names().first_partition(message);
        let mut acked_in: BTreeMap<_, Epoch> = BTreeMap::new();
        let mut sent_in: HashMap<Message, Epoch> = HashMap::new();
        for event in events.iter_mut() {
            match &mut event.kind {
                Kind::Invoke { message, .. } => {
                    sent_in.extend(acked_in.get(&partition(*message)).map(|epoch| (*message, *epoch)));
                }
                Kind::Ok { message, at, ack: Ack::Home, .. } => {
                    if at.epoch > Epoch::FIRST && sent_in.get(message) == Some(&at.epoch) {
                        at.epoch = at.epoch.prev();
                        return true;
                    }
                    acked_in.insert(partition(*message), at.epoch);
                }
                _ => {}
            }
        }
        false
    });
}

#[test]
fn a_home_ack_that_passes_the_lease_check_after_the_successors_first() {
    caught_by(Checker::C6, |_, events| {
        let end = events.last().expect("some").at_us;
        let Some(ok) = position(
            events,
            |kind| matches!(kind, Kind::Ok { at, ack: Ack::Home, .. } if at.epoch == Epoch::FIRST),
        ) else {
            return false;
        };
        if let Kind::Ok { passed_us, .. } = &mut events[ok].kind {
            *passed_us = Some(end);
        }
        events
            .iter()
            .filter(|event| matches!(event.kind, Kind::Placed { epoch, .. } if epoch > Epoch::FIRST))
            .count()
            > 1
    });
}

#[test]
fn a_sealed_epoch_that_reopens() {
    caught_by(Checker::C6, |_, events| {
        let Some(placed) =
            position(events, |kind| matches!(kind, Kind::Placed { epoch, .. } if *epoch > Epoch::FIRST))
        else {
            return false;
        };
        let mut again = events[placed].clone();
        again.at_us = events.last().expect("some").at_us;
        if let Kind::Placed { start_lsn, .. } = &mut again.kind {
            *start_lsn = start_lsn.plus(1);
        }
        events.push(again);
        true
    });
}

#[test]
fn a_watermark_beyond_the_next_homes_start() {
    caught_by(Checker::C7, |_, events| {
        let Some(placed) =
            last(events, |kind| matches!(kind, Kind::Placed { epoch, .. } if *epoch > Epoch::FIRST))
        else {
            return false;
        };
        let Kind::Placed { partition, epoch, node, start_lsn, .. } = events[placed].kind else {
            return false;
        };
        let kind = Kind::Watermark { partition, epoch: epoch.prev(), node, lsn: Lsn::new(start_lsn.get()) };
        let at_us = events[placed].at_us;
        events.insert(placed, Event { at_us, kind });
        true
    });
}

#[test]
fn a_position_that_was_replicated_and_stands_nowhere() {
    caught_by(Checker::C7, |_, events| {
        let Some(told) = last(events, |kind| matches!(kind, Kind::ReplicatedUpTo { .. })) else {
            return false;
        };
        if let Kind::ReplicatedUpTo { at, .. } = &mut events[told].kind {
            at.epoch = at.epoch.plus(90);
        }
        true
    });
}

#[test]
fn a_partition_that_never_recovers() {
    caught_by(Checker::C9, |history, events| {
        let Some(fault) = last(events, |kind| matches!(kind, Kind::FaultBegan { .. })) else { return false };
        let placed = events[fault..].iter().find_map(|event| match event.kind {
            Kind::Placed { partition, .. } => Some(partition),
            _ => None,
        });
        let Some(hit) = placed else { return false };
        let mut at = 0;
        events.retain(|event| {
            at += 1;
            at <= fault || !matches!(event.kind, Kind::Ok { message, .. } if history.names().first_partition(message) == Some(hit))
        });
        true
    });
}

#[test]
fn a_write_that_a_planned_move_failed() {
    caught_by(Checker::C10, |history, events| {
        let Some(began) = last(events, |kind| matches!(kind, Kind::MoveBegan { .. })) else { return false };
        let Kind::MoveBegan { partition, .. } = events[began].kind else { return false };
        let sent = events[began..].iter().position(|event| {
            matches!(event.kind, Kind::Invoke { message, .. } if history.names().first_partition(message) == Some(partition))
        });
        let Some(sent) = sent.map(|sent| began + sent) else { return false };
        let Kind::Invoke { message: failed, .. } = events[sent].kind else { return false };
        for kind in [&mut events[sent].kind] {
            if let Kind::Invoke { resends, .. } = kind {
                *resends = Resends::Never;
            }
        }
        events.retain(|event| !matches!(event.kind, Kind::Ok { message, .. } if message == failed));
        let at_us = events[sent].at_us;
        events.insert(sent + 1, Event { at_us, kind: Kind::Indeterminate { message: failed, code: None } });
        true
    });
}
