//! What a change rests on, and whether that still holds where the change is about to be logged.
//!
//! A change is authorised by what is published, at the time of the request. Until the head of its batch is made, time goes on, and
//! provider and config entries of the same batch take effect. What can change by that is written down when the change is authorised
//! ([`mod@crate::authorise`]) and judged again with the batch, at the head's time: conditions as data, judged by one function.

use std::fmt;

use waymark_log::{hash::Hash, key::Key, time::UnixMillis};
use waymark_mapping::{entry::ProviderRole, names::Domain, provider::ProviderDirectory};

/// A key by which somebody speaks in a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Who.
    pub domain: Domain,
    /// In which role.
    pub role: ProviderRole,
    /// With which key.
    pub key: Key,
}

/// Something that comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// A proof of possession.
    Attestation,
    /// An MSP's consent.
    Consent,
    /// A mapping.
    Mapping,
    /// The time in which a claim can be taken up or objected to.
    Claim,
    /// The time in which a new mapping can be removed by those who were there before.
    NewMapping,
}

/// One condition under which a change was authorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestsOn {
    /// The head is not earlier than this time, at which the change was judged: the record says that it was made then.
    Judged(UnixMillis),
    /// This is not over: the head is earlier than the end.
    Lasts(Lasting, UnixMillis),
    /// The key is valid at the head's time.
    Key(Signer),
    /// The key is valid at this time, at which it signed.
    KeyAt(Signer, UnixMillis),
    /// The MSP has a valid key.
    Onboarded(Domain),
    /// The MSP has its consents logged, or has not, as when it was decided whether this one is.
    Publishes(Domain, bool),
    /// The policy document is this one, by which the change was judged.
    Policy(Hash),
}

impl fmt::Display for RestsOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Judged(_) => "the clock was set back after it was judged",
            Self::Lasts(Lasting::Attestation, _) => "a proof of possession is over",
            Self::Lasts(Lasting::Consent, _) => "a consent is over",
            Self::Lasts(Lasting::Mapping, _) => "a mapping is over",
            Self::Lasts(Lasting::Claim, _) => "the claim is void",
            Self::Lasts(Lasting::NewMapping, _) => "a mapping to remove is no longer new",
            Self::Key(_) | Self::KeyAt(..) => "a provider's key is no longer valid",
            Self::Onboarded(_) => "an MSP has no valid key any more",
            Self::Publishes(..) => "an MSP publishes its consents from now on, or no longer",
            Self::Policy(_) => "another policy document is in effect",
        })
    }
}

/// The log as it stands at the head that is about to be made, with the config and provider entries of its batch.
#[derive(Clone, Copy, Debug)]
pub struct AtHead<'a> {
    /// The head's time.
    pub time: UnixMillis,
    /// The providers.
    pub providers: &'a ProviderDirectory,
    /// SHA-256 of the policy document.
    pub policy: Hash,
}

impl AtHead<'_> {
    /// The first of the conditions that does not hold here.
    pub fn first_unmet<'c>(&self, rests_on: &'c [RestsOn]) -> Option<&'c RestsOn> {
        rests_on.iter().find(|condition| !self.meets(condition))
    }

    fn meets(&self, condition: &RestsOn) -> bool {
        let is_valid = |s: &Signer, at| self.providers.is_valid(&s.domain, s.role, &s.key, at);
        let leaf = |msp| self.providers.get(msp, ProviderRole::MSP);
        match condition {
            RestsOn::Judged(time) => *time <= self.time,
            RestsOn::Lasts(_, end) => self.time < *end,
            RestsOn::Key(signer) => is_valid(signer, self.time),
            RestsOn::KeyAt(signer, time) => is_valid(signer, *time),
            RestsOn::Onboarded(msp) => leaf(msp).is_some_and(|l| l.valid(self.time).next().is_some()),
            RestsOn::Publishes(msp, publishes) => leaf(msp).is_some_and(|l| l.publishes(self.time)) == *publishes,
            RestsOn::Policy(digest) => self.policy == *digest,
        }
    }
}
