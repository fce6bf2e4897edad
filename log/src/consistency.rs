//! Whether one tree is the beginning of another, from tiles: which tiles are needed, and what they show.
//!
//! "Plan, fetch, check": [`Prefix::tiles`] names the tiles, somebody reads them, [`Prefix::check`] judges. Tiles are not
//! signed, so a check that fails shows nothing by itself. What is shown to everybody is a consistency proof that **holds** from
//! another root: the larger tree had that root at the smaller size, and not the one that was signed ([`Earlier`]).

use crate::{
    hash::Hash,
    proof::{self, Plan, ProofError, verify_consistency},
    range::CompactRange,
    tile::{HashTiles, Tile, TileError},
};

/// What a tree was at a smaller size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Earlier {
    /// Its root.
    pub root: Hash,
    /// The consistency proof (RFC 6962) from that root to the larger tree's.
    pub proof: Vec<Hash>,
}

/// Why a tree is not shown to be the beginning of another.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotPrefix {
    /// A tile that is needed was not read, or does not have the form.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The tiles are of another tree than the larger one.
    #[error("the tiles do not lead to the larger tree's root")]
    OtherTree,
    /// The larger tree has another beginning, and here is the proof.
    #[error("the larger tree had another root at the smaller size")]
    Forked(Earlier),
}

/// The plan to show that the tree of `old` leaves is the beginning of the tree of `new` leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prefix {
    old: u64,
    new: u64,
    plan: Plan,
}

impl Prefix {
    /// Plans it.
    ///
    /// # Errors
    /// [`ProofError::OutOfRange`] unless `1 <= old <= new <= 2^62`.
    pub fn plan(old: u64, new: u64) -> Result<Self, ProofError> {
        Ok(Self { old, new, plan: proof::consistency(old, new)? })
    }

    /// The tiles to read, each once, as wide as they are in a tree of `published` leaves.
    ///
    /// With a published size above both, only full tiles and the log's present edge are named: which tree is compared shows no
    /// closer than to the 256 entries of a tile. A size below `new` is taken as `new`.
    pub fn tiles(&self, published: u64) -> Vec<Tile> {
        let size = published.max(self.new);
        let nodes = CompactRange::peak_nodes(self.old).into_iter().chain(self.plan.nodes());
        let mut tiles: Vec<Tile> = nodes.filter_map(|node| Tile::holding(node, size)).collect();
        tiles.sort_unstable();
        tiles.dedup();
        tiles
    }

    /// What the tiles say that the larger tree was at the smaller size. Nothing is compared with a signed root yet.
    ///
    /// # Errors
    /// [`TileError::NotInTile`] if a tile is missing.
    pub fn earlier(&self, tiles: &HashTiles) -> Result<Earlier, TileError> {
        let node = |node| tiles.node(node);
        let peaks = CompactRange::peak_nodes(self.old).into_iter().map(node).collect::<Result<Vec<_>, _>>()?;
        let fetched = self.plan.nodes().map(node).collect::<Result<Vec<_>, _>>()?;
        // Both are as long as they were planned.
        let range = CompactRange::from_peaks(self.old, peaks).ok_or(TileError::NotInTile)?;
        let proof = self.plan.build(&fetched).map_err(|_| TileError::NotInTile)?;
        Ok(Earlier { root: range.root(), proof })
    }

    /// Judges by the two roots that were signed.
    ///
    /// # Errors
    /// [`NotPrefix`].
    pub fn check(&self, tiles: &HashTiles, old_root: &Hash, new_root: &Hash) -> Result<Earlier, NotPrefix> {
        let earlier = self.earlier(tiles)?;
        if verify_consistency(self.old, self.new, &earlier.root, new_root, &earlier.proof).is_err() {
            return Err(NotPrefix::OtherTree);
        }
        if earlier.root == *old_root { Ok(earlier) } else { Err(NotPrefix::Forked(earlier)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::leaf_hash,
        proof::naive_root,
        tile::{TILE_HEIGHT, TILE_WIDTH, TileKind},
    };

    fn leaves(n: u64) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    /// A hash tile by its definition.
    fn read(leaves: &[Hash], tile: Tile) -> Vec<u8> {
        let TileKind::Hashes { level } = tile.kind else { panic!("a hash tile") };
        let width = 1usize << (u32::from(level) * u32::from(TILE_HEIGHT));
        let first = (tile.index * TILE_WIDTH) as usize;
        let hash = |i: usize| *naive_root(&leaves[i * width..(i + 1) * width]).as_bytes();
        (first..first + usize::from(tile.width)).flat_map(hash).collect()
    }

    fn fetch(leaves: &[Hash], wanted: Vec<Tile>) -> HashTiles {
        let mut tiles = HashTiles::default();
        wanted.into_iter().for_each(|tile| tiles.insert(tile, &read(leaves, tile)).unwrap());
        tiles
    }

    #[test]
    fn every_prefix_is_shown_from_the_tiles_that_are_named() {
        let all = leaves(700);
        for new in [1u64, 2, 255, 256, 257, 513, 700] {
            for old in (1..=new).filter(|old| new < 300 || old % 7 == 0 || new - old < 3) {
                let (prefix, roots) = (
                    Prefix::plan(old, new).unwrap(),
                    (naive_root(&all[..old as usize]), naive_root(&all[..new as usize])),
                );
                for published in [0, new, 700] {
                    let tiles = fetch(&all, prefix.tiles(published));
                    assert!(prefix.check(&tiles, &roots.0, &roots.1).is_ok(), "{old} in {new}, published {published}");
                }
            }
        }
        assert!(Prefix::plan(0, 1).is_err() && Prefix::plan(2, 1).is_err());
    }

    #[test]
    fn another_beginning_is_shown_by_a_proof_that_holds_and_other_tiles_show_nothing() {
        let (all, mut other) = (leaves(600), leaves(600));
        other[299] = leaf_hash(b"another");
        let (old, new) = (300usize, 600usize);
        let prefix = Prefix::plan(300, 600).unwrap();
        let tiles = fetch(&all, prefix.tiles(600));
        let (signed, now) = (naive_root(&other[..old]), naive_root(&all[..new]));
        let Err(NotPrefix::Forked(earlier)) = prefix.check(&tiles, &signed, &now) else { panic!("not seen") };
        assert_eq!(earlier.root, naive_root(&all[..old]));
        verify_consistency(300, 600, &earlier.root, &now, &earlier.proof).unwrap();
        let of_other = fetch(&other, prefix.tiles(600));
        assert_eq!(prefix.check(&of_other, &signed, &now), Err(NotPrefix::OtherTree));
        let none = HashTiles::default();
        assert_eq!(prefix.check(&none, &signed, &now), Err(NotPrefix::Tile(TileError::NotInTile)));
    }

    #[test]
    fn two_trees_of_one_tile_are_compared_by_the_same_reads() {
        let names = |old, new| Prefix::plan(old, new).unwrap().tiles(70_000);
        // Not whole multiples of a tile, and not its first leaf: there nothing of the tile itself is needed.
        let first = names(300, 66_000);
        for old in 301..512 {
            assert_eq!(names(old, 66_000), first, "{old}");
        }
        assert!(
            first.iter().all(|t| t.is_full() || t.path().ends_with(".p/17") || t.path().ends_with(".p/1")),
            "{first:?}"
        );
    }
}
