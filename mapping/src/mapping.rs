//! Mappings, and the two statements they rest on: an attestation that the recipient possesses the CSI, and an MSP's consent.
//!
//! ```text
//! struct { uint8 format = 1; Csi csi; Key recipient; uint32 tenure; uint8 purpose; uint8 method;
//!          opaque prover<1..253>; Key prover_key; Ms time; Ms expiry; opaque nonce[16]; Sig sig; }     Attestation
//! struct { uint8 format = 1; Csi csi; uint32 tenure; Key recipient; opaque msp<0..253>; opaque account<0..255>;
//!          opaque fingerprint<0..64>; uint8 exact; Tag tags<0..264>; Ms not_before; Ms not_after;
//!          opaque region<0..8>; Attestation attestation; Sig sig; }                                    Mapping
//! struct { uint8 format = 1; opaque msp<1..253>; Key msp_key; Hash blinded; Ms expiry; Sig sig; }     Consent
//! ```
//!
//! A mapping says: this CSI can be reached at this MSP, says the holder of this key, whom this prover has seen to possess
//! the CSI. Only the recipient's key makes one (MIMI discovery requirements, R1); the MSP's consent is a second statement
//! that shows neither CSI nor account (`blinded` = HMAC(salt, Mapping), the salt drawn by the app for each consent).

use std::io::{Read, Write};

use tls_codec::{Deserialize, Error, Serialize, Size, TlsDeserialize, TlsDeserializeBytes, TlsSerialize, TlsSize};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{BadSignature, Key, Signature},
    time::UnixMillis,
};

use crate::{
    commitment::{Salt, blind},
    identifier::Csi,
    names::{Account, Domain, MaybeDomain, Region, TAGS_BYTES_MAX, TAGS_MAX, Tag},
    signed::{SignedStruct, context, signed_struct},
    wire::{Flag, Format, List24, Opaque8, encode, refuse},
};

/// Longest a mapping holds without a new proof of possession: 180 days, since numbers lapse and are given to others.
pub const MAPPING_LIFETIME_MS_MAX: u64 = 180 * 24 * 3600 * 1000;
/// How long a consent holds: to the beginning of the seventh month after that of its signing, so always longer than a mapping.
pub const CONSENT_MONTHS: u32 = 7;
/// Most bytes in an encoded mapping, its attestation included: some 1,600 bytes of text and the rest, and room for three keys and
/// two signatures by an algorithm with long ones (ML-DSA-44: 1,312 and 2,420 bytes).
pub const MAPPING_BYTES_MAX: usize = 16 * 1024;

/// What a proof of possession is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes)]
#[repr(u8)]
pub enum Purpose {
    /// To add mappings and to remove what the rules let possession remove.
    Control = 1,
    /// To see the current list, and nothing else.
    View = 2,
}

/// How possession was shown. A number, so that a reader meets a newer method as unknown rather than as an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Method(pub u8);

impl Method {
    /// A code sent by SMS.
    pub const SMS: Self = Self(1);
    /// A code spoken in a call.
    pub const VOICE: Self = Self(2);
    /// A code sent by e-mail.
    pub const EMAIL: Self = Self(3);
    /// A code shown on the DP's console or written to a file: for development and the demo only.
    pub const CONSOLE: Self = Self(4);
    /// A link in an e-mail, opened. Told apart from a code: the person who opens it need not be the one whose app asked.
    pub const EMAIL_LINK: Self = Self(5);
    /// A message that came from the number or the mailbox. As with a link, the one who sends it need not be the one whose app asked; and
    /// the origin of a text message can be forged.
    pub const INCOMING: Self = Self(6);

    /// The method in words.
    pub const fn describe(self) -> &'static str {
        match self.0 {
            1 => "a code by SMS",
            2 => "a code by voice call",
            3 => "a code by e-mail",
            4 => "a code on the DP's console (development)",
            5 => "a link by e-mail",
            6 => "a message that came from there",
            _ => "a method this program does not know",
        }
    }

    /// How hard it is to fake, by the table of FORMATS section 13: no prover says so of itself. A higher number is stricter; 0 for a
    /// method that the table does not have, of which nothing can be said.
    pub const fn strength(self) -> u8 {
        match self.0 {
            // A code or a link over a channel that others may read; on the console, for development, no better.
            1..=5 => 1,
            _ => 0,
        }
    }
}

