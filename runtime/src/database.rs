//! How every program here uses redb: a small cache, and commits that are on the disk when they return.

use std::{fs::OpenOptions, io, ops::Bound, path::Path};

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
    let file = OpenOptions::new().read(true).write(true).create_new(create).open(path)?;
    builder().create_with_backend(Telling(FileBackend::new(file)?))
}

/// A file whose failed fsync says that it was one.
#[derive(Debug)]
struct Telling(FileBackend);

type Lock = Result<(), BackendError>;

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
