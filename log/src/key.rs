//! Ed25519 with one acceptance rule, the same in every program.
//!
//! **The rule.** A signature (R, s) by A over M is accepted if and only if
//!
//! 1. A and R are canonical encodings of curve points (y < p, no negative zero);
//! 2. neither A nor R has small order;
//! 3. s is below the group order;
//! 4. R = \[s\]B - \[k\]A holds without the cofactor, compared as bytes, k = SHA-512(R || A || M).
//!
//! RFC 8032 section 5.1.7 leaves the cofactor open and ZIP 215 accepts far more. Whoever disputes a signature with us must
//! reach our verdict, so the strictest reading is used everywhere and batch verification nowhere.

use std::{
    fmt,
    io::{Read, Write},
};

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use tls_codec::{Deserialize, Error, Serialize, Size};
use zeroize::Zeroizing;

/// Bytes in a public key and in a secret seed.
pub const KEY_BYTES: usize = 32;
/// Bytes in a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// A public key as it stands on the wire. Holding one says nothing about its being usable: [`Key::verify`] decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; KEY_BYTES]);

/// A signature as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; SIGNATURE_BYTES]);

/// The signature is not one that this key made over this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl Key {
    /// A key from its bytes, unchecked.
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// A key from a slice, if the slice has the right length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Lower-case hex.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// The key whose lower-case hex form is exactly `text`.
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::from_slice(&HEXLOWER.decode(text.as_bytes()).ok()?)
    }

    /// Whether some signature by this key could ever be accepted: a canonical point that is not of small order.
    pub fn is_usable(&self) -> bool {
        self.usable().is_some()
    }

    /// Checks one signature by the rule at the top of this file.
    ///
    /// # Errors
    /// [`BadSignature`], with no hint as to which part failed: a failed signature is a fact, not a diagnosis.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let key = self.usable().ok_or(BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(message, &signature).map_err(|_| BadSignature)
    }

    fn usable(&self) -> Option<VerifyingKey> {
        // Rule 1 for A: decompression alone takes y >= p. The x = -0 encodings have small order and fall to rule 2.
        if !is_below_p(&self.0) {
            return None;
        }
        VerifyingKey::from_bytes(&self.0).ok().filter(|k| !k.is_weak())
    }
}

/// Whether the y coordinate in an encoded point is below p = 2^255 - 19. The top bit is the sign of x.
fn is_below_p(encoded: &[u8; KEY_BYTES]) -> bool {
    let top_is_full = encoded[31] & 0x7f == 0x7f && encoded[1..31].iter().all(|b| *b == 0xff);
    !(top_is_full && encoded[0] >= 0xed)
}

impl Signature {
    /// A signature from its bytes, unchecked.
    pub const fn new(bytes: [u8; SIGNATURE_BYTES]) -> Self {
        Self(bytes)
    }

    /// A signature from a slice, if the slice has the right length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0
    }
}

/// Numbers of signature algorithms in TLS structures.
pub mod algorithm {
    /// Ed25519 by the rule of this module: keys of 32 bytes, signatures of 64.
    pub const ED25519: u16 = 1;
    /// ML-DSA-44 (FIPS 204): keys of 1,312 bytes, signatures of 2,420. It has its number so that the formats have room for it.
    pub const ML_DSA_44: u16 = 2;
}

/// Most bytes in a key or a signature of any algorithm.
pub const ALGORITHM_BYTES_MAX: usize = 1 << 13;

/// `struct { uint16 algorithm; opaque bytes<1..2^13>; }`, here always Ed25519. Another algorithm is an unknown value, and not a
/// malformed one.
fn write_ed25519<W: Write>(writer: &mut W, bytes: &[u8]) -> Result<usize, Error> {
    // A key has 32 bytes and a signature 64: both lengths fit their two bytes.
    let written = algorithm::ED25519.tls_serialize(writer)? + (bytes.len() as u16).tls_serialize(writer)?;
    writer.write_all(bytes)?;
    Ok(written + bytes.len())
}

fn read_ed25519<const N: usize, R: Read>(reader: &mut R) -> Result<[u8; N], Error> {
    let (algorithm, length) = (u16::tls_deserialize(reader)?, usize::from(u16::tls_deserialize(reader)?));
    if !(1..=ALGORITHM_BYTES_MAX).contains(&length) {
        return Err(Error::InvalidVectorLength);
    }
    if algorithm != algorithm::ED25519 {
        return Err(Error::UnknownValue(algorithm.into()));
    }
    if length == N { <[u8; N]>::tls_deserialize(reader) } else { Err(Error::InvalidVectorLength) }
}

impl Size for Key {
    fn tls_serialized_len(&self) -> usize {
        4 + KEY_BYTES
    }
}

impl Serialize for Key {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        write_ed25519(writer, &self.0)
    }
}

impl Deserialize for Key {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        read_ed25519(reader).map(Self)
    }
}

impl Size for Signature {
    fn tls_serialized_len(&self) -> usize {
        4 + SIGNATURE_BYTES
    }
}

impl Serialize for Signature {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        write_ed25519(writer, &self.0)
    }
}

impl Deserialize for Signature {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        read_ed25519(reader).map(Self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0[..8]))?;
        f.write_str("..")
    }
}

/// A secret Ed25519 key. Wiped when dropped, never printed, never compared.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key that grows from a 32-byte seed (RFC 8032 section 5.1.5).
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for writing to a key file of mode 0600.
    pub fn to_seed(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> Key {
        Key(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` as it is. Separation of roles is the caller's, by what stands at the front of the message.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(public {})", self.public().to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_8032_section_7_1_test_2() {
        let seed = HEXLOWER.decode(b"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = SecretKey::from_seed(&seed.try_into().unwrap());
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(key.public().to_hex(), public);
        let signature = key.sign(&[0x72]);
        assert_eq!(
            HEXLOWER.encode(signature.as_bytes()),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert_eq!(key.public().verify(&[0x72], &signature), Ok(()));
        assert_eq!(key.public().verify(&[0x73], &signature), Err(BadSignature));
    }

    #[test]
    fn every_flipped_bit_of_a_signature_and_key_is_refused() {
        let key = SecretKey::from_seed(&[7; 32]);
        let (public, signature) = (key.public(), key.sign(b"m"));
        for bit in 0..SIGNATURE_BYTES * 8 {
            let mut bytes = *signature.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(public.verify(b"m", &Signature::new(bytes)), Err(BadSignature), "signature bit {bit}");
        }
        for bit in 0..KEY_BYTES * 8 {
            let mut bytes = *public.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Key::new(bytes).verify(b"m", &signature), Err(BadSignature), "key bit {bit}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let key = SecretKey::from_seed(&[0xab; 32]);
        assert!(!format!("{key:?}").contains("abab"));
    }
}
