//! Inclusion and consistency proofs: plan which hashes are needed, build from what was fetched, verify from nothing.
//!
//! A proof is a list of hashes, from the leaf upwards (RFC 6962 sections 2.1.1 and 2.1.2). Where RFC 6962 asks for the
//! root of a subtree that is not complete, the plan asks for the complete subtrees it consists of and folds them, so that
//! only nodes that never change are ever fetched.
//!
//! The verifiers follow RFC 9162 sections 2.1.3.2 and 2.1.4.2; they share no code with the planners. A proof of the wrong
//! length is refused before anything is hashed: a longer one would be malleable.

use crate::{
    TREE_SIZE_MAX, WITNESSED_SIZE_MAX,
    hash::{EMPTY_ROOT, Hash, node_hash},
};

/// Most hashes a consistency or inclusion proof can have (2^62 leaves; C2SP tlog-witness caps proofs at 63 lines).
pub const PROOF_HASHES_MAX: usize = 63;

/// A complete subtree: the leaves from `index << level` to `(index + 1) << level`, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Height above the leaves.
    pub level: u8,
    /// Position among the nodes of its level.
    pub index: u64,
}

/// What can be wrong with a proof or with a request for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index is not below the size, the old size is not between 1 and the new, or a size is over 2^62.
    #[error("no such proof: index or sizes out of range")]
    OutOfRange,
    /// The number of hashes is not what index and size call for.
    #[error("the proof has {got} hashes, {want} are called for")]
    WrongLength {
        /// Hashes that index and size call for.
        want: usize,
        /// Hashes that were given.
        got: usize,
    },
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root")]
    RootMismatch,
}

impl Node {
    /// The complete subtrees that cover leaves `start` to `end` (exclusive) of a tree, left to right.
    ///
    /// `start` must be a multiple of the largest power of two below `end - start`, as it is for every subtree that
    /// RFC 6962 splits off.
    pub fn cover(mut start: u64, end: u64) -> Vec<Self> {
        let mut nodes = Vec::new();
        while start < end {
            let level = (end - start).ilog2() as u8;
            nodes.push(Self { level, index: start >> level });
            start += 1 << level;
        }
        nodes
    }
}

/// The hashes of one proof, each as the complete subtrees to fold into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    subtrees: Vec<Vec<Node>>,
}

impl Plan {
    /// The nodes to fetch, in the order [`Plan::build`] wants their hashes.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.subtrees.iter().flatten().copied()
    }

    /// Turns the fetched hashes into the proof.
    ///
    /// # Errors
    /// [`ProofError::WrongLength`] unless there is one hash for each planned node.
    pub fn build(&self, fetched: &[Hash]) -> Result<Vec<Hash>, ProofError> {
        let want = self.subtrees.iter().map(Vec::len).sum();
        if fetched.len() != want {
            return Err(ProofError::WrongLength { want, got: fetched.len() });
        }
        let mut rest = fetched;
        let mut proof = Vec::with_capacity(self.subtrees.len());
        for subtree in &self.subtrees {
            let (these, others) = rest.split_at(subtree.len());
            rest = others;
            let (last, before) = these.split_last().expect("a subtree has at least one node");
            proof.push(before.iter().rev().fold(*last, |right, left| node_hash(left, &right)));
        }
        Ok(proof)
    }
}

/// Where RFC 6962 splits a tree of `n` > 1 leaves: the largest power of two below `n`.
const fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// Plans the inclusion proof of leaf `index` in a tree of `size` leaves (RFC 6962 section 2.1.1).
///
/// # Errors
/// [`ProofError::OutOfRange`] unless `index < size <= 2^62`.
pub fn inclusion(index: u64, size: u64) -> Result<Plan, ProofError> {
    if index >= size || size > TREE_SIZE_MAX {
        return Err(ProofError::OutOfRange);
    }
    let (mut start, mut end) = (0, size);
    let mut subtrees = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            subtrees.push(Node::cover(middle, end));
            end = middle;
        } else {
            subtrees.push(Node::cover(start, middle));
            start = middle;
        }
    }
    subtrees.reverse();
    Ok(Plan { subtrees })
}

/// Plans the consistency proof from `old` to `new` leaves (RFC 6962 section 2.1.2). Equal sizes need no hashes.
///
/// # Errors
/// [`ProofError::OutOfRange`] unless `1 <= old <= new <= 2^62`. From an empty tree there is nothing to prove.
pub fn consistency(old: u64, new: u64) -> Result<Plan, ProofError> {
    if old == 0 || old > new || new > TREE_SIZE_MAX {
        return Err(ProofError::OutOfRange);
    }
    let (mut start, mut end) = (0, new);
    // While every split so far went left, the old tree's root is known to the verifier and is not sent.
    let mut old_root_is_known = true;
    let mut subtrees = Vec::new();
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            subtrees.push(Node::cover(middle, end));
            end = middle;
        } else {
            subtrees.push(Node::cover(start, middle));
            start = middle;
            old_root_is_known = false;
        }
    }
    if !old_root_is_known {
        subtrees.push(Node::cover(start, end));
    }
    subtrees.reverse();
    Ok(Plan { subtrees })
}

