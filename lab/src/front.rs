//! The anycast front of a place: one address that leads to the nearest region that is ready.
//!
//! Connections are led to the ready nodes of that region in turn. A connection stays with the node it was
//! led to. When nobody answers there any more it is broken, and the client's next one is led to another
//! node, or to the next nearest region. A region that cannot be reached from the place, because the link is
//! cut, is passed over.

use crate::{health::Health, place::Place, wan::Wan};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Connections that one front carries at a time; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 8 * 1024;
/// How long a node has to take a connection before the next one is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Before the next accept, when one has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One way to go from a place: to one node.
#[derive(Debug)]
pub(crate) struct Way {
    /// The region at its end.
    pub(crate) to: Place,
    /// That is the place itself.
    pub(crate) own: bool,
    /// How far that is.
    pub(crate) rtt: Duration,
    /// Where to connect: the node itself in the own region, a link to any other.
    pub(crate) address: SocketAddr,
    /// Whether somebody is there.
    pub(crate) health: watch::Receiver<Health>,
}

impl Way {
    /// What ways are ordered by: the own region first, then by round trip, then by name.
    pub(crate) fn distance(&self) -> (bool, Duration, &Place) {
        (!self.own, self.rtt, &self.to)
    }
}

/// The front of one place.
#[derive(Debug)]
pub(crate) struct Front {
    place: Place,
    /// The nodes of one region each, the nearest region first.
    regions: Vec<Vec<Way>>,
    /// Counts connections, so that nodes are taken in turn.
    turn: AtomicUsize,
    wan: Arc<Wan>,
}

impl Front {
    pub(crate) fn new(place: Place, mut ways: Vec<Way>, wan: Arc<Wan>) -> Self {
        ways.sort_by(|a, b| a.distance().cmp(&b.distance()));
        let mut regions: Vec<Vec<Way>> = Vec::new();
        for way in ways {
            match regions.last_mut().filter(|region| region.iter().all(|known| known.to == way.to)) {
                Some(region) => region.push(way),
                None => regions.push(vec![way]),
            }
        }
        Self { place, regions, turn: AtomicUsize::new(0), wan }
    }

    /// Serves until `stop`.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let front = Arc::new(self);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((client, _)) => {
                    let carried = Arc::clone(&front).carry(client, permit);
                    tokio::spawn(stop.clone().run_until_cancelled_owned(carried));
                }
                Err(error) => {
                    tracing::warn!(%error, place = %front.place, "the front cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn carry(self: Arc<Self>, mut client: TcpStream, _room: OwnedSemaphorePermit) {
        let Some((way, mut server)) = self.lead().await else {
            tracing::debug!(place = %self.place, "no region is ready");
            // Refused at once: the client need not wait to learn it. A socket that will not is closed.
            let _ = client.set_zero_linger();
            return;
        };
        let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
        let mut health = way.health.clone();
        tokio::select! {
            // Either side's end ends both, in order or not: there is nothing to say about it here.
            _ = copy_bidirectional(&mut client, &mut server) => {}
            _ = health.wait_for(|health| *health == Health::Unreachable) => {
                let (_, _) = (client.set_zero_linger(), server.set_zero_linger());
            }
        }
    }

    async fn lead(&self) -> Option<(&Way, TcpStream)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for region in &self.regions {
            let ready: Vec<&Way> = region.iter().filter(|way| self.is_ready(way)).collect();
            let first = turn % ready.len().max(1);
            for way in ready[first..].iter().chain(&ready[..first]) {
                if let Ok(Ok(server)) = timeout(DIAL_TIMEOUT, TcpStream::connect(way.address)).await {
                    return Some((way, server));
                }
            }
        }
        None
    }

    fn is_ready(&self, way: &Way) -> bool {
        *way.health.borrow() == Health::Ready && self.wan.is_open_to_clients(&self.place, &way.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::WanTable;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn place(name: &str) -> Place {
        name.parse().expect("a place")
    }

    /// A region that greets with its name.
    async fn region(name: &'static str, rtt_ms: u64) -> (Way, watch::Sender<Health>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.write_all(name.as_bytes()).await.expect("it is greeted");
                    let mut until_closed = Vec::new();
                    let _ = stream.read_to_end(&mut until_closed).await;
                });
            }
        });
        let (changes, health) = watch::channel(Health::Ready);
        (
            Way { to: place(name), own: rtt_ms == 0, rtt: Duration::from_millis(rtt_ms), address, health },
            changes,
        )
    }

    async fn greeting(stream: &mut TcpStream) -> String {
        let mut name = [0; 4];
        timeout(PATIENCE, stream.read_exact(&mut name)).await.expect("in time").expect("a greeting");
        String::from_utf8_lossy(&name).into_owned()
    }

    #[tokio::test]
    async fn it_leads_to_the_ready_nodes_of_a_region_in_turn() {
        let (first, _first_health) = region("near", 0).await;
        let (other, other_health) = region("near", 0).await;
        let (away, _away_health) = region("away", 20).await;
        let wan = Arc::new(Wan::new(&[place("near"), place("away")], &WanTable::none(), 0));
        let addresses = [first.address, other.address];
        let front = Front::new(place("near"), vec![away, first, other], wan);
        let led = async || front.lead().await.expect("a node is ready").0.address;
        let mut led_to = [led().await, led().await];
        led_to.sort_unstable();
        let mut both = addresses;
        both.sort_unstable();
        assert_eq!(led_to, both);
        other_health.send_replace(Health::NotReady);
        assert_eq!([led().await, led().await], [addresses[0]; 2]);
    }

    #[tokio::test]
    async fn it_leads_to_the_nearest_ready_region_and_breaks_what_leads_nowhere() {
        let (near, near_health) = region("near", 0).await;
        let (midd, midd_health) = region("midd", 10).await;
        let (away, _away_health) = region("away", 20).await;
        let places = [place("near"), place("midd"), place("away")];
        let wan = Arc::new(Wan::new(&places, &WanTable::none(), 0));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let front = Front::new(place("near"), vec![away, near, midd], Arc::clone(&wan));
        tokio::spawn(front.serve(listener, stop.clone()));
        let connect = || async { TcpStream::connect(address).await.expect("it listens") };

        let mut first = connect().await;
        assert_eq!(greeting(&mut first).await, "near");
        near_health.send_replace(Health::NotReady);
        assert_eq!(greeting(&mut connect().await).await, "midd");
        let silent = timeout(Duration::from_millis(50), first.read(&mut [0; 1])).await;
        assert!(silent.is_err(), "one that is not ready keeps its connections: {silent:?}");
        near_health.send_replace(Health::Unreachable);
        wan.set_silent(&place("near"), true);
        let broken = timeout(PATIENCE, first.read(&mut [0; 1])).await.expect("in time");
        assert!(broken.is_err(), "{broken:?}");
        wan.cut(&place("near"), &place("midd"), true).expect("a lane");
        assert_eq!(greeting(&mut connect().await).await, "away");
        wan.heal();
        midd_health.send_replace(Health::Ready);
        assert_eq!(greeting(&mut connect().await).await, "midd");
        stop.cancel();
    }
}
