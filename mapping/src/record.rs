//! Records: a CSI's whole set of mappings at one version, as the commitment in the log fixes it.
//!
//! ```text
//! struct { uint8 status; uint8 reason; uint32 stated_version; uint8 newcomer; uint32 since_version; Ms since; }   Standing
//! struct { Standing standing; Hash mapping; }                   mapping = SHA-256(Mapping)           Slot
//! struct { opaque handle[8]; Hash digest; }                     digest = HMAC(salt, present || Slot?)  HiddenSlot
//! struct { uint32 version; Ms time; uint8 how; opaque domain<0..253>; }                              TenureStart
//! struct { uint8 format = 1; TenureStart start; Hash visible<0..2^10>; HiddenSlot hidden[8]; Hash cause; }              Contents
//! struct { Key key; uint32 version; Ms time; Ms until; uint8 ground; uint8 objected; }                   Claim
//! struct { uint8 state; select (state) { case contested: Claim claim; default: struct {}; }; }       RecordState
//! struct { uint8 format = 1; Ms time; uint32 tenure; RecordState state; Hash contents; }             Record
//! ```
//!
//! A record has two parts. The outer one says when it was made, in which tenure, and whether anything stands or somebody
//! claims the CSI; `contents` = HMAC(salt, Contents) keeps the rest. So the proof that a hold was kept ([`crate::tenure`])
//! opens the outer part of an old version and shows nothing of whose it was.
//!
//! Each visible digest is HMAC(salt, Slot). There are always eight hidden slots, in random order, filled up with
//! `present = 0`, so that a record does not show how many hidden mappings there are. `cause` = HMAC(salt, Cause), the event
//! that made the version, seen by recipients only. The log holds commitment(opening, csi, version, Record).

use std::io::{Read, Write};

use tls_codec::{Deserialize, Error, Serialize, Size, TlsDeserialize, TlsDeserializeBytes, TlsSerialize, TlsSize};
use waymark_log::{hash::Hash, key::Key, time::UnixMillis};

use crate::{
    label::Handle,
    names::MaybeDomain,
    wire::{Flag, Format, List24, encode},
};

/// Most visible mappings that a record has room for. How many a DP takes is its policy document's to say.
pub const VISIBLE_SLOTS_MAX: usize = 32;
/// How many visible mappings a DP takes unless its policy document says otherwise.
pub const VISIBLE_MAPPINGS_DEFAULT: usize = 8;
/// Hidden slots of every record, used or not.
pub const HIDDEN_SLOTS: usize = 8;
/// How long a mapping is `new` if another key's mapping stood when it was added: 72 hours for the others to object.
pub const NEW_MS: u64 = 72 * 3600 * 1000;
/// How long a claim waits that rests on a proof as strong as the one recorded: 14 days.
pub const HOLD_MS: u64 = 14 * 24 * 3600 * 1000;
/// How long it waits on a stronger ground: 72 hours.
pub const SHORT_HOLD_MS: u64 = 72 * 3600 * 1000;
/// How long after its hold a claim may be taken up; then it is void. 14 days.
pub const TAKE_UP_MS: u64 = 14 * 24 * 3600 * 1000;
/// How many versions may follow that of a claim before it is void. The proof that it was kept opens them all ([`crate::tenure`]), and must
/// have an end: thirty-two are 74 KB.
pub const CLAIM_VERSIONS_MAX: u32 = 32;
/// How many versions after that of a claim ordinary changes may still make: then only what settles it, or ends a stolen key. Otherwise a
/// former holder would end each claim by changing something often. So room is left for the revocation of sixteen keys.
pub const CLAIM_CHANGES_MAX: u32 = 16;

/// How long a mapping of another key stays after it has lapsed, also where a full record needs the room: as long as a claim waits.
pub const LAPSED_KEPT_MS: u64 = HOLD_MS;

/// Whether a mapping is served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes)]
#[repr(u8)]
pub enum SlotStatus {
    /// It is.
    Served = 1,
    /// Its MSP has said that it no longer serves it.
    Detached = 2,
    /// The DP withholds it, for a reason.
    Unserved = 3,
}

/// How one mapping stands in a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Standing {
    /// Whether it is served.
    pub status: SlotStatus,
    /// Why not, if not; else zero.
    pub reason: u8,
    /// The version whose event made the status; zero while it is served. A statement that was taken back is of another version.
    pub stated_version: u32,
    /// Whether another key's mapping stood when it was added by a key that had none: it is `new` for 72 hours.
    pub newcomer: Flag,
    /// The version that added it.
    pub since_version: u32,
    /// When, by the DP's word.
    pub since: UnixMillis,
}

impl Standing {
    /// Whether it is still new: the keys that were there before may remove it.
    pub fn is_new_at(&self, now: UnixMillis) -> bool {
        self.newcomer.0 && now < self.since.plus_ms(NEW_MS)
    }
}

/// What a digest in a record stands for: how a mapping stands, and which one. The mapping itself may stay closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Slot {
    /// How it stands.
    pub standing: Standing,
    /// SHA-256(Mapping).
    pub mapping: Hash,
}

/// The bytes under a hidden slot's digest: `present`, and the slot if there is one.
pub fn hidden_bytes(slot: Option<&Slot>) -> Vec<u8> {
    match slot {
        None => vec![0],
        Some(slot) => [&[1], encode(slot).as_slice()].concat(),
    }
}

