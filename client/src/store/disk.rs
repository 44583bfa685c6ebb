//! A store in one file: redb, a copy-on-write tree with checksums, synced twice a commit, so that a commit is
//! there as a whole or not at all, and damage is told from a commit that a crash cut off.
//!
//! | table | key | value |
//! |---|---|---|
//! | `about` | name | `format`, `user`, `device` |
//! | `outbox` | number, in the order of queueing | chat, message id, body |
//! | `positions` | chat | where the app stands |
//! | `undone` | chat | what a failover took back |

use super::{Change, Store, StoreError, rows};
use crate::{EntryKey, Position, Snapshot};
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable, StorageError, TableDefinition,
    WriteTransaction,
};
use std::{
    collections::HashMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};
use types::{DeviceId, LogId, MessageId, UserId};

const ABOUT: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("about");
const OUTBOX: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("outbox");
const POSITIONS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("positions");
const UNDONE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("undone");

/// What this version reads and writes.
const FORMAT: u32 = 1;
/// Memory for pages of the file.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Keeps one device's outbox and positions in a file. One process at a time has it open.
///
/// Its size follows what is kept: [`crate::Bounds::outbox_messages`] and [`crate::Bounds::outbox_bytes`] bound the
/// outbox, and a chat takes some KiB.
#[derive(Debug)]
pub struct DiskStore {
    path: PathBuf,
    database: Database,
    user: UserId,
    device: DeviceId,
    /// Where each message of the outbox stands.
    places: HashMap<(LogId, MessageId), u64>,
    next_place: u64,
}

