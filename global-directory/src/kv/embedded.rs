//! The rows in one redb file: copy-on-write B-tree, one writer, checksummed, fsync per commit.

use super::{Error, Kv, Pair, ReadBody, Transaction, View, WriteBody};
use crate::bounds;
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase as _, ReadableTable, Table, TableDefinition,
};
use std::{path::Path, sync::Arc};

const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");

/// One redb database. Only one process can have it open.
#[derive(Debug)]
pub struct Embedded {
    database: Database,
}

impl Embedded {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// [`Error`] names the path.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut options = Database::builder();
        options.set_cache_size(bounds::CACHE_BYTES);
        let database = options
            .create(path)
            .map_err(|error| Error::Engine { what: "open", why: format!("{}: {error}", path.display()) })?;
        let setup = database.begin_write().map_err(failed("begin"))?;
        setup.open_table(ROWS).map_err(failed("create the table"))?;
        setup.commit().map_err(failed("commit"))?;
        Ok(Self { database })
    }
}

impl Embedded {
    fn commit(&self, durability: Durability, body: &mut WriteBody<'_>) -> Result<(), Error> {
        let mut transaction = self.database.begin_write().map_err(failed("begin"))?;
        transaction.set_durability(durability).map_err(failed("begin"))?;
        let done = {
            let table = transaction.open_table(ROWS).map_err(failed("open the table"))?;
            body(&mut Writing(table))
        };
        match done {
            Ok(()) => transaction.commit().map_err(failed("commit")),
            Err(error) => {
                transaction.abort().map_err(failed("roll back"))?;
                Err(error)
            }
        }
    }
}

impl Kv for Embedded {
    fn write(&self, body: &mut WriteBody<'_>) -> Result<(), Error> {
        self.commit(Durability::Immediate, body)
    }

    fn write_soon(&self, body: &mut WriteBody<'_>) -> Result<(), Error> {
        self.commit(Durability::None, body)
    }

    fn view(&self) -> Result<Arc<dyn View>, Error> {
        let transaction = self.database.begin_read().map_err(failed("begin"))?;
        Ok(Arc::new(Kept(transaction.open_table(ROWS).map_err(failed("open the table"))?)))
    }

    fn read(&self, body: &mut ReadBody<'_>) -> Result<(), Error> {
        let transaction = self.database.begin_read().map_err(failed("begin"))?;
        let table = transaction.open_table(ROWS).map_err(failed("open the table"))?;
        body(&Reading(table))
    }
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Engine { what, why: error.to_string() }
}

fn get(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, Error> {
    Ok(table.get(key).map_err(failed("get"))?.map(|value| value.value().to_vec()))
}

fn range(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    start: &[u8],
    end: &[u8],
    limit: usize,
) -> Result<Vec<Pair>, Error> {
    if start >= end {
        return Ok(Vec::new());
    }
    let pairs = table.range(start..end).map_err(failed("range"))?;
    pairs
        .take(limit)
        .map(|pair| {
            let (key, value) = pair.map_err(failed("range"))?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        })
        .collect()
}

struct Writing<'a>(Table<'a, &'static [u8], &'static [u8]>);

impl Transaction for Writing<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        get(&self.0, key)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.0.insert(key, value).map_err(failed("put"))?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.0.remove(key).map_err(failed("delete"))?;
        Ok(())
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        range(&self.0, start, end, limit)
    }
}

struct Reading<T>(T);

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Transaction for Reading<T> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        get(&self.0, key)
    }

    fn put(&mut self, _: &[u8], _: &[u8]) -> Result<(), Error> {
        Err(Error::Engine { what: "put", why: "the transaction only reads".into() })
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Error> {
        Err(Error::Engine { what: "delete", why: "the transaction only reads".into() })
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        range(&self.0, start, end, limit)
    }
}

struct Kept(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl View for Kept {
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        range(&self.0, start, end, limit)
    }
}
