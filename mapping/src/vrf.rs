//! The verifiable random function behind every label: ECVRF-EDWARDS25519-SHA512-TAI (RFC 9381, suite 0x03).
//!
//! ```text
//! proof    gamma[32] | c[16] | s[32]
//! output   the first 32 of the 64 bytes of proof_to_hash(proof)     (KEYTRANS: VRF.Nh = 32)
//! ```
//!
//! A thin wrap of the `vrf-rfc9381` crate that closes what it leaves open: a proof must be the one encoding of itself
//! (the crate takes `s + group order`, which RFC 9381 section 5.4.4 calls invalid), and a public key must be a canonical
//! point of large order (section 5.4.5). Outputs are cross-checked in tests with a second implementation.

use std::fmt;

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use vrf_rfc9381::{
    Proof as _, Prover as _, Verifier as _,
    ec::edwards25519::{
        EdVrfProof,
        tai::{EdVrfEdwards25519TaiPublicKey, EdVrfEdwards25519TaiSecretKey},
    },
};
use waymark_log::{hash::Hash, key::Key};

/// Bytes in a proof.
pub const VRF_PROOF_BYTES: usize = 80;

/// A proof as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct VrfProof([u8; VRF_PROOF_BYTES]);

/// The proof is not one for this input under this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the VRF proof does not verify")]
pub struct BadVrfProof;

/// The key that makes labels. Whoever has it can test every phone number there is against the public log; it lives in a
/// file of its own and is never printed.
pub struct VrfSecret {
    secret: EdVrfEdwards25519TaiSecretKey,
    public: Key,
}

impl VrfProof {
    /// A proof from its bytes, unchecked.
    pub const fn new(bytes: [u8; VRF_PROOF_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; VRF_PROOF_BYTES] {
        &self.0
    }
}

impl fmt::Debug for VrfProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(vrf proof)")
    }
}

impl VrfSecret {
    /// The key that grows from a 32-byte seed, as an Ed25519 key does.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = EdVrfEdwards25519TaiSecretKey::from_slice(seed).expect("a seed of 32 bytes is a key");
        // The VRF's public key is the Ed25519 public key of the same seed (RFC 9381 section 5.5).
        let public = waymark_log::key::SecretKey::from_seed(seed).public();
        Self { secret, public }
    }

    /// The public half.
    pub const fn public(&self) -> Key {
        self.public
    }

    /// Proves the output for `input`. Deterministic; some 0.12 ms.
    ///
    /// # Panics
    /// If 256 candidate points in a row are invalid, which happens with probability 2^-256.
    pub fn prove(&self, input: &[u8]) -> (VrfProof, Hash) {
        let proof = self.secret.prove(input).expect("one of 256 candidates is a point");
        let bytes = proof.encode_to_pi().try_into().expect("a proof has 80 bytes");
        (VrfProof(bytes), output(&proof))
    }
}

impl fmt::Debug for VrfSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VrfSecret(public {})", self.public.to_hex())
    }
}

/// Checks a proof and returns the output it proves.
///
/// # Errors
/// [`BadVrfProof`].
pub fn verify(public: &Key, input: &[u8], proof: &VrfProof) -> Result<Hash, BadVrfProof> {
    // RFC 9381 section 5.4.5: the key must be a point of large order. `is_usable` adds that it is canonical.
    if !public.is_usable() {
        return Err(BadVrfProof);
    }
    let public = EdVrfEdwards25519TaiPublicKey::from_slice(public.as_bytes()).map_err(|_| BadVrfProof)?;
    let decoded = EdVrfProof::decode_pi(&proof.0).map_err(|_| BadVrfProof)?;
    // RFC 9381 section 5.4.4: INVALID if s is not below the group order, and gamma must be a canonical point.
    if decoded.encode_to_pi() != proof.0 {
        return Err(BadVrfProof);
    }
    let hash = public.verify(input, decoded).map_err(|_| BadVrfProof)?;
    Ok(Hash::from_slice(&hash[..32]).expect("a SHA-512 output has 64 bytes"))
}

fn output(proof: &EdVrfProof) -> Hash {
    let hash = proof
        .proof_to_hash(vrf_rfc9381::Ciphersuite::ECVRF_EDWARDS25519_SHA512_TAI)
        .expect("the suite is the proof's own");
    Hash::from_slice(&hash[..32]).expect("a SHA-512 output has 64 bytes")
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    /// RFC 9381 appendix B.3, examples 16 to 18: secret key, public key, alpha, proof, first half of beta.
    const EXAMPLES: [(&str, &str, &str, &str, &str); 3] = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d9727d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805",
            "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3ed7f2fea45c92a465301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02",
            "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf8096bb474e53895c362d8628ee9f9ea3c0e52c7a5c691b6c18c9979866568add7a2d41b00b05081ed0f58ee5e31b3a970e",
            "645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c45",
        ),
    ];

    #[test]
    fn rfc_9381_examples() {
        for (secret, public, alpha, proof, beta) in EXAMPLES {
            let secret = VrfSecret::from_seed(&hex(secret));
            let alpha = HEXLOWER.decode(alpha.as_bytes()).unwrap();
            assert_eq!(secret.public().to_hex(), public);
            let (ours, output) = secret.prove(&alpha);
            assert_eq!(HEXLOWER.encode(ours.as_bytes()), proof);
            assert_eq!(output.to_hex(), beta);
            assert_eq!(verify(&secret.public(), &alpha, &ours), Ok(output));
        }
    }

    #[test]
    fn every_flipped_bit_and_the_unreduced_scalar_are_refused() {
        let secret = VrfSecret::from_seed(&[9; 32]);
        let (proof, _) = secret.prove(b"input");
        for bit in 0..VRF_PROOF_BYTES * 8 {
            let mut bytes = *proof.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&secret.public(), b"input", &VrfProof(bytes)), Err(BadVrfProof), "bit {bit}");
        }
        // s + q: the same scalar, not reduced. q = 2^252 + 27742317777372353535851937790883648493, little endian.
        let q: [u8; 32] = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut bytes = *proof.as_bytes();
        let mut carry = 0u16;
        for (byte, q) in bytes[48..].iter_mut().zip(q) {
            carry += u16::from(*byte) + u16::from(q);
            *byte = carry as u8;
            carry >>= 8;
        }
        assert_eq!(verify(&secret.public(), b"input", &VrfProof(bytes)), Err(BadVrfProof));
    }

    #[test]
    fn small_order_keys_are_refused() {
        for weak in ["00".repeat(32), format!("01{}", "00".repeat(31)), format!("ec{}7f", "ff".repeat(30))] {
            let key = Key::from_hex(&weak).unwrap();
            assert_eq!(verify(&key, b"", &VrfProof([0; 80])), Err(BadVrfProof));
        }
    }

    #[test]
    fn an_independent_implementation_agrees() {
        use akd_core::ecvrf::{VRFExpandedPrivateKey, VRFPrivateKey, VRFPublicKey};
        for seed in 0..32u8 {
            let input = vec![seed; usize::from(seed) * 7];
            let ours = VrfSecret::from_seed(&[seed; 32]);
            let theirs = VRFPrivateKey::try_from(&[seed; 32][..]).unwrap();
            let public = VRFPublicKey::from(&theirs);
            let proof = VRFExpandedPrivateKey::from(&theirs).prove(&public, &input);
            let bytes: [u8; 80] = proof.to_bytes();
            assert_eq!(ours.prove(&input).0, VrfProof(bytes));
        }
    }
}
