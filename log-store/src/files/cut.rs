//! A file layer that a test can cut.
//!
//! Files live in memory and remember what was not synced. Every write and every sync has a number; a test
//! names the one at which the machine stops, and then how much of what was not synced survives. A name
//! is durable only after the folder was synced, whatever was synced in the file. The layer can also run
//! out of room and fail a sync.

use super::{File, Files, Guard};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A disk loses single sectors.
const SECTOR_BYTES: usize = 512;

/// How much of what was not synced survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survive {
    /// Nothing.
    Nothing,
    /// Some sectors, lengths and names, drawn by this seed.
    Torn(u64),
    /// Everything, by luck.
    Everything,
}

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write finds no room, and leaves half of what it wrote.
    Full,
    /// A sync fails.
    SyncFails,
}

/// A folder in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct CutFiles {
    disk: Arc<Mutex<Disk>>,
    boot: u64,
    path: PathBuf,
}

#[derive(Debug, Default, Clone)]
struct Disk {
    files: HashMap<u64, Contents>,
    next_file: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// The names after each change since the folder was synced.
    name_changes: Vec<BTreeMap<String, u64>>,
    /// Raised by each crash: what was opened before is dead.
    boot: u64,
    locked: bool,
    operations: u64,
    cut_at: Option<u64>,
    is_cut: bool,
    full: bool,
    failing: Option<Fault>,
}

#[derive(Debug, Default, Clone)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl CutFiles {
    /// An empty folder; what the engine keeps outside this layer goes to `path`.
    pub fn new(path: &Path) -> Self {
        Self { disk: Arc::default(), boot: 0, path: path.to_owned() }
    }

    /// How many writes and syncs there were.
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations
    }

    /// Stops the machine at the operation of this number: a write is then of unknown fate, a sync has not
    /// happened, and all later calls fail.
    pub fn cut_at(&self, operation: u64) {
        self.disk.lock().cut_at = Some(operation);
    }

    /// Whether the cut has been reached.
    pub fn is_cut(&self) -> bool {
        self.disk.lock().is_cut
    }

    /// From now on nothing can be written, or everything again.
    pub fn set_full(&self, full: bool) {
        self.disk.lock().full = full;
    }

    /// Lets the next write or sync, whichever the fault is about, fail.
    pub fn fail_next(&self, fault: Fault) {
        self.disk.lock().failing = Some(fault);
    }

    /// The machine crashes; answers the folder as it is found afterwards.
    pub fn crash(&self, survive: Survive) -> Self {
        let mut disk = self.disk.lock();
        disk.lose(survive);
        self.boot_again(&mut disk)
    }

    /// The process dies and the machine lives on: nothing is lost, and nothing more is synced.
    pub fn kill(&self) -> Self {
        let mut disk = self.disk.lock();
        self.boot_again(&mut disk)
    }

    /// A copy of the folder as it is now, to crash it in more than one way.
    pub fn fork(&self, path: &Path) -> Self {
        let disk = Arc::new(Mutex::new(self.disk.lock().clone()));
        Self { disk, boot: self.boot, path: path.to_owned() }
    }

    fn boot_again(&self, disk: &mut Disk) -> Self {
        disk.boot += 1;
        (disk.locked, disk.is_cut, disk.cut_at) = (false, false, None);
        (disk.full, disk.failing, disk.operations) = (false, None, 0);
        Self { boot: disk.boot, ..self.clone() }
    }

    /// The contents of a file, if there is one.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk.lock();
        disk.names.get(name).map(|file| disk.files[file].now.clone())
    }

    /// Changes bytes of a file behind the engine's back, durably.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk.lock();
        let file = disk.names[name];
        if let Some(contents) = disk.files.get_mut(&file) {
            change(&mut contents.now);
            contents.durable = contents.now.clone();
        }
    }

    /// Removes a file behind the engine's back, durably.
    pub fn lose(&self, name: &str) {
        let mut disk = self.disk.lock();
        disk.names.remove(name);
        disk.durable_names.remove(name);
        disk.name_changes.clear();
    }

    fn operate<T>(&self, operation: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.lock();
        disk.check(self.boot)?;
        operation(&mut disk)
    }

    fn change_names(&self, change: impl FnOnce(&mut Disk) -> io::Result<()>) -> io::Result<()> {
        self.operate(|disk| {
            let cut = disk.count();
            if disk.full && !cut {
                return Err(ErrorKind::StorageFull.into());
            }
            change(disk)?;
            let names = disk.names.clone();
            disk.name_changes.push(names);
            if cut { Err(stopped()) } else { Ok(()) }
        })
    }
}

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

impl Disk {
    fn check(&self, boot: u64) -> io::Result<()> {
        if self.is_cut || self.boot != boot { Err(stopped()) } else { Ok(()) }
    }

    /// Counts an operation; whether the machine stops at it.
    fn count(&mut self) -> bool {
        self.operations += 1;
        self.is_cut = self.cut_at.is_some_and(|at| self.operations >= at);
        self.is_cut
    }

    fn takes_fault(&mut self, fault: Fault) -> bool {
        let takes = self.failing == Some(fault);
        if takes {
            self.failing = None;
        }
        takes
    }

