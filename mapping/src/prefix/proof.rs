//! Presence and absence of several keys at one root, in one proof.
//!
//! ```text
//! uint8  number of results, in the order the keys were asked for
//!   uint8 1 (inclusion)                                            uint8 depth
//!   uint8 2 (non-inclusion, leaf)   key[32] | commitment[32]       uint8 depth
//!   uint8 3 (non-inclusion, parent)                                uint8 depth
//! uint16 number of elements
//!   hash[32] ...                     subtrees that no search enters, left to right
//! ```
//!
//! Counts count values, not bytes. `depth` is where the search ended: the leaf's depth, or that of the missing child.
//! Verification hashes from those ends towards the root, taking an element wherever no search goes. It refuses what the
//! draft forbids and what only the root would otherwise catch: a leaf that is the very key said to be absent, a leaf that
//! does not lie on the search's path, two results that end at one node and disagree about it, an end above another end.

use std::io::{Read, Write};

use tls_codec::{Deserialize, Error, Serialize, Size};
use waymark_log::hash::Hash;

use super::{EMPTY, bit, leaf_value, parent_value, share_prefix};
use crate::wire::refuse;

/// Most elements that are read: 255 keys of 255 bits each could not need more, and an answer's ladder far fewer.
const ELEMENTS_MAX: usize = 4096;

/// How one search ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum SearchResult {
    /// At the leaf of the key.
    Inclusion { depth: u8 },
    /// At the leaf of another key.
    NonInclusionLeaf { key: Hash, commitment: Hash, depth: u8 },
    /// Where a parent has no child.
    NonInclusionParent { depth: u8 },
}

impl SearchResult {
    const fn depth(&self) -> u8 {
        match self {
            Self::Inclusion { depth } | Self::NonInclusionLeaf { depth, .. } | Self::NonInclusionParent { depth } => {
                *depth
            }
        }
    }
}

/// What the map holds under a searched key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Searched {
    /// This commitment.
    Present(Hash),
    /// Nothing.
    Absent,
}

/// A proof for several keys. What it proves shows in [`PrefixProof::verify`] only.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct PrefixProof {
    pub(super) results: Vec<SearchResult>,
    pub(super) elements: Vec<Hash>,
}

/// Why a proof is not one for these keys at this root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofRefused {
    /// Not one result for each key, or keys repeat.
    #[error("not one result for each key")]
    Count,
    /// A key that is said to be present has no commitment to check, or the reverse.
    #[error("a result does not fit what is known of the key")]
    Kind,
    /// A leaf shown as another's is the key itself, or does not lie where the search went.
    #[error("a leaf is misplaced")]
    Leaf,
    /// Results contradict each other about one node.
    #[error("two results disagree")]
    Disagree,
    /// Elements are missing or left over.
    #[error("the number of elements is wrong")]
    Elements,
    /// The hashes lead elsewhere.
    #[error("the proof does not lead to the root")]
    Root,
}

impl PrefixProof {
    /// The proof about no keys at all: no results, no elements.
    pub const fn nothing() -> Self {
        Self { results: Vec::new(), elements: Vec::new() }
    }

