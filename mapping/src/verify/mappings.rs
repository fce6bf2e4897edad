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
    earlier::{LoggedEarlier, all_have_lapsed, has_lapsed, needed, signer_of},
    entry::{Entry, Open, ProviderRole},
    event::{AuthorityRole, Event, EventKind},
    facts::{Change, MappingFacts, Possession, Service, Withheld},
    mapping::Mapping,
    names::Domain,
    provider::{ProviderLeaf, leaf_place},
    record::{Beginning, SlotStatus, TenureStart},
    rules::Held,
    tenure::{Ledger, LoggedVersion, NotShown},
    trust::Trust,
};

/// Proves the leaves of all providers that the answer names; those without a leaf are proved to have none.
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
    let named = named_providers(mappings, Some(&opened.state.start), unserved.then_some(dp));
    if named.is_empty() {
        return no_providers(providers).map(|()| Vec::new());
    }
    let mut leaves = providers.leaves.iter();
    let mut searched = Vec::with_capacity(named.len());
    for ((domain, role), present) in named.iter().zip(providers.proof.claims_presence()) {
        let is_its = |l: &&ProviderLeaf| (&l.domain, l.role) == (domain, *role);
        let leaf = if present { leaves.next().filter(is_its) } else { None };
        if present && leaf.is_none() {
            return Err(not_proven("a provider's keys are not those of its domain and role"));
        }
        searched.push((leaf_place(*role, domain), leaf.map(ProviderLeaf::digest)));
    }
    // The proof has one result for each domain and role, or it does not verify.
    let all_shown = leaves.next().is_none() && searched.len() == named.len();
    if !all_shown || providers.proof.verify(&searched, root).is_err() {
        return Err(not_proven("the providers are not proved"));
    }
    trail.held("providers", format!("{} proved under the head's provider root", named.len()));
    Ok(providers.leaves.to_vec())
}

/// Where nobody is named, nothing is shown: one encoding, so that nothing can ride along.
pub(super) fn no_providers(providers: &Providers) -> Result<(), Rejected> {
    if *providers == Providers::none() {
        return Ok(());
    }
    Err(Rejected::NotProven("providers are shown that no mapping names".to_owned()))
}

