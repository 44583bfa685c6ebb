//! One segment file, and the bounded set of those that are open.
//!
//! ```text
//!  0           64
//!  ├── header ──┼── frame ── frame ── frame ── … ── zeros, or the table of a rewritten one ──┤
//! ```
//!
//! A segment as first written holds each frame at its origin. A rewritten one is shorter; its table names
//! the place of every so many frames by their origin, ascending, and the search ends with a short walk.

use super::{
    errors::{damaged, io_error},
    folder::FORMAT_VERSION,
};
use crate::{
    StoreError,
    files::{File, Files},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    io::ErrorKind,
    sync::{Arc, OnceLock},
};
use types::StoreId;

/// The bytes before the first frame.
pub(crate) const SEGMENT_HEADER_BYTES: u32 = 64;
/// In a rewritten segment, one in so many frames stands in the table.
pub(crate) const TABLE_EVERY: usize = 32;
const MAGIC: [u8; 8] = *b"HRTHSEG\n";
const TABLE_ENTRY_BYTES: usize = 8;
const SUFFIX: &str = ".segment";
/// What a file is called until it takes the place of the one it was made from.
pub(crate) const NEW_SUFFIX: &str = ".new";

/// The name of a segment's file.
pub(crate) fn name(number: u32) -> String {
    format!("{number:010}{SUFFIX}")
}

/// The number in a segment's name.
pub(crate) fn number(name: &str) -> Option<u32> {
    name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 10)?.parse().ok()
}

/// Where a rewritten segment keeps its frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// (origin, place), ascending.
    pub(crate) entries: Vec<(u32, u32)>,
    /// Where the frames end and the table begins.
    pub(crate) at: u32,
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) name: Arc<str>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) table: Option<Table>,
}

