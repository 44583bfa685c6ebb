//! The rows of the fold: keys that sort as they are read, and small values.
//!
//! | key | value |
//! |---|---|
//! | `P` | the version of the rows, up to where the segments are folded, and the last archive's id |
//! | `a` archive | the archive, and how far its salvage has come |
//! | `b` archive, first LSN | locations of its records, by LSN |
//! | `d` hash of (partition, log, sender, device, message id) | location of the entry |
//! | `e` partition, log | nothing: the log has effects pending |
//! | `l` partition, log | versions of the log's folded state |
//! | `n` partition, first LSN | locations of records, by LSN |
//! | `o` partition, log, first offset | locations of entries, by offset |
//! | `p` partition | fence, last record, epochs, checkpoints |
//! | `q` archive, LSN | why that record of it is not put back |
//! | `s` segment | when the first body in it expires |
//! | `x` location | a body that is due, and the LSN of the record that says so |
//!
//! Numbers in keys are big-endian, in values little-endian. No row holds a body.

use super::frame::Location;
use crate::{Archive, ArchiveId, EpochBegin, PartitionEnd, RefusedEntry, Salvage, Settle};
use types::{DedupKey, Epoch, LogId, Lsn, PartitionId, PartitionPosition, StoreId, UserId};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The version of the rows. A fold of another one is thrown away and folded anew.
const FOLD_VERSION: u64 = 6;
/// The most locations in one row.
pub(crate) const RUN_MAX: usize = 512;
pub(crate) const LOCATION_BYTES: usize = 8;
/// The bytes of a dedup row's name before the sender.
const NAMED_BYTES: usize = 4 + LogId::BYTES + 8 + 16;
pub(crate) const POSITION_KEY: &[u8] = b"P";

/// Up to where the segments are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FoldPosition {
    /// The segment of the last folded frame; 0 before the first one.
    pub(crate) segment: u32,
    /// The origin behind that frame.
    pub(crate) origin: u32,
    /// Its group.
    pub(crate) group: u64,
    /// The highest archive id given out.
    pub(crate) last_archive: u64,
}

/// A partition's end, and the LSNs at which derived states were kept for truncations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PartitionState {
    pub(crate) end: PartitionEnd,
    /// Ascending.
    pub(crate) checkpoints: Vec<Lsn>,
}

/// Why a body is due: the LSN of the deletion, or [`Mark::FOREVER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) partition: PartitionId,
    /// Zero where no truncation can take the mark back.
    pub(crate) cause: Lsn,
}

/// The dedup row's name. Seeded with the store's id, so that nobody can choose colliding message ids.
pub(crate) fn dedup_hash(store: StoreId, partition: PartitionId, log: &LogId, key: &DedupKey) -> u128 {
    let mut seed = [0; 8];
    seed.copy_from_slice(&store.as_bytes()[..8]);
    let mut name = [0; NAMED_BYTES + UserId::MAX_BYTES];
    name[..4].copy_from_slice(&partition.get().to_be_bytes());
    name[4..21].copy_from_slice(&log.to_bytes());
    name[21..29].copy_from_slice(&key.device.get().to_be_bytes());
    name[29..NAMED_BYTES].copy_from_slice(key.message_id.as_bytes());
    let sender = key.sender.as_str().as_bytes();
    let end = NAMED_BYTES + sender.len();
    name[NAMED_BYTES..end].copy_from_slice(sender);
    xxh3_128_with_seed(&name[..end], u64::from_le_bytes(seed))
}

pub(crate) fn dedup_key(hash: u128) -> [u8; 17] {
    let mut key = [b'd'; 17];
    key[1..].copy_from_slice(&hash.to_be_bytes());
    key
}

pub(crate) fn lsn_key(partition: PartitionId, first: u64) -> Vec<u8> {
    [&b"n"[..], &partition.get().to_be_bytes(), &first.to_be_bytes()].concat()
}

pub(crate) fn offset_key(partition: PartitionId, log: &LogId, first: u64) -> Vec<u8> {
    [&b"o"[..], &partition.get().to_be_bytes(), &log.to_bytes(), &first.to_be_bytes()].concat()
}

pub(crate) fn archive_prefix(archive: ArchiveId) -> Vec<u8> {
    [&b"b"[..], &archive.0.to_be_bytes()].concat()
}

pub(crate) fn archive_lsn_key(archive: ArchiveId, first: u64) -> Vec<u8> {
    [&b"b"[..], &archive.0.to_be_bytes(), &first.to_be_bytes()].concat()
}

