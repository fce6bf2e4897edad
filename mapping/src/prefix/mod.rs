//! The prefix map: a KEYTRANS prefix tree from label to commitment.
//!
//! ```text
//! leaf     SHA-256(0x02 || label[32] || commitment[32])
//! parent   SHA-256(0x03 || left || right)          a missing child counts as 32 zero bytes
//! ```
//!
//! Bit d of a label, most significant first, chooses left (0) or right (1) at depth d. A subtree with one entry is that
//! entry's leaf; an empty map has the root of 32 zero bytes. The tree's shape depends on its entries alone, not on the
//! order they came in, so that whoever has the log rebuilds the map and compares roots.
//!
//! draft-ietf-keytrans-protocol at commit 526cc8a, cipher suite 0x0002.

mod proof;
mod tree;

pub use proof::{PrefixProof, ProofRefused, Searched};
pub use tree::{AlreadyPresent, PrefixTree};
use waymark_log::hash::Hash;

/// What stands for a missing child, and the root of an empty map.
pub const EMPTY: Hash = Hash::ZERO;

fn leaf_value(key: &Hash, commitment: &Hash) -> Hash {
    Hash::sha256(&[&[2], key.as_bytes(), commitment.as_bytes()])
}

fn parent_value(left: &Hash, right: &Hash) -> Hash {
    Hash::sha256(&[&[3], left.as_bytes(), right.as_bytes()])
}

/// Bit `depth` of a key, most significant first.
fn bit(key: &Hash, depth: usize) -> bool {
    key.as_bytes()[depth / 8] & (0x80 >> (depth % 8)) != 0
}

/// Whether two keys agree in their first `depth` bits.
fn share_prefix(a: &Hash, b: &Hash, depth: usize) -> bool {
    (0..depth).all(|d| bit(a, d) == bit(b, d))
}
