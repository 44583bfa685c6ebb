//! A node of a region: the edge, the router, the homes and followers that it holds, delivery.
//!
//! ```text
//!   clients ── edge ── router ──┬── home     (core, one per partition) ── LogStore ── fetched by replicators
//!                │              └── peer ══ other nodes' homes
//!                └── delivery ── bus (local and over peer)
//!                                     follower (core) ── LogStore ── fed by this region's replicator
//! ```
//!
//! Whoever routes may be wrong: only the lease of this incarnation and the store's fence let a write be
//! acked. [`service`] is the seam between the two halves.

mod accounts;
pub mod bus;
mod canary;
pub mod clock;
mod config;
mod delivery;
pub mod directory;
mod edge;
pub mod follower;
mod grpc;
mod health;
pub mod home;
pub mod lease;
pub mod live;
mod node;
mod parts;
mod peer;
mod rates;
pub mod ready;
mod reclaim;
pub mod replica;
pub mod replication;
pub mod reply;
mod router;
mod salvage;
pub mod service;
mod sync;
mod view;

pub use accounts::{AccountRate, AccountRates};
pub use config::{Config, Engine};
#[cfg(feature = "bench")]
pub use delivery::FanOut;
pub use edge::{Connection, Edge, EdgeListener};
pub use node::{Deps, Error, run};
pub use parts::{Parts, PeerReplies, PeerService};
pub use view::PlacementView;
