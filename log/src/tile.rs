//! Tiles: 256-wide pieces of the tree that never change once full, and the entry bundles beside them.
//!
//! ```text
//! tile/<L>/<N>          256 hashes of level 8L, 32 bytes each          immutable
//! tile/<L>/<N>.p/<W>    the first W < 256 of them                      may vanish once the full one exists
//! tile/entries/<N>      256 entries, each uint16 length then bytes     immutable
//! tile/entries/<N>.p/<W>
//! ```
//!
//! `<N>` is written in groups of three digits, every group but the last with an `x` before it: 1234067 is
//! `x001/x234/067`. C2SP tlog-tiles. Paths are parsed into numbers and built again from numbers; text from outside never
//! reaches a file system.

use std::collections::HashMap;

use crate::{
    TREE_SIZE_MAX,
    hash::{HASH_BYTES, Hash, leaf_hash},
    proof::{Node, naive_root},
    range::CompactRange,
};

/// Leaves or nodes in a full tile.
pub const TILE_WIDTH: u64 = 256;
/// Tree levels that one tile level spans: 2^8 = 256.
pub const TILE_HEIGHT: u8 = 8;
/// Bytes in a full hash tile.
pub const TILE_BYTES: usize = TILE_WIDTH as usize * HASH_BYTES;
/// Tile levels a tree of 2^62 leaves can have.
pub const TILE_LEVEL_MAX: u8 = 7;
/// Most bytes in one entry: the bundle's length prefix is a uint16.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;
/// Most bytes in a bundle: 256 entries of the greatest length and their prefixes.
pub const BUNDLE_BYTES_MAX: usize = TILE_WIDTH as usize * (ENTRY_BYTES_MAX + 2);

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of tree level `8 * level`.
    Hashes {
        /// The tile level, 0 to 7.
        level: u8,
    },
    /// The entries themselves.
    Entries,
}

/// One tile, full or partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Its position among the tiles of its kind.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256.
    pub width: u16,
}

/// What can be wrong with a tile or a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The bytes are not `width` hashes.
    #[error("a hash tile of width {width} has {got} bytes")]
    WrongSize {
        /// The tile's width.
        width: u16,
        /// Bytes given.
        got: usize,
    },
    /// The bundle ends in the middle of an entry or goes on after the last.
    #[error("an entry bundle is cut short or goes on after its last entry")]
    BadBundle,
    /// An entry is longer than a uint16 can say.
    #[error("an entry has {0} bytes, over 65,535")]
    EntryTooLong(usize),
    /// The node does not lie in this tile.
    #[error("the node is not in this tile")]
    NotInTile,
}

impl Tile {
    /// The path under the log's prefix, such as `tile/0/x001/067.p/5`.
    pub fn path(&self) -> String {
        let mut path = match self.kind {
            TileKind::Hashes { level } => format!("tile/{level}/"),
            TileKind::Entries => "tile/entries/".to_owned(),
        };
        path.push_str(&index_path(self.index));
        if u64::from(self.width) < TILE_WIDTH {
            path.push_str(&format!(".p/{}", self.width));
        }
        path
    }

    /// Reads a path; `None` unless it is exactly what [`Tile::path`] would write.
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?;
        let (kind, rest) = rest.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => {
                let level: u8 = level.parse().ok().filter(|l| *l <= TILE_LEVEL_MAX)?;
                TileKind::Hashes { level }
            }
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok().filter(|w| (1..TILE_WIDTH as u16).contains(w))?),
            None => (rest, TILE_WIDTH as u16),
        };
        // 2^62 / 256 needs 17 digits: six groups.
        let mut number = 0u64;
        let groups: Vec<&str> = index.split('/').collect();
        if groups.len() > 6 {
            return None;
        }
        for group in groups {
            let digits = group.strip_prefix('x').unwrap_or(group);
            number = number * 1000 + digits.parse::<u16>().ok().map(u64::from)?;
        }
        let tile = Self { kind, index: number, width };
        // One spelling only: whatever else was wrong (sign, zeros, missing x) shows here.
        (number < TREE_SIZE_MAX / TILE_WIDTH + 1 && tile.path() == path).then_some(tile)
    }

    /// The tile of hashes that holds `node` in a tree of `size` leaves, as wide as it is at that size.
    ///
    /// Returns `None` if the node is not complete at that size.
    pub fn holding(node: Node, size: u64) -> Option<Self> {
        let (level, below) = (node.level / TILE_HEIGHT, node.level % TILE_HEIGHT);
        let last = (node.index.checked_add(1)?).checked_mul(1 << below)?.checked_sub(1)?;
        let index = last / TILE_WIDTH;
        let width = width_at(TileKind::Hashes { level }, index, size)?;
        (last % TILE_WIDTH < u64::from(width)).then_some(Self { kind: TileKind::Hashes { level }, index, width })
    }

    /// The bundle that holds entry `index` in a tree of `size` leaves.
    pub fn bundle_of(index: u64, size: u64) -> Option<Self> {
        let n = index / TILE_WIDTH;
        let width = width_at(TileKind::Entries, n, size)?;
        (index < size).then_some(Self { kind: TileKind::Entries, index: n, width })
    }

    /// The full tile of the same place.
    pub fn full(self) -> Self {
        Self { width: TILE_WIDTH as u16, ..self }
    }

    /// Whether nothing can be added to it.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }
}

