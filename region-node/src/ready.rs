//! Whether this node should be sent work, and who it is to the directory.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{Home, Incarnation, NodeId};

/// What must hold before a node is ready; each is told by the task that knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The store is open and writes.
    pub store_open: bool,
    /// A snapshot of the placement has come.
    pub placement_seen: bool,
    /// The directory knows this boot.
    pub registered: bool,
    /// The lease runs.
    pub lease_held: bool,
    /// The disk has not given back what was written: the node gives its homes away, and is to be filled anew.
    pub damaged: bool,
    /// The node goes down: it works, and wants no more work.
    pub leaving: bool,
}

/// The conditions now. Every change is seen by the next reader.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Conditions>);

impl Readiness {
    /// Changes conditions.
    pub fn update(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.0.lock());
    }

    /// The node goes down.
    pub fn leave(&self) {
        self.update(|conditions| conditions.leaving = true);
    }

    /// Whether the node goes down.
    pub fn is_leaving(&self) -> bool {
        self.0.lock().leaving
    }

    /// Whether all conditions hold.
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    /// The conditions that do not hold, in words.
    pub fn missing(&self) -> Vec<&'static str> {
        let Conditions { store_open, placement_seen, registered, lease_held, damaged, leaving } =
            *self.0.lock();
        [
            (store_open, "the store is not open"),
            (placement_seen, "no placement has come from the directory"),
            (registered, "the directory does not know this boot"),
            (lease_held, "the lease does not run"),
            (!damaged, "the store is damaged"),
            (!leaving, "the node is going down"),
        ]
        .into_iter()
        .filter_map(|(holds, why)| (!holds).then_some(why))
        .collect()
    }
}

/// Who this node is in its current boot.
#[derive(Debug)]
pub struct Identity {
    node: NodeId,
    incarnation: AtomicU64,
}

impl Identity {
    /// A node that the directory does not know yet.
    pub const fn new(node: NodeId) -> Self {
        Self { node, incarnation: AtomicU64::new(0) }
    }

    /// Its name.
    pub const fn node(&self) -> &NodeId {
        &self.node
    }

    /// What the directory gave it last; 0 before it registered.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation::new(self.incarnation.load(Ordering::Acquire))
    }

    /// Name and incarnation together.
    pub fn home(&self) -> Home {
        Home { node: self.node.clone(), incarnation: self.incarnation() }
    }

    /// Takes the incarnation of a new registration.
    pub fn set_incarnation(&self, incarnation: Incarnation) {
        self.incarnation.store(incarnation.get(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_nothing_is_missing() {
        let readiness = Readiness::default();
        assert_eq!(readiness.missing().len(), 4);
        readiness.update(|conditions| {
            *conditions = Conditions {
                store_open: true,
                placement_seen: true,
                registered: true,
                lease_held: false,
                damaged: false,
                leaving: false,
            };
        });
        assert_eq!(readiness.missing(), ["the lease does not run"]);
        readiness.update(|conditions| conditions.lease_held = true);
        assert!(readiness.is_ready());
        readiness.leave();
        assert_eq!(readiness.missing(), ["the node is going down"]);
    }
}
