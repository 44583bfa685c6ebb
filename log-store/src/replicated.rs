//! Up to where partitions are `replicated`, as far as a store is told: a body leaves the disk for good only once
//! nothing can take its deletion back.

use std::collections::BTreeMap;
use types::{Lsn, PartitionId};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicated {
    /// The watermarks that are known.
    pub known: BTreeMap<PartitionId, Lsn>,
    /// That of every other partition.
    pub otherwise: Lsn,
}

impl Replicated {
    /// Every record counts as replicated.
    pub const fn everything() -> Self {
        Self { known: BTreeMap::new(), otherwise: Lsn::new(u64::MAX) }
    }

    /// Nothing is known to be replicated.
    pub const fn nothing() -> Self {
        Self { known: BTreeMap::new(), otherwise: Lsn::ZERO }
    }

    /// Up to where a partition is.
    pub fn watermark(&self, partition: PartitionId) -> Lsn {
        self.known.get(&partition).copied().unwrap_or(self.otherwise)
    }
}

impl Default for Replicated {
    fn default() -> Self {
        Self::everything()
    }
}
