//! The store of a replica: vote, log and rows in one ordered key-value store, used by one thread at a time.
//!
//! | key | what it holds | durable when |
//! |---|---|---|
//! | `Rd` | the replica's name, and the name of this disk | returned |
//! | `Rv` | the vote | returned |
//! | `Rl` index (8 bytes, big-endian) | an entry of the log | returned |
//! | `Rp` | the last entry that was purged | returned |
//! | `Rc` | how far the log is committed | with the next of the above |
//! | `Ra` | how far the log is applied, and the membership there | with the next of the above |
//! | any other | the directory's rows (see [`crate::rows`]) | with the next of the above |
//!
//! Rows need no sync of their own: they are a fold of the log. After a crash they may be older than they were,
//! together with `Ra`, and the entries since then are applied again. So an entry is purged only after the rows
//! that it led to are durable.

use crate::{
    bounds,
    kv::{self, Kv},
};
use std::{sync::Arc, thread};
use tokio::sync::{mpsc, oneshot};

/// Where the keys of consensus begin; those of rows are in lower case.
pub(super) const OURS: u8 = b'R';
pub(super) const DISK: &[u8] = b"Rd";
pub(super) const VOTE: &[u8] = b"Rv";
pub(super) const PURGED: &[u8] = b"Rp";
pub(super) const COMMITTED: &[u8] = b"Rc";
pub(super) const APPLIED: &[u8] = b"Ra";
const LOG: &[u8; 2] = b"Rl";
/// Follows every key of the log.
pub(super) const LOG_END: &[u8] = b"Rm";

/// The key of an entry.
pub(super) fn log_key(index: u64) -> Vec<u8> {
    [LOG.as_slice(), &index.to_be_bytes()].concat()
}

type Job = Box<dyn FnOnce(&dyn Kv) + Send>;

/// Runs what touches the store, one thing after the other. Cheap to clone.
#[derive(Clone)]
pub(super) struct Disk {
    kv: Arc<dyn Kv>,
    /// Without a thread, each caller does its own work.
    thread: Option<mpsc::Sender<Job>>,
}

impl Disk {
    /// Where the store waits for a device, one thread does, so that no task has to. It ends with the last handle.
    pub(super) fn new(kv: Arc<dyn Kv>) -> std::io::Result<Self> {
        if !kv.blocks() {
            return Ok(Self { kv, thread: None });
        }
        let (sender, mut jobs) = mpsc::channel::<Job>(bounds::QUEUE_MAX);
        let own = kv.clone();
        thread::Builder::new().name("directory-disk".into()).spawn(move || {
            while let Some(job) = jobs.blocking_recv() {
                job(&*own);
            }
        })?;
        Ok(Self { kv, thread: Some(sender) })
    }

    /// Runs `work` after everything that was asked for before.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Kv) -> Result<T, kv::Error> + Send + 'static,
    ) -> Result<T, kv::Error> {
        let Some(thread) = &self.thread else { return work(&*self.kv) };
        let (sender, done) = oneshot::channel();
        let job: Job = Box::new(move |kv| {
            let _gone = sender.send(work(kv));
        });
        thread.send(job).await.map_err(|_| ended())?;
        done.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Runs `work` after everything that was asked for before; nobody waits for it. A store that fails does so for good,
    /// and whoever writes next hears of it.
    pub(super) async fn soon(
        &self,
        work: impl FnOnce(&dyn Kv) -> Result<(), kv::Error> + Send + 'static,
    ) -> Result<(), kv::Error> {
        let Some(thread) = &self.thread else { return work(&*self.kv) };
        let job: Job = Box::new(move |kv| {
            if let Err(error) = work(kv) {
                tracing::error!(%error, "the store of this replica fails");
            }
        });
        thread.send(job).await.map_err(|_| ended())
    }

    /// The store itself, for reads that wait for nothing that is under way.
    pub(super) fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }
}

fn ended() -> kv::Error {
    kv::Error::Engine { what: "write", why: "the thread of the store has ended".into() }
}
