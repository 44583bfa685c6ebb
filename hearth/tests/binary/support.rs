//! What the tests of the binary share.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    time::{Duration, Instant},
};

/// The binary under test.
pub(crate) const HEARTH: &str = env!("CARGO_BIN_EXE_hearth");
/// For whatever has to happen; on an idle machine it takes seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not {what} in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process runs; one that waits to be reaped does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Signals a process that the test has started.
pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("it is ours");
}
