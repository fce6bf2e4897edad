//! Proof that a mapping or a statement was in the log before the key under it retired.
//!
//! ```text
//! struct { Hash mapping; Standing standing; Salt salt; }                                             SlotThen
//! struct { LoggedVersion at; opaque opening[16]; Record record; Salt contents_salt; Contents contents;
//!          SlotThen slots<0..2^13>; Salt cause_salt?; }                                               Earlier
//! ```
//!
//! The times in an attestation and in a statement are their signer's word: with a stolen key that has retired, anything can be dated
//! back. What cannot be dated back is the log. So what a retired key has signed is believed only if an **earlier version** of this
//! CSI, in this tenure, is opened that was logged while the key was valid and in which it already was: `slots` opens the mapping's
//! slot as it stood then, `cause_salt` shows that the statement made that very version. That some earlier version was logged
//! would say nothing: only what was in it does.
//!
//! A mapping that has lapsed holds no more, whoever attested it: nothing is asked of it, since its prover's key may have been dropped
//! from the directory ([`crate::provider`]).
//!
//! An earlier version shows what anybody was shown who asked then, less the mappings: how many were visible, and how it stood.

use tls_codec::{TlsDeserialize, TlsSerialize, TlsSize};
use waymark_log::{hash::Hash, key::Key, time::UnixMillis};

use crate::{
    commitment::{Opening, Salt, opens},
    entry::ProviderRole,
    event::{Cause, Event, EventKind},
    mapping::{MAPPING_LIFETIME_MS_MAX, Mapping},
    names::Domain,
    provider::{ProviderKey, ProviderLeaf},
    record::{Contents, Record, Slot, Standing, hidden_bytes},
    tenure::{Ledger, LoggedVersion, NotShown, OpenedVersion},
    wire::{List24, Optional24, encode},
};

/// Most bytes in the slots of an earlier version: all forty of a record.
pub const SLOTS_THEN_BYTES_MAX: usize = 1 << 13;
/// Most bytes in the earlier versions of an answer: one for each of forty mappings, in a log of a billion entries.
pub const EARLIER_BYTES_MAX: usize = 192 << 10;
/// A mapping that was logged so long ago has lapsed: it lives for 180 days from a proof that was made before, clocks differing a
/// little.
const LAPSED_MS: u64 = MAPPING_LIFETIME_MS_MAX + 24 * 3600 * 1000;

/// A mapping's slot in an earlier version.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct SlotThen {
    /// SHA-256(Mapping).
    pub mapping: Hash,
    /// How it stood.
    pub standing: Standing,
    /// Opens one of the digests in the contents.
    pub salt: Salt,
}

/// An earlier version, opened as far as it takes to show what was in it.
#[derive(Clone, PartialEq, Eq, Debug, TlsSize, TlsSerialize, TlsDeserialize)]
pub struct Earlier {
    /// When it was logged.
    pub at: LoggedVersion,
    /// Opens its commitment.
    pub opening: Opening,
    /// The record.
    pub record: Record,
    /// Opens its contents.
    pub contents_salt: Salt,
    /// Its contents.
    pub contents: Contents,
    /// The mappings that are shown to have been in it, ascending by digest.
    pub slots: List24<SlotThen, SLOTS_THEN_BYTES_MAX>,
    /// Opens the contents' `cause` to the statement of this version, if that is to be shown.
    pub cause_salt: Optional24<Salt>,
}

/// What an answer says of a mapping that is not served: the statement, and the mapping if it is shown.
pub type Stated<'a> = (&'a Event, Option<&'a Mapping>);

/// What an answer must show to have been in the log earlier.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needed {
    /// Digests of mappings.
    pub mappings: Vec<Hash>,
    /// Versions that were made by statements.
    pub statements: Vec<u32>,
}

/// Whose key signs a statement about a mapping, in which role; none if the mapping has no MSP, or is not shown to a reader who would have
/// to know its MSP.
pub fn signer_of(event: &Event, mapping: Option<&Mapping>, dp: &Domain) -> Option<(Domain, ProviderRole)> {
    match event.tbs.kind {
        EventKind::DpUnserve => Some((dp.clone(), ProviderRole::PROVER)),
        _ => mapping.and_then(|m| m.msp.get()).map(|msp| (msp, ProviderRole::MSP)),
    }
}

/// What an answer with these mappings and statements, at a head of this time, must show to have been in the log earlier. DP and reader
/// must agree on it, so both ask here.
pub fn needed<'a, 'l>(
    mappings: impl Iterator<Item = &'a Mapping>,
    stated: impl Iterator<Item = Stated<'a>>,
    dp: &Domain,
    head: UnixMillis,
    leaf: impl Fn(&Domain, ProviderRole) -> Option<&'l ProviderLeaf>,
) -> Needed {
    let find = |domain: &Domain, role, key: &Key| leaf(domain, role).and_then(|l| l.find(key));
    let has_retired = |key: &ProviderKey| key.has_retired_at(head);
    let rests_on_retired = |m: &&Mapping| {
        let a = &m.attestation;
        !has_lapsed(m, head) && find(&a.prover, ProviderRole::PROVER, &a.prover_key).is_some_and(has_retired)
    };
    let is_unsure = |(event, mapping): &Stated<'_>| {
        let key = signer_of(event, *mapping, dp).zip(event.authorities.first());
        let key = key.and_then(|((domain, role), a)| find(&domain, role, &a.key));
        match mapping {
            Some(m) => !has_lapsed(m, head) && key.is_some_and(has_retired),
            // Nobody sees whether a mapping that is closed has lapsed; the key may have been dropped since.
            None => key.is_none_or(has_retired),
        }
    };
    let statements = stated.filter(is_unsure).map(|(event, _)| event.tbs.version);
    Needed {
        mappings: mappings.filter(rests_on_retired).map(Mapping::digest).collect(),
        statements: statements.collect(),
    }
}

