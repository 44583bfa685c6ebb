//! The fold: what a log's records add up to.
//!
//! Home and follower fold the same records with this one function, so a promoted follower is ready at
//! once and all replicas can be compared by what they derived.

use crate::devices::Devices;
use std::{collections::BTreeMap, sync::Arc};
use types::{
    AckPolicy, Body, CursorKind, DeviceId, EntryBody, Epoch, Generation, LogId, Lsn, MemberRole, Offset,
    PartitionPosition, Position, Record, RegionId, StateUpdate, UserId,
};

/// Where an era, a (generation, epoch), begins in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EraBegin {
    /// The pin generation.
    pub generation: Generation,
    /// The partition's epoch.
    pub epoch: Epoch,
    /// The offset of its first entry.
    pub first_offset: Offset,
}

/// What a log's records add up to.
///
/// Its large parts are shared by its clones until one of them changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogState {
    /// The eras that the log has entries of, oldest first.
    pub eras: Vec<EraBegin>,
    /// The last entry; zero where there is none.
    pub head: Position,
    /// The last record, entry or not.
    pub last: PartitionPosition,
    /// The `accepted_at` of the last record, in ms since 1970.
    pub accepted_at_ms: u64,
    /// Who may read and write.
    pub members: Arc<BTreeMap<UserId, MemberRole>>,
    /// When content is acked.
    pub ack_policy: AckPolicy,
    /// The regions that may hold the log; empty means all.
    pub allowed_regions: Vec<RegionId>,
    /// Up to where each device has received and read.
    pub cursors: Arc<BTreeMap<(UserId, DeviceId, CursorKind), Offset>>,
    /// The newest message ids of the devices that write.
    pub devices: Arc<Devices>,
}

/// A record does not follow the state that it is folded into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Its offset is not the next one.
    #[error("log {log} goes on at offset {expected}, not {found}")]
    OffsetGap {
        /// The log.
        log: LogId,
        /// The next offset.
        expected: Offset,
        /// The record's.
        found: Offset,
    },
    /// Its LSN is not above the log's last one, or its era is below the head's.
    #[error("record {found} of log {log} does not come after {last}")]
    WentBack {
        /// The log.
        log: LogId,
        /// The log's last record.
        last: PartitionPosition,
        /// The record.
        found: PartitionPosition,
    },
    /// It deletes an entry that comes at or after it.
    #[error("log {log} deletes offset {target} at offset {at}")]
    DeletesAhead {
        /// The log.
        log: LogId,
        /// The offset to delete.
        target: Offset,
        /// The deletion's own.
        at: Offset,
    },
}

impl LogState {
    /// Folds the log's next record in. On an error the state is unchanged.
    ///
    /// # Errors
    /// [`FoldError`] when the record does not follow.
    pub fn apply(&mut self, record: &Record) -> Result<(), FoldError> {
        self.check(record)?;
        match &record.body {
            Body::Entry(entry) => {
                let position = Position::new(record.generation, record.epoch, entry.offset);
                if self.eras.last().is_none_or(|era| (era.generation, era.epoch) != position.era()) {
                    self.eras.push(EraBegin {
                        generation: record.generation,
                        epoch: record.epoch,
                        first_offset: entry.offset,
                    });
                }
                self.head = position;
                Arc::make_mut(&mut self.devices).note(entry);
                if let EntryBody::Created { members, ack_policy, allowed_regions } = &entry.body {
                    self.members = Arc::new(members.iter().cloned().collect());
                    self.ack_policy = *ack_policy;
                    self.allowed_regions.clone_from(allowed_regions);
                }
            }
            Body::Update(StateUpdate::Cursor { user, device, kind, offset }) => {
                let key = (user.clone(), *device, *kind);
                if self.cursors.get(&key).is_none_or(|before| before < offset) {
                    Arc::make_mut(&mut self.cursors).insert(key, *offset);
                }
            }
            Body::Update(StateUpdate::Seal { .. }) => {}
        }
        self.last = record.partition_position();
        self.accepted_at_ms = self.accepted_at_ms.max(record.accepted_at_ms);
        Ok(())
    }

