//! The file layer: everything the embedded engine asks of a folder, and nothing else.
//!
//! The engine reaches its segments only through [`Files`], so a test can put a layer below it that
//! loses, tears or keeps what was not synced, runs out of room, or fails a sync. The cost on the hot
//! path is one dynamic call per write, per sync and per read.

#[cfg(feature = "test-switches")]
pub mod cut;
mod real;

pub use real::RealFiles;

use std::{fmt, io, path::PathBuf, sync::Arc};

/// One folder.
///
/// A name that was created, renamed or removed is durable only after [`Files::sync_folder`].
pub trait Files: Send + Sync + fmt::Debug + 'static {
    /// Creates an empty file; an older one of that name is emptied.
    ///
    /// # Errors
    /// What the operating system answers.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file that exists.
    ///
    /// # Errors
    /// `NotFound` and what else the operating system answers.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Renames a file over another.
    ///
    /// # Errors
    /// What the operating system answers.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system answers.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of the files in the folder, in no order.
    ///
    /// # Errors
    /// What the operating system answers.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes the names in the folder durable.
    ///
    /// # Errors
    /// What the operating system answers; never to be retried.
    fn sync_folder(&self) -> io::Result<()>;

    /// Keeps others out for as long as the guard lives; `None` when another has it.
    ///
    /// # Errors
    /// What the operating system answers.
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Guard>>>;

    /// Where the folder is: for messages, and for the fold that lives beside the segments.
    fn path(&self) -> PathBuf;
}

/// Holds a folder's lock until it is dropped.
pub trait Guard: Send + Sync + fmt::Debug {}

/// One file.
pub trait File: Send + Sync + fmt::Debug + 'static {
    /// Writes all bytes at a place; after an error some of them may be there.
    ///
    /// # Errors
    /// `StorageFull`, `QuotaExceeded` and what else the operating system answers.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads until the buffer is full or the file ends; answers how much was read.
    ///
    /// # Errors
    /// What the operating system answers.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Like [`File::read_at`], but only from memory.
    ///
    /// # Errors
    /// `WouldBlock` where the disk would have to be waited for, or where that cannot be told.
    fn read_cached_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Makes the contents, and the length as far as they need it, durable.
    ///
    /// # Errors
    /// What the operating system answers; never to be retried.
    fn sync_data(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the operating system answers.
    fn length(&self) -> io::Result<u64>;

    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    /// What the operating system answers.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Lengthens the file to `len` with zeros and sets the room for them aside.
    ///
    /// # Errors
    /// `StorageFull`, `QuotaExceeded` and what else the operating system answers.
    fn allocate(&self, len: u64) -> io::Result<()>;
}
