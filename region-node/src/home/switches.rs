//! Places where a test can hold a home still: between the rules and the store, and between the store and
//! the lease check. Only in builds for tests; otherwise nothing is ever held.
//!
//! `HEARTH_TEST_HOLD` names a folder. While it has a file `before-append` (`before-ack`) homes hold there, or those
//! of one node while it has `before-append@NODE`, and tell in the file `held-before-append` (`held-before-ack`) how
//! many writes they hold.

#[cfg(feature = "test-switches")]
use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};
use types::NodeId;

/// What each shard holds at each place.
#[cfg(feature = "test-switches")]
static HELD: [[AtomicUsize; super::homes::SHARDS_MAX]; 2] =
    [const { [const { AtomicUsize::new(0) }; super::homes::SHARDS_MAX] }; 2];

/// Where a home can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Sequenced, and not handed to the store.
    BeforeAppend,
    /// Durable, and not answered.
    BeforeAck,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Switches {
    #[cfg(feature = "test-switches")]
    folder: Option<PathBuf>,
    #[cfg(feature = "test-switches")]
    node: String,
}

#[cfg(feature = "test-switches")]
impl Switches {
    pub(super) fn from_environment(node: &NodeId) -> Self {
        Self { folder: std::env::var_os("HEARTH_TEST_HOLD").map(PathBuf::from), node: node.to_string() }
    }

    /// Whether to hold now.
    pub(super) fn holds(&self, hold: Hold) -> bool {
        let is_set = |folder: &PathBuf| {
            let own = format!("{}@{}", hold.file(), self.node);
            folder.join(hold.file()).exists() || folder.join(own).exists()
        };
        self.folder.as_ref().is_some_and(is_set)
    }

    /// Tells how many the shard numbered `shard` holds; the file has the sum of all shards.
    pub(super) fn tell(&self, hold: Hold, shard: usize, held: usize) {
        let Some(folder) = &self.folder else { return };
        let shards = &HELD[hold as usize];
        if shards[shard].swap(held, Ordering::Relaxed) == held {
            return;
        }
        let sum: usize = shards.iter().map(|held| held.load(Ordering::Relaxed)).sum();
        let told = folder.join(format!("held-{}", hold.file()));
        if let Err(error) = std::fs::write(&told, sum.to_string()) {
            tracing::warn!(%error, file = %told.display(), "could not tell what is held");
        }
    }
}

#[cfg(feature = "test-switches")]
impl Hold {
    const fn file(self) -> &'static str {
        match self {
            Self::BeforeAppend => "before-append",
            Self::BeforeAck => "before-ack",
        }
    }
}

#[cfg(not(feature = "test-switches"))]
impl Switches {
    pub(super) fn from_environment(_: &NodeId) -> Self {
        Self::default()
    }

    pub(super) const fn holds(&self, _: Hold) -> bool {
        false
    }

    pub(super) const fn tell(&self, _: Hold, _: usize, _: usize) {}
}
