//! C3: no message is in a log twice.
//!
//! Looked for in every known copy, in what each reader holds at any time, and among all positions of one
//! (generation, epoch): in one epoch a log only grows, so that two places of one message in it are both true.
//! At different epochs a message may have several places, one after the other: it was undone and came back.

use super::{Checker, Found, Violation, finals::Finals};
use crate::history::{History, Kind, Log, Message, Session, Told};
use std::collections::{BTreeMap, HashMap, HashSet};
use types::Position;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C3);
    in_copies(history, &mut found);
    let moved = in_eras(history, &mut found);
    at_readers(history, &moved, &mut found);
    found.done()
}

fn in_copies(history: &History, found: &mut Found) {
    for ((log, node), copy) in &Finals::of(history).copies {
        let mut at = HashMap::with_capacity(copy.len());
        for held in copy {
            if let Some(first) = at.insert(held.message, held.event) {
                let message = held.message;
                found.add([first, held.event], || format!("{message} is in {log} twice at {node}"));
            }
        }
    }
}

/// Finds two places in one era; answers the messages that have more than one place at all.
fn in_eras(history: &History, found: &mut Found) -> HashSet<Message> {
    let mut first: Vec<Option<(Position, usize)>> = vec![None; history.names().messages().len()];
    let mut others: HashMap<Message, BTreeMap<Position, usize>> = HashMap::new();
    for (event, happened) in history.events().iter().enumerate() {
        let (message, at) = match &happened.kind {
            Kind::Ok { message, at, .. }
            | Kind::Seen { message, at, .. }
            | Kind::Held { message, at, .. }
            | Kind::Archived { message, at, .. } => (*message, *at),
            _ => continue,
        };
        match first[message.index()] {
            None => first[message.index()] = Some((at, event)),
            Some((known, _)) if known == at => {}
            Some((known, known_event)) => {
                let places = others.entry(message).or_insert_with(|| BTreeMap::from([(known, known_event)]));
                if places.contains_key(&at) {
                    continue;
                }
                if let Some((twin, twin_event)) = places.iter().find(|(twin, _)| twin.era() == at.era()) {
                    found.add([*twin_event, event], || format!("{message} stands at {twin} and at {at}"));
                }
                places.insert(at, event);
            }
        }
    }
    others.into_keys().collect()
}

fn at_readers(history: &History, moved: &HashSet<Message>, found: &mut Found) {
    let mut holds: HashMap<(Session, Log), HashMap<Message, (u64, usize)>> = HashMap::new();
    for (event, happened) in history.events().iter().enumerate() {
        match &happened.kind {
            Kind::Follow { session, log, .. } => drop(holds.remove(&(*session, *log))),
            Kind::Told { session, log, told: Told::Diverged { common } } => {
                if let Some(held) = holds.get_mut(&(*session, *log)) {
                    held.retain(|_, (offset, _)| *offset <= *common);
                }
            }
            Kind::Seen { session, log, at, message, .. } if moved.contains(message) => {
                let offset = at.offset.get();
                let held = holds.entry((*session, *log)).or_default();
                if let Some((other, first)) = held.insert(*message, (offset, event))
                    && other != offset
                {
                    found.add([first, event], || {
                        format!("{session} holds {message} of {log} at offsets {other} and {offset}")
                    });
                }
            }
            _ => {}
        }
    }
}
