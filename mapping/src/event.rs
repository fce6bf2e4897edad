//! Events: the signed reason for a change, seen by recipients only.
//!
//! ```text
//! struct { uint8 format = 1; EventKind kind; Csi csi; uint32 tenure; uint32 version; Hash previous;
//!          Hash added<0..2^10>; Hash removed<0..2^10>; uint8 reason; Ms time; opaque nonce[16]; }     EventTbs
//! struct { uint8 role; Key key; Attestation possession?; Sig sig; }                                   Authority
//! struct { EventTbs tbs; Authority authorities<0..196,608>; }                                         Event
//! struct { Hash previous; Event event; }                                                              Cause
//! ```
//!
//! `previous` is the commitment of version - 1 (zero at version 0), `added` and `removed` are SHA-256 of Mappings. Each
//! authority signs the whole EventTbs and the fields of its Authority before the signature, in its role: nobody who carries the
//! event can take its proof of possession away or put another one in. Since version and previous commitment are signed, an event cannot be
//! played again or laid over a state that its signer has not seen. Only KeyCompromise, prepared in advance and kept offline,
//! names no version ([`ANY_VERSION`]); the Cause in the record says what it was laid over.
//!
//! What `added` and `removed` mean for each kind, and who must sign, says [`crate::rules`].

use tls_codec::{TlsDeserialize, TlsDeserializeBytes, TlsSerialize, TlsSize};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{BadSignature, Key, SecretKey, Signature},
    time::UnixMillis,
};

use crate::{
    identifier::Csi,
    mapping::Attestation,
    signed::{UNSIGNED, context, message},
    wire::{Format, List24, Optional24, encode},
};

/// Most bytes in the authorities of an event: sixteen, each with a proof of possession, with keys and signatures by an algorithm
/// with long ones.
pub const AUTHORITIES_BYTES_MAX: usize = 192 * 1024;
/// Most bytes in an encoded event.
pub const EVENT_BYTES_MAX: usize = AUTHORITIES_BYTES_MAX + 4 * 1024;

/// Stands for "whatever version is current" in an event that was prepared in advance.
pub const ANY_VERSION: u32 = u32::MAX;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes)]
#[repr(u8)]
pub enum EventKind {
    /// Mappings are added.
    Issue = 1,
    /// Mappings are removed and others added.
    Replace = 2,
    /// Mappings are removed.
    Withdraw = 3,
    /// The recipient does not want to be found.
    OptOut = 4,
    /// A mapping's key is changed.
    RotateKey = 5,
    /// A key is declared lost; prepared in advance, so it may name no version.
    KeyCompromise = 6,
    /// The CSIP takes the CSI back.
    Release = 7,
    /// Somebody with fresh possession claims the CSI.
    NewHolderPending = 8,
    /// The old holder objects.
    Objection = 9,
    /// The claim is granted: the next tenure begins.
    NewHolder = 10,
    /// The MSP says it does not serve a mapping any more. Not a removal.
    MspDetach = 11,
    /// The DP does not show a mapping, for a stated reason. Not a removal.
    DpUnserve = 12,
    /// Openings and payload are deleted.
    Erase = 13,
}

impl EventKind {
    /// The kind in words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Issue => "mappings added",
            Self::Replace => "mappings replaced",
            Self::Withdraw => "mappings withdrawn",
            Self::OptOut => "opted out",
            Self::RotateKey => "key rotated",
            Self::KeyCompromise => "key revoked",
            Self::Release => "taken back by the operator",
            Self::NewHolderPending => "claimed",
            Self::Objection => "objection",
            Self::NewHolder => "changed hands",
            Self::MspDetach => "the MSP's statement on whether it serves a mapping",
            Self::DpUnserve => "the DP's statement on whether it serves a mapping",
            Self::Erase => "erased",
        }
    }
}

