//! Entries: everything that is ever logged.
//!
//! ```text
//! uint8 format = 1 | uint8 kind | structure
//!
//! 1 open      opaque domain<1..253>; opaque origin<1..255>; Key vrf; uint32 interval_ms; Hash policy; Ms not_before;
//!             opaque reserved<0..255>                            leaf 0, once
//! 2 config    uint32 interval_ms; Hash policy; Key log_key; Hash previous; Sig by_log_key
//! 3 provider  uint8 role; uint8 action; opaque domain<1..253>; uint8 class; uint8 publishes; Key key; Hash previous_leaf;
//!             Sig by_key; opaque by_valid<0 or 64>
//! 4 consent   Consent, byte for byte as signed
//! 5 change    Hash label; Hash commitment                        66 bytes, always
//! 6 head      Ms time; uint64 changes; Hash map_root; Hash open; Hash config; Hash provider_root
//! 7 close, 8 carry                                               reserved: refused
//! ```
//!
//! A head's `open` and `config` are SHA-256 of those entries' bytes (`config` zero if there is none). `policy` is SHA-256
//! of the policy document. Nothing here gives a CSI, an account or a tag to anybody without the VRF key. Final.

use std::io::{Read, Write};

use tls_codec::{Deserialize, Error, Serialize, Size, TlsDeserialize, TlsDeserializeBytes, TlsSerialize, TlsSize};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{Key, Signature},
    time::{UnixMillis, UnixSeconds},
};

use crate::{
    label::Label,
    mapping::Consent,
    names::Domain,
    signed::{context, message, signed_struct},
    wire::{Flag, Malformed, Opaque8, decode, encode, refuse, text_wire},
};

/// The one format version.
pub const ENTRY_FORMAT: u8 = 1;
/// Most changes between two heads.
pub const CHANGES_PER_HEAD_MAX: usize = 1024;
/// Most entries between two heads.
pub const ENTRIES_PER_HEAD_MAX: usize = 2048;
/// Fewest changes of a batch that has any: dummies make up the rest, so that one lonely change does not stand out.
pub const CHANGES_PER_BATCH_MIN: usize = 16;
/// Most time between two heads: a quiet log says every minute that it is quiet.
pub const HEAD_INTERVAL_MS_MAX: u64 = 60_000;

/// A log's origin inside a structure.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OriginText(String);

impl OriginText {
    /// The origin.
    ///
    /// # Panics
    /// Never: the text was checked when it was made.
    pub fn get(&self) -> Origin {
        Origin::new(&self.0).expect("checked when made")
    }
}

impl From<&Origin> for OriginText {
    fn from(origin: &Origin) -> Self {
        Self(origin.as_str().to_owned())
    }
}

text_wire!(OriginText, 255, "not a log's origin", |t| Origin::new(t).ok().map(|o| OriginText::from(&o)));

/// Leaf 0: who runs this log and how.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Open {
    /// The DP.
    pub domain: Domain,
    /// The log.
    pub origin: OriginText,
    /// The key of its labels, for the log's whole life.
    pub vrf: Key,
    /// The promised time from acceptance to publication.
    pub interval_ms: u32,
    /// SHA-256 of the policy document.
    pub policy: Hash,
    /// The log makes no promise before this time.
    pub not_before: UnixMillis,
    /// For a predecessor; empty.
    pub reserved: Opaque8<0, 255>,
}

/// A later change of promise, policy document or log key.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Config {
    /// The promised time from acceptance to publication.
    pub interval_ms: u32,
    /// SHA-256 of the policy document.
    pub policy: Hash,
    /// The log's key from here on.
    pub log_key: Key,
    /// SHA-256 of the config entry before, or of the open entry.
    pub previous: Hash,
    /// By the log's key so far.
    pub sig: Signature,
}

signed_struct!(Config, context::CONFIG);

/// What a provider does.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes,
)]
#[repr(u8)]
pub enum ProviderRole {
    /// Serves accounts.
    Msp = 1,
    /// Attests possession.
    Prover = 2,
    /// Issues CSIs.
    Csip = 3,
}

/// What a provider entry does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes)]
#[repr(u8)]
pub enum ProviderAction {
    /// A key is added.
    Add = 1,
    /// A key is added and the others of its role retire.
    Rotate = 2,
    /// A key retires; a pending one is cancelled.
    Retire = 3,
}

/// A provider's key comes, changes or goes.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Provider {
    /// What the provider does with the key.
    pub role: ProviderRole,
    /// What happens to the key.
    pub action: ProviderAction,
    /// Whose key.
    pub domain: Domain,
    /// 0 unstated, 1 consumer service, 2 operator, 3 enterprise cloud, 4 enterprise on premises.
    pub class: u8,
    /// Whether this MSP's consents are logged.
    pub publishes: Flag,
    /// The key.
    pub key: Key,
    /// Digest of the domain's ProviderLeaf before; zero for a new domain.
    pub previous_leaf: Hash,
    /// By the key itself; zeros for a retirement, whose key may be lost.
    pub by_key: Signature,
    /// By a key of the domain that is valid, or empty.
    pub by_valid: Opaque8<0, 64>,
}

