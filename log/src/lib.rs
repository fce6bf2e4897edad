//! A C2SP transparency log as pure functions: bytes in, verdict out.
//!
//! Nothing here opens a file or a socket, reads a clock, draws a random number or writes a log line.
//! What must be fetched is *planned* here, fetched elsewhere, and *checked* here.
//!
//! Reading order (each module may use only those above it):
//!
//! | module | what it settles | text it follows |
//! |---|---|---|
//! | [`time`] | seconds and milliseconds as types | |
//! | [`hash`] | leaf, node and empty-tree hashes | RFC 6962 section 2.1 |
//! | [`key`] | Ed25519 with one strict acceptance rule | RFC 8032, [`key::Key::verify`] |
//! | [`mldsa`] | ML-DSA-44, verified only with the feature `pq` | FIPS 204 |
//! | [`range`] | the right edge of a growing tree | RFC 6962 section 2.1 |
//! | [`proof`] | inclusion and consistency: plan, build, verify | RFC 6962 2.1.1 and 2.1.2, RFC 9162 2.1.3.2 and 2.1.4.2 |
//! | [`tile`] | 256-wide pieces of the tree, and entry bundles | C2SP tlog-tiles |
//! | [`consistency`] | whether one tree is the beginning of another, from tiles | RFC 6962 section 2.1.2 |
//! | [`note`] | signed text and verifier keys | C2SP signed-note |
//! | [`checkpoint`] | origin, size, root as signed text | C2SP tlog-checkpoint |
//! | [`cosignature`] | a witness's dated signature | C2SP tlog-cosignature |
//! | [`policy`] | whose signatures make a checkpoint good | C2SP tlog-policy |
//! | [`tlogproof`] | one entry's proof as a text file | C2SP tlog-proof |
//! | [`witness`] | add-checkpoint messages and the witness's judgement | C2SP tlog-witness |
//!
//! One example, from entries to a checked proof:
//!
//! ```
//! use waymark_log::{hash, proof, range::CompactRange};
//!
//! let entries: [&[u8]; 3] = [b"open", b"change", b"head"];
//! let leaves: Vec<_> = entries.iter().map(|e| hash::leaf_hash(e)).collect();
//! let mut tree = CompactRange::new();
//! for leaf in &leaves {
//!     tree.append(*leaf);
//! }
//!
//! // Plan which nodes are needed, fetch them (here: compute them), build, verify.
//! let plan = proof::inclusion(1, 3).unwrap();
//! let fetched: Vec<_> = plan.nodes().map(|n| proof::node_from_leaves(&leaves, n)).collect();
//! let path = plan.build(&fetched).unwrap();
//! proof::verify_inclusion(1, 3, &leaves[1], &path, &tree.root()).unwrap();
//! ```

pub mod checkpoint;
pub mod consistency;
pub mod cosignature;
pub mod hash;
pub mod key;
pub mod mldsa;
pub mod note;
pub mod policy;
pub mod proof;
pub mod range;
pub mod tile;
pub mod time;
pub mod tlogproof;
pub mod witness;

/// The largest tree this code handles: 2^62 leaves, so that every sum and shift on sizes stays inside a `u64`.
pub const TREE_SIZE_MAX: u64 = 1 << 62;

/// The largest size that our witness takes from a log: 2^63 - 1, as other witnesses do. It holds no tree, and computes
/// with sizes only where it verifies a proof.
pub const WITNESSED_SIZE_MAX: u64 = i64::MAX as u64;
