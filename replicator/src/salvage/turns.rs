//! Which archive's turn it is in one round.
//!
//! Archives of one partition are taken in the order of what they hold, each only once all before it are settled: a
//! deletion may come in an earlier archive than its message, but never below it. Partitions do not wait for each
//! other.

use proto::node::Archive;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(super) struct Turns(VecDeque<Archive>);

impl Turns {
    pub(super) fn new(mut archives: Vec<Archive>) -> Self {
        archives
            .sort_by_key(|archive| archive.first.map(|first| (archive.partition, first.epoch, first.lsn)));
        Self(archives.into())
    }

    pub(super) fn next(&mut self) -> Option<Archive> {
        self.0.pop_front()
    }

    /// An archive of the partition was not settled: its others wait for the next round.
    pub(super) fn hold(&mut self, partition: u32) {
        self.0.retain(|archive| archive.partition != partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::log::PartitionPosition;

    #[test]
    fn an_archive_that_does_not_get_on_holds_up_its_own_partition_only() {
        let archive = |id, partition, epoch, lsn| Archive {
            id,
            partition,
            first: Some(PartitionPosition { epoch, lsn }),
            ..Archive::default()
        };
        let archives = [archive(1, 8, 3, 9), archive(2, 7, 2, 50), archive(3, 7, 3, 1), archive(4, 7, 2, 10)];
        let mut turns = Turns::new(archives.to_vec());
        assert_eq!(turns.next().map(|archive| archive.id), Some(4));
        assert_eq!(turns.next().map(|archive| archive.id), Some(2));
        turns.hold(7);
        assert_eq!(turns.next().map(|archive| archive.id), Some(1), "3 waits for the rest of 2");
        assert_eq!(turns.next(), None);
    }
}
