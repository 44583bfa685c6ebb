//! The stamps of renewals: who was heard from, and whose lease can no longer run.
//!
//! The holder of a lease stops acting `ttl` after it *sent* the last attempt that was acknowledged; the
//! directory stamps an attempt when it receives it, which is later. So `ttl` after the last stamp the
//! holder has stopped by its own clock, and the wait of `ttl × 1.2` leaves a fifth of it for clocks that run
//! at different speeds. This holds only while
//!
//! * a renewal is stamped before it is acknowledged, and none is stamped once its incarnation has been
//!   bumped (the caller checks and stamps under the lock under which a commit is published);
//! * a restarted directory, which has lost its stamps, stamps everyone whom it may have to wait for with
//!   its own start.
//!
//! Times are ms of a clock that counts suspend and never goes back.

use crate::observations::Observations;
use std::collections::BTreeMap;
use types::Home;

/// When each incarnation was last heard from, and what it told of others then.
#[derive(Debug, Clone)]
pub struct LeaseTable {
    ttl_ms: u64,
    stamps: BTreeMap<Home, Stamp>,
    observations: Observations,
}

#[derive(Debug, Clone, Copy)]
struct Stamp {
    at_ms: u64,
    /// When the node itself last spoke; a stamp that was put on its behalf is not one.
    heard_ms: Option<u64>,
    /// Since when its lease has run without a break.
    since_ms: u64,
    /// When the node last said that it is about to end.
    leaves_ms: Option<u64>,
}

impl LeaseTable {
    /// An empty table for leases of `ttl_ms`.
    pub const fn new(ttl_ms: u64) -> Self {
        Self { ttl_ms, stamps: BTreeMap::new(), observations: Observations::new() }
    }

    /// Stamps on behalf of a holder that has no stamp: it may have renewed until now.
    pub fn presume(&mut self, home: &Home, now_ms: u64) {
        if !self.stamps.contains_key(home) {
            self.stamps.insert(
                home.clone(),
                Stamp { at_ms: now_ms, heard_ms: None, since_ms: now_ms, leaves_ms: None },
            );
        }
    }

    /// Stamps a registration or a renewal.
    pub fn renew(&mut self, home: &Home, now_ms: u64) {
        let known = self.stamps.get(home).filter(|stamp| now_ms.saturating_sub(stamp.at_ms) < self.ttl_ms);
        let since_ms = known.map_or(now_ms, |stamp| stamp.since_ms);
        let leaves_ms = self.stamps.get(home).and_then(|stamp| stamp.leaves_ms);
        self.stamps
            .insert(home.clone(), Stamp { at_ms: now_ms, heard_ms: Some(now_ms), since_ms, leaves_ms });
    }

    /// A holder is about to end, and gives away what it is home of.
    pub fn leave(&mut self, home: &Home, now_ms: u64) {
        if let Some(stamp) = self.stamps.get_mut(home) {
            stamp.leaves_ms = Some(now_ms);
        }
    }

    /// Whether a holder has said within the last `within_ms` that it is about to end.
    pub fn leaves(&self, home: &Home, within_ms: u64, now_ms: u64) -> bool {
        let leaves_ms = self.stamps.get(home).and_then(|stamp| stamp.leaves_ms);
        leaves_ms.is_some_and(|leaves_ms| now_ms.saturating_sub(leaves_ms) < within_ms)
    }

    /// Takes what a holder has told of others with a renewal.
    pub fn observe(&mut self, home: &Home, failing_ms: BTreeMap<Home, u64>, now_ms: u64) {
        self.observations.take(home, failing_ms, now_ms);
    }

    /// What holders have told of others.
    pub const fn observations(&self) -> &Observations {
        &self.observations
    }

    /// Since when a holder's lease has run without a break, as far as is known here.
    pub fn leased_since_ms(&self, home: &Home) -> Option<u64> {
        self.stamps.get(home).map(|stamp| stamp.since_ms)
    }

    /// Drops every stamp and every report.
    pub fn forget(&mut self) {
        self.stamps.clear();
        self.observations.retain(|_| false);
    }

