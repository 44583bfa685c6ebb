//! What stands in the folder beside the segments: the lock, and the file that names format and store.

use super::errors::{damaged, io_error};
use crate::{
    StoreError,
    files::{Files, Guard},
};
use types::StoreId;
use uuid::Uuid;

/// The version of the folder, its segments and their frames.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The folder of the fold.
pub(crate) const FOLD: &str = "fold";
const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
/// There only if damage was found while the store was in use.
const DAMAGED: &str = "DAMAGED";
const FORMAT_NEW: &str = "FORMAT.new";
const FORMAT_MAX_BYTES: usize = 4096;
const TITLE: &str = "hearth log store";

/// Keeps other processes out.
///
/// # Errors
/// `InUse` when one is in already.
pub(crate) fn lock(files: &dyn Files) -> Result<Box<dyn Guard>, StoreError> {
    match files.lock(LOCK).map_err(|error| io_error("cannot lock", LOCK, &error))? {
        Some(guard) => Ok(guard),
        None => Err(StoreError::InUse { folder: files.path().to_string_lossy().into() }),
    }
}

/// Notes durably that the store is not what was written, so that no opening passes over it.
pub(crate) fn condemn(files: &dyn Files, why: &StoreError) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| io_error("cannot write", DAMAGED, &error);
    let file = files.create(DAMAGED).map_err(failed)?;
    file.write_at(0, why.to_string().as_bytes()).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    files.sync_folder().map_err(failed)
}

/// # Errors
/// `Damaged` for a store of which that was noted.
pub(crate) fn check_sound(files: &dyn Files) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| io_error("cannot read", DAMAGED, &error);
    let file = match files.open(DAMAGED) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed)?,
    };
    let mut why = vec![0; FORMAT_MAX_BYTES];
    let read = file.read_at(0, &mut why).map_err(failed)?;
    Err(damaged(DAMAGED, 0, &format!("while it was in use: {}", String::from_utf8_lossy(&why[..read]))))
}

/// Reads the format file, or writes the first one into a folder that holds no segment.
///
/// # Errors
/// `Version` for a folder of another version, `Damaged` for one that cannot be told.
pub(crate) fn identify(files: &dyn Files, has_segments: bool) -> Result<StoreId, StoreError> {
    match files.open(FORMAT) {
        Ok(file) => {
            let mut bytes = vec![0; FORMAT_MAX_BYTES];
            let read =
                file.read_at(0, &mut bytes).map_err(|error| io_error("cannot read", FORMAT, &error))?;
            parse(&bytes[..read])
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if has_segments {
                return Err(damaged(FORMAT, 0, "it is missing, and there are segments"));
            }
            let id = StoreId::from(Uuid::new_v4());
            write(files, id)?;
            Ok(id)
        }
        Err(error) => Err(io_error("cannot open", FORMAT, &error)),
    }
}

fn write(files: &dyn Files, id: StoreId) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| io_error("cannot write", FORMAT, &error);
    let file = files.create(FORMAT_NEW).map_err(failed)?;
    file.write_at(0, text(FORMAT_VERSION, id).as_bytes()).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    files.rename(FORMAT_NEW, FORMAT).map_err(failed)?;
    files.sync_folder().map_err(failed)
}

fn text(version: u32, id: StoreId) -> String {
    let body = format!("{TITLE}\nversion {version}\nstore {id}\n");
    let crc = crc32c::crc32c(body.as_bytes());
    format!("{body}crc32c {crc:08x}\n")
}

fn parse(bytes: &[u8]) -> Result<StoreId, StoreError> {
    let bad = |at: usize, what: &str| damaged(FORMAT, at as u64, what);
    let text_found = std::str::from_utf8(bytes).map_err(|error| bad(error.valid_up_to(), "it is no text"))?;
    let mut lines = text_found.lines();
    if lines.next() != Some(TITLE) {
        return Err(bad(0, "it does not begin with the title of a log store"));
    }
    let version_at = TITLE.len() + 1;
    let version = lines.next().and_then(|line| line.strip_prefix("version ")?.parse::<u32>().ok());
    let version = version.ok_or_else(|| bad(version_at, "it names no version"))?;
    // Another version may write the rest otherwise, so the version is judged before the rest.
    if version != FORMAT_VERSION {
        return Err(StoreError::Version { file: FORMAT.into(), found: version, known: FORMAT_VERSION });
    }
    let id_at = text_found.find("store ").unwrap_or(version_at);
    let id = lines.next().and_then(|line| line.strip_prefix("store ")?.parse::<StoreId>().ok());
    let id = id.ok_or_else(|| bad(id_at, "it names no store"))?;
    if text_found != text(version, id) {
        return Err(bad(id_at, "its checksum does not match"));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_file_names_version_and_store() {
        let id = StoreId::from_bytes([7; 16]);
        assert_eq!(parse(text(FORMAT_VERSION, id).as_bytes()), Ok(id));
        let newer = parse(text(FORMAT_VERSION + 1, id).as_bytes()).expect_err("a newer one");
        assert!(matches!(newer, StoreError::Version { found: 2, known: 1, .. }), "{newer}");
    }

    #[test]
    fn each_flipped_byte_of_a_format_file_is_noticed() {
        let whole = text(FORMAT_VERSION, StoreId::from_bytes([7; 16]));
        for at in 0..whole.len() {
            let mut flipped = whole.clone().into_bytes();
            flipped[at] ^= 1;
            assert!(parse(&flipped).is_err(), "byte {at}");
        }
    }
}