/// Whether a mapping's time was over at the time of a head: then nothing is asked of it.
pub fn has_lapsed(mapping: &Mapping, head: UnixMillis) -> bool {
    mapping.not_after <= head
}

/// Whether every mapping that was logged at a time has lapsed by the time of a head.
pub(crate) fn all_have_lapsed(logged: UnixMillis, head: UnixMillis) -> bool {
    logged.plus_ms(LAPSED_MS) <= head
}

/// By when mappings and statements were in the log, by proved position.
#[derive(Debug, Default)]
pub(crate) struct LoggedEarlier {
    mappings: Vec<(Hash, UnixMillis)>,
    statements: Vec<(u32, UnixMillis)>,
}

impl LoggedEarlier {
    /// By when a mapping was in the log, if that is shown.
    pub(crate) fn mapping(&self, digest: &Hash) -> Option<UnixMillis> {
        self.mappings.iter().find(|(d, _)| d == digest).map(|(_, time)| *time)
    }

    /// By when the version that a statement made was logged, if that is shown.
    pub(crate) fn statement(&self, version: u32) -> Option<UnixMillis> {
        self.statements.iter().find(|(v, _)| *v == version).map(|(_, time)| *time)
    }

    /// Proves what is needed, and refuses anything else: what nothing here would judge must not be there.
    pub(crate) fn prove(
        earlier: &[Earlier],
        needed: &Needed,
        statements: &[&Event],
        tenure: u32,
        ledger: Ledger<'_>,
    ) -> Result<Self, NotShown> {
        let mut shown = Self::default();
        for version in earlier {
            let time = open(version, tenure, ledger)?;
            shown.mappings.extend(version.slots.iter().map(|slot| (slot.mapping, time)));
            if let Some(salt) = &version.cause_salt.0 {
                let made = |e: &&&Event| e.tbs.version == version.at.version && is_cause(version, e, salt);
                let statement = statements.iter().find(made).ok_or(NotShown::Opening)?;
                shown.statements.push((statement.tbs.version, time));
            }
        }
        let ascending = earlier.windows(2).all(|w| w[0].at.version < w[1].at.version);
        let none_idle = earlier.iter().all(|e| !e.slots.is_empty() || e.cause_salt.0.is_some());
        let mappings = is_same_set(shown.mappings.iter().map(|(digest, _)| digest), &needed.mappings);
        let statements = is_same_set(shown.statements.iter().map(|(version, _)| version), &needed.statements);
        if ascending && none_idle && mappings && statements { Ok(shown) } else { Err(NotShown::Earlier) }
    }
}

/// Whether these are the needed ones, each once.
fn is_same_set<'a, T: Ord + 'a>(shown: impl Iterator<Item = &'a T>, needed: &'a [T]) -> bool {
    let (mut shown, mut needed): (Vec<&T>, Vec<&T>) = (shown.collect(), needed.iter().collect());
    shown.sort_unstable();
    needed.sort_unstable();
    shown == needed
}

/// By when the version was logged, if it opens to what is shown of it.
fn open(earlier: &Earlier, tenure: u32, ledger: Ledger<'_>) -> Result<UnixMillis, NotShown> {
    let Earlier { at, opening, record, contents_salt, contents, slots, .. } = earlier;
    let outer = OpenedVersion { at: at.clone(), opening: *opening, record: record.clone() };
    let time = ledger.opened(&outer, tenure)?;
    let ascending = slots.windows(2).all(|w| w[0].mapping < w[1].mapping);
    let right = opens(&record.contents, contents_salt, &encode(contents)) && slots.iter().all(|s| is_in(s, contents));
    if ascending && right { Ok(time) } else { Err(NotShown::Opening) }
}

/// Whether a slot is one of these contents, visible or hidden.
fn is_in(then: &SlotThen, contents: &Contents) -> bool {
    let slot = Slot { standing: then.standing, mapping: then.mapping };
    let (visible, hidden) = (encode(&slot), hidden_bytes(Some(&slot)));
    contents.visible.iter().any(|digest| opens(digest, &then.salt, &visible))
        || contents.hidden.0.iter().any(|h| opens(&h.digest, &then.salt, &hidden))
}

/// Whether a statement made this version.
fn is_cause(version: &Earlier, statement: &Event, salt: &Salt) -> bool {
    let cause = Cause { previous: statement.tbs.previous, event: statement.clone() };
    opens(&version.contents.cause, salt, &encode(&cause))
}
