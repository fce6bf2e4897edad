//! Answers and receipts: what a look-up and an issuance return.
//!
//! ```text
//! struct { uint64 index; Hash path<0..2^11>; }                                                       Inclusion
//! struct { Head head; Inclusion at; }                                                                HeadAt
//! struct { Consent consent; Salt salt; Inclusion logged<0..2^16-1>; }          none or one           OpenedConsent
//! struct { uint8 shown; select (shown) { case 1: Mapping mapping; case 0: Hash digest; }; }          Content
//! struct { Salt salt; Standing standing; Content content; OpenedConsent consent<0..2^16-1>;
//!          Event statement<0..2^16-1>; }                                                             OpenedVisible
//! struct { uint8 ordinal; opaque vrf_proof[80]; }                                                    TagProof
//! struct { uint8 present; select (present) { case 1: Standing standing; Content content;
//!          case 0: struct {}; }; }                                                                   HiddenValue
//! struct { uint8 slot; Salt salt; HiddenValue value; TagProof handle<0..2^16-1>;
//!          OpenedConsent consent<0..2^16-1>; Event statement<0..2^16-1>; }                           OpenedHidden
//! struct { opaque opening[16]; Record record; Salt contents_salt; Contents contents;
//!          OpenedVisible visible<0..2^15>; OpenedHidden hidden<0..2^15>; TagProof tag_end<0..2^16-1>; }   Body
//! struct { opaque vrf_proof[80]; optional<Hash> commitment; }                                        LadderStep
//! struct { ProviderLeaf leaves<0..2^14>; PrefixProof proof; }                                        Providers
//! struct { LoggedVersion since<0..2^15>; TenureProof tenure<0..2^16-1>; }      tenure.rs             Full
//! struct { uint8 format = 1; opaque open<1..2^10>; opaque config<0..2^10>; Head head; Hash head_path<0..2^11>;
//!          opaque checkpoint<1..2^13>; uint32 version; LadderStep ladder<0..2^13>; PrefixProof map;
//!          Body body<0..2^16-1>; Providers providers; Full full<0..2^16-1>; }                        Answer
//! Answer | uint16 length | zeros                                               4, 8, 16, 32 or 64 KiB in all
//! struct { Answer now; Cause cause<0..2^16-1>; Salt cause_salt; Body previous<0..2^16-1>; }          Receipt
//! struct { Cause cause; Salt cause_salt; Body previous<0..2^16-1>; }                                 Past
//! struct { Past steps<0..2^16-1>; }                                                                  Pasts
//! ```
//!
//! `open` and `config` are whole entries. Without a body the answer says "absent"; its version is then 0. A ladder step
//! bears the commitment of every version that is there, other than the latest, whose commitment the body opens. `leaves`
//! are those that exist of the domains that the answer names (MSPs, provers, the CSIP of a release, the DP where it withholds
//! something; in the order of SHA-256(domain)); the proof also shows which do not exist.
//!
//! A mapping is closed (`shown` = 0) if and only if the DP withholds it and the reader is a sender; `statement` is then the DP's,
//! as it is the MSP's for a mapping that is detached.
//!
//! `full` bears the proof of how the tenure began, wherever it is not the first, and on request the versions that the standings
//! name. `previous` bears no consents: what an MSP says is judged for the record as it is. It is the record before in the same
//! tenure; there is none at a tenure's beginning.
//!
//! An answer is unsigned: a wrong one fails ([`crate::verify`]), a stale one expires. Padding hides from the network what
//! was asked and whether it was found; the zeros are checked, so that they carry nothing.

use std::io::{Read, Write};

use tls_codec::{Deserialize, Error, Serialize, Size, TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::hash::Hash;

use crate::{
    commitment::{Opening, Salt},
    entry::Head,
    event::{Cause, Event},
    mapping::{Consent, Mapping},
    prefix::PrefixProof,
    provider::ProviderLeaf,
    record::{Contents, Record, Standing},
    tenure::{LoggedVersion, TenureProof},
    vrf::VrfProof,
    wire::{Flag, List16, Malformed, Opaque16, Optional16, decode, encode, refuse},
};

/// The sizes that answers have.
pub const ANSWER_SIZES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
/// The format version of answers.
pub const ANSWER_FORMAT: u8 = 1;
/// Media type of answers.
pub const ANSWER_MEDIA_TYPE: &str = "application/vnd.waymark.answer";
/// Media type of pages of a CSI's past.
pub const PAST_MEDIA_TYPE: &str = "application/vnd.waymark.past";
/// Media type of receipts.
pub const RECEIPT_MEDIA_TYPE: &str = "application/vnd.waymark.receipt";
/// Most bytes in a receipt: an answer, an event and a body.
pub const RECEIPT_BYTES_MAX: usize = 192 << 10;

/// The format version of answers: decodes from [`ANSWER_FORMAT`] and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format;

impl Size for Format {
    fn tls_serialized_len(&self) -> usize {
        1
    }
}

impl Serialize for Format {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        ANSWER_FORMAT.tls_serialize(writer)
    }
}