    /// Which results claim presence, in order; a claim until [`PrefixProof::verify`].
    pub fn claims_presence(&self) -> impl Iterator<Item = bool> + '_ {
        self.results.iter().map(|r| matches!(r, SearchResult::Inclusion { .. }))
    }

    /// Checks that at `root` each key holds the commitment given with it, or nothing where `None` is given.
    ///
    /// # Errors
    /// [`ProofRefused`]; every reason is a refusal.
    pub fn verify(&self, keys: &[(Hash, Option<Hash>)], root: &Hash) -> Result<(), ProofRefused> {
        if keys.len() != self.results.len() {
            return Err(ProofRefused::Count);
        }
        let mut ends: Vec<End<'_>> = Vec::with_capacity(keys.len());
        for ((key, commitment), result) in keys.iter().zip(&self.results) {
            let node = match (result, commitment) {
                (SearchResult::Inclusion { .. }, Some(commitment)) => Terminal::Leaf(*key, *commitment),
                (SearchResult::NonInclusionLeaf { key: other, commitment, depth }, None) => {
                    // The draft: "a leaf node not matching the requested search key". Without this check a present key
                    // could be shown as its own neighbour and so as absent.
                    if other == key || !share_prefix(other, key, usize::from(*depth)) {
                        return Err(ProofRefused::Leaf);
                    }
                    Terminal::Leaf(*other, *commitment)
                }
                (SearchResult::NonInclusionParent { .. }, None) => Terminal::Missing,
                _ => return Err(ProofRefused::Kind),
            };
            ends.push(End { key, depth: usize::from(result.depth()), node });
        }
        ends.sort_unstable_by_key(|e| e.key);
        if ends.windows(2).any(|w| w[0].key == w[1].key) {
            return Err(ProofRefused::Count);
        }
        let mut elements = self.elements.iter();
        let computed = fold(&ends, 0, &mut elements)?;
        if elements.next().is_some() {
            return Err(ProofRefused::Elements);
        }
        if computed == *root { Ok(()) } else { Err(ProofRefused::Root) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Terminal {
    Leaf(Hash, Hash),
    Missing,
}

struct End<'a> {
    key: &'a Hash,
    depth: usize,
    node: Terminal,
}

/// The value of the node at `depth` that all of `ends` (in order of their keys) pass or end at.
fn fold<'a>(
    ends: &[End<'_>],
    depth: usize,
    elements: &mut impl Iterator<Item = &'a Hash>,
) -> Result<Hash, ProofRefused> {
    let Some(first) = ends.first() else {
        return elements.next().copied().ok_or(ProofRefused::Elements);
    };
    if ends.iter().any(|e| e.depth == depth) {
        // One search ends here, so all do, and they saw the same node.
        if ends.iter().any(|e| e.depth != depth || e.node != first.node) {
            return Err(ProofRefused::Disagree);
        }
        return Ok(match first.node {
            Terminal::Leaf(key, commitment) => leaf_value(&key, &commitment),
            Terminal::Missing => EMPTY,
        });
    }
    // `depth` is below every end's depth, hence below 255.
    let (left, right) = ends.split_at(ends.partition_point(|e| !bit(e.key, depth)));
    let left = fold(left, depth + 1, elements)?;
    let right = fold(right, depth + 1, elements)?;
    Ok(parent_value(&left, &right))
}

impl Size for SearchResult {
    fn tls_serialized_len(&self) -> usize {
        if matches!(self, Self::NonInclusionLeaf { .. }) { 66 } else { 2 }
    }
}

impl Serialize for SearchResult {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        match self {
            Self::Inclusion { depth } => writer.write_all(&[1, *depth])?,
            Self::NonInclusionLeaf { key, commitment, depth } => {
                writer.write_all(&[2])?;
                key.tls_serialize(writer)?;
                commitment.tls_serialize(writer)?;
                writer.write_all(&[*depth])?;
            }
            Self::NonInclusionParent { depth } => writer.write_all(&[3, *depth])?,
        }
        Ok(self.tls_serialized_len())
    }
}

impl Deserialize for SearchResult {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        match u8::tls_deserialize(reader)? {
            1 => Ok(Self::Inclusion { depth: u8::tls_deserialize(reader)? }),
            2 => Ok(Self::NonInclusionLeaf {
                key: Hash::tls_deserialize(reader)?,
                commitment: Hash::tls_deserialize(reader)?,
                depth: u8::tls_deserialize(reader)?,
            }),
            3 => Ok(Self::NonInclusionParent { depth: u8::tls_deserialize(reader)? }),
            _ => Err(refuse("a search result of unknown type")),
        }
    }
}

impl Size for PrefixProof {
    fn tls_serialized_len(&self) -> usize {
        3 + self.results.iter().map(Size::tls_serialized_len).sum::<usize>() + 32 * self.elements.len()
    }
}

impl Serialize for PrefixProof {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        u8::try_from(self.results.len()).map_err(|_| Error::InvalidVectorLength)?.tls_serialize(writer)?;
        for result in &self.results {
            result.tls_serialize(writer)?;
        }
        u16::try_from(self.elements.len()).map_err(|_| Error::InvalidVectorLength)?.tls_serialize(writer)?;
        for element in &self.elements {
            element.tls_serialize(writer)?;
        }
        Ok(self.tls_serialized_len())
    }
}

