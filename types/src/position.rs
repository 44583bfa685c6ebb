//! Counters and the positions made of them.
//!
//! A bare offset or LSN never travels alone between processes: after a failover the same number may
//! name another record, so a position always carries its epoch (Raft's (term, index); Kafka's
//! KIP-101 and KIP-320 for why a number alone loses data).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A counter would have passed its largest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} has no successor")]
pub struct Overflow {
    /// The kind of counter.
    pub what: &'static str,
    /// Its value.
    pub value: u64,
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $what:literal, $repr:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($repr);

        impl $name {
            /// The value before the first one.
            pub const ZERO: Self = Self(0);
            /// The first value.
            pub const FIRST: Self = Self(1);

            /// Wraps a raw number.
            pub const fn new(value: $repr) -> Self {
                Self(value)
            }

            /// The raw number.
            pub const fn get(self) -> $repr {
                self.0
            }

            /// The next value.
            ///
            /// # Errors
            /// [`Overflow`] at the largest value.
            pub fn next(self) -> Result<Self, Overflow> {
                self.0.checked_add(1).map(Self).ok_or(Overflow { what: $what, value: self.0 as u64 })
            }

            /// The value before this one, `ZERO` at `ZERO`.
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// This value moved on by `count`, held at the largest value.
            pub const fn plus(self, count: $repr) -> Self {
                Self(self.0.saturating_add(count))
            }

            /// How far this value is past `other`; 0 when it is not.
            pub const fn since(self, other: Self) -> $repr {
                self.0.saturating_sub(other.0)
            }

            /// Whether this is the value before the first one.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// The fencing number of a partition, raised by every change of home.
    Epoch, "epoch", u64
}
counter! {
    /// How often a log has been re-homed; the first pin has generation 1.
    Generation, "generation", u32
}
counter! {
    /// A client-visible place in one log, dense from 1; 0 is "before the first entry".
    Offset, "offset", u64
}
counter! {
    /// A place in one partition's log, dense from 1; 0 is "before the first record".
    Lsn, "lsn", u64
}

/// A record of a partition, named so that two different records never share a name: (epoch, LSN).
///
/// Ordered by epoch, then LSN, which is how candidates for a promotion are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionPosition {
    /// The epoch that the record was written in (not the epoch of whoever asks).
    pub epoch: Epoch,
    /// Its LSN.
    pub lsn: Lsn,
}

impl PartitionPosition {
    /// Before the first record.
    pub const ZERO: Self = Self { epoch: Epoch::ZERO, lsn: Lsn::ZERO };

    /// Pairs an epoch with an LSN.
    pub const fn new(epoch: Epoch, lsn: Lsn) -> Self {
        Self { epoch, lsn }
    }
}

impl fmt::Display for PartitionPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.lsn, self.epoch)
    }
}

/// An entry of a log: the generation and epoch it was written in, and its offset.
///
/// Ordered by (generation, epoch), then offset. Clients see it only as a [`crate::PositionToken`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The pin generation of the log.
    pub generation: Generation,
    /// The partition's epoch when the entry was written.
    pub epoch: Epoch,
    /// The entry's offset.
    pub offset: Offset,
}

impl Position {
    /// Before the first entry of any log.
    pub const START: Self = Self { generation: Generation::ZERO, epoch: Epoch::ZERO, offset: Offset::ZERO };

    /// Puts a position together.
    pub const fn new(generation: Generation, epoch: Epoch, offset: Offset) -> Self {
        Self { generation, epoch, offset }
    }

    /// The part that fences: (generation, epoch).
    pub const fn era(&self) -> (Generation, Epoch) {
        (self.generation, self.epoch)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}.{}", self.offset, self.generation, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_beats_a_longer_log() {
        let long = PartitionPosition::new(Epoch::new(2), Lsn::new(900));
        let late = PartitionPosition::new(Epoch::new(3), Lsn::new(4));
        assert!(late > long);
    }

    #[test]
    fn the_largest_counter_has_no_successor() {
        let error = Offset::new(u64::MAX).next().expect_err("there is no next offset");
        assert_eq!(error.to_string(), format!("offset {} has no successor", u64::MAX));
    }
}
