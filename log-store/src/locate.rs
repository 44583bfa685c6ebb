//! The one answer to every question about a position.
//!
//! A position continues if and only if the replica holds that offset with exactly that (generation,
//! epoch). Otherwise the asker has seen what a failover undid, or this replica does not know enough.
//! The search for the shared prefix is that of Kafka's KIP-101 and KIP-320: the end of the highest era
//! at or below the asker's.
//!
//! ```text
//!   asker    1 1 1 2 2 2 2          asks for 2@7: 2@7 is not here, and what is of era 2 or below ends
//!   replica  1 1 1 1 1 3 3 3        at 5, so common = 1@5; the asker has 2@5 there, and asks for that:
//!                                   common = 1@4; it asks for 2@4: common = 1@3, which it has too
//! ```
//!
//! One answer is exact unless the asker's history has eras that this log never had; then the asker
//! compares its own entry at `common` and asks again from there, which terminates because the offset
//! falls each time.

use crate::{EpochBegin, fold::LogState};
use host::planted::{Bug, is_planted};
use types::{Epoch, Generation, Lsn, Offset, PartitionPosition, Position};

/// What a position is to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located<P> {
    /// It stands: what follows it can be sent.
    Continue,
    /// It is not in the log. Everything up to `common` may be shared, nothing behind it is.
    Diverged {
        /// The last position that can be shared, below the one asked for; the zero position if none is.
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
    if is_planted(Bug::ResumeUnchecked) && position.offset <= state.head.offset {
        return Located::Continue;
    }
    let history = History {
        begins: &state.eras,
        begin: |era| ((era.generation, era.epoch), era.first_offset.get()),
        end: state.head.offset.get(),
    };
    match history.locate(known, position.era(), position.offset.get()) {
        Located::Continue => Located::Continue,
        Located::Ahead => Located::Ahead,
        Located::Diverged { common } => Located::Diverged {
            common: common.map_or(Position::START, |((generation, epoch), offset)| {
                Position::new(generation, epoch, Offset::new(offset))
            }),
        },
    }
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
    if position == PartitionPosition::ZERO {
        return Located::Continue;
    }
    let history =
        History { begins: epochs, begin: |begin| (begin.epoch, begin.first_lsn.get()), end: end.lsn.get() };
    match history.locate(known, position.epoch, position.lsn.get()) {
        Located::Continue => Located::Continue,
        Located::Ahead => Located::Ahead,
        Located::Diverged { common } => Located::Diverged {
            common: common
                .map_or(PartitionPosition::ZERO, |(epoch, lsn)| PartitionPosition::new(epoch, Lsn::new(lsn))),
        },
    }
}

/// Numbered places from 1 to `end`, each of the era that began last at or below it.
struct History<'a, B, E> {
    /// Ascending in era and first place.
    begins: &'a [B],
    /// The era that begins, and its first place.
    begin: fn(&B) -> (E, u64),
    end: u64,
}

impl<B, E: Ord + Copy> History<'_, B, E> {
    fn era_at(&self, place: u64) -> Option<E> {
        if place > self.end {
            return None;
        }
        let begun = self.begins.partition_point(|begin| (self.begin)(begin).1 <= place);
        self.begins.get(begun.checked_sub(1)?).map(|begin| (self.begin)(begin).0)
    }

    fn locate(&self, known: E, era: E, place: u64) -> Located<Option<(E, u64)>> {
        if self.era_at(place) == Some(era) {
            return Located::Continue;
        }
        if era > known || (era == known && place > self.end) {
            return Located::Ahead;
        }
        let at_or_below = self.begins.partition_point(|begin| (self.begin)(begin).0 <= era);
        let end = match self.begins.get(at_or_below) {
            Some(above) => (self.begin)(above).1.saturating_sub(1),
            None => self.end,
        };
        // The place itself is another era's here, so it is not shared.
        let common = end.min(place.saturating_sub(1));
        Located::Diverged { common: self.era_at(common).map(|era| (era, common)) }
    }
}
