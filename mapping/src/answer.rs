//! Answers and receipts: what a look-up and an issuance return.
//!
//! ```text
//! struct { uint64 index; Hash path<0..2^11>; }                                                       Inclusion
//! struct { Head head; Inclusion at; }                                                                HeadAt
//! struct { Consent consent; Salt salt; Inclusion logged?; }                                     OpenedConsent
//! struct { uint8 shown; select (shown) { case 1: Mapping mapping; case 0: Hash digest; }; }          Content
//! struct { Salt salt; Standing standing; Content content; OpenedConsent consent?;
//!          Event statement?; }                                                             OpenedVisible
//! struct { uint8 ordinal; opaque vrf_proof[80]; }                                                    TagProof
//! struct { uint8 present; select (present) { case 1: Standing standing; Content content;
//!          case 0: struct {}; }; }                                                                   HiddenValue
//! struct { uint8 slot; Salt salt; HiddenValue value; TagProof handle?;
//!          OpenedConsent consent?; Event statement?; }                           OpenedHidden
//! struct { opaque opening[16]; Record record; Salt contents_salt; Contents contents; OpenedVisible visible<0..229,376>;
//!          OpenedHidden hidden<0..229,376>; TagProof tag_proofs<0..2^11>; }                             Body
//! struct { opaque vrf_proof[80]; optional<Hash> commitment; }                                        LadderStep
//! struct { ProviderLeaf leaves<0..2^17>; PrefixProof proof; }                                        Providers
//! struct { Hash open_path<0..2^11>; LoggedVersion since<0..2^17>; TenureProof tenure?; Earlier earlier<0..196,608>; }   Full
//! struct { uint8 format = 1; opaque open<1..2^14>; opaque config<0..2^14>; Head head; Hash head_path<0..2^11>;
//!          opaque checkpoint<1..2^16-1>; uint32 version; LadderStep ladder<0..2^13>; PrefixProof map;
//!          Body body?; Providers providers; Full full?; }                        Answer
//! Answer | uint24 length | zeros                                4, 8, 16, 32, 64, 128, 256 or 512 KiB in all
//! struct { Answer now; Cause cause?; Salt cause_salt; Body previous?; }          Receipt
//! struct { Cause cause; Salt cause_salt; Body previous?; }                                 Past
//! struct { Past steps<0..983,040>; }                                                                  Pasts
//! ```
//!
//! `open` and `config` are whole entries. Without a body the answer says "absent"; its version is then 0. A ladder step
//! bears the commitment of every version that is there, other than the latest, whose commitment the body opens. `leaves`
//! are those that exist of the pairs of domain and role that the answer names (MSPs of mappings in role msp, their provers in role
//! prover, the CSIP of a release in role csip, the DP in role prover where it withholds something; in the order of their places in the
//! provider tree); the proof also shows which do not exist.
//!
//! A mapping is closed (`shown` = 0) if and only if the DP withholds it and the reader is a sender; `statement` is then the DP's,
//! as it is the MSP's for a mapping that is detached.
//!
//! `full` bears the proof of how the tenure began, wherever it is not the first, what shows that mappings and statements by keys that
//! have retired were in the log before ([`crate::earlier`]), and on request the versions that the standings name and the path of the open
//! entry as leaf 0 (`open_path`; empty if it is not shown). A receipt always bears that path. `previous` bears no consents:
//! what an MSP says is judged for the record as it is. It is the record before in the same tenure; there is none at a tenure's
//! beginning.
//!
//! An answer is unsigned: a wrong one fails ([`crate::verify`]), a stale one expires. Padding hides from the network what
//! was asked and whether it was found; the zeros are checked, so that they carry nothing.

use std::io::{Read, Write};