impl Provider {
    /// What both signatures are over: all fields before the first.
    fn signed_fields(&self) -> Vec<u8> {
        let mut fields = encode(self);
        fields.truncate(fields.len() - self.by_valid.tls_serialized_len() - self.by_key.tls_serialized_len());
        fields
    }

    /// The bytes that the key itself signs.
    pub fn key_message(&self, origin: &Origin) -> Vec<u8> {
        message(context::PROVIDER_KEY, origin, &self.signed_fields())
    }

    /// The bytes that a valid key of the domain signs.
    pub fn valid_message(&self, origin: &Origin) -> Vec<u8> {
        message(context::PROVIDER_VALID, origin, &self.signed_fields())
    }
}

/// One change of one record: nothing else, and always the same length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Change {
    /// Where in the map.
    pub label: Label,
    /// What is there.
    pub commitment: Hash,
}

/// What every published checkpoint ends in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Head {
    /// When it was made.
    pub time: UnixMillis,
    /// Changes logged so far.
    pub changes: u64,
    /// Root of the map of all of them.
    pub map_root: Hash,
    /// SHA-256 of the open entry.
    pub open: Hash,
    /// SHA-256 of the latest config entry, or zero.
    pub config: Hash,
    /// Root of the provider tree.
    pub provider_root: Hash,
}

/// How the time of a head does not fit the cosignatures over it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Untimely {
    /// It is later than they are.
    After,
    /// It is so much earlier that a newer head is due.
    Overdue,
}

impl Head {
    /// floor(head time / 1000) <= quorum time + skew, and head time >= quorum time - (60 s + promised interval + skew).
    ///
    /// # Errors
    /// [`Untimely`].
    pub fn check_time(&self, quorum: UnixSeconds, interval_ms: u32, skew_s: u64) -> Result<(), Untimely> {
        if self.time.floor_seconds() > quorum.plus_s(skew_s) {
            return Err(Untimely::After);
        }
        let slack_ms = HEAD_INTERVAL_MS_MAX + u64::from(interval_ms) + skew_s.saturating_mul(1000);
        if self.time.plus_ms(slack_ms) < quorum.to_millis() { Err(Untimely::Overdue) } else { Ok(()) }
    }
}

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Leaf 0.
    Open(Open),
    /// A change of promise, policy or key.
    Config(Config),
    /// A provider's key.
    Provider(Provider),
    /// An MSP's consent.
    Consent(Consent),
    /// A change of a record.
    Change(Change),
    /// The map at this point.
    Head(Head),
}

impl Entry {
    /// Reads an entry.
    ///
    /// # Errors
    /// [`Malformed`], also for kinds that are reserved or unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        decode("entry", bytes)
    }

    /// The entry's bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Open(_) => 1,
            Self::Config(_) => 2,
            Self::Provider(_) => 3,
            Self::Consent(_) => 4,
            Self::Change(_) => 5,
            Self::Head(_) => 6,
        }
    }
}

impl Size for Entry {
    fn tls_serialized_len(&self) -> usize {
        2 + match self {
            Self::Open(e) => e.tls_serialized_len(),
            Self::Config(e) => e.tls_serialized_len(),
            Self::Provider(e) => e.tls_serialized_len(),
            Self::Consent(e) => e.tls_serialized_len(),
            Self::Change(e) => e.tls_serialized_len(),
            Self::Head(e) => e.tls_serialized_len(),
        }
    }
}

impl Serialize for Entry {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        writer.write_all(&[ENTRY_FORMAT, self.kind()])?;
        Ok(2 + match self {
            Self::Open(e) => e.tls_serialize(writer)?,
            Self::Config(e) => e.tls_serialize(writer)?,
            Self::Provider(e) => e.tls_serialize(writer)?,
            Self::Consent(e) => e.tls_serialize(writer)?,
            Self::Change(e) => e.tls_serialize(writer)?,
            Self::Head(e) => e.tls_serialize(writer)?,
        })
    }
}

impl Deserialize for Entry {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let [format, kind] = <[u8; 2]>::tls_deserialize(reader)?;
        if format != ENTRY_FORMAT {
            return Err(refuse("unknown format version"));
        }
        Ok(match kind {
            1 => Self::Open(Open::tls_deserialize(reader)?),
            2 => Self::Config(Config::tls_deserialize(reader)?),
            3 => {
                let provider = Provider::tls_deserialize(reader)?;
                if !matches!(provider.by_valid.as_slice().len(), 0 | 64) {
                    return Err(refuse("a signature is neither absent nor 64 bytes"));
                }
                Self::Provider(provider)
            }
            4 => Self::Consent(Consent::tls_deserialize(reader)?),
            5 => Self::Change(Change::tls_deserialize(reader)?),
            6 => Self::Head(Head::tls_deserialize(reader)?),
            _ => return Err(refuse("an entry kind that is reserved or unknown")),
        })
    }
}
