//! How fast sessions come in.
//!
//! When a region is lost, all its sessions come to the others at once, and each resumes its chats. Let in together they
//! would take the processors from those who are here already: every write passes several tasks, and each of
//! them would queue behind thousands. So they come in one after the other:
//!
//! ```text
//!   knock ──▶ turn, first come first served ──▶ in       every session-interval at the earliest, later where the
//!     │                                                  node is short of breath: its timers are late
//!     └─▶ too many wait: refused, with the time after which there is room again
//! ```
//!
//! * Who waits costs a socket, and no processor time.
//! * The wait is bounded below what clients wait for a connection.
//! * Those who are refused are not told the same time: one after the other, so that they find it neither crowded nor idle
//!   when they come again.
//! * However busy the node is, somebody comes in every [`PAUSE_MAX`].

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};
use types::{Code, Refusal};

/// How long a session may have to wait at the door: less than clients wait for a connection.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// The longest time between two sessions that wait.
const PAUSE_MAX: Duration = Duration::from_millis(2);
/// A timer that is late by less tells nothing: the clock of timers goes in steps of a millisecond.
const LATE_FROM: Duration = Duration::from_millis(3);
/// The step in which timers go.
const TIMER_STEP: Duration = Duration::from_millis(1);
/// How much longer the next one waits than a timer was late.
const LATE_WEIGHT: u32 = 2;
/// The part of the last pause in the mean one, of 8.
const PACE_WEIGHT: u32 = 1;
/// The latest that anybody is told to come again: the pace that it rests on changes.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// The pace at which the door opens. Pure.
#[derive(Debug, Clone, Copy)]
struct Pace {
    interval: Duration,
    /// When the next one may come in.
    next: Instant,
    /// The time between two that wait, in the middle of the last ones.
    mean: Duration,
}

impl Pace {
    /// Somebody comes in; `late`: how much later than planned a timer rang.
    fn enter(&mut self, now: Instant, late: Duration) {
        let breath = if late >= LATE_FROM { late * LATE_WEIGHT } else { Duration::ZERO };
        let pause = (self.interval + breath).min(PAUSE_MAX.max(self.interval));
        self.mean = (self.mean * (8 - PACE_WEIGHT) + pause * PACE_WEIGHT) / 8;
        // What was not used while nobody came is not made up for; that timers go in steps is.
        self.next = self.next.max(now.checked_sub(TIMER_STEP).unwrap_or(now)) + pause;
    }
}

/// When those who were refused come again. Pure.
///
/// Half of them go in elsewhere meanwhile: where all come, there is room for them to wait.
#[derive(Debug, Clone, Copy)]
struct Promises {
    /// The last of them.
    last: Instant,
}

impl Promises {
    /// In what time somebody is to come again who would wait for `wait` now; two come in a `mean` time.
    fn give(&mut self, now: Instant, wait: Duration, mean: Duration) -> Duration {
        self.last = (now + wait).max(self.last + mean / 2).min(now + AGAIN_MAX);
        self.last - now
    }
}

/// For how long somebody waits at a mean pause behind `waiting` others.
fn wait(mean: Duration, waiting: usize) -> Duration {
    mean.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX))
}

/// See the module.
#[derive(Debug)]
pub(super) struct Door {
    waiting: AtomicUsize,
    /// What [`Pace::mean`] was last, in µs: read by those who cannot wait for their turn.
    mean_us: AtomicU64,
    /// Held by the one whose turn is next; it is fair.
    turn: Mutex<Pace>,
    promises: parking_lot::Mutex<Promises>,
}

