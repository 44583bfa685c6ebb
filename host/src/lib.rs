//! What a process takes from its machine: clocks, TCP, randomness, the number of cores.
//!
//! ```text
//!   services, SDK ──▶ host ──▶ the machine itself, unless
//!                        └───▶ a Machine that was installed: a simulation's
//! ```
//!
//! Services take these things from here and from nowhere else, so that a simulation runs their very code.
//! There is one [`Machine`] per process, installed before anything else runs, or none; asking whether there
//! is one costs a load and a branch. Timers are tokio's, whose clock a simulation holds by itself.

pub mod clock;
mod hash;
mod machine;
pub mod net;
pub mod planted;
pub mod random;
pub mod task;

pub use hash::{HashMap, HashSet, RandomState};
pub use machine::{Installed, Machine, install};

use machine::installed;

/// How many cores there are to spread work over.
pub fn cores() -> usize {
    match installed() {
        Some(machine) => machine.cores(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}
