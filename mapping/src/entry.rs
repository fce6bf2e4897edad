//! Entries: everything that is ever logged.
//!
//! ```text
//! uint8 format = 1 | uint8 kind | structure
//!
//! 1 open      opaque domain<1..253>; opaque origin<1..255>; Key vrf; uint32 interval_ms; Hash policy; Ms not_before;
//!             Extension extensions<0..2^10>                      leaf 0, once
//! 2 config    uint32 interval_ms; Hash policy; Key log_key; Hash previous; Extension extensions<0..2^10>; Sig by_log_key
//! 3 provider  uint8 role; uint8 action; opaque domain<1..253>; uint8 class; uint8 publishes; AnyKey key; Hash previous_leaf;
//!             AnySig by_key?; AnySig by_valid?
//! 4 consent   Consent, byte for byte as signed
//! 5 change    Hash label; Hash commitment                        66 bytes, always
//! 6 head      Ms time; uint64 changes; Hash map_root; Hash open; Hash config; Hash provider_root; Extension extensions<0..2^10>
//! 7 close     Ms time; opaque successor<0..255>; Hash successor_open; Extension extensions<0..2^10>; Sig by_log_key
//! 8 carry     opaque origin<1..255>; uint64 size; Hash root; Hash open; Hash close; Key log_key; Extension extensions<0..2^10>;
//!             Sig by_log_key
//! 128 to 255  bytes                                              hashed and ordered like any other, and skipped
//! ```
//!
//! A **close** says that the log ends with the head behind it, and may name a successor. A **carry** in the successor says which
//! log it goes on from, in the words of that log's key. What is not known yet has three places: extensions of a structure, entry kinds from
//! 128 on, which nobody is convicted for, and other kinds, which are findings.
//!
//! A head's `open` and `config` are SHA-256 of those entries' bytes (`config` zero if there is none). `policy` is SHA-256
//! of the policy document. Nothing here gives a CSI, an account or a tag to anybody without the VRF key. Final.

use std::{
    fmt,
    io::{Read, Write},
};

use tls_codec::{Deserialize, Error, Serialize, Size, TlsDeserialize, TlsDeserializeBytes, TlsSerialize, TlsSize};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{Key, SecretKey, Signature},
    note::KeyName,
    time::{UnixMillis, UnixSeconds},
};

use crate::{
    label::Label,
    mapping::Consent,
    names::Domain,
    provider::{ISSUER_RETIRED_KEPT_MS, RETIRED_KEPT_MS},
    signed::{AnyKey, AnySignature, context, message, signed_struct},
    wire::{Extensions, FORMAT, Flag, Opaque8, Optional24, Undecoded, decode, encode, text_wire},
};

/// Most bytes in an entry: the two-byte length of C2SP entry bundles.
const ENTRY_BYTES_MAX: u64 = 65_535;
/// Most changes between two heads.
pub const CHANGES_PER_HEAD_MAX: usize = 1024;
/// Most entries between two heads.
pub const ENTRIES_PER_HEAD_MAX: usize = 2048;
/// Fewest changes of a batch that has any: dummies make up the rest, so that one lonely change does not stand out.
pub const CHANGES_PER_BATCH_MIN: usize = 16;
/// Most time between two heads: a quiet log says every minute that it is quiet.
pub const HEAD_INTERVAL_MS_MAX: u64 = 60_000;
/// Longest interval that a log may promise, in milliseconds: senders take a head for current that is older by as much, and half of
/// what may pass between two quiet heads is enough for any disk.
pub const INTERVAL_MS_MAX: u32 = 30_000;

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

impl OriginText {
    /// Whether these bytes are an origin, or none.
    pub fn is_or_none(bytes: &[u8]) -> bool {
        bytes.is_empty() || std::str::from_utf8(bytes).is_ok_and(|text| parse_origin(text).is_some())
    }
}

/// A log's origin is the name of its key, so it has neither spaces nor a plus: no checkpoint of another one could be signed.
fn parse_origin(text: &str) -> Option<Origin> {
    Origin::new(text).ok().filter(|_| KeyName::new(text).is_ok())
}

impl From<&Origin> for OriginText {
    fn from(origin: &Origin) -> Self {
        Self(origin.as_str().to_owned())
    }
}

