//! Append and inclusion of the log against rs_merkle, both with RFC 6962 hashes, in one run and in turns.
//!
//! `cargo bench --bench tree` prints the table of docs/BENCHMARKS.md. Pure computation in memory: no disk is measured here.
//! Each figure is the fastest of several rounds, the two sides taking turns, so that a noisy neighbour hits both.

use std::{
    collections::HashMap,
    hint::black_box,
    time::{Duration, Instant},
};

use rs_merkle::{Hasher, MerkleProof, MerkleTree};
use waymark_log::{
    hash::{Hash, leaf_hash, node_hash},
    proof::{Plan, consistency, inclusion, verify_consistency, verify_inclusion},
    tile::{Edge, HashTiles, TileKind},
};

/// Entries in the log.
const ENTRIES: u64 = 65_536;
/// Entries between two roots where roots are made as the log grows.
const BATCH: usize = 256;
/// Bytes in an entry: about a change entry's size.
const ENTRY_BYTES: usize = 100;
/// Proofs made and checked in a round.
const PROOFS: u64 = 1024;
/// Times that each side is measured.
const ROUNDS: usize = 7;

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

fn main() {
    let entries: Vec<Vec<u8>> =
        (0..ENTRIES).map(|i| i.to_be_bytes().iter().copied().cycle().take(ENTRY_BYTES).collect()).collect();
    println!("| {ENTRIES} entries of {ENTRY_BYTES} bytes | ours | rs_merkle | ratio |\n|---|---|---|---|");
    append_at_once(&entries);
    append_in_batches(&entries);
    let tiles = Tiles::of(&entries);
    let theirs = MerkleTree::<Rfc6962>::from_leaves(&leaves(&entries));
    assert_eq!(theirs.root(), Some(*tiles.root.as_bytes()), "the two trees differ");
    prove(&tiles, &theirs);
    check(&tiles, &theirs);
    consistencies(&tiles);
}

fn leaves(entries: &[Vec<u8>]) -> Vec<[u8; 32]> {
    entries.iter().map(|e| *leaf_hash(e).as_bytes()).collect()
}

/// The fastest round of each side, taken in turns.
fn in_turns(mut ours: impl FnMut(), mut theirs: impl FnMut()) -> (Duration, Duration) {
    let time = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (time(&mut ours), time(&mut theirs))).collect();
    let fastest = |side: fn(&(Duration, Duration)) -> Duration| rounds.iter().map(side).min().unwrap_or_default();
    (fastest(|r| r.0), fastest(|r| r.1))
}

fn row(what: &str, (ours, theirs): (Duration, Duration), count: u64) {
    let each = |d: Duration| d.as_nanos() as f64 / count as f64;
    let (ours, theirs) = (each(ours), each(theirs));
    println!("| {what} | {ours:.0} ns | {theirs:.0} ns | {:.2} |", theirs / ours);
}

/// Ours writes tiles and bundles too; theirs keeps every node in memory.
fn append_at_once(entries: &[Vec<u8>]) {
    let ours = || {
        let mut edge = Edge::new();
        for entry in entries {
            edge.append(entry, |_, bytes| drop(black_box(bytes))).expect("short entries");
        }
        black_box(edge.root());
    };
    let theirs = || {
        black_box(MerkleTree::<Rfc6962>::from_leaves(&leaves(entries)).root());
    };
    row("append, one root at the end, an entry", in_turns(ours, theirs), ENTRIES);
}

fn append_in_batches(entries: &[Vec<u8>]) {
    let ours = || {
        let mut edge = Edge::new();
        for batch in entries.chunks(BATCH) {
            let first = edge.size();
            for entry in batch {
                edge.append(entry, |_, bytes| drop(black_box(bytes))).expect("short entries");
            }
            black_box((edge.root(), edge.partials(first)));
        }
    };
    let theirs = || {
        let mut tree = MerkleTree::<Rfc6962>::new();
        for batch in entries.chunks(BATCH) {
            tree.append(&mut leaves(batch));
            tree.commit();
            black_box(tree.root());
        }
    };
    row(&format!("append, a root every {BATCH}, an entry"), in_turns(ours, theirs), ENTRIES);
}

