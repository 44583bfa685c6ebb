//! Readers that skip, go back, or are not told.

use super::*;

#[test]
fn a_reader_that_holds_both_places_of_a_message_that_came_back() {
    caught_by(Checker::C3, |_, events| {
        let Some(told) =
            position(events, |kind| matches!(kind, Kind::Told { told: Told::Diverged { .. }, .. }))
        else {
            return false;
        };
        // Without the word the reader still holds what was undone, when it is given what came back.
        let Kind::Told { session, log, .. } = events[told].kind else { return false };
        let came_back = |seen: &HashSet<Message>, kind: &Kind| matches!(kind, Kind::Seen { session: of, log: in_log, message, .. } if *of == session && *in_log == log && seen.contains(message));
        let seen: HashSet<Message> = events[..told]
            .iter()
            .filter_map(|event| match event.kind {
                Kind::Seen { session: of, log: in_log, message, .. } if of == session && in_log == log => {
                    Some(message)
                }
                _ => None,
            })
            .collect();
        let until = events[told + 1..]
            .iter()
            .position(|event| matches!(event.kind, Kind::Told { session: of, log: in_log, told: Told::Diverged { .. } } if of == session && in_log == log))
            .map_or(events.len(), |until| told + 1 + until);
        let any = events[told..until].iter().any(|event| came_back(&seen, &event.kind));
        events.remove(told);
        any
    });
}

#[test]
fn a_reader_that_skips_an_entry() {
    caught_by(Checker::C4, |_, events| {
        let seen: Vec<usize> =
            (0..events.len()).filter(|at| matches!(events[*at].kind, Kind::Seen { .. })).collect();
        let Kind::Seen { session, log, .. } = events[seen[seen.len() / 2]].kind else { return false };
        let goes_on = events[seen[seen.len() / 2] + 1..].iter().find_map(|event| match event.kind {
            Kind::Seen { session: of, log: in_log, .. } if of == session && in_log == log => Some(true),
            Kind::Told { session: of, log: in_log, .. } if of == session && in_log == log => Some(false),
            _ => None,
        });
        events.remove(seen[seen.len() / 2]);
        goes_on == Some(true)
    });
}

#[test]
fn a_reader_that_goes_back_without_a_word() {
    caught_by(Checker::C4, |_, events| {
        let Some(told) = position(events, |kind| matches!(kind, Kind::Told { .. })) else { return false };
        events.remove(told);
        true
    });
}

#[test]
fn a_reader_that_goes_on_behind_what_was_undone() {
    // Resumed with no epoch check: the offsets fit, and the entries in between are not the log's.
    caught_by(Checker::C4, |_, events| {
        let Some(told) =
            position(events, |kind| matches!(kind, Kind::Told { told: Told::Diverged { .. }, .. }))
        else {
            return false;
        };
        let Kind::Told { session, log, .. } = events[told].kind else { return false };
        let of_reader = |event: &Event| match event.kind {
            Kind::Seen { session: of, log: in_log, at, .. } if of == session && in_log == log => {
                Some(at.offset)
            }
            _ => None,
        };
        let Some(stood) = events[..told].iter().rev().find_map(of_reader) else { return false };
        let mut at = 0;
        events.retain(|event| {
            at += 1;
            at <= told || of_reader(event).is_none_or(|offset| offset > stood)
        });
        let goes_on = events[told..].iter().any(|event| of_reader(event).is_some());
        events.remove(told);
        goes_on
    });
}

#[test]
fn a_reader_that_ends_on_an_undone_entry() {
    caught_by(Checker::C4, |_, events| {
        let Some(told) = last(events, |kind| matches!(kind, Kind::Told { told: Told::Diverged { .. }, .. }))
        else {
            return false;
        };
        let Kind::Told { session: of, log: in_log, .. } = events[told].kind else { return false };
        let mut at = 0;
        events.retain(|event| {
            at += 1;
            at <= told
                || !matches!(event.kind, Kind::Seen { session, log, .. } | Kind::ReplicatedUpTo { session, log, .. } if session == of && log == in_log)
        });
        events.remove(told);
        true
    });
}
