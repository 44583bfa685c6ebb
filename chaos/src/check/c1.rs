//! C1: (log, generation, epoch, offset) names one message everywhere.
//!
//! Everywhere: in acks, at readers, in archives and in every replica's final state. Two messages, or two bodies
//! of one message, at the same position are two records of one name: the same epoch was written twice. A body that was
//! taken away is no other body.

use super::{Checker, Found, Violation, writes::Writes};
use crate::history::{BodySum, History, Kind, Log, Message};
use std::collections::{HashMap, hash_map::Entry};
use types::Position;

/// What stands at a position, and the event that said so first.
struct Named {
    message: Message,
    body: Option<BodySum>,
    event: usize,
}

pub(super) fn check(history: &History) -> Vec<Violation> {
    let writes = Writes::of(history);
    let mut found = Found::new(Checker::C1);
    let mut named: HashMap<(Log, Position), Named> = HashMap::new();
    for (event, happened) in history.events().iter().enumerate() {
        let (message, at, body) = match &happened.kind {
            Kind::Ok { message, at, .. } | Kind::Archived { message, at, .. } => {
                (*message, *at, writes.get(*message).invoked.map(|invoked| invoked.body))
            }
            Kind::Seen { message, at, body, .. }
            | Kind::Paged { message, at, body, .. }
            | Kind::Held { message, at, body, .. } => (*message, *at, Some(*body)),
            _ => continue,
        };
        let body = body.filter(|body| *body != BodySum::ERASED);
        let log = history.names().message(message).log;
        match named.entry((log, at)) {
            Entry::Vacant(vacant) => drop(vacant.insert(Named { message, body, event })),
            Entry::Occupied(mut occupied) => {
                let first = occupied.get_mut();
                if first.message != message {
                    let other = first.message;
                    found.add([first.event, event], || format!("{at} of {log} is {other} and {message}"));
                } else if let (Some(one), Some(other)) = (first.body, body)
                    && one != other
                {
                    found.add([first.event, event], || format!("{message} at {at} of {log} has two bodies"));
                }
                first.body = first.body.or(body);
            }
        }
    }
    found.done()
}