impl Deserialize for PrefixProof {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let results = (0..u8::tls_deserialize(reader)?).map(|_| SearchResult::tls_deserialize(reader));
        let results = results.collect::<Result<Vec<_>, _>>()?;
        let count = usize::from(u16::tls_deserialize(reader)?);
        if count > ELEMENTS_MAX {
            return Err(refuse("too many elements"));
        }
        let elements = (0..count).map(|_| Hash::tls_deserialize(reader)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { results, elements })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        prefix::PrefixTree,
        wire::{decode, encode},
    };

    /// The map in the draft's words: recursion over the bits of all keys.
    fn naive_root(entries: &BTreeMap<Hash, Hash>, depth: usize) -> Hash {
        match entries.len() {
            0 => EMPTY,
            1 => entries.iter().map(|(k, c)| leaf_value(k, c)).next().unwrap(),
            _ => {
                let side = |one| entries.iter().filter(|(k, _)| bit(k, depth) == one).map(|(k, c)| (*k, *c)).collect();
                parent_value(&naive_root(&side(false), depth + 1), &naive_root(&side(true), depth + 1))
            }
        }
    }

    /// Keys that crowd: few distinct bytes, so that long prefixes are shared.
    fn key() -> impl Strategy<Value = Hash> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(Hash::new),
            (0u8..4, 0u8..8, any::<u8>()).prop_map(|(a, b, c)| {
                let mut bytes = [a; 32];
                bytes[31 - usize::from(b)] = c;
                Hash::new(bytes)
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn equals_a_naive_model_over_random_batches(
            batches in prop::collection::vec(prop::collection::vec((key(), any::<[u8; 32]>()), 0..60), 1..6),
            absent in prop::collection::vec(key(), 1..12),
        ) {
            let (mut tree, mut model) = (PrefixTree::new(), BTreeMap::new());
            for batch in batches {
                let batch: Vec<(Hash, Hash)> = batch.into_iter().map(|(k, c)| (k, Hash::new(c))).collect();
                let distinct = batch.iter().map(|e| e.0).collect::<std::collections::BTreeSet<_>>().len() == batch.len();
                let fresh = batch.iter().all(|(k, _)| !model.contains_key(k));
                let before = tree.root();
                match tree.insert(batch.clone()) {
                    Ok(()) => {
                        prop_assert!(distinct && fresh);
                        model.extend(batch);
                    }
                    Err(AlreadyPresent(_)) => {
                        prop_assert!(!(distinct && fresh));
                        prop_assert_eq!(tree.root(), before);
                    }
                }
                prop_assert_eq!(tree.root(), naive_root(&model, 0));
                prop_assert_eq!(tree.len(), model.len() as u64);
            }
            let rebuilt = PrefixTree::from_entries(model.iter().rev().map(|(k, c)| (*k, *c)).collect()).unwrap();
            prop_assert_eq!(rebuilt.root(), tree.root());

            let mut wanted: Vec<Hash> = model.keys().copied().step_by(7).take(8).chain(absent).collect();
            wanted.sort_unstable_by_key(|k| k.as_bytes()[31]);
            wanted.dedup();
            let unique: std::collections::BTreeSet<_> = wanted.iter().collect();
            prop_assume!(unique.len() == wanted.len());
            if let Some((proof, found)) = tree.prove(&wanted) {
                let expected: Vec<(Hash, Option<Hash>)> = wanted.iter().map(|k| (*k, model.get(k).copied())).collect();
                for ((key, held), found) in expected.iter().zip(&found) {
                    prop_assert_eq!(*held, match found { Searched::Present(c) => Some(*c), Searched::Absent => None });
                    prop_assert_eq!(tree.get(key), *held);
                }
                prop_assert_eq!(proof.verify(&expected, &tree.root()), Ok(()));
                let decoded = decode::<PrefixProof>("proof", &encode(&proof));
                prop_assert_eq!(decoded.as_ref(), Ok(&proof));
                // The same proof for another outcome, or another root, is none.
                for i in 0..expected.len() {
                    let mut lie = expected.clone();
                    lie[i].1 = if lie[i].1.is_some() { None } else { Some(EMPTY) };
                    prop_assert!(proof.verify(&lie, &tree.root()).is_err());
                }
                prop_assert!(proof.verify(&expected, &Hash::new([7; 32])).is_err());
            }
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(proof) = decode::<PrefixProof>("proof", &bytes) {
                prop_assert_eq!(encode(&proof), bytes);
            }
        }
    }

    use crate::prefix::AlreadyPresent;

    #[test]
    fn every_flipped_bit_of_a_proof_is_refused() {
        let entries: Vec<(Hash, Hash)> =
            (0..300u32).map(|i| (Hash::sha256(&[&i.to_be_bytes()]), Hash::sha256(&[b"c", &i.to_be_bytes()]))).collect();
        let tree = PrefixTree::from_entries(entries.clone()).unwrap();
        let keys = [entries[5].0, Hash::sha256(&[b"absent"]), entries[77].0, Hash::sha256(&[b"absent too"])];
        let (proof, _) = tree.prove(&keys).unwrap();
        let expected: Vec<(Hash, Option<Hash>)> = keys.iter().map(|k| (*k, tree.get(k))).collect();
        assert_eq!(proof.verify(&expected, &tree.root()), Ok(()));
        let bytes = encode(&proof);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verdict = decode::<PrefixProof>("proof", &bytes).map(|p| p.verify(&expected, &tree.root()));
            assert!(!matches!(verdict, Ok(Ok(()))), "bit {bit}");
        }
    }

    #[test]
    fn the_empty_map_proves_absence() {
        let tree = PrefixTree::new();
        let key = Hash::sha256(&[b"k"]);
        let (proof, found) = tree.prove(&[key]).unwrap();
        assert_eq!((tree.root(), found), (EMPTY, vec![Searched::Absent]));
        assert_eq!(proof.verify(&[(key, None)], &EMPTY), Ok(()));
        assert!(proof.verify(&[(key, Some(EMPTY))], &EMPTY).is_err());
    }

    #[test]
    fn a_snapshot_does_not_move() {
        let mut tree = PrefixTree::new();
        tree.insert((0..100u8).map(|i| (Hash::sha256(&[&[i]]), EMPTY)).collect()).unwrap();
        let (snapshot, root) = (tree.clone(), tree.root());
        tree.insert((100..200u8).map(|i| (Hash::sha256(&[&[i]]), EMPTY)).collect()).unwrap();
        assert_eq!(snapshot.root(), root);
        assert_ne!(tree.root(), root);
    }
}
