//! How every program here uses redb: a small cache, and commits that are on the disk when they return.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io,
    ops::{Bound, Range},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{
    BackendError, Builder, Database, DatabaseError, StorageBackend, TransactionError, WriteTransaction,
    backends::FileBackend,
};

use crate::durable::not_durable;

/// Memory for a database's pages, in bytes: the working set is the operating system's to keep. redb's own default is a
/// gigabyte.
pub const CACHE_BYTES_MAX: usize = 32 << 20;

/// How a database is made or opened.
pub fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES_MAX);
    builder
}

/// Opens a database, or makes it, in which an fsync that failed is never taken for a full disk ([`crate::durable::is_full`]).
///
/// # Errors
/// If the file cannot be opened, is open already, or is no database.
pub fn open_telling_faults(path: &Path, create: bool) -> Result<Database, DatabaseError> {
    builder().create_with_backend(telling_faults(path, create)?)
}

/// The file of such a database, for a builder with options of its own. Mind that redb makes a database in a file that is empty.
///
/// # Errors
/// If the file cannot be opened, or is there and should not be.
pub fn telling_faults(path: &Path, create: bool) -> Result<impl StorageBackend, DatabaseError> {
    let file = OpenOptions::new().read(true).write(true).create_new(create).open(path)?;
    Ok(Telling(FileBackend::new(file)?))
}

/// A database's file that is read and never written: what would be written stays in memory. Opening a database writes to it,
/// so this is how one is opened where there is no room. Whatever is read from it is on the disk: an earlier program or an
/// earlier write may have left it in the system's memory alone.
///
/// # Errors
/// If the file's length cannot be read, or what is in it cannot be made durable.
pub fn unwritten<F: StorageBackend>(file: F) -> io::Result<impl StorageBackend> {
    file.sync_data()?;
    let length = file.len()?;
    Ok(Unwritten(file, Mutex::new(Changes { length, of_file: length, blocks: HashMap::new() })))
}

type Lock = Result<(), BackendError>;

/// The locks of a store that is made of another one.
macro_rules! locks_of_the_first_field {
    () => {
        fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.0.try_lock_range(start, end)
        }

        fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.0.try_lock_shared_range(start, end)
        }

        fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock {
            self.0.lock_range(start, end)
        }

        fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock {
            self.0.lock_shared_range(start, end)
        }

        fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock {
            self.0.unlock_range(start, end)
        }

        fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.0.query_lock_range(start, end)
        }
    };
}

/// A file whose failed fsync says that it was one.
#[derive(Debug)]
struct Telling(FileBackend);

impl StorageBackend for Telling {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data().map_err(not_durable)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    locks_of_the_first_field!();
}

/// What is changed in memory is kept in blocks of so many bytes.
const BLOCK_BYTES: u64 = 4096;

/// A file, and what would have been written to it.
#[derive(Debug)]
struct Unwritten<F>(F, Mutex<Changes>);

#[derive(Debug)]
struct Changes {
    /// How long the file would be.
    length: u64,
    /// How much of the file still counts.
    of_file: u64,
    /// Blocks that differ from the file's, by their number.
    blocks: HashMap<u64, Vec<u8>>,
}

/// The part of a range of bytes that lies in one block: the block's number, where in the block, where in the range.
type Part = (u64, Range<usize>, Range<usize>);

/// The parts of the range that begins at `offset`, block by block.
fn parts(offset: u64, bytes: usize) -> impl Iterator<Item = Part> {
    let end = offset + bytes as u64;
    (offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).map(move |block| {
        let start = block * BLOCK_BYTES;
        let (from, to) = (start.max(offset), (start + BLOCK_BYTES).min(end));
        let within = |base: u64| (from - base) as usize..(to - base) as usize;
        (block, within(start), within(offset))
    })
}

