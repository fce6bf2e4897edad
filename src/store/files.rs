//! The public folder: checkpoint, tiles and entry bundles as files that any web server can carry.
//!
//! A tile is written once and never changes; the checkpoint is replaced. Order within a batch: tiles, their folders, then
//! the checkpoint, so that no checkpoint is ever seen before its tiles.
//!
//! Of partial tiles, those in the place that is being filled are there, and at each level those in one place behind it.
//! All others are removed, by the batch that fills the place after theirs. A start applies the last batch again, so a
//! crash leaves no other ones.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use waymark_log::{
    hash::Hash,
    note::NOTE_BYTES_MAX,
    proof::Plan,
    tile::{BUNDLE_BYTES_MAX, HashTiles, TILE_WIDTH, Tile, decode_bundle},
};
use waymark_runtime::durable;

use super::StoreError;

/// The folder that is served under the log's prefix.
#[derive(Debug, Clone)]
pub struct LogFiles {
    folder: PathBuf,
}

impl LogFiles {
    /// The public folder, made if it is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn at(folder: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Checks that there is room for so many bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn check_room(&self, bytes: usize) -> Result<(), StoreError> {
        durable::check_room(&self.folder, bytes).map_err(StoreError::io(&self.folder))
    }

    /// Writes the tiles of a batch; those that are there already must be the same.
    ///
    /// # Errors
    /// [`StoreError`]: some tiles may have been written. Applying the batch again is then the way on.
    pub fn write(&self, files: &[(Tile, Vec<u8>)]) -> Result<(), StoreError> {
        let mut folders = BTreeSet::new();
        for (tile, bytes) in files {
            let path = self.folder.join(tile.path());
            durable::write_once(&path, bytes).map_err(StoreError::io(&path))?;
            // Every folder on the way may be new, and its name must be durable too.
            for parent in path.ancestors().skip(1).take_while(|p| p.starts_with(&self.folder)) {
                folders.insert(parent.to_owned());
            }
        }
        for folder in folders.iter().rev() {
            durable::sync_folder(folder).map_err(StoreError::io(folder))?;
        }
        self.remove_partials(files)
    }

    /// "Partial tiles may be deleted once the full tile exists." Those of the newest full tile stay, for readers that
    /// are on their way with a checkpoint from before it was full; those of the tile behind it go.
    fn remove_partials(&self, files: &[(Tile, Vec<u8>)]) -> Result<(), StoreError> {
        for (tile, _) in files.iter().filter(|(t, _)| t.is_full()) {
            let Some(index) = tile.index.checked_sub(1) else { continue };
            let behind = Tile { index, ..*tile };
            let folder = self.folder.join(format!("{}.p", behind.path()));
            match fs::remove_dir_all(&folder) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io(&folder)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// One tile's bytes, or the full tile's if the partial one is gone.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if neither is there.
    pub fn read(&self, tile: Tile) -> Result<(Tile, Vec<u8>), StoreError> {
        for tile in [tile, tile.full()] {
            let path = self.folder.join(tile.path());
            if let Some(bytes) = durable::read(&path, BUNDLE_BYTES_MAX).map_err(StoreError::io(&path))? {
                return Ok((tile, bytes));
            }
        }
        Err(StoreError::Missing(tile.path()))
    }

    /// The hashes that a proof in a tree of `size` leaves is planned to need.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn hashes(&self, plan: &Plan, size: u64) -> Result<Vec<Hash>, StoreError> {
        let fault = |tile: Tile| move |error| StoreError::Tile { path: tile.path(), error };
        let (mut tiles, mut hashes) = (HashTiles::default(), Vec::new());
        for node in plan.nodes() {
            let wanted = Tile::holding(node, size).ok_or_else(|| StoreError::Missing("a node".to_owned()))?;
            if !tiles.has(wanted) {
                let (tile, bytes) = self.read(wanted)?;
                tiles.insert(tile, &bytes).map_err(fault(tile))?;
            }
            hashes.push(tiles.node(node).map_err(fault(wanted))?);
        }
        Ok(hashes)
    }

    /// One entry of a log of `size` entries.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entry(&self, index: u64, size: u64) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::Missing("an entry".to_owned());
        let wanted = Tile::bundle_of(index, size).ok_or_else(missing)?;
        let (tile, bytes) = self.read(wanted)?;
        let entries =
            decode_bundle(&bytes, tile.width).map_err(|error| StoreError::Tile { path: tile.path(), error })?;
        let entry = entries.get((index % TILE_WIDTH) as usize).ok_or_else(missing)?;
        Ok(entry.to_vec())
    }

    /// All entries below `size`, bundle by bundle.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entries(&self, size: u64, each: impl FnMut(Vec<u8>)) -> Result<(), StoreError> {
        self.entries_from(0, size, each)
    }

    /// The same from the bundle on in which `start` lies.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entries_from(&self, start: u64, size: u64, mut each: impl FnMut(Vec<u8>)) -> Result<(), StoreError> {
        let mut next = start / TILE_WIDTH * TILE_WIDTH;
        while next < size {
            let wanted = Tile::bundle_of(next, size).ok_or_else(|| StoreError::Missing("a bundle".to_owned()))?;
            let (tile, bytes) = self.read(wanted)?;
            let entries =
                decode_bundle(&bytes, tile.width).map_err(|error| StoreError::Tile { path: tile.path(), error })?;
            for entry in entries.into_iter().take(usize::from(wanted.width)) {
                each(entry.to_vec());
                next += 1;
            }
        }
        Ok(())
    }

    /// The published checkpoint, `None` if none was ever published.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn checkpoint(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.folder.join("checkpoint");
        durable::read(&path, NOTE_BYTES_MAX).map_err(StoreError::io(&path))
    }

    /// Publishes a cosigned checkpoint.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn publish(&self, note: &str) -> Result<(), StoreError> {
        let path = self.folder.join("checkpoint");
        durable::replace(&path, note.as_bytes()).map_err(StoreError::io(&path))
    }
}
