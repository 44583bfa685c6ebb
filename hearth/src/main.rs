//! The one binary of Hearth.

use std::process::ExitCode;

fn main() -> ExitCode {
    hearth::main()
}
