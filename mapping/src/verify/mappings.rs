//! Judging the mappings of an opened record: who signed them, who attests possession, which MSPs stand by them.

use waymark_log::{
    checkpoint::Origin,
    hash::{Hash, leaf_hash},
    key::Key,
    policy::CosignedCheckpoint,
    proof::verify_inclusion,
    time::UnixMillis,
};

use super::{
    Rejected, Trail,
    record::{NotServed, Opened},
};
use crate::{
    answer::{Answer, Body, OpenedConsent, Providers},
    entry::{Entry, Open, ProviderRole},
    event::{AuthorityRole, EventKind},
    facts::{Change, MappingFacts, Possession, Service, Withheld},
    mapping::Mapping,
    names::Domain,
    provider::{ProviderLeaf, domain_key},
    record::{Beginning, SlotStatus, TenureStart},
    rules::{Held, SKEW_MS},
    tenure::{Ledger, LoggedVersion, NotShown},
    trust::Trust,
};

/// Proves the leaves of all domains that the answer names; those without a leaf are proved to have none.
pub(super) fn prove_providers(
    providers: &Providers,
    opened: &Opened,
    dp: &Domain,
    root: &Hash,
    trail: &mut Trail,
) -> Result<Vec<ProviderLeaf>, Rejected> {
    let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
    let unserved = opened.not_served.iter().any(|n| n.standing.status == SlotStatus::Unserved);
    let mappings = opened.state.held.iter().map(|h| &h.mapping);
    let domains = named_domains(mappings, Some(&opened.state.start), unserved.then_some(dp));
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

/// The domains that an answer names: MSPs and provers of mappings that are shown, the CSIP of a release, and the DP where it
/// withholds something. In the order of SHA-256(domain).
pub fn named_domains<'a>(
    mappings: impl Iterator<Item = &'a Mapping>,
    start: Option<&TenureStart>,
    dp: Option<&Domain>,
) -> Vec<Domain> {
    let csip = start.filter(|s| s.how == Beginning::Release).and_then(|s| s.domain.get());
    let others = csip.into_iter().chain(dp.cloned());
    let mut domains: Vec<Domain> =
        mappings.flat_map(|m| [m.msp.get(), Some(m.attestation.prover.clone())]).flatten().chain(others).collect();
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
    pub(super) ledger: Ledger<'a>,
}