/// The first bytes of a segment.
pub(crate) fn header(store: StoreId, number: u32, table: Option<&Table>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(store.as_bytes());
    let (at, count) = table.map_or((0, 0), |table| (table.at, table.entries.len() as u32));
    bytes.extend_from_slice(&at.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.resize(SEGMENT_HEADER_BYTES as usize - 4, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The last bytes of a rewritten segment.
pub(crate) fn encode_table(table: &Table) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(table.entries.len() * TABLE_ENTRY_BYTES + 4);
    for (origin, at) in &table.entries {
        bytes.extend_from_slice(&origin.to_le_bytes());
        bytes.extend_from_slice(&at.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

impl Segment {
    /// Makes an empty segment with room for `bytes`, durably, its name included.
    ///
    /// # Errors
    /// `Full`; `Io` for a failed sync, after which the store must not go on.
    pub(crate) fn create(
        files: &dyn Files,
        store: StoreId,
        number: u32,
        bytes: u32,
    ) -> Result<Arc<Self>, StoreError> {
        let name = name(number);
        let made = (|| {
            let file = files.create(&name)?;
            file.allocate(u64::from(bytes))?;
            file.write_at(0, &header(store, number, None))?;
            Ok(file)
        })();
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // What was begun is worth nothing, and may be what fills the disk.
                let _ = files.remove(&name);
                return Err(io_error("cannot prepare", &name, &error));
            }
        };
        file.sync_data().map_err(|error| sync_error(&name, &error))?;
        files.sync_folder().map_err(|error| sync_error(&name, &error))?;
        Ok(Arc::new(Self { number, name: name.into(), file, table: None }))
    }

    /// Opens a segment and checks its header and table.
    ///
    /// # Errors
    /// `Damaged` when it is missing or not what was written, `Version`, `Io`.
    pub(crate) fn open(files: &dyn Files, store: StoreId, number: u32) -> Result<Arc<Self>, StoreError> {
        let name: Arc<str> = name(number).into();
        let file = match files.open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(damaged(&name, 0, "the segment is missing"));
            }
            Err(error) => return Err(io_error("cannot open", &name, &error)),
        };
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        let read = file.read_at(0, &mut bytes).map_err(|error| io_error("cannot read", &name, &error))?;
        if read < bytes.len() {
            return Err(damaged(&name, read as u64, "the file ends inside the segment's header"));
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[..8] != MAGIC {
            return Err(damaged(&name, 0, "no segment begins here"));
        }
        if crc32c::crc32c(&bytes[..60]) != word(60) {
            return Err(damaged(&name, 0, "the checksum of the segment's header does not match"));
        }
        if word(8) != FORMAT_VERSION {
            return Err(StoreError::Version { file: name, found: word(8), known: FORMAT_VERSION });
        }
        if word(12) != number || bytes[16..32] != *store.as_bytes() {
            return Err(damaged(&name, 12, "it is a segment of another number or store"));
        }
        let table = match word(32) {
            0 => None,
            at => Some(read_table(&*file, &name, at, word(36) as usize)?),
        };
        Ok(Arc::new(Self { number, name, file, table }))
    }

    pub(crate) fn damaged(&self, at: u64, what: &str) -> StoreError {
        damaged(&self.name, at, what)
    }

    /// Where the first frame of at least this origin may be looked for: at it or shortly before it.
    pub(crate) fn near(&self, origin: u32) -> u32 {
        let Some(table) = &self.table else { return origin };
        let after = table.entries.partition_point(|(known, _)| *known <= origin);
        match after.checked_sub(1) {
            Some(before) => table.entries[before].1,
            None => SEGMENT_HEADER_BYTES,
        }
    }

    /// Where no frame can stand any more; `None` where only the file's end tells.
    pub(crate) fn frames_end(&self) -> Option<u32> {
        self.table.as_ref().map(|table| table.at)
    }
}

fn read_table(file: &dyn File, name: &str, at: u32, count: usize) -> Result<Table, StoreError> {
    let mut bytes = vec![0; count * TABLE_ENTRY_BYTES + 4];
    let read =
        file.read_at(u64::from(at), &mut bytes).map_err(|error| io_error("cannot read", name, &error))?;
    let (rows, crc) = bytes.split_at(count * TABLE_ENTRY_BYTES);
    if read < bytes.len() || crc32c::crc32c(rows).to_le_bytes() != crc {
        return Err(damaged(name, u64::from(at), "the checksum of the segment's table does not match"));
    }
    let word = |row: &[u8]| u32::from_le_bytes([row[0], row[1], row[2], row[3]]);
    let entries = rows.chunks_exact(TABLE_ENTRY_BYTES).map(|row| (word(row), word(&row[4..]))).collect();
    Ok(Table { entries, at })
}

/// A failed sync: nobody knows any more what is on disk.
pub(crate) fn sync_error(name: &str, error: &std::io::Error) -> StoreError {
    StoreError::Io { what: "cannot sync", file: name.into(), error: error.to_string().into() }
}

/// The segments that are open for reading.
#[derive(Debug)]
pub(crate) struct Segments {
    files: Arc<dyn Files>,
    store: StoreId,
    open: Mutex<HashMap<u32, Arc<Segment>>>,
    open_max: usize,
    /// The first damage that somebody has come upon.
    damage: OnceLock<StoreError>,
}

impl Segments {
    pub(crate) fn new(files: Arc<dyn Files>, store: StoreId, open_max: usize) -> Self {
        Self { files, store, open: Mutex::default(), open_max, damage: OnceLock::new() }
    }

    /// Keeps in mind what somebody has come upon, where the disk has not given back what was written.
    pub(crate) fn report(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Damaged { .. } | StoreError::Io { .. }) {
            self.damage.get_or_init(|| {
                tracing::error!(store = %self.store, %error, "the log store is damaged");
                error.clone()
            });
        }
        error
    }

    /// The first damage that somebody has come upon since the store was opened.
    pub(crate) fn damage(&self) -> Option<StoreError> {
        self.damage.get().cloned()
    }

    pub(crate) fn get(&self, number: u32) -> Result<Arc<Segment>, StoreError> {
        // Held over the opening: no other file may take its place before it is kept.
        let mut open = self.open.lock();
        if let Some(segment) = open.get(&number) {
            return Ok(segment.clone());
        }
        let segment = Segment::open(&*self.files, self.store, number);
        let segment = segment.map_err(|error| self.report(error))?;
        self.keep(&mut open, segment.clone());
        Ok(segment)
    }

    /// A segment, if it is open.
    pub(crate) fn get_open(&self, number: u32) -> Option<Arc<Segment>> {
        self.open.lock().get(&number).cloned()
    }

    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        self.keep(&mut self.open.lock(), segment);
    }

    fn keep(&self, open: &mut HashMap<u32, Arc<Segment>>, segment: Arc<Segment>) {
        if open.len() >= self.open_max
            && let Some(victim) = open.keys().copied().find(|number| *number != segment.number)
        {
            open.remove(&victim);
        }
        open.insert(segment.number, segment);
    }

    /// Puts a file in the place of a segment's: from then on nobody is given the old one.
    ///
    /// # Errors
    /// `Io`, `Full`.
    pub(crate) fn replace(&self, number: u32, new_name: &str) -> Result<(), StoreError> {
        let mut open = self.open.lock();
        open.remove(&number);
        self.files
            .rename(new_name, &name(number))
            .map_err(|error| io_error("cannot rename", new_name, &error))
    }
}
