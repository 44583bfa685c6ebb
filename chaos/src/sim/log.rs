//! What the services log, with the world's time and the host's number.

use super::world;
use std::fmt;
use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

struct WorldTime;

impl FormatTime for WorldTime {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        let host = world::here().map(|here| here.host.to_string()).unwrap_or_default();
        write!(out, "{:>10.3} ms {host:<4}", world::now_us() as f64 / 1e3)
    }
}

/// Prints what passes the filter.
///
/// # Errors
/// The filter is none.
pub(super) fn install(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    tracing_subscriber::fmt().with_env_filter(filter).with_timer(WorldTime).with_ansi(false).init();
    Ok(())
}
