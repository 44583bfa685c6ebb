//! What accounts ask of the directory: names that are unique in the world, and the keys of nodes.

use async_trait::async_trait;
use types::{Home, Name, Refusal, UserId, VerifyingKey};

/// Whose a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameOwner {
    /// The user; of a freed one: the last.
    pub user: UserId,
    /// How far the name is that user's.
    pub standing: NameStanding,
}

/// How far a name is its user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameStanding {
    /// The user's account may or may not come to have it.
    Claimed {
        /// Since when, in ms since 1970.
        at_ms: u64,
    },
    /// The user's account has it.
    Held,
    /// Nobody has it any more.
    Freed {
        /// Since when, in ms since 1970.
        at_ms: u64,
    },
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// All names are the user's now, or were before.
    Yours,
    /// None is: this one is not to be had.
    Taken {
        /// Which.
        name: Name,
        /// Whose it is.
        by: NameOwner,
    },
}

/// Names that are unique in the world, and the keys of nodes, in the directory. Each call may be repeated.
#[async_trait]
pub trait Names: Send + Sync + 'static {
    /// Claims names for a user, all or none; those that were freed up to a time, in ms since 1970, are free.
    ///
    /// # Errors
    /// `directory_unavailable`.
    async fn claim(&self, names: &[Name], user: &UserId, freed_before_ms: u64) -> Result<Claim, Refusal>;

    /// The user's account has the names now.
    ///
    /// # Errors
    /// `conflict`: they are not the user's; or `directory_unavailable`.
    async fn hold(&self, names: &[Name], user: &UserId) -> Result<(), Refusal>;

    /// Claims names of a user whose account can never begin.
    ///
    /// # Errors
    /// `directory_unavailable`.
    async fn take_over(&self, names: &[Name], user: &UserId, from: &UserId) -> Result<Claim, Refusal>;

    /// The user's account has the names no more, or never will.
    ///
    /// # Errors
    /// `directory_unavailable`.
    async fn release(&self, names: &[Name], user: &UserId) -> Result<(), Refusal>;

    /// Whose the names are, in their order, read linearizably.
    ///
    /// # Errors
    /// `directory_unavailable`.
    async fn resolve(&self, names: &[Name]) -> Result<Vec<Option<NameOwner>>, Refusal>;

    /// A node signs with this key from now on.
    ///
    /// # Errors
    /// `conflict`: the boot is over; or `directory_unavailable`.
    async fn publish_key(&self, node: &Home, key: &VerifyingKey) -> Result<(), Refusal>;
}
