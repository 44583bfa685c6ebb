//! How fast a home fills copies that are not in sync: those who write now, and copies that are in sync, go first.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Shares so many bytes a second among all who are filled. What was read is paid afterwards, so it is passed
/// by no more than what is read at a time.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_s: u64,
    free_at: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// Waits for one's turn.
    pub(super) async fn wait(&self) {
        loop {
            let free_at = *self.free_at.lock();
            if free_at <= Instant::now() {
                return;
            }
            sleep_until(free_at).await;
        }
    }

    /// Pays for what was read.
    pub(super) fn pay(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let mut free_at = self.free_at.lock();
        *free_at = (*free_at).max(Instant::now()) + takes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_read_keeps_the_pace() {
        let pace = Pace::new(1_000_000);
        let begun = Instant::now();
        for _ in 0..10 {
            pace.wait().await;
            pace.pay(250_000);
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(2_250) && took < Duration::from_millis(2_500), "{took:?}");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let rested = Instant::now();
        pace.wait().await;
        assert_eq!(rested.elapsed(), Duration::ZERO);
    }
}
