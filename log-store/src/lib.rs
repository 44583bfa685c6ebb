//! The partition log: one ordered, fenced, durable sequence of records per partition.
//!
//! ```text
//!   home core / follower core
//!        │  append(obeys e)   fence(e)   archive_tail → truncate
//!        ▼
//!   LogStore ── fence check, dense LSNs and offsets, dedup row: one atomic step
//!        │
//!        ├── memory     models what a crash may lose; for tests and simulation
//!        └── embedded   checksummed segments are the only truth; fjall holds their fold
//! ```
//!
//! What each operation promises is written on [`LogStore`]; `conformance` holds every engine to it.
//! [`fold`] and [`locate`] are pure, so that home, follower and simulation answer alike.
#![warn(missing_docs)]

pub mod account;
mod chat;
pub mod check;
mod contract;
pub mod cursors;
pub mod devices;
pub mod effects;
pub mod embedded;
pub mod erase;
mod error;
pub mod files;
pub mod fold;
pub mod locate;
pub mod memory;
mod replicated;

pub use contract::{
    Append, Archive, ArchiveId, Deduped, Durable, Encoded, EpochBegin, LogStore, PartitionEnd,
    REFUSAL_MAX_BYTES, Reclaimed, RefusedEntry, Salvage, Scan, Settle,
};
pub use error::{AppendError, ReadError, StoreError, TailError};
pub use replicated::Replicated;
