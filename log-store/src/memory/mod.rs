//! The engine in memory: for tests and simulation, where a crash is a call.
//!
//! ```text
//!   call ──► pending, in the order of the calls ──sync──► disk ──► answer
//!                 │                                        ▲
//!                 └── crash: the test says how many of the pending survive; none is answered Ok
//! ```
//!
//! Nothing is checked or visible before its sync, and a sync takes one change at a time, whole, so a
//! batch is never torn. With syncs held a test chooses the crash point; otherwise each change is synced
//! within the call. There is no thread, no clock and no randomness in here.

mod disk;
mod partition;
mod store;
mod sync;
#[cfg(test)]
mod tests;

pub use store::MemoryStore;
pub use sync::Survive;
