//! A multi-region deployment on one machine.
#![warn(missing_docs)]

mod parent;
mod place;
pub mod process;
mod spawner;
mod table;
pub mod wan;

pub use parent::die_with_parent;
pub use place::{DIRECTORY, Place};
pub use table::{TableError, WanTable};
