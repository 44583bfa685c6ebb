//! Writes held back: a command runs on an overlay, so that one which is refused leaves no trace in the
//! transaction that it shares with others.

use super::{Error, Pair, Transaction};
use std::collections::BTreeMap;

/// A transaction inside a transaction.
pub struct Overlay<'a> {
    base: &'a mut dyn Transaction,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Overlay<'a> {
    /// Starts with no writes of its own.
    pub fn new(base: &'a mut dyn Transaction) -> Self {
        Self { base, writes: BTreeMap::new() }
    }

    /// Hands the writes on to the transaction underneath; dropping the overlay forgets them.
    ///
    /// # Errors
    /// [`Error`] of the transaction underneath.
    pub fn keep(self) -> Result<(), Error> {
        for (key, value) in self.writes {
            match value {
                Some(value) => self.base.put(&key, &value)?,
                None => self.base.delete(&key)?,
            }
        }
        Ok(())
    }
}

impl Transaction for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.base.get(key),
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.writes.insert(key.to_vec(), Some(value.to_vec()));
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.writes.insert(key.to_vec(), None);
        Ok(())
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let own: Vec<_> = self.writes.range(start.to_vec()..end.to_vec()).collect();
        let deleted = own.iter().filter(|(_, value)| value.is_none()).count();
        // Each own deletion can hide one pair of the base, so that many more are needed to fill the limit.
        let mut pairs: BTreeMap<_, _> =
            self.base.range(start, end, limit.saturating_add(deleted))?.into_iter().collect();
        for (key, value) in own {
            match value {
                Some(value) => pairs.insert(key.clone(), value.clone()),
                None => pairs.remove(key),
            };
        }
        Ok(pairs.into_iter().take(limit).collect())
    }
}
