//! The disk under the store.

use anyhow::{Context, Result, bail};
use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    sys::statfs::{TMPFS_MAGIC, statfs},
    unistd::sync,
};
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Refuses a folder whose files are kept in memory: its syncs would cost nothing.
pub(crate) fn refuse_memory(dir: &Path) -> Result<()> {
    let dir = std::path::absolute(dir)?;
    let made = dir.ancestors().find(|folder| folder.exists()).context("no such folder")?;
    let kind = statfs(made).with_context(|| format!("cannot look at {}", made.display()))?.filesystem_type();
    if kind == TMPFS_MAGIC {
        bail!("{} is on a tmpfs, where a sync costs nothing: name a folder on a disk", dir.display());
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))
}

/// All files below a folder.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}

/// Asks the system to forget what it keeps of a folder's files in memory.
pub(crate) fn drop_cached(dir: &Path) -> Result<()> {
    sync();
    for path in files(dir)? {
        posix_fadvise(&File::open(path)?, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

/// The bytes written to a folder's segments: their files without the zeros behind the last frame.
pub(crate) fn segment_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for path in files(dir)? {
        if path.extension().is_some_and(|extension| extension == "segment") {
            bytes += used_bytes(&path)?;
        }
    }
    Ok(bytes)
}

fn used_bytes(path: &Path) -> Result<u64> {
    let mut file = File::open(path)?;
    let (mut at, mut used) = (0, 0);
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(used);
        }
        if let Some(last) = block[..read].iter().rposition(|byte| *byte != 0) {
            used = at + last as u64 + 1;
        }
        at += read as u64;
    }
}
