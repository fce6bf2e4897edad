//! The map itself: persistent, so that a snapshot is a clone of one pointer and readers never wait for the writer.
//!
//! Inner nodes are kept with their hashes; below a few entries a subtree is a sorted list whose hashes are computed when
//! they are needed. An insertion copies the inner nodes on its path and shares the rest.

use std::sync::Arc;

use waymark_log::hash::Hash;

use super::{
    EMPTY, bit, leaf_value, parent_value,
    proof::{PrefixProof, SearchResult, Searched},
};

/// Entries up to which a subtree is a plain list: hashing 15 nodes for a path costs some 2 microseconds, and an inner node
/// costs about 100 bytes.
const BUCKET_ENTRIES_MAX: usize = 16;

/// Memory of an inner node and of what is around a bucket, in bytes: counters of the shared pointer, hash, pointers,
/// sizes.
const NODE_BYTES: u64 = 96;

/// Deepest a leaf can lie and still be proved: a result's depth is one byte. Two labels would have to share 255 bits.
const PROVABLE_DEPTH_MAX: usize = 255;

type Entry = (Hash, Hash);

/// Something is already stored under this key. No leaf of the map is ever replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the map already holds {0:?}")]
pub struct AlreadyPresent(pub Hash);

/// The map from key to commitment. Cloning it takes a snapshot.
#[derive(Clone, Debug, Default)]
pub struct PrefixTree {
    root: Option<Arc<Node>>,
    len: u64,
}

#[derive(Debug)]
enum Node {
    Inner { hash: Hash, bytes: u64, left: Option<Arc<Node>>, right: Option<Arc<Node>> },
    Bucket { hash: Hash, entries: Box<[Entry]> },
}

impl Node {
    const fn hash(&self) -> &Hash {
        match self {
            Self::Inner { hash, .. } | Self::Bucket { hash, .. } => hash,
        }
    }

    /// Memory of the subtree.
    fn bytes(&self) -> u64 {
        match self {
            Self::Inner { bytes, .. } => *bytes,
            Self::Bucket { entries, .. } => NODE_BYTES + size_of_val::<[Entry]>(entries) as u64,
        }
    }
}

fn bytes_of(node: Option<&Arc<Node>>) -> u64 {
    node.map_or(0, |n| n.bytes())
}

fn hash_of(node: Option<&Arc<Node>>) -> Hash {
    node.map_or(EMPTY, |n| *n.hash())
}

impl PrefixTree {
    /// The empty map.
    pub const fn new() -> Self {
        Self { root: None, len: 0 }
    }

    /// The map with these entries, in any order.
    ///
    /// # Errors
    /// [`AlreadyPresent`] if a key occurs twice.
    pub fn from_entries(entries: Vec<Entry>) -> Result<Self, AlreadyPresent> {
        let mut tree = Self::new();
        tree.insert(entries)?;
        Ok(tree)
    }

    /// Number of entries.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that it takes, about. Keys that share a long prefix take some twenty times as much as others.
    pub fn bytes(&self) -> u64 {
        bytes_of(self.root.as_ref())
    }

    /// The root.
    pub fn root(&self) -> Hash {
        hash_of(self.root.as_ref())
    }

    /// The commitment stored under `key`.
    pub fn get(&self, key: &Hash) -> Option<Hash> {
        let mut node = self.root.as_ref()?;
        let mut depth = 0;
        loop {
            match &**node {
                Node::Bucket { entries, .. } => {
                    let found = entries.binary_search_by(|e| e.0.cmp(key)).ok()?;
                    return Some(entries[found].1);
                }
                Node::Inner { left, right, .. } => {
                    node = if bit(key, depth) { right } else { left }.as_ref()?;
                    depth += 1;
                }
            }
        }
    }

    /// Inserts entries, in any order: all of them or, if a key is there already or occurs twice, none.
    ///
    /// # Errors
    /// [`AlreadyPresent`]; the map is then unchanged.
    pub fn insert(&mut self, mut entries: Vec<Entry>) -> Result<(), AlreadyPresent> {
        entries.sort_unstable();
        if let Some(pair) = entries.windows(2).find(|p| p[0].0 == p[1].0) {
            return Err(AlreadyPresent(pair[0].0));
        }
        self.root = insert(self.root.as_ref(), &entries, 0)?;
        self.len += entries.len() as u64;
        Ok(())
    }

    /// Proves for each of `keys` what it holds or that it is absent, in the order of `keys`.
    ///
    /// # Errors
    /// `None` if keys repeat, are more than 255, or end at a depth that the format cannot say (256).
    pub fn prove(&self, keys: &[Hash]) -> Option<(PrefixProof, Vec<Searched>)> {
        let mut sorted: Vec<usize> = (0..keys.len()).collect();
        sorted.sort_unstable_by_key(|i| keys[*i]);
        let repeats = sorted.windows(2).any(|w| keys[w[0]] == keys[w[1]]);
        if repeats || keys.len() > usize::from(u8::MAX) {
            return None;
        }
        let mut search = Search { keys, results: vec![None; keys.len()], elements: Vec::new() };
        search.walk(View::Node(self.root.as_ref()), &sorted, 0)?;
        let results: Option<Vec<(SearchResult, Searched)>> = search.results.into_iter().collect();
        let (results, found) = results?.into_iter().unzip();
        Some((PrefixProof { results, elements: search.elements }, found))
    }
}

/// The position of the first entry of a sorted list whose bit `depth` is one.
fn split(entries: &[Entry], depth: usize) -> usize {
    entries.partition_point(|e| !bit(&e.0, depth))
}

