//! What happens to a deployment while it runs.

use crate::place::Place;
use serde::Serialize;
use std::fmt;

/// Something happened. As JSON: one object with `event` naming it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A process ended without having been told to.
    Exited {
        /// The process.
        process: String,
        /// How it ended.
        status: String,
        /// What it said is in this file.
        log: String,
    },
    /// The processes of a place were killed, and its links are silent.
    Killed {
        /// The place.
        place: Place,
    },
    /// They were stopped by SIGSTOP.
    Paused {
        /// The place.
        place: Place,
    },
    /// They go on.
    Resumed {
        /// The place.
        place: Place,
    },
    /// They were started again, and its links carry.
    Started {
        /// The place.
        place: Place,
    },
    /// Nothing gets from `a` to `b` any more, nor back unless `one_way`.
    Cut {
        /// One end.
        a: Place,
        /// The other end.
        b: Place,
        /// The other direction still works.
        one_way: bool,
    },
    /// No link is cut any more.
    Healed,
    /// A link behaves differently now.
    LinkChanged {
        /// One end.
        a: Place,
        /// The other end.
        b: Place,
        /// The other direction is as it was.
        one_way: bool,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = |one_way: &bool| if *one_way { "->" } else { "<->" };
        match self {
            Self::Exited { process, status, log } => {
                write!(f, "{process} HAS ENDED BY ITSELF ({status}); see {log}")
            }
            Self::Killed { place } => {
                write!(f, "killed {place}: its processes are gone, its links are silent")
            }
            Self::Paused { place } => write!(f, "paused {place}"),
            Self::Resumed { place } => write!(f, "resumed {place}"),
            Self::Started { place } => write!(f, "started {place}"),
            Self::Cut { a, b, one_way } => write!(f, "cut {a} {} {b}", ends(one_way)),
            Self::Healed => write!(f, "healed all links"),
            Self::LinkChanged { a, b, one_way } => write!(f, "changed the link {a} {} {b}", ends(one_way)),
        }
    }
}
