//! TCP: ports, connections, and how they are handed to axum and tonic.

#[cfg(feature = "http")]
mod connector;
mod listener;
mod stream;

#[cfg(feature = "http")]
pub use connector::Connector;
pub use listener::Listener;
pub use stream::{Socket, Stream};

use futures_util::future::BoxFuture;
use std::{
    fmt::Debug,
    io,
    net::SocketAddr,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection of a simulated machine.
pub trait Wire: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Wire for T {}

/// A connection that is being opened.
pub type Dialled = BoxFuture<'static, io::Result<Box<dyn Wire>>>;

/// An open port of a simulated machine.
pub trait Port: Debug + Send + Sync {
    /// Where it is.
    fn address(&self) -> SocketAddr;

    /// Takes the next connection, and tells who opened it.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Wire>, SocketAddr)>>;
}
