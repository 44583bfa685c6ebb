//! Which checker must find which planted bug.

use crate::check::Checker;
use host::planted::Bug;

/// A planted bug with the checkers whose business it is; one of them must find it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) bug: Bug,
    pub(super) by: &'static [Checker],
}

/// All bugs whose flows a run has.
pub(super) const EXPECTED: &[Expected] = {
    use Checker::{C1, C2, C3, C4, C6, C7, C8, C9};
    &[
        Expected { bug: Bug::SkipFenceCheck, by: &[C1, C2, C6, C7, C8] },
        Expected { bug: Bug::AckBeforeFsync, by: &[C1, C2, C7] },
        Expected { bug: Bug::TruncateBeforeArchive, by: &[C2] },
        Expected { bug: Bug::TruncateUnfenced, by: &[C2, C7, C8] },
        Expected { bug: Bug::TrustCachedRoute, by: &[C6] },
        Expected { bug: Bug::CountUnmatched, by: &[C1, C2, C7] },
        Expected { bug: Bug::JoinBelowBar, by: &[C2, C7] },
        Expected { bug: Bug::ShrinkToOne, by: &[C2, C7] },
        Expected { bug: Bug::ForgetWaiting, by: &[C6] },
        Expected { bug: Bug::ResumeUnchecked, by: &[C4] },
        Expected { bug: Bug::KeepDerived, by: &[C2, C3, C8, C9] },
    ]
};
