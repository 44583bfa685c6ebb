//! The two clocks of a directory process. Only the drivers read them.

pub(crate) use host::clock::{boot_ms, wall_ms};
