//! Effects: what an entry of one log does to another log, or to what other partitions hold of its own.

use crate::{Generation, LogId, Offset, Position};

/// Where an effect goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectTarget {
    /// The log.
    pub log: LogId,
    /// The generation whose partition takes it; zero: the one in which the log is written then.
    pub stretch: Generation,
}

/// What is done there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectAct {
    /// The bodies at these offsets of the stretch are erased, from every store.
    Erase {
        /// Ascending, without repeats; at most [`crate::limits::DELETED_OFFSETS_MAX`].
        offsets: Vec<Offset>,
    },
    /// The user of the target, an account log, is a member of the chat that is the cause's log.
    Joined,
    /// The user is none any more.
    Left,
    /// The user of the cause's log, an account log, has closed the account: the target, a chat, is left, by an entry of
    /// its own.
    Gone,
    /// The user of the cause's log, an account log, takes nothing any more of the other one of the target, a direct chat.
    Blocked,
    /// The user does again.
    Unblocked,
}

/// One effect, from its cause to its target.
///
/// Invariant: the effects of one log on one target are taken in the order of their causes, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The log of the entry that causes it.
    pub cause_log: LogId,
    /// That entry. It is `replicated`, so nothing takes it back.
    pub cause: Position,
    /// Where the effect goes.
    pub target: EffectTarget,
    /// What is done there.
    pub act: EffectAct,
}

/// An effect in the fold of its cause's log: it stays until it is `replicated` at its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEffect {
    /// The entry that causes it.
    pub cause: Position,
    /// Where it goes.
    pub target: EffectTarget,
    /// What is done there.
    pub act: EffectAct,
}
