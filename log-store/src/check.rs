//! Whether a batch may be appended: the rules that every engine shares, as pure code.
//!
//! An engine runs [`shape`] and [`one_each`] where the call comes in, and [`Checker::follows`] in the same step as it
//! writes, against an [`Ends`] that already shows the batches before this one. The first rule that is
//! broken, in the order of the code below, names the refusal, so that all engines refuse alike.

use crate::{
    Append, AppendError, StoreError,
    fold::{Standing, Unfit},
};
use host::{
    RandomState,
    planted::{Bug, is_planted},
};
use std::collections::{HashMap, HashSet, hash_map};
use types::{
    Body, DedupKey, Entry, EntryBody, Epoch, Generation, LogId, PartitionId, PartitionPosition, Record,
    chat::{ChatChange, MEMBER_CHANGES_MAX, NAME_MAX_BYTES},
    limits,
};

/// What the partition that a batch goes to holds, batches before it included.
pub trait Ends {
    /// The lowest epoch that is obeyed.
    fn fence(&self) -> Epoch;

    /// The last record; zero where there is none.
    fn last(&self) -> PartitionPosition;

    /// Where a log stands; the default where it has no record.
    ///
    /// # Errors
    /// What keeps the store from telling.
    fn standing(&mut self, log: &LogId) -> Result<Standing, StoreError>;

    /// Whether an entry stands under a message id.
    ///
    /// # Errors
    /// What keeps the store from telling.
    fn holds(&mut self, log: &LogId, key: &DedupKey) -> Result<bool, StoreError>;
}

/// Checks what can be told from the batch alone. `batch_bytes` is the size of its records, encoded.
///
/// # Errors
/// [`AppendError::Invalid`] names the rule.
pub fn shape(append: &Append, batch_bytes: usize) -> Result<(), AppendError> {
    let partition = append.partition;
    let records = append.records.len();
    if records == 0 {
        return Err(invalid(partition, "it is empty".into()));
    }
    if records > limits::BATCH_MAX_RECORDS {
        let most = limits::BATCH_MAX_RECORDS;
        return Err(invalid(partition, format!("it has {records} records, and {most} is the most")));
    }
    if batch_bytes > limits::BATCH_MAX_BYTES {
        let most = limits::BATCH_MAX_BYTES;
        return Err(invalid(partition, format!("it has {batch_bytes} bytes, and {most} is the most")));
    }
    let mut epoch_before = Epoch::FIRST;
    for record in &append.records {
        let (lsn, epoch) = (record.lsn, record.epoch);
        if epoch < epoch_before {
            return Err(invalid(partition, format!("lsn {lsn} is of epoch {epoch}, below {epoch_before}")));
        }
        if epoch > append.obeys {
            let obeys = append.obeys;
            return Err(invalid(partition, format!("lsn {lsn} is of epoch {epoch}, above {obeys}, obeyed")));
        }
        if record.generation < Generation::FIRST {
            return Err(invalid(partition, format!("lsn {lsn} is of generation 0")));
        }
        if let Body::Entry(entry) = &record.body
            && let Some(rule) = broken_rule(entry)
        {
            return Err(invalid(partition, format!("lsn {lsn}: {rule}")));
        }
        epoch_before = epoch;
    }
    Ok(())
}

/// Checks that a batch comes with as many encoded records as it has records.
///
/// # Errors
/// [`AppendError::Invalid`] names both numbers.
pub fn one_each(append: &Append, encoded: usize) -> Result<(), AppendError> {
    let records = append.records.len();
    if encoded == records {
        return Ok(());
    }
    Err(invalid(append.partition, format!("it has {records} records, and {encoded} are encoded")))
}

/// The bound that an entry breaks. What passes here can be decoded again.
fn broken_rule(entry: &Entry) -> Option<&'static str> {
    match &entry.body {
        EntryBody::Message { ciphertext } if ciphertext.len() > limits::BODY_MAX_BYTES => {
            Some("the body is over its limit")
        }
        EntryBody::Created { members, .. } if members.len() > limits::MEMBERS_MAX => {
            Some("it has too many members")
        }
        EntryBody::Created { allowed_regions, .. } if allowed_regions.len() > limits::REGIONS_MAX => {
            Some("it names too many regions")
        }
        EntryBody::Deleted { offsets } => {
            let ascending = offsets.is_sorted_by(|a, b| a < b);
            if offsets.is_empty() || offsets.len() > limits::DELETED_OFFSETS_MAX {
                Some("it deletes no offset, or too many")
            } else if !ascending || offsets[0].is_zero() {
                Some("the offsets it deletes do not ascend from 1")
            } else if offsets.last().is_some_and(|target| *target >= entry.offset) {
                Some("it deletes an offset at or above its own")
            } else {
                None
            }
        }
        EntryBody::Chat(change) => change_rule(change),
        _ => None,
    }
}