pub(crate) fn archive_key(archive: ArchiveId) -> Vec<u8> {
    [&b"a"[..], &archive.0.to_be_bytes()].concat()
}

pub(crate) fn refused_key(archive: ArchiveId, lsn: Lsn) -> Vec<u8> {
    [&b"q"[..], &archive.0.to_be_bytes(), &lsn.get().to_be_bytes()].concat()
}

pub(crate) fn refused_prefix(archive: ArchiveId) -> Vec<u8> {
    [&b"q"[..], &archive.0.to_be_bytes()].concat()
}

pub(crate) fn state_prefix(partition: PartitionId) -> Vec<u8> {
    [&b"l"[..], &partition.get().to_be_bytes()].concat()
}

pub(crate) fn state_key(partition: PartitionId, log: &LogId) -> Vec<u8> {
    [&b"l"[..], &partition.get().to_be_bytes(), &log.to_bytes()].concat()
}

pub(crate) fn effects_key(partition: PartitionId, log: &LogId) -> Vec<u8> {
    [&b"e"[..], &partition.get().to_be_bytes(), &log.to_bytes()].concat()
}

/// The log in its partition that a row of effects names.
pub(crate) fn effects_key_log(key: &[u8]) -> Option<(PartitionId, LogId)> {
    let partition = PartitionId::new(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?));
    Some((partition, state_key_log(key)?))
}

/// The log in the key of a state row.
pub(crate) fn state_key_log(key: &[u8]) -> Option<LogId> {
    LogId::try_from(key.get(5..)?).ok()
}

pub(crate) fn partition_key(partition: PartitionId) -> Vec<u8> {
    [&b"p"[..], &partition.get().to_be_bytes()].concat()
}

pub(crate) fn partition_of_key(key: &[u8]) -> Option<PartitionId> {
    Some(PartitionId::new(u32::from_be_bytes(key.get(1..)?.try_into().ok()?)))
}

pub(crate) fn segment_key(segment: u32) -> Vec<u8> {
    [&b"s"[..], &segment.to_be_bytes()].concat()
}

pub(crate) fn segment_of_key(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

pub(crate) fn mark_key(location: Location) -> Vec<u8> {
    [&b"x"[..], &location.segment.to_be_bytes(), &location.origin.to_be_bytes()].concat()
}

pub(crate) fn mark_of_key(key: &[u8]) -> Option<Location> {
    let segment = u32::from_be_bytes(key.get(1..5)?.try_into().ok()?);
    Some(Location { segment, origin: u32::from_be_bytes(key.get(5..)?.try_into().ok()?) })
}

/// The number that ends a key of a run.
pub(crate) fn run_first(key: &[u8]) -> Option<u64> {
    let at = key.len().checked_sub(8)?;
    Some(u64::from_be_bytes(key[at..].try_into().ok()?))
}

pub(crate) fn put_location(into: &mut Vec<u8>, location: Location) {
    into.extend_from_slice(&location.segment.to_le_bytes());
    into.extend_from_slice(&location.origin.to_le_bytes());
}

pub(crate) fn locations(value: &[u8]) -> impl DoubleEndedIterator<Item = Location> + ExactSizeIterator + '_ {
    value.chunks_exact(LOCATION_BYTES).map(|row| Location {
        segment: u32::from_le_bytes([row[0], row[1], row[2], row[3]]),
        origin: u32::from_le_bytes([row[4], row[5], row[6], row[7]]),
    })
}

/// Puts numbers together and takes them apart again, little-endian.
#[derive(Debug, Default)]
pub(crate) struct Words(pub(crate) Vec<u8>);

impl Words {
    pub(crate) fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(crate) fn position(self, position: PartitionPosition) -> Self {
        self.u64(position.epoch.get()).u64(position.lsn.get())
    }
}

/// Reads what [`Words`] wrote.
#[derive(Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    pub(crate) fn position(&mut self) -> Option<PartitionPosition> {
        Some(PartitionPosition::new(Epoch::new(self.u64()?), Lsn::new(self.u64()?)))
    }
}

impl FoldPosition {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let words = Words::default().u64(FOLD_VERSION).u64(u64::from(self.segment));
        words.u64(u64::from(self.origin)).u64(self.group).u64(self.last_archive).0
    }

    /// `None` for a position in a fold of another version.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(value);
        let version = cursor.u64()?;
        let position = Self {
            segment: cursor.u64()?.try_into().ok()?,
            origin: cursor.u64()?.try_into().ok()?,
            group: cursor.u64()?,
            last_archive: cursor.u64()?,
        };
        (version == FOLD_VERSION && cursor.0.is_empty()).then_some(position)
    }
}

