//! WAN links in user space: TCP proxies that delay, slow down, stall, reset and cut.
//!
//! Between two places there is one **lane** each way; every connection from a place to a process in
//! another one goes through a **link**, and shares the two lanes with all others of that pair. The clients
//! of a region's place have lanes of their own, as long and cut together with those of the region: they
//! live on when the region dies.
//!
//! | what | existing connections | new ones |
//! |---|---|---|
//! | delay, jitter, bandwidth | later, in order, pipelined | the handshake costs a round trip, too |
//! | stall | wait for so long, then go on | the same |
//! | cut | hang: no byte, FIN or RST arrives | are accepted by the kernel, and hang |
//! | cut, one way | bytes of the other way still arrive | hang: the handshake needs both ways |
//! | silence (a dead region) | hang, as with a cut of every lane of its processes | the same |
//! | reset | are reset at both ends | are not touched |
//!
//! When a cut or a silence ends, what was held arrives at once: connections whose two ends still live go
//! on, as TCP does after an outage; one whose end has died in between is reset then.

mod alarm;
mod lane;
mod link;
mod pump;

pub use lane::Conditions;
pub use link::Link;

use crate::{place::Place, table::WanTable};
use alarm::Alarms;
use lane::Lane;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

/// All lanes between the places of one deployment. Its methods take effect at once.
#[derive(Debug)]
pub struct Wan {
    lanes: BTreeMap<(End, End), Arc<Lane>>,
    silent: Mutex<BTreeSet<Place>>,
}

/// Who is at the end of a lane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// The processes of a place.
    Processes(Place),
    /// The clients near a region.
    Clients(Place),
}

impl End {
    fn place(&self) -> &Place {
        match self {
            Self::Processes(place) | Self::Clients(place) => place,
        }
    }

    fn is_one_of(&self, dead: &BTreeSet<Place>) -> bool {
        matches!(self, Self::Processes(place) if dead.contains(place))
    }
}

/// Two places between which there is no lane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no link between {0} and {1}")]
pub struct NoLane(pub Place, pub Place);

