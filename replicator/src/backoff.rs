//! When to connect anew.

use crate::bounds;
use std::time::Duration;
use tokio::time::Instant;

/// Waits that double up to a bound, each drawn from its upper half, so that all who lost the same peer do
/// not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    connected: Option<Instant>,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { failures: 0, connected: None }
    }

    pub(crate) fn connected(&mut self) {
        self.connected = Some(Instant::now());
    }

    /// How long to wait after a failure to connect, or the end of a connection.
    pub(crate) fn next(&mut self) -> Duration {
        if self.connected.take().is_some_and(|since| since.elapsed() >= bounds::CONNECTION_SETTLED) {
            self.failures = 0;
        }
        let longest = bounds::RECONNECT_MIN.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        longest.min(bounds::RECONNECT_MAX).mul_f64(0.5 + host::random::fraction() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_no_further() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits[0] <= bounds::RECONNECT_MIN);
        assert!(waits.iter().all(|wait| *wait <= bounds::RECONNECT_MAX));
        assert!(waits[39] >= bounds::RECONNECT_MAX / 2);
    }
}
