//! A C2SP log read from outside: its checkpoint, its entries, the tiles for a proof.
//!
//! Nothing read here is believed: checkpoints are judged by a policy, entries by the root they lead to, tiles by the proof
//! that is built from them. A partial tile that is gone is asked for as a full one (C2SP tlog-tiles).
//!
//! A log is read in steps of bounded size ([`LogReader::step`]). A step that fails keeps what it has ([`Ahead`]), and
//! the next try ends where that ends: a reader that is given twenty answers a minute goes on by twenty bundles a minute.

use std::time::{Duration, Instant};

use waymark_log::{
    hash::Hash,
    note::NOTE_BYTES_MAX,
    proof::{self, Node, Plan},
    tile::{self, BUNDLE_BYTES_MAX, HashTiles, TILE_BYTES, TILE_WIDTH, Tile, TileError},
};

use crate::fetch::{FetchError, Fetcher};

/// Most entries in one step: eight times what may stand between two heads, 64 bundles.
pub const STEP_ENTRIES_MAX: usize = 16_384;
/// Bytes of entries after which a step ends: as many entries of 2 KiB, which no honest one has. With the bundle that
/// goes over it, a step holds 48 MiB at most.
pub const STEP_BYTES_MAX: usize = 32 << 20;
/// Seconds after which a step ends that has a place to end at: a log that answers slowly is followed in small steps.
const STEP_S_MAX: u64 = 15;
/// Longest wait that a log may ask for, in seconds (`Retry-After`). Beyond that it is asked again all the same.
pub const RETRY_AFTER_S_MAX: u64 = 300;

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The network.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The server answered with another status than 200.
    #[error("the log answered {status} for {path}{}", wish(*retry_after_s))]
    Status {
        /// The status.
        status: u16,
        /// The path, which names no identifier.
        path: String,
        /// After how many seconds it wants to be asked again, if it says so.
        retry_after_s: Option<u64>,
    },
    /// A tile or bundle does not have the form.
    #[error("{path}: {error}")]
    Tile {
        /// The path.
        path: String,
        /// What is wrong.
        error: TileError,
    },
}

fn wish(retry_after_s: Option<u64>) -> String {
    retry_after_s.map_or_else(String::new, |s| format!(" and wants to be asked again after {s} s"))
}

impl FollowError {
    /// Whether the log answers, but not so much at once: it has too many requests, or is out of service for a while.
    pub const fn is_busy(&self) -> bool {
        matches!(self, Self::Status { status: 429 | 503, .. })
    }

    /// How long the log asks to be left alone, within bounds.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after_s, .. } if self.is_busy() => {
                retry_after_s.map(|s| Duration::from_secs(s.min(RETRY_AFTER_S_MAX)))
            }
            _ => None,
        }
    }
}

/// What was fetched for a step that has not come to its end. Holds one step at most.
#[derive(Clone, Debug, Default)]
pub struct Ahead {
    from: u64,
    entries: Vec<Vec<u8>>,
    bytes: usize,
    /// Hash tiles of a tree of this size.
    tiles: HashTiles,
    tiles_of: u64,
    /// Something failed since these entries were begun.
    interrupted: bool,
    /// What was read before did not lead to the signed root: bundle by bundle from here on, so that what is damaged is
    /// found.
    careful: bool,
}

impl Ahead {
    /// Entries that are kept.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What was read did not lead to the signed root: it goes, and the next steps are as small as can be. Whether they
    /// were before.
    pub fn doubt(&mut self) -> bool {
        let before = self.careful;
        *self = Self { careful: true, ..Self::default() };
        before
    }

    /// All that was signed was read, and led to it.
    pub fn trust(&mut self) {
        self.careful = false;
    }

    fn begin(&mut self, from: u64) {
        if self.from != from {
            let (tiles, tiles_of, careful) = (std::mem::take(&mut self.tiles), self.tiles_of, self.careful);
            *self = Self { from, tiles, tiles_of, careful, ..Self::default() };
        }
    }
}

