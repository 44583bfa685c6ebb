//! The embedded engine: a partition log of our own.
//!
//! ```text
//!   <folder>/
//!     LOCK                  held while a process has the store open
//!     FORMAT                format version and store id, checksummed
//!     0000000001.segment    ┐
//!     0000000002.segment    │ the only truth: checksummed frames, in the order they were written;
//!     0000000003.segment    ┘ the last but one is being written to, the last is prepared
//!     0000000001.segment.new  one being written anew without its erased bodies; cleared at the opening
//!     fold/                 fjall: what the segments add up to, and up to where; may be lost any time
//!
//!   a frame:
//!     crc32c · length · segment · origin · group · kind · flags · "HL" · partition │ payload │ zeros to 8
//! ```
//!
//! Records, raised fences, archives, their discarding, truncations and canaries are frames. What the
//! index, the dedup rows and the states of logs say is folded from them.
//!
//! | module | holds |
//! |---|---|
//! | `frame`, `segment`, `folder` | the bytes on disk |
//! | `queue`, `staged`, `group`, `writer`, `prepare` | the way of a change to the disk |
//! | `view` | what is durable and not yet folded |
//! | `fold`, `rows`, `state_row`, `folding` | the fold |
//! | `cache`, `runs` | what was read from it lately |
//! | `index`, `read`, `encoded`, `reader` | the way of a read |
//! | `tail` | archives and truncations |
//! | `reclaim` | erasing |
//! | `recovery` | opening |
//!
//! # Invariants
//!
//! - Only the writer thread appends to segments; it acks nothing it has not synced and published.
//! - Readers see published records only, and check each frame every time.
//! - A frame is named by (segment, origin) for good; rewriting a segment changes no name.
//! - The fold's position never passes what is synced, and no body is ever in the fold.
//! - A failed sync is never repeated: the store closes.

mod cache;
mod config;
mod core;
mod encoded;
mod errors;
mod fold;
mod folder;
mod folding;
mod frame;
mod group;
mod index;
mod prepare;
mod queue;
mod read;
mod reader;
mod reclaim;
mod recovery;
mod rows;
mod runs;
mod segment;
mod staged;
mod state_row;
mod store;
mod tail;
mod view;
mod writer;

pub use config::Config;
#[cfg(feature = "test-switches")]
pub use config::Switches;
pub use store::EmbeddedStore;
