//! Commitments: what the log holds of a record.
//!
//! ```text
//! commitment = HMAC-SHA-256(Kc, opening[16] | opaque csi<0..255> | uint32 version | uint32 length | value)
//! digest     = HMAC-SHA-256(salt[32], structure)                    for slots, consents and recipient-only parts
//! ```
//!
//! The first is KEYTRANS's `CommitmentValue` under cipher suite 0x0002 without a third-party manager; `value` is the
//! encoded Record. Openings and salts are drawn at random, none from another; deleting them is what erasure means.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::hash::Hash;

use crate::identifier::Csi;

/// KEYTRANS cipher suite 0x0002: the fixed key of commitments.
const KC: [u8; 16] = [0xd8, 0x21, 0xf8, 0x79, 0x0d, 0x97, 0x70, 0x97, 0x96, 0xb4, 0xd7, 0x90, 0x33, 0x57, 0xc3, 0xf5];

/// Sixteen random bytes that open a commitment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Opening(pub [u8; 16]);

/// Thirty-two random bytes that blind a digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Salt(pub [u8; 32]);

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hash {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Hash::new(mac.finalize().into_bytes().into())
}

/// The commitment to an encoded record.
pub fn commit(opening: &Opening, csi: &Csi, version: u32, value: &[u8]) -> Hash {
    let label = csi.expose().as_bytes();
    commit_value(&opening.0, label, version, value)
}

/// KEYTRANS's commitment for any label of at most 255 bytes.
fn commit_value(opening: &[u8], label: &[u8], version: u32, value: &[u8]) -> Hash {
    let length = (value.len() as u32).to_be_bytes();
    hmac(&KC, &[opening, &[label.len() as u8], label, &version.to_be_bytes(), &length, value])
}

/// A blinded digest: says nothing without the salt.
pub fn blind(salt: &Salt, bytes: &[u8]) -> Hash {
    hmac(&salt.0, &[bytes])
}

/// Whether `digest` is the blinded digest of these bytes, in constant time.
pub fn opens(digest: &Hash, salt: &Salt, bytes: &[u8]) -> bool {
    blind(salt, bytes).as_bytes().ct_eq(digest.as_bytes()).into()
}

/// KEYTRANS's commitment over an already assembled `CommitmentValue`, for the published vectors.
#[doc(hidden)]
pub fn commit_raw(commitment_value: &[u8]) -> Hash {
    hmac(&KC, &[commitment_value])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts() {
        let csi = Csi::parse("tel:+15551234567").unwrap();
        let base = commit(&Opening([1; 16]), &csi, 0, b"v");
        assert_eq!(base, commit_raw(&[&[1; 16][..], b"\x10tel:+15551234567", &[0; 4], &[0, 0, 0, 1], b"v"].concat()));
        assert_ne!(base, commit(&Opening([2; 16]), &csi, 0, b"v"));
        assert_ne!(base, commit(&Opening([1; 16]), &Csi::parse("tel:+15551234568").unwrap(), 0, b"v"));
        assert_ne!(base, commit(&Opening([1; 16]), &csi, 1, b"v"));
        assert_ne!(base, commit(&Opening([1; 16]), &csi, 0, b"w"));
        let digest = blind(&Salt([3; 32]), b"m");
        assert!(opens(&digest, &Salt([3; 32]), b"m") && !opens(&digest, &Salt([4; 32]), b"m"));
    }
}