/// Checks that `leaf` is leaf `index` of the tree with `size` leaves and this `root` (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`ProofError`]; every reason is a refusal.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size || size > TREE_SIZE_MAX {
        return Err(ProofError::OutOfRange);
    }
    // Below the level where the path leaves the right edge, each level has a sibling; above it, only set bits do.
    let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
    let want = (inner + (index >> inner).count_ones()) as usize;
    if proof.len() != want {
        return Err(ProofError::WrongLength { want, got: proof.len() });
    }
    let (mut fnode, mut snode) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if fnode & 1 == 1 || fnode == snode {
            hash = node_hash(sibling, &hash);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if hash == *root { Ok(()) } else { Err(ProofError::RootMismatch) }
}

/// Checks that the tree of `new` leaves extends the tree of `old` leaves (RFC 9162 section 2.1.4.2).
///
/// # Errors
/// [`ProofError`]; every reason is a refusal, a proof from an empty tree included. Sizes are those that a witness
/// takes.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old == 0 || old > new || new > WITNESSED_SIZE_MAX {
        return Err(ProofError::OutOfRange);
    }
    if old == new {
        if !proof.is_empty() {
            return Err(ProofError::WrongLength { want: 0, got: proof.len() });
        }
        return if old_root == new_root { Ok(()) } else { Err(ProofError::RootMismatch) };
    }
    let want = consistency_len(old, new);
    if proof.len() != want {
        return Err(ProofError::WrongLength { want, got: proof.len() });
    }
    // Step 1: if the old tree is one complete subtree its root stands for the first hash.
    let (first, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first().expect("a proof from an incomplete tree has hashes");
        (*first, rest)
    };
    // Steps 2 and 3: the last leaf of the old tree and of the new, lifted out of the part they share.
    let shift = (old - 1).trailing_ones();
    let (mut fnode, mut snode) = ((old - 1) >> shift, (new - 1) >> shift);
    let (mut from_old, mut from_new) = (first, first);
    for hash in rest {
        if snode == 0 {
            return Err(ProofError::RootMismatch);
        }
        if fnode & 1 == 1 || fnode == snode {
            from_old = node_hash(hash, &from_old);
            from_new = node_hash(hash, &from_new);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, hash);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode == 0 && from_old == *old_root && from_new == *new_root { Ok(()) } else { Err(ProofError::RootMismatch) }
}

/// Number of hashes in the consistency proof from `old` to `new`, for 1 <= old < new.
fn consistency_len(old: u64, new: u64) -> usize {
    let shift = (old - 1).trailing_ones();
    let (fnode, snode) = ((old - 1) >> shift, (new - 1) >> shift);
    // The same count as an inclusion path of node `fnode` in a tree whose last node is `snode`...
    let inner = u64::BITS - (fnode ^ snode).leading_zeros();
    let path = (inner + (fnode >> inner).count_ones()) as usize;
    // ...and one more for the starting hash unless the verifier has it.
    path + usize::from(!old.is_power_of_two())
}

