//! The rows: their keys, their encoding, and typed access that records what a command changed.
//!
//! | key | row |
//! |---|---|
//! | `m` | meta: the deployment as it was born, the placement version, counters |
//! | `g` region | region |
//! | `n` node | node |
//! | `p` number (4 bytes, big-endian) | partition |
//! | `h` log (17 bytes) | a re-homing that is under way |
//! | `i` log (17 bytes) | pin |
//! | `u` name | whose a username or a phone number is |
//! | `r` request id (16 bytes) | a remembered answer |
//! | `q` sequence (8 bytes, big-endian) | the request id remembered then, so that old ones can go |
//! | `a` sequence (8 bytes, big-endian) | audit event |
//! | `d` | the highest id that a directory replica ever had |
//! | `R` … | not rows: what a replica keeps for consensus (see `raft/disk.rs`) |
//!
//! A value is one byte of format and then JSON: rows are few and small, and a person with a hex dump can
//! read them.

mod codec;
mod remembered;

pub use codec::{decode, encode};
pub use remembered::answer_of;

use crate::{
    bounds,
    command::{NameRow, Rehome},
    kv::{Error, Transaction},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{
    LogId, MoveId, Name, NodeId, NodeRow, PartitionId, PartitionRow, Pin, PinSegment, Placement,
    PlacementDelta, RegionId, RegionRow, RehomeId,
};

const META: &[u8] = b"m";
const REGION: u8 = b'g';
const NODE: u8 = b'n';
const PARTITION: u8 = b'p';
const REHOME: u8 = b'h';
const PIN: u8 = b'i';
const NAME: u8 = b'u';
const EVENT: u8 = b'a';
const HIGHEST_REPLICA: &[u8] = b"d";

/// What is true of the directory as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// All its regions, those that have left included, sorted.
    pub regions: Vec<RegionId>,
    /// Those of them that it was not born with.
    #[serde(default)]
    pub added: Vec<RegionId>,
    /// How many partitions prefer each of them.
    pub partitions_per_region: u32,
    /// Raised by every command that changes the placement.
    pub placement_version: u64,
    /// Logs that are pinned.
    pub pins: u64,
    remembered_first: u64,
    remembered_next: u64,
    event_next: u64,
    /// Planned moves that were begun.
    #[serde(default)]
    moves: u64,
    /// Re-homings that were begun.
    #[serde(default)]
    rehomes: u64,
    /// An operator lets no log follow those who write it.
    #[serde(default)]
    pub following_off: bool,
}

impl Meta {
    /// A deployment that was just born.
    pub const fn born(regions: Vec<RegionId>, partitions_per_region: u32) -> Self {
        Self {
            regions,
            added: Vec::new(),
            partitions_per_region,
            placement_version: 0,
            pins: 0,
            remembered_first: 0,
            remembered_next: 0,
            event_next: 0,
            moves: 0,
            rehomes: 0,
            following_off: false,
        }
    }
}

/// Something that an operator wants to find later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The directory's wall clock, in ms.
    pub at_ms: u64,
    /// In whose name; empty for the directory itself.
    #[serde(default)]
    pub who: String,
    /// A sentence.
    pub what: String,
}

/// The rows inside one command.
pub struct Rows<'a> {
    tx: &'a mut dyn Transaction,
    meta: Meta,
    at_ms: u64,
    regions: BTreeMap<RegionId, RegionRow>,
    nodes: BTreeMap<NodeId, NodeRow>,
    partitions: BTreeMap<PartitionId, PartitionRow>,
}

impl<'a> Rows<'a> {
    /// Starts a command on rows of which `meta` was read, at the wall time `at_ms`.
    pub fn new(tx: &'a mut dyn Transaction, meta: Meta, at_ms: u64) -> Self {
        Self {
            tx,
            meta,
            at_ms,
            regions: BTreeMap::new(),
            nodes: BTreeMap::new(),
            partitions: BTreeMap::new(),
        }
    }

    /// What is true of the directory as a whole.
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Whether logs follow those who write them, as far as an operator says.
    pub const fn set_following(&mut self, on: bool) {
        self.meta.following_off = !on;
    }

    /// A region's row.
    pub fn region(&self, region: &RegionId) -> Result<Option<RegionRow>, Error> {
        read(self.tx, &region_key(region))
    }

    /// Every region, by name.
    pub fn regions(&self) -> Result<Vec<RegionRow>, Error> {
        read_all(self.tx, REGION)
    }

    /// A node's row.
    pub fn node(&self, node: &NodeId) -> Result<Option<NodeRow>, Error> {
        read(self.tx, &node_key(node))
    }

    /// Every node, by name.
    pub fn nodes(&self) -> Result<BTreeMap<NodeId, NodeRow>, Error> {
        let rows: Vec<NodeRow> = read_all(self.tx, NODE)?;
        Ok(rows.into_iter().map(|row| (row.node.clone(), row)).collect())
    }

