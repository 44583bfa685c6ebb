//! A node's right to act as home, for a bounded time.
//!
//! ```text
//!   registered ──acked renewal──► runs until its send time + ttl ──acked renewal──► …
//!       │                             │ no ack in time: lapsed; a later ack revives it
//!       └────────── refused ──────────┴──────────► over, for good: a new incarnation is needed
//! ```
//!
//! Invariant: the end only moves forward, and never after the lease is over.

use std::sync::atomic::{AtomicU64, Ordering};
use types::Incarnation;

/// Stands in the end's place once the lease is over.
const OVER: u64 = u64::MAX;

/// The lease of one incarnation. Read without a lock right before each batch of replies.
#[derive(Debug)]
pub struct Lease {
    incarnation: Incarnation,
    ttl_ms: u64,
    until_ms: AtomicU64,
}

impl Lease {
    /// A lease that does not run yet.
    pub const fn new(incarnation: Incarnation, ttl_ms: u64) -> Self {
        Self { incarnation, ttl_ms, until_ms: AtomicU64::new(0) }
    }

    /// Whose lease it is.
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The renewal that was sent at `sent_at_ms` was acked.
    pub fn renewed(&self, sent_at_ms: u64) {
        let until_ms = sent_at_ms.saturating_add(self.ttl_ms).min(OVER - 1);
        // OVER is the greatest number, so nothing moves it.
        self.until_ms.fetch_max(until_ms, Ordering::AcqRel);
    }

    /// A renewal was refused, or the node gives the incarnation up.
    pub fn refused(&self) {
        self.until_ms.store(OVER, Ordering::Release);
    }

    /// Whether it is over for good.
    pub fn is_over(&self) -> bool {
        self.until_ms.load(Ordering::Acquire) == OVER
    }

    /// Until when it runs, on the boot clock; 0 where it never did or is over.
    pub fn until_ms(&self) -> u64 {
        match self.until_ms.load(Ordering::Acquire) {
            OVER => 0,
            until_ms => until_ms,
        }
    }

    /// What is left of it.
    pub fn left_ms(&self, boot_ms: u64) -> u64 {
        self.until_ms().saturating_sub(boot_ms)
    }
}

/// What is known of the store's canary, the proof that the disk still writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// The last one succeeded, and no other is under way.
    Sang,
    /// One is under way since then.
    UnderWay {
        /// On the boot clock.
        since_ms: u64,
    },
    /// The last one failed.
    Died,
}

impl Canary {
    /// Whether the lease may be renewed now.
    pub const fn allows_renewal(self, boot_ms: u64, stall_limit_ms: u64) -> bool {
        match self {
            Self::Sang => true,
            Self::UnderWay { since_ms } => boot_ms.saturating_sub(since_ms) < stall_limit_ms,
            Self::Died => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_runs_from_when_the_renewal_was_sent() {
        let lease = Lease::new(Incarnation::new(1), 4_000);
        assert_eq!(lease.left_ms(0), 0);
        lease.renewed(10_000);
        assert_eq!(lease.left_ms(12_500), 1_500);
        assert_eq!(lease.left_ms(14_000), 0);
    }

    #[test]
    fn a_late_ack_of_an_early_attempt_takes_nothing_back() {
        let lease = Lease::new(Incarnation::new(1), 4_000);
        lease.renewed(11_000);
        lease.renewed(10_000);
        assert_eq!(lease.until_ms(), 15_000);
    }

    #[test]
    fn a_refusal_is_final() {
        let lease = Lease::new(Incarnation::new(1), 4_000);
        lease.renewed(10_000);
        lease.refused();
        lease.renewed(11_000);
        assert!(lease.is_over());
        assert_eq!(lease.left_ms(0), 0);
    }

    #[test]
    fn a_stalled_disk_stops_the_renewals() {
        let canary = Canary::UnderWay { since_ms: 1_000 };
        assert!(canary.allows_renewal(2_999, 2_000));
        assert!(!canary.allows_renewal(3_000, 2_000));
        assert!(!Canary::Died.allows_renewal(0, 2_000));
    }
}
