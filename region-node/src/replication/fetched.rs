//! What a home sends to one follower of one partition next: a plain state machine.
//!
//! ```text
//!   silent ──restart that matches──► following ──at a lower epoch, of another past, refused──► silent
//! ```
//!
//! Invariant: records are sent only behind a position that the follower holds durably, in the home's own
//! epoch, and that the home holds too; then, without a gap, up to the credit.

use crate::home::Standing;
use log_store::locate::{Located, locate_record};
use types::{Epoch, Lsn, PartitionPosition};

/// What a follower reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fetch {
    /// The highest epoch that it obeys.
    pub(super) obeys: Epoch,
    /// Its last durable record.
    pub(super) last: PartitionPosition,
    /// How many bytes behind `last` may be under way.
    pub(super) credit_bytes: usize,
    /// Send from `last` on, whatever was sent before.
    pub(super) restart: bool,
}

/// What to answer a report with at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing now: a restart is answered by the next batch, even an empty one.
    Nothing,
    /// Say in which epoch this home is, with no record: the follower must obey it first.
    Obey,
    /// What the follower holds is shared up to here only.
    Diverged(PartitionPosition),
    /// The follower obeys a later home.
    Stale,
}

/// One follower of one partition, as far as this stream has told.
#[derive(Debug)]
pub(super) struct Fetched {
    epoch: Epoch,
    following: bool,
    /// The last record that it holds.
    held: Lsn,
    sent: Lsn,
    credit_bytes: usize,
    /// Bytes of the records that were sent and are not held yet, with their LSNs.
    under_way: std::collections::VecDeque<(Lsn, usize)>,
    under_way_bytes: usize,
    told_watermark: Lsn,
    /// A restart is not answered yet.
    owes: bool,
}

impl Fetched {
    pub(super) const fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            following: false,
            held: Lsn::ZERO,
            sent: Lsn::ZERO,
            credit_bytes: 0,
            under_way: std::collections::VecDeque::new(),
            under_way_bytes: 0,
            told_watermark: Lsn::ZERO,
            owes: false,
        }
    }

    /// The home's epoch that this stands in.
    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes a report.
    pub(super) fn report(&mut self, fetch: Fetch, standing: &Standing) -> Answer {
        if fetch.obeys > self.epoch {
            self.following = false;
            return Answer::Stale;
        }
        if fetch.obeys < self.epoch {
            self.following = false;
            return Answer::Obey;
        }
        match locate_record(standing.end, &standing.epochs, self.epoch, fetch.last) {
            Located::Continue => {}
            Located::Diverged { common } => {
                self.following = false;
                return Answer::Diverged(common);
            }
            // It says that it holds what this home never had in its own epoch.
            Located::Ahead => {
                self.following = false;
                return Answer::Stale;
            }
        }
        self.credit_bytes = fetch.credit_bytes;
        self.held = fetch.last.lsn;
        if fetch.restart || self.sent < self.held {
            self.sent = self.held;
            self.under_way.clear();
            self.under_way_bytes = 0;
        }
        if fetch.restart {
            self.following = true;
            self.owes = true;
        }
        while self.under_way.front().is_some_and(|(lsn, _)| *lsn <= self.held) {
            if let Some((_, bytes)) = self.under_way.pop_front() {
                self.under_way_bytes -= bytes;
            }
        }
        Answer::Nothing
    }

    /// Behind which LSN to send, and how many bytes, or one record; `None` when nothing may be sent.
    pub(super) fn may_send(&self) -> Option<(Lsn, usize)> {
        let left = self.credit_bytes.saturating_sub(self.under_way_bytes);
        let may = self.following && (left > 0 || self.under_way.is_empty());
        may.then_some((self.sent, left))
    }

    /// Sends nothing until the next restart.
    pub(super) const fn silence(&mut self) {
        self.following = false;
    }

    /// Whether a batch without records would tell something: a watermark, or that a restart has matched.
    pub(super) fn should_tell(&self, watermark: Lsn) -> bool {
        self.following && (self.owes || watermark > self.told_watermark)
    }

    /// Whether a restart waits for its answer.
    pub(super) const fn owes(&self) -> bool {
        self.following && self.owes
    }

    /// A batch was sent, with the watermark.
    pub(super) const fn told(&mut self, watermark: Lsn) {
        self.told_watermark = watermark;
        self.owes = false;
    }

    /// The batch held records of so many bytes, up to `last`.
    pub(super) fn sent(&mut self, last: Lsn, bytes: usize) {
        self.sent = last;
        self.under_way.push_back((last, bytes));
        self.under_way_bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log_store::EpochBegin;

    fn at(epoch: u64, lsn: u64) -> PartitionPosition {
        PartitionPosition::new(Epoch::new(epoch), Lsn::new(lsn))
    }

    fn standing() -> Standing {
        let begin = |epoch, lsn| EpochBegin { epoch: Epoch::new(epoch), first_lsn: Lsn::new(lsn) };
        Standing { end: at(3, 20), epochs: vec![begin(1, 1), begin(3, 11)], watermark: Lsn::new(5) }
    }

    fn fetch(obeys: u64, last: PartitionPosition, restart: bool) -> Fetch {
        Fetch { obeys: Epoch::new(obeys), last, credit_bytes: 100, restart }
    }

    #[test]
    fn nothing_is_sent_before_the_follower_obeys_and_matches() {
        let mut fetched = Fetched::new(Epoch::new(3));
        assert_eq!(fetched.report(fetch(1, at(1, 8), true), &standing()), Answer::Obey);
        assert_eq!(fetched.may_send(), None);
        assert_eq!(fetched.report(fetch(3, at(1, 12), true), &standing()), Answer::Diverged(at(1, 10)));
        assert_eq!(fetched.may_send(), None);
        assert_eq!(fetched.report(fetch(3, at(1, 10), true), &standing()), Answer::Nothing);
        assert_eq!(fetched.may_send(), Some((Lsn::new(10), 100)));
    }

    #[test]
    fn a_restart_is_answered_and_a_watermark_told_once() {
        let mut fetched = Fetched::new(Epoch::new(3));
        assert!(!fetched.should_tell(Lsn::new(5)), "it follows nothing yet");
        fetched.report(fetch(3, at(1, 10), true), &standing());
        assert!(fetched.owes() && fetched.should_tell(Lsn::ZERO));
        fetched.told(Lsn::new(5));
        assert!(!fetched.owes() && !fetched.should_tell(Lsn::new(5)));
        assert!(fetched.should_tell(Lsn::new(6)));
    }

    #[test]
    fn a_follower_of_a_later_home_is_left_alone() {
        let mut fetched = Fetched::new(Epoch::new(3));
        assert_eq!(fetched.report(fetch(4, at(3, 12), true), &standing()), Answer::Stale);
    }

    #[test]
    fn credit_bounds_what_is_under_way() {
        let mut fetched = Fetched::new(Epoch::new(3));
        fetched.report(fetch(3, at(1, 10), true), &standing());
        fetched.sent(Lsn::new(12), 60);
        fetched.sent(Lsn::new(13), 40);
        assert_eq!(fetched.may_send(), None);
        assert_eq!(fetched.report(fetch(3, at(3, 12), false), &standing()), Answer::Nothing);
        assert_eq!(fetched.may_send(), Some((Lsn::new(13), 60)));
        fetched.report(fetch(3, at(3, 12), true), &standing());
        assert_eq!(fetched.may_send(), Some((Lsn::new(12), 100)));
    }
}