/// The providers that an answer names, each in its role: MSPs and provers of mappings that are shown, the CSIP of a release, and the DP as
/// a prover where it withholds something. In the order of their places in the provider tree, each once.
pub fn named_providers<'a>(
    mappings: impl Iterator<Item = &'a Mapping>,
    start: Option<&TenureStart>,
    dp: Option<&Domain>,
) -> Vec<(Domain, ProviderRole)> {
    let (msp, prover) = (ProviderRole::MSP, ProviderRole::PROVER);
    let of_mapping = |m: &Mapping| [m.msp.get().map(|d| (d, msp)), Some((m.attestation.prover.clone(), prover))];
    let csip = start.filter(|s| s.how == Beginning::Release).and_then(|s| s.domain.get());
    let others = csip.map(|d| (d, ProviderRole::CSIP)).into_iter().chain(dp.map(|d| (d.clone(), prover)));
    let mut named: Vec<(Domain, ProviderRole)> = mappings.flat_map(of_mapping).flatten().chain(others).collect();
    named.sort_by_cached_key(|(domain, role)| leaf_place(*role, domain));
    named.dedup();
    named
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

impl Judge<'_> {
    pub(super) fn all(&self, body: &Body, opened: &Opened, trail: &mut Trail) -> Result<Vec<MappingFacts>, Rejected> {
        let held = &opened.state.held;
        let earlier = self.earlier(opened)?;
        for statement in &opened.not_served {
            self.statement(statement, opened, &earlier)?;
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
            facts.push(self.one(held, consent, &since, &earlier)?);
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

    /// What is shown to have been in the log before the key under it retired: all that needs it, and nothing else.
    fn earlier(&self, opened: &Opened) -> Result<LoggedEarlier, Rejected> {
        let mappings = opened.state.held.iter().map(|h| &h.mapping);
        let stated = opened.not_served.iter().map(|n| (&n.statement, n.shown.as_ref()));
        let leaf = |domain: &Domain, role| self.leaf(domain, role);
        let needed = needed(mappings, stated, &self.open.domain, self.answer.head.time, leaf);
        let shown = self.answer.full.0.as_ref().map_or(&[][..], |full| &full.earlier);
        let statements: Vec<&Event> = opened.not_served.iter().map(|n| &n.statement).collect();
        LoggedEarlier::prove(shown, &needed, &statements, opened.state.tenure, self.ledger)
            .map_err(|e| Rejected::NotProven(e.to_string()))
    }

    /// Who says that a mapping is not served must be its MSP, or the DP.
    fn statement(&self, n: &NotServed, opened: &Opened, earlier: &LoggedEarlier) -> Result<(), Rejected> {
        let not_proven = |what: &str| Rejected::NotProven(what.to_owned());
        let (event, state) = (&n.statement, &opened.state);
        let (kind, as_role) = match n.standing.status {
            SlotStatus::Unserved => (EventKind::DpUnserve, AuthorityRole::Dp),
            _ => (EventKind::MspDetach, AuthorityRole::Msp),
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
        let head = self.answer.head.time;
        let logged = earlier.statement(tbs.version);
        let leaf = signer_of(event, n.shown.as_ref(), &self.open.domain).and_then(|(d, role)| self.leaf(&d, role));
        let believed = match (leaf.and_then(|l| l.find(&authority.key)), &n.shown) {
            // What has lapsed is not served anyway.
            (_, Some(mapping)) if has_lapsed(mapping, head) => true,
            (Some(key), _) => key.is_believed(tbs.time, logged, head),
            // The key may have been dropped: but only if what it was about has lapsed since, too.
            (None, None) => logged.is_some_and(|time| all_have_lapsed(time, head)),
            (None, Some(_)) => false,
        };
        if about && signed && believed {
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
        earlier: &LoggedEarlier,
    ) -> Result<MappingFacts, Rejected> {
        let m = &held.mapping;
        m.verify(self.origin).map_err(|e| Rejected::NotProven(e.to_string()))?;
        let lapsed = has_lapsed(m, self.answer.head.time);
        let possession = self.possession(m, lapsed, earlier)?;
        let service = self.service(held, consent)?;
        Ok(MappingFacts {
            msp: m.msp.get(),
            account: m.account.clone(),
            tags: m.tags.clone(),
            recipient: m.recipient,
            digest: m.digest(),
            not_after: m.not_after,
            holds: m.is_valid_at(self.now) && !lapsed && service.counts(),
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

    fn leaf(&self, domain: &Domain, role: ProviderRole) -> Option<&ProviderLeaf> {
        self.leaves.iter().find(|l| (&l.domain, l.role) == (domain, role))
    }

    /// Whether the trust file pins this key. Where it pins keys of the domain, no others are trusted.
    fn is_pinned(&self, role: ProviderRole, of: &Domain, key: &Key, otherwise: &str) -> Result<bool, Rejected> {
        let mut pins = self.trust.pinned(role, of).peekable();
        let is_pinned_domain = pins.peek().is_some();
        let pinned = pins.any(|k| k == key);
        if is_pinned_domain && !pinned { Err(Rejected::Untrusted(otherwise.to_owned())) } else { Ok(pinned) }
    }

    /// Who attests possession, if the key is the prover's. Of what has `lapsed` that is not asked: its key may have been dropped.
    fn possession(&self, m: &Mapping, lapsed: bool, earlier: &LoggedEarlier) -> Result<Possession, Rejected> {
        let (a, role) = (&m.attestation, ProviderRole::PROVER);
        let pinned = if lapsed {
            false
        } else {
            let otherwise = "possession is attested with another key than the one pinned";
            let pinned = self.is_pinned(role, &a.prover, &a.prover_key, otherwise)?;
            // "A retired key attests only what was logged before it retired, pinned or not": a pin replaces the directory only where
            // that knows nobody.
            let believed = match self.leaf(&a.prover, role) {
                None => pinned,
                Some(leaf) => leaf
                    .find(&a.prover_key)
                    .is_some_and(|key| key.is_believed(a.time, earlier.mapping(&m.digest()), self.answer.head.time)),
            };
            if !believed {
                let what = "possession is attested by a key that is not the prover's, or that had retired";
                return Err(Rejected::NotProven(what.to_owned()));
            }
            pinned
        };
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
        let leaf = self.leaf(&msp, ProviderRole::MSP);
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
        let pinned = self.is_pinned(ProviderRole::MSP, &msp, key, otherwise)?;
        // A key that has retired, or a consent that is over, confirms nothing any more; the mapping itself still stands.
        let is_valid = leaf.is_some_and(|leaf| leaf.is_valid(key, head_time));
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
