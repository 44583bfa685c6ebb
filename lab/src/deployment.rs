//! The parts of a running deployment, and what can be done to them.

use crate::{
    description::{
        Description, DirectoryDescription, EdgeDescription, LinkDescription, NodeDescription,
        ProcessDescription, RegionDescription,
    },
    event::Event,
    folder::Folder,
    health,
    place::{Place, Target},
    placement,
    plan::Roads,
    process::{self, Process, ProcessError, State},
    wan::{Conditions, NoLane, Wan},
};
use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::broadcast, time::sleep};
use types::{NodeId, PlacementDelta, RegionId};

/// Events that a slow reader may be behind; it misses the oldest ones then.
pub(crate) const EVENTS_MAX: usize = 256;
/// Between two looks at whether the deployment is ready.
const READY_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long the directory has to answer one such look.
const PLACEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Something that cannot be done to a deployment.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Nothing has this name.
    #[error("there is no region {name:?}; there are {}", .known.join(", "))]
    UnknownPlace {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Two ends with no link between them.
    #[error(transparent)]
    NoLane(#[from] NoLane),
    /// It runs already.
    #[error("{0} is running")]
    Running(Target),
    /// It does not run.
    #[error("{0} is not running")]
    NotRunning(Target),
    /// A process cannot obey.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A process that is needed has ended by itself.
    #[error("{process} has ended by itself ({status}); see {log}")]
    Ended {
        /// The process.
        process: String,
        /// How it ended.
        status: String,
        /// What it said is in this file.
        log: String,
    },
    /// It has not become so in time.
    #[error("not {wanted} after {patience:?}: {why}")]
    NotYet {
        /// What was waited for.
        wanted: &'static str,
        /// For how long.
        patience: Duration,
        /// What stands in the way.
        why: String,
    },
}

/// A process and where it listens.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// A node and whether it serves.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) service: Service,
}

impl Node {
    /// It is one that is started only when somebody asks for it, and nobody has.
    fn is_idle(&self) -> bool {
        matches!(self.service.process.state(), State::Stopped { status: None, expected: true })
    }
}

/// A node as clients in some place reach it.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) region: RegionId,
    pub(crate) node: NodeId,
    pub(crate) address: SocketAddr,
}

/// A region's processes and addresses.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) name: RegionId,
    /// At least one.
    pub(crate) nodes: Vec<Node>,
    pub(crate) replicator: Service,
    /// Its replica of the directory, where each region has one.
    pub(crate) directory: Option<Service>,
    pub(crate) front: SocketAddr,
    /// All nodes as seen from here, the nearest first.
    pub(crate) edges: Vec<Edge>,
}

impl Region {
    pub(crate) fn first_node(&self) -> &Node {
        self.nodes.first().expect("a region has at least one node")
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        self.nodes.iter().map(|node| &node.service).chain([&self.replicator]).chain(&self.directory)
    }
}

/// How a link is to change. What is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// One way.
    pub delay: Option<Duration>,
    /// See [`Conditions::jitter`].
    pub jitter: Option<Duration>,
    /// `Some(0)` takes the cap away.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Holds everything back for so long, once.
    pub stall: Option<Duration>,
    /// Resets the connections that exist now.
    pub reset: bool,
}

#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) wan: Arc<Wan>,
    /// The directory's process outside the regions: all of it, or a witness, or none.
    pub(crate) outside: Option<Service>,
    pub(crate) regions: Vec<Region>,
    pub(crate) control: SocketAddr,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) _roads: Roads,
    /// Last, so that a temporary folder outlives what uses it.
    pub(crate) folder: Folder,
}

impl Deployment {
    pub(crate) fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn place(&self, name: &str) -> Result<Place, LabError> {
        let known = || self.regions.iter().map(|region| region.name.to_string());
        match name.parse() {
            Ok(Place::Directory) if self.outside.is_some() => Ok(Place::Directory),
            Ok(Place::Region(region)) if self.regions.iter().any(|known| known.name == region) => {
                Ok(Place::Region(region))
            }
            _ => Err(LabError::UnknownPlace { name: name.to_owned(), known: known().collect() }),
        }
    }

    pub(crate) fn region(&self, name: &str) -> Result<&Region, LabError> {
        let place = self.place(name)?;
        self.regions.iter().find(|region| Place::from(region.name.clone()) == place).ok_or_else(|| {
            let known = self.regions.iter().map(|region| region.name.to_string()).collect();
            LabError::UnknownPlace { name: name.to_owned(), known }
        })
    }

    /// The node of this name, or the first one of the region of this name.
    pub(crate) fn node(&self, name: &str) -> Result<&Node, LabError> {
        match self.find_node(name) {
            Some((_, node)) => Ok(node),
            None => Ok(self.region(name)?.first_node()),
        }
    }

