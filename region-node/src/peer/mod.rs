//! What nodes say to each other: one long-lived stream per pair, opened by the one that asks.
//!
//! A stream carries forwarded writes, reads, position checks and the bus. The server answers what this
//! node holds and never forwards, so a request takes at most one hop.

pub(crate) mod client;
mod server;
pub(crate) mod wire;

pub(crate) use client::{Answer, Channel, Peers};
pub(crate) use server::serve;