/// The versions that standings name, each once, ascending.
pub fn since_versions(versions: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut versions: Vec<u32> = versions.collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// Whether a key was valid when it signed, by the signer's clock, which may be 30 s ahead of the log's: a key that retires within them
/// has signed before, though it says later.
fn was_valid(leaf: &ProviderLeaf, role: ProviderRole, key: &Key, signed: UnixMillis) -> bool {
    let before = UnixMillis::new(signed.get().saturating_sub(SKEW_MS));
    [signed, before].into_iter().any(|at| leaf.valid(role, at).any(|k| k.key == *key))
}

impl Judge<'_> {
    pub(super) fn all(&self, body: &Body, opened: &Opened, trail: &mut Trail) -> Result<Vec<MappingFacts>, Rejected> {
        let held = &opened.state.held;
        for statement in &opened.not_served {
            self.statement(statement, opened)?;
        }
        let visible = body.visible.iter().map(|v| (v.content.mapping(), v.consent.0.as_ref()));
        let hidden = body.hidden.iter().map(|h| (h.value.mapping(), h.consent.0.as_ref()));
        let consents: Vec<(Option<&Mapping>, Option<&OpenedConsent>)> = visible.chain(hidden).collect();
        // What nothing here would judge must not be there.
        if consents.iter().any(|(m, c)| m.is_none() && c.is_some()) {
            return Err(Rejected::NotProven("a consent is shown under a mapping that is not".to_owned()));
        }
        let since = self.since(opened)?;
        let mut facts = Vec::with_capacity(held.len());
        for held in held {
            let consent = consents.iter().find(|(m, _)| *m == Some(&held.mapping)).and_then(|(_, c)| *c);
            facts.push(self.one(held, consent, &since)?);
        }
        if !facts.is_empty() {
            trail.held("mappings", format!("{} signed by their recipients and provers", facts.len()));
        }
        let confirmed = facts.iter().filter(|f| matches!(f.service, Service::Confirmed { .. })).count();
        if confirmed > 0 {
            trail.held("consents", format!("{confirmed} mappings confirmed by their MSPs"));
        }
        if !opened.not_served.is_empty() {
            trail.held("statements", format!("{} by MSPs or the DP, signed", opened.not_served.len()));
        }
        Ok(facts)
    }

    /// What the DP withholds, as far as it may be said.
    pub(super) fn withheld(opened: &Opened) -> Vec<Withheld> {
        let closed = opened.not_served.iter().filter(|n| n.shown.is_none());
        closed
            .map(|n| Withheld { reason: n.standing.reason, since: n.standing.since, by_event: n.statement.tbs.time })
            .collect()
    }

    /// Who says that a mapping is not served must be its MSP, or the DP.
    fn statement(&self, n: &NotServed, opened: &Opened) -> Result<(), Rejected> {
        let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
        let (event, state) = (&n.statement, &opened.state);
        let (kind, as_role, domain, role) = match n.standing.status {
            SlotStatus::Unserved => {
                (EventKind::DpUnserve, AuthorityRole::Dp, Some(self.open.domain.clone()), ProviderRole::Prover)
            }
            _ => {
                let msp = n.shown.as_ref().and_then(|m| m.msp.get());
                (EventKind::MspDetach, AuthorityRole::Msp, msp, ProviderRole::Msp)
            }
        };
        let tbs = &event.tbs;
        let about = tbs.kind == kind
            && (&tbs.csi, tbs.tenure, tbs.reason) == (&state.csi, state.tenure, n.standing.reason)
            // "Statements bind to the standing they are about": one that was taken back is of another version.
            && tbs.version == n.standing.stated_version
            && tbs.version <= state.version
            && tbs.added.is_empty()
            && tbs.removed[..] == [n.mapping];
        let [authority] = &event.authorities[..] else {
            return Err(not_proven("a statement has not one signature"));
        };
        let signed = authority.role == as_role && authority.verify(tbs, self.origin).is_ok();
        let counts =
            domain.and_then(|d| self.leaf(&d)).is_some_and(|l| was_valid(l, role, &authority.key, tbs.time));
        if about && signed && counts {
            Ok(())
        } else {
            Err(not_proven("nobody who may has said that a mapping is not served"))
        }
    }

    /// The proved times of the versions that the standings name: all of them, or none.
    fn since(&self, opened: &Opened) -> Result<Vec<(u32, UnixMillis)>, Rejected> {
        let Some(full) = self.answer.full.0.as_ref().filter(|f| !f.since.is_empty()) else { return Ok(vec![]) };
        let named = since_versions(opened.state.held.iter().map(|h| h.standing.since_version));
        if !named.iter().eq(full.since.iter().map(|v| &v.version)) {
            return Err(Rejected::NotProven("other versions are proved than the standings name".to_owned()));
        }
        let logged = |v: &LoggedVersion| Ok((v.version, self.ledger.logged(v)?));
        full.since.iter().map(logged).collect::<Result<_, NotShown>>().map_err(|e| Rejected::NotProven(e.to_string()))
    }

    fn one(
        &self,
        held: &Held,
        consent: Option<&OpenedConsent>,
        since: &[(u32, UnixMillis)],
    ) -> Result<MappingFacts, Rejected> {
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
                logged_by: since.iter().find(|(v, _)| *v == held.standing.since_version).map(|(_, time)| *time),
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
        let leaf = self.leaf(&a.prover);
        let logged = leaf.is_some_and(|leaf| was_valid(leaf, ProviderRole::Prover, &a.prover_key, a.time));
        let otherwise = "possession is attested with another key than the one pinned";
        let pinned = self.is_pinned(ProviderRole::Prover, &a.prover, &a.prover_key, otherwise)?;
        if !logged && !pinned {
            return Err(Rejected::NotProven("possession is attested by a key that is not the prover's".to_owned()));
        }
        Ok(Possession {
            prover: a.prover.clone(),
            method: a.method,
            strength: a.method.strength(),
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
            if held.standing.status == SlotStatus::Detached {
                return Ok(Service::Detached { reason: held.standing.reason });
            }
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
        // "MspDetach is not removal": the mapping stands, and its MSP's confirmation does not.
        if held.standing.status == SlotStatus::Detached {
            return Ok(Service::Detached { reason: held.standing.reason });
        }
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
