//! The final state: what each replica tells of each log after healing.

use crate::history::{BodySum, History, Kind, Log, Message, Node};
use std::collections::BTreeMap;
use types::Position;

/// One entry of a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) event: usize,
    pub(super) at: Position,
    pub(super) message: Message,
    pub(super) body: BodySum,
}

/// A replica's summary of a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    pub(super) event: usize,
    pub(super) entries: u64,
    pub(super) sum: u64,
}

/// All copies that a history tells of.
#[derive(Default)]
pub(super) struct Finals {
    /// Copies of which every entry is known, by log and replica.
    pub(super) copies: BTreeMap<(Log, Node), Vec<Held>>,
    /// Summaries, by log and replica.
    pub(super) summaries: BTreeMap<(Log, Node), Summary>,
}

impl Finals {
    pub(super) fn of(history: &History) -> Self {
        let mut finals = Self::default();
        for (event, happened) in history.events().iter().enumerate() {
            match &happened.kind {
                Kind::Held { node, log, at, message, body } => {
                    let held = Held { event, at: *at, message: *message, body: *body };
                    finals.copies.entry((*log, *node)).or_default().push(held);
                }
                Kind::FinalLog { node, log, entries, sum } => {
                    let summary = Summary { event, entries: *entries, sum: *sum };
                    finals.summaries.insert((*log, *node), summary);
                    if *entries == 0 {
                        finals.copies.entry((*log, *node)).or_default();
                    }
                }
                _ => {}
            }
        }
        finals
    }

    /// The copies of one log.
    pub(super) fn of_log(&self, log: Log) -> impl Iterator<Item = (Node, &[Held])> {
        let range = (log, Node(0))..=(log, Node(u32::MAX));
        self.copies.range(range).map(|((_, node), held)| (*node, held.as_slice()))
    }

    /// Whether a copy of the log is known.
    pub(super) fn tells(&self, log: Log) -> bool {
        self.of_log(log).next().is_some()
    }
}
