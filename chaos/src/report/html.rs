//! One self-contained page: no script, nothing loaded from elsewhere.

use super::{Latency, Report, Summary};
use crate::scenario::Scenario;
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// The page of a run. `figures` is what a measurement says of itself; empty: nothing was measured.
pub fn page(report: &Report, figures: &str) -> String {
    let Summary { scenario, seed, seconds, events, .. } = &report.summary;
    let title = escaped(&format!("{scenario}, seed {seed}"));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>\n"
    );
    if let Some(scenario) = Scenario::named(scenario) {
        let _ = writeln!(page, "<p>{}. Shows: {}.</p>", escaped(scenario.what()), escaped(scenario.proves()));
    }
    let verdict = if report.summary.clean {
        "<p class=\"good\">Every promise was kept.</p>"
    } else {
        "<p class=\"bad\">Not every promise was kept, or not everything could be looked at.</p>"
    };
    let _ = writeln!(page, "{verdict}<p class=\"soft\">{seconds:.1} s, {events} recorded events.</p>");
    if !figures.is_empty() {
        let _ = writeln!(page, "<pre>{}</pre>", escaped(figures));
    }
    cards(&mut page, &report.summary);
    picture(&mut page, report);
    checks(&mut page, &report.summary);
    moves(&mut page, &report.summary);
    faults(&mut page, &report.summary);
    page.push_str("</main></html>\n");
    page
}

/// Text as HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn cards(page: &mut String, summary: &Summary) {
    let writes = &summary.writes;
    page.push_str("<div class=\"cards\">");
    let mut card = |value: String, name: &str| {
        let _ = write!(page, "<div class=\"card\"><b>{value}</b><span>{name}</span></div>");
    };
    card(writes.sent.to_string(), "writes");
    card(writes.acked.to_string(), "acked");
    card(writes.replicated.to_string(), "seen replicated");
    card(writes.refused.to_string(), "refused, not written");
    card(writes.unknown.to_string(), "of unknown outcome");
    card(writes.moved.to_string(), "undone and back");
    card(summary.entries_read.to_string(), "entries read");
    card(summary.diverged.to_string(), "times told diverged");
    card(format!("{:.0} / {:.0} ms", summary.ack_ms.p50, summary.ack_ms.p99), "first ack, p50 / p99");
    card(
        format!("{:.0} / {:.0} ms", summary.replicated_ms.p50, summary.replicated_ms.p99),
        "replicated, p50 / p99",
    );
    page.push_str("</div>\n");
}

fn picture(page: &mut String, report: &Report) {
    let _ = write!(page, "<div class=\"picture\">{}<div class=\"legend\">", report.timeline.svg());
    for (colour, region) in report.timeline.regions().iter().enumerate() {
        let _ = write!(page, "<i class=\"c{colour}\"></i>{}", escaped(region));
    }
    page.push_str(
        "<i class=\"f\"></i>fault<i class=\"m\"></i>planned moves<i class=\"r\"></i>all its partitions accept writes again</div></div>\n",
    );
}

fn checks(page: &mut String, summary: &Summary) {
    page.push_str(
        "<h2>Checks</h2><div class=\"wide\"><table><tr><th></th><th>promise</th><th>verdict</th></tr>",
    );
    for check in &summary.checks {
        let verdict = match check.violations {
            0 => "<td class=\"good\">holds</td>".to_owned(),
            count => format!("<td class=\"bad\">{count} violations</td>"),
        };
        let _ = write!(page, "<tr><td>{}</td><td>{}", check.checker, escaped(check.promise));
        check.first.iter().for_each(|first| {
            let _ = write!(page, "<br><span class=\"bad\">{}</span>", escaped(first));
        });
        let _ = writeln!(page, "</td>{verdict}</tr>");
    }
    page.push_str("</table></div>\n");
    for failure in &summary.failures {
        let _ = writeln!(page, "<p class=\"bad\">{}</p>", escaped(failure));
    }
}

fn moves(page: &mut String, summary: &Summary) {
    if summary.moves.is_empty() {
        return;
    }
    let took = Latency::of(summary.moves.iter().filter_map(|one| one.took_us).collect());
    let pause = Latency::of(summary.moves.iter().map(|one| one.longest_pause_us).collect());
    let _ = writeln!(
        page,
        "<h2>Planned moves</h2><p>{} moves. From draining to the new home: {took}. Longest time between two acks of \
         the partition, all its clients together: {pause}.</p>",
        summary.moves.len()
    );
}

fn faults(page: &mut String, summary: &Summary) {
    if summary.faults.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Faults</h2><div class=\"wide\"><table><tr><th>fault</th><th class=\"n\">from</th><th class=\"n\">until</th>\
         <th class=\"n\">partitions hit</th><th class=\"n\">writes again: slowest</th><th class=\"n\">median</th><th class=\"n\">longest pause</th>\
         <th class=\"n\">at risk</th><th class=\"n\">came back</th><th class=\"n\">lost</th></tr>",
    );
    let seconds = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{:.2} s", ms / 1e3));
    for fault in &summary.faults {
        let until = fault.until_s.map_or_else(|| "–".to_owned(), |until| format!("{until:.1} s"));
        let slowest = if fault.unrecovered > 0 { "never".to_owned() } else { seconds(fault.slowest_ms) };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{:.1} s</td><td class=\"n\">{until}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{slowest}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escaped(&fault.what),
            fault.from_s,
            fault.partitions,
            seconds(fault.median_ms),
            seconds(fault.longest_pause_ms),
            fault.at_risk,
            fault.came_back,
            fault.lost
        );
    }
    page.push_str("</table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check, history::History};

    fn report(corrupt: bool) -> Report {
        let history = check::generated::clean(3);
        let mut events = history.events().to_vec();
        if corrupt {
            events.retain(|event| !matches!(event.kind, crate::history::Kind::Held { .. }));
        }
        let history = History::new(history.header().clone(), events).expect("a history");
        let violations = check::all(&history);
        Report::of(&history, &violations, &[])
    }

    #[test]
    fn a_page_has_its_picture_and_loads_nothing() {
        let page = page(&report(false), "");
        assert_eq!(page.matches("<svg").count(), 1);
        assert!(page.contains("Every promise was kept") && page.contains("class=\"fault\""));
        for strange in ["<script", "http://", "https://", "url(", "NaN"] {
            assert!(!page.contains(strange), "{strange} in {page}");
        }
    }

    #[test]
    fn a_page_tells_what_was_not_kept() {
        let report = report(true);
        assert!(!report.summary.clean);
        let page = page(&report, "two < three");
        assert!(page.contains("Not every promise was kept") && page.contains("no replica tells"), "{page}");
        assert!(report.text().contains("VIOLATIONS"));
        assert!(page.contains("two &lt; three"), "what was measured is told");
    }
}
