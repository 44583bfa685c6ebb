//! WAN links in user space: TCP proxies that delay, slow down, stall, reset and cut.
//!
//! Between two places there is one **lane** each way; every connection from a place to a process in
//! another one goes through a **link**, and shares the two lanes with all others of that pair.
//!
//! | what | existing connections | new ones |
//! |---|---|---|
//! | delay, jitter, bandwidth | later, in order, pipelined | the handshake costs a round trip, too |
//! | stall | wait for so long, then go on | the same |
//! | cut | hang: no byte, FIN or RST arrives | are accepted by the kernel, and hang |
//! | cut, one way | bytes of the other way still arrive | hang: the handshake needs both ways |
//! | silence (a dead region) | hang, as with a cut of every lane of the place | the same |
//! | reset | are reset at both ends | are not touched |
//!
//! When a cut or a silence ends, what was held arrives at once: connections whose two ends still live go
//! on, as TCP does after an outage; one whose end has died in between is reset then.

mod lane;
mod link;
mod pump;

pub use lane::Conditions;
pub use link::Link;

use crate::{place::Place, table::WanTable};
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
    lanes: BTreeMap<(Place, Place), Arc<Lane>>,
    silent: Mutex<BTreeSet<Place>>,
}

/// Two places between which there is no lane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no link between {0} and {1}")]
pub struct NoLane(pub Place, pub Place);

impl Wan {
    /// Lanes between every two of `places`, as far apart as `table` says. `seed` decides all jitter.
    pub fn new(places: &[Place], table: &WanTable, seed: u64) -> Self {
        let mut lanes = BTreeMap::new();
        for (i, a) in places.iter().enumerate() {
            for (j, b) in places.iter().enumerate() {
                if a == b {
                    continue;
                }
                let conditions = Conditions {
                    delay: table.rtt(a, b) / 2,
                    jitter: table.jitter(),
                    bandwidth_bytes_per_s: None,
                };
                let lane_seed = seed ^ ((i * places.len() + j) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                lanes.insert((a.clone(), b.clone()), Arc::new(Lane::new(conditions, lane_seed)));
            }
        }
        Self { lanes, silent: Mutex::new(BTreeSet::new()) }
    }

    /// Opens a link from `from` to the process in `to` that listens at `target`.
    ///
    /// # Errors
    /// What the system says when it has no port to give, or [`NoLane`] inside it.
    pub async fn open_link(&self, from: &Place, to: &Place, target: SocketAddr) -> io::Result<Link> {
        let (there, back) =
            self.both(from, to).map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?;
        Link::open(target, Arc::clone(there), Arc::clone(back)).await
    }

    /// Lets nothing through from `a` to `b`, nor back unless `one_way`.
    ///
    /// # Errors
    /// [`NoLane`], as for every method here that names two places.
    pub fn cut(&self, a: &Place, b: &Place, one_way: bool) -> Result<(), NoLane> {
        let (there, back) = self.both(a, b)?;
        there.set_cut(true);
        if !one_way {
            back.set_cut(true);
        }
        Ok(())
    }

    /// Ends every cut and every stall. Silent places stay silent.
    pub fn heal(&self) {
        for lane in self.lanes.values() {
            lane.set_cut(false);
            lane.stall(Duration::ZERO);
        }
    }

    /// Makes a place look dead to all others, or ends that.
    pub fn set_silent(&self, place: &Place, silent: bool) {
        let mut places = self.silent.lock();
        if silent {
            places.insert(place.clone());
        } else {
            places.remove(place);
        }
        for ((a, b), lane) in &self.lanes {
            lane.set_silent(places.contains(a) || places.contains(b));
        }
    }

    /// Changes the direction from `a` to `b`.
    ///
    /// # Errors
    /// [`NoLane`].
    pub fn set_conditions(&self, a: &Place, b: &Place, conditions: Conditions) -> Result<(), NoLane> {
        self.lane(a, b).map(|lane| lane.set_conditions(conditions))
    }

    /// How the direction from `a` to `b` behaves while it is not cut.
    ///
    /// # Errors
    /// [`NoLane`].
    pub fn conditions(&self, a: &Place, b: &Place) -> Result<Conditions, NoLane> {
        self.lane(a, b).map(|lane| lane.conditions())
    }

    /// Holds everything from `a` to `b` back for so long.
    ///
    /// # Errors
    /// [`NoLane`].
    pub fn stall(&self, a: &Place, b: &Place, pause: Duration) -> Result<(), NoLane> {
        self.lane(a, b).map(|lane| lane.stall(pause))
    }

    /// Resets the connections between `a` and `b` that exist now, whoever opened them.
    ///
    /// # Errors
    /// [`NoLane`].
    pub fn reset(&self, a: &Place, b: &Place) -> Result<(), NoLane> {
        self.lane(a, b).map(|lane| lane.reset())
    }

    /// Whether a connection from `a` to `b` can be opened now.
    pub fn is_open(&self, a: &Place, b: &Place) -> bool {
        a == b || self.both(a, b).is_ok_and(|(there, back)| there.is_open() && back.is_open())
    }

    /// The directions that are cut.
    pub fn cuts(&self) -> Vec<(Place, Place)> {
        self.lanes.iter().filter(|(_, lane)| lane.is_cut()).map(|(pair, _)| pair.clone()).collect()
    }

    fn both(&self, a: &Place, b: &Place) -> Result<(&Arc<Lane>, &Arc<Lane>), NoLane> {
        Ok((self.lane(a, b)?, self.lane(b, a)?))
    }

    fn lane(&self, a: &Place, b: &Place) -> Result<&Arc<Lane>, NoLane> {
        self.lanes.get(&(a.clone(), b.clone())).ok_or_else(|| NoLane(a.clone(), b.clone()))
    }
}
