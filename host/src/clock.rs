//! The two clocks. Only drivers read them; cores are handed what they say.

use crate::machine::installed;
use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Ms since the machine booted, time asleep included (`CLOCK_BOOTTIME`): what leases and waits are measured
/// by.
pub fn boot_ms() -> u64 {
    if let Some(machine) = installed() {
        return machine.boot_ms();
    }
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every Linux since 2.6.39 has this clock");
    let (seconds, nanos) = (time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs());
    seconds * 1_000 + nanos / 1_000_000
}

/// Ms since 1970, for people and for expiry; 0 on a machine whose clock stands before that.
pub fn wall_ms() -> u64 {
    if let Some(machine) = installed() {
        return machine.wall_ms();
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
