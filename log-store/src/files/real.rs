//! Files of the operating system.

use super::{File, Files, Guard};
use nix::fcntl::{FallocateFlags, fallocate};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::{
    fs,
    io::{self, ErrorKind, IoSliceMut},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A real folder.
#[derive(Debug)]
pub struct RealFiles {
    folder: PathBuf,
}

impl RealFiles {
    /// Uses a folder, and makes it durably if it is not there, with all folders above it. They are synced
    /// where they are there already, too: who made them may not have come to it.
    ///
    /// # Errors
    /// What the operating system answers.
    pub fn new(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        fs::File::open(&folder)?.sync_all()?;
        for above in folder.ancestors().skip(1) {
            sync_above(above)?;
        }
        Ok(Self { folder })
    }
}

/// Syncs a folder that may not be ours to open, or lie where nothing can be written or synced.
fn sync_above(folder: &Path) -> io::Result<()> {
    let Ok(opened) = fs::File::open(folder) else { return Ok(()) };
    match opened.sync_all() {
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::ReadOnlyFilesystem) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

impl Files for RealFiles {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(RealFile(options.open(self.folder.join(name))?)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(self.folder.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn sync_folder(&self) -> io::Result<()> {
        fs::File::open(&self.folder)?.sync_all()
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Guard>>> {
        let path = self.folder.join(name);
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(RealGuard { _file: file }))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.clone()
    }
}

/// The lock goes with the open file.
#[derive(Debug)]
struct RealGuard {
    _file: fs::File,
}

impl Guard for RealGuard {}

#[derive(Debug)]
struct RealFile(fs::File);

/// Reads until the buffer is full or nothing more comes. `read` is told how much is there already.
fn read_whole(
    into: &mut [u8],
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match read(done as u64, &mut into[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

impl File for RealFile {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        read_whole(into, |done, rest| self.0.read_at(rest, at + done))
    }

    fn read_cached_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        read_whole(into, |done, rest| {
            let mut rest = [IoSliceMut::new(rest)];
            preadv2(&self.0, &mut rest, at + done, ReadWriteFlags::NOWAIT).map_err(|errno| match errno {
                Errno::OPNOTSUPP | Errno::NOSYS => ErrorKind::WouldBlock.into(),
                other => other.into(),
            })
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let length = i64::try_from(len).map_err(|_| ErrorKind::InvalidInput)?;
        match fallocate(&self.0, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            // Some file systems cannot set room aside; a hole reads as zeros all the same.
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => {
                if self.length()? < len {
                    self.0.set_len(len)?;
                }
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }
}