impl Deserialize for Format {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        match u8::tls_deserialize(reader)? {
            ANSWER_FORMAT => Ok(Self),
            _ => Err(refuse("its format version is unknown")),
        }
    }
}

/// Where a leaf is in the tree of the answer's checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Inclusion {
    /// Its index.
    pub index: u64,
    /// Its path.
    pub path: List16<Hash, 2048>,
}

/// An MSP's consent, with what shows which mapping it is under.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct OpenedConsent {
    /// The consent.
    pub consent: Consent,
    /// The salt that its `blinded` was made with.
    pub salt: Salt,
    /// Where it is logged, if the MSP publishes its consents.
    pub logged: Optional16<Inclusion>,
}

/// A head, and where it is logged.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct HeadAt {
    /// The head.
    pub head: Head,
    /// Its place.
    pub at: Inclusion,
}

/// A mapping, or only which one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// The mapping.
    Shown(Box<Mapping>),
    /// SHA-256(Mapping): the DP withholds it.
    Closed(Hash),
}

impl Content {
    /// The mapping, if it is shown.
    pub fn mapping(&self) -> Option<&Mapping> {
        match self {
            Self::Shown(mapping) => Some(mapping),
            Self::Closed(_) => None,
        }
    }

    /// SHA-256(Mapping).
    pub fn digest(&self) -> Hash {
        match self {
            Self::Shown(mapping) => mapping.digest(),
            Self::Closed(digest) => *digest,
        }
    }
}

/// What a hidden slot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HiddenValue {
    /// Nothing.
    Empty,
    /// A mapping with an exact-match tag.
    Present(Standing, Content),
}

impl HiddenValue {
    /// The mapping, if there is one and it is shown.
    pub fn mapping(&self) -> Option<&Mapping> {
        match self {
            Self::Empty => None,
            Self::Present(_, content) => content.mapping(),
        }
    }
}

/// A visible slot, opened.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct OpenedVisible {
    /// The salt of its digest.
    pub salt: Salt,
    /// How the mapping stands.
    pub standing: Standing,
    /// What it holds.
    pub content: Content,
    /// The MSP's consent, if there is one.
    pub consent: Optional16<OpenedConsent>,
    /// The statement that detached it or withholds it.
    pub statement: Optional16<Event>,
}

/// The proof of a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct TagProof {
    /// Which of the mappings with this tag.
    pub ordinal: u8,
    /// The handle's proof.
    pub vrf_proof: VrfProof,
}

/// A hidden slot, opened.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct OpenedHidden {
    /// Which slot.
    pub slot: u8,
    /// The salt of its digest.
    pub salt: Salt,
    /// What it holds.
    pub value: HiddenValue,
    /// Why its handle is what it is; none for an empty slot.
    pub handle: Optional16<TagProof>,
    /// The MSP's consent, if there is one.
    pub consent: Optional16<OpenedConsent>,
    /// The statement that detached it or withholds it.
    pub statement: Optional16<Event>,
}

/// A record, opened.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Body {
    /// Opens the commitment.
    pub opening: Opening,
    /// The record.
    pub record: Record,
    /// Opens its contents.
    pub contents_salt: Salt,
    /// Its contents.
    pub contents: Contents,
    /// Every visible slot, in order.
    pub visible: List16<OpenedVisible, { 1 << 15 }>,
    /// Hidden slots: those of the presented tag by ordinal, or those that the recipient may see.
    pub hidden: List16<OpenedHidden, { 1 << 15 }>,
    /// The first handle of the presented tag that is not there.
    pub tag_end: Optional16<TagProof>,
}

/// One step of the ladder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct LadderStep {
    /// The label's proof.
    pub vrf_proof: VrfProof,
    /// The commitment of a version that is there and is not the latest.
    pub commitment: Option<Hash>,
}

/// The providers that an answer's mappings name, proved.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Providers {
    /// Those that exist.
    pub leaves: List16<ProviderLeaf, { 1 << 14 }>,
    /// That they do and the others do not.
    pub proof: PrefixProof,
}

/// What a look-up returns.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Answer {
    /// Always 1.
    pub format: Format,
    /// The log's open entry.
    pub open: Opaque16<1, 1024>,
    /// The latest config entry, if there is one.
    pub config: Opaque16<0, 1024>,
    /// The head, last leaf of the checkpoint's tree.
    pub head: Head,
    /// Its path.
    pub head_path: List16<Hash, 2048>,
    /// The checkpoint with its cosignatures.
    pub checkpoint: Opaque16<1, 8192>,
    /// The latest version; 0 if there is none.
    pub version: u32,
    /// A step for each version of the ladder.
    pub ladder: List16<LadderStep, 8192>,
    /// What the map holds at each of them.
    pub map: PrefixProof,
    /// The latest record, unless there is none.
    pub body: Optional16<Body>,
    /// The providers named in it.
    pub providers: Providers,
    /// What more is proved of the past.
    pub full: Optional16<Full>,
}