    /// A partition's row.
    pub fn partition(&self, partition: PartitionId) -> Result<Option<PartitionRow>, Error> {
        read(self.tx, &partition_key(partition))
    }

    /// Every partition, by number.
    pub fn partitions(&self) -> Result<Vec<PartitionRow>, Error> {
        read_all(self.tx, PARTITION)
    }

    /// A log's pin.
    pub fn pin(&self, log: LogId) -> Result<Option<Pin>, Error> {
        pin(self.tx, log)
    }

    /// Writes a region's row.
    pub fn put_region(&mut self, row: RegionRow) -> Result<(), Error> {
        self.tx.put(&region_key(&row.region), &encode(&row)?)?;
        self.regions.insert(row.region.clone(), row);
        Ok(())
    }

    /// Writes the row of a region that the deployment was not born with.
    pub fn add_region(&mut self, row: RegionRow) -> Result<(), Error> {
        self.meta.regions.push(row.region.clone());
        self.meta.regions.sort();
        self.meta.added.push(row.region.clone());
        self.put_region(row)
    }

    /// Writes a node's row.
    pub fn put_node(&mut self, row: NodeRow) -> Result<(), Error> {
        self.tx.put(&node_key(&row.node), &encode(&row)?)?;
        self.nodes.insert(row.node.clone(), row);
        Ok(())
    }

    /// Writes a partition's row.
    pub fn put_partition(&mut self, row: PartitionRow) -> Result<(), Error> {
        self.tx.put(&partition_key(row.partition), &encode(&row)?)?;
        self.partitions.insert(row.partition, row);
        Ok(())
    }

    /// Writes the first segment of a log that is not pinned.
    pub fn create_pin(&mut self, log: LogId, segment: PinSegment) -> Result<(), Error> {
        self.tx.put(&pin_key(log), &encode(&[segment])?)?;
        self.meta.pins += 1;
        Ok(())
    }

    /// Writes a pin that has grown.
    pub fn put_pin(&mut self, pin: &Pin) -> Result<(), Error> {
        self.tx.put(&pin_key(pin.log), &encode(&pin.segments)?)
    }

    /// Whose a name is.
    pub fn name(&self, name: &Name) -> Result<Option<NameRow>, Error> {
        self::name(self.tx, name)
    }

    /// Writes a name's row.
    pub fn put_name(&mut self, name: &Name, row: &NameRow) -> Result<(), Error> {
        self.tx.put(&name_key(name), &encode(row)?)
    }

    /// Nobody has or had the name.
    pub fn drop_name(&mut self, name: &Name) -> Result<(), Error> {
        self.tx.delete(&name_key(name))
    }

    /// The re-homing of a log that is under way.
    pub fn rehome(&self, log: LogId) -> Result<Option<Rehome>, Error> {
        read(self.tx, &rehome_key(log))
    }

    /// All re-homings that are under way.
    pub fn rehomes(&self) -> Result<Vec<Rehome>, Error> {
        rehomes(self.tx)
    }

    /// Writes a re-homing's row.
    pub fn put_rehome(&mut self, rehome: &Rehome) -> Result<(), Error> {
        self.tx.put(&rehome_key(rehome.log), &encode(rehome)?)
    }

    /// The re-homing of a log is over.
    pub fn drop_rehome(&mut self, log: LogId) -> Result<(), Error> {
        self.tx.delete(&rehome_key(log))
    }

    /// The name of the next re-homing.
    pub const fn next_rehome(&mut self) -> RehomeId {
        self.meta.rehomes += 1;
        RehomeId::new(self.meta.rehomes)
    }

    /// The wall clock of the one who submitted the command.
    pub const fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// The name of the next planned move.
    pub const fn next_move(&mut self) -> MoveId {
        self.meta.moves += 1;
        MoveId::new(self.meta.moves)
    }

    /// Writes an audit event of the directory's own, and drops the oldest one where there are too many.
    pub fn note(&mut self, what: impl Into<String>) -> Result<(), Error> {
        self.note_by("", what)
    }

    /// Writes an audit event in somebody's name, likewise.
    pub fn note_by(&mut self, who: &str, what: impl Into<String>) -> Result<(), Error> {
        let cut = |text: &mut String, most: usize| text.truncate(text.floor_char_boundary(most));
        let (mut who, mut what) = (who.to_owned(), what.into());
        cut(&mut who, bounds::OPERATOR_MAX_BYTES);
        cut(&mut what, bounds::EVENT_MAX_BYTES);
        let sequence = self.meta.event_next;
        self.meta.event_next += 1;
        self.tx.put(&sequence_key(EVENT, sequence), &encode(&Event { at_ms: self.at_ms, who, what })?)?;
        match sequence.checked_sub(bounds::EVENTS_MAX) {
            Some(old) => self.tx.delete(&sequence_key(EVENT, old)),
            None => Ok(()),
        }
    }

