//! What a log was at earlier sizes, from the local copy of its entries: the state after a restart, roots, proofs, heads.

use std::{collections::HashSet, sync::Arc};

use waymark_log::{
    checkpoint::Origin,
    hash::{Hash, leaf_hash},
    tile::{self, TILE_WIDTH, Tile},
    time::UnixSeconds,
};
use waymark_mapping::{
    audit::{Finding, Replay, Step},
    entry::{Entry, last_head},
};

use waymark_runtime::{
    follow::{STEP_BYTES_MAX, STEP_ENTRIES_MAX},
    log_time::LogTime,
};

use crate::{
    desk::Desk,
    notices::Notices,
    report::Condition,
    settings::Target,
    state::{Claim, LogState},
    store::{Batch, Store, StoreError, StoredHead},
    tiles::TileCheck,
    tree::Tree,
    unjudged::Unjudged,
    views::View,
    watching::Watches,
};

impl LogState {
    /// Rebuilds the state of a log from the store, without any network. `found` are the findings stored for it.
    pub(crate) fn restore(
        target: Arc<Target>,
        desk: &Desk<'_>,
        found: HashSet<String>,
        renew_within_ms: u64,
        memory_bytes_max: u64,
        time: LogTime,
    ) -> Result<Self, StoreError> {
        let origin = target.origin.clone();
        let mut watches = Watches::new(origin.clone(), renew_within_ms);
        for (id, journal) in desk.store.journals(&origin)? {
            let refused = |e| StoreError::Damaged(format!("a journal no longer leads anywhere: {e}"));
            watches.restore(id, journal).map_err(refused)?;
        }
        let head = desk.store.head(&origin)?;
        let mut state = Self {
            replay: Replay::new(origin, target.log_key),
            tree: Tree::new(),
            watches,
            anchor: None,
            quorum: head.as_ref().map(|h| UnixSeconds::new(h.quorum_time_s)),
            cosignatures: 0,
            seen_ms: time.passed_ms(),
            time,
            remembered: desk.now,
            started: desk.now,
            last_success: None,
            condition: Condition::Waiting,
            looks: 0,
            shown: 0,
            shown_max: 0,
            signed_size_max: 0,
            views: target.copies.iter().map(|_| View::default()).collect(),
            beyond: Vec::new(),
            met: None,
            largest: target.trust.policy().witnesses().iter().map(|_| None).collect(),
            behind: None,
            notices: Notices::default(),
            unjudged: Unjudged::default(),
            tiles: TileCheck::new(head.as_ref().map_or(0, |h| h.size), desk.now),
            memory_bytes_max,
            found,
            target,
        };
        if let Some(head) = head {
            state.replay_stored(desk, &head)?;
            state.take_up_anchor(desk, head.note)?;
        }
        state.signed_size_max = state.signed_size_max.max(state.replay.size());
        state.shown_max = state.signed_size_max;
        Ok(state)
    }

    /// The note that was followed last. Under a trust file that no longer names its key it counts for nothing.
    fn take_up_anchor(&mut self, desk: &Desk<'_>, note: String) -> Result<(), StoreError> {
        let note = note.into_bytes();
        let Ok((_, signed)) = self.target.open(&note) else { return Ok(()) };
        self.signed_size_max = signed.size();
        let claim = Claim { signed, note, place: format!("the log at {}", self.target.url) };
        self.weigh_cosignatures(desk, &claim)?;
        self.anchor = Some(claim);
        Ok(())
    }

