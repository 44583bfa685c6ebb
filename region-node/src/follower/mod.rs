//! The partitions that this node follows: it takes what replicators bring.
//!
//! ```text
//!   Follow streams ─► asks, bounded in bytes ─► driver ─► one request of each partition at a time ─► store
//!         ▲                                                                                           │
//!         └───────────── replies, the newest of each partition ◄──────────────────────────────────────┘
//! ```
//!
//! One task drives all partitions. For each it runs [`core`] against the store, one request at a time;
//! records that wait behind each other become one append.

mod actor;
pub mod core;
mod driver;
mod replies;

pub use actor::{Ask, Reply};
pub use core::{Batch, Outcome, Request};
pub use replies::{Answered, Replies, replies};

use crate::home::{Feed, NodeHomes};
use driver::Driver;
use log_store::LogStore;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use types::{Lsn, PartitionId};

/// Bytes of requests that may wait in a node, all partitions and streams together; beyond it the streams
/// that bring them wait.
const WAITING_BYTES: usize = 64 * 1024 * 1024;
/// What a request counts for beside its records.
const ASK_BYTES: usize = 256;
/// Bunches of requests that may wait for the driver.
const BUNCHES_MAX: usize = 64;

type Cores = Mutex<HashMap<PartitionId, Arc<Mutex<core::Core>>>>;

/// What followed partitions stand on.
#[derive(Debug)]
struct Shared {
    store: Arc<dyn LogStore>,
    cores: Cores,
    homes: OnceLock<Arc<NodeHomes>>,
    /// Counts the appends that brought a SEAL.
    seals: watch::Sender<u64>,
}

impl Shared {
    fn core(&self, partition: PartitionId) -> Arc<Mutex<core::Core>> {
        Arc::clone(self.cores.lock().entry(partition).or_default())
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.saturating_add(ASK_BYTES).min(WAITING_BYTES)).unwrap_or(u32::MAX)
}

/// All partitions that this node follows, or has followed.
#[derive(Debug)]
pub struct Followers {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Vec<Ask>>,
    room: Arc<Semaphore>,
}

impl Followers {
    /// Follows nothing yet.
    pub fn new(store: Arc<dyn LogStore>, shutdown: CancellationToken) -> Arc<Self> {
        let shared = Arc::new(Shared {
            store,
            cores: Mutex::default(),
            homes: OnceLock::new(),
            seals: watch::Sender::new(0),
        });
        let (asks, waiting) = mpsc::channel(BUNCHES_MAX);
        let driver = Driver::new(Arc::clone(&shared));
        tokio::spawn(shutdown.run_until_cancelled_owned(driver.run(waiting)));
        Arc::new(Self { shared, asks, room: Arc::new(Semaphore::new(WAITING_BYTES)) })
    }

    /// Tells where the homes of this node are: one of a lower epoch ends when its partition is fenced.
    pub fn set_homes(&self, homes: Arc<NodeHomes>) {
        let _ = self.shared.homes.set(homes);
    }

    /// Room for an ask of so many bytes, if there is some now. It goes with the ask.
    pub fn room_now(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(permits(bytes)).ok()
    }

    /// Waits for such room.
    pub async fn room_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_many_owned(permits(bytes)).await.ok()
    }

    /// Asks partitions for something; the asks of each are served in this order.
    pub async fn ask(&self, asks: Vec<Ask>) {
        // The driver ends only with the node.
        let _ = self.asks.send(asks).await;
    }

    /// Whether this node's copy has been found to be a part of its home's, and may be served.
    pub fn is_matched(&self, partition: PartitionId) -> bool {
        let core = self.shared.cores.lock().get(&partition).cloned();
        core.is_some_and(|core| core.lock().is_matched())
    }

    /// Changes whenever a SEAL has become durable in a followed partition.
    pub(crate) fn seals(&self) -> watch::Receiver<u64> {
        self.shared.seals.subscribe()
    }

    /// Up to where the partition is known here to be replicated.
    pub fn watermark(&self, partition: PartitionId) -> Lsn {
        let core = self.shared.cores.lock().get(&partition).cloned();
        core.map_or(Lsn::ZERO, |core| core.lock().watermark())
    }

    /// This node is no longer home of the partition.
    pub(crate) fn end_of_home(&self, partition: PartitionId, feed: &Feed) {
        self.shared.core(partition).lock().end_of_home(feed.watermark());
    }

    /// The partition's fence was raised elsewhere.
    pub(crate) fn forget(&self, partition: PartitionId) {
        self.shared.core(partition).lock().forget();
    }
}
