//! Integration tests on real processes. One binary: each module is one behaviour.

mod order;

/// The binary under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hearth-under-test");
