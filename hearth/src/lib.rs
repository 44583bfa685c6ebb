//! The commands of the `hearth` binary. It is a library so that tests can build the binary themselves.
//!
//! Each service is a library of its own; what is here parses a command line and a configuration, calls
//! it, and prints.

mod base_port;
mod causes;
mod cli;
pub mod commands;
mod file_limit;
mod service_config;
mod shutdown;
mod tables;
mod telemetry;

use clap::Parser;
use std::process::ExitCode;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    if let Err(error) = lab::die_with_parent() {
        eprintln!("hearth: {error}");
        return ExitCode::FAILURE;
    }
    let cli = cli::Cli::parse();
    file_limit::raise();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hearth: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hearth: {}", causes::told(&error));
            ExitCode::FAILURE
        }
    }
}
