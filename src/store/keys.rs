//! One key for each stretch of a CSI's rows, so that rows can be made unreadable where they lie.
//!
//! ```text
//! "waymark row keys"  (16 bytes)  |  key[32]  for each slot, in order; zeros: shredded
//! ```
//!
//! A database that is written by copying keeps old pages until they are used again, and so do its backups. So deleting a row is
//! deleting its key: the slot is overwritten where it is and synced. A slot is used for one CSI, from one erasure or tenure
//! to the next, and never again. What the file system or the disk beneath keep of overwritten blocks is theirs.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use waymark_runtime::random;
use zeroize::Zeroizing;

use super::StoreError;

const MAGIC: &[u8; 16] = b"waymark row keys";
const KEY_BYTES: u64 = 32;
const SHREDDED: [u8; 32] = [0; 32];

/// The file of row keys.
pub struct RowKeys {
    file: File,
    path: PathBuf,
    /// Number of slots.
    slots: Mutex<u64>,
}

impl RowKeys {
    /// Makes the file.
    ///
    /// # Errors
    /// [`StoreError`], also if there is one already.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let open = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = open.map_err(StoreError::io(path))?;
        file.write_all_at(MAGIC, 0).and_then(|()| file.sync_all()).map_err(StoreError::io(path))?;
        if let Some(folder) = path.parent() {
            waymark_runtime::durable::sync_folder(folder).map_err(StoreError::io(folder))?;
        }
        Ok(Self { file, path: path.to_owned(), slots: Mutex::new(0) })
    }

    /// Opens the file.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(StoreError::io(path))?;
        let mut magic = [0; 16];
        file.read_exact_at(&mut magic, 0).map_err(StoreError::io(path))?;
        if magic != *MAGIC {
            return Err(StoreError::Damaged(path.display().to_string()));
        }
        let bytes = file.metadata().map_err(StoreError::io(path))?.len() - MAGIC.len() as u64;
        // A slot that was half written when the power went was never used.
        Ok(Self { file, path: path.to_owned(), slots: Mutex::new(bytes / KEY_BYTES) })
    }

    fn at(slot: u64) -> u64 {
        MAGIC.len() as u64 + slot * KEY_BYTES
    }

    /// New keys for this many slots, durable before this returns. The slots are consecutive; the first is returned.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn allocate(&self, count: usize) -> Result<u64, StoreError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *slots;
        let mut keys = Zeroizing::new(Vec::with_capacity(count * SHREDDED.len()));
        (0..count).for_each(|_| keys.extend_from_slice(&random::bytes::<32>()));
        let written = self.file.write_all_at(&keys, Self::at(first)).and_then(|()| self.file.sync_data());
        written.map_err(StoreError::io(&self.path))?;
        *slots += count as u64;
        Ok(first)
    }

    /// How many there are, shredded ones included.
    pub fn slots(&self) -> u64 {
        *self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key in a slot, `None` if it was shredded.
    ///
    /// # Errors
    /// [`StoreError`]; for a slot that there never was, [`StoreError::Damaged`].
    pub fn get(&self, slot: u64) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
        let mut key = Zeroizing::new([0; 32]);
        match self.file.read_exact_at(&mut *key, Self::at(slot)) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(StoreError::Damaged(self.path.display().to_string()));
            }
            read => read.map_err(StoreError::io(&self.path))?,
        }
        Ok((*key != SHREDDED).then_some(key))
    }

    /// Overwrites keys where they lie. Doing it again does nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn shred(&self, slots: &[u64]) -> Result<(), StoreError> {
        let known = self.slots();
        for slot in slots.iter().filter(|s| **s < known) {
            self.file.write_all_at(&SHREDDED, Self::at(*slot)).map_err(StoreError::io(&self.path))?;
        }
        self.file.sync_data().map_err(StoreError::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shredded_key_is_nowhere_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("row.keys");
        let keys = RowKeys::create(&path).unwrap();
        assert!(RowKeys::create(&path).is_err());
        assert_eq!((keys.allocate(2).unwrap(), keys.allocate(1).unwrap()), (0, 2));
        let lost = keys.get(1).unwrap().unwrap();
        keys.shred(&[1, 7]).unwrap();
        let keys = RowKeys::open(&path).unwrap();
        assert!(keys.get(0).unwrap().is_some() && keys.get(1).unwrap().is_none() && keys.get(2).unwrap().is_some());
        assert!(matches!(keys.get(3), Err(StoreError::Damaged(_))));
        assert_eq!(keys.allocate(1).unwrap(), 3);
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(32).any(|w| w == *lost));
    }

    #[test]
    fn a_slot_that_was_half_written_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("row.keys");
        RowKeys::create(&path).unwrap().allocate(2).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(16 + 32 + 7).unwrap();
        let keys = RowKeys::open(&path).unwrap();
        assert_eq!(keys.allocate(1).unwrap(), 1);
        assert!(keys.get(1).unwrap().is_some());
    }
}
