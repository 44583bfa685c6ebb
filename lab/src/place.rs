//! Where things are: a region, or the directory, which is a place of its own.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use types::{IdError, NodeId, RegionId};

/// The name of the directory's place. No region may have it.
pub const DIRECTORY: &str = "directory";

/// An end of a WAN link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// A region, with all its processes.
    Region(RegionId),
    /// Where the directory is: outside the regions.
    Directory,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => region.fmt(f),
            Self::Directory => f.pad(DIRECTORY),
        }
    }
}

impl FromStr for Place {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text == DIRECTORY { Ok(Self::Directory) } else { RegionId::new(text).map(Self::Region) }
    }
}

impl TryFrom<String> for Place {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl From<RegionId> for Place {
    fn from(region: RegionId) -> Self {
        Self::Region(region)
    }
}

/// What can be killed, started, paused and resumed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum Target {
    /// All processes of a place.
    Place(Place),
    /// One node.
    Node(NodeId),
    /// One process of the directory, by its name.
    Directory(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Node(node) => node.fmt(f),
            Self::Directory(name) => name.fmt(f),
        }
    }
}
