//! The partitions whose home this node is.
//!
//! [`core`] decides; a shard, one task for many partitions, feeds the cores and does what they say;
//! [`Feed`] is what replicators see of an open home.

mod calls;
mod canary;
pub mod core;
mod expected;
mod feed;
mod follow;
mod homes;
mod jobs;
mod shard;
mod sinks;
mod switches;

pub use feed::{Behind, Bell, Feed, OpenHomes, Rung, Standing};
pub(crate) use homes::not_home;
pub use homes::{HomeDeps, NodeHomes, Report};
