//! What a deployment is to be like.

use crate::{plan::NODES_PER_REGION_MAX, table::WanTable};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};
use types::{NodeId, RegionId};

/// Regions of one deployment, at most.
pub const REGIONS_MAX: usize = types::limits::REGIONS_MAX;
/// The regions of a deployment that names none.
pub const REGIONS_DEFAULT: [&str; 3] = ["us-east", "eu-west", "ap-south"];
/// Partitions per region of a deployment that does not say.
pub const PARTITIONS_PER_REGION_DEFAULT: u32 = 64;
/// Partitions per region, at most.
pub const PARTITIONS_PER_REGION_MAX: u32 = 1_024;
/// Nodes per region of a deployment that does not say.
pub const NODES_PER_REGION_DEFAULT: u32 = 1;
/// The lease of a deployment that does not say.
pub const LEASE_TTL_DEFAULT: Duration = Duration::from_secs(4);
/// The shortest lease: renewals are a quarter of it apart.
pub const LEASE_TTL_MIN: Duration = Duration::from_millis(200);

/// What to start. [`Options::new`] gives what `hearth up` starts; change the fields from there.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `hearth` binary; it is called as `PROGRAM directory|node|replicator --config FILE`.
    pub program: PathBuf,
    /// The regions. `None`: those of the folder, or [`REGIONS_DEFAULT`].
    pub regions: Option<Vec<RegionId>>,
    /// Where data, configurations and logs live, to be kept and continued. `None`: a temporary folder.
    pub dir: Option<PathBuf>,
    /// The first port. `None`: that of the folder, or `base_port_default`.
    pub base_port: Option<u16>,
    /// The first port for a new folder where `base_port` names none. `None`: free ports, new ones each time.
    pub base_port_default: Option<u16>,
    /// How far places are from each other.
    pub table: WanTable,
    /// Decides all jitter.
    pub seed: u64,
    /// Fixed when a folder is first used. `None`: the folder's, or [`PARTITIONS_PER_REGION_DEFAULT`].
    pub partitions_per_region: Option<u32>,
    /// Nodes of each region. More than the folder's are added to it; fewer are refused. `None`: the folder's, or 1.
    pub nodes_per_region: Option<u32>,
    /// How the directory runs. `None`: as the folder says, or as [`DirectoryShape::Group`].
    pub directory: Option<DirectoryShape>,
    /// Nodes that are not started with the others, but only by [`crate::Lab::restart`].
    pub idle: BTreeSet<NodeId>,
    /// The lease; renewals come every quarter of it, and three quarters without one are silence.
    pub lease_ttl: Duration,
    /// Added to the environment of every child.
    pub env: Vec<(String, String)>,
    /// Laid over the generated configurations.
    pub overlay: Overlay,
}

/// How the directory runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectoryShape {
    /// One process outside the regions. It survives the loss of any of them, and nothing survives its own.
    #[default]
    One,
    /// A replica in each region, which are lost with it. Two regions get a third one outside, as a witness; one
    /// region alone gets one process.
    Group,
}

/// Tables that are merged over the generated configurations, key by key; tables inside are merged, too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlay {
    /// Over the directory's.
    pub directory: toml::Table,
    /// Over each node's.
    pub node: toml::Table,
    /// Over the configuration of the node of this name, above `node`.
    pub only_node: BTreeMap<NodeId, toml::Table>,
    /// Over each replicator's.
    pub replicator: toml::Table,
}

impl Options {
    /// Three regions in a temporary folder, at real distances, on free ports.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            regions: None,
            dir: None,
            base_port: None,
            base_port_default: None,
            table: WanTable::default(),
            seed: 0,
            partitions_per_region: None,
            nodes_per_region: None,
            directory: None,
            idle: BTreeSet::new(),
            lease_ttl: LEASE_TTL_DEFAULT,
            env: Vec::new(),
            overlay: Overlay::default(),
        }
    }

    /// Names the regions.
    ///
    /// # Errors
    /// [`OptionsError`] with every mistake.
    pub fn with_regions<'a>(
        mut self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, OptionsError> {
        self.regions = Some(parse_regions(names)?);
        Ok(self)
    }

    pub(crate) fn validate(&self) -> Result<(), OptionsError> {
        let mut mistakes = Vec::new();
        let per_region = self.partitions_per_region.unwrap_or(PARTITIONS_PER_REGION_DEFAULT);
        if !(1..=PARTITIONS_PER_REGION_MAX).contains(&per_region) {
            mistakes.push(format!(
                "partitions per region: {per_region} is not between 1 and {PARTITIONS_PER_REGION_MAX}"
            ));
        }
        let nodes = self.nodes_per_region.unwrap_or(NODES_PER_REGION_DEFAULT);
        if !(1..=NODES_PER_REGION_MAX).contains(&nodes) {
            mistakes.push(format!("nodes per region: {nodes} is not between 1 and {NODES_PER_REGION_MAX}"));
        }
        if self.lease_ttl < LEASE_TTL_MIN {
            mistakes.push(format!("lease: {:?} is shorter than {LEASE_TTL_MIN:?}", self.lease_ttl));
        }
        if let Some(regions) = &self.regions {
            check_regions(regions, &mut mistakes);
        }
        if mistakes.is_empty() { Ok(()) } else { Err(OptionsError(mistakes)) }
    }
}

/// Everything that is wrong with the options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct OptionsError(pub Vec<String>);

/// Parses the names of regions.
///
/// # Errors
/// [`OptionsError`] with every mistake.
pub fn parse_regions<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<RegionId>, OptionsError> {
    let mut mistakes = Vec::new();
    let regions: Vec<RegionId> = names
        .into_iter()
        .filter_map(|name| RegionId::new(name.trim()).map_err(|error| mistakes.push(error.to_string())).ok())
        .collect();
    if mistakes.is_empty() {
        check_regions(&regions, &mut mistakes);
    }
    if mistakes.is_empty() { Ok(regions) } else { Err(OptionsError(mistakes)) }
}

fn check_regions(regions: &[RegionId], mistakes: &mut Vec<String>) {
    if regions.is_empty() || regions.len() > REGIONS_MAX {
        mistakes.push(format!("{} regions: there can be 1 to {REGIONS_MAX}", regions.len()));
    }
    for (i, region) in regions.iter().enumerate() {
        if regions[..i].contains(region) {
            mistakes.push(format!("region {region} is named twice"));
        }
        if region.as_str() == crate::place::DIRECTORY {
            mistakes.push(format!("no region can be called {region}: that is the directory's place"));
        }
    }
}

/// What a folder was first used with, and has to be used with again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Shape {
    pub(crate) regions: Vec<RegionId>,
    pub(crate) partitions_per_region: u32,
    #[serde(default = "nodes_per_region_default")]
    pub(crate) nodes_per_region: u32,
    pub(crate) base_port: Option<u16>,
    /// A folder that does not say was made when there was one process only.
    #[serde(default)]
    pub(crate) directory: DirectoryShape,
}

const fn nodes_per_region_default() -> u32 {
    NODES_PER_REGION_DEFAULT
}
