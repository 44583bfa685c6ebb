//! What a follower was handed and has not called durable yet.

use proto::node::Batch;
use std::collections::VecDeque;
use types::PartitionPosition;

/// Batches in the order in which they were handed over.
#[derive(Debug, Default)]
pub(super) struct Handed {
    batches: VecDeque<(PartitionPosition, usize)>,
    bytes: usize,
    /// The highest watermark handed over; `None` before the first: that one is handed over whatever it
    /// is, since it also tells the follower that the home holds the same.
    watermark: Option<u64>,
    /// A watermark was handed over by itself and is not answered yet: one at a time, since no credit
    /// bounds them.
    alone: bool,
    /// The newest watermark that waits for that.
    held: Option<Batch>,
}

impl Handed {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn last(&self) -> Option<PartitionPosition> {
        self.batches.back().map(|(last, _)| *last)
    }

    pub(super) fn hand(&mut self, last: PartitionPosition, bytes: usize, watermark: u64) {
        self.batches.push_back((last, bytes));
        self.bytes += bytes;
        self.watermark = self.watermark.max(Some(watermark));
        self.held.take_if(|held| held.watermark <= watermark);
    }

    /// The follower holds everything up to `last`.
    pub(super) fn land(&mut self, last: PartitionPosition) {
        self.alone = false;
        while self.batches.front().is_some_and(|(end, _)| end.lsn <= last.lsn) {
            self.bytes -= self.batches.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    /// Nothing that was handed will arrive any more, or nobody knows.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// A watermark by itself: answers what to hand over now.
    pub(super) fn watermark(&mut self, batch: Batch) -> Option<Batch> {
        if Some(batch.watermark) <= self.watermark {
            return None;
        }
        self.held = Some(batch);
        self.held_watermark()
    }

    /// The watermark that had to wait, if it need not any more.
    pub(super) fn held_watermark(&mut self) -> Option<Batch> {
        if self.alone {
            return None;
        }
        let held = self.held.take()?;
        self.alone = true;
        self.watermark = self.watermark.max(Some(held.watermark));
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(watermark: u64) -> Batch {
        Batch { watermark, ..Batch::default() }
    }

    #[test]
    fn one_watermark_is_under_way_at_a_time_and_the_newest_follows() {
        let mut handed = Handed::default();
        assert!(handed.watermark(mark(0)).is_some());
        assert!(handed.watermark(mark(1)).is_none());
        assert!(handed.watermark(mark(2)).is_none());
        assert!(handed.watermark(mark(3)).is_none());
        handed.land(PartitionPosition::ZERO);
        assert_eq!(handed.held_watermark(), Some(mark(3)));
        assert!(handed.watermark(mark(3)).is_none());
        assert!(handed.held_watermark().is_none());
    }
}
