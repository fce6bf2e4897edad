//! Rows in redb: the default. A commit returns when it is on the disk (two-phase commit, quick repair on the next start).
//!
//! After a write that failed, redb neither writes nor reads any more: the file is to be opened again ([`Rows::reopen`]).

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use waymark_runtime::database::{begin_write, open_telling_faults};

use super::{
    Purge, Rows, SealedRow, Staged, StoreError, decode_purge, decode_row, decode_staged, encode_purge, encode_row,
    encode_staged, keys_above, row_key,
};

const ROWS: TableDefinition<'_, &'static [u8], &'static [u8]> = TableDefinition::new("rows");
const PURGES: TableDefinition<'_, &'static [u8], &'static [u8]> = TableDefinition::new("purges");
const STAGED: TableDefinition<'_, (), &[u8]> = TableDefinition::new("staged");

/// Rows in a redb database.
pub struct RedbRows {
    path: PathBuf,
    /// `None` between a failed opening and the next one.
    database: RwLock<Option<Database>>,
}

/// Readers of the database, who hold up its being opened again.
struct Open<'a>(RwLockReadGuard<'a, Option<Database>>);

fn fault(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => StoreError::Io { path: PathBuf::from("the record store"), error },
        other => StoreError::Database(other.to_string()),
    }
}

impl Open<'_> {
    fn database(&self) -> Result<&Database, StoreError> {
        self.0.as_ref().ok_or_else(|| StoreError::Database("it could not be opened again".to_owned()))
    }

    fn write(&self) -> Result<redb::WriteTransaction, StoreError> {
        begin_write(self.database()?).map_err(fault)
    }

    fn table(&self, which: TableDefinition<'_, &'static [u8], &'static [u8]>) -> Result<Table, StoreError> {
        self.database()?.begin_read().map_err(fault)?.open_table(which).map_err(fault)
    }
}

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

fn insert_rows(write: &redb::WriteTransaction, rows: &[SealedRow]) -> Result<(), StoreError> {
    let mut table = write.open_table(ROWS).map_err(fault)?;
    for row in rows {
        let key = row_key(&row.csi_key, row.version);
        table.insert(&key[..], &encode_row(row)[..]).map_err(fault)?;
    }
    Ok(())
}

impl RedbRows {
    /// Makes a new database.
    ///
    /// # Errors
    /// [`StoreError`], also if there is one already.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        if path.exists() {
            return Err(StoreError::Database(format!("{} is there already", path.display())));
        }
        let rows = Self::with(path, open_telling_faults(path, true).map_err(fault)?);
        let write = rows.open_now().write()?;
        write.open_table(ROWS).map_err(fault)?;
        write.open_table(STAGED).map_err(fault)?;
        write.open_table(PURGES).map_err(fault)?;
        write.commit().map_err(fault)?;
        Ok(rows)
    }

    /// Opens a database that is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::with(path, open_telling_faults(path, false).map_err(fault)?))
    }

    fn with(path: &Path, database: Database) -> Self {
        Self { path: path.to_owned(), database: RwLock::new(Some(database)) }
    }

    fn open_now(&self) -> Open<'_> {
        Open(self.database.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Rows for RedbRows {
    fn stage(&self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError> {
        let open = self.open_now();
        let write = open.write()?;
        {
            insert_rows(&write, rows)?;
            let mut table = write.open_table(PURGES).map_err(fault)?;
            for purge in purges {
                let key = row_key(&purge.csi_key, purge.below);
                table.insert(&key[..], &encode_purge(purge)[..]).map_err(fault)?;
            }
            let mut table = write.open_table(STAGED).map_err(fault)?;
            table.insert((), &encode_staged(staged)[..]).map_err(fault)?;
        }
        write.commit().map_err(fault)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The file is locked as long as it is open.
        drop(database.take());
        *database = Some(open_telling_faults(&self.path, false).map_err(fault)?);
        Ok(())
    }

    fn purges(&self) -> Result<Vec<Purge>, StoreError> {
        let open = self.open_now();
        let table = open.table(PURGES)?;
        let mut purges = Vec::new();
        for item in table.iter().map_err(fault)? {
            let (key, value) = item.map_err(fault)?;
            purges.push(decode_purge(key.value(), value.value())?);
        }
        Ok(purges)
    }

    fn purge(&self, stubs: &[SealedRow], purge: &Purge, done: bool) -> Result<(), StoreError> {
        let open = self.open_now();
        let write = open.write()?;
        {
            insert_rows(&write, stubs)?;
            let mut table = write.open_table(PURGES).map_err(fault)?;
            let key = row_key(&purge.csi_key, purge.below);
            if done {
                table.remove(&key[..]).map_err(fault)?;
            } else {
                table.insert(&key[..], &encode_purge(purge)[..]).map_err(fault)?;
            }
        }
        write.commit().map_err(fault)
    }

    fn staged(&self) -> Result<Option<Staged>, StoreError> {
        let open = self.open_now();
        let read = open.database()?.begin_read().map_err(fault)?;
        let table = read.open_table(STAGED).map_err(fault)?;
        let stored = table.get(()).map_err(fault)?;
        stored.map(|s| decode_staged(s.value())).transpose()
    }

    fn row(&self, csi_key: &[u8; 32], version: u32) -> Result<Option<SealedRow>, StoreError> {
        let open = self.open_now();
        let table = open.table(ROWS)?;
        let key = row_key(csi_key, version);
        let stored = table.get(&key[..]).map_err(fault)?;
        stored.map(|s| decode_row(&key, s.value())).transpose()
    }

    fn for_each(&self, each: &mut dyn FnMut(SealedRow)) -> Result<(), StoreError> {
        let open = self.open_now();
        let table = open.table(ROWS)?;
        for item in table.iter().map_err(fault)? {
            let (key, value) = item.map_err(fault)?;
            each(decode_row(key.value(), value.value())?);
        }
        Ok(())
    }

    fn drop_above(&self, size: u64) -> Result<u64, StoreError> {
        let keys = keys_above(self, size)?;
        let purges: Vec<Purge> = self.purges()?.into_iter().filter(|p| p.size > size).collect();
        let open = self.open_now();
        let write = open.write()?;
        {
            let mut table = write.open_table(ROWS).map_err(fault)?;
            for key in &keys {
                table.remove(&key[..]).map_err(fault)?;
            }
            let mut table = write.open_table(PURGES).map_err(fault)?;
            for purge in &purges {
                table.remove(&row_key(&purge.csi_key, purge.below)[..]).map_err(fault)?;
            }
        }
        write.commit().map_err(fault)?;
        Ok(keys.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.redb");
        super::super::conformance::run(&RedbRows::create(&path).unwrap());
        assert!(RedbRows::create(&path).is_err());
        assert!(RedbRows::open(&path).unwrap().staged().unwrap().is_some());
        assert!(RedbRows::open(&folder.path().join("none")).is_err());
    }
}
