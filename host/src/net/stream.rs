//! A connection.

use super::Wire;
use crate::machine::installed;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TCP connection, or what a simulation has in its place.
#[derive(Debug)]
pub struct Stream(Kind);

#[derive(Debug)]
enum Kind {
    /// Shared with whoever needs the options of its socket.
    Real(Arc<TcpStream>),
    Simulated(Box<dyn Wire>),
}

/// A connection's socket, for its options.
#[derive(Debug, Clone)]
pub struct Socket(Option<Arc<TcpStream>>);

impl Socket {
    /// Bounds what the kernel holds for a peer that does not read.
    ///
    /// # Errors
    /// The system refuses.
    pub fn bound_send_buffer(&self, bytes: usize) -> io::Result<()> {
        match &self.0 {
            Some(stream) => socket2::SockRef::from(&**stream).set_send_buffer_size(bytes),
            None => Ok(()),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Kind::Real(Arc::new(stream)))
    }
}

impl Stream {
    pub(super) fn simulated(wire: Box<dyn Wire>) -> Self {
        Self(Kind::Simulated(wire))
    }

    /// Opens a connection to `host:port`, without delay of small segments.
    ///
    /// # Errors
    /// Nobody is there, or nobody is known by that name.
    pub async fn dial(to: &str) -> io::Result<Self> {
        if let Some(machine) = installed() {
            return machine.dial(to).await.map(Self::simulated);
        }
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream.into())
    }

    /// Its socket.
    pub fn socket(&self) -> Socket {
        match &self.0 {
            Kind::Real(stream) => Socket(Some(Arc::clone(stream))),
            Kind::Simulated(_) => Socket(None),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = match &mut self.0 {
            Kind::Real(stream) => stream,
            Kind::Simulated(wire) => return Pin::new(wire).poll_read(cx, buf),
        };
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_read(buf.initialize_unfilled()) {
                Ok(bytes) => {
                    buf.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn poll_io(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match write(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Real(stream) => poll_io(stream, cx, |stream| stream.try_write(bytes)),
            Kind::Simulated(wire) => Pin::new(wire).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Real(stream) => poll_io(stream, cx, |stream| stream.try_write_vectored(slices)),
            Kind::Simulated(wire) => Pin::new(wire).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Kind::Real(_) => true,
            Kind::Simulated(wire) => wire.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Real(_) => Poll::Ready(Ok(())),
            Kind::Simulated(wire) => Pin::new(wire).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Real(stream) => {
                Poll::Ready(socket2::SockRef::from(&**stream).shutdown(std::net::Shutdown::Write))
            }
            Kind::Simulated(wire) => Pin::new(wire).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Listener;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_is_written_is_read_and_an_end_is_an_end() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut listener = Listener::bind(address).await.expect("a free port");
        let to = listener.local_addr().expect("an address").to_string();
        let dialled = tokio::spawn(async move { Stream::dial(&to).await });
        let (mut here, _) = listener.accept().await.expect("accepted");
        let mut there = dialled.await.expect("no panic").expect("dialled");
        here.socket().bound_send_buffer(65_536).expect("set");
        there.write_all(b"hello").await.expect("written");
        there.shutdown().await.expect("half closed");
        let mut said = String::new();
        here.read_to_string(&mut said).await.expect("read");
        assert_eq!(said, "hello");
    }
}
