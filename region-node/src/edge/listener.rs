//! A listener whose connections can still be reached from a request's handler.
//!
//! The send buffer that the kernel keeps for a client must be bounded, and the one for a peer must not:
//! a stream between regions needs a large one. They share the port, and which one it is shows only when
//! the WebSocket begins.

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use host::net::{self, Socket, Stream};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// Accepts connections without delay of small segments.
#[derive(Debug)]
pub struct EdgeListener(net::Listener);

impl EdgeListener {
    /// Takes a bound listener over.
    pub fn new(listener: impl Into<net::Listener>) -> Self {
        Self(listener.into())
    }
}

impl Listener for EdgeListener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        Listener::accept(&mut self.0).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The connection that a request came on.
#[derive(Debug, Clone)]
pub struct Connection {
    socket: Socket,
    address: IpAddr,
}

impl Connected<IncomingStream<'_, EdgeListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, EdgeListener>) -> Self {
        Self { socket: stream.io().socket(), address: stream.remote_addr().ip() }
    }
}

impl Connection {
    /// Where it comes from.
    pub(super) const fn address(&self) -> IpAddr {
        self.address
    }

    /// Bounds what the kernel holds for a client that does not read.
    pub(super) fn bound_send_buffer(&self, bytes: usize) {
        if let Err(error) = self.socket.bound_send_buffer(bytes) {
            tracing::debug!(%error, "a connection's send buffer stays as it is");
        }
    }
}
