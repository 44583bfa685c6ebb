//! What a follower does with what a replicator brings: a plain state machine for one partition.
//!
//! ```text
//!   request ─► decide ─► ReadEnd | Raise | Append | CutOff ─► (the store) ─► told the outcome ─► decide …
//!                 └────► Answer
//! ```
//!
//! Invariants:
//! - An epoch below the fence is never obeyed.
//! - Records are taken only at an epoch that the store was fenced at before their home matched this copy:
//!   then no older home can have changed what they follow.
//! - A tail is cut off only after it was archived, and only where the home has judged this very tail: what
//!   was said of an earlier one may come late, when all that is held is the home's.

use bytes::Bytes;
use host::planted::{Bug, is_planted};
use log_store::{EpochBegin, PartitionEnd};
use types::{Epoch, Lsn, PartitionPosition, Record};

/// What a home sends to a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Dense, behind what was sent before; may be empty.
    pub records: Vec<Record>,
    /// What they were decoded from, one each.
    pub encoded: Vec<Bytes>,
    /// The home's watermark.
    pub watermark: Lsn,
    /// The home's last record, if the home found that this copy is a part of its own.
    pub end: Option<PartitionPosition>,
}

impl Batch {
    /// The bytes of its records.
    pub fn bytes(&self) -> usize {
        self.encoded.iter().map(Bytes::len).sum()
    }
}

/// What a replicator asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What do you hold?
    Probe,
    /// Take this.
    Batch(Batch),
    /// Drop what is behind `common`.
    Diverged {
        /// The last record that may be shared.
        common: PartitionPosition,
        /// The last record of the copy that the home has judged, if it is told.
        judged: Option<PartitionPosition>,
    },
}

impl Request {
    /// The bytes of its records.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.bytes(),
            Self::Probe | Self::Diverged { .. } => 0,
        }
    }
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the store for the end, and tell it by [`Core::learn`].
    ReadEnd,
    /// Fence the store, and tell its end by [`Core::learn`].
    Raise(Epoch),
    /// Append; then [`Core::appended`] or [`Core::forget`].
    Append {
        /// The epoch to obey.
        obeys: Epoch,
        /// The records.
        records: Vec<Record>,
        /// What they were decoded from.
        encoded: Vec<Bytes>,
    },
    /// Archive everything from here on, truncate, and tell the end by [`Core::learn`].
    CutOff {
        /// The epoch to obey.
        obeys: Epoch,
        /// The first LSN to go.
        from: Lsn,
    },
    /// Answer; the request is done.
    Answer(Outcome),
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, durably.
    Done,
    /// A higher epoch is obeyed.
    Fenced,
    /// The batch does not follow what is held, or what is held is not what was judged.
    Gap,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Core {
    /// What the store said last; `None` when it must be asked again.
    end: Option<PartitionEnd>,
    /// The epochs that begin in the records that are being appended.
    appending: Vec<EpochBegin>,
    matched: bool,
    watermark: Lsn,
}

impl Core {
    /// Decides what to do next about a request made on behalf of the home of `epoch`. What is done takes
    /// itself out of the request, so that the next decision goes on from there.
    pub fn decide(&mut self, epoch: Epoch, request: &mut Request) -> Action {
        let Some(end) = &self.end else { return Action::ReadEnd };
        if epoch < end.fence && !is_planted(Bug::SkipFenceCheck) && !is_planted(Bug::TruncateUnfenced) {
            return Action::Answer(Outcome::Fenced);
        }
        if epoch > end.fence {
            // Records that were on their way before the fence was raised must be matched anew.
            if let Request::Batch(batch) = request
                && !batch.records.is_empty()
            {
                batch.end = None;
            }
            return Action::Raise(epoch);
        }
        match request {
            Request::Probe => Action::Answer(Outcome::Done),
            Request::Batch(batch) if batch.records.is_empty() => {
                self.matches(batch.end, batch.watermark);
                Action::Answer(Outcome::Done)
            }
            Request::Batch(batch) => {
                let follows = batch.records[0].lsn == end.last.lsn.plus(1);
                if batch.end.is_none() || !follows {
                    return Action::Answer(Outcome::Gap);
                }
                self.appending = epoch_begins(end.last.epoch, &batch.records);
                let records = std::mem::take(&mut batch.records);
                Action::Append { obeys: epoch, records, encoded: std::mem::take(&mut batch.encoded) }
            }
            Request::Diverged { common, judged } => {
                let keep = last_shared(end, *common);
                if end.last.lsn <= keep {
                    return Action::Answer(Outcome::Done);
                }
                if !judged.map_or(end.last.epoch < epoch, |judged| judged == end.last) {
                    return Action::Answer(Outcome::Gap);
                }
                self.matched = false;
                self.watermark = self.watermark.min(keep);
                Action::CutOff { obeys: epoch, from: keep.plus(1) }
            }
        }
    }

