//! The clocks of the drivers. Cores are handed what these say and never look themselves.

use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Two readings taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Ms since the machine booted, time asleep included (`CLOCK_BOOTTIME`): what leases and waits are
    /// measured by.
    pub boot_ms: u64,
    /// Ms since 1970, for people and for expiry.
    pub wall_ms: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self { boot_ms: boot_ms(), wall_ms: wall_ms() }
    }
}

/// Ms since the machine booted, time asleep included.
pub fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every Linux since 2.6.39 has this clock");
    let (seconds, nanos) = (time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs());
    seconds * 1_000 + nanos / 1_000_000
}

/// Ms since 1970; 0 on a machine whose clock stands before that.
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