/// The log as a client meets it: tiles by path.
struct Tiles {
    tiles: HashTiles,
    root: Hash,
    roots: HashMap<u64, Hash>,
    leaves: Vec<Hash>,
}

impl Tiles {
    fn of(entries: &[Vec<u8>]) -> Self {
        let (mut edge, mut files, mut roots) = (Edge::new(), vec![], HashMap::new());
        for entry in entries {
            roots.insert(edge.size(), edge.root());
            edge.append(entry, |tile, bytes| files.push((tile, bytes))).expect("short entries");
        }
        files.extend(edge.partials(0));
        let mut tiles = HashTiles::default();
        for (tile, bytes) in files.into_iter().filter(|(tile, _)| matches!(tile.kind, TileKind::Hashes { .. })) {
            tiles.insert(tile, &bytes).expect("our own tile");
        }
        Self { tiles, root: edge.root(), roots, leaves: entries.iter().map(|e| leaf_hash(e)).collect() }
    }

    fn build(&self, plan: &Plan) -> Vec<Hash> {
        let node = |node| self.tiles.node(node).expect("all tiles are there");
        plan.build(&plan.nodes().map(node).collect::<Vec<_>>()).expect("all nodes are there")
    }

    fn path(&self, index: u64) -> Vec<Hash> {
        self.build(&inclusion(index, ENTRIES).expect("in the tree"))
    }
}

/// Indices all over the log.
fn indices() -> impl Iterator<Item = u64> {
    (0..PROOFS).map(|i| (i * 40_503) % ENTRIES)
}

fn prove(tiles: &Tiles, theirs: &MerkleTree<Rfc6962>) {
    let make_ours = || indices().for_each(|i| drop(black_box(tiles.path(i))));
    let make_theirs = || indices().for_each(|i| drop(black_box(theirs.proof(&[i as usize]))));
    row("inclusion proof, made (ours from tiles)", in_turns(make_ours, make_theirs), PROOFS);
}

fn check(tiles: &Tiles, theirs: &MerkleTree<Rfc6962>) {
    let our_proofs: Vec<(u64, Vec<Hash>)> = indices().map(|i| (i, tiles.path(i))).collect();
    let their_proofs: Vec<(usize, MerkleProof<Rfc6962>)> =
        indices().map(|i| (i as usize, theirs.proof(&[i as usize]))).collect();
    let ours = || {
        for (i, path) in &our_proofs {
            verify_inclusion(*i, ENTRIES, &tiles.leaves[*i as usize], path, &tiles.root).expect("a good proof");
        }
    };
    let root = *tiles.root.as_bytes();
    let check_theirs = || {
        for (i, proof) in &their_proofs {
            assert!(proof.verify(root, &[*i], &[*tiles.leaves[*i].as_bytes()], ENTRIES as usize));
        }
    };
    row("inclusion proof, checked", in_turns(ours, check_theirs), PROOFS);
}

/// rs_merkle has no consistency proofs in RFC 6962's form: there is nobody to compare with.
fn consistencies(tiles: &Tiles) {
    let proofs: Vec<(u64, Vec<Hash>)> = indices()
        .filter(|old| *old > 0)
        .map(|old| (old, tiles.build(&consistency(old, ENTRIES).expect("in order"))))
        .collect();
    let ours = || {
        for (old, proof) in &proofs {
            verify_consistency(*old, ENTRIES, &tiles.roots[old], &tiles.root, proof).expect("a good proof");
        }
    };
    let (ours, _) = in_turns(ours, || ());
    println!("| consistency proof, checked | {:.0} ns | - | - |", ours.as_nanos() as f64 / proofs.len() as f64);
}
