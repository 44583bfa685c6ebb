//! The clocks of the drivers. Cores are handed what these say and never look themselves.

pub use host::clock::{boot_ms, wall_ms};

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
