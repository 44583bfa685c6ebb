//! A report as text for a terminal.

use super::{Latency, Report, figure::rounded};
use crate::{row, tables};
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.mode, self.what)?;
        if let Some(machine) = &self.machine {
            writeln!(f, "{machine}")?;
        }
        writeln!(f)?;
        for figure in &self.figures {
            writeln!(f, "{:<38}{:>12} {}", figure.kind.label, number(figure.value), figure.kind.unit)?;
        }
        if !self.latencies.is_empty() {
            write!(f, "\n{}", tables::render(&self.latency_rows()))?;
        }
        if !self.processes.is_empty() {
            write!(f, "\n{}", tables::render(&self.process_rows()))?;
        }
        writeln!(f)?;
        for (code, count) in &self.refused {
            writeln!(f, "refused {count} {code}")?;
        }
        if self.faults.is_empty() {
            writeln!(f, "nothing lost, doubled or out of order")
        } else {
            self.faults.iter().try_for_each(|fault| writeln!(f, "FAULT: {fault}"))
        }
    }
}

impl Report {
    pub(super) fn latency_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row!["LATENCY", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "COUNT"]];
        let ms = |ms: f64| format!("{ms:.2}");
        rows.extend(self.latencies.iter().map(|latency| {
            let &Latency { p50_ms, p99_ms, p99_9_ms, max_ms, count, .. } = latency;
            row![latency.name, ms(p50_ms), ms(p99_ms), ms(p99_9_ms), ms(max_ms), count]
        }));
        rows
    }

    pub(super) fn process_rows(&self) -> Vec<Vec<String>> {
        let mut rows =
            vec![row!["PROCESS", "user s", "system s", "µs/message", "RSS MiB", "written MiB", "switches"]];
        for process in &self.processes {
            let seconds = |us: f64| format!("{:.2}", us / 1e6);
            let mib = |bytes: f64| format!("{:.1}", bytes / f64::from(1 << 20));
            rows.push(row![
                process.name,
                seconds(process.user_us),
                seconds(process.system_us),
                process.cpu_us_per_message.map_or_else(|| "-".to_owned(), |us| format!("{us:.2}")),
                mib(process.rss_bytes as f64),
                mib(process.written_bytes),
                process.context_switches
            ]);
        }
        rows
    }
}

/// Whole where it is large, with as many decimals as it is worth where it is small; thousands apart.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        let text = format!("{value:.2}");
        return text.strip_suffix(".00").map(str::to_owned).unwrap_or(text);
    }
    let digits = format!("{:.0}", rounded(value).abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0.0, 3.0, 8.126, 99.99].map(number), ["0", "3", "8.13", "99.99"]);
        assert_eq!([100.4, 60_000.0, 1_234_567.0].map(number), ["100", "60,000", "1,234,570"]);
    }
}
