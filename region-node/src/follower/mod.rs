//! The partitions that this node follows: it takes what replicators bring.
//!
//! One task per partition that something was brought for. It runs [`core`] against the store, one request
//! at a time; records that wait behind each other become one append.

mod actor;
pub mod core;

pub use actor::{Ask, Reply};
pub use core::{Batch, Outcome, Request};

use crate::home::{Feed, NodeHomes};
use actor::Actor;
use log_store::LogStore;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::{Lsn, PartitionId};

/// Requests that may wait for one partition; beyond it the stream that brings them waits.
const WAITING_MAX: usize = 64;

/// A partition as a follower.
#[derive(Debug)]
struct Followed {
    core: Arc<Mutex<core::Core>>,
    asks: mpsc::Sender<Ask>,
}

/// All partitions that this node follows, or has followed.
#[derive(Debug)]
pub struct Followers {
    store: Arc<dyn LogStore>,
    followed: Mutex<HashMap<PartitionId, Followed>>,
    homes: OnceLock<Arc<NodeHomes>>,
    shutdown: CancellationToken,
}

impl Followers {
    /// Follows nothing yet.
    pub fn new(store: Arc<dyn LogStore>, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { store, followed: Mutex::default(), homes: OnceLock::new(), shutdown })
    }

    /// Tells where the homes of this node are: one of a lower epoch ends when its partition is fenced.
    pub fn set_homes(&self, homes: Arc<NodeHomes>) {
        let _ = self.homes.set(homes);
    }

    /// Asks a partition for something; waits while too much waits there already.
    pub async fn ask(&self, partition: PartitionId, ask: Ask) {
        let asks = self.with(partition, |followed| followed.asks.clone());
        // The task ends only with the node.
        let _ = asks.send(ask).await;
    }

    /// Whether this node's copy has been found to be a part of its home's, and may be served.
    pub fn is_matched(&self, partition: PartitionId) -> bool {
        let followed = self.followed.lock();
        followed.get(&partition).is_some_and(|followed| followed.core.lock().is_matched())
    }

    /// Up to where the partition is known here to be replicated.
    pub fn watermark(&self, partition: PartitionId) -> Lsn {
        let followed = self.followed.lock();
        followed.get(&partition).map_or(Lsn::ZERO, |followed| followed.core.lock().watermark())
    }

    /// This node is no longer home of the partition.
    pub(crate) fn end_of_home(&self, partition: PartitionId, feed: &Feed) {
        self.with(partition, |followed| followed.core.lock().end_of_home(feed.watermark()));
    }

    /// The partition's fence was raised elsewhere.
    pub(crate) fn forget(&self, partition: PartitionId) {
        self.with(partition, |followed| followed.core.lock().forget());
    }

    fn with<T>(&self, partition: PartitionId, then: impl FnOnce(&Followed) -> T) -> T {
        let mut followed = self.followed.lock();
        let entry = followed.entry(partition).or_insert_with(|| {
            let (asks, waiting) = mpsc::channel(WAITING_MAX);
            let core = Arc::<Mutex<core::Core>>::default();
            let actor = Actor {
                partition,
                store: Arc::clone(&self.store),
                core: Arc::clone(&core),
                homes: self.homes.get().cloned(),
            };
            tokio::spawn(actor.run(waiting, self.shutdown.clone()));
            Followed { core, asks }
        });
        then(entry)
    }
}
