//! Whether a batch fits behind what the follower was handed.

use prost::Message as _;
use proto::node::Batch;
use types::{Epoch, Lsn, PartitionPosition};

/// What a batch holds for the follower.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is empty: only the watermark may have moved.
    Nothing,
    /// All of it was handed before.
    Behind,
    /// Something between what was handed and this is missing.
    Hole,
    /// Not dense, an epoch that goes back or is above the home's, or another record where one was handed.
    Incoherent(Lsn),
    /// It directly follows; what was handed before is cut off it.
    Records { last: PartitionPosition, bytes: usize },
}

/// Cuts off what was handed before, and tells whether the rest directly follows `sent`.
pub(super) fn fit(batch: &mut Batch, sent: PartitionPosition, epoch: Epoch) -> Taken {
    let Some(first) = batch.records.first().map(|record| record.lsn) else {
        return Taken::Nothing;
    };
    let mut before = 0;
    for (index, record) in (0..).zip(&batch.records) {
        let dense = first > 0 && Some(record.lsn) == first.checked_add(index);
        if !dense || record.epoch < before || record.epoch > epoch.get() {
            return Taken::Incoherent(Lsn::new(record.lsn));
        }
        before = record.epoch;
    }
    let sent_lsn = sent.lsn.get();
    if first > sent_lsn.saturating_add(1) {
        return Taken::Hole;
    }
    // How many of its records lie at or below `sent`.
    let known =
        usize::try_from(sent_lsn.saturating_add(1) - first).unwrap_or(usize::MAX).min(batch.records.len());
    let overlap = known.checked_sub(1).and_then(|index| batch.records.get(index));
    if overlap.is_some_and(|record| record.lsn == sent_lsn && record.epoch != sent.epoch.get()) {
        return Taken::Incoherent(sent.lsn);
    }
    batch.records.drain(..known);
    let (Some(first), Some(last)) = (batch.records.first(), batch.records.last()) else {
        return Taken::Behind;
    };
    if first.epoch < sent.epoch.get() {
        return Taken::Incoherent(Lsn::new(first.lsn));
    }
    let last = PartitionPosition::new(Epoch::new(last.epoch), Lsn::new(last.lsn));
    Taken::Records { last, bytes: batch.records.iter().map(|record| record.encoded_len()).sum() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::log::Record;

    fn batch(records: &[(u64, u64)]) -> Batch {
        let records =
            records.iter().map(|&(epoch, lsn)| Record { epoch, lsn, ..Record::default() }).collect();
        Batch { records, ..Batch::default() }
    }

    fn fits(records: &[(u64, u64)], sent: (u64, u64)) -> (Taken, usize) {
        let mut batch = batch(records);
        let sent = PartitionPosition::new(Epoch::new(sent.0), Lsn::new(sent.1));
        let taken = fit(&mut batch, sent, Epoch::new(5));
        (taken, batch.records.len())
    }

    #[test]
    fn what_was_handed_before_is_cut_off() {
        let (taken, left) = fits(&[(2, 4), (2, 5), (3, 6)], (2, 5));
        assert!(matches!(taken, Taken::Records { last, .. } if last.lsn == Lsn::new(6)));
        assert_eq!(left, 1);
        assert_eq!(fits(&[(2, 4), (2, 5)], (2, 5)).0, Taken::Behind);
        assert_eq!(fits(&[(2, 2), (2, 3)], (2, 5)).0, Taken::Behind);
        assert_eq!(fits(&[], (2, 5)).0, Taken::Nothing);
    }

    #[test]
    fn a_batch_behind_a_hole_is_not_taken() {
        assert_eq!(fits(&[(2, 7)], (2, 5)).0, Taken::Hole);
    }

    #[test]
    fn a_batch_that_contradicts_itself_or_the_follower_is_not_taken() {
        assert_eq!(fits(&[(2, 6), (2, 8)], (2, 5)).0, Taken::Incoherent(Lsn::new(8)));
        assert_eq!(fits(&[(3, 6), (2, 7)], (2, 5)).0, Taken::Incoherent(Lsn::new(7)));
        assert_eq!(fits(&[(6, 6)], (2, 5)).0, Taken::Incoherent(Lsn::new(6)));
        assert_eq!(fits(&[(1, 5), (3, 6)], (2, 5)).0, Taken::Incoherent(Lsn::new(5)));
        assert_eq!(fits(&[(1, 6)], (2, 5)).0, Taken::Incoherent(Lsn::new(6)));
    }
}
