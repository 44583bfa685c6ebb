//! An open port.

use super::{Port, Stream};
use crate::machine::installed;
use std::{future::poll_fn, io, net::SocketAddr};
use tokio::net::TcpListener;

/// Accepts connections, which send small segments without delay.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Real(TcpListener),
    Simulated(Box<dyn Port>),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self(Kind::Real(listener))
    }
}

impl Listener {
    /// Opens a port.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(match installed() {
            Some(machine) => Kind::Simulated(machine.bind(address)?),
            None => Kind::Real(TcpListener::bind(address).await?),
        }))
    }

    /// Where it is open.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Kind::Real(listener) => listener.local_addr(),
            Kind::Simulated(port) => Ok(port.address()),
        }
    }

    /// The next connection, and who opened it. Cancel-safe.
    ///
    /// # Errors
    /// None could be accepted; the next call may.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match &mut self.0 {
            Kind::Real(listener) => {
                let (stream, address) = listener.accept().await?;
                // A connection that has ended already says so to its reader.
                let _ended = stream.set_nodelay(true);
                Ok((stream.into(), address))
            }
            Kind::Simulated(port) => {
                let (wire, address) = poll_fn(|cx| port.poll_accept(cx)).await?;
                Ok((Stream::simulated(wire), address))
            }
        }
    }
}

#[cfg(feature = "http")]
impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        /// How long the listener rests when the process has no descriptors left.
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
        loop {
            match Self::accept(self).await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}
