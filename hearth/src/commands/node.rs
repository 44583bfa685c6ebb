//! `hearth node`: a region's node as a process.

use crate::{
    service_config::{self, ConfigFile},
    shutdown, telemetry,
};
use region_node::{Config, Deps};

/// Overrides the configuration's keys: `HEARTH_NODE_PARKED_MAX` is `parked-max`.
const ENV_PREFIX: &str = "HEARTH_NODE_";

/// Run a region's node.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

/// Runs it until it is told to end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    telemetry::init("info")?;
    let config: Config = service_config::load(&args.file.config, ENV_PREFIX, Config::validate)?;
    let deps = Deps { shutdown: shutdown::on_signal()?, ..Deps::default() };
    Ok(region_node::run(config, deps).await?)
}
