//! Bugs that tests plant, to see that the checkers find them.
//!
//! Each stands at the one place in the product where its rule is kept, which asks [`is_planted`]. Without
//! the feature `test-switches` that is `false` at compile time, and nothing is left of it.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $bug:ident = $name:literal,)+) => {
        /// A rule that is broken on purpose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[doc = $doc])+ $bug,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)+];

            /// Its name on a command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)+
                }
            }
        }
    };
}

bugs! {
    /// A store takes appends below its fence.
    SkipFenceCheck = "skip-fence-check",
    /// A store answers before its sync.
    AckBeforeFsync = "ack-before-fsync",
    /// A divergent tail is truncated though nothing of it was archived.
    TruncateBeforeArchive = "truncate-before-archive",
    /// A truncation does not look at the fence.
    TruncateUnfenced = "truncate-unfenced",
    /// A home that has sealed its epoch goes on writing in it.
    ReopenSealedEpoch = "reopen-sealed-epoch",
    /// A node acts as home because its view of the placement says so, whatever its lease says.
    TrustCachedRoute = "trust-cached-route",
    /// A follower's report counts though its last record was not matched.
    CountUnmatched = "count-unmatched",
    /// A follower joins the in-sync set below the bar.
    JoinBelowBar = "join-below-bar",
    /// The in-sync set shrinks to one region.
    ShrinkToOne = "shrink-to-one",
    /// A change of home forgets which bumped incarnations are to be waited for.
    ForgetWaiting = "forget-waiting",
    /// A position is compared by its offset alone.
    ResumeUnchecked = "resume-unchecked",
    /// A truncation keeps what was derived from the records that it cuts.
    KeepDerived = "keep-derived",
}

impl std::str::FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().copied().find(|bug| bug.name() == name);
        found.ok_or_else(|| format!("no bug is named {name:?}; there are {}", names()))
    }
}

impl std::fmt::Display for Bug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Which bug is planted in this process.
#[cfg(feature = "test-switches")]
static PLANTED: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// Plants a bug for the rest of the process. A second one is not planted: of two, nobody would know which
/// was found.
#[cfg(feature = "test-switches")]
pub fn plant(bug: Bug) {
    let _ = PLANTED.set(bug);
}

/// Whether a bug is planted.
#[cfg(feature = "test-switches")]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(&bug)
}

/// Whether a bug is planted: never, in this build.
#[cfg(not(feature = "test-switches"))]
pub const fn is_planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bug_is_planted_and_found_by_its_name() {
        let bug: Bug = "skip-fence-check".parse().expect("a name");
        assert!(!is_planted(bug));
        plant(bug);
        plant(Bug::KeepDerived);
        assert!(is_planted(Bug::SkipFenceCheck) && !is_planted(Bug::KeepDerived));
        assert!("no-such".parse::<Bug>().expect_err("none").contains("keep-derived"));
    }
}
