//! What a DP keeps, in stores with opposite promises.
//!
//! | store | holds | trusted with |
//! |---|---|---|
//! | [`Head`] | the last signed checkpoint, one small checksummed file | never forgetting what was signed |
//! | [`Rows`] | records, openings, the staged batch; one commit a batch | not losing what was acknowledged |
//! | [`RowKeys`] | a key for each stretch of a CSI's rows | forgetting what it is told to forget |
//! | [`LogFiles`] | tiles and bundles, immutable public files | nothing: everything in them is re-hashed |
//!
//! `Rows` has two implementations behind one conformance suite. redb is the default: two-phase commit with quick repair,
//! fsync before a commit returns. sled is offered behind a cargo feature for those who ask, minus durability: its flush
//! does not fsync on Linux. It never holds a signed head.

mod files;
mod head;
mod keys;
mod redb;
pub mod seal;
#[cfg(feature = "sled")]
mod sled;

use std::{io, path::PathBuf};

use waymark_log::{
    tile::{Tile, TileError},
    time::UnixMillis,
};
use waymark_runtime::durable;

#[cfg(feature = "sled")]
pub use self::sled::SledRows;
pub use self::{files::LogFiles, head::Head, keys::RowKeys, redb::RedbRows};

/// A fault of a store. Whoever meets one while committing stops: what is on the disk is then not known.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The database.
    #[error("the record store: {0}")]
    Database(String),
    /// Stored bytes are not what was written.
    #[error("{0} is damaged")]
    Damaged(String),
    /// The head is not the one that was to be replaced: somebody else writes here.
    #[error("the signed head is not the one expected: is a second DP running on this data?")]
    HeadMoved,
    /// A tile is missing or has another form.
    #[error("{path}: {error}")]
    Tile {
        /// Which.
        path: String,
        /// What is wrong.
        error: TileError,
    },
    /// A row whose key was deleted.
    #[error("the row was deleted")]
    Shredded,
    /// A tile that a checkpoint needs is not there.
    #[error("{0} is missing")]
    Missing(String),
}

impl StoreError {
    /// Whether the disk was full, and nothing else.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { error, .. } if durable::is_full(error))
    }

    fn io(path: &std::path::Path) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::Io { path: path.to_owned(), error }
    }
}

/// One version of one CSI, sealed: the DP's own key is needed to say whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRow {
    /// Keyed hash of the CSI.
    pub csi_key: [u8; 32],
    /// The version.
    pub version: u32,
    /// Size of the log at the head that made it: a row above the signed head does not count.
    pub size: u64,
    /// The slot of its row key.
    pub slot: u64,
    /// The sealed record.
    pub sealed: Vec<u8>,
}

/// Versions of a CSI whose payload is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Keyed hash of the CSI.
    pub csi_key: [u8; 32],
    /// All versions below this one.
    pub below: u32,
    /// From when on.
    pub due: UnixMillis,
    /// Size of the log at the head that called for it: a purge above the signed head does not count.
    pub size: u64,
    /// The slots to be shredded, once the rows are stubs; empty before.
    pub slots: Vec<u64>,
}

/// Everything that one batch writes, staged durably before anything is signed.
///
/// Applying it is idempotent, so that recovery runs the same code as the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Size of the log with the batch.
    pub size: u64,
    /// Its root.
    pub root: [u8; 32],
    /// Tiles and bundles, full ones and those that a checkpoint of this size needs.
    pub files: Vec<(Tile, Vec<u8>)>,
}

