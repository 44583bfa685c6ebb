//! The one answer to every question about a position.
//!
//! A position continues if and only if the replica holds that offset with exactly that (generation,
//! epoch). Otherwise the asker has seen what a failover undid, or this replica does not know enough.
//! The search for the shared prefix is that of Kafka's KIP-101 and KIP-320: the end of the highest era
//! at or below the asker's. One answer is exact unless the asker's history has eras that this log never
//! had; then the asker compares its own entry at `common` and asks again from there, which terminates
//! because the offset falls each time.

use crate::{EpochBegin, fold::LogState};
use types::{Epoch, Generation, Lsn, PartitionPosition, Position};

/// What a position is to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located<P> {
    /// It stands: what follows it can be sent.
    Continue,
    /// It is not in the log. Everything up to `common` may be shared, nothing behind it is.
    Diverged {
        /// The last position that can be shared; the zero position if none is.
        common: P,
    },
    /// It is above what this replica knows. Ask the home, or again later; never a divergence.
    Ahead,
}

/// Locates a position of a log.
///
/// `known` is the highest era of which the replica knows the whole past: at a home its own (generation,
/// epoch), at a follower that of the last record it holds in the partition.
pub fn locate(state: &LogState, known: (Generation, Epoch), position: Position) -> Located<Position> {
    if position == Position::START {
        return Located::Continue;
    }
    if position.era() > known {
        return Located::Ahead;
    }
    if state.position_at(position.offset) == Some(position) {
        return Located::Continue;
    }
    if position.era() == known && position.offset > state.head.offset {
        return Located::Ahead;
    }
    let eras_at_or_below = state.eras.partition_point(|era| (era.generation, era.epoch) <= position.era());
    let end = match state.eras.get(eras_at_or_below) {
        Some(next_era) => next_era.first_offset.prev(),
        None => state.head.offset,
    };
    let common = end.min(position.offset);
    // A made-up offset inside an era that the log has is shared up to the era's begin only.
    let common = match state.position_at(common) {
        Some(at) if at.era() > position.era() || (common == position.offset && at != position) => {
            common.prev()
        }
        _ => common,
    };
    Located::Diverged { common: state.position_at(common).unwrap_or(Position::START) }
}

/// Locates a record of a partition: the same question between replicas.
///
/// `end` is the replica's last record, `epochs` where its epochs begin, `known` as in [`locate`].
pub fn locate_record(
    end: PartitionPosition,
    epochs: &[EpochBegin],
    known: Epoch,
    position: PartitionPosition,
) -> Located<PartitionPosition> {
    let at = |lsn: Lsn| -> Option<PartitionPosition> {
        if lsn.is_zero() || lsn > end.lsn {
            return None;
        }
        let after = epochs.partition_point(|begin| begin.first_lsn <= lsn);
        Some(PartitionPosition::new(epochs.get(after.checked_sub(1)?)?.epoch, lsn))
    };
    if position == PartitionPosition::ZERO || at(position.lsn) == Some(position) {
        return Located::Continue;
    }
    if position.epoch > known || (position.epoch == known && position.lsn > end.lsn) {
        return Located::Ahead;
    }
    let epochs_at_or_below = epochs.partition_point(|begin| begin.epoch <= position.epoch);
    let last = epochs.get(epochs_at_or_below).map_or(end.lsn, |next| next.first_lsn.prev());
    let common = last.min(position.lsn);
    let common = if common == position.lsn { common.prev() } else { common };
    Located::Diverged { common: at(common).unwrap_or(PartitionPosition::ZERO) }
}
