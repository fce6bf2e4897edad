//! Signatures that can mean one thing only.
//!
//! ```text
//! struct { opaque context<1..255>; opaque origin<1..255>; opaque fields[...]; } what is signed
//! ```
//!
//! `context` is `waymark/1`, the structure and the role of the signer; `origin` is the log that the structure is for;
//! `fields` are all fields before the signature, encoded. So no signature can be carried over to another structure, role or
//! log. The acceptance rule is the strict one of [`waymark_log::key`].

use tls_codec::{Serialize, Size as _, TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::{
    checkpoint::Origin,
    key::{ALGORITHM_BYTES_MAX, BadSignature, Key, SIGNATURE_BYTES, SecretKey, Signature, algorithm},
};

use crate::wire::{Opaque16, encode};

/// The roles in which Waymark's structures are signed.
pub mod context {
    /// A prover, under an attestation.
    pub const ATTESTATION: &str = "waymark/1 attestation prover";
    /// A recipient, under a mapping.
    pub const MAPPING: &str = "waymark/1 mapping recipient";
    /// An MSP, under a consent.
    pub const CONSENT: &str = "waymark/1 consent msp";
    /// A recipient, under an event.
    pub const EVENT_RECIPIENT: &str = "waymark/1 event recipient";
    /// A CSIP, under an event.
    pub const EVENT_CSIP: &str = "waymark/1 event csip";
    /// An MSP, under an event.
    pub const EVENT_MSP: &str = "waymark/1 event msp";
    /// The DP, under an event.
    pub const EVENT_DP: &str = "waymark/1 event dp";
    /// The key that a provider entry is about.
    pub const PROVIDER_KEY: &str = "waymark/1 provider key";
    /// A key of the same domain that is valid already.
    pub const PROVIDER_VALID: &str = "waymark/1 provider valid";
    /// The log's key, under a config entry.
    pub const CONFIG: &str = "waymark/1 config log";
    /// The log's key, under a close entry.
    pub const CLOSE: &str = "waymark/1 close log";
    /// The key of the log before, under a carry entry.
    pub const CARRY: &str = "waymark/1 carry log";
    /// The holder of a watch-list.
    pub const WATCH_LIST: &str = "waymark/1 watch-list holder";
    /// A recipient, under an HTTP request. Good for that request only: no durable authority.
    pub const REQUEST: &str = "waymark/1 request recipient";
}

/// The bytes that are signed.
pub fn message(context: &str, origin: &Origin, fields: &[u8]) -> Vec<u8> {
    let (context, origin) = (context.as_bytes(), origin.as_str().as_bytes());
    let mut message = Vec::with_capacity(2 + context.len() + origin.len() + fields.len());
    // Contexts are the constants above and an origin has at most 255 bytes: both lengths fit their byte.
    message.push(context.len() as u8);
    message.extend_from_slice(context);
    message.push(origin.len() as u8);
    message.extend_from_slice(origin);
    message.extend_from_slice(fields);
    message
}

/// A structure whose last field is a signature over all the others.
pub trait SignedStruct: Serialize + Sized {
    /// Structure and role, one of [`context`].
    const CONTEXT: &'static str;

    /// The signature it bears.
    fn signature(&self) -> &Signature;

    /// Where the signature goes.
    fn signature_mut(&mut self) -> &mut Signature;

    /// All fields before the signature, encoded.
    fn fields(&self) -> Vec<u8> {
        let mut fields = encode(self);
        fields.truncate(fields.len() - self.signature().tls_serialized_len());
        fields
    }

    /// Signs it for a log.
    fn sign(&mut self, origin: &Origin, secret: &SecretKey) {
        *self.signature_mut() = secret.sign(&message(Self::CONTEXT, origin, &self.fields()));
    }

    /// Checks that `key` signed it for a log.
    ///
    /// # Errors
    /// [`BadSignature`].
    fn verify_by(&self, origin: &Origin, key: &Key) -> Result<(), BadSignature> {
        key.verify(&message(Self::CONTEXT, origin, &self.fields()), self.signature())
    }
}

/// A public key of any algorithm, kept as it stands: what is logged must be carried and hashed also by a program that cannot use
/// it.
///
/// `struct { uint16 algorithm; opaque key<1..2^13>; }`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct AnyKey {
    algorithm: u16,
    key: Opaque16<1, ALGORITHM_BYTES_MAX>,
}

