//! What is wanted of a run, and whether it was reached.

use crate::commands::bench::report::{Report, number};
use serde::Serialize;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure of the reports of a part, and what is wanted of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) bound: Bound,
    pub(super) measured: fn(&[Report]) -> Option<f64>,
}

/// A goal beside what was measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    pub(super) part: &'static str,
    pub(super) what: &'static str,
    pub(super) goal: String,
    /// `None`: the part failed.
    pub(super) measured: Option<f64>,
    pub(super) unit: &'static str,
    pub(super) met: bool,
    /// Typed to measure it again.
    pub(super) command: String,
}

impl Bound {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Goal {
    pub(super) fn outcome(&self, part: &'static str, reports: &[Report], command: &str) -> Outcome {
        let measured = (self.measured)(reports);
        let goal = match self.bound {
            Bound::AtLeast(least) => format!("≥ {}", number(least)),
            Bound::AtMost(most) => format!("≤ {}", number(most)),
        };
        Outcome {
            part,
            what: self.what,
            goal: format!("{goal} {}", self.unit).trim_end().to_owned(),
            measured,
            unit: self.unit,
            met: measured.is_some_and(|value| self.bound.is_met(value)),
            command: command.to_owned(),
        }
    }
}

impl Outcome {
    /// For a table: as [`HEADER`] says.
    pub(super) fn row(&self) -> Vec<String> {
        let measured =
            self.measured.map_or_else(|| "-".to_owned(), |value| format!("{} {}", number(value), self.unit));
        let verdict = match (self.measured, self.met) {
            (None, _) => "failed",
            (_, true) => "met",
            (_, false) => "missed",
        };
        [self.part, self.what, &self.goal, measured.trim_end(), verdict].map(str::to_owned).to_vec()
    }
}

/// Of [`Outcome::row`].
pub(super) const HEADER: [&str; 5] = ["PART", "WHAT", "GOAL", "MEASURED", ""];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::report::figure;

    #[test]
    fn goals_are_met_missed_or_failed() {
        let goal =
            |bound| Goal { what: "w", unit: "/s", bound, measured: |of| of.first()?.value("accepted_per_s") };
        let mut report = Report::new("pairs", String::new());
        report.put(figure::ACCEPTED, 60_000.0);
        let verdict = |bound, reports: &[Report]| goal(bound).outcome("p", reports, "c").row()[4].clone();
        let reports = [report];
        assert_eq!(verdict(Bound::AtLeast(60_000.0), &reports), "met");
        assert_eq!(verdict(Bound::AtMost(59_999.0), &reports), "missed");
        assert_eq!(verdict(Bound::AtMost(1.0), &[]), "failed");
        assert_eq!(goal(Bound::AtLeast(6e4)).outcome("p", &reports, "c").goal, "≥ 60,000 /s");
    }
}
