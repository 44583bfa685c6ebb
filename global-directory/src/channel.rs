//! Connections to other processes: every one that a directory opens is made here.

use host::net::Connector;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// How long an attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A connection that died without a word is found out within this and [`KEEP_ALIVE_TIMEOUT`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection to `address`, `host:port`, that is made when it is first used, and again when it breaks.
///
/// # Errors
/// An address that is none.
pub(crate) fn to(address: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(endpoint(address)?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(Connector))
}

/// A connection that is made now.
///
/// # Errors
/// An address that is none, or at which nobody answers.
pub(crate) async fn at_once(address: &str) -> Result<Channel, tonic::transport::Error> {
    endpoint(address)?.connect_with_connector(Connector).await
}

fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))
}
