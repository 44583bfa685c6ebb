//! The switches of the binary under test: homes held still at a chosen place, and replies lost.

use lab::Options;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// Where a home can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Writes are sequenced, and not handed to the store.
    BeforeAppend,
    /// Writes are durable, and not answered.
    BeforeAck,
}

impl Point {
    const fn file(self) -> &'static str {
        match self {
            Self::BeforeAppend => "before-append",
            Self::BeforeAck => "before-ack",
        }
    }
}

/// The folder through which a deployment's switches are set. One for all its nodes.
#[derive(Debug)]
pub struct Switches(TempDir);

impl Switches {
    /// Switches for the deployment that `options` describe; none is set.
    ///
    /// # Panics
    /// When there is no room for a folder.
    pub fn lay_into(options: &mut Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        options.env.push(("HEARTH_TEST_HOLD".to_owned(), folder.path().display().to_string()));
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Holds every home at `point` from now on.
    ///
    /// # Panics
    /// When the folder is gone.
    pub fn hold(&self, point: Point) {
        fs::write(self.file(point.file()), "").expect("the folder takes a file");
    }

    /// Lets all homes go on.
    ///
    /// # Panics
    /// When they were not held.
    pub fn let_go(&self, point: Point) {
        fs::remove_file(self.file(point.file())).expect("the homes were held");
    }

    /// How many writes a home holds. Each node tells in the same place, when its own number changes: hold the
    /// homes of one node at a time.
    pub fn held(&self, point: Point) -> usize {
        let told = fs::read_to_string(self.file(&format!("held-{}", point.file())));
        told.ok().and_then(|told| told.parse().ok()).unwrap_or(0)
    }

    /// The next ack that reaches a client's connection, at any node, breaks it instead.
    ///
    /// # Panics
    /// When the folder is gone.
    pub fn cut_next_ack(&self) {
        fs::write(self.file("cut-reply"), "").expect("the folder takes a file");
    }

    /// Whether an ack was lost since then.
    pub fn was_cut(&self) -> bool {
        !self.file("cut-reply").exists()
    }
}
