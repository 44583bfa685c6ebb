//! Figures, as text or as JSON lines.

use hdrhistogram::Histogram;
use serde_json::{Map, Value};
use std::time::Duration;

/// Where figures go, one line for each thing measured.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
}

impl Report {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints one line: what was measured, and its figures with the unit last in their names.
    pub(crate) fn line(&mut self, what: &str, figures: &[(&str, f64)]) {
        if self.json {
            let mut object = Map::from_iter([("measured".to_owned(), Value::from(what))]);
            object.extend(figures.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
            println!("{}", Value::Object(object));
        } else {
            let figures: Vec<String> =
                figures.iter().map(|(name, value)| format!("{name} {}", round(*value))).collect();
            println!("{what}: {}", figures.join("  "));
        }
    }
}

fn round(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Latencies from 1 µs to a minute.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}

/// Counts a latency, held at the histogram's bounds.
pub(crate) fn count(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
}

/// A quantile in ms.
pub(crate) fn quantile_ms(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1_000.0
}
