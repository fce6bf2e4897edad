//! What the one writer has in memory, and its steps without time, threads and network: the sequencer's thread takes them, and so
//! do tests, with effects that fail.

use std::sync::Arc;

use rand_core::CryptoRng;
use waymark_log::{checkpoint::SignedCheckpoint, hash::Hash, note::NoteSigner, time::UnixMillis};

use super::{
    batch::{Batch, BatchError, Intake, LogState, MadeRow, Promise},
    commit::{CommitError, Effects, commit},
    sound::{Sound, Unsound},
};
use crate::{
    published::Snapshot,
    row::Kept,
    store::{
        Purge, SealedRow, StoreError,
        seal::{Place, Sealer},
    },
};

/// Computes a batch: [`super::batch::batch`], or in tests something that spoils what that computes.
pub type Make = fn(&LogState, Intake, UnixMillis, &mut dyn CryptoRng) -> Result<Batch, BatchError>;

/// Why a batch is not signed.
#[derive(Debug, thiserror::Error)]
pub enum Faulty {
    /// It could not be made.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Monitors would find fault with it.
    #[error(transparent)]
    Unsound(#[from] Unsound),
}

/// A batch that can be signed.
#[derive(Debug)]
pub struct Made {
    /// The batch.
    pub sound: Sound,
    /// Why the changes that were taken in are not among it, if they had to be dropped.
    pub dropped: Option<Faulty>,
}

/// The log and its signed head, in memory.
pub struct Writer {
    /// The log.
    pub state: LogState,
    /// Its signed head.
    pub signed: SignedCheckpoint,
    /// The signed head's note as stored.
    pub head_note: String,
    /// The last head's path as the last leaf.
    pub head_path: Vec<Hash>,
    /// Computes batches.
    pub make: Make,
}

impl Writer {
    /// Makes of an intake the batch that may be signed.
    ///
    /// A fault of ours must not end the log: where monitors would find fault with the batch, its changes are dropped, and if that
    /// does not help its other entries too. Heads go on, and nobody was told that a dropped change was made.
    ///
    /// # Errors
    /// [`Faulty`]: not even a head alone is good, so what is in memory is not what was signed.
    pub fn make(&self, intake: Intake, now: UnixMillis, rng: &mut dyn CryptoRng) -> Result<Made, Faulty> {
        let Intake { open, config, providers, .. } = &intake;
        let others =
            Intake { open: open.clone(), config: config.clone(), providers: providers.clone(), changes: vec![] };
        let dropped = match self.try_make(intake, now, rng) {
            Ok(sound) => return Ok(Made { sound, dropped: None }),
            Err(why) => why,
        };
        let sound = self.try_make(others, now, rng).or_else(|_| self.try_make(Intake::default(), now, rng))?;
        Ok(Made { sound, dropped: Some(dropped) })
    }

    fn try_make(&self, intake: Intake, now: UnixMillis, rng: &mut dyn CryptoRng) -> Result<Sound, Faulty> {
        let batch = (self.make)(&self.state, intake, now, rng)?;
        Ok(Sound::judge(&self.state, batch)?)
    }

    /// Makes a batch durable, signs it, and goes on from it: the versions that it makes the latest.
    ///
    /// # Errors
    /// [`CommitError`], after which this must not be used any more.
    pub fn commit(
        &mut self,
        sound: Sound,
        effects: &mut impl Effects,
        sealer: &Sealer,
        signer: &NoteSigner,
    ) -> Result<Vec<([u8; 32], u32)>, CommitError> {
        let (rows, purges) = seal_rows(sealer, &sound.batch().rows, sound.batch().checkpoint.size)?;
        let old = (self.head_note.as_str(), self.signed.checkpoint());
        let signed = commit(effects, &sound, &rows, &purges, Some(old), signer)?;
        let (batch, state) = sound.into_parts();
        self.head_note = signed.to_note(&[]);
        self.signed = signed;
        self.head_path = batch.head_path;
        self.state = state;
        Ok(batch.rows.iter().map(|m| (m.csi_key, m.row.version)).collect())
    }

    /// What the world may see of the log once this checkpoint, its signed head, is cosigned; `None` before its first head.
    pub fn snapshot(&self, checkpoint: String) -> Option<Snapshot> {
        snapshot(&self.state, self.head_path.clone(), checkpoint)
    }
}

/// Seals rows, with new row keys where a stretch begins, and says what is to be deleted for them.
///
/// # Errors
/// [`StoreError`]: keys may have been made that nobody will use.
pub fn seal_rows(sealer: &Sealer, made: &[MadeRow], size: u64) -> Result<(Vec<SealedRow>, Vec<Purge>), StoreError> {
    let new = made.iter().filter(|m| m.keeping.slot.is_none()).count();
    let mut next = if new == 0 { 0 } else { sealer.keys().allocate(new)? };
    let (mut rows, mut purges) = (Vec::with_capacity(made.len()), Vec::new());
    for MadeRow { csi_key, row, keeping } in made {
        let slot = keeping.slot.unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        let place = Place { csi_key: *csi_key, version: row.version, size, slot };
        rows.push(sealer.seal(place, &Kept::Whole(Box::new(row.clone())).encode())?);
        if let Some(due) = keeping.purge_at {
            purges.push(Purge { csi_key: *csi_key, below: row.version, due, size, slots: vec![] });
        }
    }
    Ok((rows, purges))
}

/// What the world may see of a log whose checkpoint is cosigned; `None` before its first head.
pub fn snapshot(state: &LogState, head_path: Vec<Hash>, checkpoint: String) -> Option<Snapshot> {
    let log = &state.audited;
    Some(Snapshot {
        open: log.open_bytes().to_vec(),
        config: log.config_bytes().to_vec(),
        policy: Promise::of(state.latest_promise())?.policy,
        head: state.head()?.clone(),
        head_path,
        size: state.size(),
        checkpoint,
        map: log.map().clone(),
        providers: Arc::clone(&log.shared_providers()),
        provider_tree: log.provider_tree().clone(),
    })
}
