//! One direction between two places: how long bytes take, and whether any arrive at all.

use super::alarm::Alarms;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// Bytes that one connection may have under way in one direction, at least: what kernel buffers hold anyway.
const IN_FLIGHT_MIN_BYTES: u64 = 256 * 1024;
/// And at most, which bounds the memory of a connection whose other end does not read or is cut off.
const IN_FLIGHT_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// What is under way is at most this many times bandwidth × delay: room for the pipe and a queue before it.
const IN_FLIGHT_PIPES: u32 = 2;

/// How a direction between two places behaves while it works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// One way.
    pub delay: Duration,
    /// Added to the delay, drawn evenly from zero to this for each chunk; chunks are never reordered.
    pub jitter: Duration,
    /// Shared by all connections of this direction; `None` is unlimited.
    pub bandwidth_bytes_per_s: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    conditions: Conditions,
    cut: bool,
    silent: bool,
    stalled_until: Option<Instant>,
    resets: u64,
}

impl State {
    fn is_clear(&self) -> bool {
        !self.cut && !self.silent && self.stalled_until.is_none()
    }
}

#[derive(Debug)]
struct Departures {
    jitter: StdRng,
    free_at: Option<Instant>,
}

/// One direction between two places, shared by all its connections.
#[derive(Debug)]
pub(super) struct Lane {
    state: watch::Sender<State>,
    departures: Mutex<Departures>,
    /// Sent so far, by all connections.
    bytes: AtomicU64,
    alarms: Arc<Alarms>,
}

impl Lane {
    pub(super) fn new(conditions: Conditions, seed: u64, alarms: Arc<Alarms>) -> Self {
        let state = State { conditions, cut: false, silent: false, stalled_until: None, resets: 0 };
        let departures = Departures { jitter: StdRng::seed_from_u64(seed), free_at: None };
        Self {
            state: watch::Sender::new(state),
            departures: Mutex::new(departures),
            bytes: AtomicU64::new(0),
            alarms,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn conditions(&self) -> Conditions {
        self.state.borrow().conditions
    }

    pub(super) fn set_conditions(&self, conditions: Conditions) {
        self.state.send_modify(|state| state.conditions = conditions);
    }

    pub(super) fn set_cut(&self, cut: bool) {
        self.state.send_modify(|state| state.cut = cut);
    }

    pub(super) fn set_silent(&self, silent: bool) {
        self.state.send_modify(|state| state.silent = silent);
    }

    pub(super) fn stall(&self, pause: Duration) {
        let until = (!pause.is_zero()).then(|| Instant::now() + pause);
        self.state.send_modify(|state| state.stalled_until = until);
    }

    pub(super) fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// Whether bytes arrive.
    pub(super) fn is_open(&self) -> bool {
        let state = self.state.borrow();
        !state.cut && !state.silent
    }

    pub(super) fn is_cut(&self) -> bool {
        self.state.borrow().cut
    }

    /// Returns once the connections that exist now are to be reset.
    pub(super) async fn was_reset(&self) {
        let mut state = self.state.subscribe();
        let now = state.borrow_and_update().resets;
        if state.wait_for(|state| state.resets != now).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// When a chunk that is sent now arrives, not before `earliest`.
    pub(super) fn arrival(&self, bytes: usize, earliest: Instant) -> Instant {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let conditions = self.conditions();
        let mut departures = self.departures.lock();
        let now = Instant::now();
        let mut leaves = now;
        if let Some(bandwidth) = conditions.bandwidth_bytes_per_s {
            let seconds = bytes as f64 / bandwidth.max(1) as f64;
            leaves = departures.free_at.map_or(now, |free| free.max(now)) + Duration::from_secs_f64(seconds);
            departures.free_at = Some(leaves);
        }
        let mut arrives = leaves + conditions.delay;
        if !conditions.jitter.is_zero() {
            arrives += departures.jitter.random_range(Duration::ZERO..=conditions.jitter);
        }
        arrives.max(earliest)
    }

    /// Waits until `arrives`, then for as long as nothing gets through.
    ///
    /// Cancellation safe: it changes nothing.
    pub(super) async fn pass(&self, arrives: Instant) {
        self.alarms.wait_until(arrives.into_std()).await;
        if self.state.borrow().is_clear() {
            return;
        }
        let mut watch = self.state.subscribe();
        loop {
            let state = *watch.borrow_and_update();
            if state.cut || state.silent {
                if watch.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            match state.stalled_until {
                Some(until) if until > Instant::now() => {
                    // Either the stall is over or the lane has changed: both are looked at above.
                    let _ = timeout_at(until, watch.changed()).await;
                }
                _ => return,
            }
        }
    }

    /// One packet without a body crosses.
    pub(super) async fn cross(&self) {
        let arrives = self.arrival(0, Instant::now());
        self.pass(arrives).await;
    }

    /// What one connection may have under way. Taken when the connection is opened.
    pub(super) fn in_flight_bytes(&self) -> u32 {
        let conditions = self.conditions();
        let bytes = conditions.bandwidth_bytes_per_s.map_or(IN_FLIGHT_MAX_BYTES, |bandwidth| {
            let pipe = (conditions.delay + conditions.jitter).as_secs_f64() * f64::from(IN_FLIGHT_PIPES);
            (bandwidth as f64 * pipe) as u64
        });
        u32::try_from(bytes.clamp(IN_FLIGHT_MIN_BYTES, IN_FLIGHT_MAX_BYTES)).unwrap_or(u32::MAX)
    }
}
