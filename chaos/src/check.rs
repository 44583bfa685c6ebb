//! The checkers C1 … C13: each a pure function from a history to what is wrong with it.
//!
//! | | what must hold |
//! |---|---|
//! | C1 | (log, generation, epoch, offset) names one message everywhere |
//! | C2 | every acked message is there in the end, and none that was refused |
//! | C3 | no message is in a log twice |
//! | C4 | no reader skips or goes back except after `diverged`, and none keeps what was undone unknowingly |
//! | C5 | a message acked before another was sent precedes it, unless it came back after it was undone |
//! | C6 | nothing is acked in an epoch after the first ack of a later one |
//! | C7 | every published watermark is contained in every later home, and in the end everywhere |
//! | C8 | after healing all replicas are equal |
//! | C9 | every partition that a fault hit accepts writes again; and how soon |
//! | C10 | planned moves fail no write |
//! | C11 | who is removed from a chat is given nothing that comes after |
//! | C12 | what was deleted is gone in the end |
//! | C13 | what a user has read on one device, all replicas know in the end |
//!
//! A checker is sound: what it reports cannot happen in a system that keeps DESIGN's promises, however late
//! its messages are. Each is linear in the history, up to a sort.

mod c1;
mod c10;
mod c11;
mod c12;
mod c13;
mod c2;
mod c3;
mod c4;
mod c5;
mod c6;
mod c7;
mod c8;
mod c9;
mod finals;
#[cfg(test)]
pub(crate) mod generated;
#[cfg(test)]
mod mutations;
mod writes;

pub use c2::{AtRisk, at_risk};
pub use c9::{Recovery, recoveries};
pub use c10::{MovePause, move_pauses};

use crate::history::History;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Violations of one checker that are kept; the rest are only counted.
const VIOLATIONS_MAX: usize = 100;

/// A checker, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Checker {
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
    C8,
    C9,
    C10,
    C11,
    C12,
    C13,
}

impl Checker {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::C1,
        Self::C2,
        Self::C3,
        Self::C4,
        Self::C5,
        Self::C6,
        Self::C7,
        Self::C8,
        Self::C9,
        Self::C10,
        Self::C11,
        Self::C12,
        Self::C13,
    ];

    /// What it checks.
    pub const fn promise(self) -> &'static str {
        match self {
            Self::C1 => "a position names one message everywhere",
            Self::C2 => "every acked message is there, and none that was refused",
            Self::C3 => "no message is in a log twice",
            Self::C4 => "no reader skips or goes back unless it was told diverged",
            Self::C5 => "a message acked before another was sent precedes it",
            Self::C6 => "nothing is acked in an epoch after the first ack of a later one",
            Self::C7 => "every published watermark is contained in every later home",
            Self::C8 => "after healing all replicas are equal",
            Self::C9 => "every partition that a fault hit accepts writes again",
            Self::C10 => "planned moves fail no write",
            Self::C11 => "who is removed from a chat is given nothing that comes after",
            Self::C12 => "what was deleted is gone in the end",
            Self::C13 => "what a user has read on one device, all replicas know in the end",
        }
    }

    /// What is wrong with a history.
    pub fn check(self, history: &History) -> Vec<Violation> {
        match self {
            Self::C1 => c1::check(history),
            Self::C2 => c2::check(history),
            Self::C3 => c3::check(history),
            Self::C4 => c4::check(history),
            Self::C5 => c5::check(history),
            Self::C6 => c6::check(history),
            Self::C7 => c7::check(history),
            Self::C8 => c8::check(history),
            Self::C9 => c9::check(history),
            Self::C10 => c10::check(history),
            Self::C11 => c11::check(history),
            Self::C12 => c12::check(history),
            Self::C13 => c13::check(history),
        }
    }
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::C1 => "C1",
            Self::C2 => "C2",
            Self::C3 => "C3",
            Self::C4 => "C4",
            Self::C5 => "C5",
            Self::C6 => "C6",
            Self::C7 => "C7",
            Self::C8 => "C8",
            Self::C9 => "C9",
            Self::C10 => "C10",
            Self::C11 => "C11",
            Self::C12 => "C12",
            Self::C13 => "C13",
        })
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Who found it.
    pub checker: Checker,
    /// What is wrong.
    pub what: String,
    /// The events that show it, by their place in [`History::events`]; in the file that is two lines further.
    pub events: Vec<usize>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.what)
    }
}

/// Everything that is wrong with a history.
pub fn all(history: &History) -> Vec<Violation> {
    Checker::ALL.into_iter().flat_map(|checker| checker.check(history)).collect()
}

/// What one checker has found so far.
struct Found {
    checker: Checker,
    violations: Vec<Violation>,
    more: usize,
}

impl Found {
    fn new(checker: Checker) -> Self {
        Self { checker, violations: Vec::new(), more: 0 }
    }

    fn add(&mut self, events: impl IntoIterator<Item = usize>, what: impl FnOnce() -> String) {
        if self.violations.len() < VIOLATIONS_MAX {
            let events = events.into_iter().collect();
            self.violations.push(Violation { checker: self.checker, what: what(), events });
        } else {
            self.more += 1;
        }
    }

    fn done(mut self) -> Vec<Violation> {
        if self.more > 0 {
            let what = format!("and {} more of this kind", self.more);
            self.violations.push(Violation { checker: self.checker, what, events: Vec::new() });
        }
        self.violations
    }
}
