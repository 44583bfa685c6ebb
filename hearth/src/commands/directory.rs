//! `hearth directory`: the global directory as a process.

use crate::{
    service_config::{self, ConfigFile},
    shutdown, telemetry,
};
use global_directory::{Config, Deps};

/// Overrides the configuration's keys: `HEARTH_DIRECTORY_LEASE_TTL_MS` is `lease-ttl-ms`.
const ENV_PREFIX: &str = "HEARTH_DIRECTORY_";

/// Run the global directory.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

/// Runs it until it is told to end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // The consensus library tells every message that a dead replica does not answer; what matters is told here.
    telemetry::init("info,openraft=off")?;
    let config: Config = service_config::load(&args.file.config, ENV_PREFIX, Config::validate)?;
    let deps = Deps {
        shutdown: shutdown::on_signal()?,
        metrics: Some(telemetry::install_metrics()?),
        ..Deps::default()
    };
    Ok(global_directory::run(config, deps).await?)
}
