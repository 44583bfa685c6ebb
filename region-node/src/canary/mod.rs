//! Canaries: whether nodes of other regions can have writes acked, as clients would find out.
//!
//! ```text
//!   observer (a node of another region)                     the node that is watched
//!   ───────────────────────────────────                     ────────────────────────
//!   every interval, a connection of its own ──WAN──▶ the port that clients use
//!                                                      every shard of homes answers,
//!                                                      one of them from behind the store's writer and its sync
//!        ack ◀──────────────────────────────────────── the lease still runs
//!   what it found out goes to the directory with its next renewal
//! ```
//!
//! A canary takes the way of a write and leaves nothing behind: a few bytes in the store's segments, gone with
//! them, that no log, follower, chat list or count of messages knows of. Each node is watched by at most
//! [`OBSERVERS_PER_REGION`] nodes of every other region, so that the writes it costs are bounded. What follows
//! from what observers see is for the directory to decide.

mod observer;
mod probe;
mod service;

pub(crate) use observer::Observer;
pub(crate) use probe::Watcher;
pub(crate) use service::CanaryService;

/// How many nodes of a region watch the same node.
const OBSERVERS_PER_REGION: usize = 2;
