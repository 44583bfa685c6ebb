//! How peers are dialled.

use crate::bounds;
use tonic::transport::Endpoint;

/// An endpoint for `host:port` or a URL. A peer that falls silent is noticed within
/// [`bounds::KEEP_ALIVE_EVERY`] + [`bounds::KEEP_ALIVE_TIMEOUT`].
///
/// # Errors
/// The address is no URL.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    Ok(Endpoint::from_shared(url)?
        .connect_timeout(bounds::CONNECT_TIMEOUT)
        .http2_keep_alive_interval(bounds::KEEP_ALIVE_EVERY)
        .keep_alive_timeout(bounds::KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(bounds::WINDOW_BYTES)
        .initial_connection_window_size(bounds::WINDOW_BYTES))
}