/// Records and the staged batch.
pub trait Rows: Send + Sync {
    /// Stores a batch, its rows and purges in one durable commit, in place of the batch staged before.
    ///
    /// # Errors
    /// [`StoreError`]: whether anything was written is then not known.
    fn stage(&self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError>;

    /// Opens the store again after a write that failed, so that it holds what is on the disk. Readers wait for that.
    ///
    /// # Errors
    /// [`StoreError`]: the store then answers nothing, until this is called again and goes well.
    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// All purges that are not done.
    ///
    /// # Errors
    /// [`StoreError`].
    fn purges(&self) -> Result<Vec<Purge>, StoreError>;

    /// Puts stubs in the place of rows and writes the purge down with its slots, in one durable commit; with `done`, removes it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn purge(&self, stubs: &[SealedRow], purge: &Purge, done: bool) -> Result<(), StoreError>;

    /// The batch that was staged last.
    ///
    /// # Errors
    /// [`StoreError`]; damage is never taken for absence.
    fn staged(&self) -> Result<Option<Staged>, StoreError>;

    /// One row.
    ///
    /// # Errors
    /// [`StoreError`].
    fn row(&self, csi_key: &[u8; 32], version: u32) -> Result<Option<SealedRow>, StoreError>;

    /// All rows, in order of key and version.
    ///
    /// # Errors
    /// [`StoreError`].
    fn for_each(&self, each: &mut dyn FnMut(SealedRow)) -> Result<(), StoreError>;

    /// Removes rows and purges that were staged for a size above `size`: their batch was never signed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn drop_above(&self, size: u64) -> Result<u64, StoreError>;
}

/// The keys of rows that were staged for a size above `size`.
fn keys_above(rows: &dyn Rows, size: u64) -> Result<Vec<[u8; 36]>, StoreError> {
    let mut keys = Vec::new();
    rows.for_each(&mut |row| {
        if row.size > size {
            keys.push(row_key(&row.csi_key, row.version));
        }
    })?;
    Ok(keys)
}

/// Where rows lie in an ordered store: key, then version.
fn row_key(csi_key: &[u8; 32], version: u32) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(csi_key);
    key[32..].copy_from_slice(&version.to_be_bytes());
    key
}

/// ```text
/// uint64 size | uint64 slot | sealed
/// ```
fn encode_row(row: &SealedRow) -> Vec<u8> {
    [&row.size.to_be_bytes()[..], &row.slot.to_be_bytes(), &row.sealed].concat()
}

fn decode_row(key: &[u8], value: &[u8]) -> Result<SealedRow, StoreError> {
    let damaged = || StoreError::Damaged("a row".to_owned());
    let (csi_key, version) = key.split_first_chunk::<32>().ok_or_else(damaged)?;
    let version = u32::from_be_bytes(version.try_into().map_err(|_| damaged())?);
    let (size, rest) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (slot, sealed) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (size, slot) = (u64::from_be_bytes(*size), u64::from_be_bytes(*slot));
    Ok(SealedRow { csi_key: *csi_key, version, size, slot, sealed: sealed.to_vec() })
}

/// ```text
/// uint64 due | uint64 size | uint64 slot, for each slot                key: csi_key | uint32 below
/// ```
fn encode_purge(purge: &Purge) -> Vec<u8> {
    let mut bytes = [purge.due.get().to_be_bytes(), purge.size.to_be_bytes()].concat();
    purge.slots.iter().for_each(|slot| bytes.extend_from_slice(&slot.to_be_bytes()));
    bytes
}

fn decode_purge(key: &[u8], value: &[u8]) -> Result<Purge, StoreError> {
    let damaged = || StoreError::Damaged("a purge".to_owned());
    let (csi_key, below) = key.split_first_chunk::<32>().ok_or_else(damaged)?;
    let below = u32::from_be_bytes(below.try_into().map_err(|_| damaged())?);
    let (numbers, rest) = value.as_chunks::<8>();
    let [due, size, slots @ ..] = numbers else { return Err(damaged()) };
    if !rest.is_empty() {
        return Err(damaged());
    }
    let (due, size) = (UnixMillis::new(u64::from_be_bytes(*due)), u64::from_be_bytes(*size));
    let slots = slots.iter().map(|s| u64::from_be_bytes(*s)).collect();
    Ok(Purge { csi_key: *csi_key, below, due, size, slots })
}

/// ```text
/// blake3 checksum line | uint64 size | root[32] | uint32 number of files
///   uint16 length, path | uint32 length, bytes          for each
/// ```
fn encode_staged(staged: &Staged) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&staged.size.to_be_bytes());
    bytes.extend_from_slice(&staged.root);
    bytes.extend_from_slice(&(staged.files.len() as u32).to_be_bytes());
    for (tile, content) in &staged.files {
        let path = tile.path();
        bytes.extend_from_slice(&(path.len() as u16).to_be_bytes());
        bytes.extend_from_slice(path.as_bytes());
        bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
        bytes.extend_from_slice(content);
    }
    durable::with_checksum(&bytes)
}

