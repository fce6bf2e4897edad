//! The tree's three hashes, and nothing else that could be mistaken for them.
//!
//! ```text
//! leaf   SHA-256(0x00 || entry)
//! node   SHA-256(0x01 || left[32] || right[32])
//! empty  SHA-256("")
//! ```
//!
//! RFC 6962 section 2.1. The first byte separates leaves from nodes, so no entry can pose as a subtree.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};
use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};

/// Bytes in a hash.
pub const HASH_BYTES: usize = 32;

/// A SHA-256 output; 32 bytes in TLS structures. It has no `Default`: an all-zero hash must be written down where it is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Hash([u8; HASH_BYTES]);

/// The root of the empty tree: the hash of the empty string (RFC 6962 section 2.1).
pub const EMPTY_ROOT: Hash = Hash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

impl Hash {
    /// Thirty-two zero bytes, for formats that use them to mean "none".
    pub const ZERO: Self = Self([0; HASH_BYTES]);

    /// A hash from its bytes.
    pub const fn new(bytes: [u8; HASH_BYTES]) -> Self {
        Self(bytes)
    }

    /// A hash from a slice, if the slice has the right length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// SHA-256 over the concatenation of `parts`, with no domain separation of its own.
    pub fn sha256(parts: &[&[u8]]) -> Self {
        let mut h = Sha256::new();
        for part in parts {
            h.update(part);
        }
        Self(h.finalize().into())
    }

    /// Standard padded base64, the text form in checkpoints and proofs.
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.0)
    }

    /// The hash whose base64 form is exactly `text`; `None` for any other spelling.
    pub fn from_base64(text: &str) -> Option<Self> {
        Self::from_slice(&decode_base64(text)?)
    }

    /// Lower-case hex.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The hash whose lower-case hex form is exactly `text`.
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::from_slice(&HEXLOWER.decode(text.as_bytes()).ok()?)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

/// SHA-256(0x00 || entry): RFC 6962 section 2.1.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash::sha256(&[&[0], entry])
}

/// SHA-256(0x01 || left || right): RFC 6962 section 2.1.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash::sha256(&[&[1], &left.0, &right.0])
}

/// Reads standard base64 in its one form: padded, trailing bits zero, no white space, and no padding but at the end. The
/// library's decoder takes several padded texts one after the other, so what it read is written again and compared.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.as_bytes()).ok().filter(|bytes| BASE64.encode(bytes) == text)
}

/// Decodes base64 in any of its spellings: the bits after the last byte may be other than zero (RFC 4648 section 3.5).
pub(crate) fn decode_base64_of_any_spelling(text: &str) -> Option<Vec<u8>> {
    let mut spelling = BASE64.specification();
    spelling.check_trailing_bits = false;
    spelling.encoding().ok()?.decode(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        assert_eq!(EMPTY_ROOT, Hash::sha256(&[]));
    }

    #[test]
    fn base64_has_one_spelling() {
        let h = leaf_hash(b"x");
        let text = h.to_base64();
        assert_eq!(Hash::from_base64(&text), Some(h));
        assert_eq!(Hash::from_base64(text.trim_end_matches('=')), None);
        assert_eq!(Hash::from_base64(&format!("{text}\n")), None);
        // The last character before the padding carries four bits that must be zero.
        let mut loose = text.into_bytes();
        loose[42] += 1;
        assert_eq!(Hash::from_base64(std::str::from_utf8(&loose).unwrap()), None);
    }

    #[test]
    fn base64_has_one_form() {
        assert_eq!(decode_base64("AAEC"), Some(vec![0, 1, 2]));
        assert_eq!(decode_base64("AA=="), Some(vec![0]));
        for bad in ["AA==AA==", "AA==AAEC", "AB==", "AA=", "AA", "AAEC\n", "AA EC", "AA-_"] {
            assert_eq!(decode_base64(bad), None, "{bad}");
        }
        assert_eq!(decode_base64_of_any_spelling("AB=="), Some(vec![0]));
        for bad in ["AA=", "AA", "AAEC\n", "AA EC", "AA-_"] {
            assert_eq!(decode_base64_of_any_spelling(bad), None, "{bad}");
        }
    }
}
