//! What happened in a run, as far as anyone outside the servers can know it.
//!
//! A history is a header and a list of [`Event`]s on one clock, in the order of that clock. Real runs and
//! simulated ones record the very same events, and the checkers see nothing else.
//!
//! Things are **named before they are used**: regions, nodes, logs, devices, sessions and messages are numbered
//! densely from 0 in the order in which they first appear, and every later event says the number. A [`Recorder`]
//! does that by itself.
//!
//! As a file it is JSON lines: the header with its version first, then an event a line. [`History::read`] checks
//! what it reads ([`HistoryError`] names the line).
//!
//! ```text
//!   invoke ──▶ ok(home) ──▶ ok(replicated)     a write ends in ok, fail or indeterminate; an ok may follow
//!      │                                       an indeterminate one, since its device sends it again;
//!      ├─────▶ fail: it is proven not to be    fail is the last word
//!      │       in the log
//!      └─────▶ indeterminate ─▶ …
//! ```

mod kind;
mod names;
mod read;
mod recorder;
mod sum;
mod triple;

pub use kind::{Ack, Kind, MoveEnd, Resends, Told};
pub use names::{DeviceName, LogName, MessageName, Names, NodeName, SessionName};
pub use read::HistoryError;
pub use recorder::Recorder;
pub use sum::{BodySum, LogSum};

use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the file format that is written, and the only one that is read.
pub const VERSION: u32 = 1;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into a table of all of them.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), " {}"), self.0)
            }
        }
    )*};
}

numbers! {
    /// A region of this history.
    Region,
    /// A node of this history.
    Node,
    /// A log of this history.
    Log,
    /// A user's device.
    Device,
    /// One reader of one or many logs, from when it began to follow until it ended: a session of a device.
    Session,
    /// One message (or control entry): its log, its device and its message id.
    Message,
    /// A fault that was injected.
    Fault,
    /// A planned move.
    Move,
}

/// What a whole history is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// See [`VERSION`].
    pub hearth_history: u32,
    /// What ran: a scenario's name.
    pub scenario: String,
    /// Decides the schedule of faults.
    pub seed: u64,
    /// The events come from a simulation.
    pub simulated: bool,
}

impl Header {
    /// A header of the present version.
    pub fn new(scenario: impl Into<String>, seed: u64, simulated: bool) -> Self {
        Self { hearth_history: VERSION, scenario: scenario.into(), seed, simulated }
    }
}

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// µs on the run's clock; never less than that of the event before.
    #[serde(rename = "t")]
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: Kind,
}

/// A whole run, checked when it was put together: see [`HistoryError`] for what never occurs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    header: Header,
    events: Vec<Event>,
    names: Names,
}

impl History {
    /// What it is about.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Everything that happened, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Who is who.
    pub const fn names(&self) -> &Names {
        &self.names
    }
}
