//! Options that several modes share, and their mistakes.

use super::load::{HEADER_BYTES, Pace, Plan, Span};
use anyhow::bail;
use clap::ValueEnum;
use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};
use types::{AckPolicy, RegionId, limits};

/// How long the readers may take to get what was acked, after the last send.
const DRAIN: Duration = Duration::from_secs(30);
/// The most connections of one run, of all its senders and readers.
pub(crate) const CONNECTIONS_MAX: usize = 60_000;
/// The longest run.
const SECONDS_MAX: u64 = 24 * 60 * 60;

/// How senders send.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "How senders send")]
pub(crate) struct Writing {
    /// Closed loop: how many messages each sender leaves under way.
    #[arg(long, default_value_t = 8, value_name = "N", conflicts_with = "rate")]
    pub(crate) window: usize,
    /// Open loop: how many messages per second all senders together send, whatever becomes of them.
    #[arg(long, value_name = "PER_S")]
    pub(crate) rate: Option<f64>,
    /// Which ack a sender waits for.
    #[arg(long, value_enum, default_value_t = Ack::Home)]
    pub(crate) ack: Ack,
    /// Bytes of random body.
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub(crate) body_bytes: usize,
    /// Seconds that count.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) seconds: u64,
    /// Seconds before those.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) warmup_seconds: u64,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) threads: usize,
}

/// The ack that a sender waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ack {
    /// The home has it on disk.
    Home,
    /// It is on the disks of every region in sync.
    Replicated,
}

impl Ack {
    /// As the client protocol numbers it.
    pub(crate) fn number(self) -> i32 {
        let policy = match self {
            Self::Home => AckPolicy::Home,
            Self::Replicated => AckPolicy::Replicated,
        };
        proto::ack_policy_to_client(policy).into()
    }
}

/// Who is where.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Who is where")]
pub(crate) struct Places {
    /// The region of the senders [default: the deployment's first]
    #[arg(long, value_name = "REGION")]
    pub(crate) senders: Option<RegionId>,
    /// The regions of the receivers, in turn [default: that of the senders]
    #[arg(long, value_name = "REGIONS", value_delimiter = ',')]
    pub(crate) receivers: Vec<RegionId>,
    /// The home region of the chats [default: that of the senders]
    #[arg(long, value_name = "REGION")]
    pub(crate) home: Option<RegionId>,
}

impl Writing {
    /// The defaults, for a run that the suite puts together.
    pub(crate) fn new(seconds: u64) -> Self {
        Self {
            window: 8,
            rate: None,
            ack: Ack::Home,
            body_bytes: 400,
            seconds,
            warmup_seconds: 2,
            threads: 1,
        }
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        within("window", self.window, 1..=1_000_000)?;
        within("body-bytes", self.body_bytes, HEADER_BYTES..=limits::BODY_MAX_BYTES)?;
        within("threads", self.threads, 1..=256)?;
        within("seconds", self.seconds, 1..=SECONDS_MAX)?;
        within("warmup-seconds", self.warmup_seconds, 0..=SECONDS_MAX)?;
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            bail!("rate is not above 0");
        }
        Ok(())
    }

    /// What each of so many senders does, from now on.
    pub(crate) fn plan(&self, senders: usize) -> Plan {
        let counts_from = self.warmup_seconds * 1_000_000;
        Plan {
            pace: match self.rate {
                Some(rate) => Pace::Every(senders as f64 / rate * 1e6),
                None => Pace::Window(self.window),
            },
            span: Span { counts_from, sends_until: counts_from + self.seconds * 1_000_000 },
            messages_max: u64::MAX,
            until_delivered: false,
            drain: DRAIN,
            body_bytes: self.body_bytes,
            ack: self.ack.number(),
            epoch: Instant::now(),
        }
    }

    /// In a sentence.
    pub(crate) fn told(&self) -> String {
        let pace = match self.rate {
            Some(rate) => format!("{rate} messages/s"),
            None => format!("window {}", self.window),
        };
        let ack = match self.ack {
            Ack::Home => "home",
            Ack::Replicated => "replicated",
        };
        format!("{pace}, bodies of {} random bytes, ack {ack}, {} s", self.body_bytes, self.seconds)
    }
}

/// Names an option whose value is out of bounds.
pub(crate) fn within<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    bounds: RangeInclusive<T>,
) -> anyhow::Result<()> {
    if !bounds.contains(&value) {
        bail!("{name} is {value}, not between {} and {}", bounds.start(), bounds.end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named_with_its_bounds() {
        let fine = Writing::new(10);
        assert!(fine.check().is_ok());
        let mistakes = [
            (Writing { window: 0, ..fine.clone() }, "window is 0, not between 1 and"),
            (Writing { body_bytes: 15, ..fine.clone() }, "body-bytes is 15, not between 16 and 65536"),
            (Writing { seconds: 0, ..fine.clone() }, "seconds is 0"),
            (Writing { threads: 0, ..fine.clone() }, "threads is 0"),
            (Writing { rate: Some(0.0), ..fine.clone() }, "rate is not above 0"),
            (Writing { rate: Some(f64::INFINITY), ..fine.clone() }, "rate is not above 0"),
        ];
        for (args, told) in mistakes {
            let error = args.check().expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_rate_is_shared_by_all_senders() {
        let plan = Writing { rate: Some(1_000.0), ..Writing::new(10) }.plan(100);
        assert_eq!(plan.pace, Pace::Every(100_000.0));
        assert_eq!((plan.span.counts_from, plan.span.sends_until), (2_000_000, 12_000_000));
    }
}
