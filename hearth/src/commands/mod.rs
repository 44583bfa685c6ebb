//! One module per command: its arguments, and `run`.

pub mod admin;
pub mod directory;
pub mod lab;
pub mod replicator;
pub mod up;
