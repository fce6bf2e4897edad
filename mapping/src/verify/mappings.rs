//! Judging the mappings of an opened record: who signed them, who attests possession, which MSPs stand by them.

use waymark_log::{
    checkpoint::Origin,
    hash::{Hash, leaf_hash},
    key::Key,
    policy::CosignedCheckpoint,
    proof::verify_inclusion,
    time::UnixMillis,
};

use super::{Rejected, Trail};
use crate::{
    answer::{Answer, Body, OpenedConsent, Providers},
    entry::{Entry, Open, ProviderRole},
    facts::{Change, MappingFacts, Possession, Service},
    mapping::Mapping,
    names::Domain,
    provider::{ProviderLeaf, domain_key},
    record::HiddenValue,
    rules::{Held, State},
    trust::Trust,
};

/// Proves the leaves of all domains that the mappings name; those without a leaf are proved to have none.
pub(super) fn prove_providers(
    providers: &Providers,
    state: &State,
    root: &Hash,
    trail: &mut Trail,
) -> Result<Vec<ProviderLeaf>, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    let domains = named_domains(state.held.iter().map(|h| &h.mapping));
    if domains.is_empty() {
        return no_providers(providers).map(|()| Vec::new());
    }
    let mut leaves = providers.leaves.iter();
    let mut searched = Vec::with_capacity(domains.len());
    for (domain, present) in domains.iter().zip(providers.proof.claims_presence()) {
        let leaf = if present { leaves.next().filter(|l| l.domain == *domain) } else { None };
        if present && leaf.is_none() {
            return Err(not_proven("a provider's keys are not those of its domain"));
        }
        searched.push((domain_key(domain), leaf.map(ProviderLeaf::digest)));
    }
    // The proof has one result for each domain, or it does not verify.
    let all_shown = leaves.next().is_none() && searched.len() == domains.len();
    if !all_shown || providers.proof.verify(&searched, root).is_err() {
        return Err(not_proven("the providers are not proved"));
    }
    trail.held("providers", format!("{} domains proved under the head's provider root", domains.len()));
    Ok(providers.leaves.to_vec())
}

/// Where nobody is named, nothing is shown: one encoding, so that nothing can ride along.
pub(super) fn no_providers(providers: &Providers) -> Result<(), Rejected> {
    if *providers == Providers::none() {
        return Ok(());
    }
    Err(Rejected::NotProven("providers are shown that no mapping names".to_owned()))
}

/// The domains that mappings name, as MSP or prover, in the order of SHA-256(domain).
pub fn named_domains<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> Vec<Domain> {
    let mut domains: Vec<Domain> =
        mappings.flat_map(|m| [m.msp.get(), Some(m.attestation.prover.clone())]).flatten().collect();
    domains.sort_unstable_by_key(domain_key);
    domains.dedup();
    domains
}

/// What the mappings are judged by.
pub(super) struct Judge<'a> {
    pub(super) answer: &'a Answer,
    pub(super) trust: &'a Trust,
    pub(super) origin: &'a Origin,
    pub(super) open: &'a Open,
    pub(super) leaves: &'a [ProviderLeaf],
    pub(super) now: UnixMillis,
    pub(super) cosigned: &'a CosignedCheckpoint,
}