    /// Whether the record may follow.
    ///
    /// # Errors
    /// [`FoldError`] when it may not.
    pub fn check(&self, record: &Record) -> Result<(), FoldError> {
        let found = record.partition_position();
        let era = (record.generation, record.epoch);
        if found.lsn <= self.last.lsn || found.epoch < self.last.epoch || era < self.head.era() {
            return Err(FoldError::WentBack { log: record.log, last: self.last, found });
        }
        let Some(entry) = record.entry() else { return Ok(()) };
        let expected = self.head.offset.plus(1);
        if entry.offset != expected {
            return Err(FoldError::OffsetGap { log: record.log, expected, found: entry.offset });
        }
        if let EntryBody::Deleted { offsets } = &entry.body
            && let Some(target) = offsets.iter().copied().find(|target| *target >= entry.offset)
        {
            return Err(FoldError::DeletesAhead { log: record.log, target, at: entry.offset });
        }
        Ok(())
    }

    /// The position of the entry at an offset; `None` past the head and at 0.
    pub fn position_at(&self, offset: Offset) -> Option<Position> {
        if offset.is_zero() || offset > self.head.offset {
            return None;
        }
        let after = self.eras.partition_point(|era| era.first_offset <= offset);
        let era = self.eras.get(after.checked_sub(1)?)?;
        Some(Position::new(era.generation, era.epoch, offset))
    }

    /// The LSN of the last record; zero where there is none.
    pub const fn last_lsn(&self) -> Lsn {
        self.last.lsn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use types::{Entry, MessageId};

    fn entry(lsn: u64, epoch: u64, offset: u64) -> Record {
        Record {
            lsn: Lsn::new(lsn),
            epoch: Epoch::new(epoch),
            generation: Generation::FIRST,
            log: LogId::group([1; 16]),
            accepted_at_ms: lsn,
            body: Body::Entry(Entry {
                offset: Offset::new(offset),
                sender: UserId::new("alice").expect("a valid name"),
                device: DeviceId::new(1),
                message_id: MessageId::from_bytes([lsn as u8; 16]),
                expires_at_ms: None,
                salvaged: false,
                body: EntryBody::Message { ciphertext: Bytes::from_static(b"x") },
            }),
        }
    }

    #[test]
    fn each_offset_knows_the_era_it_was_written_in() {
        let mut state = LogState::default();
        for record in [entry(1, 1, 1), entry(4, 1, 2), entry(5, 3, 3)] {
            state.apply(&record).expect("it follows");
        }
        let epoch_at = |offset| state.position_at(Offset::new(offset)).map(|position| position.epoch.get());
        assert_eq!(
            [epoch_at(0), epoch_at(1), epoch_at(2), epoch_at(3), epoch_at(4)],
            [None, Some(1), Some(1), Some(3), None]
        );
    }

    #[test]
    fn a_gap_changes_nothing() {
        let mut state = LogState::default();
        state.apply(&entry(1, 1, 1)).expect("it follows");
        let before = state.clone();
        assert!(matches!(state.apply(&entry(2, 1, 3)), Err(FoldError::OffsetGap { .. })));
        assert!(matches!(state.apply(&entry(1, 1, 2)), Err(FoldError::WentBack { .. })));
        assert_eq!(state, before);
    }

    #[test]
    fn a_cursor_only_moves_forward() {
        let mut state = LogState::default();
        let cursor = |lsn, offset| Record {
            body: Body::Update(StateUpdate::Cursor {
                user: UserId::new("bob").expect("a valid name"),
                device: DeviceId::new(1),
                kind: CursorKind::Read,
                offset: Offset::new(offset),
            }),
            ..entry(lsn, 1, 1)
        };
        for record in [cursor(1, 4), cursor(2, 9), cursor(3, 2)] {
            state.apply(&record).expect("it follows");
        }
        assert_eq!(state.cursors.values().copied().collect::<Vec<_>>(), [Offset::new(9)]);
    }

    #[test]
    fn a_deletion_names_only_what_came_before() {
        let mut state = LogState::default();
        state.apply(&entry(1, 1, 1)).expect("it follows");
        let mut deletion = entry(2, 1, 2);
        if let Body::Entry(entry) = &mut deletion.body {
            entry.body = EntryBody::Deleted { offsets: vec![Offset::new(1), Offset::new(2)] };
        }
        let (log, target, at) = (deletion.log, Offset::new(2), Offset::new(2));
        assert_eq!(state.apply(&deletion), Err(FoldError::DeletesAhead { log, target, at }));
    }
}