/// How wide the tile of this kind and index is in a tree of `size` leaves; `None` if it is empty.
fn width_at(kind: TileKind, index: u64, size: u64) -> Option<u16> {
    let count = match kind {
        TileKind::Hashes { level } => size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0),
        TileKind::Entries => size,
    };
    let rest = count.checked_sub(index.checked_mul(TILE_WIDTH)?)?;
    (rest > 0).then(|| rest.min(TILE_WIDTH) as u16)
}

/// 1234067 as `x001/x234/067`.
fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// Splits a hash tile into its hashes.
///
/// # Errors
/// [`TileError::WrongSize`] unless there are exactly `width` hashes.
pub fn decode_hashes(bytes: &[u8], width: u16) -> Result<Vec<Hash>, TileError> {
    if bytes.len() != usize::from(width) * HASH_BYTES {
        return Err(TileError::WrongSize { width, got: bytes.len() });
    }
    Ok(bytes.chunks_exact(HASH_BYTES).map(|c| Hash::from_slice(c).expect("chunks of 32")).collect())
}

/// The hash of `node`, folded from the hashes of the tile that holds it. The tile may be wider than it was asked for.
fn node_in_tile(node: Node, tile: Tile, hashes: &[Hash]) -> Result<Hash, TileError> {
    let level = node.level / TILE_HEIGHT;
    let first = node.index << (node.level % TILE_HEIGHT);
    let width = 1usize << (node.level % TILE_HEIGHT);
    let offset = (first % TILE_WIDTH) as usize;
    if tile.kind != (TileKind::Hashes { level }) || tile.index != first / TILE_WIDTH || hashes.len() < offset + width {
        return Err(TileError::NotInTile);
    }
    Ok(naive_root(&hashes[offset..offset + width]))
}

/// The hash tiles that a proof is built from, each decoded once: [`Tile::holding`] says which one a node needs, somebody
/// reads it, and from here comes the node.
#[derive(Clone, Debug, Default)]
pub struct HashTiles(HashMap<(TileKind, u64), (Tile, Vec<Hash>)>);

impl HashTiles {
    /// Whether a tile of this kind and index was put in, however wide.
    pub fn has(&self, tile: Tile) -> bool {
        self.0.contains_key(&(tile.kind, tile.index))
    }

    /// Puts in a tile as it was read.
    ///
    /// # Errors
    /// [`TileError::WrongSize`].
    pub fn insert(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), TileError> {
        self.0.insert((tile.kind, tile.index), (tile, decode_hashes(bytes, tile.width)?));
        Ok(())
    }

    /// The hash of a node.
    ///
    /// # Errors
    /// [`TileError::NotInTile`] if no tile covers it.
    pub fn node(&self, node: Node) -> Result<Hash, TileError> {
        let (level, below) = (node.level / TILE_HEIGHT, node.level % TILE_HEIGHT);
        let place = (TileKind::Hashes { level }, (node.index << below) / TILE_WIDTH);
        let (tile, hashes) = self.0.get(&place).ok_or(TileError::NotInTile)?;
        node_in_tile(node, *tile, hashes)
    }
}

