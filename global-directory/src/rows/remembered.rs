//! The answers of earlier commands, so that a retry after an unknown commit answers the same.
//!
//! They are bounded by number and by age. A retry that comes later than both is a new command; each of
//! those is checked against the rows again, so the worst that it meets is a refusal.

use super::{Rows, key, read, sequence_key};
use crate::{
    bounds,
    kv::{Error, Transaction},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::RequestId;

const ANSWER: u8 = b'r';
const ORDER: u8 = b'q';

#[derive(Serialize, Deserialize)]
struct Remembered<T> {
    at_ms: u64,
    answer: T,
}

/// What a request was answered before.
pub fn answer_of<T: DeserializeOwned>(tx: &dyn Transaction, request: RequestId) -> Result<Option<T>, Error> {
    let row: Option<Remembered<T>> = read(tx, &key(ANSWER, request.as_bytes()))?;
    Ok(row.map(|row| row.answer))
}

impl Rows<'_> {
    /// What this request was answered before.
    pub fn remembered<T: DeserializeOwned>(&self, request: RequestId) -> Result<Option<T>, Error> {
        answer_of(self.tx, request)
    }

    /// Keeps the answer of this request, and drops some that are too many or too old.
    pub fn remember<T: Serialize>(&mut self, request: RequestId, answer: T) -> Result<(), Error> {
        let sequence = self.meta.remembered_next;
        self.meta.remembered_next += 1;
        self.tx.put(
            &key(ANSWER, request.as_bytes()),
            &super::encode(&Remembered { at_ms: self.at_ms, answer })?,
        )?;
        self.tx.put(&sequence_key(ORDER, sequence), &super::encode(&(self.at_ms, request))?)?;
        for _ in 0..bounds::FORGET_PER_COMMAND {
            if !self.forget_oldest()? {
                break;
            }
        }
        Ok(())
    }

    fn forget_oldest(&mut self) -> Result<bool, Error> {
        let oldest = sequence_key(ORDER, self.meta.remembered_first);
        let Some((at_ms, request)) = read::<(u64, RequestId)>(self.tx, &oldest)? else { return Ok(false) };
        let count = self.meta.remembered_next - self.meta.remembered_first;
        let is_old = self.at_ms.saturating_sub(at_ms) > bounds::REMEMBERED_MS;
        let most = if is_old { bounds::REMEMBERED_MIN } else { bounds::REMEMBERED_MAX };
        if count <= most {
            return Ok(false);
        }
        self.tx.delete(&oldest)?;
        self.tx.delete(&key(ANSWER, request.as_bytes()))?;
        self.meta.remembered_first += 1;
        Ok(true)
    }
}