    fn find_node(&self, name: &str) -> Option<(&Region, &Node)> {
        let nodes =
            self.regions.iter().flat_map(|region| region.nodes.iter().map(move |node| (region, node)));
        nodes.into_iter().find(|(_, node)| node.id.as_str() == name)
    }

    /// A place, or else a node. The known places are named where it is neither.
    fn target(&self, name: &str) -> Result<Target, LabError> {
        match (self.place(name), self.find_node(name)) {
            (Ok(place), _) => Ok(Target::Place(place)),
            (Err(_), Some((_, node))) => Ok(Target::Node(node.id.clone())),
            (Err(unknown), None) => {
                let is_known = self.directories().any(|directory| directory.process.name() == name);
                if is_known { Ok(Target::Directory(name.to_owned())) } else { Err(unknown) }
            }
        }
    }

    /// The directory's processes.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Service> {
        let inside = self.regions.iter().filter_map(|region| region.directory.as_ref());
        self.outside.iter().chain(inside)
    }

    /// One of the directory's processes that runs, or the first one.
    pub(crate) fn directory(&self) -> &Service {
        let mut directories = self.directories();
        let runs = |service: &&Service| matches!(service.process.state(), State::Running { .. });
        let first = self.directories().next().expect("a deployment has a directory");
        directories.find(runs).unwrap_or(first)
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        let of_regions = self.regions.iter().flat_map(Region::services);
        self.outside.iter().chain(of_regions).map(|service| &service.process)
    }

    fn processes_of(&self, target: &Target) -> Vec<&Process> {
        let services: Vec<&Service> = match target {
            Target::Place(Place::Directory) => self.outside.iter().collect(),
            Target::Directory(name) => {
                self.directories().filter(|directory| directory.process.name() == name).collect()
            }
            Target::Place(Place::Region(name)) => {
                self.regions.iter().filter(|region| region.name == *name).flat_map(Region::services).collect()
            }
            Target::Node(id) => {
                self.find_node(id.as_str()).into_iter().map(|(_, node)| &node.service).collect()
            }
        };
        services.into_iter().map(|service| &service.process).collect()
    }

    fn place_of(&self, target: &Target) -> Option<Place> {
        match target {
            Target::Place(place) => Some(place.clone()),
            Target::Node(id) => self.find_node(id.as_str()).map(|(region, _)| region.name.clone().into()),
            Target::Directory(name) => self.regions.iter().find_map(|region| {
                let is_it = region.directory.as_ref()?.process.name() == name;
                is_it.then(|| region.name.clone().into())
            }),
        }
    }

    /// The links of a place fall silent first: the others must not hear the sockets of the dying processes
    /// close. A node that is killed alone leaves them as they are.
    pub(crate) async fn kill(&self, name: &str) -> Result<(), LabError> {
        let target = self.target(name)?;
        let running = self.running(&target)?;
        if let Target::Place(place) = &target {
            self.wan.set_silent(place, true);
        }
        for process in running {
            match process.kill().await {
                Err(ProcessError::NotRunning(_)) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.tell(Event::Killed { target });
        Ok(())
    }

    pub(crate) async fn start(&self, name: &str) -> Result<(), LabError> {
        let target = self.target(name)?;
        let stopped: Vec<_> = self
            .processes_of(&target)
            .into_iter()
            .filter(|process| process.state().pid().is_none())
            .collect();
        if stopped.is_empty() {
            return Err(LabError::Running(target));
        }
        for process in stopped {
            process.start().await?;
        }
        if let Some(place) = self.place_of(&target) {
            self.wan.set_silent(&place, false);
        }
        self.tell(Event::Started { target });
        Ok(())
    }

    pub(crate) async fn pause(&self, name: &str) -> Result<(), LabError> {
        let target = self.target(name)?;
        for process in self.running(&target)? {
            process.pause().await?;
        }
        self.tell(Event::Paused { target });
        Ok(())
    }

    pub(crate) async fn resume(&self, name: &str) -> Result<(), LabError> {
        let target = self.target(name)?;
        for process in self.running(&target)? {
            process.resume().await?;
        }
        self.tell(Event::Resumed { target });
        Ok(())
    }

    pub(crate) fn cut(&self, a: &str, b: &str, one_way: bool) -> Result<(), LabError> {
        let (a, b) = (self.place(a)?, self.place(b)?);
        self.wan.cut(&a, &b, one_way)?;
        self.tell(Event::Cut { a, b, one_way });
        Ok(())
    }

    pub(crate) fn heal(&self) {
        self.wan.heal();
        self.tell(Event::Healed);
    }

    pub(crate) fn change_link(
        &self,
        a: &str,
        b: &str,
        one_way: bool,
        change: LinkChange,
    ) -> Result<(), LabError> {
        let (a, b) = (self.place(a)?, self.place(b)?);
        let mut directions = vec![(&a, &b)];
        if !one_way {
            directions.push((&b, &a));
        }
        for (from, to) in directions {
            let now = self.wan.conditions(from, to)?;
            let bandwidth = change.bandwidth_bytes_per_s.map(|cap| (cap > 0).then_some(cap));
            let next = Conditions {
                delay: change.delay.unwrap_or(now.delay),
                jitter: change.jitter.unwrap_or(now.jitter),
                bandwidth_bytes_per_s: bandwidth.unwrap_or(now.bandwidth_bytes_per_s),
            };
            self.wan.set_conditions(from, to, next)?;
            if let Some(pause) = change.stall {
                self.wan.stall(from, to, pause)?;
            }
            if change.reset {
                self.wan.reset(from, to)?;
            }
        }
        self.tell(Event::LinkChanged { a, b, one_way });
        Ok(())
    }

    pub(crate) async fn wait_ready(&self, patience: Duration) -> Result<(), LabError> {
        self.wait("ready", patience, placement::lacks_home).await
    }

    pub(crate) async fn wait_in_sync(&self, patience: Duration) -> Result<(), LabError> {
        let regions = self.regions.len();
        self.wait("in sync", patience, |rows| placement::lacks_copies(rows, regions)).await
    }

    pub(crate) fn describe(&self) -> Description {
        let process = |service: &Service| ProcessDescription {
            pid: service.process.state().pid(),
            address: format!("http://{}", service.address),
        };
        let socket = |address: &SocketAddr| format!("ws://{address}/v1/ws");
        let regions = self.regions.iter().map(|region| RegionDescription {
            region: region.name.clone(),
            front: socket(&region.front),
            edge: socket(&region.first_node().service.address),
            edges: region
                .edges
                .iter()
                .map(|edge| EdgeDescription {
                    region: edge.region.clone(),
                    node: edge.node.clone(),
                    url: socket(&edge.address),
                })
                .collect(),
            http: format!("http://{}", region.first_node().service.address),
            nodes: region.nodes.iter().map(describe_node).collect(),
            replicator: process(&region.replicator),
        });
        Description {
            regions: regions.collect(),
            directory: process(self.directory()),
            directories: self
                .directories()
                .map(|service| DirectoryDescription {
                    name: service.process.name().to_owned(),
                    pid: service.process.state().pid(),
                    address: format!("http://{}", service.address),
                })
                .collect(),
            dir: self.dir().display().to_string(),
            control: format!("http://{}", self.control),
            lab_pid: std::process::id(),
        }
    }

    pub(crate) fn links(&self) -> Vec<LinkDescription> {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let link = |(from, to, conditions, bytes): (&Place, &Place, Conditions, u64)| LinkDescription {
            from: from.clone(),
            to: to.clone(),
            delay_us: us(conditions.delay),
            jitter_us: us(conditions.jitter),
            bytes,
        };
        self.wan.directions().map(link).collect()
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody needs to listen.
        let _ = self.events.send(event);
    }

    fn running(&self, target: &Target) -> Result<Vec<&Process>, LabError> {
        let running: Vec<_> =
            self.processes_of(target).into_iter().filter(|process| process.state().pid().is_some()).collect();
        if running.is_empty() { Err(LabError::NotRunning(target.clone())) } else { Ok(running) }
    }

    async fn wait(
        &self,
        wanted: &'static str,
        patience: Duration,
        lacks: impl Fn(&PlacementDelta) -> Option<String>,
    ) -> Result<(), LabError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(ended) = self.processes().find_map(|process| self.ended(process)) {
                return Err(ended);
            }
            let Some(why) = self.lacking(&lacks).await else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(LabError::NotYet { wanted, patience, why });
            }
            sleep(READY_POLL_INTERVAL).await;
        }
    }

    fn ended(&self, process: &Process) -> Option<LabError> {
        let State::Stopped { status, expected: false } = process.state() else { return None };
        Some(LabError::Ended {
            process: process.name().to_owned(),
            status: process::status_text(status),
            log: self.folder.log(process.name()).display().to_string(),
        })
    }

    /// Asks the nodes themselves: what was seen of one before it was killed says nothing of it now.
    async fn lacking(&self, lacks: &impl Fn(&PlacementDelta) -> Option<String>) -> Option<String> {
        for node in self.regions.iter().flat_map(|region| &region.nodes).filter(|node| !node.is_idle()) {
            if !health::is_ready(node.service.address).await {
                return Some(format!("{} is not ready", node.id));
            }
        }
        match placement::snapshot(&format!("http://{}", self.directory().address), PLACEMENT_TIMEOUT).await {
            Ok(rows) => lacks(&rows),
            Err(error) => Some(error.to_string()),
        }
    }
}

fn describe_node(node: &Node) -> NodeDescription {
    NodeDescription {
        id: node.id.clone(),
        pid: node.service.process.state().pid(),
        address: format!("http://{}", node.service.address),
    }
}
