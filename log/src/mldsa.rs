//! ML-DSA-44 (FIPS 204) as C2SP tlog-cosignature uses it: pure, with the empty context. Only verification is here.
//!
//! **The rule.** A signature is accepted if and only if FIPS 204, Algorithm 3 (ML-DSA.Verify) accepts it. That algorithm
//! leaves no choice to a verifier, so no stricter rule of our own is needed: each coefficient has one encoding, hints must be
//! in ascending order, and every 1,312 bytes encode a public key.
//!
//! Verification needs the feature `pq`. Without it a key can be read, written and compared, and no signature is accepted.

use std::fmt;

use data_encoding::HEXLOWER;

use crate::key::BadSignature;

/// Bytes in a public key.
pub const KEY_BYTES: usize = 1312;
/// Bytes in a signature.
pub const SIGNATURE_BYTES: usize = 2420;
/// Whether signatures are verified in this build, which is what the feature `pq` does.
pub const IS_VERIFIED: bool = cfg!(feature = "pq");

/// A public key. It is another type than [`crate::key::Key`], so that neither can be taken for the other.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MlDsa44Key(Box<[u8; KEY_BYTES]>);

impl MlDsa44Key {
    /// A key from a slice, if the slice has the right length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: Box<[u8]> = bytes.into();
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Checks one signature by the rule at the top of this file.
    ///
    /// # Errors
    /// [`BadSignature`], also for a signature of another length, and for every signature unless [`IS_VERIFIED`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let signature = signature.try_into().map_err(|_| BadSignature)?;
        if verify(&self.0, message, signature) { Ok(()) } else { Err(BadSignature) }
    }
}

#[cfg(feature = "pq")]
fn verify(key: &[u8; KEY_BYTES], message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    use fips204::{
        ml_dsa_44::PublicKey,
        traits::{SerDes as _, Verifier as _},
    };

    /// tlog-cosignature names no context, so it is the default of FIPS 204: the empty string.
    const CONTEXT: &[u8] = &[];

    PublicKey::try_from_bytes(*key).is_ok_and(|key| key.verify(message, signature, CONTEXT))
}

#[cfg(not(feature = "pq"))]
const fn verify(_: &[u8; KEY_BYTES], _: &[u8], _: &[u8; SIGNATURE_BYTES]) -> bool {
    false
}

impl fmt::Debug for MlDsa44Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0[..8]))?;
        f.write_str("..")
    }
}
