//! Who listens where, and by which roads places reach each other. Nothing is started here.

use crate::{
    options::{DirectoryShape, Shape},
    place::{DIRECTORY, Place},
    ports::{PortError, Reservation},
    table::WanTable,
    wan::{Link, Wan},
};
use std::{collections::BTreeMap, io, net::SocketAddr};
use types::{IdError, NodeId, RegionId};

/// Ports behind the base port: the control API, the directory's process outside the regions, then ten for each
/// region: its first node, replicator and front, its replica of the directory, and its further nodes.
const DIRECTORY_STEP: u32 = 1;
const REGION_STEPS: u32 = 10;
const REPLICATOR_STEP: u32 = 1;
const FRONT_STEP: u32 = 2;
const REPLICA_STEP: u32 = 3;
const FURTHER_NODES_STEP: u32 = 4;

/// Nodes of one region, at most.
pub const NODES_PER_REGION_MAX: u32 = REGION_STEPS - FURTHER_NODES_STEP + 1;

/// A node's name and address.
#[derive(Debug)]
pub(crate) struct PlannedNode {
    pub(crate) id: NodeId,
    pub(crate) address: SocketAddr,
}

/// A region's names and addresses.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) name: RegionId,
    pub(crate) nodes: Vec<PlannedNode>,
    pub(crate) replicator: SocketAddr,
    pub(crate) front: SocketAddr,
}

impl Planned {
    pub(crate) fn place(&self) -> Place {
        Place::from(self.name.clone())
    }
}

/// A process of the directory.
#[derive(Debug)]
pub(crate) struct PlannedDirectory {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// Its number in the group; none where it is one process.
    pub(crate) replica: Option<u64>,
    pub(crate) address: SocketAddr,
}

/// All addresses of a deployment.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) control: SocketAddr,
    pub(crate) directories: Vec<PlannedDirectory>,
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
        let mut plan = Self { control: control.address(), directories: Vec::new(), regions: Vec::new() };
        let mut held = Held { control, fronts: Vec::new(), children: Vec::new() };
        for (at, (place, step)) in directory_places(shape).into_iter().enumerate() {
            let is_group = !matches!(shape.directory, DirectoryShape::One) && shape.regions.len() > 1;
            let name = match &place {
                Place::Directory => DIRECTORY.to_owned(),
                Place::Region(region) => format!("{DIRECTORY}-{region}"),
            };
            let directory = take(step, &format!("the {name}"))?;
            let replica = is_group.then_some(at as u64 + 1);
            plan.directories.push(PlannedDirectory { name, place, replica, address: directory.address() });
            held.children.push(directory);
        }
        for (name, first) in shape.regions.iter().zip((REGION_STEPS..).step_by(REGION_STEPS as usize)) {
            let mut nodes = Vec::new();
            for number in 1..=shape.nodes_per_region {
                let id = node_id(name, number).expect("a region's name leaves room for the number");
                let node = take(first + node_step(number), &format!("the node {id}"))?;
                nodes.push(PlannedNode { id, address: node.address() });
                held.children.push(node);
            }
            let replicator = take(first + REPLICATOR_STEP, &format!("the replicator of {name}"))?;
            let front = take(first + FRONT_STEP, &format!("the front of {name}"))?;
            plan.regions.push(Planned {
                name: name.clone(),
                nodes,
                replicator: replicator.address(),
                front: front.address(),
            });
            held.fronts.push(front);
            held.children.push(replicator);
        }
        Ok((plan, held))
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        let has_outside = self.directories.iter().any(|directory| directory.place == Place::Directory);
        let outside = has_outside.then_some(Place::Directory);
        self.regions.iter().map(Planned::place).chain(outside).collect()
    }

    /// What is dialled from other places: where it is, and where it listens.
    fn targets(&self) -> impl Iterator<Item = (Place, SocketAddr)> {
        let of_region = |region: &Planned| {
            let place = region.place();
            region.nodes.iter().map(move |node| (place.clone(), node.address)).collect::<Vec<_>>()
        };
        let directories =
            self.directories.iter().map(|directory| (directory.place.clone(), directory.address));
        self.regions.iter().flat_map(of_region).chain(directories)
    }
}

