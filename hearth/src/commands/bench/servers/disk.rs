//! Whether the servers' data is on a disk at all.

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use std::{
    io,
    path::{Path, PathBuf},
};

const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// A folder that no run may be measured on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// Its files are kept in memory.
    #[error("{} is on a {kind}, where a sync costs nothing: keep the servers' data on a disk (--dir)", .folder.display())]
    Memory {
        /// The folder.
        folder: PathBuf,
        /// Its file system.
        kind: &'static str,
    },
    /// It cannot be looked at.
    #[error("cannot look at {}: {source}", .folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Refuses a deployment's folder if it, or any data folder in it, is kept in memory.
pub(crate) fn refuse_memory(dir: &Path) -> Result<(), DiskError> {
    refuse_one(dir)?;
    let unreadable = |source| DiskError::Unreadable { folder: dir.join("data"), source };
    let folders = match std::fs::read_dir(dir.join("data")) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(unreadable(source)),
    };
    for folder in folders {
        refuse_one(&folder.map_err(unreadable)?.path())?;
    }
    Ok(())
}

fn refuse_one(folder: &Path) -> Result<(), DiskError> {
    let found = statfs(folder)
        .map_err(|errno| DiskError::Unreadable { folder: folder.to_owned(), source: errno.into() })?;
    let memory = |kind| Err(DiskError::Memory { folder: folder.to_owned(), kind });
    match found.filesystem_type() {
        TMPFS_MAGIC => memory("tmpfs"),
        RAMFS_MAGIC => memory("ramfs"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_memory_is_refused_and_named() {
        let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
        let refused = refuse_memory(folder.path()).expect_err("it is kept in memory");
        assert!(matches!(&refused, DiskError::Memory { kind: "tmpfs", .. }), "{refused}");
        assert!(refused.to_string().contains(&folder.path().display().to_string()));
    }

    #[test]
    fn a_data_folder_that_leads_into_memory_is_refused() {
        let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        if refuse_memory(dir.path()).is_err() {
            return;
        }
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        std::os::unix::fs::symlink(memory.path(), data.join("node-a-1")).expect("a link");
        assert!(matches!(refuse_memory(dir.path()), Err(DiskError::Memory { .. })));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let refused = refuse_memory(Path::new("/nowhere/at/all")).expect_err("it is not there");
        assert!(refused.to_string().starts_with("cannot look at /nowhere/at/all"), "{refused}");
    }
}
