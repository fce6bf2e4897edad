//! From what is on the disk to a log that may go on, or a refusal that says why not.
//!
//! | signed head | staged batch | published checkpoint | then |
//! |---|---|---|---|
//! | none | - | - | not initialised: refuse |
//! | H | above H | at most H | its batch was never signed: drop its rows |
//! | H | at H | at most H | apply its tiles again |
//! | H | below H | - | the record store is older than the head, a restore: refuse |
//! | H | - | above H, or at H with another root | the head is older than what was published, a restore: refuse |
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
use crate::store::{Head, LogFiles, Rows, StoreError};

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
}

/// Reads everything back, for a log that is to go on.
///
/// # Errors
/// [`RecoverError`].
pub fn recover(
    rows: &dyn Rows,
    head: &Head,
    files: &LogFiles,
    origin: &Origin,
    vkey: &Vkey,
    accepted: &Accepted,
) -> Result<Recovered, RecoverError> {
    let ReadBack { state, head_note, signed, head_path, found } = read_back(rows, head, files, origin, vkey)?;
    let (accepted, refused): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|f| accepted.contains(f));
    if !refused.is_empty() {
        return Err(RecoverError::Findings(Findings(refused)));
    }
    for found in accepted {
        tracing::warn!(%found, "monitors find fault with this log, and its operator has accepted that");
    }
    let mut latest = HashMap::new();
    rows.for_each(&mut |row| {
        let version = latest.entry(row.csi_key).or_insert(row.version);
        *version = row.version.max(*version);
    })?;
    Ok(Recovered { state, head_note, signed, head_path, latest })
}

/// Reads everything back and judges it, whatever comes of that. A staged batch is settled, as at each start.
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
    settle_staging(rows, files, &signed)?;
    let (state, head_path, found) = judge(files, origin, vkey, signed.checkpoint())?;
    Ok(ReadBack { state, head_note, signed, head_path, found })
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

/// Drops a batch that was never signed, or applies one that was.
fn settle_staging(rows: &dyn Rows, files: &LogFiles, signed: &SignedCheckpoint) -> Result<(), RecoverError> {
    let size = signed.size();
    let staged = rows.staged()?.ok_or(RecoverError::RowsAreOld { head: size, rows: 0 })?;
    if staged.size < size {
        return Err(RecoverError::RowsAreOld { head: size, rows: staged.size });
    }
    if staged.size > size {
        let dropped = rows.drop_above(size)?;
        tracing::warn!(dropped, "a batch that was staged and never signed is dropped");
        return Ok(());
    }
    if staged.root != *signed.root().as_bytes() {
        return Err(RecoverError::Fork(size));
    }
    Ok(files.write(&staged.files)?)
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
