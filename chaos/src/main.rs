//! `chaos`: runs scenarios on a real deployment, checks what happened, and writes reports.
//!
//! The deployment's processes are this binary too: `chaos node --config FILE` is `hearth node --config FILE`.

use std::process::ExitCode;

/// The services' allocator, as in the `hearth` binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    chaos::run::act_as_service().unwrap_or_else(chaos::cli::main)
}
