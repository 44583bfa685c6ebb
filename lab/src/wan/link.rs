//! One address that leads from a place to a process in another one.

use super::{
    lane::Lane,
    pump::{Ended, pump},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Connections that one link carries at a time; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 8 * 1024;
/// How long the far process has to take a connection; on loopback that is at once or never.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Before the next accept, when one has failed (out of file descriptors, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening link. It ends, and its connections with it, when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Link {
    /// Opens a link on a free loopback port: what connects to it reaches `target` by `there`, and is
    /// answered by `back`.
    pub(super) async fn open(target: SocketAddr, there: Arc<Lane>, back: Arc<Lane>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let path = Arc::new(Path { target, there, back });
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, path, stop.clone())));
        Ok(Self { address, stop })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Path {
    target: SocketAddr,
    there: Arc<Lane>,
    back: Arc<Lane>,
}

async fn accept(listener: TcpListener, path: Arc<Path>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let carried = carry(client, Arc::clone(&path), permit);
                tokio::spawn(stop.clone().run_until_cancelled_owned(carried));
            }
            Err(error) => {
                tracing::warn!(%error, target = %path.target, "a link cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, from its handshake (which costs a round trip) to its end.
async fn carry(client: TcpStream, path: Arc<Path>, _room: OwnedSemaphorePermit) {
    let Path { target, there, back } = path.as_ref();
    there.cross().await;
    let server = timeout(DIAL_TIMEOUT, TcpStream::connect(target)).await;
    back.cross().await;
    let Ok(Ok(server)) = server else {
        reset(client);
        return;
    };
    // Nagle's algorithm would add delays that the link did not ask for.
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    if converse(client, server, there, back).await == Outcome::Reset {
        tracing::trace!(%target, "a connection was reset");
    }
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Closed,
    Reset,
}

async fn converse(mut client: TcpStream, mut server: TcpStream, there: &Lane, back: &Lane) -> Outcome {
    let (mut client_read, mut client_write) = client.split();
    let (mut server_read, mut server_write) = server.split();
    let request = async {
        let ended = pump(&mut client_read, &mut server_write, there).await;
        settle(ended, back).await
    };
    let answer = async {
        let ended = pump(&mut server_read, &mut client_write, back).await;
        settle(ended, there).await
    };
    let outcome = tokio::select! {
        both = async { tokio::try_join!(request, answer) } => {
            if both.is_ok() { Outcome::Closed } else { Outcome::Reset }
        }
        () = there.was_reset() => Outcome::Reset,
        () = back.was_reset() => Outcome::Reset,
    };
    if outcome == Outcome::Reset {
        reset(client);
        reset(server);
    }
    outcome
}

struct Broken;

/// A receiver that is gone answers with a reset, which has to cross the other way first.
async fn settle(ended: Ended, other_way: &Lane) -> Result<(), Broken> {
    match ended {
        Ended::Finished => Ok(()),
        Ended::SenderReset => Err(Broken),
        Ended::ReceiverGone => {
            other_way.cross().await;
            Err(Broken)
        }
    }
}

fn reset(stream: TcpStream) {
    // A socket that refuses the option is closed in order instead.
    let _ = stream.set_zero_linger();
}
