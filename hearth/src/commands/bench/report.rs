//! What a run says at its end.

use super::{Ack, Args, load::Tally};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

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
}

impl Report {
    pub(super) fn new(args: &Args, tally: Tally) -> Self {
        Self {
            pairs: args.pairs,
            window: args.rate.is_none().then_some(args.window),
            rate: args.rate,
            ack: match args.ack {
                Ack::Home => "home",
                Ack::Replicated => "replicated",
            },
            body_bytes: args.body_bytes,
            seconds: args.seconds as f64,
            accepted: tally.accepted,
            delivered: tally.delivered,
            accepted_per_s: tally.accepted as f64 / args.seconds as f64,
            delivered_per_s: tally.delivered as f64 / args.seconds as f64,
            ack_latency: (&tally.ack_us).into(),
            delivery_latency: (&tally.deliver_us).into(),
            faults: tally.faults(),
            refused: tally.refused,
            lost: tally.lost,
            doubled: tally.doubled,
            reordered: tally.reordered,
        }
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
