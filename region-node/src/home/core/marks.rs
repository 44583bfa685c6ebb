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

    /// Notes an entry above the watermark.
    pub(super) fn note(&mut self, lsn: Lsn, log: LogId, position: Position) {
        self.marks.entry(lsn).or_insert(Mark { log, position, acked: false, merged: 0 });
        if self.marks.len() > self.merge_above.max(MARKS_MAX) {
            self.merge();
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

    /// Keeps of each log the last mark only. A log is then called replicated a little later than it is.
    fn merge(&mut self) {
        let mut last: HashMap<LogId, Lsn> = HashMap::new();
        let mut risk: HashMap<LogId, u64> = HashMap::new();
        for (lsn, mark) in &self.marks {
            last.insert(mark.log, *lsn);
            *risk.entry(mark.log).or_default() += mark.at_risk();
        }
        self.marks.retain(|lsn, mark| last.get(&mark.log) == Some(lsn));
        for mark in self.marks.values_mut() {
            mark.merged = risk.remove(&mark.log).unwrap_or_default() - u64::from(mark.acked);
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
    fn merging_loses_no_message_at_risk() {
        let mut marks = Marks::default();
        let logs = [LogId::group([1; 16]), LogId::group([2; 16])];
        for lsn in 1..=MARKS_MAX as u64 + 10 {
            let log = logs[lsn as usize % 2];
            marks.note(Lsn::new(lsn), log, at(lsn));
            marks.acked(Lsn::new(lsn), log);
        }
        assert_eq!(marks.at_risk(), MARKS_MAX as u64 + 10);
        let passed = marks.pass(Lsn::new(u64::MAX - 1));
        assert_eq!(passed[&logs[0]], at(MARKS_MAX as u64 + 10));
        assert_eq!(marks.at_risk(), 0);
    }
}
