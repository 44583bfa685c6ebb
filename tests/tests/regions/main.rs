//! Integration tests on real processes. One binary: each module is one behaviour.

mod failover;
mod history;
mod order;
mod pipe;
mod replicators;
mod stalled;

/// The binary under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hearth-under-test");