/// Appends one entry to a bundle.
///
/// ```text
/// uint16 length | length bytes
/// ```
///
/// # Errors
/// [`TileError::EntryTooLong`].
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Splits a bundle into exactly `width` entries.
///
/// # Errors
/// [`TileError::BadBundle`] if entries are missing, cut short or followed by anything.
pub fn decode_bundle(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, TileError> {
    let mut entries = Vec::with_capacity(usize::from(width));
    let mut rest = bytes;
    for _ in 0..width {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(TileError::BadBundle)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after.split_at_checked(length).ok_or(TileError::BadBundle)?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err(TileError::BadBundle) }
}

/// The growing edge of a tiled log: the peaks and every tile that is not full yet.
///
/// [`Edge::append`] says which tiles an entry fills; [`Edge::partials`] are the rest that a checkpoint at this size needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    range: CompactRange,
    /// For each tile level, the hashes of its last, unfinished tile.
    levels: Vec<Vec<Hash>>,
    /// The unfinished entry bundle.
    bundle: Vec<u8>,
}

impl Edge {
    /// The edge of an empty log.
    pub const fn new() -> Self {
        Self { range: CompactRange::new(), levels: Vec::new(), bundle: Vec::new() }
    }

    /// Rebuilds the edge of a log of `size` entries from its stored tiles.
    ///
    /// `read` is asked for each partial tile and, for the peaks, for the full tiles they lie in. The entries of the last
    /// bundle are hashed again and compared with level 0; the caller compares [`Edge::root`] with the signed root, which
    /// is what makes the rest trustworthy.
    ///
    /// # Errors
    /// The reader's error, or [`TileError`] when bytes do not have the form or do not agree.
    pub fn load<E: From<TileError>>(size: u64, mut read: impl FnMut(Tile) -> Result<Vec<u8>, E>) -> Result<Self, E> {
        let mut levels = Vec::new();
        for level in 0..=TILE_LEVEL_MAX {
            let kind = TileKind::Hashes { level };
            let count = size >> (level * TILE_HEIGHT);
            if count == 0 {
                break;
            }
            let index = count / TILE_WIDTH;
            levels.push(match width_at(kind, index, size) {
                Some(width) => decode_hashes(&read(Tile { kind, index, width })?, width)?,
                None => Vec::new(),
            });
        }
        let mut peaks = Vec::new();
        for node in CompactRange::peak_nodes(size) {
            let tile = Tile::holding(node, size).expect("a peak is complete");
            peaks.push(if tile.is_full() {
                node_in_tile(node, tile, &decode_hashes(&read(tile)?, tile.width)?)?
            } else {
                node_in_tile(node, tile, &levels[usize::from(node.level / TILE_HEIGHT)])?
            });
        }
        let range = CompactRange::from_peaks(size, peaks).expect("one peak for each set bit");
        let bundle = match width_at(TileKind::Entries, size / TILE_WIDTH, size) {
            Some(width) => {
                let bytes = read(Tile { kind: TileKind::Entries, index: size / TILE_WIDTH, width })?;
                let rehashed: Vec<Hash> = decode_bundle(&bytes, width)?.into_iter().map(leaf_hash).collect();
                if Some(&rehashed) != levels.first() {
                    return Err(TileError::BadBundle.into());
                }
                bytes
            }
            None => Vec::new(),
        };
        Ok(Self { range, levels, bundle })
    }

    /// Number of entries.
    pub const fn size(&self) -> u64 {
        self.range.size()
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.range.root()
    }

    /// The peaks.
    pub const fn range(&self) -> &CompactRange {
        &self.range
    }

    /// Appends one entry; each tile it fills goes to `full`.
    ///
    /// # Errors
    /// [`TileError::EntryTooLong`]; the edge is then unchanged.
    pub fn append(&mut self, entry: &[u8], mut full: impl FnMut(Tile, Vec<u8>)) -> Result<(), TileError> {
        push_entry(&mut self.bundle, entry)?;
        let levels = &mut self.levels;
        self.range.append_with(leaf_hash(entry), |node, hash| {
            if !node.level.is_multiple_of(TILE_HEIGHT) {
                return;
            }
            let level = node.level / TILE_HEIGHT;
            if levels.len() == usize::from(level) {
                levels.push(Vec::new());
            }
            let hashes = &mut levels[usize::from(level)];
            hashes.push(hash);
            if hashes.len() as u64 == TILE_WIDTH {
                let tile =
                    Tile { kind: TileKind::Hashes { level }, index: node.index / TILE_WIDTH, width: TILE_WIDTH as u16 };
                full(tile, encode_hashes(hashes));
                hashes.clear();
            }
        });
        if self.size().is_multiple_of(TILE_WIDTH) {
            let tile = Tile { kind: TileKind::Entries, index: self.size() / TILE_WIDTH - 1, width: TILE_WIDTH as u16 };
            full(tile, std::mem::take(&mut self.bundle));
        }
        Ok(())
    }

