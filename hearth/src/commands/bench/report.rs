//! What a run says at its end.

use super::{Ack, Args, pair::Outcome};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{collections::BTreeMap, fmt, time::Duration};

/// Latencies in ms.
#[derive(Debug, Serialize)]
struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    p99_9_ms: f64,
    max_ms: f64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(us: &Histogram<u64>) -> Self {
        let at = |quantile| us.value_at_quantile(quantile) as f64 / 1_000.0;
        Self { p50_ms: at(0.5), p99_ms: at(0.99), p99_9_ms: at(0.999), max_ms: us.max() as f64 / 1_000.0 }
    }
}

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pairs: usize,
    window: Option<usize>,
    rate: Option<f64>,
    ack: &'static str,
    body_bytes: usize,
    seconds: f64,
    accepted: u64,
    delivered: u64,
    accepted_per_s: f64,
    delivered_per_s: f64,
    ack_latency: Latency,
    delivery_latency: Latency,
    refused: BTreeMap<String, u64>,
    lost: u64,
    doubled: u64,
    reordered: u64,
    /// Why the run fails; empty when it does not.
    pub(super) faults: Vec<String>,
    #[serde(skip)]
    ack_us: Histogram<u64>,
    #[serde(skip)]
    deliver_us: Histogram<u64>,
}

impl Report {
    pub(super) fn new(args: &Args, counted: Duration) -> Self {
        let empty = || Histogram::new(2).expect("two digits are valid");
        Self {
            pairs: args.pairs,
            window: args.rate.is_none().then_some(args.window),
            rate: args.rate,
            ack: match args.ack {
                Ack::Home => "home",
                Ack::Replicated => "replicated",
            },
            body_bytes: args.body_bytes,
            seconds: counted.as_secs_f64(),
            accepted: 0,
            delivered: 0,
            accepted_per_s: 0.0,
            delivered_per_s: 0.0,
            ack_latency: (&empty()).into(),
            delivery_latency: (&empty()).into(),
            refused: BTreeMap::new(),
            lost: 0,
            doubled: 0,
            reordered: 0,
            faults: Vec::new(),
            ack_us: empty(),
            deliver_us: empty(),
        }
    }

    /// Adds what one pair saw.
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.accepted += outcome.accepted;
        self.delivered += outcome.delivered;
        self.lost += outcome.lost;
        self.doubled += outcome.doubled;
        self.reordered += outcome.reordered;
        for (code, count) in outcome.refused {
            *self.refused.entry(code).or_default() += count;
        }
        self.ack_us += outcome.ack_us;
        self.deliver_us += outcome.deliver_us;
        self.ack_latency = (&self.ack_us).into();
        self.delivery_latency = (&self.deliver_us).into();
        self.accepted_per_s = self.accepted as f64 / self.seconds;
        self.delivered_per_s = self.delivered as f64 / self.seconds;
        let faults = [
            (self.lost, "acked messages did not arrive"),
            (self.doubled, "messages arrived twice"),
            (self.reordered, "messages arrived out of order"),
        ];
        self.faults = faults.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = match (self.window, self.rate) {
            (Some(window), _) => format!("window {window}"),
            (None, rate) => format!("{} messages/s", rate.unwrap_or_default()),
        };
        writeln!(
            f,
            "{} pairs, {load}, {} bytes, ack {}, {} s",
            self.pairs, self.body_bytes, self.ack, self.seconds
        )?;
        writeln!(f, "accepted   {:>10.0} /s", self.accepted_per_s)?;
        writeln!(f, "delivered  {:>10.0} /s", self.delivered_per_s)?;
        for (name, latency) in [("ack", &self.ack_latency), ("delivery", &self.delivery_latency)] {
            writeln!(
                f,
                "{name:<10} p50 {:.2} ms   p99 {:.2} ms   p99.9 {:.2} ms   max {:.2} ms",
                latency.p50_ms, latency.p99_ms, latency.p99_9_ms, latency.max_ms
            )?;
        }
        for (code, count) in &self.refused {
            writeln!(f, "refused    {count:>10} {code}")?;
        }
        writeln!(f, "lost {}, doubled {}, out of order {}", self.lost, self.doubled, self.reordered)
    }
}