text_wire!(OriginText, 255, "not a log's origin", |t| parse_origin(t).map(|o| OriginText::from(&o)));

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
    /// What else is promised; see [`extension`].
    pub extensions: Extensions,
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
    /// What else is promised; see [`extension`].
    pub extensions: Extensions,
    /// By the log's key so far.
    pub sig: Signature,
}

signed_struct!(Config, context::CONFIG);

/// Kinds of extensions of open and config entries. Other kinds are skipped.
pub mod extension {
    /// SHA-256 of the `application/ohttp-keys` body with the DP's key configurations for oblivious look-ups (RFC 9458): in the log, so that
    /// a DP cannot give each client a key of its own.
    pub const KEY_CONFIGURATIONS: u16 = 1;
    /// A [`super::Cadence`].
    pub const CADENCE: u16 = 2;
}

/// A promise to log a fixed number of changes in each period, real ones and fillers together: a batch of nothing but fillers is cover
/// traffic, and looks like any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Cadence {
    /// Milliseconds from one batch to the next.
    pub period_ms: u32,
    /// Changes in each.
    pub changes: u16,
}

/// The log ends: the head behind this entry is its last.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Close {
    /// When.
    pub time: UnixMillis,
    /// Origin of the log that goes on from here, or empty.
    pub successor: Opaque8<0, 255>,
    /// SHA-256 of that log's open entry, or zero.
    pub successor_open: Hash,
    /// What later versions add.
    pub extensions: Extensions,
    /// By the log's key.
    pub sig: Signature,
}

signed_struct!(Close, context::CLOSE);

/// This log goes on from another one, which has been closed. Its labels are made with another VRF key, and versions begin at 0.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Carry {
    /// The log before.
    pub origin: OriginText,
    /// Its last size.
    pub size: u64,
    /// Its last root.
    pub root: Hash,
    /// SHA-256 of its open entry.
    pub open: Hash,
    /// SHA-256 of its close entry.
    pub close: Hash,
    /// Its key.
    pub log_key: Key,
    /// What later versions add.
    pub extensions: Extensions,
    /// By that key, for this log's origin.
    pub sig: Signature,
}

signed_struct!(Carry, context::CARRY);

/// First of the entry kinds that a program which does not know them skips.
pub const SKIPPED_KINDS_MIN: u8 = 128;

/// What a provider does with a key. A number, so that a reader meets a newer role as unknown rather than as an error: its entries are
/// applied by the same rules, which do not depend on the role, and nobody who does not know it uses its keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct ProviderRole(pub u8);

impl ProviderRole {
    /// Serves accounts.
    pub const MSP: Self = Self(1);
    /// Attests possession.
    pub const PROVER: Self = Self(2);
    /// Issues CSIs.
    pub const CSIP: Self = Self(3);
    /// Issues tokens for look-ups that name nobody.
    pub const TOKEN_ISSUER: Self = Self(4);

    /// The roles that have a word, and their words.
    const WORDS: [(Self, &'static str); 4] =
        [(Self::MSP, "msp"), (Self::PROVER, "prover"), (Self::CSIP, "csip"), (Self::TOKEN_ISSUER, "token-issuer")];

    /// The role that has this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, w)| *w == word).map(|(role, _)| *role)
    }

    /// The role whose text form is exactly `text`: a word, or the decimal number of a role that has none.
    pub fn parse(text: &str) -> Option<Self> {
        Self::of_word(text).or_else(|| text.parse().ok().map(Self)).filter(|role| role.to_string() == text)
    }

    /// How long a retired key stays in its leaf, in milliseconds.
    pub fn retired_kept_ms(self) -> u64 {
        if self == Self::TOKEN_ISSUER { ISSUER_RETIRED_KEPT_MS } else { RETIRED_KEPT_MS }
    }
}

impl fmt::Display for ProviderRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::WORDS.iter().find(|(role, _)| role == self) {
            Some((_, word)) => f.write_str(word),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What a provider entry does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, TlsSize, TlsSerialize, TlsDeserialize, TlsDeserializeBytes)]
#[repr(u8)]
pub enum ProviderAction {
    /// A key is added.
    Add = 1,
    /// A key is added and the others of its domain and role retire.
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
    pub key: AnyKey,
    /// Digest of the ProviderLeaf of this domain and role before; zero where there is none.
    pub previous_leaf: Hash,
    /// By the key itself; none for a retirement, whose key may be lost.
    pub by_key: Optional24<AnySignature>,
    /// By a key of the domain that is valid, or none.
    pub by_valid: Optional24<AnySignature>,
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

