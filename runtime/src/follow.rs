//! A C2SP log read from outside: its checkpoint, its entries, the tiles for a proof.
//!
//! Nothing read here is believed: checkpoints are judged by a policy, entries by the root they lead to, tiles by the proof
//! that is built from them. A partial tile that is gone is asked for as a full one (C2SP tlog-tiles).

use waymark_log::{
    hash::Hash,
    note::NOTE_BYTES_MAX,
    proof::{Node, Plan},
    tile::{self, BUNDLE_BYTES_MAX, HashTiles, TILE_BYTES, TILE_WIDTH, Tile},
};

use crate::fetch::{FetchError, Fetcher};

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The network.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The server answered with another status than 200.
    #[error("the log answered {status} for {path}")]
    Status {
        /// The status.
        status: u16,
        /// The path, which names no identifier.
        path: String,
    },
    /// A tile or bundle does not have the form.
    #[error("{path}: {error}")]
    Tile {
        /// The path.
        path: String,
        /// What is wrong.
        error: tile::TileError,
    },
}

/// A log's read side.
#[derive(Clone, Debug)]
pub struct LogReader {
    fetcher: Fetcher,
    prefix: String,
}

impl LogReader {
    /// The log under this URL prefix, with or without a final slash.
    pub fn new(fetcher: Fetcher, prefix: &str) -> Self {
        Self { fetcher, prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// The checkpoint's note, unjudged.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn checkpoint(&self) -> Result<Vec<u8>, FollowError> {
        self.get("checkpoint", NOTE_BYTES_MAX).await
    }

    /// The entries from `start` to `size` (exclusive), unjudged, bundle by bundle to `each`.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn entries(&self, start: u64, size: u64, mut each: impl FnMut(Vec<Vec<u8>>)) -> Result<(), FollowError> {
        let mut next = start;
        while next < size {
            let tile = Tile::bundle_of(next, size).expect("below the size");
            let (tile, bytes) = self.tile(tile, BUNDLE_BYTES_MAX).await?;
            let entries = tile::decode_bundle(&bytes, tile.width)
                .map_err(|error| FollowError::Tile { path: tile.path(), error })?;
            let first = tile.index * TILE_WIDTH;
            let wanted = entries[(next - first) as usize..].iter().take((size - next) as usize);
            let wanted: Vec<Vec<u8>> = wanted.map(|e| e.to_vec()).collect();
            next += wanted.len() as u64;
            each(wanted);
        }
        Ok(())
    }

    /// One entry of a log of `size` entries, unjudged.
    ///
    /// # Errors
    /// [`FollowError`].
    ///
    /// # Panics
    /// If `index` is not below `size`.
    pub async fn entry(&self, index: u64, size: u64) -> Result<Vec<u8>, FollowError> {
        let wanted = Tile::bundle_of(index, size).expect("below the size");
        let (tile, bytes) = self.tile(wanted, BUNDLE_BYTES_MAX).await?;
        let entries =
            tile::decode_bundle(&bytes, tile.width).map_err(|error| FollowError::Tile { path: tile.path(), error })?;
        Ok(entries[(index % TILE_WIDTH) as usize].to_vec())
    }

    /// The hashes that a proof in a tree of `size` leaves is planned to need, unjudged.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn hashes(&self, plan: &Plan, size: u64) -> Result<Vec<Hash>, FollowError> {
        self.nodes(&plan.nodes().collect::<Vec<_>>(), size).await
    }

    /// The hashes of complete subtrees of a tree of `size` leaves, unjudged.
    ///
    /// # Errors
    /// [`FollowError`].
    ///
    /// # Panics
    /// If a subtree is not complete at that size.
    pub async fn nodes(&self, nodes: &[Node], size: u64) -> Result<Vec<Hash>, FollowError> {
        let holding = |node: &Node| Tile::holding(*node, size).expect("a planned node is complete");
        let wanted: Vec<Tile> = nodes.iter().map(holding).collect();
        let tiles = self.tiles(&wanted).await?;
        let fault = |tile: &Tile, error| FollowError::Tile { path: tile.path(), error };
        nodes.iter().zip(&wanted).map(|(node, tile)| tiles.node(*node).map_err(|e| fault(tile, e))).collect()
    }

    /// Hash tiles, each read once, unjudged.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn tiles(&self, wanted: &[Tile]) -> Result<HashTiles, FollowError> {
        let mut tiles = HashTiles::default();
        for wanted in wanted {
            if !tiles.has(*wanted) {
                let (tile, bytes) = self.tile(*wanted, TILE_BYTES).await?;
                tiles.insert(tile, &bytes).map_err(|error| FollowError::Tile { path: tile.path(), error })?;
            }
        }
        Ok(tiles)
    }

    async fn tile(&self, tile: Tile, bytes_max: usize) -> Result<(Tile, Vec<u8>), FollowError> {
        match self.get(&tile.path(), bytes_max).await {
            Err(FollowError::Status { status: 404, .. }) if !tile.is_full() => {
                let full = tile.full();
                Ok((full, self.get(&full.path(), bytes_max).await?))
            }
            Ok(bytes) => Ok((tile, bytes)),
            Err(e) => Err(e),
        }
    }

    async fn get(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, FollowError> {
        let fetched = self.fetcher.get(&format!("{}/{path}", self.prefix), bytes_max).await?;
        if fetched.status != 200 {
            return Err(FollowError::Status { status: fetched.status, path: path.to_owned() });
        }
        Ok(fetched.body)
    }
}