    fn matches(&mut self, home_end: Option<PartitionPosition>, watermark: Lsn) {
        let Some(end) = &self.end else { return };
        if home_end.is_some() {
            self.matched = true;
            self.watermark = self.watermark.max(watermark.min(end.last.lsn));
        }
    }

    /// The store told its end.
    pub fn learn(&mut self, end: PartitionEnd) {
        self.end = Some(end);
    }

    /// The records up to here are durable.
    pub fn appended(&mut self, last: PartitionPosition) {
        if let Some(end) = &mut self.end {
            end.last = last;
            end.epochs.append(&mut self.appending);
        }
    }

    /// What was known of the store is no longer sure: it is asked before anything else is done.
    pub fn forget(&mut self) {
        self.end = None;
    }

    /// This node was home of the partition until now: what it holds must be matched before it is served.
    pub fn end_of_home(&mut self, watermark: Lsn) {
        self.end = None;
        self.matched = false;
        self.watermark = self.watermark.max(watermark);
    }

    /// Whether the store need not be asked where the partition ends.
    pub const fn knows_the_end(&self) -> bool {
        self.end.is_some()
    }

    /// The fence and the last record, as far as is known.
    pub fn standing(&self) -> (Epoch, PartitionPosition) {
        self.end.as_ref().map_or((Epoch::ZERO, PartitionPosition::ZERO), |end| (end.fence, end.last))
    }

    /// Whether a home has found this copy to be a part of its own since this node started, and none has
    /// found otherwise.
    pub const fn is_matched(&self) -> bool {
        self.matched
    }

    /// Up to where the partition is known to be replicated.
    pub const fn watermark(&self) -> Lsn {
        self.watermark
    }
}

/// The last record here with neither epoch nor LSN above `common`.
fn last_shared(end: &PartitionEnd, common: PartitionPosition) -> Lsn {
    let above = end.epochs.iter().find(|begin| begin.epoch > common.epoch);
    above.map_or(common.lsn, |begin| common.lsn.min(begin.first_lsn.prev()))
}