/// A prover's word that the holder of a key possesses a CSI.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Attestation {
    /// The version of the format.
    pub format: Format,
    /// What is possessed.
    pub csi: Csi,
    /// The recipient's key: possession is bound to it and to no other.
    pub recipient: Key,
    /// The tenure it is for.
    pub tenure: u32,
    /// What it may be used for.
    pub purpose: Purpose,
    /// How possession was shown.
    pub method: Method,
    /// Who says so.
    pub prover: Domain,
    /// With which key.
    pub prover_key: Key,
    /// When possession was shown.
    pub time: UnixMillis,
    /// Until when the statement may be relied on for a new change.
    pub expiry: UnixMillis,
    /// Random, so that no two are alike.
    pub nonce: [u8; 16],
    /// By the prover.
    pub sig: Signature,
}

signed_struct!(Attestation, context::ATTESTATION);

impl Attestation {
    /// Checks the prover's signature.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, origin: &Origin) -> Result<(), BadSignature> {
        self.verify_by(origin, &self.prover_key)
    }
}

/// What a mapping is for, in the recipient's words.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Tags {
    /// Shown to everybody who looks the CSI up: ascending, distinct, `default` only alone.
    Shown(List24<Tag, { TAGS_BYTES_MAX + TAGS_MAX }>),
    /// To be presented: the mapping is found only by somebody who knows this tag.
    Exact(Tag),
}

impl Tags {
    /// Tags for everybody, sorted; `None` if they repeat, are too many or too long, or `default` is not alone.
    pub fn shown(mut tags: Vec<Tag>) -> Option<Self> {
        tags.sort_unstable();
        let tags = Self::Shown(List24::new(tags)?);
        tags.is_well_formed().then_some(tags)
    }

    /// The tags for everybody.
    pub fn as_shown(&self) -> &[Tag] {
        match self {
            Self::Shown(tags) => tags,
            Self::Exact(_) => &[],
        }
    }

    /// The tag to be presented.
    pub const fn as_exact(&self) -> Option<&Tag> {
        match self {
            Self::Shown(_) => None,
            Self::Exact(tag) => Some(tag),
        }
    }

    fn is_well_formed(&self) -> bool {
        let Self::Shown(tags) = self else { return true };
        let bytes: usize = tags.iter().map(|t| t.expose().len()).sum();
        tags.len() <= TAGS_MAX
            && bytes <= TAGS_BYTES_MAX
            && tags.windows(2).all(|w| w[0] < w[1])
            && (tags.len() == 1 || tags.iter().all(|t| t.expose() != Tag::DEFAULT))
    }

    fn list(&self) -> List24<Tag, { TAGS_BYTES_MAX + TAGS_MAX }> {
        match self {
            Self::Shown(tags) => tags.clone(),
            Self::Exact(tag) => List24::new(vec![tag.clone()]).expect("one tag fits"),
        }
    }
}

impl Size for Tags {
    fn tls_serialized_len(&self) -> usize {
        1 + self.list().tls_serialized_len()
    }
}

impl Serialize for Tags {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        Ok(Flag(self.as_exact().is_some()).tls_serialize(writer)? + self.list().tls_serialize(writer)?)
    }
}

impl Deserialize for Tags {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let exact = Flag::tls_deserialize(reader)?.0;
        let list = List24::<Tag, _>::tls_deserialize(reader)?;
        let tags = match (exact, &*list) {
            (true, [tag]) => Self::Exact(tag.clone()),
            (true, _) => return Err(refuse("an exact-match tag stands alone")),
            (false, _) => Self::Shown(list),
        };
        if tags.is_well_formed() { Ok(tags) } else { Err(refuse("tags repeat, are out of order or too many")) }
    }
}

/// One CSI at one MSP, authorised by one recipient key.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Mapping {
    /// The version of the format.
    pub format: Format,
    /// Who is found.
    pub csi: Csi,
    /// In whose time of holding the CSI.
    pub tenure: u32,
    /// By whose authority.
    pub recipient: Key,
    /// Where; nothing means "I do not want to be found".
    pub msp: MaybeDomain,
    /// The account there, if the recipient wants it told.
    pub account: Account,
    /// A fingerprint of the key that the app will use there, if any.
    pub fingerprint: Opaque8<0, 64>,
    /// What for.
    pub tags: Tags,
    /// From when on.
    pub not_before: UnixMillis,
    /// Until when.
    pub not_after: UnixMillis,
    /// Where the payload may be kept.
    pub region: Region,
    /// The proof of possession.
    pub attestation: Attestation,
    /// By the recipient key.
    pub sig: Signature,
}

