//! The child's half of a promise: no process of a lab outlives it, however the lab ends.

use crate::process::PARENT_PID_ENV;
#[cfg(target_os = "linux")]
use nix::sys::{prctl, signal::Signal};
use nix::unistd::getppid;
use std::io;

/// To be called first thing in a process that a lab may have started: from now on the kernel kills it when
/// the lab dies. Does nothing where no lab is the parent.
///
/// # Errors
/// The kernel refuses, or the lab has died already: the caller should exit.
pub fn die_with_parent() -> io::Result<()> {
    let Ok(parent) = std::env::var(PARENT_PID_ENV) else { return Ok(()) };
    #[cfg(target_os = "linux")]
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the kernel knew what to do then.
    if parent != getppid().to_string() {
        return Err(io::Error::other(format!("the lab that started this process, pid {parent}, is gone")));
    }
    Ok(())
}
