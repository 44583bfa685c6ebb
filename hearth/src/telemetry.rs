//! What a process says about itself: lines on standard error.

use tracing_subscriber::EnvFilter;

/// Which events are shown, in the syntax of `tracing-subscriber`: `info`, `warn,replicator=debug`.
const FILTER_ENV: &str = "HEARTH_LOG";
/// `plain` or `json`.
const FORMAT_ENV: &str = "HEARTH_LOG_FORMAT";

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
