//! A multi-region deployment on one machine: real processes, links that behave like a WAN, and an anycast
//! front per region's place.
//!
//! ```text
//!   client in us-east ──▶ front(us-east) ──▶ nodes of us-east, in turn    (direct)
//!                                  └───────▶ link ▶ nodes of eu-west     (if none there is ready)
//!
//!   node, replicator in us-east ──▶ link us-east→eu-west ──▶ each node in eu-west
//!   node, replicator in us-east ──▶ link us-east→directory ─▶ directory
//!   directory ───────────────────▶ link directory→us-east ─▶ each node in us-east
//! ```
//!
//! Clients have links of their own, as long as those of the processes near them, which work on when their
//! region is dead.
//!
//! The links, the fronts and the control API run in the process that calls [`Lab::start`]; the directory,
//! nodes and replicators are children of it, of the binary that [`Options`] names. Each child's
//! configuration sends what leaves its region through a link. All children die with their parent.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use lab::{Lab, Options};
//! use std::time::Duration;
//!
//! let lab = Lab::start(Options::new("target/release/hearth").with_regions(["us-east", "eu-west"])?).await?;
//! lab.wait_ready(Duration::from_secs(30)).await?;
//! println!("clients in Europe connect to {}", lab.front("eu-west")?);
//! lab.cut("us-east", "eu-west", false)?;
//! lab.heal();
//! lab.kill("us-east").await?;
//! lab.restart("us-east").await?;
//! lab.stop().await?;
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

mod configs;
pub mod control;
mod deployment;
mod description;
mod event;
mod folder;
mod front;
mod health;
mod http;
mod lab;
mod launch;
mod options;
mod parent;
mod place;
pub mod placement;
mod plan;
mod ports;
pub mod process;
mod spawner;
mod table;
pub mod wan;

pub use deployment::{LabError, LinkChange};
pub use description::{
    Description, DirectoryDescription, EdgeDescription, LinkDescription, NodeDescription, ProcessDescription,
    RegionDescription,
};
pub use event::Event;
pub use folder::FolderError;
pub use lab::Lab;
pub use launch::StartError;
pub use options::{
    DirectoryShape, LEASE_TTL_DEFAULT, LEASE_TTL_MIN, NODES_PER_REGION_DEFAULT, Options, OptionsError,
    Overlay, PARTITIONS_PER_REGION_DEFAULT, PARTITIONS_PER_REGION_MAX, REGIONS_DEFAULT, REGIONS_MAX,
    parse_regions,
};
pub use parent::die_with_parent;
pub use place::{DIRECTORY, Place, Target};
pub use plan::NODES_PER_REGION_MAX;
pub use ports::PortError;
pub use table::{TableError, WanTable};
/// Tables of the kind that [`Overlay`] takes.
pub use toml;
