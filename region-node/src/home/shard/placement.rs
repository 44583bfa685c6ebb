//! Which homes a shard opens and ends, as the placement and the lease say.

use super::{OPEN_AGAIN_MS, OpenHome, Shard};
use crate::{
    bus::BusEvent,
    clock::Now,
    home::{
        core::{Core, EndReason, Input, Open},
        expected::Held,
        feed::Feed,
        homes::row_of,
        jobs,
        sinks::Sinks,
    },
    lease::Lease,
};
use std::sync::Arc;
use types::{Epoch, Home, PartitionId, PartitionState, Replica};
use uuid::Uuid;

impl Shard {
    /// Ends what the placement or the lease has taken away, tells of changed rows, opens what is given.
    pub(super) fn follow_placement(&mut self) {
        let placement = self.parts.deps.view.load();
        let open: Vec<(PartitionId, Epoch)> = self.homes.iter().map(|(id, home)| (*id, home.epoch)).collect();
        for (partition, epoch) in open {
            let Some(home) = self.homes.get(&partition) else { continue };
            let me = self.me(&home.lease);
            let row = placement.partition(partition);
            let input = match row {
                _ if home.lease.is_over() => Input::Stop(EndReason::LeaseRefused),
                Some(row) if row.epoch == epoch && row.home.as_ref() == Some(&me) => {
                    Input::Row(row_of(&placement, row))
                }
                // A view that is older than the epoch takes nothing away.
                Some(row) if row.epoch < epoch => continue,
                _ => Input::Stop(EndReason::RowMoved),
            };
            self.say(partition, input);
        }
        for partition in self.expected.partitions() {
            // Whoever sends in an epoch believes in it or a higher one; none of them is to come any more.
            if !self.is_expected(partition, Epoch::new(u64::MAX)) {
                let held = self.expected.take(partition);
                self.refuse_held(held);
            }
        }
        self.open_what_is_given();
    }

    /// Opens what is given and could not open before, once it has waited for long enough.
    pub(super) fn open_again(&mut self, now_ms: u64) {
        let waiting = self.open_not_before_ms.len();
        self.open_not_before_ms.retain(|_, at_ms| now_ms < *at_ms);
        if self.open_not_before_ms.len() < waiting {
            self.open_what_is_given();
        }
    }

    fn open_what_is_given(&mut self) {
        let placement = self.parts.deps.view.load();
        let lease = self.parts.deps.leases.borrow().clone();
        let Some(lease) = lease.filter(|lease| !lease.is_over()) else { return };
        let (me, now_ms) = (self.me(&lease), Now::read().boot_ms);
        for row in placement.partitions() {
            let given = self.owns(row.partition)
                && row.state == PartitionState::Homed
                && row.home.as_ref() == Some(&me);
            let busy = self.homes.contains_key(&row.partition) || self.opening.contains(&row.partition);
            let later = self.open_not_before_ms.get(&row.partition).is_some_and(|at| now_ms < *at);
            if given && !busy && !later {
                self.opening.insert(row.partition);
                let replica = Replica { node: me.node.clone(), store: self.parts.deps.store.id() };
                let open = jobs::OpenWish { row: row_of(&placement, row), me: replica, lease: lease.clone() };
                self.jobs.push(jobs::open(&self.parts.deps, row, open));
            }
        }
    }

    pub(super) fn owns(&self, partition: PartitionId) -> bool {
        partition.get() as usize % self.parts.count == self.parts.index
    }

    pub(super) fn me(&self, lease: &Lease) -> Home {
        let node = self.parts.deps.identity.node().clone();
        Home { node, incarnation: lease.incarnation() }
    }

    pub(super) fn open_later(&mut self, partition: PartitionId) {
        self.open_not_before_ms.insert(partition, Now::read().boot_ms + OPEN_AGAIN_MS);
    }

    pub(super) fn begin(&mut self, partition: PartitionId, epoch: Epoch, lease: Arc<Lease>, open: Open) {
        let watermark = open.watermark.min(open.end.last.lsn);
        let feed = Arc::new(Feed::new(partition, epoch, &open.end, watermark));
        tracing::info!(%partition, %epoch, last = %open.end.last, "home");
        let core = Core::new(open, Now::read());
        let sinks = Sinks::default();
        let (proposed, held) = ((0, Uuid::nil()), Vec::new());
        let home = OpenHome { core, epoch, lease, feed: Arc::clone(&feed), sinks, proposed, held };
        self.homes.insert(partition, home);
        self.parts.open.insert(partition, feed);
        metrics::gauge!("hearth_homes_open").increment(1.0);
        for Held { write, reply, deadline_ms, .. } in self.expected.take(partition) {
            let ticket = self.calls.write(reply);
            self.say(partition, Input::Append { ticket, write, deadline_ms });
        }
        // The row may have moved on while the home opened.
        self.follow_placement();
    }

    pub(super) fn ended(&mut self, partition: PartitionId, reason: EndReason) {
        let Some(home) = self.homes.remove(&partition) else { return };
        tracing::info!(%partition, epoch = %home.epoch, reason = reason.as_str(), "no longer home");
        metrics::gauge!("hearth_homes_open").decrement(1.0);
        self.parts.open.remove(partition);
        home.feed.end();
        self.parts.deps.followers.end_of_home(partition, &home.feed);
        home.sinks.offer_all(&BusEvent::Ended { partition, epoch: home.epoch });
        if matches!(reason, EndReason::StoreFailed) {
            // What this epoch proposed and wrote is of unknown fate: only a higher one may follow it here.
            tracing::error!(%partition, epoch = %home.epoch, "the store refused what it must take: the incarnation is given up");
            home.lease.refused();
        }
        // Where the row names another epoch nothing has failed: if that is this node's again, it opens at once.
        if reason != EndReason::RowMoved {
            self.open_later(partition);
        }
    }

    pub(super) fn stop_all(&mut self, reason: EndReason) {
        let partitions: Vec<PartitionId> = self.homes.keys().copied().collect();
        for partition in partitions {
            self.say(partition, Input::Stop(reason));
        }
    }
}
