//! How every program here uses redb: a small cache, and commits that are on the disk when they return.

use redb::{Builder, Database, TransactionError, WriteTransaction};

/// Memory for a database's pages, in bytes: the working set is the operating system's to keep. redb's own default is a
/// gigabyte.
pub const CACHE_BYTES_MAX: usize = 32 << 20;

/// How a database is made or opened.
pub fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES_MAX);
    builder
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
