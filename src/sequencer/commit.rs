//! One batch, made durable and signed: a column of effects, each with the consequence of dying right after it.
//!
//! 0. **judge**  as monitors do ([`super::sound`]).              Fail here: nothing was written; the log goes on without it.
//! 1. **stage**  the tiles and rows, in one durable commit.      Die here: nothing was signed; the next start drops it.
//! 2. **check**  by code that shares nothing with `batch`.       Fail here: nothing was signed.
//! 3. **sign**                                                   Die here: nobody has seen the signature.
//! 4. **swap**   the signed head, compare-and-swap, fsync.       Die here: sequenced; the next start applies the staging.
//! 5. **apply**  tiles to the public folder.                     Die here: the next start applies them again.
//! 6. **publish** the checkpoint, once it is cosigned.           Die here: the next start has it cosigned again.
//!
//! Any error from 1 on ends the work with what is in memory: what is on the disk is then unknown, and only reading it back tells, at the
//! next start or, after a full disk, when there is room again (`room`).
//! Recovery ([`super::recover`]) and the fault tests run these same functions.

use std::{io, sync::Arc};

use waymark_log::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    hash::{Hash, leaf_hash},
    note::NoteSigner,
    proof::{self, ProofError},
    tile::{HashTiles, TILE_WIDTH, Tile, decode_bundle},
};

use super::sound::Sound;
use crate::store::{Head, LogFiles, Purge, Rows, SealedRow, Staged, StoreError};

/// Why a commit stopped. Whatever it was, nothing is signed before the disk was read back.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A store failed, and what it holds is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The staged batch does not extend what was signed before. Nothing was signed.
    #[error("refusing to sign: the new tree does not extend the signed one ({0})")]
    NotAnExtension(String),
}

/// What a commit does to the world. The DP's own is [`Disk`]; tests put one in front that fails.
pub trait Effects {
    /// Stores the staged batch, its rows and what is to be deleted, in one durable commit.
    ///
    /// # Errors
    /// [`StoreError`].
    fn stage(&mut self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError>;

    /// A tile of the log as it was before the batch.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read_tile(&mut self, tile: Tile) -> Result<(Tile, Vec<u8>), StoreError>;

    /// Replaces the signed head.
    ///
    /// # Errors
    /// [`StoreError`]; whether it was replaced is then not known.
    fn swap_head(&mut self, old: Option<&str>, new: &str) -> Result<(), StoreError>;

    /// Writes the tiles to the public folder.
    ///
    /// # Errors
    /// [`StoreError`].
    fn write_tiles(&mut self, files: &[(Tile, Vec<u8>)]) -> Result<(), StoreError>;

    /// Replaces the published checkpoint by one that is cosigned.
    ///
    /// # Errors
    /// [`StoreError`]; whether it was replaced is then not known.
    fn publish(&mut self, note: &str) -> Result<(), StoreError>;
}

/// A step of the sequencer for which the disk is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// [`Effects::stage`].
    Stage,
    /// [`Effects::swap_head`].
    SwapHead,
    /// [`Effects::write_tiles`].
    WriteTiles,
    /// [`Effects::publish`].
    Publish,
    /// Looking whether there is room again.
    Room,
}

/// When a step is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before anything is done: a fault here has written nothing.
    Before,
    /// When all is done: a fault here has written everything.
    After,
}

/// Says at each step whether the disk fails: tests have it. A DP's own disk is asked itself.
pub type Hindrance = Arc<dyn Fn(Step, When) -> io::Result<()> + Send + Sync>;

/// The stores of a running DP, with what tests put in front of them.
pub struct Hindered<'a> {
    /// The stores.
    pub disk: Disk<'a>,
    /// What hinders them.
    pub by: Option<&'a Hindrance>,
}

