//! Rows in redb: the default. A commit returns when it is on the disk (two-phase commit, quick repair on the next start).

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use waymark_runtime::database::{begin_write, builder};

use super::{
    Purge, Rows, SealedRow, Staged, StoreError, decode_purge, decode_row, decode_staged, encode_purge, encode_row,
    encode_staged, keys_above, row_key,
};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const PURGES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("purges");
const STAGED: TableDefinition<'_, (), &[u8]> = TableDefinition::new("staged");

/// Rows in a redb database.
pub struct RedbRows {
    database: Database,
}

fn fault(error: impl std::fmt::Display) -> StoreError {
    StoreError::Database(error.to_string())
}

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
        let rows = Self { database: builder().create(path).map_err(fault)? };
        let write = rows.write()?;
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
        Ok(Self { database: builder().open(path).map_err(fault)? })
    }

    fn write(&self) -> Result<redb::WriteTransaction, StoreError> {
        begin_write(&self.database).map_err(fault)
    }
}

impl Rows for RedbRows {
    fn stage(&self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError> {
        let write = self.write()?;
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

    fn purges(&self) -> Result<Vec<Purge>, StoreError> {
        let read = self.database.begin_read().map_err(fault)?;
        let table = read.open_table(PURGES).map_err(fault)?;
        let mut purges = Vec::new();
        for item in table.iter().map_err(fault)? {
            let (key, value) = item.map_err(fault)?;
            purges.push(decode_purge(key.value(), value.value())?);
        }
        Ok(purges)
    }

    fn purge(&self, stubs: &[SealedRow], purge: &Purge, done: bool) -> Result<(), StoreError> {
        let write = self.write()?;
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
        let read = self.database.begin_read().map_err(fault)?;
        let table = read.open_table(STAGED).map_err(fault)?;
        let stored = table.get(()).map_err(fault)?;
        stored.map(|s| decode_staged(s.value())).transpose()
    }

    fn row(&self, csi_key: &[u8; 32], version: u32) -> Result<Option<SealedRow>, StoreError> {
        let read = self.database.begin_read().map_err(fault)?;
        let table = read.open_table(ROWS).map_err(fault)?;
        let key = row_key(csi_key, version);
        let stored = table.get(&key[..]).map_err(fault)?;
        stored.map(|s| decode_row(&key, s.value())).transpose()
    }

    fn for_each(&self, each: &mut dyn FnMut(SealedRow)) -> Result<(), StoreError> {
        let read = self.database.begin_read().map_err(fault)?;
        let table = read.open_table(ROWS).map_err(fault)?;
        for item in table.iter().map_err(fault)? {
            let (key, value) = item.map_err(fault)?;
            each(decode_row(key.value(), value.value())?);
        }
        Ok(())
    }

    fn drop_above(&self, size: u64) -> Result<u64, StoreError> {
        let keys = keys_above(self, size)?;
        let purges: Vec<Purge> = self.purges()?.into_iter().filter(|p| p.size > size).collect();
        let write = self.write()?;
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
