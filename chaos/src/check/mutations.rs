//! Each class of corruption, put into clean histories of the model: the right checker must answer.

mod entries;
mod homes;
mod readers;

use super::{Checker, all, generated::clean};
use crate::history::{Ack, BodySum, Event, History, Kind, LogSum, Message, Resends, Told};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::LazyLock,
};
use types::{Epoch, Lsn, Offset, Position};

const SEEDS: u64 = 16;

static CLEAN: LazyLock<Vec<History>> = LazyLock::new(|| (0..SEEDS).map(clean).collect());

#[test]
fn clean_histories_pass() {
    for (seed, history) in CLEAN.iter().enumerate() {
        let violations = all(history);
        assert!(violations.is_empty(), "seed {seed}: {}", violations[0]);
    }
}

/// Corrupts a clean history of every seed that gives `corrupt` something to work on, and expects `checker` to
/// answer each time.
fn caught_by(checker: Checker, corrupt: impl Fn(&History, &mut Vec<Event>) -> bool) {
    let mut corrupted = 0;
    for (seed, history) in CLEAN.iter().enumerate() {
        let mut events = history.events().to_vec();
        if !corrupt(history, &mut events) {
            continue;
        }
        corrupted += 1;
        let history = History::new(history.header().clone(), events).expect("still a history");
        let violations = checker.check(&history);
        assert!(!violations.is_empty(), "seed {seed}: {checker} found nothing");
        let events = violations.iter().flat_map(|violation| &violation.events);
        assert!(events.max() < Some(&history.events().len()), "seed {seed}: a violation points nowhere");
    }
    assert!(corrupted * 4 > SEEDS, "only {corrupted} of {SEEDS} histories could be corrupted");
}

fn position(events: &[Event], wanted: impl Fn(&Kind) -> bool) -> Option<usize> {
    events.iter().position(|event| wanted(&event.kind))
}

fn last(events: &[Event], wanted: impl Fn(&Kind) -> bool) -> Option<usize> {
    events.iter().rposition(|event| wanted(&event.kind))
}

/// Writes the summaries anew, from the entries of the one replica that tells them: all copies are equal again.
fn agree(events: &mut [Event]) {
    let mut sums: BTreeMap<_, LogSum> = BTreeMap::new();
    for event in events.iter() {
        if let Kind::Held { log, at, message, body, .. } = &event.kind {
            sums.entry(*log).or_default().add(*at, *message, *body);
        }
    }
    for event in events {
        if let Kind::FinalLog { log, entries, sum, .. } = &mut event.kind {
            let told = sums.entry(*log).or_default();
            (*entries, *sum) = (told.entries(), told.sum());
        }
    }
}

fn is_acked(events: &[Event], of: Message, level: Option<Ack>) -> bool {
    events.iter().any(|event| {
        matches!(event.kind, Kind::Ok { message, ack, .. } if message == of && level.is_none_or(|level| level == ack))
    })
}