    /// Replays the local copy of the entries. Its hits and late heads were dealt with when it was stored; what this program could
    /// not judge still stands, unless it is a newer one.
    fn replay_stored(&mut self, desk: &Desk<'_>, head: &StoredHead) -> Result<(), StoreError> {
        let (mut entries, mut bytes_held): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
        let (mut findings, mut not_supported) = (Vec::new(), Vec::new());
        for n in 0..head.size.div_ceil(TILE_WIDTH) {
            let bytes = stored_bundle(desk.store, &self.target.origin, n)?;
            let bundle = split_bundle(&bytes, n, head.size)?;
            entries.extend(bundle.into_iter().map(<[u8]>::to_vec));
            bytes_held += bytes.len();
            let last = (n + 1) * TILE_WIDTH >= head.size;
            if last || entries.len() >= STEP_ENTRIES_MAX || bytes_held >= STEP_BYTES_MAX {
                let cut = if last { entries.len() } else { last_head(&entries).unwrap_or(entries.len()) };
                let rest = entries.split_off(cut);
                let step = self.replay_again(&entries);
                // Where the copy is cut is no checkpoint.
                let counts = |f: &&Finding| last || !matches!(f, Finding::NoHead { .. });
                findings.extend(step.findings.iter().filter(counts).map(Finding::to_string));
                not_supported.extend(step.not_supported);
                bytes_held = rest.iter().map(Vec::len).sum();
                entries = rest;
            }
        }
        if self.tree.size() != head.size || self.tree.root() != head.root()? {
            return Err(StoreError::Damaged("the stored entries do not lead to the stored root".to_owned()));
        }
        self.not_judged(&not_supported, desk.now);
        // A later version of this program may find what an earlier one did not.
        let findings = self.unrecorded(findings, desk.now);
        desk.commit(&self.target.origin, Batch { findings, ..Batch::default() })
    }

    fn replay_again(&mut self, entries: &[Vec<u8>]) -> Step {
        for entry in entries {
            self.append(entry, |_, _| {});
        }
        self.replay.extend(entries, self.tree.size(), &self.tree.root())
    }

    /// The root that the replay had at a size; `None` beyond it.
    pub(crate) fn root_at(&self, store: &Store, size: u64) -> Result<Option<Hash>, StoreError> {
        self.tree.root_at(size, |n| self.leaves(store, n))
    }

    /// How the replay of `old` entries was the beginning of the one of `new`; `None` if it has not reached that.
    pub(crate) fn proof(&self, store: &Store, old: u64, new: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        self.tree.consistency(old, new, |n| self.leaves(store, n))
    }

    /// What a hash tile holds at the size that was replayed.
    pub(crate) fn hash_tile(&self, store: &Store, tile: Tile) -> Result<Vec<Hash>, StoreError> {
        self.tree.hash_tile(tile, |n| self.leaves(store, n))
    }

    fn leaves(&self, store: &Store, n: u64) -> Result<Vec<Hash>, StoreError> {
        let bytes = stored_bundle(store, &self.target.origin, n)?;
        Ok(split_bundle(&bytes, n, self.tree.size())?.into_iter().map(leaf_hash).collect())
    }

    /// Whether the last of the first `size` entries that were replayed is a head.
    pub(crate) fn ends_in_head(&self, store: &Store, size: u64) -> Result<bool, StoreError> {
        if self.replay.last_head().is_some_and(|(index, _)| index + 1 == size) {
            return Ok(true);
        }
        let Some(last) = size.checked_sub(1) else { return Ok(false) };
        let n = last / TILE_WIDTH;
        let bytes = stored_bundle(store, &self.target.origin, n)?;
        let entries = split_bundle(&bytes, n, self.tree.size())?;
        Ok(matches!(Entry::decode(entries[(last % TILE_WIDTH) as usize]), Ok(Entry::Head(_))))
    }
}

fn stored_bundle(store: &Store, origin: &Origin, n: u64) -> Result<Vec<u8>, StoreError> {
    store.bundle(origin, n)?.ok_or_else(|| StoreError::Damaged(format!("entry bundle {n} is gone")))
}

/// The entries of stored bundle `n` of a log of `size` entries.
fn split_bundle(bytes: &[u8], n: u64, size: u64) -> Result<Vec<&[u8]>, StoreError> {
    let width = (size - n * TILE_WIDTH).min(TILE_WIDTH) as u16;
    tile::decode_bundle(bytes, width).map_err(|e| StoreError::Damaged(format!("entry bundle {n}: {e}")))
}