/// In which role an authority signs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes)]
#[repr(u8)]
pub enum AuthorityRole {
    /// The key of a mapping.
    Recipient = 1,
    /// The issuer of the CSI.
    Csip = 2,
    /// The MSP of a mapping.
    Msp = 3,
    /// The DP.
    Dp = 4,
}

impl AuthorityRole {
    const fn context(self) -> &'static str {
        match self {
            Self::Recipient => context::EVENT_RECIPIENT,
            Self::Csip => context::EVENT_CSIP,
            Self::Msp => context::EVENT_MSP,
            Self::Dp => context::EVENT_DP,
        }
    }
}

/// What is signed.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct EventTbs {
    /// The version of the format.
    pub format: Format,
    /// What happened.
    pub kind: EventKind,
    /// To whom.
    pub csi: Csi,
    /// In which tenure.
    pub tenure: u32,
    /// The version that the event makes.
    pub version: u32,
    /// Commitment of the version before; zero at version 0.
    pub previous: Hash,
    /// Digests of the mappings that are added.
    pub added: List24<Hash, 1024>,
    /// Digests of the mappings that are removed.
    pub removed: List24<Hash, 1024>,
    /// A reason code, for the kinds that need one; else zero.
    pub reason: u8,
    /// When the signer signed, by the signer's clock.
    pub time: UnixMillis,
    /// Random.
    pub nonce: [u8; 16],
}

/// One signature under an event.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Authority {
    /// In which role.
    pub role: AuthorityRole,
    /// With which key.
    pub key: Key,
    /// Fresh possession, where the rules ask for it.
    pub possession: Optional24<Attestation>,
    /// Over the EventTbs and all fields above.
    pub sig: Signature,
}

/// An event with its authorities.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Event {
    /// What is signed.
    pub tbs: EventTbs,
    /// By whom.
    pub authorities: List24<Authority, AUTHORITIES_BYTES_MAX>,
}

impl Event {
    /// Whether a key is among its signers. That its signature verifies is judged elsewhere.
    pub fn is_signed_by(&self, key: &Key) -> bool {
        self.authorities.iter().any(|a| a.key == *key)
    }
}

/// What made a version, and over what: opens a record's `cause`. A chain of them is a CSI's history.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Cause {
    /// Commitment of the version before; zero at version 0.
    pub previous: Hash,
    /// The event.
    pub event: Event,
}

impl EventTbs {
    /// Whether it was prepared in advance, for whatever version will be current.
    pub fn names_no_version(&self) -> bool {
        self.version == ANY_VERSION && self.previous == Hash::ZERO
    }

    /// Signs the event as the holder of a recipient key.
    pub fn sign_as_recipient(&self, origin: &Origin, secret: &SecretKey, possession: Option<Attestation>) -> Authority {
        self.sign(AuthorityRole::Recipient, origin, secret, possession)
    }

    /// Signs the event in a role of a provider.
    pub fn sign_as(&self, role: AuthorityRole, origin: &Origin, secret: &SecretKey) -> Authority {
        self.sign(role, origin, secret, None)
    }

    fn sign(
        &self,
        role: AuthorityRole,
        origin: &Origin,
        secret: &SecretKey,
        possession: Option<Attestation>,
    ) -> Authority {
        let (key, possession) = (secret.public(), Optional24(possession));
        let mut authority = Authority { role, key, possession, sig: UNSIGNED };
        authority.sig = secret.sign(&authority.message(self, origin));
        authority
    }
}

impl Authority {
    /// Checks the signature under an event.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, tbs: &EventTbs, origin: &Origin) -> Result<(), BadSignature> {
        self.key.verify(&self.message(tbs, origin), &self.sig)
    }

    /// What is signed: EventTbs || role || key || possession.
    fn message(&self, tbs: &EventTbs, origin: &Origin) -> Vec<u8> {
        let mut fields = encode(tbs);
        fields.extend(encode(&self.role));
        fields.extend(encode(&self.key));
        fields.extend(encode(&self.possession));
        message(self.role.context(), origin, &fields)
    }
}
