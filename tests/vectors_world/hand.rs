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

/// `opaque x<0..2^24-1>`, and the bytes of one T behind their length.
pub fn opaque24(x: &[u8]) -> Vec<u8> {
    [&(x.len() as u32).to_be_bytes()[1..], x].concat()
}

/// A key or a signature of Ed25519, with its algorithm's number and its length.
pub fn ed25519(x: &[u8]) -> Vec<u8> {
    [&[0, 1][..], &(x.len() as u16).to_be_bytes(), x].concat()
}

/// `uint32`.
pub fn uint32(x: u32) -> [u8; 4] {
    x.to_be_bytes()
}

/// `uint64`, and Ms.
pub fn uint64(x: u64) -> [u8; 8] {
    x.to_be_bytes()
}

/// `T x<0..2^24-1>`, the elements one after the other.
pub fn list24(elements: &[u8]) -> Vec<u8> {
    opaque24(elements)
}

/// What stands in front of every structure that is signed, committed to or logged.
pub const FORMAT: u8 = 1;

/// No extensions.
pub const NO_EXTENSIONS: [u8; 3] = [0; 3];

/// KEYTRANS's commitment under suite 0x0002.
pub fn commitment(opening: &[u8], csi: &str, version: u32, value: &[u8]) -> Vec<u8> {
    let kc = [0xd8, 0x21, 0xf8, 0x79, 0x0d, 0x97, 0x70, 0x97, 0x96, 0xb4, 0xd7, 0x90, 0x33, 0x57, 0xc3, 0xf5];
    let length = uint32(value.len() as u32);
    hmac(&kc, &[opening, &opaque8(csi.as_bytes()), &uint32(version), &length, value].concat())
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
