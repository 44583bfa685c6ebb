//! Homes that get stuck, by the switches of nodes in builds for tests.

use std::{fs, io, path::PathBuf};
use types::NodeId;

/// The folder in which nodes look for what they are to do.
#[derive(Debug)]
pub(super) struct Switches(PathBuf);

impl Switches {
    pub(super) fn lay_out(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// Where nodes find it.
    pub(super) fn env(&self) -> (String, String) {
        ("HEARTH_TEST_HOLD".to_owned(), self.0.display().to_string())
    }

    fn file(&self, node: &NodeId, durable: bool) -> PathBuf {
        self.0.join(format!("{}@{node}", if durable { "before-ack" } else { "before-append" }))
    }

    /// The homes of a node hand no write to the store; or answer none, once it is durable.
    pub(super) fn stick(&self, node: &NodeId, durable: bool) -> io::Result<()> {
        fs::write(self.file(node, durable), "")
    }

    /// They go on.
    pub(super) fn let_go(&self, node: &NodeId, durable: bool) -> io::Result<()> {
        fs::remove_file(self.file(node, durable))
    }
}
