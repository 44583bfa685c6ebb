//! The deployment under test.

use super::{
    Options,
    clocks::Clocks,
    disk::{SEGMENT_BYTES, SmallDisk},
    switches::Switches,
};
use crate::scenario::{Needs, Scenario};
use anyhow::Context as _;
use lab::{DIRECTORY, DirectoryShape, Event, Lab};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::broadcast;
use types::{NodeId, RegionId};

/// How long a deployment has to come up.
const UP_PATIENCE: Duration = Duration::from_secs(60);

/// What is laid out around a deployment for the faults that are not the lab's.
#[derive(Debug, Default)]
pub struct Layout {
    pub(super) clocks: Option<Clocks>,
    pub(super) disks: Vec<SmallDisk>,
    pub(super) switches: Option<Switches>,
    _folder: Option<TempDir>,
}

/// A deployment that runs.
pub struct Deployed {
    /// Its processes and links.
    pub lab: Arc<Lab>,
    /// Its regions, in order.
    pub regions: Vec<RegionId>,
    /// How many partitions it has.
    pub partitions: usize,
    pub(super) layout: Layout,
    events: parking_lot::Mutex<broadcast::Receiver<Event>>,
}

impl Deployed {
    /// Starts it and waits until every copy is in sync.
    ///
    /// # Errors
    /// It does not come up, or the machine does not let the layout be made.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let mut lab = shape(&options.program, options.seed, options.partitions_per_region, options.lease);
        lab.dir.clone_from(&options.dir);
        lab.directory = Some(options.scenario.directory());
        let layout = lay_out(options.scenario, &mut lab)?;
        Self::up(lab, layout).await
    }

    /// Starts one with nothing laid out around it, and a replica of the directory in each region.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn plain(
        program: &Path,
        seed: u64,
        partitions_per_region: u32,
        lease: Duration,
        dir: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let mut lab = shape(program, seed, partitions_per_region, lease);
        lab.dir = dir;
        Self::up(lab, Layout::default()).await
    }

    async fn up(lab: lab::Options, layout: Layout) -> anyhow::Result<Self> {
        let lab = Lab::start(lab).await?;
        let events = parking_lot::Mutex::new(lab.events());
        lab.wait_ready(UP_PATIENCE).await?;
        lab.wait_in_sync(UP_PATIENCE).await?;
        let regions = lab.describe().regions.into_iter().map(|region| region.region).collect();
        let lab = Arc::new(lab);
        let partitions = crate::observe::snapshot(&lab).await?.partitions.len();
        Ok(Self { lab, regions, partitions, layout, events })
    }

    /// The ways from each region's place, the nearest node first.
    ///
    /// # Errors
    /// Never for the deployment's own regions.
    pub fn edges(&self) -> anyhow::Result<BTreeMap<RegionId, Vec<String>>> {
        let edges = |region: &RegionId| Ok((region.clone(), self.lab.edges(region.as_str())?));
        self.regions.iter().map(edges).collect()
    }

    /// All nodes, with their regions.
    pub fn nodes(&self) -> Vec<(NodeId, RegionId)> {
        let regions = self.lab.describe().regions;
        let nodes = regions.into_iter().flat_map(|region| {
            let name = region.region;
            region.nodes.into_iter().map(move |node| (node.id, name.clone()))
        });
        nodes.collect()
    }

    /// A region's number.
    ///
    /// # Errors
    /// There is no such region.
    pub fn number(&self, region: &RegionId) -> anyhow::Result<usize> {
        let number = self.regions.iter().position(|known| known == region);
        number.with_context(|| format!("there is no region {region}"))
    }

    /// The directory is one process outside the regions.
    pub fn has_directory_outside(&self) -> bool {
        self.lab.describe().directories.iter().any(|directory| directory.name == DIRECTORY)
    }

    /// A region's name.
    pub fn region(&self, number: usize) -> &str {
        self.regions[number % self.regions.len()].as_str()
    }

    /// Ends everything that is broken: links carry, and every process runs.
    ///
    /// # Errors
    /// A process does not start.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.lab.heal();
        self.lab.wait_ready(UP_PATIENCE).await.context("after healing")?;
        Ok(())
    }

    /// The processes that have ended without having been told to.
    pub fn ended_by_themselves(&self) -> Vec<String> {
        let mut ended = Vec::new();
        let mut events = self.events.lock();
        loop {
            match events.try_recv() {
                Ok(event @ Event::Exited { .. }) => ended.push(event.to_string()),
                Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return ended,
            }
        }
    }

    /// Ends all processes.
    ///
    /// # Errors
    /// One cannot be ended.
    pub async fn stop(self) -> anyhow::Result<()> {
        if let Some(lab) = Arc::into_inner(self.lab) {
            lab.stop().await?;
        }
        Ok(())
    }
}

fn shape(program: &Path, seed: u64, partitions_per_region: u32, lease: Duration) -> lab::Options {
    let mut options = lab::Options::new(program);
    options.seed = seed;
    options.partitions_per_region = Some(partitions_per_region);
    options.lease_ttl = lease;
    options.directory = Some(DirectoryShape::Group);
    options
}

fn lay_out(scenario: Scenario, lab: &mut lab::Options) -> anyhow::Result<Layout> {
    let needs = scenario.needs();
    let mut layout = Layout::default();
    if needs == Needs::NOTHING {
        return Ok(layout);
    }
    let folder = tempfile::tempdir()?;
    if needs.clocks {
        let clocks = Clocks::lay_out(folder.path().join("clocks"))?;
        lab.env.extend(clocks.env());
        layout.clocks = Some(clocks);
    }
    if needs.switches {
        let switches = Switches::lay_out(folder.path().join("switches"))?;
        lab.env.push(switches.env());
        layout.switches = Some(switches);
    }
    if needs.small_disk {
        lab.overlay.node.insert("segment-bytes".to_owned(), SEGMENT_BYTES.into());
        let dir: PathBuf = lab.dir.get_or_insert_with(|| folder.path().join("lab")).clone();
        for region in lab::REGIONS_DEFAULT {
            let data = dir.join("data").join(format!("node-{region}-1"));
            layout.disks.push(SmallDisk::mount(data)?);
        }
    }
    layout._folder = Some(folder);
    Ok(layout)
}