impl DiskStore {
    /// Opens a user's store, or creates it. A new one takes the device that is named, or draws one; one that
    /// exists must be that of the user, and of the device where one is named.
    ///
    /// Reads the whole file, and blocks while it does. The file can be read by its owner only.
    ///
    /// # Errors
    /// [`StoreError`]: the file is in use, damaged, of another device or format, or cannot be reached.
    pub fn open(path: &Path, user: &UserId, device: Option<DeviceId>) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(|error| StoreError::io(path, error))? {
            create(path, user, device.unwrap_or_else(|| DeviceId::new(host::random::number())))?;
        }
        let mut database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .open(path)
            .map_err(|error| opening(path, error))?;
        match database.check_integrity() {
            // What was mended is a commit that a crash cut off.
            Ok(_) => {}
            Err(error) => return Err(opening(path, error)),
        }
        let (owner, of) = about(path, &database)?;
        if owner != *user || device.is_some_and(|device| device != of) {
            return Err(StoreError::OtherDevice { user: owner, device: of });
        }
        Ok(Self {
            path: path.to_owned(),
            database,
            user: owner,
            device: of,
            places: HashMap::new(),
            next_place: 0,
        })
    }

    /// The device whose store this is: the number to give to [`crate::Config::new`].
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), Failed> {
        let transaction = begin(&self.database)?;
        for change in changes {
            match change {
                Change::Queue { log, message_id, message } => {
                    let row = rows::message(*log, *message_id, message);
                    self.queue(&transaction, *log, *message_id, &row)?;
                }
                Change::Settle { log, message_id } => {
                    if let Some(place) = self.places.remove(&(*log, *message_id)) {
                        transaction.open_table(OUTBOX)?.remove(place)?;
                    }
                }
                Change::Follow { log, position, offset } => follow(&transaction, *log, position, *offset)?,
                Change::Stand { log, positions, undone } => {
                    stand(&transaction, *log, positions, undone.as_deref())?;
                }
                Change::Unfollow { log } => {
                    transaction.open_table(POSITIONS)?.remove(&rows::log_key(*log)[..])?;
                    transaction.open_table(UNDONE)?.remove(&rows::log_key(*log)[..])?;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn queue(
        &mut self,
        transaction: &WriteTransaction,
        log: LogId,
        message_id: MessageId,
        row: &[u8],
    ) -> Result<(), Failed> {
        if self.places.contains_key(&(log, message_id)) {
            return Ok(());
        }
        transaction.open_table(OUTBOX)?.insert(self.next_place, row)?;
        self.places.insert((log, message_id), self.next_place);
        self.next_place += 1;
        Ok(())
    }

    fn read(&mut self) -> Result<Snapshot, Failed> {
        let transaction = self.database.begin_read()?;
        let mut snapshot = Snapshot::default();
        self.places.clear();
        for row in transaction.open_table(OUTBOX)?.iter()? {
            let (place, message) = row?;
            let message = rows::read_message(message.value())?;
            self.places.insert((message.log, message.message_id), place.value());
            self.next_place = place.value() + 1;
            snapshot.outbox.push(message);
        }
        // The sort is stable: the messages of one chat stay in their order.
        snapshot.outbox.sort_by_key(|message| message.log);
        let undone = transaction.open_table(UNDONE)?;
        for row in transaction.open_table(POSITIONS)?.iter()? {
            let (log, positions) = row?;
            let undone = undone.get(log.value())?;
            let undone = undone.as_ref().map(|undone| undone.value());
            snapshot.logs.push(rows::log(log.value(), positions.value(), undone)?);
        }
        Ok(snapshot)
    }
}

impl Store for DiskStore {
    fn load(&mut self, user: &UserId, device: DeviceId) -> Result<Snapshot, StoreError> {
        if (&self.user, self.device) != (user, device) {
            return Err(StoreError::OtherDevice { user: self.user.clone(), device: self.device });
        }
        self.read().map_err(|failed| failed.told(&self.path))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.write(changes).map_err(|failed| failed.told(&self.path))
    }
}

fn follow(
    transaction: &WriteTransaction,
    log: LogId,
    position: &Position,
    offset: u64,
) -> Result<(), Failed> {
    let mut table = transaction.open_table(POSITIONS)?;
    let key = rows::log_key(log);
    if table.get(&key[..])?.is_none() {
        table.insert(&key[..], &rows::positions(&[(offset, position.clone())])[..])?;
    }
    Ok(())
}

fn stand(
    transaction: &WriteTransaction,
    log: LogId,
    positions: &[(u64, Position)],
    undone: Option<&[EntryKey]>,
) -> Result<(), Failed> {
    let mut table = transaction.open_table(POSITIONS)?;
    let key = rows::log_key(log);
    if table.get(&key[..])?.is_none() {
        return Ok(());
    }
    table.insert(&key[..], &rows::positions(positions)[..])?;
    let Some(undone) = undone else { return Ok(()) };
    let mut table = transaction.open_table(UNDONE)?;
    if undone.is_empty() {
        table.remove(&key[..])?;
    } else {
        table.insert(&key[..], &rows::undone(undone)[..])?;
    }
    Ok(())
}

fn begin(database: &Database) -> Result<WriteTransaction, Failed> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// Writes an empty store beside its place and puts it there when it is whole: what a crash leaves behind is no
/// half of a store. Whoever else is first wins.
fn create(path: &Path, user: &UserId, device: DeviceId) -> Result<(), StoreError> {
    let io = |error: std::io::Error| StoreError::io(path, error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".hearth-state-").tempfile_in(folder).map_err(io)?;
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(file.path())
        .map_err(|error| opening(path, error))?;
    describe(&database, user, device).map_err(|failed| failed.told(path))?;
    drop(database);
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(io(error.error)),
    }
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

fn describe(database: &Database, user: &UserId, device: DeviceId) -> Result<(), Failed> {
    let transaction = begin(database)?;
    let mut about = transaction.open_table(ABOUT)?;
    about.insert("format", &FORMAT.to_be_bytes()[..])?;
    about.insert("user", user.as_str().as_bytes())?;
    about.insert("device", &device.get().to_be_bytes()[..])?;
    drop(about);
    transaction.open_table(OUTBOX)?;
    transaction.open_table(POSITIONS)?;
    transaction.open_table(UNDONE)?;
    Ok(transaction.commit()?)
}

/// Whose store this is, of a format that is known.
fn about(path: &Path, database: &Database) -> Result<(UserId, DeviceId), StoreError> {
    let row = |name: &str| -> Result<Vec<u8>, Failed> {
        let table = database.begin_read()?.open_table(ABOUT)?;
        let value = table.get(name)?.ok_or(Failed::Missing)?;
        Ok(value.value().to_vec())
    };
    let number = |name: &str| row(name).map_err(|failed| failed.told(path));
    let format = number("format")?;
    let format = <[u8; 4]>::try_from(&format[..]).map_err(|_| StoreError::damaged(path, "its format"))?;
    let found = u32::from_be_bytes(format);
    if found != FORMAT {
        return Err(StoreError::Format { path: path.to_owned(), found, known: FORMAT });
    }
    let user = String::from_utf8(number("user")?).map_err(|error| StoreError::damaged(path, error))?;
    let user = UserId::new(&user).map_err(|error| StoreError::damaged(path, error))?;
    let device = number("device")?;
    let device = <[u8; 8]>::try_from(&device[..]).map_err(|_| StoreError::damaged(path, "its device"))?;
    Ok((user, DeviceId::new(u64::from_be_bytes(device))))
}

fn opening(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Io(error))
            if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            StoreError::io(path, error)
        }
        other => StoreError::damaged(path, other),
    }
}

/// What went wrong inside.
#[derive(Debug)]
enum Failed {
    Engine(redb::Error),
    Row(rows::Unreadable),
    Missing,
}

impl Failed {
    fn told(self, path: &Path) -> StoreError {
        match self {
            Self::Engine(redb::Error::Io(error)) => StoreError::io(path, error),
            Self::Engine(redb::Error::PreviousIo) => StoreError::Closed,
            Self::Engine(error) => StoreError::damaged(path, error),
            Self::Row(error) => StoreError::damaged(path, error),
            Self::Missing => StoreError::damaged(path, "it does not say whose it is"),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

impl From<rows::Unreadable> for Failed {
    fn from(error: rows::Unreadable) -> Self {
        Self::Row(error)
    }
}

#[cfg(test)]
pub(super) fn write_format(path: &Path, format: u32) {
    let database = Database::open(path).expect("opened");
    let transaction = begin(&database).expect("begun");
    transaction
        .open_table(ABOUT)
        .expect("there")
        .insert("format", &format.to_be_bytes()[..])
        .expect("written");
    transaction.commit().expect("committed");
}