impl Judge<'_> {
    pub(super) fn all(&self, body: &Body, state: &State, trail: &mut Trail) -> Result<Vec<MappingFacts>, Rejected> {
        let visible = body.visible.iter().map(|v| (&v.mapping, v.consent.0.as_ref()));
        let hidden = body.hidden.iter().filter_map(|h| match &h.value {
            HiddenValue::Present(_, mapping) => Some((&**mapping, h.consent.0.as_ref())),
            HiddenValue::Empty => None,
        });
        let consents: Vec<(&Mapping, Option<&OpenedConsent>)> = visible.chain(hidden).collect();
        let mut facts = Vec::with_capacity(state.held.len());
        for held in &state.held {
            let consent = consents.iter().find(|(m, _)| **m == held.mapping).and_then(|(_, c)| *c);
            facts.push(self.one(held, consent)?);
        }
        if !facts.is_empty() {
            trail.held("mappings", format!("{} signed by their recipients and provers", facts.len()));
        }
        let confirmed = facts.iter().filter(|f| matches!(f.service, Service::Confirmed { .. })).count();
        if confirmed > 0 {
            trail.held("consents", format!("{confirmed} mappings confirmed by their MSPs"));
        }
        Ok(facts)
    }

    fn one(&self, held: &Held, consent: Option<&OpenedConsent>) -> Result<MappingFacts, Rejected> {
        let m = &held.mapping;
        m.verify(self.origin).map_err(|e| Rejected::NotProven(e.to_string()))?;
        let possession = self.possession(m)?;
        let service = self.service(held, consent)?;
        Ok(MappingFacts {
            msp: m.msp.get(),
            account: m.account.clone(),
            tags: m.tags.clone(),
            recipient: m.recipient,
            digest: m.digest(),
            not_after: m.not_after,
            holds: m.is_valid_at(self.now) && service.counts(),
            possession,
            service,
            change: Change {
                since: held.standing.since,
                since_version: held.standing.since_version,
                is_new: held.standing.is_new_at(self.now),
            },
        })
    }

    fn leaf(&self, domain: &Domain) -> Option<&ProviderLeaf> {
        self.leaves.iter().find(|l| l.domain == *domain)
    }

    /// Whether the trust file pins this key. Where it pins keys of the domain, no others are trusted.
    fn is_pinned(&self, role: ProviderRole, of: &Domain, key: &Key, otherwise: &str) -> Result<bool, Rejected> {
        let mut pins = self.trust.pinned(role, of).peekable();
        let is_pinned_domain = pins.peek().is_some();
        let pinned = pins.any(|k| k == key);
        if is_pinned_domain && !pinned { Err(Rejected::Untrusted(otherwise.to_owned())) } else { Ok(pinned) }
    }

    fn possession(&self, m: &Mapping) -> Result<Possession, Rejected> {
        let a = &m.attestation;
        let logged = self
            .leaf(&a.prover)
            .is_some_and(|leaf| leaf.valid(ProviderRole::Prover, a.time).any(|k| k.key == a.prover_key));
        let otherwise = "possession is attested with another key than the one pinned";
        let pinned = self.is_pinned(ProviderRole::Prover, &a.prover, &a.prover_key, otherwise)?;
        if !logged && !pinned {
            return Err(Rejected::NotProven("possession is attested by a key that is not the prover's".to_owned()));
        }
        Ok(Possession {
            prover: a.prover.clone(),
            method: a.method,
            strength: a.strength,
            time: a.time,
            independent_of_dp: a.prover != self.open.domain,
            independent_of_msp: Some(&a.prover) != m.msp.get().as_ref(),
            pinned,
        })
    }

    fn service(&self, held: &Held, consent: Option<&OpenedConsent>) -> Result<Service, Rejected> {
        let m = &held.mapping;
        let Some(msp) = m.msp.get() else {
            return if consent.is_none() {
                Ok(Service::OptedOut)
            } else {
                Err(Rejected::NotProven("an opt-out has an MSP's consent".to_owned()))
            };
        };
        let head_time = self.answer.head.time;
        let leaf = self.leaf(&msp);
        let publishes = leaf.is_some_and(|leaf| leaf.publishes(head_time));
        let Some(opened) = consent else {
            // "No sender counts a visible mapping naming me unless I could see it."
            return Ok(if publishes && !held.is_hidden() { Service::NotShownToMsp } else { Service::Unconfirmed });
        };
        if !opened.consent.is_for(m, &opened.salt, self.origin) {
            return Err(Rejected::NotProven("an MSP's consent is not under this mapping".to_owned()));
        }
        let logged = self.consent_logged(opened)?;
        let key = &opened.consent.msp_key;
        let otherwise = "an MSP's consent is by another key than the one pinned";
        let pinned = self.is_pinned(ProviderRole::Msp, &msp, key, otherwise)?;
        // A key that has retired, or a consent that is over, confirms nothing any more; the mapping itself still stands.
        let is_valid = leaf.is_some_and(|leaf| leaf.valid(ProviderRole::Msp, head_time).any(|k| k.key == *key));
        let current = is_valid && self.now < opened.consent.expiry;
        Ok(match (current, publishes && !held.is_hidden() && !logged) {
            (false, false) => Service::Unconfirmed,
            (_, true) => Service::NotShownToMsp,
            (true, false) => Service::Confirmed { in_log: logged, pinned },
        })
    }

    fn consent_logged(&self, opened: &OpenedConsent) -> Result<bool, Rejected> {
        let Some(at) = &opened.logged.0 else { return Ok(false) };
        let leaf = leaf_hash(&Entry::Consent(opened.consent.clone()).encode());
        verify_inclusion(at.index, self.cosigned.size(), &leaf, &at.path, self.cosigned.root())
            .map_err(|_| Rejected::NotProven("an MSP's consent is not in the log".to_owned()))?;
        Ok(true)
    }
}
