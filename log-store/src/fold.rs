//! The fold: what a log's records add up to.
//!
//! Home and follower fold the same records with this one function, so a promoted follower is ready at
//! once and all replicas can be compared by what they derived.

use crate::{account, cursors::Cursors, devices::Devices, effects::Pending};
use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};
use types::{
    AckPolicy, Body, EffectAct, EntryBody, Generation, Import, LogId, LogKind, Lsn, Offset,
    PartitionPosition, Position, Record, RegionId, RehomeId, StateUpdate, UserId,
    account::Account,
    chat::{Chat, Member},
};

pub use types::EraBegin;

/// Where a log stands in a partition: what the next record has to follow.
///
/// A log is written in one generation of its pin after the other, each in one partition. In a partition it
/// ends in a generation by a seal, and goes on in a higher one: by an import if it was elsewhere meanwhile,
/// else (the re-homing was given up) just so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The last entry, wherever it is held; zero where there is none.
    pub head: Position,
    /// The highest generation that was sealed here; zero where none was.
    pub sealed: Generation,
    /// The generation of the last import; zero where there was none.
    pub imported: Generation,
}

/// Why a record does not follow where its log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// The next entry has another offset.
    Offset {
        /// Which.
        expected: Offset,
        /// The record's, or for an import its head's.
        found: Offset,
    },
    /// Its generation is over, or has not begun here.
    Generation {
        /// The lowest that fits.
        lowest: Generation,
    },
}

impl Standing {
    /// The highest generation that the partition knows the log in; zero where it has no record.
    pub fn generation(&self) -> Generation {
        self.head.generation.max(self.sealed).max(self.imported)
    }

    /// The highest generation in which the log is certainly not written here any more; zero: none is.
    pub fn closed(&self) -> Generation {
        self.sealed.max(Generation::new(self.imported.get().saturating_sub(1)))
    }

    /// Whether the partition's own records tell that the log is written here, in the head's generation. They
    /// do not directly behind a seal or an import: then the pin has to be read.
    pub fn is_settled(&self) -> bool {
        !self.head.offset.is_zero() && self.head.generation > self.closed()
    }

    /// Whether the log may be written here in a generation that the pin names with this partition: nothing of
    /// the generations below can be missing here.
    pub fn may_begin(&self, generation: Generation) -> bool {
        let goes_on = self.sealed.plus(1) == generation && !self.sealed.is_zero();
        generation > self.sealed && (generation == self.imported || goes_on)
    }

    /// Takes the log's next record in. On an error nothing changes.
    ///
    /// # Errors
    /// [`Unfit`] when the record does not follow.
    pub fn follow(&mut self, record: &Record) -> Result<(), Unfit> {
        let generation = record.generation;
        match &record.body {
            Body::Entry(entry) => {
                let expected = self.head.offset.plus(1);
                if entry.offset != expected {
                    return Err(Unfit::Offset { expected, found: entry.offset });
                }
                self.reaches(self.open_from(), generation)?;
                self.head = Position::new(generation, record.epoch, entry.offset);
            }
            Body::Update(StateUpdate::LogSealed { .. }) => {
                self.reaches(self.generation(), generation)?;
                self.sealed = generation;
            }
            Body::Update(StateUpdate::LogImported(import)) => {
                self.reaches(self.generation().max(import.head.generation).plus(1), generation)?;
                if import.head.offset < self.head.offset {
                    let (expected, found) = (self.head.offset, import.head.offset);
                    return Err(Unfit::Offset { expected, found });
                }
                (self.head, self.imported) = (import.head, generation);
            }
            // What was caused elsewhere in a stretch finds it sealed, and changes nothing of where the log stands.
            Body::Update(StateUpdate::Effect(effect)) if !effect.target.stretch.is_zero() => {
                self.reaches(self.generation().max(effect.target.stretch), generation)?;
            }
            Body::Update(
                StateUpdate::Cursors(_)
                | StateUpdate::Seal { .. }
                | StateUpdate::Effect(_)
                | StateUpdate::EffectDone { .. },
            ) => {
                self.reaches(self.open_from(), generation)?;
            }
        }
        Ok(())
    }

    /// The lowest generation that may be written.
    fn open_from(&self) -> Generation {
        self.head.generation.max(self.closed().plus(1))
    }

    fn reaches(&self, lowest: Generation, generation: Generation) -> Result<(), Unfit> {
        if generation < lowest { Err(Unfit::Generation { lowest }) } else { Ok(()) }
    }
}

