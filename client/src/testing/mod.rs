//! A server in memory, for tests and examples of apps: no regions, no disk, faults on demand.

mod model;
mod server;

pub use model::{Fault, Model};
pub use server::FakeServer;