    /// Drops the stamps and the reports of those whom nobody will ask for again.
    pub fn retain(&mut self, wanted: impl Fn(&Home) -> bool) {
        self.stamps.retain(|home, _| wanted(home));
        self.observations.retain(wanted);
    }

    /// For how long a holder has been silent; `None` for one that has no stamp.
    pub fn silent_ms(&self, home: &Home, now_ms: u64) -> Option<u64> {
        self.stamps.get(home).map(|stamp| now_ms.saturating_sub(stamp.at_ms))
    }

    /// Whether a holder itself has spoken within the last `within_ms`.
    pub fn heard_within(&self, home: &Home, within_ms: u64, now_ms: u64) -> bool {
        let heard_ms = self.stamps.get(home).and_then(|stamp| stamp.heard_ms);
        heard_ms.is_some_and(|heard_ms| now_ms.saturating_sub(heard_ms) < within_ms)
    }

    /// Whether a bumped incarnation's lease has certainly ended. One without a stamp has not.
    pub fn is_waited_out(&self, home: &Home, now_ms: u64) -> bool {
        self.silent_ms(home, now_ms).is_some_and(|silent_ms| silent_ms >= self.wait_ms())
    }

    /// `ttl × 1.2`, rounded up.
    pub const fn wait_ms(&self) -> u64 {
        self.ttl_ms.saturating_mul(6).div_ceil(5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Incarnation, NodeId};

    fn home(incarnation: u64) -> Home {
        Home {
            node: NodeId::new("us-east-1").expect("a valid name"),
            incarnation: Incarnation::new(incarnation),
        }
    }

    #[test]
    fn a_holder_is_waited_out_a_fifth_past_its_ttl() {
        let mut table = LeaseTable::new(4_000);
        table.renew(&home(1), 100);
        assert!(!table.is_waited_out(&home(1), 4_899));
        assert!(table.is_waited_out(&home(1), 4_900));
        table.renew(&home(1), 4_950);
        assert!(!table.is_waited_out(&home(1), 9_000));
    }

    #[test]
    fn a_holder_without_a_stamp_is_never_waited_out() {
        let table = LeaseTable::new(4_000);
        assert!(!table.is_waited_out(&home(1), u64::MAX));
        assert_eq!(table.silent_ms(&home(1), 5), None);
    }

    #[test]
    fn a_holder_leaves_for_as_long_as_it_says_so() {
        let mut table = LeaseTable::new(4_000);
        table.leave(&home(1), 100);
        assert!(!table.leaves(&home(1), 3_000, 100), "nobody knows it");
        table.renew(&home(1), 100);
        table.leave(&home(1), 200);
        table.renew(&home(1), 300);
        assert!(table.leaves(&home(1), 3_000, 3_199) && !table.leaves(&home(1), 3_000, 3_200));
        assert!(!table.leaves(&home(2), 3_000, 300), "the next boot does not");
    }

    #[test]
    fn a_presumed_stamp_is_no_word_of_the_holder_and_hides_none() {
        let mut table = LeaseTable::new(4_000);
        table.presume(&home(1), 100);
        assert!(!table.heard_within(&home(1), 1_000, 100));
        assert_eq!(table.silent_ms(&home(1), 350), Some(250));
        table.renew(&home(1), 400);
        table.presume(&home(1), 900);
        assert_eq!(table.silent_ms(&home(1), 900), Some(500));
        assert!(table.heard_within(&home(1), 501, 900));
    }

    #[test]
    fn a_lease_that_lapsed_begins_anew() {
        let mut table = LeaseTable::new(4_000);
        for at_ms in [100, 3_000, 6_999] {
            table.renew(&home(1), at_ms);
        }
        assert_eq!(table.leased_since_ms(&home(1)), Some(100));
        table.renew(&home(1), 10_999);
        assert_eq!(table.leased_since_ms(&home(1)), Some(10_999));
        assert_eq!(table.leased_since_ms(&home(2)), None);
    }
}
