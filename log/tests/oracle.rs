//! Our tree against two others: `rs_merkle` with an RFC 6962 hasher, and the recursive definition.
//!
//! rs_merkle is an oracle here and a baseline in the benches, never the log's tree: it keeps all leaves in memory, has no
//! consistency proofs, and its verifier accepts a proof with a surplus hash.

use rs_merkle::{Hasher, MerkleTree};
use waymark_log::{
    hash::{EMPTY_ROOT, Hash, leaf_hash, node_hash},
    proof::{inclusion, naive_root, node_from_leaves, verify_inclusion},
    range::CompactRange,
};

/// RFC 6962 for rs_merkle: leaves arrive hashed; an inner node has the 0x01 prefix; a lone node is passed up.
#[derive(Clone)]
struct Rfc6962;

impl Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        *Hash::sha256(&[data]).as_bytes()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        right.map_or(*left, |right| *node_hash(&Hash::new(*left), &Hash::new(*right)).as_bytes())
    }
}

#[test]
fn all_roots_and_inclusion_proofs_to_300() {
    let leaves: Vec<Hash> = (0u32..300).map(|i| leaf_hash(&i.to_le_bytes())).collect();
    let mut ours = CompactRange::new();
    assert_eq!(ours.root(), EMPTY_ROOT);
    let mut proofs = 0;
    for size in 1..=leaves.len() {
        ours.append(leaves[size - 1]);
        let d = &leaves[..size];
        let raw: Vec<[u8; 32]> = d.iter().map(|h| *h.as_bytes()).collect();
        let theirs = MerkleTree::<Rfc6962>::from_leaves(&raw);
        assert_eq!(Some(*ours.root().as_bytes()), theirs.root());
        assert_eq!(ours.root(), naive_root(d));
        for (index, leaf) in d.iter().enumerate() {
            let plan = inclusion(index as u64, size as u64).unwrap();
            let fetched: Vec<Hash> = plan.nodes().map(|n| node_from_leaves(d, n)).collect();
            let path = plan.build(&fetched).unwrap();
            let their_path: Vec<Hash> = theirs.proof(&[index]).proof_hashes().iter().map(|h| Hash::new(*h)).collect();
            assert_eq!(path, their_path, "leaf {index} of {size}");
            verify_inclusion(index as u64, size as u64, leaf, &path, &ours.root()).unwrap();
            proofs += 1;
        }
    }
    assert_eq!(proofs, 45_150);
}