/// Entries of a signed tree that are to be judged together, and what shows that they are its own.
#[derive(Clone, Debug)]
pub struct Step {
    /// Index of the first.
    pub from: u64,
    /// The entries.
    pub entries: Vec<Vec<u8>>,
    /// If they do not reach the signed tree's end: how the tree that they end in is its beginning.
    pub proof: Vec<Hash>,
    /// Whether they neither reach the end nor hold a place at which to cut.
    pub uncut: bool,
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
            let entries = self.bundle(next, size).await?;
            next += entries.len() as u64;
            each(entries);
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
        let mut entries = self.bundle(index, size).await?;
        Ok(entries.swap_remove(0))
    }

    /// The entries from `start` to the end of its bundle or of the log, at least one.
    async fn bundle(&self, start: u64, size: u64) -> Result<Vec<Vec<u8>>, FollowError> {
        let tile = Tile::bundle_of(start, size).expect("below the size");
        let first = (start - tile.index * TILE_WIDTH) as usize;
        let wanted = |entries: Vec<&[u8]>| entries[first..usize::from(tile.width)].iter().map(|e| e.to_vec()).collect();
        let read = |tile: Tile, bytes: Vec<u8>| tile::decode_bundle(&bytes, tile.width).map(wanted);
        self.tile(tile, BUNDLE_BYTES_MAX, read).await
    }

    /// Reads the next entries from `from` on towards a tree of `size`, and what proves that they lead there. They end
    /// where `cut` says that they may: it is given entries and answers how many of them to take.
    ///
    /// What was fetched stays in `ahead` if this fails, and the next call ends with that, if it can be cut.
    ///
    /// # Errors
    /// [`FollowError`].
    ///
    /// # Panics
    /// Unless `from` is below `size`.
    pub async fn step(
        &self,
        ahead: &mut Ahead,
        from: u64,
        size: u64,
        cut: impl Fn(&[Vec<u8>]) -> Option<usize>,
    ) -> Result<Step, FollowError> {
        assert!(from < size, "there is nothing to read");
        ahead.begin(from);
        let prepared = self.prepare(ahead, from, size, cut).await;
        ahead.interrupted = prepared.is_err();
        let (count, proof, uncut) = prepared?;
        let mut entries = std::mem::take(&mut ahead.entries);
        // What lies behind the cut is the beginning of the next step.
        ahead.entries = entries.split_off(count);
        ahead.from += count as u64;
        ahead.bytes = ahead.entries.iter().map(Vec::len).sum();
        Ok(Step { from, entries, proof, uncut })
    }

    /// How many entries of those in `ahead`, which are fetched, and their proof.
    async fn prepare(
        &self,
        ahead: &mut Ahead,
        from: u64,
        size: u64,
        cut: impl Fn(&[Vec<u8>]) -> Option<usize>,
    ) -> Result<(usize, Vec<Hash>, bool), FollowError> {
        if !ahead.interrupted || cut(&ahead.entries).is_none() {
            self.fill(ahead, size, &cut).await?;
        }
        let (rest, cut) = ((size - from) as usize, cut(&ahead.entries));
        if ahead.entries.len() >= rest {
            return Ok((rest, Vec::new(), false));
        }
        let count = cut.unwrap_or(ahead.entries.len());
        let proof = self.proof(ahead, from + count as u64, size).await?;
        Ok((count, proof, cut.is_none()))
    }

    async fn fill(
        &self,
        ahead: &mut Ahead,
        size: u64,
        cut: impl Fn(&[Vec<u8>]) -> Option<usize>,
    ) -> Result<(), FollowError> {
        let begun = Instant::now();
        while ahead.from + (ahead.entries.len() as u64) < size
            && ahead.entries.len() < STEP_ENTRIES_MAX
            && ahead.bytes < STEP_BYTES_MAX
        {
            let hurries = ahead.careful || begun.elapsed().as_secs() >= STEP_S_MAX;
            if hurries && cut(&ahead.entries).is_some() {
                return Ok(());
            }
            let bundle = self.bundle(ahead.from + ahead.entries.len() as u64, size).await?;
            ahead.bytes += bundle.iter().map(Vec::len).sum::<usize>();
            ahead.entries.extend(bundle);
        }
        Ok(())
    }

    /// How the tree of `old` entries is the beginning of the one of `size`.
    async fn proof(&self, ahead: &mut Ahead, old: u64, size: u64) -> Result<Vec<Hash>, FollowError> {
        if ahead.tiles_of != size {
            (ahead.tiles, ahead.tiles_of) = (HashTiles::default(), size);
        }
        let plan = proof::consistency(old, size).expect("a step ends after its first entry and before the size");
        let nodes: Vec<Node> = plan.nodes().collect();
        let hashes = self.nodes_with(&mut ahead.tiles, &nodes, size).await?;
        Ok(plan.build(&hashes).expect("one hash was fetched for each planned node"))
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
        self.nodes_with(&mut HashTiles::default(), nodes, size).await
    }

    async fn nodes_with(&self, tiles: &mut HashTiles, nodes: &[Node], size: u64) -> Result<Vec<Hash>, FollowError> {
        let holding = |node: &Node| Tile::holding(*node, size).expect("a planned node is complete");
        let wanted: Vec<Tile> = nodes.iter().map(holding).collect();
        self.add_tiles(tiles, &wanted).await?;
        let fault = |tile: &Tile, error| FollowError::Tile { path: tile.path(), error };
        nodes.iter().zip(&wanted).map(|(node, tile)| tiles.node(*node).map_err(|e| fault(tile, e))).collect()
    }

    /// Hash tiles, each read once, unjudged.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn tiles(&self, wanted: &[Tile]) -> Result<HashTiles, FollowError> {
        let mut tiles = HashTiles::default();
        self.add_tiles(&mut tiles, wanted).await?;
        Ok(tiles)
    }

    async fn add_tiles(&self, tiles: &mut HashTiles, wanted: &[Tile]) -> Result<(), FollowError> {
        for wanted in wanted {
            if !tiles.has(*wanted) {
                let read = |tile: Tile, bytes: Vec<u8>| tile::decode_hashes(&bytes, tile.width).map(|_| (tile, bytes));
                let (tile, bytes) = self.tile(*wanted, TILE_BYTES, read).await?;
                tiles.insert(tile, &bytes).map_err(|error| FollowError::Tile { path: tile.path(), error })?;
            }
        }
        Ok(())
    }

    /// The hashes of a tile, unjudged: at least as many as it is wide.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn hash_tile(&self, tile: Tile) -> Result<Vec<Hash>, FollowError> {
        self.tile(tile, TILE_BYTES, |tile, bytes| tile::decode_hashes(&bytes, tile.width)).await
    }

    /// Reads a tile. A partial one that is not there is asked for as the full one: "not there" is what a server means
    /// that answers 404 or 410, that hides its folders with 403, or that shows a page of its own instead.
    async fn tile<T>(
        &self,
        tile: Tile,
        bytes_max: usize,
        read: impl Fn(Tile, Vec<u8>) -> Result<T, TileError>,
    ) -> Result<T, FollowError> {
        let get = async |tile: Tile| {
            let bytes = self.get(&tile.path(), bytes_max).await?;
            read(tile, bytes).map_err(|error| FollowError::Tile { path: tile.path(), error })
        };
        let error = match get(tile).await {
            Err(
                error @ (FollowError::Status { status: 403 | 404 | 410, .. }
                | FollowError::Tile { .. }
                | FollowError::Fetch(FetchError::TooLarge { .. })),
            ) if !tile.is_full() => error,
            done => return done,
        };
        match get(tile.full()).await {
            Ok(read) => Ok(read),
            // Which of the two says more: whether the log must be left alone for a while, and else what it was asked
            // for first.
            Err(busy) if busy.is_busy() => Err(busy),
            Err(_) => Err(error),
        }
    }

    async fn get(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, FollowError> {
        let fetched = self.fetcher.get(&format!("{}/{path}", self.prefix), bytes_max).await?;
        if fetched.status != 200 {
            let (status, retry_after_s) = (fetched.status, fetched.retry_after_s);
            return Err(FollowError::Status { status, path: path.to_owned(), retry_after_s });
        }
        Ok(fetched.body)
    }
}
