//! The rows in memory, for tests and simulations: a commit is a swap of the map.

use super::{Error, Kv, Pair, ReadBody, Transaction, View, WriteBody};
use parking_lot::RwLock;
use std::{collections::BTreeMap, sync::Arc};

/// An ordered map behind the transaction trait.
#[derive(Debug, Default)]
pub struct Memory {
    rows: RwLock<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    committed: Arc<Map>,
    durable: Arc<Map>,
}

impl Memory {
    /// Loses what is not durable, as a machine that fails does.
    pub fn crash(&self) {
        let mut rows = self.rows.write();
        rows.committed = rows.durable.clone();
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

impl Transaction for Map {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.remove(key);
        Ok(())
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let range = BTreeMap::range(self, start.to_vec()..end.to_vec());
        Ok(range.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl View for Map {
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        Transaction::range(self, start, end, limit)
    }
}

impl Kv for Memory {
    fn blocks(&self) -> bool {
        false
    }

    fn write(&self, body: &mut WriteBody<'_>) -> Result<(), Error> {
        self.write_soon(body)?;
        let mut rows = self.rows.write();
        rows.durable = rows.committed.clone();
        Ok(())
    }

    fn write_soon(&self, body: &mut WriteBody<'_>) -> Result<(), Error> {
        let mut rows = self.rows.write();
        let mut next = Map::clone(&rows.committed);
        body(&mut next)?;
        rows.committed = Arc::new(next);
        Ok(())
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        Ok(self.rows.read().committed.clone())
    }

    fn read(&self, body: &mut ReadBody<'_>) -> Result<(), Error> {
        body(&*self.rows.read().committed)
    }
}