    /// Ends the command: raises the version where the placement changed, and answers the change.
    pub fn finish(mut self) -> Result<Option<PlacementDelta>, Error> {
        let changed = !(self.regions.is_empty() && self.nodes.is_empty() && self.partitions.is_empty());
        let from_version = self.meta.placement_version;
        self.meta.placement_version += u64::from(changed);
        self.tx.put(META, &encode(&self.meta)?)?;
        Ok(changed.then(|| PlacementDelta {
            from_version,
            to_version: self.meta.placement_version,
            regions: self.regions.into_values().collect(),
            nodes: self.nodes.into_values().collect(),
            partitions: self.partitions.into_values().collect(),
        }))
    }
}

/// What is true of the directory as a whole; `None` before its birth.
pub fn meta(tx: &dyn Transaction) -> Result<Option<Meta>, Error> {
    read(tx, META)
}

/// The highest id that a directory replica ever had; 0 where there are none.
pub fn highest_replica(tx: &dyn Transaction) -> Result<u64, Error> {
    Ok(read(tx, HIGHEST_REPLICA)?.unwrap_or(0))
}

/// Notes that a directory replica has this id, so that no other one is ever given it.
pub fn note_replica(tx: &mut dyn Transaction, id: u64) -> Result<(), Error> {
    if id > highest_replica(tx)? {
        tx.put(HIGHEST_REPLICA, &encode(&id)?)?;
    }
    Ok(())
}

/// A log's pin.
pub fn pin(tx: &dyn Transaction, log: LogId) -> Result<Option<Pin>, Error> {
    let segments: Option<Vec<PinSegment>> = read(tx, &pin_key(log))?;
    Ok(segments.map(|segments| Pin { log, segments }))
}

/// Whose a name is; `None`: nobody has or had it.
pub fn name(tx: &dyn Transaction, name: &Name) -> Result<Option<NameRow>, Error> {
    read(tx, &name_key(name))
}

/// All re-homings that are under way, by log.
pub fn rehomes(tx: &dyn Transaction) -> Result<Vec<Rehome>, Error> {
    read_all(tx, REHOME)
}

/// The whole placement, at its version.
pub fn placement(tx: &dyn Transaction) -> Result<Placement, Error> {
    let mut placement = Placement::default();
    let taken = placement.apply(snapshot(tx)?);
    debug_assert!(taken, "a snapshot is always taken");
    Ok(placement)
}

/// The whole placement as a change of nothing.
pub fn snapshot(tx: &dyn Transaction) -> Result<PlacementDelta, Error> {
    Ok(PlacementDelta {
        from_version: 0,
        to_version: meta(tx)?.map_or(0, |meta| meta.placement_version),
        regions: read_all(tx, REGION)?,
        nodes: read_all(tx, NODE)?,
        partitions: read_all(tx, PARTITION)?,
    })
}

/// The newest audit events, oldest first.
pub fn events(tx: &dyn Transaction, limit: usize) -> Result<Vec<Event>, Error> {
    let next = meta(tx)?.map_or(0, |meta| meta.event_next);
    let first = next.saturating_sub(limit as u64);
    let pairs = tx.range(&sequence_key(EVENT, first), &sequence_key(EVENT, next), limit)?;
    pairs.iter().map(|(key, value)| decode(key, value)).collect()
}

fn read<T: for<'de> Deserialize<'de>>(tx: &dyn Transaction, key: &[u8]) -> Result<Option<T>, Error> {
    tx.get(key)?.map(|value| decode(key, &value)).transpose()
}

fn read_all<T: for<'de> Deserialize<'de>>(tx: &dyn Transaction, kind: u8) -> Result<Vec<T>, Error> {
    let pairs = tx.range(&[kind], &[kind + 1], usize::MAX)?;
    pairs.iter().map(|(key, value)| decode(key, value)).collect()
}

fn key(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(kind);
    key.extend_from_slice(name);
    key
}

fn region_key(region: &RegionId) -> Vec<u8> {
    key(REGION, region.as_str().as_bytes())
}

fn node_key(node: &NodeId) -> Vec<u8> {
    key(NODE, node.as_str().as_bytes())
}

fn partition_key(partition: PartitionId) -> Vec<u8> {
    key(PARTITION, &partition.get().to_be_bytes())
}

fn pin_key(log: LogId) -> Vec<u8> {
    key(PIN, &log.to_bytes())
}

fn name_key(name: &Name) -> Vec<u8> {
    key(NAME, name.as_str().as_bytes())
}

fn rehome_key(log: LogId) -> Vec<u8> {
    key(REHOME, &log.to_bytes())
}

fn sequence_key(kind: u8, sequence: u64) -> Vec<u8> {
    key(kind, &sequence.to_be_bytes())
}
