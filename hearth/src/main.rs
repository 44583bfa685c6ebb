//! The one binary of Hearth.

use std::process::ExitCode;

/// A message is allocated on one thread and freed on another, and a node holds many small things for long:
/// this allocator is quick with the former and gives back what the latter leave.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    hearth::main()
}
