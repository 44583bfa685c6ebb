//! `hearth replicator`: a region's replicator as a process.

use crate::{
    service_config::{self, ConfigFile},
    shutdown, telemetry,
};
use replicator::{Config, Deps};

/// Overrides the configuration's keys: `HEARTH_REPLICATOR_LISTEN` is `listen`.
const ENV_PREFIX: &str = "HEARTH_REPLICATOR_";

/// Run a region's replicator.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

/// Runs it until it is told to end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    telemetry::init("info")?;
    let config: Config = service_config::load(&args.file.config, ENV_PREFIX, Config::validate)?;
    let deps = Deps { shutdown: shutdown::on_signal()?, metrics: telemetry::install_metrics()? };
    Ok(replicator::run(config, deps).await?)
}
