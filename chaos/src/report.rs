//! What a run says at its end: JSON, a table for the terminal, and one HTML file with its timeline.
//!
//! Everything is taken from the history, so that the report of a recorded run can be made again.

mod html;
mod summary;
mod timeline;

pub use html::page;
pub use summary::{Check, FaultReport, Latency, Summary, Writes};
pub use timeline::Timeline;

use crate::{check::Violation, history::History};
use std::fmt::Write as _;

/// A run, ready to be told.
#[derive(Debug)]
pub struct Report {
    /// Its figures.
    pub summary: Summary,
    /// Its course.
    pub timeline: Timeline,
}

impl Report {
    /// Of a history and what was found in it.
    pub fn of(history: &History, violations: &[Violation], failures: &[String]) -> Self {
        Self { summary: Summary::of(history, violations, failures), timeline: Timeline::of(history) }
    }

    /// As JSON.
    ///
    /// # Panics
    /// Never: it is plain data.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(&self.summary).expect("a summary is plain data")
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let Summary { writes, ack_ms, replicated_ms, faults, checks, failures, .. } = &self.summary;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} seed {}: {:.1} s, {} events, {} writes, {} acked, {} replicated, {} refused, {} of unknown outcome",
            self.summary.scenario,
            self.summary.seed,
            self.summary.seconds,
            self.summary.events,
            writes.sent,
            writes.acked,
            writes.replicated,
            writes.refused,
            writes.unknown
        );
        let _ = writeln!(text, "home ack {ack_ms}; replicated {replicated_ms}");
        for fault in faults {
            let _ = writeln!(text, "{fault}");
        }
        for check in checks {
            let verdict = if check.violations == 0 {
                "holds".to_owned()
            } else {
                format!("{} VIOLATIONS", check.violations)
            };
            let _ = writeln!(text, "{:4} {verdict:14} {}", check.checker.to_string(), check.promise);
            for first in &check.first {
                let _ = writeln!(text, "       {first}");
            }
        }
        for failure in failures {
            let _ = writeln!(text, "FAILED: {failure}");
        }
        text
    }
}