impl Door {
    /// Lets in so many a second at the most.
    pub(super) fn new(sessions_per_s: u32) -> Self {
        let interval = Duration::from_secs(1) / sessions_per_s.max(1);
        let now = Instant::now();
        Self {
            waiting: AtomicUsize::new(0),
            mean_us: AtomicU64::new(us(interval)),
            turn: Mutex::new(Pace { interval, next: now, mean: interval }),
            promises: parking_lot::Mutex::new(Promises { last: now }),
        }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// `overloaded`, with when there is room again.
    pub(super) async fn enter(&self) -> Result<(), Refusal> {
        let _place = Place::take(&self.waiting);
        let waiting = self.waiting.load(Ordering::Relaxed);
        let mean = Duration::from_micros(self.mean_us.load(Ordering::Relaxed));
        let wait = wait(mean, waiting);
        if wait > PATIENCE {
            metrics::counter!("hearth_edge_sessions_turned_away_total").increment(1);
            let again = self.promises.lock().give(Instant::now(), wait, mean);
            let why = format!("{waiting} sessions wait to be let in");
            let ms = u64::try_from(again.as_millis()).unwrap_or(u64::MAX);
            return Err(Refusal::new(Code::Overloaded, why).retry_after_ms(ms));
        }
        let mut pace = self.turn.lock().await;
        let (due, now) = (pace.next, Instant::now());
        let mut late = Duration::ZERO;
        if due > now {
            sleep_until(due).await;
            late = due.elapsed();
        }
        pace.enter(Instant::now(), late);
        self.mean_us.store(us(pace.mean), Ordering::Relaxed);
        Ok(())
    }
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A place among those who wait, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        show(waiting.fetch_add(1, Ordering::Relaxed) + 1);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        show(self.0.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

/// What operators see: also that nobody waits any more.
fn show(waiting: usize) {
    metrics::gauge!("hearth_edge_sessions_waiting").set(waiting as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn sessions_come_in_at_the_pace_and_the_rest_is_told_when_to_come_again() {
        let door = Arc::new(Door::new(100));
        let began = Instant::now();
        let knocks: Vec<_> = (0..1_000)
            .map(|_| {
                let door = Arc::clone(&door);
                tokio::spawn(async move { (door.enter().await, began.elapsed()) })
            })
            .collect();
        let (mut entered, mut refused) = (Vec::new(), Vec::new());
        for knock in knocks {
            match knock.await.expect("no panic") {
                (Ok(()), at) => entered.push(at),
                (Err(refusal), at) => refused.push((refusal, at)),
            }
        }
        // The first one goes in before the others come.
        assert_eq!((entered.len(), refused.len()), (251, 749));
        assert!(entered.iter().all(|at| *at <= PATIENCE + Duration::from_millis(20)), "{:?}", entered.last());
        assert!(*entered.last().expect("many") >= Duration::from_millis(2_450), "not all at once");
        for (index, (refusal, at)) in refused.iter().enumerate() {
            assert_eq!(refusal.code, Code::Overloaded);
            let again = 2_510 + 5 * index as u64;
            assert_eq!(refusal.retry_after_ms, Some(again), "they come again one after the other");
            assert!(*at < Duration::from_millis(10));
        }
        door.enter().await.expect("there is room again");
    }

    #[test]
    fn nobody_is_told_to_come_at_the_same_time_nor_too_late() {
        let (now, mean) = (Instant::now(), Duration::from_millis(10));
        let mut promises = Promises { last: now };
        let given: Vec<u128> = (0..8_000).map(|_| promises.give(now, PATIENCE, mean).as_millis()).collect();
        assert_eq!(given[..3], [2_500, 2_505, 2_510]);
        assert_eq!(given.last(), Some(&AGAIN_MAX.as_millis()));
        let later = now + Duration::from_secs(60);
        assert_eq!(promises.give(later, PATIENCE, mean), PATIENCE, "what is past binds nobody");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_alone_does_not_wait() {
        let door = Door::new(10);
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let began = Instant::now();
            door.enter().await.expect("nobody else is there");
            assert!(began.elapsed() < Duration::from_millis(1));
        }
    }

    #[test]
    fn a_node_that_is_short_of_breath_lets_in_fewer_but_somebody_always() {
        let now = Instant::now();
        let pace = Pace { interval: Duration::from_millis(1), next: now, mean: Duration::from_millis(1) };
        let pause = |late_ms| {
            let mut pace = pace;
            pace.enter(now, Duration::from_millis(late_ms));
            pace.next - now
        };
        assert_eq!(pause(2), Duration::from_millis(1));
        assert_eq!(pause(5), PAUSE_MAX);
        assert_eq!(pause(5_000), PAUSE_MAX);
        let mut pace = pace;
        pace.enter(now, Duration::from_millis(5));
        assert!(wait(pace.mean, 100) > Duration::from_millis(110));
    }
}
