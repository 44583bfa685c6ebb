//! What happens to a deployment while it runs.

use crate::place::{Place, Target};
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
    /// The processes of a place were killed, and its links are silent; or one node was killed.
    Killed {
        /// What was hit.
        target: Target,
    },
    /// They were stopped by SIGSTOP.
    Paused {
        /// What was hit.
        target: Target,
    },
    /// They go on.
    Resumed {
        /// What goes on.
        target: Target,
    },
    /// They were started again, and the links of their place carry.
    Started {
        /// What runs again.
        target: Target,
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
            Self::Killed { target: Target::Place(place) } => {
                write!(f, "killed {place}: its processes are gone, its links are silent")
            }
            Self::Killed { target } => write!(f, "killed {target}"),
            Self::Paused { target } => write!(f, "paused {target}"),
            Self::Resumed { target } => write!(f, "resumed {target}"),
            Self::Started { target } => write!(f, "started {target}"),
            Self::Cut { a, b, one_way } => write!(f, "cut {a} {} {b}", ends(one_way)),
            Self::Healed => write!(f, "healed all links"),
            Self::LinkChanged { a, b, one_way } => write!(f, "changed the link {a} {} {b}", ends(one_way)),
        }
    }
}
