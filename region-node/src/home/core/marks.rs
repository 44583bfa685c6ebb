//! Entries above the watermark: how far each log is replicated once it moves, and what is at risk.

use std::collections::{BTreeMap, HashMap};
use types::{LogId, Lsn, Position};

/// Above this many marks those of one log are merged.
const MARKS_MAX: usize = 1_024;

#[derive(Debug, Clone, Copy)]
struct Mark {
    log: LogId,
    position: Position,
    /// Whether the entry is content that was acked at `home`.
    acked: bool,
    /// Such entries of the same log whose marks were merged into this one.
    merged: u64,
}

impl Mark {
    const fn at_risk(&self) -> u64 {
        self.merged + self.acked as u64
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: BTreeMap<Lsn, Mark>,
    at_risk: u64,
    merge_above: usize,
}

impl Marks {
    /// Content acked at `home` and not replicated yet.
    pub(super) const fn at_risk(&self) -> u64 {
        self.at_risk
    }

    /// Notes an entry above the watermark. What stands above `durable` may still be taken back.
    pub(super) fn note(&mut self, lsn: Lsn, log: LogId, position: Position, durable: Lsn) {
        self.marks.entry(lsn).or_insert(Mark { log, position, acked: false, merged: 0 });
        if self.marks.len() > self.merge_above.max(MARKS_MAX) {
            self.merge(durable);
            self.merge_above = self.marks.len() * 2;
        }
    }

    /// Notes that the content at `lsn` was acked at `home`; once is enough.
    pub(super) fn acked(&mut self, lsn: Lsn, log: LogId) {
        if let Some(mark) = self.marks.get_mut(&lsn) {
            self.at_risk += u64::from(!mark.acked);
            mark.acked = true;
        } else if let Some(mark) = self.marks.range_mut(lsn..).map(|(_, mark)| mark).find(|at| at.log == log)
        {
            mark.merged += 1;
            self.at_risk += 1;
        }
    }

    /// Takes what the watermark has passed: per log its last entry up to there.
    pub(super) fn pass(&mut self, watermark: Lsn) -> HashMap<LogId, Position> {
        let rest = self.marks.split_off(&watermark.plus(1));
        let passed = std::mem::replace(&mut self.marks, rest);
        self.at_risk -= passed.values().map(Mark::at_risk).sum::<u64>();
        passed.into_values().map(|mark| (mark.log, mark.position)).collect()
    }

    /// Forgets everything above `end`: it was not written.
    pub(super) fn rewind(&mut self, end: Lsn) {
        let dropped = self.marks.split_off(&end.plus(1));
        self.at_risk -= dropped.values().map(Mark::at_risk).sum::<u64>();
    }

    /// Keeps of what is durable of each log the first mark and the last one only. A log is then called replicated
    /// a little later than it is. The first one stays where it is until the watermark has passed it, so
    /// however far the watermark is behind, its moving is told.
    fn merge(&mut self, durable: Lsn) {
        let mut ends: HashMap<LogId, (Lsn, Lsn)> = HashMap::new();
        for (lsn, mark) in self.marks.range(..=durable) {
            ends.entry(mark.log).and_modify(|(_, last)| *last = *lsn).or_insert((*lsn, *lsn));
        }
        let mut merged: HashMap<Lsn, u64> = HashMap::new();
        self.marks.retain(|lsn, mark| match ends.get(&mark.log) {
            Some((first, last)) if *first < *lsn && *lsn < *last => {
                *merged.entry(*last).or_default() += mark.at_risk();
                false
            }
            _ => true,
        });
        for (lsn, at_risk) in merged {
            if let Some(mark) = self.marks.get_mut(&lsn) {
                mark.merged += at_risk;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, Generation, Offset};

    fn at(offset: u64) -> Position {
        Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(offset))
    }

    #[test]
    fn a_watermark_that_stays_behind_is_told_all_the_same() {
        const LAG: u64 = 2 * MARKS_MAX as u64;
        let mut marks = Marks::default();
        let log = LogId::group([1; 16]);
        let mut told = Vec::new();
        for lsn in 1..=20 * LAG {
            marks.note(Lsn::new(lsn), log, at(lsn), Lsn::new(lsn));
            if let Some(watermark) = lsn.checked_sub(LAG) {
                told.extend(marks.pass(Lsn::new(watermark)).remove(&log));
            }
        }
        assert!(told.len() >= 10, "{told:?}");
        assert!(told.last().is_some_and(|last| last.offset.get() > 15 * LAG), "{told:?}");
        assert!(marks.marks.len() <= 2 * MARKS_MAX + 2);
    }

    #[test]
    fn what_is_taken_back_leaves_the_marks_of_what_is_durable() {
        let mut marks = Marks::default();
        let (log, durable) = (LogId::group([1; 16]), Lsn::new(1_500));
        for lsn in 1..=2_000 {
            marks.note(Lsn::new(lsn), log, at(lsn), durable);
            if lsn <= durable.get() {
                marks.acked(Lsn::new(lsn), log);
            }
        }
        marks.rewind(durable);
        assert_eq!(marks.at_risk(), durable.get());
        assert_eq!(marks.pass(durable)[&log], at(durable.get()));
    }

    #[test]
    fn merging_loses_no_message_at_risk() {
        let mut marks = Marks::default();
        let logs = [LogId::group([1; 16]), LogId::group([2; 16])];
        for lsn in 1..=MARKS_MAX as u64 + 10 {
            let log = logs[lsn as usize % 2];
            marks.note(Lsn::new(lsn), log, at(lsn), Lsn::new(lsn));
            marks.acked(Lsn::new(lsn), log);
        }
        assert_eq!(marks.at_risk(), MARKS_MAX as u64 + 10);
        let passed = marks.pass(Lsn::new(u64::MAX - 1));
        assert_eq!(passed[&logs[0]], at(MARKS_MAX as u64 + 10));
        assert_eq!(marks.at_risk(), 0);
    }
}
