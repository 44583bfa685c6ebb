//! How hash maps are seeded.

use crate::machine::installed;
use foldhash::fast::FoldHasher;
use std::hash::BuildHasher;

/// Seeds foldhash anew for each map, so that nobody can aim at one; always alike under a simulation, whose
/// runs must not depend on addresses.
#[derive(Debug, Clone)]
pub struct RandomState(foldhash::fast::SeedableRandomState);

impl Default for RandomState {
    fn default() -> Self {
        Self(match installed() {
            Some(_) => foldhash::fast::SeedableRandomState::fixed(),
            None => foldhash::fast::SeedableRandomState::random(),
        })
    }
}

impl BuildHasher for RandomState {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// A map of quick hashes.
pub type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;
/// A set of quick hashes.
pub type HashSet<K> = std::collections::HashSet<K, RandomState>;