/// A signature of any algorithm, kept as it stands.
///
/// `struct { uint16 algorithm; opaque signature<1..2^13>; }`
#[derive(Clone, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct AnySignature {
    algorithm: u16,
    signature: Opaque16<1, ALGORITHM_BYTES_MAX>,
}

/// What a program can say of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The key made it.
    Holds,
    /// The key did not make it.
    Fails,
    /// Both are of an algorithm that this program cannot check.
    NotSupported,
}

impl AnyKey {
    /// A key by its algorithm's number and its bytes; `None` without bytes, or with more than [`ALGORITHM_BYTES_MAX`].
    pub fn new(algorithm: u16, bytes: &[u8]) -> Option<Self> {
        Opaque16::new(bytes).map(|key| Self { algorithm, key })
    }

    /// Judges one signature. A signature by another algorithm than the key's is not the key's.
    pub fn judge(&self, message: &[u8], signature: &AnySignature) -> Verdict {
        if self.algorithm != signature.algorithm {
            return Verdict::Fails;
        }
        if self.algorithm != algorithm::ED25519 {
            return Verdict::NotSupported;
        }
        let holds = self.ed25519().zip(signature.ed25519()).is_some_and(|(key, sig)| key.verify(message, &sig).is_ok());
        if holds { Verdict::Holds } else { Verdict::Fails }
    }

    /// The key whose form by [`AnyKey::to_hex`] is exactly `text`.
    pub fn from_hex(text: &str) -> Option<Self> {
        let (number, hex) =
            text.split_once(':').map_or((algorithm::ED25519, text), |(n, hex)| (n.parse().unwrap_or(0), hex));
        let key = Self::new(number, &data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?)?;
        (key.to_hex() == text).then_some(key)
    }

    /// The key, if it is an Ed25519 key and so can be used here.
    pub fn ed25519(&self) -> Option<Key> {
        if self.algorithm == algorithm::ED25519 { Key::from_slice(self.key.as_slice()) } else { None }
    }

    /// Lower-case hex of the key's bytes; for another algorithm than Ed25519 behind its number and a colon.
    pub fn to_hex(&self) -> String {
        let hex = data_encoding::HEXLOWER.encode(self.key.as_slice());
        if self.algorithm == algorithm::ED25519 { hex } else { format!("{}:{hex}", self.algorithm) }
    }
}

impl From<Key> for AnyKey {
    fn from(key: Key) -> Self {
        let bytes = Opaque16::new(key.as_bytes().to_vec()).expect("32 bytes are within the limit");
        Self { algorithm: algorithm::ED25519, key: bytes }
    }
}

impl PartialEq<Key> for AnyKey {
    fn eq(&self, other: &Key) -> bool {
        self.ed25519().is_some_and(|key| key == *other)
    }
}

impl AnySignature {
    /// A signature by its algorithm's number and its bytes; `None` without bytes, or with more than [`ALGORITHM_BYTES_MAX`].
    pub fn new(algorithm: u16, bytes: &[u8]) -> Option<Self> {
        Opaque16::new(bytes).map(|signature| Self { algorithm, signature })
    }

    /// The signature, if it is an Ed25519 signature and so can be checked here.
    pub fn ed25519(&self) -> Option<Signature> {
        if self.algorithm == algorithm::ED25519 { Signature::from_slice(self.signature.as_slice()) } else { None }
    }
}

impl From<Signature> for AnySignature {
    fn from(signature: Signature) -> Self {
        let bytes = Opaque16::new(signature.as_bytes().to_vec()).expect("64 bytes are within the limit");
        Self { algorithm: algorithm::ED25519, signature: bytes }
    }
}

/// Sixty-four zero bytes where a signature will stand.
pub const UNSIGNED: Signature = Signature::new([0; SIGNATURE_BYTES]);

/// Implements [`SignedStruct`] for a structure whose last field is `sig`.
macro_rules! signed_struct {
    ($type:ty, $context:expr) => {
        impl $crate::signed::SignedStruct for $type {
            const CONTEXT: &'static str = $context;

            fn signature(&self) -> &waymark_log::key::Signature {
                &self.sig
            }

            fn signature_mut(&mut self) -> &mut waymark_log::key::Signature {
                &mut self.sig
            }
        }
    };
}
pub(crate) use signed_struct;
