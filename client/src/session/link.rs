//! The connection of a session: which edge, since when, and how long to wait.
//!
//! ```text
//!   Idle ──▶ Connecting ──▶ Handshake ──▶ Live
//!               ▲    │          │           │
//!               │    ▼          ▼           ▼     any ──▶ Ended (refused for good, or closed)
//!              Backoff ◀────────┴───────────┘
//! ```
//!
//! A live connection may be sent away: at a time that the server names it begins nothing new, and once
//! everything is answered, or the server's patience is over, it goes to the edges that the server named, at
//! once. Those are tried before the client's own list, and count in no wait.
//!
//! Waits use full jitter (a random time up to a bound that doubles with every round over the edges), so
//! that the clients of a lost region do not return all at once. An edge that has no room says when to come again: until
//! then, and a random time as long again, the others are tried, or waited for.

use crate::config::Timing;
use std::collections::VecDeque;

/// Edges that a server may send a session to; further ones are not heard.
const DETOUR_MAX: usize = 16;
/// The longest that an edge keeps a session away.
const AWAY_MAX_MS: u64 = 60_000;
/// A server that names no time by which to be gone is taken to mean this.
const AWAY_WITHIN_DEFAULT_MS: u64 = 2_000;

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
    /// Go to where the server has sent the session.
    Leave,
    GiveUp(&'static str),
}

/// The server wants the session elsewhere.
#[derive(Debug)]
struct Away {
    /// From then on nothing new is begun.
    leave_ms: u64,
    /// Then the rest is not waited for.
    deadline_ms: u64,
    /// The first of the two has passed.
    has_begun: bool,
}