impl PartitionState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let end = &self.end;
        let mut words = Words::default().u64(end.fence.get()).position(end.last);
        words = words.u64(end.epochs.len() as u64);
        for begin in &end.epochs {
            words = words.u64(begin.epoch.get()).u64(begin.first_lsn.get());
        }
        for lsn in &self.checkpoints {
            words = words.u64(lsn.get());
        }
        words.0
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(value);
        let mut end =
            PartitionEnd { fence: Epoch::new(cursor.u64()?), last: cursor.position()?, epochs: Vec::new() };
        for _ in 0..cursor.u64()? {
            let (epoch, first_lsn) = (Epoch::new(cursor.u64()?), Lsn::new(cursor.u64()?));
            end.epochs.push(EpochBegin { epoch, first_lsn });
        }
        let mut checkpoints = Vec::new();
        while !cursor.0.is_empty() {
            checkpoints.push(Lsn::new(cursor.u64()?));
        }
        Some(Self { end, checkpoints })
    }
}

impl Mark {
    pub(crate) const FOREVER: Self = Self { partition: PartitionId::new(0), cause: Lsn::ZERO };

    pub(crate) fn encode(&self) -> Vec<u8> {
        Words::default().u64(u64::from(self.partition.get())).u64(self.cause.get()).0
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(value);
        let partition = PartitionId::new(cursor.u64()?.try_into().ok()?);
        Some(Self { partition, cause: Lsn::new(cursor.u64()?) })
    }
}

/// An archive, as its frame holds it.
fn archive_words(archive: &Archive) -> Words {
    let words = Words::default().u64(archive.id.0).u64(u64::from(archive.partition.get()));
    words.position(archive.first).position(archive.last).u64(archive.records)
}

pub(crate) fn encode_archive(archive: &Archive) -> Vec<u8> {
    archive_words(archive).0
}

/// An archive, as its row holds it: with how far its salvage has come.
pub(crate) fn encode_archive_row(archive: &Archive) -> Vec<u8> {
    let Salvage { settled, salvaged, refused, at_ms } = archive.salvage;
    archive_words(archive).u64(settled.get()).u64(salvaged).u64(refused).u64(at_ms).0
}

/// Reads both.
pub(crate) fn decode_archive(value: &[u8]) -> Option<Archive> {
    let mut cursor = Cursor(value);
    let mut archive = Archive {
        id: ArchiveId(cursor.u64()?),
        partition: PartitionId::new(cursor.u64()?.try_into().ok()?),
        first: cursor.position()?,
        last: cursor.position()?,
        records: cursor.u64()?,
        salvage: Salvage::default(),
    };
    if !cursor.0.is_empty() {
        archive.salvage = Salvage {
            settled: Lsn::new(cursor.u64()?),
            salvaged: cursor.u64()?,
            refused: cursor.u64()?,
            at_ms: cursor.u64()?,
        };
    }
    Some(archive)
}

/// A step of an archive's salvage, as its frame holds it.
pub(crate) fn encode_settle(step: &Settle) -> Vec<u8> {
    let words = Words::default().u64(step.archive.0).u64(step.after.get()).u64(step.through.get());
    let mut words = words.u64(step.salvaged).u64(step.at_ms);
    for refused in &step.refused {
        words = words.u64(refused.lsn.get()).u64(refused.reason.len() as u64);
        words.0.extend_from_slice(refused.reason.as_bytes());
    }
    words.0
}

pub(crate) fn decode_settle(value: &[u8]) -> Option<Settle> {
    let mut cursor = Cursor(value);
    let mut step = Settle {
        archive: ArchiveId(cursor.u64()?),
        after: Lsn::new(cursor.u64()?),
        through: Lsn::new(cursor.u64()?),
        salvaged: cursor.u64()?,
        at_ms: cursor.u64()?,
        refused: Vec::new(),
    };
    while !cursor.0.is_empty() {
        let (lsn, bytes) = (Lsn::new(cursor.u64()?), usize::try_from(cursor.u64()?).ok()?);
        let reason = String::from_utf8(cursor.bytes(bytes)?.to_vec()).ok()?;
        step.refused.push(RefusedEntry { lsn, reason });
    }
    Some(step)
}
