//! Roots of earlier sizes and proofs between them, from little memory: the last unfinished tiles, and one hash for each 256
//! entries. Leaf hashes below that are read from stored bundles, by whoever calls.

use waymark_log::{
    hash::Hash,
    proof::{self, Node, naive_root},
    range::CompactRange,
    tile::{self, Edge, TILE_HEIGHT, TILE_WIDTH, Tile, TileError, TileKind},
};

/// The tree over all entries that were believed.
#[derive(Debug)]
pub(crate) struct Tree {
    edge: Edge,
    /// Roots of the full tiles of 256 entries: nodes of level 8.
    tiles: Vec<Hash>,
}

impl Tree {
    pub(crate) const fn new() -> Self {
        Self { edge: Edge::new(), tiles: Vec::new() }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.edge.size()
    }

    pub(crate) fn root(&self) -> Hash {
        self.edge.root()
    }

    pub(crate) const fn range(&self) -> &CompactRange {
        self.edge.range()
    }

    /// Appends one entry; an entry bundle that it fills goes to `full`.
    pub(crate) fn append(&mut self, entry: &[u8], mut full: impl FnMut(u64, Vec<u8>)) -> Result<(), TileError> {
        let tiles = &mut self.tiles;
        let mut filled = None;
        self.edge.append(entry, |tile, bytes| match tile.kind {
            TileKind::Entries => full(tile.index, bytes),
            TileKind::Hashes { level: 0 } => filled = Some((tile, bytes)),
            TileKind::Hashes { .. } => {}
        })?;
        if let Some((tile, bytes)) = filled {
            tiles.push(naive_root(&tile::decode_hashes(&bytes, tile.width)?));
        }
        Ok(())
    }

    /// The entry bundle that is not full yet.
    pub(crate) fn partial(&self) -> Option<(u64, Vec<u8>)> {
        let bundle = |(tile, bytes): (Tile, Vec<u8>)| (tile.kind == TileKind::Entries).then_some((tile.index, bytes));
        self.edge.partials(0).into_iter().find_map(bundle)
    }

    /// The root at `size`; `None` beyond the tree. `leaves` reads the leaf hashes of a stored bundle.
    pub(crate) fn root_at<E>(
        &self,
        size: u64,
        leaves: impl FnMut(u64) -> Result<Vec<Hash>, E>,
    ) -> Result<Option<Hash>, E> {
        if size >= self.size() {
            return Ok((size == self.size()).then(|| self.root()));
        }
        let peaks = self.nodes(CompactRange::peak_nodes(size), leaves)?;
        Ok(CompactRange::from_peaks(size, peaks).map(|range| range.root()))
    }

    /// The consistency proof from `old` to `new` (RFC 6962); `None` unless `1 <= old <= new` and both are in the tree.
    pub(crate) fn consistency<E>(
        &self,
        old: u64,
        new: u64,
        leaves: impl FnMut(u64) -> Result<Vec<Hash>, E>,
    ) -> Result<Option<Vec<Hash>>, E> {
        let Some(plan) = proof::consistency(old, new).ok().filter(|_| new <= self.size()) else { return Ok(None) };
        let hashes = self.nodes(plan.nodes().collect(), leaves)?;
        Ok(plan.build(&hashes).ok())
    }

    /// The hashes of a hash tile that this tree holds whole.
    pub(crate) fn hash_tile<E>(
        &self,
        tile: Tile,
        leaves: impl FnMut(u64) -> Result<Vec<Hash>, E>,
    ) -> Result<Vec<Hash>, E> {
        let TileKind::Hashes { level } = tile.kind else { return Ok(Vec::new()) };
        let node = |i: u64| Node { level: level * TILE_HEIGHT, index: tile.index * TILE_WIDTH + i };
        self.nodes((0..u64::from(tile.width)).map(node).collect(), leaves)
    }

    /// The hashes of complete subtrees of this tree.
    fn nodes<E>(&self, nodes: Vec<Node>, mut leaves: impl FnMut(u64) -> Result<Vec<Hash>, E>) -> Result<Vec<Hash>, E> {
        let mut read: Vec<(u64, Vec<Hash>)> = Vec::new();
        let mut hashes = Vec::with_capacity(nodes.len());
        for Node { level, index } in nodes {
            if let Some(above) = level.checked_sub(TILE_HEIGHT) {
                let (first, count) = ((index << above) as usize, 1 << above);
                hashes.push(naive_root(&self.tiles[first..first + count]));
                continue;
            }
            let (n, first) = ((index << level) / TILE_WIDTH, ((index << level) % TILE_WIDTH) as usize);
            if read.last().is_none_or(|(last, _)| *last != n) {
                read.push((n, leaves(n)?));
            }
            let (_, bundle) = &read[read.len() - 1];
            hashes.push(naive_root(&bundle[first..first + (1 << level)]));
        }
        Ok(hashes)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use waymark_log::{hash::leaf_hash, proof::verify_consistency};

    use super::*;

    #[test]
    fn every_earlier_root_is_known_and_proved_to_be_the_beginning() {
        let entries: Vec<Vec<u8>> = (0u32..1100).map(|i| i.to_be_bytes().to_vec()).collect();
        let leaves: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
        let mut bundles = Vec::new();
        let mut tree = Tree::new();
        for entry in &entries {
            tree.append(entry, |index, bytes| bundles.push((index, bytes))).unwrap();
        }
        assert_eq!((bundles.len(), tree.tiles.len(), tree.partial().unwrap().0), (4, 4, 4));
        bundles.extend(tree.partial());
        let read = |n: u64| {
            let width = if n == 4 { 1100 % 256 } else { 256 };
            let split = tile::decode_bundle(&bundles[n as usize].1, width).unwrap();
            Ok::<_, Infallible>(split.into_iter().map(leaf_hash).collect::<Vec<_>>())
        };
        for size in (0..=520).chain(760..=1100) {
            let root = naive_root(&leaves[..size as usize]);
            assert_eq!(tree.root_at(size, read), Ok(Some(root)), "{size}");
            let proof = tree.consistency(size, 1100, read).unwrap();
            assert_eq!(proof.is_some(), size > 0);
            if let Some(proof) = proof {
                verify_consistency(size, 1100, &root, &tree.root(), &proof).unwrap();
            }
        }
        let proof = tree.consistency(300, 700, read).unwrap().unwrap();
        verify_consistency(300, 700, &naive_root(&leaves[..300]), &naive_root(&leaves[..700]), &proof).unwrap();
        assert_eq!(tree.root_at(1101, read), Ok(None));
        assert_eq!(tree.consistency(300, 1101, read), Ok(None));
    }
}
