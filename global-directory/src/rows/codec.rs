//! One byte of format, then JSON.

use crate::kv::Error;
use serde::{Serialize, de::DeserializeOwned};

const FORMAT: u8 = 1;

/// Encodes a row.
///
/// # Errors
/// [`Error::Engine`] when it has no JSON form.
pub fn encode<T: Serialize + ?Sized>(row: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, row)
        .map_err(|error| Error::Engine { what: "encode", why: error.to_string() })?;
    Ok(bytes)
}

/// Decodes the row that stands under `key`.
///
/// # Errors
/// [`Error`] names the key.
pub fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, Error> {
    match bytes.split_first() {
        Some((&FORMAT, json)) => serde_json::from_slice(json)
            .map_err(|error| Error::Damaged { key: printable(key), why: error.to_string() }),
        Some((&format, _)) if format > FORMAT => {
            Err(Error::NewerFormat { key: printable(key), format, known: FORMAT })
        }
        Some(_) | None => Err(Error::Damaged { key: printable(key), why: "it names no format".into() }),
    }
}

fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_or_newer_row_is_named() {
        let row = encode(&7u32).expect("encodable");
        assert_eq!(decode::<u32>(b"p1", &row), Ok(7));
        let error = decode::<u32>(b"p\x01", &row[..1]).expect_err("cut off");
        assert!(error.to_string().starts_with("directory store: row p\\x01 is damaged"), "{error}");
        let error = decode::<u32>(b"p1", &[9, b'7']).expect_err("from the future");
        assert_eq!(error.to_string(), "directory store: row p1 has format 9, and this version reads up to 1");
        decode::<u32>(b"p1", &[]).expect_err("empty");
    }
}
