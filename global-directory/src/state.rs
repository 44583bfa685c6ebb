//! The committed placement in memory, the stamps of leases, and who waits for changes.
//!
//! One lock guards the placement and the stamps together, and a commit is published under it. So a renewal
//! is checked against an incarnation and stamped in one step, and once a bump is published no stamp of the
//! bumped incarnation is made any more: the wait is counted from the last one there is.

use crate::{lease::LeaseTable, watch::Changes};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{Notify, watch};
use types::{Home, Placement, PlacementDelta};

/// What the rest of the process knows of the rows.
#[derive(Debug)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
    rehomings: Notify,
}

#[derive(Debug)]
struct Inner {
    view: Placement,
    leases: LeaseTable,
    changes: Changes,
    /// Whether silence may end a boot.
    automatic_failover: bool,
    /// Why automatic failover does nothing; empty where nothing stops it.
    failover_note: String,
    /// Since when the one who decides here has listened.
    listens_from_ms: u64,
}

/// A renewal of a boot that is not the node's current one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("node {node} is not registered", node = .0.node)]
    Unknown(Home),
    #[error("incarnation {incarnation} of node {node} is over: {current} is current", node = .0.node, incarnation = .0.incarnation, current = .1)]
    Over(Home, types::Incarnation),
}

impl State {
    /// Starts from the committed rows. Whoever may hold a lease is stamped with the start.
    pub(crate) fn new(view: Placement, ttl_ms: u64, now_ms: u64) -> Self {
        let changes = Changes::starting_at(&view);
        let version = watch::Sender::new(view.version());
        let mut inner = Inner {
            view,
            leases: LeaseTable::new(ttl_ms),
            changes,
            automatic_failover: false,
            failover_note: String::new(),
            listens_from_ms: now_ms,
        };
        inner.presume_leases(now_ms);
        Self { inner: Mutex::new(inner), version, rehomings: Notify::new() }
    }

    /// Takes a commit over, and tells the watchers. `registered` is stamped: its lease begins.
    pub(crate) fn publish(&self, delta: PlacementDelta, registered: Option<&Home>, now_ms: u64) {
        let mut inner = self.inner.lock();
        inner.changes.record(&delta);
        let taken = inner.view.apply(delta);
        assert!(taken, "commits are published in their order, each on top of the one before it");
        if let Some(home) = registered {
            inner.leases.renew(home, now_ms);
        }
        inner.presume_leases(now_ms);
        let wanted = inner.lease_holders();
        inner.leases.retain(|home| wanted.contains(home));
        self.version.send_replace(inner.view.version());
    }

    /// Takes over rows of which the changes since those before are not known. Whoever may hold a lease is
    /// stamped: what it said meanwhile was not heard here.
    pub(crate) fn replace(&self, view: Placement, now_ms: u64) {
        let mut inner = self.inner.lock();
        inner.changes = Changes::starting_at(&view);
        inner.view = view;
        inner.leases.forget();
        inner.presume_leases(now_ms);
        self.version.send_replace(inner.view.version());
    }

    /// Stamps a renewal, if the boot is the current one.
    pub(crate) fn renew(&self, home: &Home, now_ms: u64) -> Result<(), RenewError> {
        let mut inner = self.inner.lock();
        inner.check(home)?;
        inner.leases.renew(home, now_ms);
        Ok(())
    }

    /// Takes what a boot whose renewal was acknowledged tells of others.
    pub(crate) fn observe(&self, home: &Home, failing_ms: BTreeMap<Home, u64>, now_ms: u64) {
        let mut inner = self.inner.lock();
        if inner.check(home).is_ok() {
            inner.leases.observe(home, failing_ms, now_ms);
        }
    }

    /// Notes that a node is about to end, if the boot is the current one.
    pub(crate) fn leave(&self, home: &Home, now_ms: u64) -> Result<(), RenewError> {
        let mut inner = self.inner.lock();
        inner.check(home)?;
        inner.leases.leave(home, now_ms);
        Ok(())
    }

    /// Whether a renewal of this boot may be acknowledged.
    pub(crate) fn check(&self, home: &Home) -> Result<(), RenewError> {
        self.inner.lock().check(home)
    }

    /// Stamps a renewal that is not committed yet, unless its boot is over already: what waits for that boot
    /// to be waited out would wait longer. One of a boot that is not known yet is stamped, because its
    /// registration may be further up the log.
    pub(crate) fn stamp(&self, home: &Home, now_ms: u64) {
        let mut inner = self.inner.lock();
        if !inner.is_over(home) {
            inner.leases.renew(home, now_ms);
        }
    }

    /// Whether a boot is over, now and for ever: incarnations only grow.
    pub(crate) fn is_over(&self, home: &Home) -> Option<RenewError> {
        let inner = self.inner.lock();
        let row = inner.view.node(&home.node)?;
        inner.is_over(home).then(|| RenewError::Over(home.clone(), row.incarnation))
    }

    /// Looks at the placement and the stamps, without waiting for anything.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Placement, &LeaseTable) -> T) -> T {
        let inner = self.inner.lock();
        look(&inner.view, &inner.leases)
    }

    /// Whether the deployment was born.
    pub(crate) fn is_founded(&self) -> bool {
        self.inner.lock().view.version() > 0
    }

    /// Every row that changed after `version`; all of them for 0, or for a version that is not known here.
    pub(crate) fn changes_since(&self, version: u64) -> PlacementDelta {
        let inner = self.inner.lock();
        inner.changes.since(version, &inner.view)
    }

    /// Told when a re-homing has begun, so that nobody waits for a tick.
    pub(crate) const fn rehomings(&self) -> &Notify {
        &self.rehomings
    }

    /// The version now, and every later one.
    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(crate) fn set_failover(&self, is_on: bool, note: String) {
        let mut inner = self.inner.lock();
        inner.automatic_failover = is_on;
        inner.failover_note = note;
    }

    pub(crate) fn set_listens_from_ms(&self, listens_from_ms: u64) {
        self.inner.lock().listens_from_ms = listens_from_ms;
    }

    /// Since when the one who decides here has listened.
    pub(crate) fn listens_from_ms(&self) -> u64 {
        self.inner.lock().listens_from_ms
    }

    /// Whether automatic failover is on, and what stops it.
    pub(crate) fn failover(&self) -> (bool, String) {
        let inner = self.inner.lock();
        (inner.automatic_failover, inner.failover_note.clone())
    }
}

impl Inner {
    fn check(&self, home: &Home) -> Result<(), RenewError> {
        match self.view.node(&home.node) {
            None => Err(RenewError::Unknown(home.clone())),
            Some(row) if row.incarnation != home.incarnation || !row.live => {
                Err(RenewError::Over(home.clone(), row.incarnation))
            }
            Some(_) => Ok(()),
        }
    }

    fn is_over(&self, home: &Home) -> bool {
        self.view.node(&home.node).is_some_and(|row| home.incarnation < row.incarnation)
    }

    /// The boots that may hold a lease, or are waited for because they may have held one.
    fn lease_holders(&self) -> BTreeSet<Home> {
        let live = self
            .view
            .nodes()
            .filter(|row| row.live)
            .map(|row| Home { node: row.node.clone(), incarnation: row.incarnation });
        live.chain(self.view.partitions().flat_map(|row| row.waiting.iter().cloned())).collect()
    }

    fn presume_leases(&mut self, now_ms: u64) {
        for home in self.lease_holders() {
            self.leases.presume(&home, now_ms);
        }
    }
}

#[cfg(test)]
mod tests;
