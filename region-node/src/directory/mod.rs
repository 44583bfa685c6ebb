//! What a node says to the directory and hears from it.
//!
//! ```text
//!   registration ── Register ─► incarnation ── Renew every second ─► lease ── refused ─► Register again
//!   watch ───────── WatchPlacement: a snapshot, then deltas ─► PlacementView
//!   pins, in-sync proposals, where a log is written from: asked or told when needed
//!   the node is to end ── Leave, again and again ─► its homes move elsewhere ─► it ends
//! ```

mod client;
mod leaving;
mod names;
mod pin_reads;
mod pins;
mod registration;
mod tries;
mod watch;

pub use client::Directory;
pub(crate) use client::is_answer;
pub use leaving::HandOver;
pub use names::DirectoryNames;
pub use pins::DirectoryPins;
pub use registration::{Registration, StoreCanary};
pub use watch::watch_placement;
