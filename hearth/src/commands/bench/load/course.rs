//! Where the sender of one chat stands in a run: what is due, what is unanswered.
//!
//! Times are µs since the run's epoch; nothing here reads a clock. In a closed loop a sender keeps a window
//! of unanswered writes. In an open loop messages are due at fixed times, whatever became of earlier ones,
//! and every latency counts from the moment a message was *meant* to be sent, so that a stalled server is
//! not flattered by a stalled generator (coordinated omission).

use std::collections::VecDeque;

/// When a sender sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Closed loop: so many writes are unanswered at a time.
    Window(usize),
    /// Open loop: one message each so many µs.
    Every(f64),
}

/// When the run begins to count and when it ends, in µs since its epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) counts_from: u64,
    pub(crate) sends_until: u64,
}

impl Span {
    pub(crate) const fn counts(&self, now: u64) -> bool {
        now >= self.counts_from && now < self.sends_until
    }
}

/// A message that is due: its number, and when it was meant to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) number: u64,
    pub(crate) intended: u64,
}

/// One sender's course.
#[derive(Debug)]
pub(crate) struct Course {
    pace: Pace,
    /// When the first message of an open loop is due.
    first: u64,
    next_number: u64,
    /// The intended times of the messages from `oldest` on; `None`: it was answered.
    unanswered: VecDeque<Option<u64>>,
    oldest: u64,
    count: usize,
}

impl Course {
    /// `first`: when the first message of an open loop is due.
    pub(crate) fn new(pace: Pace, first: u64) -> Self {
        Self { pace, first, next_number: 0, unanswered: VecDeque::new(), oldest: 0, count: 0 }
    }

    /// The next message, if it is time for one.
    pub(crate) fn due(&mut self, now: u64, span: &Span) -> Option<Due> {
        let intended = match self.pace {
            _ if now >= span.sends_until => return None,
            Pace::Window(window) if self.count >= window => return None,
            Pace::Window(_) => now,
            Pace::Every(_) if self.next_time() > now => return None,
            Pace::Every(_) => self.next_time(),
        };
        let number = self.next_number;
        self.next_number += 1;
        self.unanswered.push_back(Some(intended));
        self.count += 1;
        Some(Due { number, intended })
    }

    /// When the next message of an open loop is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        matches!(self.pace, Pace::Every(_)).then(|| self.next_time())
    }

    fn next_time(&self) -> u64 {
        match self.pace {
            Pace::Every(interval) => self.first + (self.next_number as f64 * interval) as u64,
            Pace::Window(_) => self.first,
        }
    }

    /// A message was answered: when it was meant to be sent. `None`: it is not unanswered.
    pub(crate) fn answered(&mut self, number: u64) -> Option<u64> {
        let at = usize::try_from(number.checked_sub(self.oldest)?).ok()?;
        let intended = self.unanswered.get_mut(at)?.take()?;
        self.count -= 1;
        while self.unanswered.front() == Some(&None) {
            self.unanswered.pop_front();
            self.oldest += 1;
        }
        Some(intended)
    }

    /// Messages that are unanswered.
    pub(crate) const fn unanswered(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { counts_from: 0, sends_until: 1_000_000 };

    #[test]
    fn a_window_is_refilled_by_answers_in_any_order() {
        let mut course = Course::new(Pace::Window(3), 0);
        let sent: Vec<_> = std::iter::from_fn(|| course.due(5, &SPAN)).collect();
        assert_eq!(sent.iter().map(|due| due.number).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(course.answered(1), Some(5));
        assert_eq!(course.answered(1), None, "a second answer is none");
        assert_eq!(course.answered(9), None, "nothing of this number was sent");
        assert_eq!(course.due(7, &SPAN), Some(Due { number: 3, intended: 7 }));
        assert_eq!((course.answered(0), course.answered(3)), (Some(5), Some(7)));
        assert_eq!(course.unanswered(), 1);
    }

    #[test]
    fn a_late_sender_sends_all_that_was_due_with_the_times_that_were_meant() {
        let mut course = Course::new(Pace::Every(100.0), 50);
        assert_eq!(course.due(49, &SPAN), None);
        let sent: Vec<_> = std::iter::from_fn(|| course.due(390, &SPAN)).collect();
        assert_eq!(sent.iter().map(|due| due.intended).collect::<Vec<_>>(), [50, 150, 250, 350]);
        assert_eq!(course.next_due(), Some(450));
    }

    #[test]
    fn nothing_is_due_after_the_end() {
        let mut course = Course::new(Pace::Window(1), 0);
        assert_eq!(course.due(SPAN.sends_until, &SPAN), None);
    }
}
