//! Open ports.

use super::{Net, SimStream, pipe::PipeId};
use crate::sim::world;
use host::net::{Port as HostPort, Wire};
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    task::{Context, Poll, Waker},
};

#[derive(Debug, Default)]
pub(super) struct Port {
    /// The accepting end's pipes: to it, and from it.
    pub(super) waiting: VecDeque<(PipeId, PipeId)>,
    pub(super) acceptor: Option<Waker>,
}

/// A port that a process of a simulated host holds open.
#[derive(Debug)]
pub(in crate::sim) struct SimPort(SocketAddr);

impl Net {
    pub(in crate::sim) fn bind(&mut self, address: SocketAddr) -> io::Result<SimPort> {
        if self.ports.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.ports.insert(address, Port::default());
        Ok(SimPort(address))
    }
}

impl HostPort for SimPort {
    fn address(&self) -> SocketAddr {
        self.0
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Wire>, SocketAddr)>> {
        let (accepted, _old) = world::net(|net| {
            let port = net.ports.get_mut(&self.0).expect("it is open as long as this is held");
            match port.waiting.pop_front() {
                Some(pipes) => (Some(pipes), None),
                None => (None, port.acceptor.replace(cx.waker().clone())),
            }
        });
        match accepted {
            Some((incoming, outgoing)) => {
                let stream: Box<dyn Wire> = Box::new(SimStream::new(incoming, outgoing));
                Poll::Ready(Ok((stream, self.0)))
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        let port = world::net(|net| net.ports.remove(&self.0));
        // Those that nobody has accepted are closed.
        let waiting = port.map(|port| port.waiting).unwrap_or_default();
        for (incoming, outgoing) in waiting {
            drop(SimStream::new(incoming, outgoing));
        }
    }
}
