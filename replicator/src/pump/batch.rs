//! Whether a batch fits behind what the follower was handed. Its records are not read: where they stand is
//! said beside them, and the follower checks that it is true.

use proto::node::{Batch, EpochRun};
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
    /// An epoch that goes back or is above the home's, another number of records than of epochs, or
    /// another record where one was handed.
    Incoherent(Lsn),
    /// It directly follows; what was handed before is cut off it.
    Records { last: PartitionPosition, bytes: usize },
}

/// Cuts off what was handed before, and tells whether the rest directly follows `sent`.
pub(super) fn fit(batch: &mut Batch, sent: PartitionPosition, epoch: Epoch) -> Taken {
    let count = batch.records.len() as u64;
    if count == 0 {
        return Taken::Nothing;
    }
    let first = batch.first_lsn;
    let told: u64 = batch.epochs.iter().map(|run| u64::from(run.records)).sum();
    let ascend = batch.epochs.is_sorted_by(|a, b| a.epoch < b.epoch);
    let ours = batch.epochs.last().is_some_and(|run| run.epoch <= epoch.get());
    let (Some(last_lsn), 1.., true, true) = (first.checked_add(count - 1), first, ascend, ours) else {
        return Taken::Incoherent(Lsn::new(first));
    };
    if told != count {
        return Taken::Incoherent(Lsn::new(first));
    }
    let sent_lsn = sent.lsn.get();
    if first > sent_lsn.saturating_add(1) {
        return Taken::Hole;
    }
    // How many of its records lie at or below `sent`.
    let known = (sent_lsn.saturating_add(1) - first).min(count);
    let overlap = epoch_at(&batch.epochs, sent_lsn.wrapping_sub(first));
    if known > 0 && last_lsn >= sent_lsn && overlap != Some(sent.epoch.get()) {
        return Taken::Incoherent(sent.lsn);
    }
    cut_front(batch, known);
    let (Some(begins), Some(ends)) = (batch.epochs.first(), batch.epochs.last()) else {
        return Taken::Behind;
    };
    if begins.epoch < sent.epoch.get() {
        return Taken::Incoherent(Lsn::new(batch.first_lsn));
    }
    let last = PartitionPosition::new(Epoch::new(ends.epoch), Lsn::new(last_lsn));
    Taken::Records { last, bytes: batch.records.iter().map(bytes::Bytes::len).sum() }
}

/// The epoch of the record at an index.
fn epoch_at(runs: &[EpochRun], index: u64) -> Option<u64> {
    let mut ends = 0;
    let run = runs.iter().find(|run| {
        ends += u64::from(run.records);
        index < ends
    });
    run.map(|run| run.epoch)
}

/// Drops so many records, and what is said of them.
fn cut_front(batch: &mut Batch, records: u64) {
    batch.records.drain(..usize::try_from(records).unwrap_or(usize::MAX));
    batch.first_lsn += records;
    let mut left = records;
    batch.epochs.retain_mut(|run| {
        let cut = left.min(u64::from(run.records));
        left -= cut;
        run.records -= u32::try_from(cut).unwrap_or(u32::MAX);
        run.records > 0
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first_lsn: u64, epochs: &[u64]) -> Batch {
        Batch {
            records: vec![bytes::Bytes::from_static(b"record"); epochs.len()],
            first_lsn,
            epochs: proto::epoch_runs(epochs.iter().copied().map(Epoch::new)),
            ..Batch::default()
        }
    }

    fn fits(first_lsn: u64, epochs: &[u64], sent: (u64, u64)) -> (Taken, Batch) {
        let mut batch = batch(first_lsn, epochs);
        let sent = PartitionPosition::new(Epoch::new(sent.0), Lsn::new(sent.1));
        let taken = fit(&mut batch, sent, Epoch::new(5));
        (taken, batch)
    }

    #[test]
    fn what_was_handed_before_is_cut_off() {
        let (taken, left) = fits(4, &[2, 2, 3], (2, 5));
        assert!(matches!(taken, Taken::Records { last, bytes: 6 } if last.lsn == Lsn::new(6)));
        assert_eq!((left.records.len(), left.first_lsn), (1, 6));
        assert_eq!(left.epochs, [EpochRun { epoch: 3, records: 1 }]);
        assert_eq!(fits(4, &[2, 2], (2, 5)).0, Taken::Behind);
        assert_eq!(fits(2, &[2, 2], (2, 5)).0, Taken::Behind);
        assert_eq!(fits(0, &[], (2, 5)).0, Taken::Nothing);
    }

    #[test]
    fn a_batch_behind_a_hole_is_not_taken() {
        assert_eq!(fits(7, &[2], (2, 5)).0, Taken::Hole);
    }

    #[test]
    fn a_batch_that_contradicts_itself_or_the_follower_is_not_taken() {
        assert_eq!(fits(6, &[3, 2], (2, 5)).0, Taken::Incoherent(Lsn::new(6)));
        assert_eq!(fits(6, &[6], (2, 5)).0, Taken::Incoherent(Lsn::new(6)));
        assert_eq!(fits(5, &[1, 3], (2, 5)).0, Taken::Incoherent(Lsn::new(5)));
        assert_eq!(fits(6, &[1], (2, 5)).0, Taken::Incoherent(Lsn::new(6)));
        assert_eq!(fits(0, &[2], (2, 5)).0, Taken::Incoherent(Lsn::new(0)));
        assert_eq!(fits(u64::MAX, &[2, 2], (2, 5)).0, Taken::Incoherent(Lsn::new(u64::MAX)));
        let mut short = batch(6, &[2]);
        short.records.push(bytes::Bytes::new());
        let sent = PartitionPosition::new(Epoch::new(2), Lsn::new(5));
        assert_eq!(fit(&mut short, sent, Epoch::new(5)), Taken::Incoherent(Lsn::new(6)));
    }
}
