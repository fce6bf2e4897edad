//! From what is on the disk to a log that may go on, or a refusal that says why not.
//!
//! | signed head | staged batch | published checkpoint | then |
//! |---|---|---|---|
//! | none | - | - | not initialised: refuse |
//! | H | above H, and nothing else is above H | at most H | its batch was never signed: a start drops its rows |
//! | H | above H, and more than one batch is, or its tiles are published | at most H | the head is older than the records, a restore: refuse |
//! | H | at H | at most H | apply its tiles again |
//! | H | below H | - | the record store is older than the head, a restore: refuse |
//! | H | - | above H, or at H with another root | the head is older than what was published, a restore: refuse |
//!
//! **Only a start deletes anything, and never more than one batch.** At most one batch is staged and not signed, since each start drops it before
//! another one is staged; and its tiles are written only after its head. A program that only looks ([`read_back`]) leaves it where it is.
//!
//! Then every entry is read, hashed, and judged by the code that monitors run. A log that would give a monitor a finding
//! is not continued, unless the operator has accepted just that finding ([`super::accepted`]).

use std::{collections::HashMap, fmt};

use waymark_log::{
    checkpoint::{Checkpoint, CheckpointError, Origin, SignedCheckpoint},
    hash::Hash,
    note::{Note, Vkey},
    tile::{Edge, Tile, TileError, TileKind},
};
use waymark_mapping::audit::Audited;

use super::{
    accepted::{Accepted, Found},
    batch::LogState,
};
use crate::store::{Head, LogFiles, RowKeys, Rows, StoreError};

/// Why a DP does not start.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no log here.
    #[error("there is no log here; `waymark-dp init` makes one")]
    NotInitialised,
    /// The head is not ours.
    #[error("the signed head is not by this log's key and origin: {0}")]
    NotOurs(CheckpointError),
    /// The published checkpoint is newer than the head.
    #[error(
        "the published checkpoint ({published} entries) is newer than the signed head ({head}): an old head was restored. \
         Signing now could fork the log; restore the newest head, or retire this log"
    )]
    HeadIsOld {
        /// Size of the head.
        head: u64,
        /// Size of the published checkpoint.
        published: u64,
    },
    /// The head is older than the records or the tiles.
    #[error(
        "the signed head ends at {head} entries, but batches up to {staged} entries were signed after it, as records and tiles on this disk \
         show: an old head was restored. Nothing was deleted. Put back the newest `head`, or restore the newest backup"
    )]
    HeadIsOlderThanRecords {
        /// Size of the head.
        head: u64,
        /// Size of the staged batch.
        staged: u64,
    },
    /// The row keys are older than the records.
    #[error(
        "row.keys has {keys} keys, and a record needs the one in slot {slot}: an old row.keys was restored, or it was cut off. Nothing was \
         changed. Put back the newest row.keys, or restore the newest backup: with this one, a new record would get a key that another has"
    )]
    RowKeysAreOld {
        /// Keys that there are.
        keys: u64,
        /// The largest slot in use.
        slot: u64,
    },
    /// The record store is older than the head.
    #[error(
        "the record store ends at {rows} entries and the signed head at {head}: an old record store was restored. \
         Acknowledged records are missing; restore the newest store"
    )]
    RowsAreOld {
        /// Size of the head.
        head: u64,
        /// Size of the staged batch.
        rows: u64,
    },
    /// Two trees of one size.
    #[error("two different trees of {0} entries are on this disk: refusing to go on")]
    Fork(u64),
    /// The entries are damaged.
    #[error("the log on the disk is not what was signed: {0}")]
    Damaged(String),
    /// Monitors find fault with the log, and nobody has accepted it.
    #[error(transparent)]
    Findings(Findings),
}

/// What monitors find wrong with the log, and what its operator has not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(pub Vec<Found>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "monitors find fault with this log: ")?;
        for found in &self.0 {
            write!(f, "{found}; ")?;
        }
        f.write_str(if self.0.iter().all(Found::can_be_accepted) {
            "it is not continued unless you accept that: see `waymark-dp accept-findings`"
        } else {
            "such a log is never continued. Restore the newest backup, or retire this log"
        })
    }
}

impl std::error::Error for Findings {}

