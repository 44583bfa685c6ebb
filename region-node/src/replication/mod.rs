//! What replicators and the directory ask of this node.
//!
//! ```text
//!   replicator ── Fetch ─► home      match check, durability report, credit; answered by batches
//!   replicator ── Follow ► follower  probe, batch, cut-off; answered by what is durable
//!   directory ─── Fence ─► store     raised before a new home is named
//! ```

mod fence;
mod fetch;
mod fetched;
mod follow;
mod status;

pub use fetch::Fetches;
pub use status::StatusBoard;

pub(crate) use fence::fence;
pub(crate) use follow::follow;