use tls_codec::{Deserialize, Error, Serialize, Size, TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::hash::Hash;

use crate::{
    commitment::{Opening, Salt},
    earlier::{EARLIER_BYTES_MAX, Earlier},
    entry::Head,
    event::{Cause, Event},
    mapping::{Consent, Mapping},
    prefix::PrefixProof,
    provider::ProviderLeaf,
    record::{Contents, Record, Standing},
    tenure::{LoggedVersion, TenureProof},
    vrf::VrfProof,
    wire::{Flag, Format, List24, Opaque16, Opaque24, Optional24, Undecoded, decode, encode, refuse},
};

/// The sizes that answers have. The greatest holds, in a log of a billion entries, forty mappings with what is said of them (some 64 KB),
/// an earlier version for each (176 KB), when each was logged (88 KB), and the proof of a hold with its thirty-two versions and their
/// steps (139 KB at version one million).
pub const ANSWER_SIZES: [usize; 8] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10];
/// Media type of answers.
pub const ANSWER_MEDIA_TYPE: &str = "application/vnd.waymark.answer";
/// Media type of pages of a CSI's past.
pub const PAST_MEDIA_TYPE: &str = "application/vnd.waymark.past";
/// Media type of receipts.
pub const RECEIPT_MEDIA_TYPE: &str = "application/vnd.waymark.receipt";
/// Most bytes in a receipt: an answer, an event and a body.
pub const RECEIPT_BYTES_MAX: usize = 960 << 10;
/// Most bytes in the visible, and in the hidden, slots of a body: thirty-two mappings with consents and statements.
pub const SLOTS_BYTES_MAX: usize = 224 << 10;
/// Most bytes in the proofs of handles of a body: nine for each of eight tags would be 5,832, and eight slots leave at most sixteen.
pub const TAG_PROOFS_BYTES_MAX: usize = 2048;
/// Most bytes in the versions that the standings name: one for each of forty mappings, 2,204 bytes in a log of a billion entries.
pub const SINCE_BYTES_MAX: usize = 1 << 17;
/// Most bytes in an open or config entry.
pub const PROMISE_BYTES_MAX: usize = 1 << 14;
/// Most bytes in a checkpoint: its note with the cosignatures of some sixteen witnesses, ML-DSA-44 ones included.
pub const CHECKPOINT_BYTES_MAX: usize = 65_535;

/// Where a leaf is in the tree of the answer's checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Inclusion {
    /// Its index.
    pub index: u64,
    /// Its path.
    pub path: List24<Hash, 2048>,
}

/// An MSP's consent, with what shows which mapping it is under.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct OpenedConsent {
    /// The consent.
    pub consent: Consent,
    /// The salt that its `blinded` was made with.
    pub salt: Salt,
    /// Where it is logged, if the MSP publishes its consents.
    pub logged: Optional24<Inclusion>,
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
    pub consent: Optional24<OpenedConsent>,
    /// The statement that detached it or withholds it.
    pub statement: Optional24<Event>,
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
    pub handle: Optional24<TagProof>,
    /// The MSP's consent, if there is one.
    pub consent: Optional24<OpenedConsent>,
    /// The statement that detached it or withholds it.
    pub statement: Optional24<Event>,
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
    pub visible: List24<OpenedVisible, SLOTS_BYTES_MAX>,
    /// Hidden slots: those of the presented tag by ordinal, or those that the recipient may see.
    pub hidden: List24<OpenedHidden, SLOTS_BYTES_MAX>,
    /// For each tag that is opened here, the handles that no opened slot proves, up to the first that is not there: so that what is
    /// there is not denied, and what was promised to its recipient can be found.
    pub tag_proofs: List24<TagProof, TAG_PROOFS_BYTES_MAX>,
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
    pub leaves: List24<ProviderLeaf, { 1 << 17 }>,
    /// That they do and the others do not.
    pub proof: PrefixProof,
}

/// What a look-up returns.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Answer {
    /// Always 1.
    pub format: Format,
    /// The log's open entry.
    pub open: Opaque16<1, PROMISE_BYTES_MAX>,
    /// The latest config entry, if there is one.
    pub config: Opaque16<0, PROMISE_BYTES_MAX>,
    /// The head, last leaf of the checkpoint's tree.
    pub head: Head,
    /// Its path.
    pub head_path: List24<Hash, 2048>,
    /// The checkpoint with its cosignatures.
    pub checkpoint: Opaque16<1, CHECKPOINT_BYTES_MAX>,
    /// The latest version; 0 if there is none.
    pub version: u32,
    /// A step for each version of the ladder.
    pub ladder: List24<LadderStep, 8192>,
    /// What the map holds at each of them.
    pub map: PrefixProof,
    /// The latest record, unless there is none.
    pub body: Optional24<Body>,
    /// The providers named in it.
    pub providers: Providers,
    /// What more is proved of the past.
    pub full: Optional24<Full>,
}