impl From<TileError> for RecoverError {
    fn from(error: TileError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// A log that may go on.
#[derive(Debug)]
pub struct Recovered {
    /// Its state.
    pub state: LogState,
    /// The signed head's note as stored.
    pub head_note: String,
    /// The signed head.
    pub signed: SignedCheckpoint,
    /// The last head's path as the last leaf.
    pub head_path: Vec<Hash>,
    /// The latest version of each CSI.
    pub latest: HashMap<[u8; 32], u32>,
}

/// What is on the disk, read and judged.
#[derive(Debug)]
pub struct ReadBack {
    /// The log's state, as monitors have it.
    pub state: LogState,
    /// The signed head's note as stored.
    pub head_note: String,
    /// The signed head.
    pub signed: SignedCheckpoint,
    /// The last head's path as the last leaf.
    pub head_path: Vec<Hash>,
    /// What monitors find wrong with it.
    pub found: Vec<Found>,
    /// Whether a batch is staged that was never signed: rows above the head do not count.
    pub is_unsigned_staged: bool,
}

/// Reads everything back, for a log that is to go on. A batch that was never signed is dropped, at the very end.
///
/// # Errors
/// [`RecoverError`].
pub fn recover(
    rows: &dyn Rows,
    keys: &RowKeys,
    head: &Head,
    files: &LogFiles,
    origin: &Origin,
    vkey: &Vkey,
    accepted: &Accepted,
) -> Result<Recovered, RecoverError> {
    let read = read_accepted(rows, head, files, origin, vkey, accepted)?;
    let size = read.signed.size();
    let (mut latest, mut slot) = (HashMap::new(), None);
    rows.for_each(&mut |row| {
        slot = slot.max(Some(row.slot));
        if row.size <= size {
            let version = latest.entry(row.csi_key).or_insert(row.version);
            *version = row.version.max(*version);
        }
    })?;
    check_row_keys(rows, keys, slot)?;
    if read.is_unsigned_staged {
        let dropped = rows.drop_above(size)?;
        tracing::warn!(dropped, "a batch that was staged and never signed is dropped");
    }
    let ReadBack { state, head_note, signed, head_path, .. } = read;
    Ok(Recovered { state, head_note, signed, head_path, latest })
}

/// Reads everything back, and refuses what a start would refuse. Deletes nothing.
///
/// # Errors
/// [`RecoverError`].
pub fn read_accepted(
    rows: &dyn Rows,
    head: &Head,
    files: &LogFiles,
    origin: &Origin,
    vkey: &Vkey,
    accepted: &Accepted,
) -> Result<ReadBack, RecoverError> {
    let mut read = read_back(rows, head, files, origin, vkey)?;
    let found = std::mem::take(&mut read.found);
    let (accepted, refused): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|f| accepted.contains(f));
    if !refused.is_empty() {
        return Err(RecoverError::Findings(Findings(refused)));
    }
    for found in &accepted {
        tracing::warn!(%found, "monitors find fault with this log, and its operator has accepted that");
    }
    read.found = accepted;
    Ok(read)
}

/// Checks that every slot in use is in the file of row keys. `slot` is the largest of all rows.
///
/// A slot behind its end would be given out a second time, and one erasure would then take another person's records along.
///
/// # Errors
/// [`RecoverError::RowKeysAreOld`].
pub fn check_row_keys(rows: &dyn Rows, keys: &RowKeys, slot: Option<u64>) -> Result<(), RecoverError> {
    let purges = match rows.purges() {
        // It is skipped and counted when it is due.
        Err(StoreError::Damaged(_)) => Vec::new(),
        purges => purges?,
    };
    let (keys, slot) = (keys.slots(), purges.iter().flat_map(|p| p.slots.iter().copied()).max().max(slot));
    slot.filter(|slot| *slot >= keys).map_or(Ok(()), |slot| Err(RecoverError::RowKeysAreOld { keys, slot }))
}

/// Reads everything back and judges it, whatever comes of that. The tiles of a signed batch are applied, as at each start; nothing is deleted.
///
/// # Errors
/// [`RecoverError`], but no findings.
pub fn read_back(
    rows: &dyn Rows,
    head: &Head,
    files: &LogFiles,
    origin: &Origin,
    vkey: &Vkey,
) -> Result<ReadBack, RecoverError> {
    let head_note = head.load()?.ok_or(RecoverError::NotInitialised)?;
    let signed = open_note(head_note.as_bytes(), origin, vkey)?;
    check_published(files, &signed)?;
    let is_unsigned_staged = look_at_staging(rows, files, &signed)?;
    let (state, head_path, found) = judge(files, origin, vkey, signed.checkpoint())?;
    Ok(ReadBack { state, head_note, signed, head_path, found, is_unsigned_staged })
}

fn open_note(note: &[u8], origin: &Origin, vkey: &Vkey) -> Result<SignedCheckpoint, RecoverError> {
    let note = Note::parse(note).map_err(|e| RecoverError::NotOurs(e.into()))?;
    SignedCheckpoint::open(&note, origin, std::slice::from_ref(vkey)).map_err(RecoverError::NotOurs)
}

fn check_published(files: &LogFiles, signed: &SignedCheckpoint) -> Result<(), RecoverError> {
    let Some(note) = files.checkpoint()? else { return Ok(()) };
    let note = Note::parse(&note).map_err(|e| RecoverError::Damaged(format!("checkpoint: {e}")))?;
    let published = Checkpoint::parse(note.text()).map_err(|e| RecoverError::Damaged(format!("checkpoint: {e}")))?;
    if published.size > signed.size() {
        return Err(RecoverError::HeadIsOld { head: signed.size(), published: published.size });
    }
    if published.size == signed.size() && published.root != *signed.root() {
        return Err(RecoverError::Fork(signed.size()));
    }
    Ok(())
}

/// Applies a batch that was signed; says whether there is one that was not.
fn look_at_staging(rows: &dyn Rows, files: &LogFiles, signed: &SignedCheckpoint) -> Result<bool, RecoverError> {
    let size = signed.size();
    let staged = rows.staged()?.ok_or(RecoverError::RowsAreOld { head: size, rows: 0 })?;
    if staged.size < size {
        return Err(RecoverError::RowsAreOld { head: size, rows: staged.size });
    }
    if staged.size > size {
        check_unsigned(rows, files, size, staged.size)?;
        return Ok(true);
    }
    if staged.root != *signed.root().as_bytes() {
        return Err(RecoverError::Fork(size));
    }
    files.write(&staged.files)?;
    Ok(false)
}

/// Checks that what is above the head is one batch, and that nothing shows that it was signed.
fn check_unsigned(rows: &dyn Rows, files: &LogFiles, head: u64, staged: u64) -> Result<(), RecoverError> {
    let is_other = |size: u64| size > head && size != staged;
    let mut others = rows.purges()?.iter().filter(|purge| is_other(purge.size)).count();
    rows.for_each(&mut |row| others += usize::from(is_other(row.size)))?;
    // Only after its head is signed are a batch's entries written.
    let is_applied = match Tile::bundle_of(staged - 1, staged).map(|bundle| files.read(bundle)) {
        None | Some(Err(StoreError::Missing(_))) => false,
        Some(read) => read.map(|_| true)?,
    };
    let is_old = others > 0 || is_applied;
    if is_old { Err(RecoverError::HeadIsOlderThanRecords { head, staged }) } else { Ok(()) }
}

fn judge(
    files: &LogFiles,
    origin: &Origin,
    vkey: &Vkey,
    head: &Checkpoint,
) -> Result<(LogState, Vec<Hash>, Vec<Found>), RecoverError> {
    let mut entries = Vec::new();
    files.entries(head.size, |entry| entries.push(entry))?;
    let (edge, head_path) = rebuild(files, &entries)?;
    if edge.root() != head.root {
        return Err(RecoverError::Damaged("the entries do not lead to the signed root".to_owned()));
    }
    let log_key = *vkey.ed25519().ok_or_else(|| RecoverError::Damaged("the log's key is not Ed25519".to_owned()))?;
    let mut audited = Audited::new(origin.clone(), log_key);
    let step = audited.extend(&entries, head.size, &head.root);
    if let Some(index) = step.not_supported.first() {
        return Err(RecoverError::Damaged(format!("entry {index} is not supported by this program")));
    }
    let found = step.findings.into_iter().map(|finding| Found::new(finding, &entries)).collect();
    Ok((LogState { audited, edge }, head_path, found))
}

/// Makes from the entries every tile of hashes that a checkpoint of this size needs, and the last one's path: a tile on the
/// disk that says something else would be served to monitors as ours.
fn rebuild(files: &LogFiles, entries: &[Vec<u8>]) -> Result<(Edge, Vec<Hash>), RecoverError> {
    let (mut edge, mut path, mut made) = (Edge::new(), Vec::new(), Vec::new());
    for entry in entries {
        if edge.size() + 1 == entries.len() as u64 {
            path = edge.range().path_of_next();
        }
        edge.append(entry, |tile, bytes| made.push((tile, bytes)))?;
        made.drain(..).try_for_each(|(tile, bytes)| is_on_disk(files, tile, &bytes))?;
    }
    edge.partials(0).into_iter().try_for_each(|(tile, bytes)| is_on_disk(files, tile, &bytes))?;
    Ok((edge, path))
}

/// Whether the disk has this tile, or one that begins like it. The entries themselves were just read from there.
fn is_on_disk(files: &LogFiles, tile: Tile, bytes: &[u8]) -> Result<(), RecoverError> {
    if tile.kind == TileKind::Entries {
        return Ok(());
    }
    let (read, on_disk) = files.read(tile)?;
    if on_disk.starts_with(bytes) { Ok(()) } else { Err(RecoverError::Damaged(format!("{} has changed", read.path()))) }
}
