//! The right edge of a growing tree: enough to append, to know the root and to prove the last leaf, in log(n) hashes.
//!
//! A tree of `size` leaves falls apart into complete subtrees, one for each set bit of `size`, largest first. Their
//! roots ("peaks") are all that is kept. RFC 6962 section 2.1 makes the root a right fold over them.

use crate::{
    TREE_SIZE_MAX,
    hash::{EMPTY_ROOT, Hash, node_hash},
    proof::Node,
};

/// Peaks of the complete subtrees of a tree, largest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    peaks: Vec<Hash>,
}

impl CompactRange {
    /// The empty tree.
    pub const fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// The tree of `size` leaves with these peaks, largest first.
    ///
    /// Returns `None` unless there is exactly one peak for each set bit of `size` and `size` is in range. Whether the
    /// peaks are the right ones shows when [`CompactRange::root`] is compared with a root that is trusted.
    pub fn from_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (size <= TREE_SIZE_MAX && peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// The nodes whose hashes [`CompactRange::from_peaks`] wants, in its order.
    pub fn peak_nodes(size: u64) -> Vec<Node> {
        Node::cover(0, size)
    }

    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The peaks, largest subtree first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends one leaf hash.
    pub fn append(&mut self, leaf: Hash) {
        self.append_with(leaf, |_, _| {});
    }

    /// Appends one leaf hash and calls `completed` for the leaf and for every inner node it completes, bottom up.
    ///
    /// # Panics
    /// At 2^62 leaves; a log that grew by a million entries a second would reach that in 146,000 years.
    pub fn append_with(&mut self, leaf: Hash, mut completed: impl FnMut(Node, Hash)) {
        assert!(self.size < TREE_SIZE_MAX, "the tree is full");
        let mut node = Node { level: 0, index: self.size };
        let mut hash = leaf;
        completed(node, hash);
        // Each trailing one-bit of the old size is a peak as large as what we hold: merge.
        while node.index & 1 == 1 {
            let left = self.peaks.pop().expect("a peak for each set bit of the size");
            hash = node_hash(&left, &hash);
            node = Node { level: node.level + 1, index: node.index >> 1 };
            completed(node, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root: RFC 6962 section 2.1.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => EMPTY_ROOT,
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }

    /// The inclusion path of the last leaf, given how it was appended: `self` is the tree *before* that leaf.
    ///
    /// The last leaf's siblings are exactly the peaks before it, smallest first.
    pub fn path_of_next(&self) -> Vec<Hash> {
        self.peaks.iter().rev().copied().collect()
    }
}

impl Default for CompactRange {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::leaf_hash,
        proof::{naive_root, node_from_leaves, verify_inclusion},
    };

    #[test]
    fn equals_the_recursive_definition_and_proves_its_last_leaf() {
        let leaves: Vec<Hash> = (0u32..300).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut tree = CompactRange::new();
        assert_eq!(tree.root(), naive_root(&[]));
        for (n, leaf) in leaves.iter().enumerate() {
            let before = tree.clone();
            let mut seen = Vec::new();
            tree.append_with(*leaf, |node, hash| seen.push((node, hash)));
            assert_eq!(tree.root(), naive_root(&leaves[..=n]));
            for (node, hash) in seen {
                assert_eq!(hash, node_from_leaves(&leaves, node), "{node:?}");
            }
            verify_inclusion(n as u64, n as u64 + 1, leaf, &before.path_of_next(), &tree.root()).unwrap();
            let peaks = CompactRange::peak_nodes(tree.size()).into_iter().map(|p| node_from_leaves(&leaves, p));
            assert_eq!(CompactRange::from_peaks(tree.size(), peaks.collect()), Some(tree.clone()));
        }
        assert_eq!(CompactRange::from_peaks(3, vec![leaves[0]]), None);
    }
}