impl Wan {
    /// Lanes between every two of `places`, as far apart as `table` says. `seed` decides all jitter.
    ///
    /// # Panics
    /// The system has no thread left.
    pub fn new(places: &[Place], table: &WanTable, seed: u64) -> Self {
        let alarms = Arc::new(Alarms::start().expect("a thread can be started"));
        let mut lanes = BTreeMap::new();
        for (a, b) in places.iter().flat_map(|a| places.iter().map(move |b| (a, b))) {
            if a == b {
                continue;
            }
            let conditions = Conditions {
                delay: table.rtt(a, b) / 2,
                jitter: table.jitter(),
                bandwidth_bytes_per_s: None,
            };
            let ends = [
                (End::Processes(a.clone()), End::Processes(b.clone())),
                (End::Clients(a.clone()), End::Processes(b.clone())),
                (End::Processes(a.clone()), End::Clients(b.clone())),
            ];
            for ends in ends {
                let lane_seed = seed ^ (lanes.len() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                lanes.insert(ends, Arc::new(Lane::new(conditions, lane_seed, Arc::clone(&alarms))));
            }
        }
        Self { lanes, silent: Mutex::new(BTreeSet::new()) }
    }

    /// Opens a link from the processes in `from` to the process in `to` that listens at `target`.
    ///
    /// # Errors
    /// What the system says when it has no port to give, or [`NoLane`] inside it.
    pub async fn open_link(&self, from: &Place, to: &Place, target: SocketAddr) -> io::Result<Link> {
        self.open(End::Processes(from.clone()), End::Processes(to.clone()), target).await
    }

    /// Opens a link from the clients near `from` to the process in `to` that listens at `target`.
    ///
    /// # Errors
    /// As [`Wan::open_link`].
    pub async fn open_client_link(&self, from: &Place, to: &Place, target: SocketAddr) -> io::Result<Link> {
        self.open(End::Clients(from.clone()), End::Processes(to.clone()), target).await
    }

    async fn open(&self, from: End, to: End, target: SocketAddr) -> io::Result<Link> {
        let missing = NoLane(from.place().clone(), to.place().clone());
        let (there, back) = (self.lanes.get(&(from.clone(), to.clone())), self.lanes.get(&(to, from)));
        match (there, back) {
            (Some(there), Some(back)) => Link::open(target, Arc::clone(there), Arc::clone(back)).await,
            _ => Err(io::Error::new(io::ErrorKind::NotFound, missing)),
        }
    }

    /// Lets nothing through from `a` to `b`, nor back unless `one_way`.
    ///
    /// # Errors
    /// [`NoLane`], as for every method here that names two places.
    pub fn cut(&self, a: &Place, b: &Place, one_way: bool) -> Result<(), NoLane> {
        self.each(a, b, |lane| lane.set_cut(true))?;
        if one_way { Ok(()) } else { self.each(b, a, |lane| lane.set_cut(true)) }
    }

    /// Ends every cut and every stall. Silent places stay silent.
    pub fn heal(&self) {
        for lane in self.lanes.values() {
            lane.set_cut(false);
            lane.stall(Duration::ZERO);
        }
    }

    /// Makes the processes of a place look dead to all others, or ends that. Its clients live on.
    pub fn set_silent(&self, place: &Place, silent: bool) {
        let mut places = self.silent.lock();
        if silent {
            places.insert(place.clone());
        } else {
            places.remove(place);
        }
        for ((from, to), lane) in &self.lanes {
            lane.set_silent(from.is_one_of(&places) || to.is_one_of(&places));
        }
    }

    /// Changes the direction from `a` to `b`.
    ///
    /// # Errors
    /// [`NoLane`].
    pub fn set_conditions(&self, a: &Place, b: &Place, conditions: Conditions) -> Result<(), NoLane> {
        self.each(a, b, |lane| lane.set_conditions(conditions))
    }

    /// How the direction from `a` to `b` behaves while it is not cut.
    ///
    /// # Errors
    /// [`NoLane`].
    pub fn conditions(&self, a: &Place, b: &Place) -> Result<Conditions, NoLane> {
        let ends = (End::Processes(a.clone()), End::Processes(b.clone()));
        self.lanes.get(&ends).map(|lane| lane.conditions()).ok_or_else(|| NoLane(a.clone(), b.clone()))
    }

    /// Every direction between the processes of two places: how it behaves, and the bytes sent so far.
    pub fn directions(&self) -> impl Iterator<Item = (&Place, &Place, Conditions, u64)> {
        self.lanes.iter().filter_map(|((from, to), lane)| match (from, to) {
            (End::Processes(from), End::Processes(to)) => Some((from, to, lane.conditions(), lane.bytes())),
            _ => None,
        })
    }

    /// Holds everything from `a` to `b` back for so long.
    ///
    /// # Errors
    /// [`NoLane`].
    pub fn stall(&self, a: &Place, b: &Place, pause: Duration) -> Result<(), NoLane> {
        self.each(a, b, |lane| lane.stall(pause))
    }

    /// Resets the connections between `a` and `b` that exist now, whoever opened them.
    ///
    /// # Errors
    /// [`NoLane`].
    pub fn reset(&self, a: &Place, b: &Place) -> Result<(), NoLane> {
        self.each(a, b, Lane::reset)
    }

    /// Whether the clients near `a` reach the processes in `b` now.
    pub fn is_open_to_clients(&self, a: &Place, b: &Place) -> bool {
        let (from, to) = (End::Clients(a.clone()), End::Processes(b.clone()));
        let is_open = |ends| self.lanes.get(&ends).is_some_and(|lane: &Arc<Lane>| lane.is_open());
        a == b || (is_open((from.clone(), to.clone())) && is_open((to, from)))
    }

    /// The directions that are cut.
    pub fn cuts(&self) -> Vec<(Place, Place)> {
        let cut = self.lanes.iter().filter(|(_, lane)| lane.is_cut());
        let pairs = cut.map(|((from, to), _)| (from.place().clone(), to.place().clone()));
        pairs.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Changes all lanes from `a` to `b`: that of the processes, and those of the clients.
    fn each(&self, a: &Place, b: &Place, change: impl Fn(&Lane)) -> Result<(), NoLane> {
        let lanes = self.lanes.iter().filter(|((from, to), _)| from.place() == a && to.place() == b);
        let changed = lanes.map(|(_, lane)| change(lane)).count();
        if changed == 0 { Err(NoLane(a.clone(), b.clone())) } else { Ok(()) }
    }
}