/// The hash of the subtree with these sorted entries, rooted at `depth`.
fn hash_entries(entries: &[Entry], depth: usize) -> Hash {
    match entries {
        [] => EMPTY,
        [(key, commitment)] => leaf_value(key, commitment),
        _ => {
            let (left, right) = entries.split_at(split(entries, depth));
            parent_value(&hash_entries(left, depth + 1), &hash_entries(right, depth + 1))
        }
    }
}

fn build(entries: &[Entry], depth: usize) -> Option<Arc<Node>> {
    if entries.is_empty() {
        return None;
    }
    if entries.len() <= BUCKET_ENTRIES_MAX {
        let hash = hash_entries(entries, depth);
        return Some(Arc::new(Node::Bucket { hash, entries: entries.into() }));
    }
    let (left, right) = entries.split_at(split(entries, depth));
    Some(inner(build(left, depth + 1), build(right, depth + 1)))
}

fn inner(left: Option<Arc<Node>>, right: Option<Arc<Node>>) -> Arc<Node> {
    let hash = parent_value(&hash_of(left.as_ref()), &hash_of(right.as_ref()));
    let bytes = NODE_BYTES + bytes_of(left.as_ref()) + bytes_of(right.as_ref());
    Arc::new(Node::Inner { hash, bytes, left, right })
}

/// The subtree at `depth` with `entries` (sorted, distinct) added.
fn insert(node: Option<&Arc<Node>>, entries: &[Entry], depth: usize) -> Result<Option<Arc<Node>>, AlreadyPresent> {
    let Some(node) = node else { return Ok(build(entries, depth)) };
    if entries.is_empty() {
        return Ok(Some(Arc::clone(node)));
    }
    match &**node {
        Node::Bucket { entries: old, .. } => {
            let mut merged: Vec<Entry> = [old, entries].concat();
            merged.sort_unstable();
            match merged.windows(2).find(|p| p[0].0 == p[1].0) {
                Some(pair) => Err(AlreadyPresent(pair[0].0)),
                None => Ok(build(&merged, depth)),
            }
        }
        Node::Inner { left, right, .. } => {
            let (l, r) = entries.split_at(split(entries, depth));
            Ok(Some(inner(insert(left.as_ref(), l, depth + 1)?, insert(right.as_ref(), r, depth + 1)?)))
        }
    }
}

/// A subtree while it is searched: a node, or part of a bucket.
#[derive(Clone, Copy)]
enum View<'a> {
    Node(Option<&'a Arc<Node>>),
    Entries(&'a [Entry]),
}

impl<'a> View<'a> {
    fn entries(self) -> Option<&'a [Entry]> {
        match self {
            View::Node(None) => Some(&[]),
            View::Node(Some(node)) => match &**node {
                Node::Bucket { entries, .. } => Some(entries),
                Node::Inner { .. } => None,
            },
            View::Entries(entries) => Some(entries),
        }
    }

    fn children(self, depth: usize) -> (Self, Self) {
        match (self.entries(), self) {
            (Some(entries), _) => {
                let (left, right) = entries.split_at(split(entries, depth));
                (View::Entries(left), View::Entries(right))
            }
            (None, View::Node(Some(node))) => match &**node {
                Node::Inner { left, right, .. } => (View::Node(left.as_ref()), View::Node(right.as_ref())),
                Node::Bucket { .. } => unreachable!("a bucket has entries"),
            },
            (None, _) => unreachable!("only an inner node has no entries of its own"),
        }
    }

    fn hash(self, depth: usize) -> Hash {
        match self {
            View::Node(node) => hash_of(node),
            View::Entries(entries) => hash_entries(entries, depth),
        }
    }
}

struct Search<'a> {
    keys: &'a [Hash],
    results: Vec<Option<(SearchResult, Searched)>>,
    elements: Vec<Hash>,
}

impl Search<'_> {
    /// Walks the subtree that all of `wanted` (positions in `keys`, in order of their keys) lead into, left before right.
    fn walk(&mut self, view: View<'_>, wanted: &[usize], depth: usize) -> Option<()> {
        if wanted.is_empty() {
            self.elements.push(view.hash(depth));
            return Some(());
        }
        match view.entries() {
            Some([]) => self.end(wanted, depth, None),
            Some([entry]) => self.end(wanted, depth, Some(entry)),
            _ => {
                let (left, right) = view.children(depth);
                let (l, r) = wanted.split_at(wanted.partition_point(|i| !bit(&self.keys[*i], depth)));
                self.walk(left, l, depth + 1)?;
                self.walk(right, r, depth + 1)
            }
        }
    }

    /// All of `wanted` end here: at a leaf, or where a child is missing.
    fn end(&mut self, wanted: &[usize], depth: usize, leaf: Option<&Entry>) -> Option<()> {
        let depth = u8::try_from(depth).ok().filter(|d| usize::from(*d) <= PROVABLE_DEPTH_MAX)?;
        for i in wanted {
            self.results[*i] = Some(match leaf {
                Some((key, commitment)) if *key == self.keys[*i] => {
                    (SearchResult::Inclusion { depth }, Searched::Present(*commitment))
                }
                Some((key, commitment)) => {
                    (SearchResult::NonInclusionLeaf { key: *key, commitment: *commitment, depth }, Searched::Absent)
                }
                None => (SearchResult::NonInclusionParent { depth }, Searched::Absent),
            });
        }
        Some(())
    }
}
