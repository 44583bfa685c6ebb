//! The command line.

use crate::commands;
use clap::{Parser, Subcommand};

/// A messaging backend in many regions, where every chat has one home.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a deployment on this machine: a directory, and a node and a replicator per region.
    Up(commands::up::Args),
    /// Chat, line by line.
    Chat(commands::chat::Args),
    /// Send each line of a file or of standard input as a message, once and in order.
    Send(commands::send::Args),
    /// Print the messages of a chat as they come, each once and in order.
    Tail(commands::tail::Args),
    /// Make an account, and log this device in.
    Register(commands::account::Register),
    /// Log this device in.
    Login(commands::account::Login),
    /// Log this device out.
    Logout(commands::account::Logout),
    /// Hurt and heal a deployment that `up` runs.
    Lab(commands::lab::Args),
    /// See how a deployment is.
    Admin(commands::admin::Args),
    /// Measure what a deployment accepts and delivers.
    Bench(commands::bench::Args),
    /// Run the global directory.
    Directory(commands::directory::Args),
    /// Run a region's node.
    Node(commands::node::Args),
    /// Run a region's replicator.
    Replicator(commands::replicator::Args),
}

impl Command {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Up(args) => commands::up::run(args).await,
            Self::Chat(args) => commands::chat::run(args).await,
            Self::Send(args) => commands::send::run(args).await,
            Self::Tail(args) => commands::tail::run(args).await,
            Self::Register(args) => commands::account::register(args).await,
            Self::Login(args) => commands::account::log_in(args).await,
            Self::Logout(args) => commands::account::log_out(args).await,
            Self::Lab(args) => commands::lab::run(args).await,
            Self::Admin(args) => commands::admin::run(args).await,
            Self::Bench(args) => commands::bench::run(args).await,
            Self::Directory(args) => commands::directory::run(args).await,
            Self::Node(args) => commands::node::run(args).await,
            Self::Replicator(args) => commands::replicator::run(args).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