/// What a log's records add up to.
///
/// Its large parts are shared by its clones until one of them changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogState {
    /// The eras that the log has entries of, here or in the partitions before, oldest first.
    pub eras: Vec<EraBegin>,
    /// The last entry; zero where there is none.
    pub head: Position,
    /// The highest generation that was sealed here; zero where none was.
    pub sealed: Generation,
    /// The generation of the last import; zero where there was none.
    pub imported: Generation,
    /// Up to the head, the offsets that other partitions hold: ascending, apart from each other, none empty.
    pub elsewhere: Vec<(Offset, Offset)>,
    /// The last record, entry or not.
    pub last: PartitionPosition,
    /// The `accepted_at` of the first entry, in ms since 1970.
    pub created_at_ms: u64,
    /// The `accepted_at` of the last entry, in ms since 1970.
    pub head_at_ms: u64,
    /// The `accepted_at` of the last record, in ms since 1970.
    pub accepted_at_ms: u64,
    /// Who may read and write.
    pub members: Arc<BTreeMap<UserId, Member>>,
    /// When content is acked.
    pub ack_policy: AckPolicy,
    /// The regions that may hold the log; empty means all.
    pub allowed_regions: Vec<RegionId>,
    /// Up to where each device has received and read.
    pub cursors: Arc<Cursors>,
    /// The newest message ids of the devices that write.
    pub devices: Arc<Devices>,
    /// What its entries have caused elsewhere and is not known to be `replicated` there, in the order of the causes.
    pub effects: Arc<Vec<Pending>>,
    /// The last cause of what other logs, or its own entries elsewhere, have done to it: by the log of the cause,
    /// and the stretch that it was for.
    pub causes: Arc<BTreeMap<(LogId, Generation), Position>>,
    /// What an account log says of its user; `None` in a chat.
    pub account: Option<Arc<Account>>,
    /// What the changes of a chat add up to; `None`: it is as it was created.
    pub chat: Option<Arc<Chat>>,
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
    /// The log is not written here in its generation.
    #[error("log {log} is written here from generation {lowest} on, not in {found}")]
    Closed {
        /// The log.
        log: LogId,
        /// The lowest generation that fits.
        lowest: Generation,
        /// The record's.
        found: Generation,
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
                self.head_at_ms = record.accepted_at_ms;
                Arc::make_mut(&mut self.devices).note(entry);
                if entry.offset == Offset::FIRST {
                    self.created_at_ms = record.accepted_at_ms;
                }
                if let EntryBody::Account(change) = &entry.body {
                    let account = Arc::make_mut(self.account.get_or_insert_default());
                    account::fold(account, change, record.accepted_at_ms);
                    self.cause_by_account(record.lsn, position, &entry.sender, change);
                }
                if let EntryBody::Created { members, ack_policy, allowed_regions } = &entry.body {
                    let member =
                        |(user, role): &(UserId, _)| (user.clone(), Member::since(*role, entry.offset));
                    self.members = Arc::new(members.iter().map(member).collect());
                    self.ack_policy = *ack_policy;
                    self.allowed_regions.clone_from(allowed_regions);
                    if record.log.kind() == LogKind::Direct {
                        self.ask_for_answer(&entry.sender);
                    }
                    let joined = members.iter().map(|(user, _)| (user, EffectAct::Joined));
                    self.cause_memberships(record.lsn, position, joined);
                }
                if let EntryBody::Message { .. } | EntryBody::Erased { .. } = &entry.body {
                    self.note_answer(&entry.sender);
                }
                if let EntryBody::Chat(change) = &entry.body {
                    let before = Arc::clone(&self.members);
                    self.change_chat(entry, change, record.accepted_at_ms);
                    self.tell_who_came_and_went(record.lsn, position, &before);
                }
                if let EntryBody::Deleted { offsets } = &entry.body {
                    self.cause_erasures(record.log, record.lsn, position, offsets);
                }
            }
            Body::Update(StateUpdate::Cursors(cursors)) => self.take_cursors(cursors),
            Body::Update(StateUpdate::Seal { .. }) => {}
            Body::Update(StateUpdate::LogSealed { .. }) => self.sealed = record.generation,
            Body::Update(StateUpdate::LogImported(import)) => {
                self.import(record.generation, import);
                self.import_effects(record.lsn, import);
            }
            Body::Update(StateUpdate::Effect(effect)) => self.take_effect(record.lsn, effect),
            Body::Update(StateUpdate::EffectDone { target, cause }) => {
                self.effect_done(record.lsn, target, *cause);
            }
        }
        self.last = record.partition_position();
        self.accepted_at_ms = self.accepted_at_ms.max(record.accepted_at_ms);
        Ok(())
    }

    /// Takes the place of the state of a lower generation; what is held here stays known.
    fn import(&mut self, generation: Generation, import: &Import) {
        let (first, last) = (self.head.offset.plus(1), import.head.offset);
        match self.elsewhere.last_mut() {
            Some(before) if before.1.plus(1) == first => before.1 = before.1.max(last),
            _ if first <= last => self.elsewhere.push((first, last)),
            _ => {}
        }
        self.imported = generation;
        self.head = import.head;
        self.eras.clone_from(&import.eras);
        self.created_at_ms = import.created_at_ms;
        self.head_at_ms = import.head_at_ms;
        self.accepted_at_ms = import.accepted_at_ms;
        self.members = Arc::new(import.members.iter().cloned().collect());
        self.ack_policy = import.ack_policy;
        self.allowed_regions.clone_from(&import.allowed_regions);
        self.cursors = Arc::new(import.cursors.iter().cloned().collect());
        self.account.clone_from(&import.account);
        self.chat.clone_from(&import.chat);
        self.devices = Arc::new(Devices::new(import.devices.clone(), import.devices_floor));
    }

    /// What the next partition is to go on with.
    pub fn export(&self, rehome: RehomeId) -> Import {
        let (effects, causes) = self.export_effects();
        Import {
            rehome,
            head: self.head,
            eras: self.eras.clone(),
            created_at_ms: self.created_at_ms,
            head_at_ms: self.head_at_ms,
            accepted_at_ms: self.accepted_at_ms,
            members: self.members.iter().map(|(user, member)| (user.clone(), *member)).collect(),
            ack_policy: self.ack_policy,
            allowed_regions: self.allowed_regions.clone(),
            cursors: self.export_cursors(),
            devices: self.devices.known.clone(),
            devices_floor: self.devices.floor,
            effects,
            causes,
            account: self.account.clone(),
            chat: self.chat.clone(),
        }
    }

    /// Whether the record may follow.
    ///
    /// # Errors
    /// [`FoldError`] when it may not.
    pub fn check(&self, record: &Record) -> Result<(), FoldError> {
        let (log, found) = (record.log, record.partition_position());
        let era = (record.generation, record.epoch);
        if found.lsn <= self.last.lsn || found.epoch < self.last.epoch || era < self.head.era() {
            return Err(FoldError::WentBack { log, last: self.last, found });
        }
        self.standing().follow(record).map_err(|unfit| match unfit {
            Unfit::Offset { expected, found } => FoldError::OffsetGap { log, expected, found },
            Unfit::Generation { lowest } => FoldError::Closed { log, lowest, found: record.generation },
        })?;
        let Some(entry) = record.entry() else { return Ok(()) };
        if let EntryBody::Deleted { offsets } = &entry.body
            && let Some(target) = offsets.iter().copied().find(|target| *target >= entry.offset)
        {
            return Err(FoldError::DeletesAhead { log, target, at: entry.offset });
        }
        Ok(())
    }

    /// Where the log stands here.
    pub const fn standing(&self) -> Standing {
        Standing { head: self.head, sealed: self.sealed, imported: self.imported }
    }

    /// Whether another partition holds the entry at an offset at or below the head.
    pub fn is_elsewhere(&self, offset: Offset) -> bool {
        let behind = self.elsewhere.partition_point(|(first, _)| *first <= offset);
        behind.checked_sub(1).is_some_and(|at| offset <= self.elsewhere[at].1)
    }

    /// The offsets around one that are held here without a hole; `None` where it is not held here.
    pub fn held_around(&self, offset: Offset) -> Option<RangeInclusive<u64>> {
        if offset.is_zero() || offset > self.head.offset || self.is_elsewhere(offset) {
            return None;
        }
        let above = self.elsewhere.partition_point(|(first, _)| *first <= offset);
        let low = above.checked_sub(1).map_or(Offset::FIRST, |at| self.elsewhere[at].1.plus(1));
        let high = self.elsewhere.get(above).map_or(self.head.offset, |(first, _)| first.prev());
        Some(low.get()..=high.get())
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
    use types::{DeviceId, Entry, Epoch, MessageId};

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
                about: None,
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
