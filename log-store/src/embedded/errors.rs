//! From what the operating system and fjall answer to the store's errors.

use super::folder::FOLD;
use crate::StoreError;
use std::io::{Error, ErrorKind};

/// Whether the disk, or a quota, has no room.
pub(crate) fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

pub(crate) fn io_error(what: &'static str, file: &str, error: &Error) -> StoreError {
    if is_full(error) {
        StoreError::Full { file: file.into() }
    } else {
        StoreError::Io { what, file: file.into(), error: error.to_string().into() }
    }
}

pub(crate) fn damaged(file: &str, at: u64, what: &str) -> StoreError {
    StoreError::Damaged { file: file.into(), at, what: what.into() }
}

pub(crate) fn closed(reason: impl AsRef<str>) -> StoreError {
    StoreError::Closed { reason: reason.as_ref().into() }
}

/// What fjall answers; the place inside its files is in its own words.
pub(crate) fn fold_error(what: &'static str, error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) => io_error(what, FOLD, &error),
        other => StoreError::Io { what, file: FOLD.into(), error: format!("{other:?}").into() },
    }
}
