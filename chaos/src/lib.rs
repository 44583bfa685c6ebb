//! Faults by seed, workloads, recorded histories and the checkers that judge them.
//!
//! ```text
//!   scenario ──▶ faults ──▶ lab (real processes) ◀── workload (clients through the SDK)
//!                  │                                   │
//!                  └──────────▶ history ◀──────────────┘
//!                                  │
//!                   check: C1 … C13, each a pure function of it ──▶ report
//! ```
//!
//! A checker sees a [`history::History`] and nothing else, so that it judges a real run and a simulated one
//! by the same words.
#![warn(missing_docs)]

pub mod check;
pub mod cli;
pub mod drains;
pub mod history;
pub mod moves;
pub mod observe;
pub mod operate;
pub mod report;
pub mod rto;
pub mod run;
pub mod scenario;
pub mod sim;
pub mod storm;
pub mod workload;
