//! The ordered key-value store that the directory's rows live in, as a transaction.
//!
//! Keys are ordered as bytes. The surface is as small as it is so that any ordered store with serializable
//! transactions can stand behind it. Keep a transaction under 1 MB and a second: FoundationDB refuses one
//! over 10 MB or 5 s.

mod embedded;
mod memory;
mod overlay;

pub use embedded::Embedded;
pub use memory::Memory;
pub use overlay::Overlay;

use std::sync::Arc;

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The rows as one transaction sees them: what was committed before it, and its own writes.
pub trait Transaction {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Writes a value over whatever the key held.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be written.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error>;

    /// Removes a key; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be written.
    fn delete(&mut self, key: &[u8]) -> Result<(), Error>;

    /// Up to `limit` pairs with `start <= key < end`, ascending.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be read.
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, Error>;
}

/// What runs inside a writing transaction.
pub type WriteBody<'a> = dyn FnMut(&mut dyn Transaction) -> Result<(), Error> + 'a;
/// What runs inside a reading transaction.
pub type ReadBody<'a> = dyn FnMut(&dyn Transaction) -> Result<(), Error> + 'a;

/// The rows at one moment; later commits do not change it. Holding it keeps their old versions on disk.
pub trait View: Send + Sync {
    /// Up to `limit` pairs with `start <= key < end`, ascending.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be read.
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, Error>;
}

/// A store of the directory's rows.
pub trait Kv: std::fmt::Debug + Send + Sync {
    /// Runs `body` in a serializable transaction. `Ok` means committed and durable. An error of `body`
    /// rolls back; any other error leaves the outcome unknown. `body` may run more than once, of which
    /// only the last run counts.
    ///
    /// # Errors
    /// [`Error`] of `body` or of the commit.
    fn write(&self, body: &mut WriteBody<'_>) -> Result<(), Error>;

    /// Whether calls wait for a disk, so that they need a thread of their own.
    fn blocks(&self) -> bool {
        true
    }

    /// Like [`Kv::write`], but `Ok` means committed only: it is durable once a later [`Kv::write`] is. A crash
    /// before that may lose it, and never a commit before it without it.
    ///
    /// # Errors
    /// [`Error`] of `body` or of the commit.
    fn write_soon(&self, body: &mut WriteBody<'_>) -> Result<(), Error> {
        self.write(body)
    }

    /// Keeps what every commit before this call has left.
    ///
    /// # Errors
    /// [`Error`] of the store.
    fn view(&self) -> Result<Arc<dyn View>, Error>;

    /// Runs `body` on a snapshot that holds every commit which was acknowledged before this call.
    ///
    /// # Errors
    /// [`Error`] of `body` or of the store.
    fn read(&self, body: &mut ReadBody<'_>) -> Result<(), Error>;
}

/// The store under the rows failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The engine could not do it.
    #[error("directory store: {what}: {why}")]
    Engine {
        /// What was tried.
        what: &'static str,
        /// The engine's words.
        why: String,
    },
    /// A row does not decode.
    #[error("directory store: row {key} is damaged: {why}")]
    Damaged {
        /// Its key, printable.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A row was written in a format that this version does not know.
    #[error("directory store: row {key} has format {format}, and this version reads up to {known}")]
    NewerFormat {
        /// Its key, printable.
        key: String,
        /// The format it says.
        format: u8,
        /// The newest one known here.
        known: u8,
    },
}

#[cfg(test)]
mod tests;