fn decode_staged(stored: &[u8]) -> Result<Staged, StoreError> {
    let damaged = || StoreError::Damaged("the staged batch".to_owned());
    let bytes = durable::check_checksum(stored).ok_or_else(damaged)?;
    parse_staged(bytes).ok_or_else(damaged)
}

fn parse_staged(bytes: &[u8]) -> Option<Staged> {
    let (size, rest) = bytes.split_first_chunk::<8>()?;
    let (root, rest) = rest.split_first_chunk::<32>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut files = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (path, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let (content, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        files.push((Tile::parse(std::str::from_utf8(path).ok()?)?, content.to_vec()));
        rest = after;
    }
    rest.is_empty().then_some(Staged { size: u64::from_be_bytes(*size), root: *root, files })
}

/// The conformance suite: every implementation of [`Rows`] passes it. Durability is not in it; see tests/crash.rs.
#[cfg(test)]
mod conformance {
    use waymark_log::tile::TileKind;

    use super::*;

    fn row(key: u8, version: u32, size: u64) -> SealedRow {
        SealedRow { csi_key: [key; 32], version, size, slot: u64::from(key), sealed: vec![key; usize::from(key)] }
    }

    fn staged(size: u64) -> Staged {
        let tile = Tile { kind: TileKind::Entries, index: 0, width: 3 };
        Staged { size, root: [size as u8; 32], files: vec![(tile, vec![1, 2, 3]), (tile.full(), vec![])] }
    }

    pub(super) fn run(rows: &dyn Rows) {
        assert_eq!(rows.staged().unwrap(), None);
        assert_eq!(rows.row(&[1; 32], 0).unwrap(), None);
        let purge = |below, size, slots| Purge { csi_key: [1; 32], below, due: UnixMillis::new(7), size, slots };
        rows.stage(&staged(10), &[row(2, 0, 10), row(1, 0, 10)], &[purge(0, 10, vec![])]).unwrap();
        rows.stage(&staged(20), &[row(1, 1, 20), row(3, 0, 20)], &[purge(1, 20, vec![])]).unwrap();
        assert_eq!(rows.purges().unwrap(), [purge(0, 10, vec![]), purge(1, 20, vec![])]);
        assert_eq!(rows.staged().unwrap(), Some(staged(20)));
        assert_eq!(rows.row(&[1; 32], 1).unwrap(), Some(row(1, 1, 20)));
        let all = || {
            let mut all = vec![];
            rows.for_each(&mut |r| all.push(r)).unwrap();
            all
        };
        assert_eq!(all(), [row(1, 0, 10), row(1, 1, 20), row(2, 0, 10), row(3, 0, 20)]);
        assert_eq!(rows.drop_above(10).unwrap(), 2);
        assert_eq!(all(), [row(1, 0, 10), row(2, 0, 10)]);
        assert_eq!(rows.purges().unwrap(), [purge(0, 10, vec![])]);
        let stub = SealedRow { sealed: vec![], ..row(1, 0, 10) };
        rows.purge(std::slice::from_ref(&stub), &purge(0, 10, vec![1, 2]), false).unwrap();
        assert_eq!((rows.purges().unwrap(), all()), (vec![purge(0, 10, vec![1, 2])], vec![stub, row(2, 0, 10)]));
        rows.purge(&[], &purge(0, 10, vec![1, 2]), true).unwrap();
        assert_eq!(rows.purges().unwrap(), []);
        rows.stage(&staged(30), &[], &[]).unwrap();
        assert_eq!((rows.staged().unwrap(), all().len()), (Some(staged(30)), 2));
    }

    #[test]
    fn every_flipped_bit_of_a_staged_batch_shows() {
        let stored = encode_staged(&staged(7));
        assert_eq!(decode_staged(&stored).unwrap(), staged(7));
        for bit in 0..stored.len() * 8 {
            let mut bytes = stored.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_staged(&bytes).is_err(), "bit {bit}");
        }
    }
}