    /// The partial tiles that a checkpoint of this size needs, other than those it shares with a log of `since` entries.
    pub fn partials(&self, since: u64) -> Vec<(Tile, Vec<u8>)> {
        let mut tiles = Vec::new();
        for (level, hashes) in (0u8..).zip(&self.levels) {
            let kind = TileKind::Hashes { level };
            let index = (self.size() >> (level * TILE_HEIGHT)) / TILE_WIDTH;
            let tile = Tile { kind, index, width: hashes.len() as u16 };
            if !hashes.is_empty() && width_at(kind, index, since) != Some(tile.width) {
                tiles.push((tile, encode_hashes(hashes)));
            }
        }
        if !self.bundle.is_empty() && since != self.size() {
            let width = (self.size() % TILE_WIDTH) as u16;
            let tile = Tile { kind: TileKind::Entries, index: self.size() / TILE_WIDTH, width };
            tiles.push((tile, self.bundle.clone()));
        }
        tiles
    }
}

impl Default for Edge {
    fn default() -> Self {
        Self::new()
    }
}

/// A tile of hashes: one after the other.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|h| *h.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proof::{self, node_from_leaves};

    #[test]
    fn paths_of_the_specification() {
        let tile = Tile { kind: TileKind::Hashes { level: 0 }, index: 1_234_067, width: 256 };
        assert_eq!(tile.path(), "tile/0/x001/x234/067");
        // Size 70,000: 273 full and one 112-wide tile, one full and one 17-wide, one 1-wide.
        let size = 70_000;
        let width = |level, index| width_at(TileKind::Hashes { level }, index, size);
        assert_eq!((width(0, 272), width(0, 273), width(0, 274)), (Some(256), Some(112), None));
        assert_eq!((width(1, 0), width(1, 1), width(1, 2)), (Some(256), Some(17), None));
        assert_eq!((width(2, 0), width(2, 1), width(3, 0)), (Some(1), None, None));
        assert_eq!(Tile::bundle_of(69_999, size).unwrap().path(), "tile/entries/273.p/112");
    }

    #[test]
    fn other_spellings_are_not_paths() {
        for bad in [
            "tile/0/67",
            "tile/0/0067",
            "tile/0/x000/067",
            "tile/0/001/067",
            "tile/0/x001/x067",
            "tile/00/067",
            "tile/8/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/05",
            "tile/0/000.p/+5",
            "tile/0/000.p/",
            "tile/0/000.p/5/",
            "tile/0/",
            "tile//000",
            "tile/0/../000",
            "tile/0/%2e%2e",
            "/tile/0/000",
            "tile/0/000 ",
            "tile/entries/0",
            "tile/data/000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/0/x1/000",
            "tile/0/+01",
            "tile/0/00\0",
            "tile/0/000.p/5.p/5",
            "checkpoint",
            "",
        ] {
            assert_eq!(Tile::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_path_parses_to_the_tile_that_wrote_it(entries: bool, level in 0u8..8, index in 0u64..=(TREE_SIZE_MAX / TILE_WIDTH), width in 1u16..=256) {
            let kind = if entries { TileKind::Entries } else { TileKind::Hashes { level } };
            let tile = Tile { kind, index, width };
            prop_assert_eq!(Tile::parse(&tile.path()), Some(tile));
        }

        #[test]
        fn no_text_makes_the_path_parser_panic(path in "\\PC{0,40}") {
            if let Some(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.path(), path);
            }
        }

        #[test]
        fn bundles_round_trip(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..=256)) {
            let mut bundle = Vec::new();
            for entry in &entries {
                push_entry(&mut bundle, entry).unwrap();
            }
            let width = entries.len() as u16;
            prop_assert_eq!(decode_bundle(&bundle, width).unwrap(), entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(decode_bundle(&bundle, width - 1), Err(TileError::BadBundle));
            bundle.pop();
            prop_assert_eq!(decode_bundle(&bundle, width), Err(TileError::BadBundle));
        }
    }

    /// A store that keeps what an [`Edge`] emits, as a file server would.
    fn grow(entries: &[Vec<u8>], batch: usize) -> (Edge, HashMap<Tile, Vec<u8>>) {
        let (mut edge, mut store) = (Edge::new(), HashMap::new());
        for chunk in entries.chunks(batch) {
            let since = edge.size();
            for entry in chunk {
                edge.append(entry, |tile, bytes| assert!(store.insert(tile, bytes).is_none())).unwrap();
            }
            store.extend(edge.partials(since));
        }
        (edge, store)
    }

    #[test]
    fn tiles_hold_every_node_of_every_published_size() {
        let entries: Vec<Vec<u8>> = (0u32..70_000).map(|i| i.to_be_bytes().to_vec()).collect();
        let leaves: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
        let (edge, store) = grow(&entries, 997);
        for size in [997, 1994, 65_802, 66_799, 69_790, 70_000u64] {
            for index in [0, size / 3, size - 1] {
                let plan = proof::inclusion(index, size).unwrap();
                let fetched: Vec<Hash> = plan
                    .nodes()
                    .map(|node| {
                        let tile = Tile::holding(node, size).unwrap();
                        let bytes = store.get(&tile).or_else(|| store.get(&tile.full())).expect("a stored tile");
                        let hashes = decode_hashes(bytes, (bytes.len() / 32) as u16).unwrap();
                        let hash = node_in_tile(node, tile, &hashes).unwrap();
                        assert_eq!(hash, node_from_leaves(&leaves, node));
                        hash
                    })
                    .collect();
                let path = plan.build(&fetched).unwrap();
                let root = naive_root(&leaves[..size as usize]);
                proof::verify_inclusion(index, size, &leaves[index as usize], &path, &root).unwrap();
            }
        }
        let loaded = Edge::load(70_000, |tile| store.get(&tile).cloned().ok_or(TileError::NotInTile)).unwrap();
        assert_eq!(loaded, edge);
    }

    #[test]
    fn hash_tiles_give_the_nodes_of_what_was_read_and_no_others() {
        let entries: Vec<Vec<u8>> = (0u32..300).map(|i| i.to_be_bytes().to_vec()).collect();
        let leaves: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
        let (_, store) = grow(&entries, 300);
        let (first, second) = (Node { level: 3, index: 5 }, Node { level: 2, index: 64 });
        let tile = Tile::holding(first, 300).unwrap();
        let mut tiles = HashTiles::default();
        assert_eq!((tiles.has(tile), tiles.node(first)), (false, Err(TileError::NotInTile)));
        assert!(tiles.insert(tile, &store[&tile][1..]).is_err() && !tiles.has(tile));
        tiles.insert(tile, &store[&tile]).unwrap();
        assert_eq!((tiles.has(tile), tiles.node(first)), (true, Ok(node_from_leaves(&leaves, first))));
        assert_eq!(tiles.node(second), Err(TileError::NotInTile));
        let tile = Tile::holding(second, 300).unwrap();
        tiles.insert(tile, &store[&tile]).unwrap();
        assert_eq!(tiles.node(second), Ok(node_from_leaves(&leaves, second)));
        // Not complete at this size, so not in the tile.
        assert_eq!(tiles.node(Node { level: 6, index: 4 }), Err(TileError::NotInTile));
    }

    #[test]
    fn an_edge_loads_at_every_small_size_and_goes_on_alike() {
        let entries: Vec<Vec<u8>> = (0u32..600).map(|i| i.to_be_bytes().to_vec()).collect();
        for size in (0..=40).chain(250..=260).chain(510..=515) {
            let (edge, store) = grow(&entries[..size], 7);
            let read = |tile: Tile| store.get(&tile).cloned().ok_or(TileError::NotInTile);
            let mut loaded = Edge::load(size as u64, read).unwrap();
            assert_eq!(loaded, edge);
            let mut edge = edge;
            for entry in &entries[size..size + 20] {
                loaded.append(entry, |_, _| {}).unwrap();
                edge.append(entry, |_, _| {}).unwrap();
            }
            assert_eq!(loaded, edge);
        }
    }
}
