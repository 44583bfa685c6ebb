//! What a process says about itself: lines on standard error, and metrics.

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Which events are shown, in the syntax of `tracing-subscriber`: `info`, `warn,replicator=debug`.
const FILTER_ENV: &str = "HEARTH_LOG";
/// `plain` or `json`.
const FORMAT_ENV: &str = "HEARTH_LOG_FORMAT";

/// Upper bounds of the buckets of whatever is measured in seconds.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How often what was recorded is folded together; between two times it takes memory.
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Installs the recorder of this process; the service shows it at `/metrics`.
pub(crate) fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(METRICS_UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Starts logging; `default_filter` holds where the environment says nothing.
pub(crate) fn init(default_filter: &str) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER_ENV) {
        Ok(text) => EnvFilter::try_new(&text).map_err(|e| anyhow::anyhow!("{FILTER_ENV}={text:?}: {e}"))?,
        Err(_) => EnvFilter::new(default_filter),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match std::env::var(FORMAT_ENV).as_deref() {
        Ok("json") => builder.json().flatten_event(true).init(),
        Ok("plain") | Err(_) => {
            builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init()
        }
        Ok(other) => anyhow::bail!("{FORMAT_ENV}={other:?}: there are plain and json"),
    }
    Ok(())
}
