//! What replicators and the directory ask of this node.
//!
//! ```text
//!   replicator ── Fetch ─► home      match check, durability report, credit; answered by batches
//!   replicator ── Follow ► follower  probe, batch, cut-off; answered by what is durable
//!   directory ─── Fence ─► store     raised before a new home is named
//!   directory ─ AwaitSeal ► store    the target of a planned move tells when it holds SEAL
//!   directory ─── Seal, Import ─► home   one log leaves a partition, and goes on in another
//! ```

mod fence;
mod fetch;
mod fetched;
mod follow;
mod pace;
mod rehoming;
mod replies;
mod seal;
mod status;

pub use fetch::Fetches;
pub use status::StatusBoard;

pub(crate) use fence::fence;
pub(crate) use follow::follow;
pub(crate) use rehoming::Rehomings;
pub(crate) use seal::{await_seal, sealed_by};
