//! How tonic dials.

use super::Stream;
use futures_util::future::{BoxFuture, FutureExt as _};
use http::Uri;
use hyper_util::rt::TokioIo;
use std::{
    io,
    task::{Context, Poll},
};
use tower_service::Service;

/// The port of a URL that names none.
const DEFAULT_PORT: u16 = 80;

/// Dials what a URL names; for `Endpoint::connect_with_connector`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connector;

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        async move {
            let host = url.host().ok_or_else(|| io::Error::other(format!("{url} names no host")))?;
            let port = url.port_u16().unwrap_or(DEFAULT_PORT);
            Stream::dial(&format!("{host}:{port}")).await.map(TokioIo::new)
        }
        .boxed()
    }
}
