//! Who listens where, and by which roads places reach each other. Nothing is started here.

use crate::{
    options::Shape,
    place::Place,
    ports::{PortError, Reservation},
    wan::{Link, Wan},
};
use std::{collections::BTreeMap, io, net::SocketAddr};
use types::{IdError, NodeId, RegionId};

/// Ports behind the base port: the control API, the directory, then ten for each region.
const DIRECTORY_STEP: u32 = 1;
const REGION_STEPS: u32 = 10;
const REPLICATOR_STEP: u32 = 1;
const FRONT_STEP: u32 = 2;

/// A region's names and addresses.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) name: RegionId,
    pub(crate) node_id: NodeId,
    pub(crate) node: SocketAddr,
    pub(crate) replicator: SocketAddr,
    pub(crate) front: SocketAddr,
}

/// All addresses of a deployment.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) control: SocketAddr,
    pub(crate) directory: SocketAddr,
    pub(crate) regions: Vec<Planned>,
}

/// The ports of a plan, held until their owners are started.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) control: Reservation,
    pub(crate) fronts: Vec<Reservation>,
    pub(crate) children: Vec<Reservation>,
}

impl Plan {
    /// Takes every port, or none and names the one that is not free.
    pub(crate) fn reserve(shape: &Shape) -> Result<(Self, Held), PortError> {
        let take = |step, wanted_by: &str| Reservation::take(shape.base_port, step, wanted_by);
        let control = take(0, "the control API")?;
        let directory = take(DIRECTORY_STEP, "the directory")?;
        let mut plan =
            Self { control: control.address(), directory: directory.address(), regions: Vec::new() };
        let mut held = Held { control, fronts: Vec::new(), children: vec![directory] };
        for (name, first) in shape.regions.iter().zip((REGION_STEPS..).step_by(REGION_STEPS as usize)) {
            let node = take(first, &format!("the node of {name}"))?;
            let replicator = take(first + REPLICATOR_STEP, &format!("the replicator of {name}"))?;
            let front = take(first + FRONT_STEP, &format!("the front of {name}"))?;
            plan.regions.push(Planned {
                name: name.clone(),
                node_id: node_id(name).expect("a region's name leaves room for the number"),
                node: node.address(),
                replicator: replicator.address(),
                front: front.address(),
            });
            held.fronts.push(front);
            held.children.extend([node, replicator]);
        }
        Ok((plan, held))
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        let regions = self.regions.iter().map(|region| Place::from(region.name.clone()));
        regions.chain([Place::Directory]).collect()
    }

    fn target(&self, place: &Place) -> Option<SocketAddr> {
        match place {
            Place::Directory => Some(self.directory),
            Place::Region(name) => {
                self.regions.iter().find(|region| region.name == *name).map(|region| region.node)
            }
        }
    }
}

fn node_id(region: &RegionId) -> Result<NodeId, IdError> {
    NodeId::new(&format!("{region}-1"))
}

/// From every place to the process that others dial in every place: a node, or the directory.
#[derive(Debug)]
pub(crate) struct Roads {
    of_processes: BTreeMap<(Place, Place), Link>,
    of_clients: BTreeMap<(Place, Place), Link>,
}

impl Roads {
    /// Opens a link between every two places, and one for clients from every region to every other.
    pub(crate) async fn open(wan: &Wan, plan: &Plan) -> io::Result<Self> {
        let places = plan.places();
        let (mut of_processes, mut of_clients) = (BTreeMap::new(), BTreeMap::new());
        for from in &places {
            for to in places.iter().filter(|to| *to != from) {
                let Some(target) = plan.target(to) else { continue };
                let ends = (from.clone(), to.clone());
                of_processes.insert(ends.clone(), wan.open_link(from, to, target).await?);
                if matches!(ends, (Place::Region(_), Place::Region(_))) {
                    of_clients.insert(ends, wan.open_client_link(from, to, target).await?);
                }
            }
        }
        Ok(Self { of_processes, of_clients })
    }

    /// Where the processes in `from` reach `to`, which lies elsewhere.
    pub(crate) fn address(&self, from: &Place, to: &Place) -> SocketAddr {
        let link = self.of_processes.get(&(from.clone(), to.clone()));
        link.expect("there is a link between every two places").address()
    }

    /// Where the clients near the region `from` reach the region `to`, which is another one.
    pub(crate) fn client_address(&self, from: &Place, to: &Place) -> SocketAddr {
        let link = self.of_clients.get(&(from.clone(), to.clone()));
        link.expect("there is a link between every two regions").address()
    }

    /// Where `from` reaches the nodes of all other regions.
    pub(crate) fn dial(&self, from: &Place, plan: &Plan) -> BTreeMap<NodeId, SocketAddr> {
        plan.regions
            .iter()
            .map(|region| (&region.node_id, Place::from(region.name.clone())))
            .filter(|(_, to)| to != from)
            .map(|(node, to)| (node.clone(), self.address(from, &to)))
            .collect()
    }
}
