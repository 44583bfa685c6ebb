//! Work that keeps a core busy, off the threads that serve.

use crate::machine::installed;
use tokio::task::JoinError;

/// Runs work on a thread of its own; in a simulation, whose hosts have one thread, at once and in its place.
///
/// # Errors
/// The work panicked, or the runtime is going down.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match installed() {
        Some(_) => Ok(work()),
        None => tokio::task::spawn_blocking(work).await,
    }
}
