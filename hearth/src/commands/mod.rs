//! One module per command: its arguments, and `run`.

pub mod account;
pub mod admin;
pub mod bench;
pub mod chat;
pub mod directory;
mod edges;
pub mod lab;
pub mod node;
pub mod replicator;
mod screen;
pub mod send;
mod session;
pub mod tail;
mod told;
pub mod up;
