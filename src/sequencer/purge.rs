//! Deleting what is over: rows before an erasure, and those of a former holder once the proof of the passage is no longer needed.
//!
//! 1. **stubs** take the rows' places, the slots of their keys are written down, in one durable commit.
//! 2. **shred** the keys where they lie.                 Die before: the next round shreds them.
//! 3. the purge is **done**.                             Die before: the next round shreds zeros.
//!
//! Only purges of batches that were published are carried out, and by the time of the published head, not of the clock: what that head's
//! answers still need is kept, also where a head waits long for its witnesses, or the clock is wrong.

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

/// Does what is due by the head of `size` entries, made `now`; returns how many.
///
/// # Errors
/// [`StoreError`]; what was begun goes on with the next round.
pub fn purge_due(rows: &dyn Rows, sealer: &Sealer, size: u64, now: UnixMillis) -> Result<usize, StoreError> {
    let due: Vec<Purge> =
        rows.purges()?.into_iter().filter(|p| p.due <= now && p.size <= size).take(ROUND_MAX).collect();
    for mut purge in due.iter().cloned() {
        if purge.slots.is_empty() {
            let stubs = stubs(rows, sealer, &mut purge)?;
            rows.purge(&stubs, &purge, false)?;
        }
        sealer.keys().shred(&purge.slots)?;
        rows.purge(&[], &purge, true)?;
    }
    Ok(due.len())
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
