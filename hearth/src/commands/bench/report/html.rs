//! Reports as one self-contained page: no script, nothing loaded from elsewhere.

use super::{
    Report,
    svg::{Axis, COLOURS, Series, lines, stacked},
    table::number,
};
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// A page of any number of runs. `preface` is HTML in front of them.
pub(crate) fn page(title: &str, preface: &str, reports: &[Report]) -> String {
    let title = escaped(title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>\n{preface}"
    );
    if let Some(machine) = reports.iter().find_map(|report| report.machine.as_ref()) {
        let _ = writeln!(page, "<p>{}</p>", escaped(&machine.to_string()));
    }
    reports.iter().for_each(|report| section(&mut page, report));
    page.push_str("</main></html>\n");
    page
}

/// Text as HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Rows as HTML: the first is the header, columns from the `numbers`th on are numbers, verdicts are coloured.
pub(crate) fn table(rows: &[Vec<String>], numbers: usize) -> String {
    let mut html = String::from("<div class=\"wide\"><table>");
    for (at, row) in rows.iter().enumerate() {
        let tag = if at == 0 { "th" } else { "td" };
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let verdict = match cell.as_str() {
                "met" => "good",
                "missed" | "failed" => "bad",
                _ => "",
            };
            let align = if column >= numbers { "n" } else { "" };
            let _ = write!(html, "<{tag} class=\"{align} {verdict}\">{}</{tag}>", escaped(cell));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>\n");
    html
}

fn section(page: &mut String, report: &Report) {
    let _ = writeln!(page, "<h2>{}</h2><p>{}</p>", escaped(report.mode), escaped(&report.what));
    if !report.regions.is_empty() {
        let _ = writeln!(page, "<p>Regions: {}</p>", escaped(&report.regions.join(", ")));
    }
    match &report.faults[..] {
        [] => page.push_str("<p class=\"good\">Nothing was lost, doubled or out of order.</p>"),
        faults => faults.iter().for_each(|fault| {
            let _ = writeln!(page, "<p class=\"bad\">{}</p>", escaped(fault));
        }),
    }
    page.push_str("<div class=\"cards\">");
    for figure in &report.figures {
        let (value, kind) = (number(figure.value), figure.kind);
        let _ = writeln!(
            page,
            "<div class=\"card\"><b>{value} <small>{}</small></b><span>{}</span></div>",
            escaped(kind.unit),
            escaped(kind.label.trim())
        );
    }
    page.push_str("</div><div class=\"charts\">");
    page.push_str(&rates(report));
    page.push_str(&percentiles(report));
    page.push_str(&cores(report));
    page.push_str("</div>");
    if !report.latencies.is_empty() {
        page.push_str(&table(&report.latency_rows(), 1));
    }
    if !report.processes.is_empty() {
        page.push_str(&table(&report.process_rows(), 1));
    }
}

fn rates(report: &Report) -> String {
    let rates = &report.over_time.rates;
    let most = rates.iter().map(|(_, accepted, delivered)| accepted.max(*delivered)).fold(0.0, f64::max);
    let of = |name: &str, value: fn(&(f64, f64, f64)) -> f64| Series {
        name: name.to_owned(),
        points: rates.iter().map(|rate| (rate.0, value(rate))).collect(),
    };
    let accepted = of("accepted", |rate| rate.1);
    let delivered = of(if report.mode == "history" { "pages" } else { "delivered" }, |rate| rate.2);
    let series: Vec<_> = [accepted, delivered]
        .into_iter()
        .filter(|series| series.points.iter().any(|point| point.1 > 0.0))
        .collect();
    let (x, y) =
        (Axis::linear("seconds", last(rates.iter().map(|rate| rate.0))), Axis::linear("per second", most));
    chart("Rate over time", &series, || lines(&x, &y, &series))
}

fn percentiles(report: &Report) -> String {
    let curves = report.latencies.iter().filter(|latency| latency.curve.len() > 1);
    let series: Vec<_> =
        curves.map(|latency| Series { name: latency.name.clone(), points: latency.curve.clone() }).collect();
    let points = || series.iter().flat_map(|series| &series.points);
    let least = points().map(|point| point.1).filter(|ms| *ms > 0.0).fold(f64::MAX, f64::min);
    let most = points().map(|point| point.1).fold(0.0, f64::max);
    let x = Axis::log("percentile", 1.0, points().map(|point| point.0).fold(10.0, f64::max));
    let x = x.named(|one_of| match one_of {
        1.0 => "0 %".to_owned(),
        one_of => format!("{} %", 100.0 - 100.0 / one_of),
    });
    let y = Axis::log("ms", least.min(most), most);
    chart("Latency by percentile", &series, || lines(&x, &y, &series))
}

fn cores(report: &Report) -> String {
    let (names, cores) = (&report.over_time.processes, &report.over_time.cores);
    let of = |(at, name): (usize, &String)| {
        let used = |(seconds, used): &(f64, Vec<f64>)| (*seconds, used.get(at).copied().unwrap_or(0.0));
        // Each look is of the time before it: the first one's begins at 0.
        let begin = cores.first().map(|first| (0.0, used(first).1));
        Series { name: name.clone(), points: begin.into_iter().chain(cores.iter().map(used)).collect() }
    };
    let series: Vec<_> = names.iter().enumerate().map(of).collect();
    let most = cores.iter().map(|(_, used)| used.iter().sum()).fold(0.0, f64::max);
    let series = if cores.len() > 1 { series } else { Vec::new() };
    let (x, y) =
        (Axis::linear("seconds", last(cores.iter().map(|look| look.0))), Axis::linear("cores", most));
    chart("CPU by process", &series, || stacked(&x, &y, &series))
}

fn last(values: impl Iterator<Item = f64>) -> f64 {
    values.last().unwrap_or(0.0)
}

/// Nothing where there is nothing to draw.
fn chart(title: &str, series: &[Series], draw: impl FnOnce() -> String) -> String {
    if series.is_empty() {
        return String::new();
    }
    let mut html = format!("<div class=\"card\"><h3>{title}</h3>{}<div class=\"legend\">", draw());
    for (at, series) in series.iter().enumerate() {
        let _ = write!(html, "<span><i class=\"c{}\"></i>{}</span>", at % COLOURS, escaped(&series.name));
    }
    html.push_str("</div></div>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::{
        load::latencies,
        report::{Latency, OverTime, figure},
    };

    fn report() -> Report {
        let mut report = Report::new("pairs", "2 pairs <of> \"users\" & more".to_owned());
        report.put(figure::ACCEPTED, 24_195.0);
        let mut us = latencies();
        (1..=5_000).for_each(|at| us.saturating_record(at));
        report.latencies.push(Latency::of("ack", &us));
        report.over_time = OverTime {
            rates: vec![(0.25, 10.0, 9.0), (0.5, 12.0, 12.0)],
            processes: vec!["node a-1".to_owned(), "generator".to_owned()],
            cores: vec![(0.5, vec![0.7, 0.2]), (1.0, vec![0.9, 0.2])],
        };
        report
    }

    #[test]
    fn a_page_has_its_charts_and_loads_nothing() {
        let page = page("A run", "", &[report()]);
        assert_eq!(page.matches("<svg").count(), 3);
        for strange in ["<script", "http://", "https://", "url(", "NaN", "<of>"] {
            assert!(!page.contains(strange), "{strange} in {page}");
        }
        assert!(page.contains("24,195") && page.contains("99.9 %"), "{page}");
    }

    #[test]
    fn a_run_without_any_figures_still_makes_a_page() {
        let page = page("Nothing", "", &[Report::new("idle", String::new())]);
        assert!(!page.contains("<svg") && page.ends_with("</html>\n"));
    }
}
