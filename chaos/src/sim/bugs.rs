//! Which checker must find which planted bug.

use super::fault::Mix;
use crate::check::Checker;
use host::planted::Bug;

/// A planted bug with the checkers whose business it is; one of them must find it.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The rule that is broken.
    pub bug: Bug,
    /// Who finds that.
    pub by: &'static [Checker],
    /// The seed that shows it.
    pub(super) known: u64,
    /// In which runs it can come to light.
    mixes: &'static [Mix],
}

impl Expected {
    /// Those of the standard seeds from `from` on whose faults are aimed at the rule, or at more than that.
    pub fn seeds(self, from: u64) -> impl Iterator<Item = u64> {
        (from..).filter(move |seed| self.mixes.contains(&Mix::of(*seed)))
    }

    /// The line of a run's verdict that shows the bug.
    pub fn found(self, verdict: &str) -> Option<&str> {
        verdict.lines().find(|line| self.by.iter().any(|by| line.starts_with(&format!("{by}:"))))
    }
}

/// All bugs.
pub const EXPECTED: &[Expected] = {
    use Checker::{C1, C2, C3, C4, C6, C7, C8, C9};
    use Mix::{AloneThenLost, FencedUnderWay, JoinedEarly, JudgedLate, MovedUnheard, Rolling, Unsynced};
    &[
        Expected { bug: Bug::SkipFenceCheck, by: &[C2, C7], known: 41, mixes: &[FencedUnderWay] },
        Expected { bug: Bug::AckBeforeFsync, by: &[C1, C2, C7], known: 1, mixes: &[Unsynced] },
        Expected { bug: Bug::TruncateBeforeArchive, by: &[C2], known: 4, mixes: &[Rolling] },
        Expected { bug: Bug::TruncateUnfenced, by: &[C2, C7, C8, C9], known: 91, mixes: &[JudgedLate] },
        Expected { bug: Bug::ReopenSealedEpoch, by: &[C6], known: 105, mixes: &[MovedUnheard] },
        Expected { bug: Bug::TrustCachedRoute, by: &[C6], known: 4, mixes: &[Rolling] },
        Expected { bug: Bug::CountUnmatched, by: &[C1, C2, C7], known: 27, mixes: &[JudgedLate] },
        Expected { bug: Bug::JoinBelowBar, by: &[C2, C7], known: 22, mixes: &[JoinedEarly] },
        Expected { bug: Bug::ShrinkToOne, by: &[C2, C7], known: 19, mixes: &[AloneThenLost] },
        Expected { bug: Bug::ForgetWaiting, by: &[C6], known: 4, mixes: &[Rolling] },
        Expected { bug: Bug::ResumeUnchecked, by: &[C4], known: 4, mixes: &[Rolling] },
        Expected { bug: Bug::KeepDerived, by: &[C2, C3, C8, C9], known: 4, mixes: &[Rolling] },
    ]
};
