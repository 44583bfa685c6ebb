//! The connection of a session: which edge, since when, and how long to wait.
//!
//! ```text
//!   Idle ──▶ Connecting ──▶ Handshake ──▶ Live
//!               ▲    │          │           │
//!               │    ▼          ▼           ▼     any ──▶ Ended (refused for good, or closed)
//!              Backoff ◀────────┴───────────┘
//! ```
//!
//! Waits use full jitter (a random time up to a bound that doubles with every round over the edges), so
//! that the clients of a lost region do not return all at once.

use crate::config::Timing;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Idle,
    Connecting { until_ms: u64 },
    Handshake { until_ms: u64 },
    Live { since_ms: u64 },
    Backoff { until_ms: u64 },
    Ended,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Connect,
    Ping,
    GiveUp(&'static str),
}

pub(super) struct Link {
    pub(super) stage: Stage,
    edges: Vec<String>,
    edge: usize,
    attempts: u32,
    heard_ms: u64,
    ping_due_ms: u64,
    ping_interval_ms: u64,
    random: SplitMix,
}

impl Link {
    pub(super) fn new(edges: Vec<String>, timing: &Timing, seed: u64) -> Self {
        Self {
            stage: Stage::Idle,
            edges,
            edge: 0,
            attempts: 0,
            heard_ms: 0,
            ping_due_ms: 0,
            ping_interval_ms: timing.ping_interval_ms,
            random: SplitMix(seed),
        }
    }

    pub(super) fn edge(&self) -> &str {
        &self.edges[self.edge]
    }

    pub(super) const fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live { .. })
    }

    pub(super) fn connect(&mut self, now_ms: u64, timing: &Timing) {
        self.stage = Stage::Connecting { until_ms: now_ms + timing.connect_timeout_ms };
    }

    pub(super) fn connected(&mut self, now_ms: u64, timing: &Timing) {
        self.heard_ms = now_ms;
        self.stage = Stage::Handshake { until_ms: now_ms + timing.handshake_timeout_ms };
    }

    pub(super) fn welcomed(&mut self, now_ms: u64, timing: &Timing, server_interval_ms: u32) {
        self.ping_interval_ms = match u64::from(server_interval_ms) {
            0 => timing.ping_interval_ms,
            asked => asked.min(timing.ping_interval_ms),
        };
        self.ping_due_ms = now_ms + self.ping_interval_ms;
        self.stage = Stage::Live { since_ms: now_ms };
    }

    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// The connection, or the attempt, is over: the next edge is tried after the answered wait.
    pub(super) fn lost(&mut self, now_ms: u64, timing: &Timing) -> u64 {
        if let Stage::Live { since_ms } = self.stage
            && now_ms >= since_ms + timing.settled_after_ms
        {
            self.attempts = 0;
        }
        self.edge = (self.edge + 1) % self.edges.len();
        let rounds = self.attempts / self.edges.len() as u32;
        let bound_ms = timing.backoff_base_ms.saturating_mul(1 << rounds.min(30)).min(timing.backoff_cap_ms);
        self.attempts = self.attempts.saturating_add(1);
        let wait_ms = self.random.below(bound_ms + 1);
        self.stage = Stage::Backoff { until_ms: now_ms + wait_ms };
        wait_ms
    }

    pub(super) fn due(&mut self, now_ms: u64, timing: &Timing) -> Due {
        match self.stage {
            Stage::Backoff { until_ms } if now_ms >= until_ms => Due::Connect,
            Stage::Connecting { until_ms } if now_ms >= until_ms => {
                Due::GiveUp("the edge did not accept the connection in time")
            }
            Stage::Handshake { until_ms } if now_ms >= until_ms => {
                Due::GiveUp("the node did not welcome the session in time")
            }
            Stage::Live { .. } if now_ms >= self.heard_ms + timing.dead_after_ms => {
                Due::GiveUp("nothing was heard from the node for too long")
            }
            Stage::Live { .. } if now_ms >= self.ping_due_ms => {
                self.ping_due_ms = now_ms + self.ping_interval_ms;
                Due::Ping
            }
            _ => Due::Nothing,
        }
    }

    pub(super) fn wake_ms(&self, timing: &Timing) -> Option<u64> {
        match self.stage {
            Stage::Idle | Stage::Ended => None,
            Stage::Connecting { until_ms } | Stage::Handshake { until_ms } | Stage::Backoff { until_ms } => {
                Some(until_ms)
            }
            Stage::Live { .. } => Some(self.ping_due_ms.min(self.heard_ms + timing.dead_after_ms)),
        }
    }

    /// A random wait up to a bound that doubles with `attempts`.
    pub(super) fn jitter(&mut self, attempts: u32, timing: &Timing) -> u64 {
        let bound_ms =
            timing.backoff_base_ms.saturating_mul(1 << attempts.min(30)).min(timing.backoff_cap_ms);
        self.random.below(bound_ms + 1)
    }
}

/// SplitMix64: enough to spread waits, and the same waits for the same seed.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(edges: usize) -> (Link, Timing) {
        let timing = Timing::default();
        let edges = (0..edges).map(|n| format!("ws://edge-{n}")).collect();
        (Link::new(edges, &timing, 7), timing)
    }

    #[test]
    fn waits_double_with_each_round_and_stay_under_the_cap() {
        let (mut link, timing) = link(3);
        for attempt in 0..60u32 {
            link.connect(0, &timing);
            let wait_ms = link.lost(0, &timing);
            assert!(wait_ms <= timing.backoff_base_ms << (attempt / 3).min(20));
            assert!(wait_ms <= timing.backoff_cap_ms);
        }
    }

    #[test]
    fn each_attempt_takes_the_next_edge() {
        let (mut link, timing) = link(2);
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.push(link.edge().to_owned());
            link.lost(0, &timing);
        }
        assert_eq!(tried, ["ws://edge-0", "ws://edge-1", "ws://edge-0", "ws://edge-1"]);
    }

    #[test]
    fn a_silent_connection_is_given_up_and_a_ping_is_due_before() {
        let (mut link, timing) = link(1);
        link.connected(0, &timing);
        link.welcomed(0, &timing, 0);
        assert_eq!(link.due(timing.ping_interval_ms - 1, &timing), Due::Nothing);
        assert_eq!(link.due(timing.ping_interval_ms, &timing), Due::Ping);
        assert!(matches!(link.due(timing.dead_after_ms, &timing), Due::GiveUp(_)));
    }
}
