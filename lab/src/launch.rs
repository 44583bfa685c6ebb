//! From options to a running deployment.
//!
//! ```text
//!   options ─▶ folder (locked) ─▶ ports (all or none) ─▶ links ─▶ configurations ─▶ processes
//! ```
//!
//! Everything that can be refused is tried before the first process is started.

use crate::{
    configs::{ForDirectory, ForNode, ForReplica, ForReplicator},
    deployment::{Deployment, EVENTS_MAX, Edge, Node, Region, Service},
    event::Event,
    folder::{Folder, FolderError},
    front::{Front, Way},
    health::{self, Health},
    options::{Options, OptionsError, Shape},
    place::Place,
    plan::{Plan, Planned, PlannedDirectory, PlannedNode, Roads},
    ports::PortError,
    process::{Process, ProcessError, Spec, State, status_text},
    wan::Wan,
};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use types::NodeId;

/// How long the directory has until it listens. Nodes retry, so waiting only makes the start quieter.
/// The failure domain of the replica outside the regions.
const WITNESS: &str = "witness";
const DIRECTORY_TIMEOUT: Duration = Duration::from_secs(1);
const DIRECTORY_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A deployment that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options make no sense.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A port is not free.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A listener of the lab itself cannot be opened.
    #[error("cannot listen: {0}")]
    Listen(#[from] io::Error),
    /// A process cannot be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Starts everything, and gives the listener of the control API. `stop` ends what the lab itself serves.
pub(crate) async fn launch(
    options: &Options,
    stop: &CancellationToken,
) -> Result<(Arc<Deployment>, TcpListener), StartError> {
    options.validate()?;
    let (folder, shape) = Folder::open(options)?;
    let (plan, held) = Plan::reserve(&shape)?;
    let wan = Arc::new(Wan::new(&plan.places(), &options.table, options.seed));
    let roads = Roads::open(&wan, &plan).await?;
    let builder = Builder { options, folder: &folder, shape: &shape, plan: &plan, roads: &roads };

    let mut directories = builder.directories()?;
    let nodes = plan.regions.iter().flat_map(|region| &region.nodes);
    let health: Healths =
        nodes.map(|node| (node.id.clone(), health::follow(node.address, stop.clone()))).collect();
    let mut regions = Vec::new();
    for (planned, listener) in plan.regions.iter().zip(held.fronts) {
        let ways = builder.ways(planned, &health);
        let (edges, ways) = ways.into_iter().unzip();
        let directory = directories.remove(&planned.place());
        regions.push(builder.region(planned, directory, edges)?);
        let front = Front::new(planned.place(), ways, Arc::clone(&wan));
        tokio::spawn(front.serve(listener.into_listener()?, stop.clone()));
    }
    let control = held.control.into_listener()?;
    let (events, _) = broadcast::channel(EVENTS_MAX);
    let deployment = Arc::new(Deployment {
        wan,
        outside: directories.remove(&Place::Directory),
        regions,
        control: plan.control,
        events,
        _roads: roads,
        folder,
    });
    drop(held.children);
    start_processes(&deployment, options, stop).await?;
    Ok((deployment, control))
}

type Healths = BTreeMap<NodeId, watch::Receiver<Health>>;

struct Builder<'a> {
    options: &'a Options,
    folder: &'a Folder,
    shape: &'a Shape,
    plan: &'a Plan,
    roads: &'a Roads,
}