/// What is proved of the past beside the latest version.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Full {
    /// The open entry's path as leaf 0 of the checkpoint's tree; empty if it is not shown.
    pub open_path: List24<Hash, 2048>,
    /// The versions that the standings name, ascending: when each was logged.
    pub since: List24<LoggedVersion, SINCE_BYTES_MAX>,
    /// How the tenure began; none for the first.
    pub tenure: Optional24<TenureProof>,
    /// Earlier versions, ascending: what was in them that keys have signed which have retired since.
    pub earlier: List24<Earlier, EARLIER_BYTES_MAX>,
}

/// What an issuance returns: the record as it is and as it was, whole, to the recipient whose change it is.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Receipt {
    /// The record now.
    pub now: Answer,
    /// What made it; not shown to a key that is still new.
    pub cause: Optional24<Cause>,
    /// Opens the contents' `cause`.
    pub cause_salt: Salt,
    /// The record before in the same tenure, if there was one.
    pub previous: Optional24<Body>,
}

/// One step back in a CSI's history: what made a version, and the record before.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Past {
    /// What made the version.
    pub cause: Cause,
    /// Opens the version's `cause`.
    pub cause_salt: Salt,
    /// The record before in the same tenure, if the reader may see it.
    pub previous: Optional24<Body>,
}

/// A page of history, newest first.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Pasts {
    /// The steps.
    pub steps: List24<Past, RECEIPT_BYTES_MAX>,
}

impl Full {
    /// Whether it proves anything of a record's past: all but the place of the open entry.
    pub fn bears_a_past(&self) -> bool {
        !self.since.is_empty() || self.tenure.0.is_some() || !self.earlier.is_empty()
    }

    /// Every head that it shows.
    pub fn heads(&self) -> impl Iterator<Item = &HeadAt> {
        let tenure = self.tenure.0.iter().flat_map(TenureProof::heads);
        let earlier = self.earlier.iter().map(|e| &e.at.head);
        self.since.iter().map(|v| &v.head).chain(tenure).chain(earlier)
    }
}

impl Providers {
    /// What is shown where no mapping names anybody.
    pub const fn none() -> Self {
        Self { leaves: List24::empty(), proof: PrefixProof::nothing() }
    }
}

impl Answer {
    /// The answer, padded to the smallest size that holds it and at least `bytes_min`.
    ///
    /// Returns `None` if it does not fit in the greatest size.
    pub fn to_padded(&self, bytes_min: usize) -> Option<Vec<u8>> {
        let mut bytes = encode(self);
        let needed = (bytes.len() + 3).max(bytes_min);
        let size = ANSWER_SIZES.into_iter().find(|s| *s >= needed)?;
        let zeros = size - bytes.len() - 3;
        // The greatest size is 512 KiB: the length fits its three bytes.
        bytes.extend_from_slice(&(zeros as u32).to_be_bytes()[1..]);
        bytes.resize(size, 0);
        Some(bytes)
    }

    /// Reads a padded answer. Nothing is verified.
    ///
    /// # Errors
    /// [`Undecoded`], also for a size that is not one of [`ANSWER_SIZES`] and for padding that is not zero.
    pub fn from_padded(bytes: &[u8]) -> Result<Self, Undecoded> {
        let malformed = |what: &str| Undecoded::malformed("answer", what);
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
    zeros: Opaque24<0, { 512 << 10 }>,
}

impl Receipt {
    /// Reads a receipt. Nothing is verified.
    ///
    /// # Errors
    /// [`Undecoded`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecoded> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(Undecoded::malformed("receipt", "it is too large"));
        }
        decode("receipt", bytes)
    }

    /// The receipt's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}