impl<F: StorageBackend> Unwritten<F> {
    /// Changes are whole after every statement that makes one, so those left by a panicking thread are as good as any.
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file's own bytes, and zeros where it has none.
    fn read_file(&self, of_file: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = of_file.saturating_sub(offset).min(out.len() as u64) as usize;
        let (there, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if there.is_empty() { Ok(()) } else { self.0.read(offset, there) }
    }
}

impl<F: StorageBackend> StorageBackend for Unwritten<F> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > changes.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(changes.of_file, offset, out)?;
        for (block, within, at) in parts(offset, out.len()) {
            if let Some(changed) = changes.blocks.get(&block) {
                out[at].copy_from_slice(&changed[within]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changes = self.changes();
        changes.length = len;
        changes.of_file = changes.of_file.min(len);
        changes.blocks.retain(|block, bytes| {
            let rest = len.saturating_sub(block * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
            bytes[rest..].fill(0);
            rest > 0
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes();
        let of_file = changes.of_file;
        changes.length = changes.length.max(offset + data.len() as u64);
        for (block, within, at) in parts(offset, data.len()) {
            if let Some(changed) = changes.blocks.get_mut(&block) {
                changed[within].copy_from_slice(&data[at]);
                continue;
            }
            let mut changed = vec![0; BLOCK_BYTES as usize];
            self.read_file(of_file, block * BLOCK_BYTES, &mut changed)?;
            changed[within].copy_from_slice(&data[at]);
            changes.blocks.insert(block, changed);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    locks_of_the_first_field!();
}

/// Begins a write whose commit fsyncs (redb's default), in two phases, so that no crash can leave a torn commit that looks
/// whole; and with what a quick repair after a crash needs.
///
/// # Errors
/// If the database has failed before.
pub fn begin_write(database: &Database) -> Result<WriteTransaction, TransactionError> {
    let mut write = database.begin_write()?;
    write.set_two_phase_commit(true);
    write.set_quick_repair(true);
    Ok(write)
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("table");

    #[test]
    fn what_is_opened_without_being_written_reads_the_same_and_leaves_the_file_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.redb");
        let database = open_telling_faults(&path, true).unwrap();
        let put = |database: &Database, value: u64| {
            let write = begin_write(database).unwrap();
            write.open_table(TABLE).unwrap().insert(1, value).unwrap();
            write.commit().unwrap();
        };
        let get = |database: &Database| {
            let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
            table.get(1).unwrap().unwrap().value()
        };
        put(&database, 7);
        // As a killed program leaves it.
        let killed = std::fs::read(&path).unwrap();
        drop(database);
        std::fs::write(&path, &killed).unwrap();
        let file = unwritten(telling_faults(&path, false).unwrap()).unwrap();
        let aside = builder().set_check_integrity_on_open(true).create_with_backend(file).unwrap();
        assert_eq!(get(&aside), 7);
        put(&aside, 8);
        assert_eq!(get(&aside), 8);
        assert!(open_telling_faults(&path, false).is_err(), "it is locked all the same");
        drop(aside);
        assert!(std::fs::read(&path).unwrap() == killed, "it was written");
        assert_eq!(get(&open_telling_faults(&path, false).unwrap()), 7);
    }

    #[test]
    fn blocks_in_memory_lie_over_the_file_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut shown: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
        std::fs::write(&path, &shown).unwrap();
        let file = unwritten(telling_faults(&path, false).unwrap()).unwrap();
        let check = |shown: &[u8]| {
            let mut all = vec![1; shown.len()];
            file.read(0, &mut all).unwrap();
            assert!(all == shown && file.len().unwrap() == shown.len() as u64);
            assert!(file.read(1, &mut all).is_err());
        };
        check(&shown);
        for (offset, bytes) in [(4000, 5000), (0, 1), (9999, 1), (4096, 4096), (17, 0)] {
            file.write(offset as u64, &vec![9; bytes]).unwrap();
            shown[offset..offset + bytes].fill(9);
            check(&shown);
        }
        // What was cut off comes back as zeros.
        for length in [9000, 12_000, 4500, 20_000, 0, 5] {
            file.set_len(length as u64).unwrap();
            shown.resize(length, 0);
            check(&shown);
        }
    }
}