impl Hindered<'_> {
    /// Whether a step fails.
    ///
    /// # Errors
    /// The fault.
    pub fn ask(&self, step: Step, when: When) -> Result<(), StoreError> {
        let asked = self.by.map_or(Ok(()), |hindrance| hindrance(step, when));
        asked.map_err(|error| StoreError::Io { path: "the disk".into(), error })
    }

    fn around(
        &mut self,
        step: Step,
        effect: impl FnOnce(&mut Disk<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.ask(step, When::Before)?;
        effect(&mut self.disk)?;
        self.ask(step, When::After)
    }
}

impl Effects for Hindered<'_> {
    fn stage(&mut self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError> {
        self.around(Step::Stage, |disk| disk.stage(staged, rows, purges))
    }

    fn read_tile(&mut self, tile: Tile) -> Result<(Tile, Vec<u8>), StoreError> {
        self.disk.read_tile(tile)
    }

    fn swap_head(&mut self, old: Option<&str>, new: &str) -> Result<(), StoreError> {
        self.around(Step::SwapHead, |disk| disk.swap_head(old, new))
    }

    fn write_tiles(&mut self, files: &[(Tile, Vec<u8>)]) -> Result<(), StoreError> {
        self.around(Step::WriteTiles, |disk| disk.write_tiles(files))
    }

    fn publish(&mut self, note: &str) -> Result<(), StoreError> {
        self.around(Step::Publish, |disk| disk.publish(note))
    }
}

/// The stores of a DP.
pub struct Disk<'a> {
    /// Records and staging.
    pub rows: &'a dyn Rows,
    /// The signed head.
    pub head: &'a Head,
    /// The public folder.
    pub files: &'a LogFiles,
}

impl Effects for Disk<'_> {
    fn stage(&mut self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError> {
        self.rows.stage(staged, rows, purges)
    }

    fn read_tile(&mut self, tile: Tile) -> Result<(Tile, Vec<u8>), StoreError> {
        self.files.read(tile)
    }

    fn swap_head(&mut self, old: Option<&str>, new: &str) -> Result<(), StoreError> {
        self.head.swap(old, new)
    }

    fn write_tiles(&mut self, files: &[(Tile, Vec<u8>)]) -> Result<(), StoreError> {
        self.files.write(files)
    }

    fn publish(&mut self, note: &str) -> Result<(), StoreError> {
        self.files.publish(note)
    }
}

/// Makes a batch durable, checks it, signs it, and applies it.
///
/// `old` is the signed head so far: its note as stored and its checkpoint, `None` for a log that is being opened.
///
/// # Errors
/// [`CommitError`], after which the caller must not go on with what it has in memory.
pub fn commit(
    effects: &mut impl Effects,
    sound: &Sound,
    rows: &[SealedRow],
    purges: &[Purge],
    old: Option<(&str, &Checkpoint)>,
    signer: &NoteSigner,
) -> Result<SignedCheckpoint, CommitError> {
    let batch = sound.batch();
    let new = &batch.checkpoint;
    let staged = Staged { size: new.size, root: *new.root.as_bytes(), files: batch.files.clone() };
    effects.stage(&staged, rows, purges)?;
    check_extends(effects, &staged, old.map(|(_, c)| c), new, &batch.entries)?;
    let signed = SignedCheckpoint::sign(new.clone(), signer);
    effects.swap_head(old.map(|(note, _)| note), &signed.to_note(&[]))?;
    effects.write_tiles(&staged.files)?;
    Ok(signed)
}