/// What is proved of the past beside the latest version.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Full {
    /// The versions that the standings name, ascending: when each was logged.
    pub since: List16<LoggedVersion, { 1 << 15 }>,
    /// How the tenure began; none for the first.
    pub tenure: Optional16<TenureProof>,
}

/// What an issuance returns: the record as it is and as it was, whole, to the recipient whose change it is.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Receipt {
    /// The record now.
    pub now: Answer,
    /// What made it; not shown to a key that is still new.
    pub cause: Optional16<Cause>,
    /// Opens the contents' `cause`.
    pub cause_salt: Salt,
    /// The record before in the same tenure, if there was one.
    pub previous: Optional16<Body>,
}

/// One step back in a CSI's history: what made a version, and the record before.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Past {
    /// What made the version.
    pub cause: Cause,
    /// Opens the version's `cause`.
    pub cause_salt: Salt,
    /// The record before in the same tenure, if the reader may see it.
    pub previous: Optional16<Body>,
}

/// A page of history, newest first.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Pasts {
    /// The steps.
    pub steps: List16<Past, 65535>,
}

impl Providers {
    /// What is shown where no mapping names anybody.
    pub const fn none() -> Self {
        Self { leaves: List16::empty(), proof: PrefixProof::nothing() }
    }
}

impl Answer {
    /// The answer, padded to the smallest size that holds it and at least `bytes_min`.
    ///
    /// Returns `None` if it does not fit in the greatest size.
    pub fn to_padded(&self, bytes_min: usize) -> Option<Vec<u8>> {
        let mut bytes = encode(self);
        let needed = (bytes.len() + 2).max(bytes_min);
        let size = ANSWER_SIZES.into_iter().find(|s| *s >= needed)?;
        let zeros = size - bytes.len() - 2;
        bytes.extend_from_slice(&(zeros as u16).to_be_bytes());
        bytes.resize(size, 0);
        Some(bytes)
    }

    /// Reads a padded answer. Nothing is verified.
    ///
    /// # Errors
    /// [`Malformed`], also for a size that is not one of [`ANSWER_SIZES`] and for padding that is not zero.
    pub fn from_padded(bytes: &[u8]) -> Result<Self, Malformed> {
        let malformed = |what: &str| Malformed { structure: "answer", what: what.to_owned() };
        if !ANSWER_SIZES.contains(&bytes.len()) {
            return Err(malformed("its size is not one that answers have"));
        }
        let padded: Padded = decode("answer", bytes)?;
        if padded.zeros.as_slice().iter().any(|b| *b != 0) {
            return Err(malformed("its padding is not zero"));
        }
        Ok(padded.answer)
    }
}

impl Size for Content {
    fn tls_serialized_len(&self) -> usize {
        match self {
            Self::Shown(mapping) => 1 + mapping.tls_serialized_len(),
            Self::Closed(digest) => 1 + digest.tls_serialized_len(),
        }
    }
}

impl Serialize for Content {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        match self {
            Self::Shown(mapping) => Ok(Flag(true).tls_serialize(writer)? + mapping.tls_serialize(writer)?),
            Self::Closed(digest) => Ok(Flag(false).tls_serialize(writer)? + digest.tls_serialize(writer)?),
        }
    }
}

impl Deserialize for Content {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        if Flag::tls_deserialize(reader)?.0 {
            return Ok(Self::Shown(Box::new(Mapping::tls_deserialize(reader)?)));
        }
        Ok(Self::Closed(Hash::tls_deserialize(reader)?))
    }
}

impl Size for HiddenValue {
    fn tls_serialized_len(&self) -> usize {
        match self {
            Self::Empty => 1,
            Self::Present(standing, content) => 1 + standing.tls_serialized_len() + content.tls_serialized_len(),
        }
    }
}

impl Serialize for HiddenValue {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        match self {
            Self::Empty => Flag(false).tls_serialize(writer),
            Self::Present(standing, content) => Ok(Flag(true).tls_serialize(writer)?
                + standing.tls_serialize(writer)?
                + content.tls_serialize(writer)?),
        }
    }
}

impl Deserialize for HiddenValue {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        if !Flag::tls_deserialize(reader)?.0 {
            return Ok(Self::Empty);
        }
        let (standing, content) = (Standing::tls_deserialize(reader)?, Content::tls_deserialize(reader)?);
        if content.mapping().is_some_and(|m| m.tags.as_exact().is_none()) {
            return Err(refuse("a hidden mapping has no exact-match tag"));
        }
        Ok(Self::Present(standing, content))
    }
}

#[derive(TlsSize, TlsDeserialize)]
struct Padded {
    answer: Answer,
    zeros: Opaque16<0, 65535>,
}

impl Receipt {
    /// Reads a receipt. Nothing is verified.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(Malformed { structure: "receipt", what: "it is too large".to_owned() });
        }
        decode("receipt", bytes)
    }

    /// The receipt's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}
