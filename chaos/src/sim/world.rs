//! What all code of a simulated run shares: the network, and whose code runs now.
//!
//! A run has a process and a thread of its own; so this is one per thread.

use super::{host::Here, net::Net};
use std::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicU64, Ordering},
};

/// What runs, for whoever watches from another thread.
static STEP: AtomicU64 = AtomicU64::new(0);
static HOST: AtomicU64 = AtomicU64::new(0);

/// One more step begins.
pub(super) fn step() {
    STEP.fetch_add(1, Ordering::Relaxed);
}

/// Which host runs, and in which step.
pub(super) fn progress() -> (u64, u64) {
    (HOST.load(Ordering::Relaxed), STEP.load(Ordering::Relaxed))
}

thread_local! {
    static NET: RefCell<Option<Net>> = const { RefCell::new(None) };
    static HERE: Cell<Option<Here>> = const { Cell::new(None) };
}

/// Begins a world.
pub(super) fn begin(net: Net) {
    NET.set(Some(net));
}

/// Uses the network. Nothing is woken or dropped in there that may come back here.
pub(super) fn net<T>(use_it: impl FnOnce(&mut Net) -> T) -> T {
    NET.with_borrow_mut(|net| use_it(net.as_mut().expect("the world has begun")))
}

/// Runs code as a host's, or as nobody's.
pub(super) fn enter<T>(here: Option<Here>, run: impl FnOnce() -> T) -> T {
    if let Some(here) = here {
        HOST.store(here.host.0.into(), Ordering::Relaxed);
    }
    let before = HERE.replace(here);
    let done = run();
    HERE.set(before);
    done
}

/// Whose code runs.
pub(super) fn here() -> Option<Here> {
    HERE.get()
}

/// Now, as the world counts.
pub(super) fn now_us() -> u64 {
    HERE.get().map_or_else(|| net(|net| net.now_us), |here| here.world_us())
}
