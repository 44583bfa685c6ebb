//! The parts of the suite: what is typed for each, and what is wanted of it.

use super::{
    Suite,
    goals::{Bound, Goal},
};
use crate::commands::bench::report::Report;
use std::time::Duration;

const ONE: &str = "--up us-east --wan none";
const TWO: &str = "--up us-east,eu-west --wan real";
const THREE: &str = "--up us-east,eu-west,ap-south --wan real";

/// One or more runs, each with a deployment of its own, and what is wanted of them together.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: &'static str,
    /// What is typed behind `hearth bench`.
    pub(super) commands: Vec<String>,
    /// Of all its runs.
    pub(super) patience: Duration,
    pub(super) goals: Vec<Goal>,
}

fn goal(
    what: &'static str,
    unit: &'static str,
    bound: Bound,
    measured: fn(&[Report]) -> Option<f64>,
) -> Goal {
    Goal { what, unit, bound, measured }
}

fn value(reports: &[Report], key: &str) -> Option<f64> {
    reports.first()?.value(key)
}

fn cpu(reports: &[Report]) -> Option<f64> {
    value(reports, "server_cpu_us_per_message")
}

/// How much more a message costs in the second run than in the first.
fn growth(reports: &[Report]) -> Option<f64> {
    let [first, second] = reports else { return None };
    let cpu = |report: &Report| report.value("server_cpu_us_per_message");
    Some(cpu(second)? / cpu(first)?)
}

fn p50(reports: &[Report], name: &str) -> Option<f64> {
    Some(reports.first()?.latency(name)?.p50_ms)
}

fn p99(reports: &[Report], name: &str) -> Option<f64> {
    Some(reports.first()?.latency(name)?.p99_ms)
}

/// All parts, in the order in which they run.
pub(super) fn parts(suite: &Suite) -> Vec<Part> {
    use Bound::{AtLeast, AtMost};
    let Suite { seconds, connections, messages, records, .. } = suite;
    let minutes = |count: u64| Duration::from_secs(60 * count) + Duration::from_secs(2 * seconds);
    let part = |name, commands: &[String], patience, goals: &[Goal]| Part {
        name,
        commands: commands.to_vec(),
        patience,
        goals: goals.to_vec(),
    };
    let paced = format!("--rate 10000 --seconds {seconds}");
    vec![
        part(
            "pairs",
            &[format!("{ONE} pairs --pairs 200 --window 8 --seconds {seconds}")],
            minutes(2),
            &[
                goal("accepted", "/s", AtLeast(60_000.0), |of| value(of, "accepted_per_s")),
                goal("delivered", "/s", AtLeast(60_000.0), |of| value(of, "delivered_per_s")),
                goal("server CPU per message", "µs", AtMost(20.0), cpu),
            ],
        ),
        part(
            "pairs-paced",
            &[format!("{ONE} pairs --pairs 100 --rate 1000 --seconds {seconds}")],
            minutes(2),
            &[
                goal("send to receive, p50", "ms", AtMost(0.5), |of| p50(of, "delivery")),
                goal("send to receive, p99", "ms", AtMost(1.5), |of| p99(of, "delivery")),
            ],
        ),
        part(
            "groups",
            &[format!("{ONE} groups --members 100 --groups 10 --seconds {seconds}")],
            minutes(2),
            &[goal("deliveries", "/s", AtLeast(250_000.0), |of| value(of, "delivered_per_s"))],
        ),
        part(
            "idle",
            &[format!("{ONE} idle --connections {connections} --chats 20")],
            minutes(6),
            &[goal("RSS per connection", "KiB", AtMost(12.0), |of| value(of, "rss_kib_per_connection"))],
        ),
        part(
            "three-regions",
            &[format!("{THREE} pairs --pairs 200 --window 8 --seconds {seconds}")],
            minutes(3),
            &[goal("CPU per message, all processes", "µs", AtMost(60.0), cpu)],
        ),
        part(
            "proxied",
            &[format!("{THREE} proxied --pairs 100 --rate 1000 --seconds {seconds}")],
            minutes(3),
            &[
                goal("above the round trip, p50", "ms", AtMost(2.0), |of| {
                    p50(of, "ack above the round trip")
                }),
                goal("above the round trip, p99", "ms", AtMost(5.0), |of| {
                    p99(of, "ack above the round trip")
                }),
            ],
        ),
        part(
            "lag",
            &[format!("{THREE} lag --chats 100 --rate 5000 --seconds {seconds}")],
            minutes(3),
            &[
                goal("above the way there, p50", "ms", AtMost(20.0), |of| {
                    p50(of, "replicated above the round trip")
                }),
                goal("above the way there, p99", "ms", AtMost(200.0), |of| {
                    p99(of, "replicated above the round trip")
                }),
            ],
        ),
        part(
            "catch-up",
            &[format!("{TWO} catch-up --records {records}")],
            minutes(20),
            &[goal("records copied", "/s", AtLeast(200_000.0), |of| value(of, "caught_up_records_per_s"))],
        ),
        part(
            "history",
            &[format!("{ONE} history --messages {messages} --seconds {seconds}")],
            minutes(6),
            &[
                goal("pages of 50", "/s", AtLeast(10_000.0), |of| value(of, "pages_per_s")),
                goal("times as fast in a chat a hundredth as long", "", AtMost(1.2), |of| {
                    Some(value(of, "pages_per_s_at_a_hundredth")? / value(of, "pages_per_s")?)
                }),
            ],
        ),
        part(
            "growth-chats",
            &[
                format!("{ONE} pairs --pairs 10 --chats 1 {paced}"),
                format!("{ONE} pairs --pairs 10 --chats 1000 {paced}"),
            ],
            minutes(5),
            &[goal("CPU per message, 10,000 chats to 10", "", AtMost(1.5), growth)],
        ),
        part(
            "growth-partitions",
            &[
                format!("{ONE} --partitions 1 pairs --pairs 200 {paced}"),
                format!("{ONE} --partitions 1024 pairs --pairs 200 {paced}"),
            ],
            minutes(5),
            &[goal("CPU per message, 1,024 partitions to 1", "", AtMost(1.5), growth)],
        ),
    ]
}