/// Checks, from the staged bytes and the tiles on the disk, that the new tree extends the signed one and holds just these
/// entries. It uses the RFC 9162 verifiers and none of the code that computed the batch: a flipped bit in memory between
/// hashing and signing shows here.
fn check_extends(
    effects: &mut impl Effects,
    staged: &Staged,
    old: Option<&Checkpoint>,
    new: &Checkpoint,
    entries: &[Vec<u8>],
) -> Result<(), CommitError> {
    let not_an_extension = |what: &str| CommitError::NotAnExtension(what.to_owned());
    let mut tiles = Tiles { effects, staged: &staged.files, hashes: HashTiles::default() };
    let old_size = old.map_or(0, |c| c.size);
    if old.is_some_and(|c| c.origin != new.origin) || old_size + entries.len() as u64 != new.size {
        return Err(not_an_extension("another origin or size"));
    }
    if let Some(old) = old.filter(|c| c.size > 0) {
        let plan = proof::consistency(old.size, new.size).map_err(|e| not_an_extension(&e.to_string()))?;
        let built = tiles.build(&plan, new.size)?;
        proof::verify_consistency(old.size, new.size, &old.root, &new.root, &built)
            .map_err(|e| not_an_extension(&e.to_string()))?;
    }
    // Each new entry, hashed again from the bytes that will be served, must be the leaf at its index.
    for (index, entry) in (old_size..).zip(entries) {
        if tiles.entry(index, new.size)? != *entry || tiles.leaf(index, new.size)? != leaf_hash(entry) {
            return Err(not_an_extension("a staged entry is not the one that was hashed"));
        }
    }
    // And the last of them, by its path, leads to the root that is about to be signed.
    let last = new.size.checked_sub(1).ok_or_else(|| not_an_extension("an empty log"))?;
    let plan = proof::inclusion(last, new.size).map_err(|e| not_an_extension(&e.to_string()))?;
    let path = tiles.build(&plan, new.size)?;
    let leaf = tiles.leaf(last, new.size)?;
    proof::verify_inclusion(last, new.size, &leaf, &path, &new.root).map_err(|e| not_an_extension(&e.to_string()))
}

/// Tiles as they will be: the staged ones, then those on the disk.
struct Tiles<'a, E: Effects> {
    effects: &'a mut E,
    staged: &'a [(Tile, Vec<u8>)],
    hashes: HashTiles,
}

impl<E: Effects> Tiles<'_, E> {
    fn bytes(&mut self, wanted: Tile) -> Result<(Tile, Vec<u8>), CommitError> {
        let same = |t: &Tile| t.kind == wanted.kind && t.index == wanted.index && t.width >= wanted.width;
        match self.staged.iter().filter(|(t, _)| same(t)).max_by_key(|(t, _)| t.width) {
            Some((tile, bytes)) => Ok((*tile, bytes.clone())),
            None => Ok(self.effects.read_tile(wanted)?),
        }
    }

    fn node(&mut self, node: proof::Node, size: u64) -> Result<Hash, CommitError> {
        let fault = |tile: Tile| move |error| StoreError::Tile { path: tile.path(), error };
        let wanted = Tile::holding(node, size).ok_or_else(|| StoreError::Missing("a node".to_owned()))?;
        if !self.hashes.has(wanted) {
            let (tile, bytes) = self.bytes(wanted)?;
            self.hashes.insert(tile, &bytes).map_err(fault(tile))?;
        }
        Ok(self.hashes.node(node).map_err(fault(wanted))?)
    }

    fn leaf(&mut self, index: u64, size: u64) -> Result<Hash, CommitError> {
        self.node(proof::Node { level: 0, index }, size)
    }

    fn build(&mut self, plan: &proof::Plan, size: u64) -> Result<Vec<Hash>, CommitError> {
        let nodes: Vec<_> = plan.nodes().collect();
        let hashes = nodes.into_iter().map(|n| self.node(n, size)).collect::<Result<Vec<_>, _>>()?;
        plan.build(&hashes).map_err(|e: ProofError| CommitError::NotAnExtension(e.to_string()))
    }

    fn entry(&mut self, index: u64, size: u64) -> Result<Vec<u8>, CommitError> {
        let wanted = Tile::bundle_of(index, size).ok_or_else(|| StoreError::Missing("a bundle".to_owned()))?;
        let (tile, bytes) = self.bytes(wanted)?;
        let fault = |error| StoreError::Tile { path: tile.path(), error };
        let entries = decode_bundle(&bytes, tile.width).map_err(fault)?;
        Ok(entries.get((index % TILE_WIDTH) as usize).map(|e| e.to_vec()).unwrap_or_default())
    }
}
