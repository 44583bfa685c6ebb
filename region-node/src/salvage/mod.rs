//! Divergent tails at this node: what its own store has archived, and what archives elsewhere hold for the
//! logs that are homed here.
//!
//! ```text
//!   this node was home of a lower epoch                      this node is home now
//!      archive ──── Read ────► replicator ── Offer ──► put back, marked, at `replicated`
//!         ▲                       │
//!         └──── Settle ◄──────────┘   noted durably: put back, or refused and why
//! ```
//!
//! Invariants:
//! - An archived entry counts as settled only once it is `replicated` again or durably listed as refused.
//! - What is offered twice is found by its message id; so a crash of anybody at any time costs a repetition.
//! - A settled archive is kept for operators for a time, and discarded then; an unsettled one is kept for ever.

mod archives;
mod offers;
mod service;
mod targets;

pub(crate) use archives::Archives;
pub(crate) use service::SalvageService;
