//! Entries that are missing, changed, twice or out of order.

use super::*;

#[test]
fn a_replicated_entry_that_every_replica_lacks() {
    for checker in [Checker::C2, Checker::C7] {
        caught_by(checker, |_, events| {
            let Some(at) = last(
                events,
                |kind| matches!(kind, Kind::Held { message, .. } if is_acked(events, *message, Some(Ack::Replicated))),
            ) else {
                return false;
            };
            events.remove(at);
            agree(events);
            true
        });
    }
}

#[test]
fn a_home_acked_entry_that_never_came_back() {
    caught_by(Checker::C2, |_, events| {
        let replicated: HashSet<Message> = events
            .iter()
            .filter_map(|event| match event.kind {
                Kind::Ok { message, ack: Ack::Replicated, .. } => Some(message),
                _ => None,
            })
            .collect();
        // Make the last one look as if it had never been replicated.
        let Some(at) = last(events, |kind| matches!(kind, Kind::Held { .. })) else { return false };
        let Kind::Held { message: gone, .. } = events[at].kind else { return false };
        assert!(replicated.contains(&gone));
        events.remove(at);
        events.retain(
            |event| !matches!(event.kind, Kind::Ok { message, ack: Ack::Replicated, .. } if message == gone),
        );
        agree(events);
        true
    });
}

#[test]
fn a_refused_message_that_is_in_the_log() {
    caught_by(Checker::C2, |_, events| {
        let Some(at) = last(events, |kind| matches!(kind, Kind::Held { .. })) else { return false };
        let Kind::Held { message: held, .. } = events[at].kind else { return false };
        events.retain(|event| !matches!(event.kind, Kind::Ok { message, .. } if message == held));
        let refused =
            position(events, |kind| matches!(kind, Kind::Invoke { message, .. } if *message == held));
        let Some(invoked) = refused else { return false };
        let at_us = events[invoked].at_us;
        let kind = Kind::Fail { message: held, code: types::Code::HomeUnavailable };
        events.insert(invoked + 1, Event { at_us, kind });
        true
    });
}

#[test]
fn a_log_that_no_replica_tells() {
    caught_by(Checker::C2, |_, events| {
        events.retain(|event| !matches!(event.kind, Kind::Held { .. } | Kind::FinalLog { .. }));
        true
    });
}

#[test]
fn two_messages_at_one_position() {
    caught_by(Checker::C1, |history, events| {
        let Some(seen) = last(events, |kind| matches!(kind, Kind::Seen { .. })) else { return false };
        let Kind::Seen { log, message, .. } = events[seen].kind else { return false };
        let of_log = |other: &Message| *other != message && history.names().message(*other).log == log;
        let Some(other) = (0..history.names().messages().len() as u32).map(Message).find(of_log) else {
            return false;
        };
        if let Kind::Seen { message, .. } = &mut events[seen].kind {
            *message = other;
        }
        true
    });
}

#[test]
fn two_bodies_of_one_message() {
    caught_by(Checker::C1, |_, events| {
        let Some(held) = position(events, |kind| matches!(kind, Kind::Held { .. })) else { return false };
        if let Kind::Held { body, .. } = &mut events[held].kind {
            *body = BodySum(body.0 ^ 1);
        }
        true
    });
}

#[test]
fn an_entry_that_is_in_the_log_twice() {
    caught_by(Checker::C3, |_, events| {
        let Some(first) = position(events, |kind| matches!(kind, Kind::Held { .. })) else { return false };
        let Kind::Held { node, log, message, body, .. } = events[first].kind else { return false };
        let Some(end) = last(events, |kind| matches!(kind, Kind::Held { log: of, .. } if *of == log)) else {
            return false;
        };
        let Kind::Held { at, .. } = events[end].kind else { return false };
        let at = Position { offset: at.offset.next().expect("a small log"), ..at };
        let at_us = events[end].at_us;
        events.insert(end + 1, Event { at_us, kind: Kind::Held { node, log, at, message, body } });
        agree(events);
        true
    });
}

#[test]
fn a_message_that_a_retry_wrote_again_in_the_same_epoch() {
    caught_by(Checker::C3, |_, events| {
        let Some(ok) = last(events, |kind| matches!(kind, Kind::Ok { .. })) else { return false };
        let mut again = events[ok].clone();
        if let Kind::Ok { at, .. } = &mut again.kind {
            at.offset = at.offset.plus(1_000);
        }
        events.insert(ok + 1, again);
        true
    });
}

#[test]
fn a_message_acked_at_a_place_before_one_that_was_acked_before_it_was_sent() {
    caught_by(Checker::C5, |_, events| {
        let Some(stands) = last(events, |kind| matches!(kind, Kind::Held { at, .. } if at.offset.get() > 3))
        else {
            return false;
        };
        let Kind::Held { message: late, .. } = events[stands].kind else { return false };
        for event in events.iter_mut() {
            if let Kind::Ok { message, at, .. } = &mut event.kind
                && *message == late
            {
                *at = Position::new(at.generation, Epoch::FIRST, Offset::new(1));
            }
        }
        true
    });
}

#[test]
fn two_entries_swapped_at_every_replica() {
    caught_by(Checker::C5, |_, events| {
        let held: Vec<usize> =
            (0..events.len()).filter(|at| matches!(events[*at].kind, Kind::Held { .. })).collect();
        let sent = |message: Message| {
            position(events, |kind| matches!(kind, Kind::Invoke { message: of, .. } if *of == message))
        };
        let acked_first_at = |message: Message, place: Position| {
            let first =
                position(events, |kind| matches!(kind, Kind::Ok { message: of, .. } if *of == message));
            first.filter(|ok| matches!(events[*ok].kind, Kind::Ok { at, .. } if at == place))
        };
        let in_order =
            held.windows(2).rev().find(|pair| match (&events[pair[0]].kind, &events[pair[1]].kind) {
                (Kind::Held { log, at, message, .. }, Kind::Held { log: other, message: next, .. }) => {
                    log == other && acked_first_at(*message, *at).is_some_and(|ok| Some(ok) < sent(*next))
                }
                _ => false,
            });
        let Some(&[one, other]) = in_order else { return false };
        let kind = events[one].kind.clone();
        events[one].kind = std::mem::replace(&mut events[other].kind, kind);
        agree(events);
        true
    });
}

#[test]
fn a_replica_that_differs() {
    caught_by(Checker::C8, |_, events| {
        let Some(told) = last(events, |kind| matches!(kind, Kind::FinalLog { .. })) else { return false };
        if let Kind::FinalLog { sum, .. } = &mut events[told].kind {
            *sum ^= 1;
        }
        true
    });
    caught_by(Checker::C8, |_, events| {
        let Some(told) = last(events, |kind| matches!(kind, Kind::FinalPartition { .. })) else {
            return false;
        };
        if let Kind::FinalPartition { last, .. } = &mut events[told].kind {
            last.lsn = last.lsn.prev();
        }
        true
    });
    caught_by(Checker::C8, |_, events| {
        let Some(told) = last(events, |kind| matches!(kind, Kind::FinalLog { .. })) else { return false };
        events.remove(told);
        true
    });
}

#[test]
fn a_hole_in_every_replica() {
    caught_by(Checker::C8, |_, events| {
        let Some(first) = position(events, |kind| matches!(kind, Kind::Held { .. })) else { return false };
        events.remove(first);
        agree(events);
        true
    });
}
