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

/// A message under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UnderWay {
    intended: u64,
    acked: bool,
    /// Readers that it has not reached, of those that the window waits for.
    readers_left: usize,
}

/// One sender's course.
#[derive(Debug)]
pub(crate) struct Course {
    pace: Pace,
    /// When the first message of an open loop is due.
    first: u64,
    next_number: u64,
    /// How many messages there are.
    limit: u64,
    /// The readers that the window waits for, beside the ack.
    readers: usize,
    /// The messages from `oldest` on; `None`: it is done with.
    under_way: VecDeque<Option<UnderWay>>,
    oldest: u64,
    count: usize,
}

impl Course {
    /// `first`: when the first message of an open loop is due. `readers`: how many a message has to reach
    /// before it leaves the window; 0: its ack suffices.
    pub(crate) fn new(pace: Pace, first: u64, limit: u64, readers: usize) -> Self {
        let under_way = VecDeque::new();
        Self { pace, first, next_number: 0, limit, readers, under_way, oldest: 0, count: 0 }
    }

    /// The next message, if it is time for one.
    pub(crate) fn due(&mut self, now: u64, span: &Span) -> Option<Due> {
        let intended = match self.pace {
            _ if self.has_sent_all(now, span) => return None,
            Pace::Window(window) if self.count >= window => return None,
            Pace::Window(_) => now,
            Pace::Every(_) if self.next_time() > now => return None,
            Pace::Every(_) => self.next_time(),
        };
        let number = self.next_number;
        self.next_number += 1;
        self.under_way.push_back(Some(UnderWay { intended, acked: false, readers_left: self.readers }));
        self.count += 1;
        Some(Due { number, intended })
    }

    /// Nothing will be due any more. A sender of an open loop that is late sends what was due before the end.
    pub(crate) fn has_sent_all(&self, now: u64, span: &Span) -> bool {
        let is_over = match self.pace {
            Pace::Window(_) => now >= span.sends_until,
            Pace::Every(_) => self.next_time() >= span.sends_until,
        };
        is_over || self.next_number >= self.limit
    }

    /// When the next message of an open loop is due, if there is one.
    pub(crate) fn next_due(&self, now: u64, span: &Span) -> Option<u64> {
        let is_open = matches!(self.pace, Pace::Every(_));
        (is_open && !self.has_sent_all(now, span)).then(|| self.next_time())
    }

    fn next_time(&self) -> u64 {
        match self.pace {
            Pace::Every(interval) => self.first + (self.next_number as f64 * interval) as u64,
            Pace::Window(_) => self.first,
        }
    }

    /// A message was acked: when it was meant to be sent. `None`: no ack was owed.
    pub(crate) fn acked(&mut self, number: u64) -> Option<u64> {
        let under_way = self.find(number)?.as_mut().filter(|message| !message.acked)?;
        under_way.acked = true;
        let (intended, is_done) = (under_way.intended, under_way.readers_left == 0);
        if is_done {
            self.end(number);
        }
        Some(intended)
    }

    /// A message reached one more reader.
    pub(crate) fn arrived(&mut self, number: u64) {
        let Some(Some(message)) = self.find(number) else { return };
        message.readers_left = message.readers_left.saturating_sub(1);
        if message.acked && message.readers_left == 0 {
            self.end(number);
        }
    }

    /// A message was refused. `false`: no answer was owed.
    pub(crate) fn refused(&mut self, number: u64) -> bool {
        let was_owed = self.find(number).is_some_and(|message| message.is_some_and(|message| !message.acked));
        if was_owed {
            self.end(number);
        }
        was_owed
    }

    fn find(&mut self, number: u64) -> Option<&mut Option<UnderWay>> {
        self.under_way.get_mut(usize::try_from(number.checked_sub(self.oldest)?).ok()?)
    }

    fn end(&mut self, number: u64) {
        if self.find(number).and_then(Option::take).is_some() {
            self.count -= 1;
        }
        while self.under_way.front() == Some(&None) {
            self.under_way.pop_front();
            self.oldest += 1;
        }
    }

    /// Messages that were neither acked nor refused.
    pub(crate) fn unanswered(&self) -> usize {
        self.under_way.iter().flatten().filter(|message| !message.acked).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { counts_from: 0, sends_until: 1_000_000 };

    #[test]
    fn a_window_is_refilled_by_answers_in_any_order() {
        let mut course = Course::new(Pace::Window(3), 0, u64::MAX, 0);
        let sent: Vec<_> = std::iter::from_fn(|| course.due(5, &SPAN)).collect();
        assert_eq!(sent.iter().map(|due| due.number).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(course.acked(1), Some(5));
        assert_eq!(course.acked(1), None, "a second ack is none");
        assert_eq!(course.acked(9), None, "nothing of this number was sent");
        assert_eq!(course.due(7, &SPAN), Some(Due { number: 3, intended: 7 }));
        assert_eq!(course.acked(0), Some(5));
        assert!(course.refused(3) && !course.refused(3));
        assert_eq!(course.unanswered(), 1);
    }

    #[test]
    fn a_window_can_wait_for_every_reader_too() {
        let mut course = Course::new(Pace::Window(1), 0, u64::MAX, 2);
        assert_eq!(course.due(5, &SPAN).map(|due| due.number), Some(0));
        course.arrived(0);
        assert_eq!(course.acked(0), Some(5));
        assert_eq!((course.due(6, &SPAN), course.unanswered()), (None, 0));
        course.arrived(0);
        assert_eq!(course.due(7, &SPAN).map(|due| due.number), Some(1));
    }

    #[test]
    fn a_late_sender_sends_all_that_was_due_with_the_times_that_were_meant() {
        let mut course = Course::new(Pace::Every(100.0), 50, u64::MAX, 0);
        assert_eq!(course.due(49, &SPAN), None);
        let sent: Vec<_> = std::iter::from_fn(|| course.due(390, &SPAN)).collect();
        assert_eq!(sent.iter().map(|due| due.intended).collect::<Vec<_>>(), [50, 150, 250, 350]);
        assert_eq!(course.next_due(390, &SPAN), Some(450));
    }

    #[test]
    fn a_sender_that_is_late_at_the_end_sends_what_was_due_and_is_done() {
        let mut course = Course::new(Pace::Every(400_000.0), 100, u64::MAX, 0);
        let late = SPAN.sends_until + 5;
        assert_eq!(std::iter::from_fn(|| course.due(late, &SPAN)).count(), 3);
        assert_eq!(course.next_due(late, &SPAN), None, "nothing is due again and again");
        assert!(course.has_sent_all(late, &SPAN));
    }

    #[test]
    fn nothing_is_due_after_the_end_or_above_the_limit() {
        let mut course = Course::new(Pace::Window(9), 0, 2, 0);
        assert_eq!(course.due(SPAN.sends_until, &SPAN), None);
        assert_eq!(std::iter::from_fn(|| course.due(0, &SPAN)).count(), 2);
        assert!(course.has_sent_all(0, &SPAN));
    }
}