signed_struct!(Mapping, context::MAPPING);

/// Why a mapping is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MappingRefused {
    /// The recipient's signature.
    #[error("the recipient has not signed the mapping")]
    Recipient,
    /// The prover's signature.
    #[error("the prover has not signed the attestation")]
    Prover,
    /// The attestation is about another CSI, key, tenure or purpose.
    #[error("the attestation is not for this mapping")]
    OtherAttestation,
    /// Not-after does not follow not-before, is not the beginning of a UTC day, or lies more than 180 days after the proof of possession.
    #[error("the mapping's validity does not end with a UTC day within 180 days of the proof of possession")]
    Validity,
    /// An opt-out names an account, key, or tag.
    #[error("an opt-out names an account, a key or a tag")]
    OptOut,
}

impl Mapping {
    /// Checks what needs nothing but the mapping: both signatures, the attestation's fit, the validity.
    ///
    /// Who the prover is, and whether the prover's key is known, is for the caller.
    ///
    /// # Errors
    /// [`MappingRefused`].
    pub fn verify(&self, origin: &Origin) -> Result<(), MappingRefused> {
        let a = &self.attestation;
        let fits = a.csi == self.csi && a.recipient == self.recipient && a.tenure == self.tenure;
        if !fits || a.purpose != Purpose::Control {
            return Err(MappingRefused::OtherAttestation);
        }
        let end = a.time.plus_ms(MAPPING_LIFETIME_MS_MAX);
        // Not-after rounds down to a UTC day: a time to the millisecond would link what one person says at several providers.
        if self.not_after <= self.not_before || self.not_after > end || !self.not_after.begins_day() {
            return Err(MappingRefused::Validity);
        }
        let bare = self.account == Account::NONE
            && self.fingerprint.as_slice().is_empty()
            && matches!(&self.tags, Tags::Shown(t) if t.is_empty());
        if self.is_opt_out() && !bare {
            return Err(MappingRefused::OptOut);
        }
        // R1: "Only the recipient can authorise mapping its CSI to an MSP set."
        self.verify_by(origin, &self.recipient).map_err(|_| MappingRefused::Recipient)?;
        a.verify(origin).map_err(|_| MappingRefused::Prover)
    }

    /// Whether it says that the recipient does not want to be found.
    pub fn is_opt_out(&self) -> bool {
        self.msp == MaybeDomain::NONE
    }

    /// Whether it holds at a time.
    pub fn is_valid_at(&self, now: UnixMillis) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// SHA-256 of the encoding: how events name it.
    pub fn digest(&self) -> Hash {
        Hash::sha256(&[&encode(self)])
    }
}

/// An MSP's word that it serves a mapping, without saying which.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Consent {
    /// The version of the format.
    pub format: Format,
    /// The MSP.
    pub msp: Domain,
    /// Its key.
    pub msp_key: Key,
    /// HMAC(salt, Mapping).
    pub blinded: Hash,
    /// Until when.
    pub expiry: UnixMillis,
    /// By the MSP.
    pub sig: Signature,
}

signed_struct!(Consent, context::CONSENT);

impl Consent {
    /// When a consent that is signed now ends: with a UTC month, counted from its own signing. So all consents that an MSP signs
    /// within a month end together, and none shows when somebody proved possession.
    pub const fn expiry_of(signed: UnixMillis) -> UnixMillis {
        signed.month_after(CONSENT_MONTHS)
    }

    /// Whether it ends with a UTC month, as every consent does.
    pub const fn ends_with_month(&self) -> bool {
        self.expiry.begins_month()
    }

    /// Checks the MSP's signature and that it is under this mapping.
    pub fn is_for(&self, mapping: &Mapping, salt: &Salt, origin: &Origin) -> bool {
        // "A consent's expiry is a UTC month boundary."
        self.ends_with_month()
            && Some(&self.msp) == mapping.msp.get().as_ref()
            && blind(salt, &encode(mapping)) == self.blinded
            && self.verify_by(origin, &self.msp_key).is_ok()
    }
}
