//! What docs/FORMATS.md says, from bytes and SHA-256 alone: nothing here knows a type of Waymark.

use rs_merkle::{Hasher, algorithms::Sha256};

/// SHA-256 over parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::hash(&parts.concat()).to_vec()
}

/// RFC 2104, for keys of at most 64 bytes.
pub fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> {
        let padded = key.iter().copied().chain(std::iter::repeat(0)).take(64);
        padded.map(|b| b ^ with).collect()
    };
    sha256(&[&pad(0x5c), &sha256(&[&pad(0x36), message])])
}

/// `opaque x<0..255>`.
pub fn opaque8(x: &[u8]) -> Vec<u8> {
    [&[x.len() as u8], x].concat()
}

/// The root of RFC 6962 over leaf hashes.
pub fn tree(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves {
        [] => sha256(&[]),
        [leaf] => leaf.clone(),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            sha256(&[&[1], &tree(&leaves[..split]), &tree(&leaves[split..])])
        }
    }
}

/// The root of the prefix map over entries, at a depth.
pub fn map(entries: &[(Vec<u8>, Vec<u8>)], depth: usize) -> Vec<u8> {
    match entries {
        [] => vec![0; 32],
        [(key, commitment)] => sha256(&[&[2], key, commitment]),
        _ => {
            let is_right = |e: &&(Vec<u8>, Vec<u8>)| e.0[depth / 8] & (0x80 >> (depth % 8)) != 0;
            let (right, left): (Vec<_>, Vec<_>) = entries.iter().partition(is_right);
            let own = |side: Vec<&(Vec<u8>, Vec<u8>)>| side.into_iter().cloned().collect::<Vec<_>>();
            sha256(&[&[3], &map(&own(left), depth + 1), &map(&own(right), depth + 1)])
        }
    }
}

/// What is signed: context, origin, fields.
pub fn signed(context: &str, origin: &str, fields: &[u8]) -> Vec<u8> {
    [&opaque8(context.as_bytes()), &opaque8(origin.as_bytes()), fields].concat()
}