    /// Signs it with the key that it is about.
    pub fn sign_by_key(&mut self, origin: &Origin, secret: &SecretKey) {
        self.by_key = Optional24(Some(secret.sign(&self.key_message(origin)).into()));
    }

    /// Signs it with a key that is valid already.
    pub fn sign_by_valid(&mut self, origin: &Origin, secret: &SecretKey) {
        self.by_valid = Optional24(Some(secret.sign(&self.valid_message(origin)).into()));
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
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
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
    /// What later versions add; hashed with the rest and skipped.
    pub extensions: Extensions,
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
    /// The end of the log.
    Close(Close),
    /// What this log goes on from.
    Carry(Carry),
    /// A kind from 128 on that this program does not know.
    Skipped(Skipped),
}

/// An entry of a kind that is skipped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skipped {
    kind: u8,
    bytes: Vec<u8>,
}

impl Skipped {
    /// An entry of a kind from [`SKIPPED_KINDS_MIN`] on; `None` for others.
    pub fn new(kind: u8, bytes: Vec<u8>) -> Option<Self> {
        (kind >= SKIPPED_KINDS_MIN).then_some(Self { kind, bytes })
    }

    /// Its kind, 128 or more.
    pub const fn kind(&self) -> u8 {
        self.kind
    }
}

impl Entry {
    /// Reads an entry.
    ///
    /// # Errors
    /// [`Undecoded`], also for kinds below 128 that are unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecoded> {
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
            Self::Close(_) => 7,
            Self::Carry(_) => 8,
            Self::Skipped(skipped) => skipped.kind,
        }
    }
}

/// How many of these entries end in a head: up to and including the last one.
pub fn last_head(entries: &[Vec<u8>]) -> Option<usize> {
    entries.iter().rposition(|e| matches!(Entry::decode(e), Ok(Entry::Head(_)))).map(|at| at + 1)
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
            Self::Close(e) => e.tls_serialized_len(),
            Self::Carry(e) => e.tls_serialized_len(),
            Self::Skipped(e) => e.bytes.len(),
        }
    }
}

impl Serialize for Entry {
    fn tls_serialize<W: Write>(&self, writer: &mut W) -> Result<usize, Error> {
        writer.write_all(&[FORMAT, self.kind()])?;
        Ok(2 + match self {
            Self::Open(e) => e.tls_serialize(writer)?,
            Self::Config(e) => e.tls_serialize(writer)?,
            Self::Provider(e) => e.tls_serialize(writer)?,
            Self::Consent(e) => e.tls_serialize(writer)?,
            Self::Change(e) => e.tls_serialize(writer)?,
            Self::Head(e) => e.tls_serialize(writer)?,
            Self::Close(e) => e.tls_serialize(writer)?,
            Self::Carry(e) => e.tls_serialize(writer)?,
            Self::Skipped(e) => {
                writer.write_all(&e.bytes)?;
                e.bytes.len()
            }
        })
    }
}

impl Deserialize for Entry {
    fn tls_deserialize<R: Read>(reader: &mut R) -> Result<Self, Error> {
        let [format, kind] = <[u8; 2]>::tls_deserialize(reader)?;
        if format != FORMAT {
            return Err(Error::UnknownValue(format.into()));
        }
        Ok(match kind {
            1 => Self::Open(Open::tls_deserialize(reader)?),
            2 => Self::Config(Config::tls_deserialize(reader)?),
            3 => Self::Provider(Provider::tls_deserialize(reader)?),
            4 => Self::Consent(Consent::tls_deserialize(reader)?),
            5 => Self::Change(Change::tls_deserialize(reader)?),
            6 => Self::Head(Head::tls_deserialize(reader)?),
            7 => Self::Close(Close::tls_deserialize(reader)?),
            8 => Self::Carry(Carry::tls_deserialize(reader)?),
            SKIPPED_KINDS_MIN.. => {
                let mut bytes = Vec::new();
                reader.take(ENTRY_BYTES_MAX).read_to_end(&mut bytes)?;
                Self::Skipped(Skipped { kind, bytes })
            }
            _ => return Err(Error::UnknownValue(kind.into())),
        })
    }
}
