//! Rows in sled, for those who ask for it. **Not durable**: sled 0.34's flush does not fsync on Linux, and in real power cuts
//! it lost acknowledged writes or would not reopen. Never under a signed head; the DP warns at every start.

use std::path::Path;

use sled::transaction::{TransactionError, Transactional};

use super::{
    Purge, Rows, SealedRow, Staged, StoreError, decode_purge, decode_row, decode_staged, encode_purge, encode_row,
    encode_staged, keys_above, row_key,
};

/// Rows in a sled database.
pub struct SledRows {
    database: sled::Db,
    rows: sled::Tree,
    staged: sled::Tree,
    purges: sled::Tree,
}

fn fault(error: impl std::fmt::Display) -> StoreError {
    StoreError::Database(error.to_string())
}

impl SledRows {
    /// Opens or makes a database.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = sled::open(path).map_err(fault)?;
        let rows = database.open_tree("rows").map_err(fault)?;
        let staged = database.open_tree("staged").map_err(fault)?;
        let purges = database.open_tree("purges").map_err(fault)?;
        Ok(Self { database, rows, staged, purges })
    }
}

impl Rows for SledRows {
    fn stage(&self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError> {
        let write = (&self.rows, &self.staged, &self.purges).transaction(|(table, slot, waiting)| {
            for purge in purges {
                waiting.insert(&row_key(&purge.csi_key, purge.below)[..], encode_purge(purge))?;
            }
            for row in rows {
                table.insert(&row_key(&row.csi_key, row.version)[..], encode_row(row))?;
            }
            slot.insert("", encode_staged(staged))?;
            Ok(())
        });
        write.map_err(|e: TransactionError<()>| fault(format!("{e:?}")))?;
        self.database.flush().map_err(fault)?;
        Ok(())
    }

    fn purges(&self) -> Result<Vec<Purge>, StoreError> {
        let decode = |item: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = item.map_err(fault)?;
            decode_purge(&key, &value)
        };
        self.purges.iter().map(decode).collect()
    }

    fn purge(&self, stubs: &[SealedRow], purge: &Purge, done: bool) -> Result<(), StoreError> {
        let write = (&self.rows, &self.purges).transaction(|(table, waiting)| {
            for row in stubs {
                table.insert(&row_key(&row.csi_key, row.version)[..], encode_row(row))?;
            }
            let key = row_key(&purge.csi_key, purge.below);
            if done {
                waiting.remove(&key[..])?;
            } else {
                waiting.insert(&key[..], encode_purge(purge))?;
            }
            Ok(())
        });
        write.map_err(|e: TransactionError<()>| fault(format!("{e:?}")))?;
        self.database.flush().map_err(fault)?;
        Ok(())
    }

    fn staged(&self) -> Result<Option<Staged>, StoreError> {
        self.staged.get("").map_err(fault)?.map(|s| decode_staged(&s)).transpose()
    }

    fn row(&self, csi_key: &[u8; 32], version: u32) -> Result<Option<SealedRow>, StoreError> {
        let key = row_key(csi_key, version);
        self.rows.get(key).map_err(fault)?.map(|s| decode_row(&key, &s)).transpose()
    }

    fn for_each(&self, each: &mut dyn FnMut(SealedRow)) -> Result<(), StoreError> {
        for item in &self.rows {
            let (key, value) = item.map_err(fault)?;
            each(decode_row(&key, &value)?);
        }
        Ok(())
    }

    fn drop_above(&self, size: u64) -> Result<u64, StoreError> {
        let keys = keys_above(self, size)?;
        for key in &keys {
            self.rows.remove(key).map_err(fault)?;
        }
        for purge in self.purges()?.iter().filter(|p| p.size > size) {
            self.purges.remove(row_key(&purge.csi_key, purge.below)).map_err(fault)?;
        }
        self.database.flush().map_err(fault)?;
        Ok(keys.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        let folder = tempfile::tempdir().unwrap();
        super::super::conformance::run(&SledRows::open(folder.path()).unwrap());
    }
}
