//! One end of a connection.

use super::{Later, Link, Net, Packet, pipe::PipeId};
use crate::sim::{host::HostId, world};
use futures_util::FutureExt as _;
use host::net::{Dialled, Wire};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

#[derive(Debug)]
pub(in crate::sim) struct SimStream {
    incoming: PipeId,
    outgoing: PipeId,
    is_shut: bool,
}

impl SimStream {
    pub(super) const fn new(incoming: PipeId, outgoing: PipeId) -> Self {
        Self { incoming, outgoing, is_shut: false }
    }

    fn shut(&mut self) {
        if std::mem::replace(&mut self.is_shut, true) {
            return;
        }
        let (now_us, pipe) = (world::now_us(), self.outgoing);
        world::net(|net| {
            if !net.pipes[pipe.index()].is_dead {
                net.send_along(now_us, pipe, Packet::Fin { pipe });
            }
        });
    }
}

impl Net {
    /// Asks for a connection.
    pub(in crate::sim) fn dial(&mut self, now_us: u64, from: HostId, to: &str) -> Dialled {
        let Ok(port) = to.parse::<SocketAddr>() else {
            let error = io::Error::new(io::ErrorKind::InvalidInput, format!("{to} is no address"));
            return std::future::ready(Err(error)).boxed();
        };
        let Some(host) = self.hosts.get(&port.ip()).copied() else {
            return std::future::ready(Err(io::ErrorKind::HostUnreachable.into())).boxed();
        };
        self.number += 1;
        let (dial, (reply, opened)) = (self.number, oneshot::channel());
        self.dials.insert(dial, reply);
        self.send(now_us, Link { from, to: host }, 0, Packet::Open { port, dial });
        async move {
            match opened.await {
                Ok(stream) => stream.map(|stream| Box::new(stream) as Box<dyn Wire>),
                Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        .boxed()
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut later = Later::default();
        let read = world::net(|net| {
            let (read, woken) = net.pipes[self.incoming.index()].read(buf, cx.waker());
            if read.is_some() {
                later.wake(woken);
                (read, None)
            } else {
                (read, woken)
            }
        });
        later.run();
        read.0.map_or(Poll::Pending, Poll::Ready)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (now_us, pipe) = (world::now_us(), self.outgoing);
        let (taken, _old) = world::net(|net| match net.pipes[pipe.index()].write(bytes, cx.waker()) {
            (Some(Ok(bytes)), old) => {
                let taken = bytes.len();
                if !net.pipes[pipe.index()].is_dead {
                    net.send_along(now_us, pipe, Packet::Data { pipe, bytes });
                }
                (Some(Ok(taken)), old)
            }
            (Some(Err(error)), old) => (Some(Err(error)), old),
            (None, old) => (None, old),
        });
        taken.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.shut();
        let incoming = self.incoming;
        world::net(|net| net.pipes[incoming.index()].is_abandoned = true);
    }
}
