//! The task that drives all followed partitions: it keeps what waits for each, and starts the next request
//! of a partition when the one before is answered.

use super::{
    Shared,
    actor::{Actor, Ask, join},
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use tokio::sync::mpsc;
use types::PartitionId;

/// What waits for one partition.
#[derive(Debug, Default)]
struct Waiting {
    asks: VecDeque<Ask>,
    /// A request is being served.
    busy: bool,
}

/// See the module.
pub(super) struct Driver {
    shared: Arc<Shared>,
    waiting: HashMap<PartitionId, Waiting>,
    /// Yields the partition whose request is answered.
    serving: FuturesUnordered<BoxFuture<'static, PartitionId>>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, waiting: HashMap::new(), serving: FuturesUnordered::new() }
    }

    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Vec<Ask>>) {
        let mut touched = Vec::new();
        loop {
            tokio::select! {
                bunch = asks.recv() => match bunch {
                    Some(bunch) => self.take(bunch, &mut touched),
                    None => return,
                },
                Some(served) = self.serving.next() => self.served(served, &mut touched),
            }
            // All that has come is taken before anything is begun, so that it is joined.
            while let Ok(bunch) = asks.try_recv() {
                self.take(bunch, &mut touched);
            }
            while let Some(Some(served)) = self.serving.next().now_or_never() {
                self.served(served, &mut touched);
            }
            for partition in touched.drain(..) {
                self.begin(partition);
            }
        }
    }

    fn take(&mut self, bunch: Vec<Ask>, touched: &mut Vec<PartitionId>) {
        for ask in bunch {
            touched.push(ask.partition);
            self.waiting.entry(ask.partition).or_default().asks.push_back(ask);
        }
    }

    fn served(&mut self, partition: PartitionId, touched: &mut Vec<PartitionId>) {
        if let Some(waiting) = self.waiting.get_mut(&partition) {
            waiting.busy = false;
            touched.push(partition);
        }
    }

    fn begin(&mut self, partition: PartitionId) {
        let Some(waiting) = self.waiting.get_mut(&partition).filter(|waiting| !waiting.busy) else { return };
        let Some(mut first) = waiting.asks.pop_front() else { return };
        waiting.busy = true;
        let joined = join(&mut first, &mut waiting.asks);
        let actor = Actor { partition, core: self.shared.core(partition), shared: Arc::clone(&self.shared) };
        self.serving.push(actor.serve(first, joined).map(move |()| partition).boxed());
    }
}