fn change_rule(change: &ChatChange) -> Option<&'static str> {
    match change {
        ChatChange::Members(changes) if changes.is_empty() || changes.len() > MEMBER_CHANGES_MAX => {
            Some("it changes no member, or too many")
        }
        ChatChange::Settings(change)
            if change.name.as_ref().is_some_and(|name| name.len() > NAME_MAX_BYTES) =>
        {
            Some("the name is over its limit")
        }
        _ => None,
    }
}

/// Checks batches against what a partition holds. Keeps its memory from batch to batch.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    logs: HashMap<LogId, Standing, RandomState>,
    keys: HashSet<(LogId, DedupKey), RandomState>,
}

impl Checker {
    /// Whether a batch of a valid [`shape`] follows what the partition holds and may be written.
    ///
    /// # Errors
    /// The refusal; or what `ends` could not tell, as [`AppendError::Store`].
    pub fn follows(&mut self, append: &Append, ends: &mut impl Ends) -> Result<(), AppendError> {
        let Append { partition, obeys, records } = append;
        let (fence, last) = (ends.fence(), ends.last());
        if *obeys < fence && !is_planted(Bug::SkipFenceCheck) {
            return Err(AppendError::Fenced { partition: *partition, obeys: *obeys, fence });
        }
        self.logs.clear();
        self.keys.clear();
        let mut expected = last.lsn;
        for record in records {
            expected = expected.next().map_err(|overflow| invalid(*partition, overflow.to_string()))?;
            if record.lsn != expected {
                return Err(AppendError::Gap { partition: *partition, expected, found: record.lsn });
            }
            if record.epoch < last.epoch {
                let why = format!("lsn {} is of epoch {}, below {}", record.lsn, record.epoch, last.epoch);
                return Err(invalid(*partition, why));
            }
            if let [alone] = records.as_slice() {
                follow(*partition, alone, &mut ends.standing(&alone.log)?)?;
                return match alone.entry() {
                    Some(entry) => is_new(alone, ends.holds(&alone.log, &entry.dedup_key())?),
                    None => Ok(()),
                };
            }
            self.one_of_many(*partition, record, ends)?;
        }
        Ok(())
    }

    fn one_of_many(
        &mut self,
        partition: PartitionId,
        record: &Record,
        ends: &mut impl Ends,
    ) -> Result<(), AppendError> {
        let standing = match self.logs.entry(record.log) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(vacant) => vacant.insert(ends.standing(&record.log)?),
        };
        follow(partition, record, standing)?;
        let Some(entry) = record.entry() else { return Ok(()) };
        let key = entry.dedup_key();
        is_new(record, ends.holds(&record.log, &key)?)?;
        is_new(record, !self.keys.insert((record.log, key)))
    }
}

/// Moves where a log stands behind a record that follows it.
fn follow(partition: PartitionId, record: &Record, standing: &mut Standing) -> Result<(), AppendError> {
    if record.entry().is_some() {
        standing.head.offset.next().map_err(|overflow| invalid(partition, overflow.to_string()))?;
    }
    standing.follow(record).map_err(|unfit| match unfit {
        Unfit::Offset { expected, found } => AppendError::OffsetGap { log: record.log, expected, found },
        Unfit::Generation { lowest } => {
            let (lsn, found) = (record.lsn, record.generation);
            invalid(partition, format!("lsn {lsn} is of generation {found}, below {lowest}"))
        }
    })
}

fn is_new(record: &Record, held: bool) -> Result<(), AppendError> {
    if held { Err(AppendError::Duplicate { log: record.log, lsn: record.lsn }) } else { Ok(()) }
}

fn invalid(partition: PartitionId, why: String) -> AppendError {
    AppendError::Invalid { partition, why: why.into() }
}
