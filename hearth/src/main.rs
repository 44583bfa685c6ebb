//! The one binary of Hearth.

use std::process::ExitCode;

/// A message is allocated on one thread and freed on another, which is what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hearth::main()
}
