//! Records: a CSI's whole set of mappings at one version, as the commitment in the log fixes it.
//!
//! ```text
//! struct { uint8 status; uint8 reason; uint8 newcomer; uint32 since_version; Ms since; }              Standing
//! struct { Standing standing; Hash digest; }                    digest = HMAC(salt, Mapping)         VisibleSlot
//! struct { opaque handle[8]; Hash digest; }                     digest = HMAC(salt, HiddenValue)     HiddenSlot
//! struct { uint8 present; select (present) {
//!          case 1: Standing standing; Mapping mapping; case 0: struct {}; }; }                       HiddenValue
//! struct { uint32 version; Ms time; uint8 how; opaque prover<0..253>; uint8 strength; }              TenureStart
//! struct { Csi csi; uint32 version; uint32 tenure; TenureStart start; uint8 state;
//!          VisibleSlot visible<0..376>; HiddenSlot hidden[8]; Hash recipient_only; }                 Record
//! ```
//!
//! There are always eight hidden slots, in random order, filled up with `present = 0`, so that a record does not show how
//! many hidden mappings there are. `recipient_only` = HMAC(salt, Event). Hidden slots are experimental until the mapping
//! issue has exercised them.

use std::io::{Read, Write};

use tls_codec::{Deserialize, Error, Serialize, Size, TlsDeserialize, TlsDeserializeBytes, TlsSerialize, TlsSize};
use waymark_log::{hash::Hash, time::UnixMillis};

use crate::{
    identifier::Csi,
    label::Handle,
    mapping::Mapping,
    names::MaybeDomain,
    wire::{Flag, List16, refuse},
};

/// Most mappings that everybody sees.
pub const VISIBLE_SLOTS_MAX: usize = 8;
/// Hidden slots of every record, used or not.
pub const HIDDEN_SLOTS: usize = 8;
/// How long a mapping is `new` if another key's mapping stood when it was added: 72 hours for the others to object.
pub const NEW_MS: u64 = 72 * 3600 * 1000;

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

/// A slot that every answer opens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct VisibleSlot {
    /// How the mapping stands.
    pub standing: Standing,
    /// HMAC(salt, Mapping).
    pub digest: Hash,
}

/// A slot that is opened to those who present its tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct HiddenSlot {
    /// What the tag leads to; random where there is nothing.
    pub handle: Handle,
    /// HMAC(salt, HiddenValue).
    pub digest: Hash,
}

/// What a hidden slot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HiddenValue {
    /// Nothing.
    Empty,
    /// A mapping with an exact-match tag.
    Present(Standing, Box<Mapping>),
}

/// How the current tenure began, by the DP's word.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct TenureStart {
    /// The version that began it.
    pub version: u32,
    /// When.
    pub time: UnixMillis,
    /// How: 1 first mapping of the CSI, 2 new holder, 3 release by the CSIP.
    pub how: u8,
    /// Whose attestation it rests on.
    pub prover: MaybeDomain,
    /// And how strict that was.
    pub strength: u8,
}

/// The state of a record as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes)]
#[repr(u8)]
pub enum RecordState {
    /// Nothing special.
    Normal = 1,
    /// Somebody else claims the CSI.
    Contested = 2,
    /// A tombstone: openings and payload of what was before are gone.
    Erased = 3,
}

/// Exactly eight hidden slots.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct HiddenSlots(pub [HiddenSlot; HIDDEN_SLOTS]);

/// A CSI's mappings at one version.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Record {
    /// Whose.
    pub csi: Csi,
    /// Which version.
    pub version: u32,
    /// Which tenure.
    pub tenure: u32,
    /// How that began.
    pub start: TenureStart,
    /// The state of the whole.
    pub state: RecordState,
    /// What everybody sees.
    pub visible: List16<VisibleSlot, 376>,
    /// What needs a tag.
    pub hidden: HiddenSlots,
    /// HMAC(salt, Event): what recipients see.
    pub recipient_only: Hash,
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

impl Size for HiddenValue {
    fn tls_serialized_len(&self) -> usize {
        match self {
            Self::Empty => 1,
            Self::Present(standing, mapping) => 1 + standing.tls_serialized_len() + mapping.tls_serialized_len(),
        }
    }
}

impl Serialize for HiddenValue {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        match self {
            Self::Empty => Flag(false).tls_serialize(writer),
            Self::Present(standing, mapping) => Ok(Flag(true).tls_serialize(writer)?
                + standing.tls_serialize(writer)?
                + mapping.tls_serialize(writer)?),
        }
    }
}

impl Deserialize for HiddenValue {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        if !Flag::tls_deserialize(reader)?.0 {
            return Ok(Self::Empty);
        }
        let standing = Standing::tls_deserialize(reader)?;
        let mapping = Mapping::tls_deserialize(reader)?;
        if mapping.tags.as_exact().is_none() {
            return Err(refuse("a hidden mapping has no exact-match tag"));
        }
        Ok(Self::Present(standing, Box::new(mapping)))
    }
}