/// A slot that is opened to those who present its tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct HiddenSlot {
    /// What the tag leads to; random where there is nothing.
    pub handle: Handle,
    /// HMAC(salt, [`hidden_bytes`]).
    pub digest: Hash,
}

/// How a tenure began.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes)]
#[repr(u8)]
pub enum Beginning {
    /// With the first mapping of the CSI.
    First = 1,
    /// A claim was taken up after its hold.
    NewHolder = 2,
    /// The CSIP took the CSI back.
    Release = 3,
    /// Somebody began again where nothing stood.
    Vacancy = 4,
}

/// How the current tenure began, by the DP's word unless it is proved.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct TenureStart {
    /// The version that began it.
    pub version: u32,
    /// When.
    pub time: UnixMillis,
    /// How.
    pub how: Beginning,
    /// Whose word it rests on: the prover, or the CSIP of a release.
    pub domain: MaybeDomain,
}

/// What a claim rests on, which decides how long it waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes)]
#[repr(u8)]
pub enum Ground {
    /// A proof no stricter than the one recorded.
    Equal = 1,
    /// A proof by a prover that the DP's policy document calls stricter, where nothing recorded rests on such a one.
    Stricter = 2,
    /// All mappings of others have lapsed.
    Lapsed = 3,
    /// A register of reassigned numbers says that the number has changed hands.
    Recycled = 4,
}

impl Ground {
    /// How long the claim waits, and by how much an objection extends it.
    pub const fn hold_ms(self) -> u64 {
        match self {
            Self::Equal => HOLD_MS,
            Self::Stricter | Self::Lapsed | Self::Recycled => SHORT_HOLD_MS,
        }
    }
}

/// Somebody with fresh possession claims the CSI.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Claim {
    /// The key that claims it.
    pub key: Key,
    /// The version that put it down.
    pub version: u32,
    /// When.
    pub time: UnixMillis,
    /// When its hold is over.
    pub until: UnixMillis,
    /// What it rests on.
    pub ground: Ground,
    /// Whether an objection has extended it. One does so once.
    pub objected: Flag,
}

impl Claim {
    /// A claim as it is put down.
    pub fn new(key: Key, version: u32, time: UnixMillis, ground: Ground) -> Self {
        Self { key, version, time, until: time.plus_ms(ground.hold_ms()), ground, objected: Flag(false) }
    }

    /// What an objection without possession makes of it. One does so once.
    pub fn extended(&self) -> Option<Self> {
        let until = self.until.plus_ms(self.ground.hold_ms());
        (!self.objected.0).then_some(Self { until, objected: Flag(true), ..*self })
    }

    /// Whether it is void where a record of this version bears it: nobody took it up in time, or before too many versions were made.
    pub fn is_void_at(&self, version: u32, now: UnixMillis) -> bool {
        self.is_over_at(now) || version.saturating_sub(self.version) > CLAIM_VERSIONS_MAX
    }

    /// Whether the time is over in which it may be taken up: it is void then in every record.
    pub(crate) fn is_over_at(&self, now: UnixMillis) -> bool {
        self.until.plus_ms(TAKE_UP_MS) <= now
    }
}

/// The state of a record as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
#[repr(u8)]
pub enum RecordState {
    /// Mappings stand.
    #[tls_codec(discriminant = 1)]
    Standing,
    /// Mappings stand, and somebody else claims the CSI.
    #[tls_codec(discriminant = 2)]
    Contested(Claim),
    /// A tombstone: openings and payload of what was before are gone.
    #[tls_codec(discriminant = 3)]
    Erased,
    /// Nothing stands: all was withdrawn, or the CSIP took the CSI back.
    #[tls_codec(discriminant = 4)]
    Vacant,
}

impl RecordState {
    /// The open claim, if there is one.
    pub const fn claim(&self) -> Option<&Claim> {
        match self {
            Self::Contested(claim) => Some(claim),
            _ => None,
        }
    }

    /// Whether no mapping stands.
    pub const fn is_empty(&self) -> bool {
        matches!(self, Self::Erased | Self::Vacant)
    }
}

/// Exactly eight hidden slots.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct HiddenSlots(pub [HiddenSlot; HIDDEN_SLOTS]);

/// The inner part of a record.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Contents {
    /// The version of the format.
    pub format: Format,
    /// How the tenure began.
    pub start: TenureStart,
    /// What everybody sees: a salted digest for each mapping.
    pub visible: List24<Hash, { VISIBLE_SLOTS_MAX * 32 }>,
    /// What needs a tag.
    pub hidden: HiddenSlots,
    /// HMAC(salt, Cause): what recipients see.
    pub cause: Hash,
}

/// A CSI's mappings at one version. Whose, and which version, is in the commitment.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Record {
    /// The version of the format.
    pub format: Format,
    /// When it was made, by the DP's word.
    pub time: UnixMillis,
    /// In which tenure.
    pub tenure: u32,
    /// The state of the whole.
    pub state: RecordState,
    /// HMAC(salt, Contents).
    pub contents: Hash,
}

impl Size for HiddenSlots {
    fn tls_serialized_len(&self) -> usize {
        self.0.iter().map(Size::tls_serialized_len).sum()
    }
}

impl Serialize for HiddenSlots {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        self.0.iter().map(|slot| slot.tls_serialize(writer)).sum()
    }
}

impl Deserialize for HiddenSlots {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let slots = (0..HIDDEN_SLOTS).map(|_| HiddenSlot::tls_deserialize(reader)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(slots.try_into().map_err(|_| Error::LibraryError)?))
    }
}
