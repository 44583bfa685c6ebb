//! What a node says to the directory and hears from it.
//!
//! ```text
//!   registration ── Register ─► incarnation ── Renew every second ─► lease ── refused ─► Register again
//!   watch ───────── WatchPlacement: a snapshot, then deltas ─► PlacementView
//!   pins, in-sync proposals: asked when needed
//! ```

mod client;
mod pins;
mod registration;
mod watch;

pub use client::Directory;
pub(crate) use client::is_answer;
pub use pins::DirectoryPins;
pub use registration::{Registration, StoreCanary};
pub use watch::watch_placement;