pub(super) struct Link {
    pub(super) stage: Stage,
    edges: Vec<String>,
    edge: usize,
    /// Until when each edge is left alone.
    held_ms: Vec<u64>,
    /// Where a server has sent the session, until one has welcomed it; the first one is the next.
    detour: VecDeque<String>,
    /// The edge of the connection or attempt.
    current: String,
    away: Option<Away>,
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
            held_ms: vec![0; edges.len()],
            edges,
            edge: 0,
            detour: VecDeque::new(),
            current: String::new(),
            away: None,
            attempts: 0,
            heard_ms: 0,
            ping_due_ms: 0,
            ping_interval_ms: timing.ping_interval_ms,
            random: SplitMix(seed),
        }
    }

    /// The edge of the connection or attempt.
    pub(super) fn edge(&self) -> &str {
        &self.current
    }

    /// The server wants the session elsewhere, after a while.
    pub(super) fn send_away(&mut self, now_ms: u64, after_ms: u64, within_ms: u64, edges: Vec<String>) {
        if !self.is_live() {
            return;
        }
        let within_ms = if within_ms == 0 { AWAY_WITHIN_DEFAULT_MS } else { within_ms };
        let deadline_ms = now_ms + within_ms;
        let leave_ms = (now_ms + after_ms).min(deadline_ms);
        self.away = Some(Away { leave_ms, deadline_ms, has_begun: false });
        // Nobody is led from TLS to where anyone can listen.
        let allowed: &[&str] =
            if self.current.starts_with("wss://") { &["wss://"] } else { &["ws://", "wss://"] };
        let is_allowed = |edge: &String| allowed.iter().any(|scheme| edge.starts_with(scheme));
        self.detour = edges.into_iter().filter(is_allowed).take(DETOUR_MAX).collect();
        if self.detour.is_empty() {
            // Its own list, from the one behind the edge that does not want it.
            self.edge = (self.edge + 1) % self.edges.len();
        }
    }

    /// Nothing new is begun on this connection.
    pub(super) fn is_leaving(&self) -> bool {
        self.away.as_ref().is_some_and(|away| away.has_begun)
    }

    /// The connection was given up for the edge that is next.
    pub(super) fn leave(&mut self, now_ms: u64) {
        self.away = None;
        self.attempts = 0;
        self.stage = Stage::Backoff { until_ms: now_ms };
    }

    pub(super) const fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live { .. })
    }

    pub(super) fn connect(&mut self, now_ms: u64, timing: &Timing) {
        self.current = self.detour.front().unwrap_or(&self.edges[self.edge]).clone();
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
        self.away = None;
        self.detour.clear();
    }

    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// The connection, or the attempt, is over: the next edge is tried after the answered wait.
    pub(super) fn lost(&mut self, now_ms: u64, timing: &Timing) -> u64 {
        // One that was to go anyway, and one that finds no edge where it was sent, have not failed.
        if self.away.take().is_some() || self.detour.pop_front().is_some() {
            let wait_ms = self.random.below(timing.backoff_base_ms + 1);
            self.stage = Stage::Backoff { until_ms: now_ms + wait_ms };
            return wait_ms;
        }
        if let Stage::Live { since_ms } = self.stage
            && now_ms >= since_ms + timing.settled_after_ms
        {
            self.attempts = 0;
        }
        let rounds = self.attempts / self.edges.len() as u32;
        let bound_ms = timing.backoff_base_ms.saturating_mul(1 << rounds.min(30)).min(timing.backoff_cap_ms);
        self.attempts = self.attempts.saturating_add(1);
        self.next_edge(now_ms, bound_ms)
    }

    /// The edge has no room now, and has said when to come again: the next one is tried after the answered wait.
    pub(super) fn turned_away(&mut self, now_ms: u64, timing: &Timing, retry_after_ms: u64) -> u64 {
        if !self.detour.is_empty() {
            return self.lost(now_ms, timing);
        }
        let after_ms = retry_after_ms.min(AWAY_MAX_MS);
        self.held_ms[self.edge] = now_ms + after_ms + self.random.below(after_ms / 8 + 1);
        self.next_edge(now_ms, timing.backoff_base_ms)
    }

    /// Goes on to the next edge that is not held, or to the one that is held least, after a random wait.
    fn next_edge(&mut self, now_ms: u64, bound_ms: u64) -> u64 {
        let behind = (1..=self.edges.len()).map(|step| (self.edge + step) % self.edges.len());
        let held_ms = |edge: &usize| self.held_ms[*edge].saturating_sub(now_ms);
        // Of several that are held as long, the first.
        self.edge = behind.min_by_key(held_ms).unwrap_or(self.edge);
        let wait_ms = held_ms(&self.edge).max(self.random.below(bound_ms + 1));
        self.stage = Stage::Backoff { until_ms: now_ms + wait_ms };
        wait_ms
    }

    /// `is_idle`: nothing is unanswered.
    pub(super) fn due(&mut self, now_ms: u64, timing: &Timing, is_idle: bool) -> Due {
        if let Some(away) = &mut self.away {
            away.has_begun |= now_ms >= away.leave_ms;
            if away.has_begun && (is_idle || now_ms >= away.deadline_ms) {
                return Due::Leave;
            }
        }
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
            Stage::Live { .. } => {
                let alive_ms = self.ping_due_ms.min(self.heard_ms + timing.dead_after_ms);
                // Behind the first of its times only an answer or the second one lets it go.
                let away = self.away.as_ref();
                let away_ms = away.map(|it| if it.has_begun { it.deadline_ms } else { it.leave_ms });
                Some(away_ms.map_or(alive_ms, |away_ms| alive_ms.min(away_ms)))
            }
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
            link.connect(0, &timing);
            tried.push(link.edge().to_owned());
            link.lost(0, &timing);
        }
        assert_eq!(tried, ["ws://edge-0", "ws://edge-1", "ws://edge-0", "ws://edge-1"]);
    }

    #[test]
    fn an_edge_that_has_no_room_is_left_alone_for_as_long_as_it_says_and_others_are_tried() {
        let (mut link, timing) = link(2);
        link.connect(0, &timing);
        assert!(link.turned_away(0, &timing, 3_000) <= timing.backoff_base_ms);
        link.connect(0, &timing);
        assert_eq!(link.edge(), "ws://edge-1");
        link.lost(10, &timing);
        link.connect(10, &timing);
        assert_eq!(link.edge(), "ws://edge-1", "the other one is held");
        // All are held: the one that is free first is waited for, and a random time longer than it said.
        let wait_ms = link.turned_away(20, &timing, 10_000);
        link.connect(20 + wait_ms, &timing);
        assert_eq!(link.edge(), "ws://edge-0");
        assert!((2_980..=5_980).contains(&wait_ms), "{wait_ms}");
    }

    #[test]
    fn nobody_is_sent_from_tls_to_where_anyone_listens() {
        let (_, timing) = link(1);
        let mut link = Link::new(vec!["wss://edge".to_owned()], &timing, 1);
        link.connect(0, &timing);
        link.connected(0, &timing);
        link.welcomed(0, &timing, 0);
        link.send_away(0, 0, 2_000, vec!["ws://open".to_owned(), "wss://closed".to_owned()]);
        assert_eq!(link.detour, ["wss://closed"]);
    }

    #[test]
    fn one_that_is_sent_away_goes_when_it_was_told_and_everything_is_answered() {
        let (mut link, timing) = link(2);
        let live = |link: &mut Link| {
            link.connect(0, &timing);
            link.connected(0, &timing);
            link.welcomed(0, &timing, 0);
        };
        live(&mut link);
        link.send_away(0, 300, 2_000, vec!["ws://a".to_owned(), "http://no".to_owned(), "ws://b".to_owned()]);
        assert_eq!((link.due(299, &timing, true), link.wake_ms(&timing)), (Due::Nothing, Some(300)));
        assert_eq!((link.due(300, &timing, false), link.wake_ms(&timing)), (Due::Nothing, Some(2_000)));
        assert!(link.is_leaving());
        assert_eq!(link.due(301, &timing, true), Due::Leave);
        link.leave(301);
        assert_eq!(link.due(301, &timing, true), Due::Connect);
        let mut tried = Vec::new();
        for _ in 0..3 {
            link.connect(301, &timing);
            tried.push(link.edge().to_owned());
            assert!(link.lost(301, &timing) <= timing.backoff_base_ms);
        }
        assert_eq!(tried, ["ws://a", "ws://b", "ws://edge-0"]);

        // Nobody is named: its own list, and not the edge that it comes from.
        live(&mut link);
        assert_eq!(link.edge(), "ws://edge-1");
        link.send_away(0, 0, 2_000, Vec::new());
        assert_eq!(link.due(2_000, &timing, false), Due::Leave, "it does not wait for ever");
        link.leave(2_000);
        link.connect(2_000, &timing);
        assert_eq!(link.edge(), "ws://edge-0");
    }

    #[test]
    fn a_silent_connection_is_given_up_and_a_ping_is_due_before() {
        let (mut link, timing) = link(1);
        link.connected(0, &timing);
        link.welcomed(0, &timing, 0);
        assert_eq!(link.due(timing.ping_interval_ms - 1, &timing, true), Due::Nothing);
        assert_eq!(link.due(timing.ping_interval_ms, &timing, true), Due::Ping);
        assert!(matches!(link.due(timing.dead_after_ms, &timing, true), Due::GiveUp(_)));
    }
}