impl Builder<'_> {
    /// The directory's processes, each where it stands.
    fn directories(&self) -> Result<BTreeMap<Place, Service>, StartError> {
        let numbered = |directory: &PlannedDirectory| Some((directory.replica?, directory.address));
        let peers: BTreeMap<u64, SocketAddr> = self.plan.directories.iter().filter_map(numbered).collect();
        let places: Vec<&Place> = self.plan.directories.iter().map(|directory| &directory.place).collect();
        let pairs = places.iter().flat_map(|a| places.iter().map(move |b| (*a, *b)));
        let longest_rtt = pairs.map(|(a, b)| self.options.table.rtt(a, b)).max().unwrap_or_default();
        let mut services = BTreeMap::new();
        for directory in &self.plan.directories {
            let others = peers.iter().filter(|(id, _)| Some(**id) != directory.replica);
            let dial = others.map(|(id, address)| (*id, self.roads.address(&directory.place, *address)));
            let dial: BTreeMap<u64, SocketAddr> = dial.collect();
            let region = match &directory.place {
                Place::Region(region) => region.as_str(),
                Place::Directory => WITNESS,
            };
            let config = ForDirectory {
                listen: directory.address,
                data_dir: &self.folder.data(&directory.name),
                regions: &self.shape.regions,
                partitions_per_region: self.shape.partitions_per_region,
                lease_ttl: self.options.lease_ttl,
                dial: &self.roads.dial(&directory.place, self.plan),
                replica: directory.replica.map(|id| ForReplica {
                    id,
                    region,
                    peers: &peers,
                    dial: &dial,
                    longest_rtt,
                }),
            };
            let table = config.table(&self.options.overlay);
            let service = self.service("directory", &directory.name, directory.address, &table)?;
            services.insert(directory.place.clone(), service);
        }
        Ok(services)
    }

    fn region(
        &self,
        planned: &Planned,
        directory: Option<Service>,
        edges: Vec<Edge>,
    ) -> Result<Region, StartError> {
        let place = planned.place();
        let directories = self.roads.directories(&place, self.plan, &self.options.table);
        let dial = self.roads.dial(&place, self.plan);
        let replicator = ForReplicator {
            region: &planned.name,
            listen: planned.replicator,
            directory: &directories,
            dial: &dial,
        };
        let replicator = self.service(
            "replicator",
            &format!("replicator-{}", planned.name),
            planned.replicator,
            &replicator.table(&self.options.overlay),
        )?;
        let nodes = planned.nodes.iter().map(|node| {
            let service = self.node(planned, node, &directories, &dial)?;
            Ok(Node { id: node.id.clone(), service })
        });
        Ok(Region {
            name: planned.name.clone(),
            nodes: nodes.collect::<Result<_, StartError>>()?,
            replicator,
            directory,
            front: planned.front,
            edges,
        })
    }

    fn node(
        &self,
        region: &Planned,
        node: &PlannedNode,
        directory: &[SocketAddr],
        dial: &BTreeMap<NodeId, SocketAddr>,
    ) -> Result<Service, StartError> {
        let name = format!("node-{}", node.id);
        let config = ForNode {
            node: &node.id,
            region: &region.name,
            listen: node.address,
            data_dir: &self.folder.data(&name),
            directory,
            dial,
            clients: &self.roads.clients(&region.place(), &node.id, self.plan),
        };
        self.service("node", &name, node.address, &config.table(&self.options.overlay))
    }

    fn service(
        &self,
        role: &str,
        name: &str,
        address: SocketAddr,
        config: &toml::Table,
    ) -> Result<Service, StartError> {
        let config = self.folder.write_config(name, config)?;
        let process = Process::new(Spec {
            name: name.to_owned(),
            program: self.options.program.clone(),
            args: vec![role.into(), "--config".into(), config.into()],
            env: self.options.env.clone(),
            log: self.folder.log(name),
        });
        Ok(Service { process, address })
    }

    /// From a region to the nodes of all, the nearest first.
    fn ways(&self, from: &Planned, health: &Healths) -> Vec<(Edge, Way)> {
        let place = from.place();
        let mut ways = Vec::new();
        for to in &self.plan.regions {
            let there = to.place();
            for node in &to.nodes {
                let address = self.roads.client_address(&place, node.address);
                let edge = Edge { region: to.name.clone(), node: node.id.clone(), address };
                let way = Way {
                    own: there == place,
                    to: there.clone(),
                    rtt: self.options.table.rtt(&place, &there),
                    address,
                    health: health[&node.id].clone(),
                };
                ways.push((edge, way));
            }
        }
        ways.sort_by(|(_, a), (_, b)| a.distance().cmp(&b.distance()));
        ways
    }
}

async fn start_processes(
    deployment: &Arc<Deployment>,
    options: &Options,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    for process in deployment.processes() {
        let state = process.watch();
        let name = process.name().to_owned();
        let log = deployment.folder.log(&name).display().to_string();
        let told = watch_exits(state, name, log, deployment.events.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(told));
    }
    for directory in deployment.directories() {
        directory.process.start().await?;
    }
    let deadline = Instant::now() + DIRECTORY_TIMEOUT;
    for directory in deployment.directories() {
        while TcpStream::connect(directory.address).await.is_err() && Instant::now() < deadline {
            if directory.process.state().pid().is_none() {
                break;
            }
            sleep(DIRECTORY_POLL_INTERVAL).await;
        }
    }
    for region in &deployment.regions {
        for node in region.nodes.iter().filter(|node| !options.idle.contains(&node.id)) {
            node.service.process.start().await?;
        }
        region.replicator.process.start().await?;
    }
    Ok(())
}

async fn watch_exits(
    mut state: watch::Receiver<State>,
    process: String,
    log: String,
    events: broadcast::Sender<Event>,
) {
    while state.changed().await.is_ok() {
        let now = state.borrow_and_update().clone();
        if let State::Stopped { status, expected: false } = now {
            let status = status_text(status);
            // Nobody needs to listen.
            let _ = events.send(Event::Exited { process: process.clone(), status, log: log.clone() });
        }
    }
}