fn epoch_begins(mut epoch: Epoch, records: &[Record]) -> Vec<EpochBegin> {
    let mut begins = Vec::new();
    for record in records {
        if record.epoch > epoch {
            epoch = record.epoch;
            begins.push(EpochBegin { epoch, first_lsn: record.lsn });
        }
    }
    begins
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Body, Generation, LogId, StateUpdate};

    fn record(lsn: u64, epoch: u64) -> Record {
        Record {
            lsn: Lsn::new(lsn),
            epoch: Epoch::new(epoch),
            generation: Generation::FIRST,
            log: LogId::group([1; 16]),
            accepted_at_ms: 0,
            body: Body::Update(StateUpdate::Cursors(Vec::new())),
        }
    }

    fn at(epoch: u64, lsn: u64) -> PartitionPosition {
        PartitionPosition::new(Epoch::new(epoch), Lsn::new(lsn))
    }

    fn standing_at(fence: u64, last: PartitionPosition) -> Core {
        let mut core = Core::default();
        core.learn(PartitionEnd { fence: Epoch::new(fence), last, epochs: vec![] });
        core
    }

    fn batch(records: Vec<Record>, end: Option<PartitionPosition>) -> Request {
        let encoded = records.iter().map(proto::encode_record).collect();
        Request::Batch(Batch { records, encoded, watermark: Lsn::new(100), end })
    }

    #[test]
    fn a_batch_of_a_lower_epoch_is_refused() {
        let mut core = standing_at(3, at(2, 5));
        let action = core.decide(Epoch::new(2), &mut batch(vec![record(6, 2)], Some(at(2, 6))));
        assert_eq!(action, Action::Answer(Outcome::Fenced));
        assert!(!core.is_matched());
    }

    #[test]
    fn records_of_a_new_epoch_are_taken_only_after_a_match_in_it() {
        let mut core = standing_at(2, at(2, 5));
        let mut early = batch(vec![record(6, 3)], Some(at(3, 6)));
        assert_eq!(core.decide(Epoch::new(3), &mut early), Action::Raise(Epoch::new(3)));
        core.learn(PartitionEnd { fence: Epoch::new(3), last: at(2, 5), epochs: vec![] });
        assert_eq!(core.decide(Epoch::new(3), &mut early), Action::Answer(Outcome::Gap));
        let mut matched = batch(vec![record(6, 3)], Some(at(3, 6)));
        let action = core.decide(Epoch::new(3), &mut matched);
        let encoded = vec![proto::encode_record(&record(6, 3))];
        assert_eq!(action, Action::Append { obeys: Epoch::new(3), records: vec![record(6, 3)], encoded });
        core.appended(at(3, 6));
        assert_eq!(core.decide(Epoch::new(3), &mut matched), Action::Answer(Outcome::Done));
        assert!(core.is_matched());
        assert_eq!(core.watermark(), Lsn::new(6), "never above what is held");
    }

    #[test]
    fn a_call_to_obey_is_no_match() {
        let mut core = standing_at(3, at(2, 5));
        assert_eq!(core.decide(Epoch::new(3), &mut batch(vec![], None)), Action::Answer(Outcome::Done));
        assert!(!core.is_matched());
        assert_eq!(
            core.decide(Epoch::new(3), &mut batch(vec![], Some(at(2, 5)))),
            Action::Answer(Outcome::Done)
        );
        assert!(core.is_matched());
    }

    #[test]
    fn a_divergent_tail_is_cut_off_and_serves_nothing_until_the_next_match() {
        let mut core = standing_at(3, at(2, 9));
        core.decide(Epoch::new(3), &mut batch(vec![], Some(at(2, 9))));
        let mut diverged = Request::Diverged { common: at(1, 4), judged: Some(at(2, 9)) };
        let action = core.decide(Epoch::new(3), &mut diverged);
        assert_eq!(action, Action::CutOff { obeys: Epoch::new(3), from: Lsn::new(5) });
        assert!(!core.is_matched());
        core.learn(PartitionEnd { fence: Epoch::new(3), last: at(1, 4), epochs: vec![] });
        assert_eq!(core.decide(Epoch::new(3), &mut diverged), Action::Answer(Outcome::Done));
    }

    #[test]
    fn records_of_an_epoch_above_the_shared_one_go_too() {
        let begin = |epoch, lsn| EpochBegin { epoch: Epoch::new(epoch), first_lsn: Lsn::new(lsn) };
        let mut core = Core::default();
        let epochs = vec![begin(1, 1), begin(2, 4)];
        core.learn(PartitionEnd { fence: Epoch::new(3), last: at(2, 9), epochs });
        let mut diverged = Request::Diverged { common: at(1, 7), judged: Some(at(2, 9)) };
        let action = core.decide(Epoch::new(3), &mut diverged);
        assert_eq!(action, Action::CutOff { obeys: Epoch::new(3), from: Lsn::new(4) });
    }

    #[test]
    fn what_was_said_of_an_earlier_tail_cuts_nothing_off() {
        let begin = |epoch, lsn| EpochBegin { epoch: Epoch::new(epoch), first_lsn: Lsn::new(lsn) };
        for judged in [Some(at(4, 15)), None] {
            let mut core = Core::default();
            let epochs = vec![begin(4, 1), begin(5, 11)];
            core.learn(PartitionEnd { fence: Epoch::new(5), last: at(5, 50), epochs });
            core.decide(Epoch::new(5), &mut batch(vec![], Some(at(5, 50))));
            let late = core.decide(Epoch::new(5), &mut Request::Diverged { common: at(4, 10), judged });
            assert_eq!(late, Action::Answer(Outcome::Gap), "{judged:?}");
            assert!(core.is_matched() && core.watermark() == Lsn::new(50));
        }
        let mut core = Core::default();
        let epochs = vec![begin(3, 1), begin(4, 11)];
        core.learn(PartitionEnd { fence: Epoch::new(5), last: at(4, 15), epochs });
        let untold = core.decide(Epoch::new(5), &mut Request::Diverged { common: at(3, 10), judged: None });
        assert_eq!(untold, Action::CutOff { obeys: Epoch::new(5), from: Lsn::new(11) });
    }

    #[test]
    fn a_batch_over_a_gap_is_refused() {
        let mut core = standing_at(3, at(2, 5));
        let action = core.decide(Epoch::new(3), &mut batch(vec![record(7, 3)], Some(at(3, 7))));
        assert_eq!(action, Action::Answer(Outcome::Gap));
    }
}
