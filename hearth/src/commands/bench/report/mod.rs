//! What a run says at its end. Plain data: a table, JSON and a page are made of it.
//!
//! The keys of the JSON object are stable; docs/performance.md says what each means and how it is taken.

pub(crate) mod figure;
mod html;
mod latency;
mod process;
mod svg;
mod table;

pub(crate) use html::{page, table as html_table};
pub(crate) use latency::{Latency, above};
pub(crate) use process::ProcessReport;
pub(crate) use table::number;

use super::{
    load::{SLICE_US, Tally},
    machine::Yardsticks,
    servers::{Role, Seen, Servers},
};
use figure::Figure;
use serde::Serialize;
use std::collections::BTreeMap;

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The mode, as it is typed.
    pub(crate) mode: &'static str,
    /// What was run, in a sentence.
    pub(crate) what: String,
    /// The deployment's regions.
    pub(crate) regions: Vec<String>,
    pub(crate) machine: Option<Yardsticks>,
    #[serde(serialize_with = "figure::as_object")]
    pub(crate) figures: Vec<Figure>,
    /// By what was waited for.
    #[serde(serialize_with = "latency::as_object")]
    pub(crate) latencies: Vec<Latency>,
    pub(crate) processes: Vec<ProcessReport>,
    /// Refusals by code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Why the run fails; empty where it does not.
    pub(crate) faults: Vec<String>,
    #[serde(skip)]
    pub(crate) over_time: OverTime,
}

/// What is drawn over time.
#[derive(Debug, Default)]
pub(crate) struct OverTime {
    /// At so many seconds: accepted and delivered per second.
    pub(crate) rates: Vec<(f64, f64, f64)>,
    /// The names of the processes, and at so many seconds the cores that each used.
    pub(crate) processes: Vec<String>,
    pub(crate) cores: Vec<(f64, Vec<f64>)>,
}

impl Report {
    /// An empty report of a mode.
    pub(crate) fn new(mode: &'static str, what: String) -> Self {
        Self {
            mode,
            what,
            regions: Vec::new(),
            machine: None,
            figures: Vec::new(),
            latencies: Vec::new(),
            processes: Vec::new(),
            refused: BTreeMap::new(),
            faults: Vec::new(),
            over_time: OverTime::default(),
        }
    }

    /// The value of a figure, where there is one.
    pub(crate) fn value(&self, key: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.kind.key == key).map(|figure| figure.value)
    }

    /// A latency by its name, where there is one.
    pub(crate) fn latency(&self, name: &str) -> Option<&Latency> {
        self.latencies.iter().find(|latency| latency.name == name)
    }

    /// Adds a figure.
    pub(crate) fn put(&mut self, kind: figure::Kind, value: f64) {
        self.figures.push(Figure { kind, value });
    }

    /// Adds what a load counted and what its servers used meanwhile.
    pub(crate) fn add_load(&mut self, tally: &Tally, servers: &Servers, seen: &Seen, body_bytes: usize) {
        let (accepted, delivered) = (tally.accepted as f64, tally.delivered as f64);
        self.put(figure::ACCEPTED, accepted / seen.seconds);
        self.put(figure::DELIVERED, delivered / seen.seconds);
        self.latencies.push(Latency::of("ack", &tally.ack_us));
        self.latencies.push(Latency::of("delivery", &tally.deliveries_us()));
        self.add_usage(servers, seen, Counts { messages: accepted, deliveries: delivered, body_bytes });
        self.refused.clone_from(&tally.refused);
        self.faults = tally.faults();
        self.put_rates(tally);
    }

    /// Adds the rates over time.
    pub(crate) fn put_rates(&mut self, tally: &Tally) {
        let slice_s = SLICE_US as f64 / 1e6;
        let rate = |(at, (accepted, delivered)): (usize, &(u64, u64))| {
            ((at + 1) as f64 * slice_s, *accepted as f64 / slice_s, *delivered as f64 / slice_s)
        };
        self.over_time.rates = tally.slices.iter().enumerate().map(rate).collect();
    }

    /// Adds what the processes used.
    pub(crate) fn add_usage(&mut self, servers: &Servers, seen: &Seen, counts: Counts) {
        let Counts { messages, deliveries, body_bytes } = counts;
        self.processes = process::reports(servers, seen, messages);
        let of_servers = || self.processes.iter().filter(|process| process.role == Role::Server);
        let cpu_us: f64 = of_servers().map(|process| process.user_us + process.system_us).sum();
        let user_us: f64 = of_servers().map(|process| process.user_us).sum();
        let written: f64 = of_servers().map(|process| process.written_bytes).sum();
        let switches: f64 = of_servers().map(|process| process.context_switches).sum();
        let of_generator = self.processes.iter().filter(|process| process.role == Role::Generator);
        let generator_us: f64 = of_generator.map(|process| process.user_us + process.system_us).sum();
        let region_bytes = seen.last.region_bytes.saturating_sub(seen.first.region_bytes) as f64;
        let has_regions = seen.last.region_bytes > 0;
        self.put(figure::SYNCS, seen.last.syncs.saturating_sub(seen.first.syncs) as f64 / seen.seconds);
        if messages > 0.0 {
            self.put(figure::SERVER_CPU, cpu_us / messages);
            self.put(figure::SERVER_USER_CPU, user_us / messages);
            self.put(figure::SERVER_SYSTEM_CPU, (cpu_us - user_us) / messages);
            self.put(figure::SERVER_CPU_PER_DELIVERY, cpu_us / deliveries.max(1.0));
            self.put(figure::GENERATOR_CPU, generator_us / messages);
            self.put(figure::DISK_BYTES, written / (messages * body_bytes as f64));
            self.put(figure::SWITCHES, switches / messages);
            if has_regions {
                self.put(figure::REGION_BYTES, region_bytes / messages);
            }
        }
        self.over_time.processes = servers.processes.iter().map(|process| process.name.clone()).collect();
        self.over_time.cores = seen.over_time.windows(2).map(cores).collect();
    }
}

/// How much was done while the processes used what they used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) messages: f64,
    pub(crate) deliveries: f64,
    pub(crate) body_bytes: usize,
}

/// Between two looks.
fn cores(looks: &[(f64, Vec<u64>)]) -> (f64, Vec<f64>) {
    let [(from, before), (until, after)] = looks else { return (0.0, Vec::new()) };
    let us = (until - from).max(1e-3) * 1e6;
    let used = |(before, after): (&u64, &u64)| after.saturating_sub(*before) as f64 / us;
    (*until, before.iter().zip(after).map(used).collect())
}