/// The root by RFC 6962's own recursive words: slow, obvious, and what everything else is compared with.
pub fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// The hash of one complete subtree, computed from all leaves.
///
/// # Panics
/// If the subtree is not inside the tree.
pub fn node_from_leaves(leaves: &[Hash], node: Node) -> Hash {
    let (start, width) = ((node.index << node.level) as usize, 1usize << node.level);
    naive_root(&leaves[start..start + width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n as u32).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    fn build(plan: &Plan, leaves: &[Hash]) -> Vec<Hash> {
        let fetched: Vec<Hash> = plan.nodes().map(|n| node_from_leaves(leaves, n)).collect();
        plan.build(&fetched).unwrap()
    }

    /// RFC 6962's PATH and SUBPROOF in its own words.
    fn naive_path(m: usize, d: &[Hash]) -> Vec<Hash> {
        if d.len() == 1 {
            return vec![];
        }
        let k = split(d.len() as u64) as usize;
        let (mut path, sibling) = if m < k {
            (naive_path(m, &d[..k]), naive_root(&d[k..]))
        } else {
            (naive_path(m - k, &d[k..]), naive_root(&d[..k]))
        };
        path.push(sibling);
        path
    }

    fn naive_subproof(m: usize, d: &[Hash], known: bool) -> Vec<Hash> {
        if m == d.len() {
            return if known { vec![] } else { vec![naive_root(d)] };
        }
        let k = split(d.len() as u64) as usize;
        let (mut proof, sibling) = if m <= k {
            (naive_subproof(m, &d[..k], known), naive_root(&d[k..]))
        } else {
            (naive_subproof(m - k, &d[k..], false), naive_root(&d[..k]))
        };
        proof.push(sibling);
        proof
    }

    /// Everything that differs from the one right proof must be refused: each bit, each missing and each extra hash.
    fn refuses_all_mutations(proof: &[Hash], accepts: impl Fn(&[Hash]) -> bool) {
        assert!(accepts(proof));
        for i in 0..proof.len() {
            for bit in 0..256 {
                let mut bad = proof.to_vec();
                let mut bytes = *bad[i].as_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bad[i] = Hash::new(bytes);
                assert!(!accepts(&bad), "hash {i} bit {bit}");
            }
            let mut missing = proof.to_vec();
            missing.remove(i);
            assert!(!accepts(&missing), "without hash {i}");
            let mut twice = proof.to_vec();
            twice.insert(i, proof[i]);
            assert!(!accepts(&twice), "hash {i} twice");
        }
        for extra in [Hash::ZERO, EMPTY_ROOT] {
            let mut longer = proof.to_vec();
            longer.push(extra);
            assert!(!accepts(&longer), "one hash more");
        }
    }

    #[test]
    fn all_trees_to_64_every_proof_and_every_flipped_bit() {
        let all = leaves(64);
        for size in 1..=64usize {
            let d = &all[..size];
            let root = naive_root(d);
            for index in 0..size {
                let proof = build(&inclusion(index as u64, size as u64).unwrap(), d);
                assert_eq!(proof, naive_path(index, d));
                refuses_all_mutations(&proof, |p| {
                    verify_inclusion(index as u64, size as u64, &d[index], p, &root).is_ok()
                });
                assert!(verify_inclusion(index as u64, size as u64, &Hash::ZERO, &proof, &root).is_err());
                assert!(verify_inclusion(index as u64, size as u64, &d[index], &proof, &EMPTY_ROOT).is_err());
            }
            for old in 1..=size {
                let proof = build(&consistency(old as u64, size as u64).unwrap(), d);
                assert_eq!(proof, naive_subproof(old, d, true));
                let old_root = naive_root(&d[..old]);
                refuses_all_mutations(&proof, |p| {
                    verify_consistency(old as u64, size as u64, &old_root, &root, p).is_ok()
                });
                assert!(verify_consistency(old as u64, size as u64, &Hash::ZERO, &root, &proof).is_err());
                assert!(verify_consistency(old as u64, size as u64, &old_root, &Hash::ZERO, &proof).is_err());
            }
        }
    }

    #[test]
    fn a_proof_holds_for_no_other_position() {
        let all = leaves(40);
        for size in 1..=40u64 {
            let root = naive_root(&all[..size as usize]);
            for index in 0..size {
                let proof = build(&inclusion(index, size).unwrap(), &all);
                for other in 0..=41u64 {
                    let verdict = verify_inclusion(other, size, &all[index as usize], &proof, &root);
                    assert_eq!(verdict.is_ok(), other == index, "{index} of {size} as {other}");
                }
            }
        }
    }

    #[test]
    fn out_of_range_is_an_error_not_a_panic() {
        let h = Hash::ZERO;
        for (index, size) in [(0, 0), (1, 1), (u64::MAX, u64::MAX), (0, TREE_SIZE_MAX + 1)] {
            assert_eq!(inclusion(index, size), Err(ProofError::OutOfRange));
            assert_eq!(verify_inclusion(index, size, &h, &[], &h), Err(ProofError::OutOfRange));
        }
        for (old, new) in [(0, 0), (0, 5), (6, 5), (1, u64::MAX)] {
            assert_eq!(consistency(old, new), Err(ProofError::OutOfRange));
            assert_eq!(verify_consistency(old, new, &h, &h, &[]), Err(ProofError::OutOfRange));
        }
        // The sizes that only a witness takes.
        assert_eq!(consistency(1, TREE_SIZE_MAX + 1), Err(ProofError::OutOfRange));
        let root = Hash::new([1; 32]);
        let next = node_hash(&root, &h);
        assert_eq!(verify_consistency(TREE_SIZE_MAX, TREE_SIZE_MAX + 1, &root, &next, &[h]), Ok(()));
        for old in [1, 3, TREE_SIZE_MAX - 1, TREE_SIZE_MAX + 1, WITNESSED_SIZE_MAX - 1] {
            let proof = vec![h; consistency_len(old, WITNESSED_SIZE_MAX)];
            let verdict = verify_consistency(old, WITNESSED_SIZE_MAX, &h, &root, &proof);
            assert_eq!(verdict, Err(ProofError::RootMismatch), "{old}");
        }
        assert_eq!(verify_consistency(1, WITNESSED_SIZE_MAX + 1, &h, &h, &[]), Err(ProofError::OutOfRange));
        for size in [TREE_SIZE_MAX, TREE_SIZE_MAX - 1, (1 << 61) + 1] {
            for index in [0, 1, size / 2, size - 1] {
                let plan = inclusion(index, size).unwrap();
                assert!(plan.subtrees.len() <= PROOF_HASHES_MAX);
                let err = verify_inclusion(index, size, &h, &vec![h; plan.subtrees.len()], &h).unwrap_err();
                assert_eq!(err, ProofError::RootMismatch);
                let plan = consistency(index + 1, size).unwrap();
                assert!(plan.subtrees.len() <= PROOF_HASHES_MAX);
                let proof = vec![h; plan.subtrees.len()];
                let verdict = verify_consistency(index + 1, size, &h, &Hash::new([1; 32]), &proof);
                assert_eq!(verdict, Err(ProofError::RootMismatch));
            }
        }
    }
}
