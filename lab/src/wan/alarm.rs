//! Waiting to the tenth of a millisecond.
//!
//! The runtime's own timers count whole milliseconds and fire late by up to one. Over two directions that
//! would be a second round trip of its own, where what is measured over a link is hardly more. So a thread
//! of its own sleeps until the next arrival is due, for all lanes together.

use parking_lot::{Condvar, Mutex};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Poll, Waker},
    time::Instant,
};

/// Wakes tasks at their times. The thread ends with the last handle.
#[derive(Debug)]
pub(super) struct Alarms(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    tasks: BinaryHeap<Reverse<Task>>,
    ended: bool,
}

/// A task that waits. One that has given up stays until its time: it is woken for nothing then.
#[derive(Debug)]
struct Task {
    at: Instant,
    waker: Waker,
}

impl PartialEq for Task {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Task {}

impl PartialOrd for Task {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Task {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Alarms {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let ringing = Arc::clone(&shared);
        std::thread::Builder::new().name("wan-alarms".to_owned()).spawn(move || ringing.ring())?;
        Ok(Self(shared))
    }

    /// Returns at `at`, or at once where that is over. Cancel-safe.
    pub(super) async fn wait_until(&self, at: Instant) {
        let mut known: Option<Waker> = None;
        poll_fn(|cx| {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            if known.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
                known = Some(cx.waker().clone());
                self.0.add(Task { at, waker: cx.waker().clone() });
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Alarms {
    fn drop(&mut self) {
        self.0.waiting.lock().ended = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn add(&self, task: Task) {
        let mut waiting = self.waiting.lock();
        let is_next = waiting.tasks.peek().is_none_or(|Reverse(next)| task.at < next.at);
        waiting.tasks.push(Reverse(task));
        drop(waiting);
        if is_next {
            self.changed.notify_one();
        }
    }

    fn ring(&self) {
        let mut waiting = self.waiting.lock();
        let mut due: Vec<Waker> = Vec::new();
        while !waiting.ended {
            let now = Instant::now();
            while waiting.tasks.peek().is_some_and(|Reverse(next)| next.at <= now) {
                due.extend(waiting.tasks.pop().map(|Reverse(task)| task.waker));
            }
            if !due.is_empty() {
                drop(waiting);
                due.drain(..).for_each(Waker::wake);
                waiting = self.waiting.lock();
                continue;
            }
            match waiting.tasks.peek().map(|Reverse(next)| next.at) {
                Some(at) => drop(self.changed.wait_until(&mut waiting, at)),
                None => self.changed.wait(&mut waiting),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn an_alarm_is_never_early_and_each_waits_for_its_own() {
        let alarms = Alarms::start().expect("a thread");
        let now = Instant::now();
        let wait = async |wait_us| {
            let at = now + Duration::from_micros(wait_us);
            alarms.wait_until(at).await;
            assert!(Instant::now() >= at);
        };
        tokio::join!(wait(2_500), wait(300), wait(0), wait(700));
        let at = Instant::now() + Duration::from_secs(60);
        let given_up = tokio::time::timeout(Duration::from_millis(5), alarms.wait_until(at)).await;
        assert!(given_up.is_err());
        alarms.wait_until(Instant::now() + Duration::from_millis(1)).await;
    }
}
