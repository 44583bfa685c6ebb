//! A small file system for a node's data, which can be filled up.

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::PathBuf,
};

/// Room for a store of small segments that has written little.
const BYTES: u64 = 96 * 1024 * 1024;
/// Segments are prepared in advance: small ones make a full disk felt soon.
pub(super) const SEGMENT_BYTES: u32 = 512 * 1024;
const FILLER: &str = "filler";
const CHUNK_BYTES: usize = 256 * 1024;

/// A file system in memory, at the place of a node's data; unmounted when it is dropped.
#[derive(Debug)]
pub(super) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one at `path`.
    ///
    /// # Errors
    /// This process may not mount: that takes the rights of an administrator.
    pub(super) fn mount(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&path)?;
        let size = format!("size={BYTES}");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
            .with_context(|| format!("a small file system cannot be mounted at {}", path.display()))?;
        Ok(Self { path })
    }

    /// Fills it up to the last byte.
    ///
    /// # Errors
    /// Anything but that it is full.
    pub(super) fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::create(self.path.join(FILLER))?;
        for bytes in [CHUNK_BYTES, 4 * 1024, 1] {
            let chunk = vec![0x5a; bytes];
            loop {
                match filler.write_all(&chunk) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// The filler is not there.
    pub(super) fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.path.join(FILLER))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The processes that have files open there may end a moment later.
        if let Err(error) = umount2(&self.path, MntFlags::MNT_DETACH) {
            eprintln!("chaos: {} stays mounted: {error}", self.path.display());
        }
    }
}