/// Where the directory's processes are, and their ports' steps.
fn directory_places(shape: &Shape) -> Vec<(Place, u32)> {
    let outside = (Place::Directory, DIRECTORY_STEP);
    if shape.directory == DirectoryShape::One || shape.regions.len() == 1 {
        return vec![outside];
    }
    let firsts = (REGION_STEPS..).step_by(REGION_STEPS as usize);
    let inside = shape.regions.iter().zip(firsts);
    let inside = inside.map(|(region, first)| (Place::from(region.clone()), first + REPLICA_STEP));
    let witness = (shape.regions.len() == 2).then_some(outside);
    inside.chain(witness).collect()
}

const fn node_step(number: u32) -> u32 {
    if number == 1 { 0 } else { FURTHER_NODES_STEP + number - 2 }
}

fn node_id(region: &RegionId, number: u32) -> Result<NodeId, IdError> {
    NodeId::new(&format!("{region}-{number}"))
}

/// From every place to the processes that others dial in every place: the nodes, and the directory.
#[derive(Debug)]
pub(crate) struct Roads {
    of_processes: BTreeMap<(Place, SocketAddr), Link>,
    of_clients: BTreeMap<(Place, SocketAddr), Link>,
}

impl Roads {
    /// Opens a link from every place to every process that it may dial elsewhere, and for clients from
    /// every region to the nodes of every other.
    pub(crate) async fn open(wan: &Wan, plan: &Plan) -> io::Result<Self> {
        let (mut of_processes, mut of_clients) = (BTreeMap::new(), BTreeMap::new());
        for from in plan.places() {
            for (to, target) in plan.targets().filter(|(to, _)| *to != from) {
                let ends = (from.clone(), target);
                of_processes.insert(ends.clone(), wan.open_link(&from, &to, target).await?);
                if matches!((&from, &to), (Place::Region(_), Place::Region(_))) {
                    of_clients.insert(ends, wan.open_client_link(&from, &to, target).await?);
                }
            }
        }
        Ok(Self { of_processes, of_clients })
    }

    /// Where the processes in `from` reach what listens at `target`: there, unless a link leads to it.
    pub(crate) fn address(&self, from: &Place, target: SocketAddr) -> SocketAddr {
        self.of_processes.get(&(from.clone(), target)).map_or(target, Link::address)
    }

    /// Where the clients near the region `from` reach the node that listens at `target`.
    pub(crate) fn client_address(&self, from: &Place, target: SocketAddr) -> SocketAddr {
        self.of_clients.get(&(from.clone(), target)).map_or(target, Link::address)
    }

    /// Where the clients near the region `from` reach all nodes but `except`.
    pub(crate) fn clients(&self, from: &Place, except: &NodeId, plan: &Plan) -> BTreeMap<NodeId, SocketAddr> {
        let nodes = plan.regions.iter().flat_map(|region| &region.nodes);
        nodes
            .filter(|node| node.id != *except)
            .map(|node| (node.id.clone(), self.client_address(from, node.address)))
            .collect()
    }

    /// Where `from` reaches the directory's processes, the nearest first.
    pub(crate) fn directories(&self, from: &Place, plan: &Plan, table: &WanTable) -> Vec<SocketAddr> {
        let mut directories: Vec<&PlannedDirectory> = plan.directories.iter().collect();
        directories.sort_by_key(|directory| (directory.place != *from, table.rtt(from, &directory.place)));
        directories.into_iter().map(|directory| self.address(from, directory.address)).collect()
    }

    /// Where `from` reaches the nodes of all other regions.
    pub(crate) fn dial(&self, from: &Place, plan: &Plan) -> BTreeMap<NodeId, SocketAddr> {
        let elsewhere = plan.regions.iter().filter(|region| region.place() != *from);
        elsewhere
            .flat_map(|region| &region.nodes)
            .map(|node| (node.id.clone(), self.address(from, node.address)))
            .collect()
    }
}
