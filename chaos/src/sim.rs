//! The whole system in one thread, on a virtual clock and network, the same way each time for a seed.
//!
//! ```text
//!   run ─┬─ host: directory ──┐
//!        ├─ host: node …  ────┤   each runs a stretch at a time, in a tokio runtime and by a clock of its own
//!        ├─ host: replicator ─┤
//!        ├─ host: party … ────┤──▶ net: pipes that delay, are cut, and lose nothing
//!        └─ disks: syncs that take their time, crashes that lose what was not synced
//! ```
//!
//! The services' own `run` is what runs, on [`host::Machine`]'s seam; nothing of theirs is replaced but the
//! store, which is the `memory` engine. A run has a process to itself: whatever a process draws, from hash
//! seeds to `select!`, comes from the seed (`libc-hooks`), and nothing is left over from a run before.

mod bugs;
mod directory;
mod disk;
mod fault;
mod finals;
mod host;
mod log;
mod machine;
mod net;
mod observer;
mod operator;
mod party;
mod plan;
mod processes;
mod run;
mod seeds;
mod trap;
mod world;

pub use bugs::{EXPECTED, Expected};
pub use run::Outcome;
pub use seeds::{Args, main};

use metrics_exporter_prometheus::PrometheusBuilder;
use std::{
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

/// Runs a seed, in a thread of its own. Once in a process, which it ends where the run does not go on: some
/// host's code never waits.
pub fn run(seed: u64, prints: bool) -> Outcome {
    // The recorder measures the processor's clock against the real one, once in a process.
    drop(PrometheusBuilder::new().build_recorder());
    let (sender, ended) = sync_channel(1);
    let run = move || {
        // Nobody is gone before it has ended.
        let _ = sender.send(run::Run::new(seed, prints).finish());
    };
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(run).expect("a thread can be had");
    let mut steps = u64::MAX;
    loop {
        match ended.recv_timeout(STALL) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Disconnected) => {
                let panic = thread.join().expect_err("it ends with an outcome or in a panic");
                std::panic::resume_unwind(panic)
            }
            Err(RecvTimeoutError::Timeout) => {
                let (host, now) = world::progress();
                if std::mem::replace(&mut steps, now) == now {
                    println!("seed {seed}: host {host} does not come to rest in step {now}");
                    std::process::exit(STALLED);
                }
            }
        }
    }
}

/// A step that takes longer than this, and as long again, never ends.
const STALL: Duration = Duration::from_secs(20);
/// The exit code of a process whose run has stalled.
const STALLED: i32 = 3;

/// Debug builds have large frames.
const STACK_BYTES: usize = 32 * 1024 * 1024;
