//! The place of a simulated machine.

use crate::net::{Dialled, Port};
use std::{fmt::Debug, io, net::SocketAddr, sync::OnceLock};

/// A machine that stands in for the real one. Whatever it answers may depend on who asks: a simulation of
/// many hosts knows which of them it runs just now.
pub trait Machine: Debug + Send + Sync {
    /// Ms since boot, by the clock of the host that asks. Never goes back.
    fn boot_ms(&self) -> u64;

    /// Ms since 1970, by the clock of the host that asks.
    fn wall_ms(&self) -> u64;

    /// Fills `bytes` with random ones.
    fn fill(&self, bytes: &mut [u8]);

    /// How many cores the host has.
    fn cores(&self) -> usize;

    /// Opens a port.
    ///
    /// # Errors
    /// The port cannot be had.
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Port>>;

    /// Opens a connection to `host:port`.
    fn dial(&self, to: &str) -> Dialled;
}

static MACHINE: OnceLock<Box<dyn Machine>> = OnceLock::new();

/// The process has a machine installed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed;

/// Puts a machine in the place of the real one, for the rest of the process.
///
/// # Errors
/// [`Installed`]: there is one.
pub fn install(machine: Box<dyn Machine>) -> Result<(), Installed> {
    MACHINE.set(machine).map_err(|_| Installed)
}

pub(crate) fn installed() -> Option<&'static dyn Machine> {
    MACHINE.get().map(|machine| &**machine)
}