    fn lose(&mut self, survive: Survive) {
        let mut random = Random::new(survive);
        let kept_changes = match survive {
            Survive::Nothing => 0,
            Survive::Everything => self.name_changes.len(),
            Survive::Torn(_) => random.below(self.name_changes.len() as u64 + 1) as usize,
        };
        if let Some(last) = kept_changes.checked_sub(1) {
            self.durable_names = self.name_changes.swap_remove(last);
        }
        self.name_changes.clear();
        self.names = self.durable_names.clone();
        let mut files: Vec<_> = self.files.iter_mut().collect();
        files.sort_unstable_by_key(|(file, _)| **file);
        for (_, contents) in files {
            contents.lose(survive, &mut random);
        }
    }
}

impl Contents {
    fn apply(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    fn lose(&mut self, survive: Survive, random: &mut Random) {
        let unsynced = std::mem::take(&mut self.unsynced);
        match survive {
            Survive::Nothing => {}
            Survive::Everything => self.durable = self.now.clone(),
            Survive::Torn(_) => {
                for change in unsynced {
                    change.tear(&mut self.durable, random);
                }
            }
        }
        self.now = self.durable.clone();
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => to.resize(*len, 0),
        }
    }

    /// Applies some of it.
    fn tear(&self, to: &mut Vec<u8>, random: &mut Random) {
        match self {
            Self::SetLen(_) if random.below(2) == 0 => {}
            Self::SetLen(_) => self.apply(to),
            Self::Write { at, bytes } => {
                let mut begin = *at;
                let end = at + bytes.len();
                while begin < end {
                    let sector_end = (begin / SECTOR_BYTES + 1) * SECTOR_BYTES;
                    let until = sector_end.min(end);
                    if random.below(2) == 0 {
                        let piece = bytes[begin - at..until - at].to_vec();
                        Self::Write { at: begin, bytes: piece }.apply(to);
                    }
                    begin = until;
                }
            }
        }
    }
}

impl Files for CutFiles {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut file = 0;
        self.change_names(|disk| {
            disk.next_file += 1;
            file = disk.next_file;
            disk.files.insert(file, Contents::default());
            disk.names.insert(name.to_owned(), file);
            Ok(())
        })?;
        Ok(Arc::new(CutFile { files: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.operate(|disk| disk.names.get(name).copied().ok_or(ErrorKind::NotFound.into()))?;
        Ok(Arc::new(CutFile { files: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change_names(|disk| {
            let file = disk.names.remove(from).ok_or(ErrorKind::NotFound)?;
            disk.names.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change_names(|disk| disk.names.remove(name).map(drop).ok_or(ErrorKind::NotFound.into()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.operate(|disk| Ok(disk.names.keys().cloned().collect()))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.operate(|disk| {
            if disk.count() {
                return Err(stopped());
            }
            if disk.takes_fault(Fault::SyncFails) {
                return Err(io::Error::other("injected: the sync failed"));
            }
            disk.durable_names = disk.names.clone();
            disk.name_changes.clear();
            Ok(())
        })
    }

    fn lock(&self, _: &str) -> io::Result<Option<Box<dyn Guard>>> {
        self.operate(|disk| {
            if disk.locked {
                return Ok(None);
            }
            disk.locked = true;
            Ok(Some(Box::new(CutGuard(self.clone())) as Box<dyn Guard>))
        })
    }

    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

#[derive(Debug)]
struct CutGuard(CutFiles);

impl Guard for CutGuard {}

impl Drop for CutGuard {
    fn drop(&mut self) {
        let mut disk = self.0.disk.lock();
        if disk.boot == self.0.boot {
            disk.locked = false;
        }
    }
}

#[derive(Debug)]
struct CutFile {
    files: CutFiles,
    file: u64,
}

impl CutFile {
    fn contents<T>(&self, work: impl FnOnce(&mut Contents) -> T) -> io::Result<T> {
        self.files.operate(|disk| disk.files.get_mut(&self.file).map(work).ok_or(ErrorKind::NotFound.into()))
    }

    /// Counts and applies a change that may need room.
    fn change(&self, change: Change, needs_room: bool) -> io::Result<()> {
        self.files.operate(|disk| {
            let cut = disk.count();
            let full = needs_room && (disk.full || disk.takes_fault(Fault::Full));
            let contents = disk.files.get_mut(&self.file).ok_or(ErrorKind::NotFound)?;
            if full && !cut {
                if let Change::Write { at, bytes } = change {
                    let half = bytes[..bytes.len() / 2].to_vec();
                    contents.apply(Change::Write { at, bytes: half });
                }
                return Err(ErrorKind::StorageFull.into());
            }
            contents.apply(change);
            if cut { Err(stopped()) } else { Ok(()) }
        })
    }
}

impl File for CutFile {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write { at: at as usize, bytes: bytes.to_vec() }, true)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.contents(|contents| {
            let begin = contents.now.len().min(at as usize);
            let count = into.len().min(contents.now.len() - begin);
            into[..count].copy_from_slice(&contents.now[begin..begin + count]);
            count
        })
    }

    fn read_cached_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.read_at(at, into)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.files.operate(|disk| {
            if disk.count() {
                return Err(stopped());
            }
            if disk.takes_fault(Fault::SyncFails) {
                return Err(io::Error::other("injected: the sync failed"));
            }
            let contents = disk.files.get_mut(&self.file).ok_or(ErrorKind::NotFound)?;
            contents.durable = contents.now.clone();
            contents.unsynced.clear();
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.contents(|contents| contents.now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len as usize), false)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let longer = self.length()?.max(len);
        self.change(Change::SetLen(longer as usize), true)
    }
}

/// Enough randomness to tear with (SplitMix64), the same for the same seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    const fn new(survive: Survive) -> Self {
        match survive {
            Survive::Torn(seed) => Self(seed),
            _ => Self(0),
        }
    }

    const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
