//! Deleting what is over: rows before an erasure, and those of a former holder once the proof of the passage is no longer needed.
//!
//! 1. **stubs** take the rows' places, the slots of their keys are written down, in one durable commit.
//! 2. **shred** the keys where they lie.                 Die before: the next round shreds them.
//! 3. the purge is **done**.                             Die before: the next round shreds zeros.
//!
//! Only purges of batches that were published are carried out, and by the time of the published head, not of the clock: what that head's
//! answers still need is kept, also where a head waits long for its witnesses, or the clock is wrong.
//!
//! **One record that cannot be opened stops nothing.** Its purge is left out until the next start, logged and counted; all others go on.
//! A store that fails is another matter: the sequencer stops.

use std::collections::HashSet;

use waymark_log::time::UnixMillis;

use crate::{
    row::Kept,
    store::{
        Purge, Rows, SealedRow, StoreError,
        seal::{Place, Sealer},
    },
};

/// Most purges a round: the sequencer has other things to do.
const ROUND_MAX: usize = 64;

/// What came of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Purges that were carried out.
    pub done: usize,
    /// Purges that are left out from now on, since something of theirs is damaged.
    pub skipped: usize,
}

/// Carries out purges, round by round.
#[derive(Default)]
pub struct Purger {
    /// Purges of which something is damaged; `None` for the list of all purges. As many as purges at most.
    skipped: HashSet<Option<([u8; 32], u32)>>,
}

impl Purger {
    /// Does what is due by the head of `size` entries, made `now`.
    ///
    /// # Errors
    /// [`StoreError`] if a store failed; what was begun goes on with the next round.
    pub fn round(&mut self, rows: &dyn Rows, sealer: &Sealer, size: u64, now: UnixMillis) -> Result<Round, StoreError> {
        let mut round = Round::default();
        let purges = match rows.purges() {
            Err(why) if is_of_one_row(&why) => {
                self.skip(None, &why, &mut round);
                return Ok(round);
            }
            purges => purges?,
        };
        let is_due = |p: &Purge| p.due <= now && p.size <= size;
        for purge in purges.into_iter().filter(is_due) {
            let key = Some((purge.csi_key, purge.below));
            if round.done + round.skipped == ROUND_MAX {
                break;
            }
            if self.skipped.contains(&key) {
                continue;
            }
            match carry_out(rows, sealer, purge) {
                Err(why) if is_of_one_row(&why) => self.skip(key, &why, &mut round),
                ended => round.done += ended.map(|()| 1)?,
            }
        }
        Ok(round)
    }

    /// Says so once, without its identifier.
    fn skip(&mut self, key: Option<([u8; 32], u32)>, why: &StoreError, round: &mut Round) {
        if self.skipped.insert(key) {
            tracing::error!(%why, "what is due to be deleted cannot be, since a record is damaged; it is tried again at the next start. Run fsck");
            round.skipped += 1;
        }
    }
}

/// Whether a row is damaged, and not the store as a whole.
fn is_of_one_row(why: &StoreError) -> bool {
    matches!(why, StoreError::Damaged(_) | StoreError::Shredded)
}

fn carry_out(rows: &dyn Rows, sealer: &Sealer, mut purge: Purge) -> Result<(), StoreError> {
    if purge.slots.is_empty() {
        let stubs = stubs(rows, sealer, &mut purge)?;
        rows.purge(&stubs, &purge, false)?;
    }
    sealer.keys().shred(&purge.slots)?;
    rows.purge(&[], &purge, true)
}

/// Stubs for all rows below, sealed with the key of the stretch that follows; the slots of the others are noted.
fn stubs(rows: &dyn Rows, sealer: &Sealer, purge: &mut Purge) -> Result<Vec<SealedRow>, StoreError> {
    let missing = || StoreError::Damaged("the index of rows".to_owned());
    let slot = rows.row(&purge.csi_key, purge.below)?.ok_or_else(missing)?.slot;
    let mut stubs = Vec::new();
    for version in 0..purge.below {
        let row = rows.row(&purge.csi_key, version)?.ok_or_else(missing)?;
        let kept = open_row(sealer, &row)?;
        if row.slot != slot && !purge.slots.contains(&row.slot) {
            purge.slots.push(row.slot);
        }
        let place = Place { csi_key: row.csi_key, version, size: row.size, slot };
        stubs.push(sealer.seal(place, &Kept::Stub(kept.stub()).encode())?);
    }
    Ok(stubs)
}

/// Unseals and reads a row.
///
/// # Errors
/// [`StoreError::Damaged`], [`StoreError::Shredded`].
pub fn open_row(sealer: &Sealer, sealed: &SealedRow) -> Result<Kept, StoreError> {
    let bytes = sealer.open(sealed)?;
    Kept::decode(&bytes).map_err(|_| StoreError::Damaged("a row".to_owned()))
}
