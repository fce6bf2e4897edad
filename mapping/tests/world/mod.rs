//! A whole world in memory: a DP that can be told to cheat, four witnesses, MSPs, recipients. Built from the definitions
//! (naive trees, hand-made answers), so that it shares as little as possible with the programs.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::LazyLock;

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use waymark_log::{
    checkpoint::{Checkpoint, Origin, SignedCheckpoint},
    cosignature::Cosigner,
    hash::{Hash, leaf_hash},
    key::{Key, SecretKey},
    note::{KeyName, NoteSigner},
    proof::{inclusion, naive_root, node_from_leaves},
    time::{UnixMillis, UnixSeconds},
};
use waymark_mapping::{
    answer::{
        Answer, Body, Content, Full, HeadAt, HiddenValue, Inclusion, LadderStep, OpenedConsent, OpenedVisible,
        Providers, Receipt,
    },
    commitment::{Salt, blind, commit},
    compose::{Composed, compose, prove_tags},
    earlier::{Earlier, SlotThen, needed},
    entry::{Change, Entry, Head, Open, Provider, ProviderAction, ProviderRole},
    event::{ANY_VERSION, Authority, AuthorityRole, Cause, Event, EventKind, EventTbs},
    identifier::Csi,
    label::prove_label,
    ladder,
    mapping::{Attestation, Consent, Mapping, Method, Purpose, Tags},
    names::{Account, Domain, MaybeDomain, Region, Tag},
    prefix::{PrefixProof, PrefixTree},
    provider::{ProviderDirectory, leaf_place},
    receipt::Sent,
    record::{Beginning, RecordState, SlotStatus},
    rules::{self, Held, Known, Proposal, Refused, State},
    signed::{SignedStruct, UNSIGNED},
    tenure::{Hold, LoggedStep, LoggedVersion, OpenedVersion, PASSAGE_MS, Passage, Released, TenureProof},
    trust::Trust,
    verify::{Asked, named_providers},
    vrf::VrfSecret,
    wire::{Extensions, Flag, Format, List24, Opaque8, Opaque16, Optional24, encode},
};

pub const NOW: u64 = 1_790_000_000_000;

/// The log of every world.
pub static ORIGIN: LazyLock<Origin> = LazyLock::new(|| Origin::new("dp.example/log").unwrap());

/// A question without a tag to the log of every world.
pub fn question(csi: Csi) -> Asked {
    Asked { origin: ORIGIN.clone(), csi, tag: None }
}

/// A change as its first signer sends it.
pub fn sent<'a>(event: &'a Event, added: &'a [Mapping]) -> Sent<'a> {
    Sent { origin: &ORIGIN, event, added, by: &event.authorities[0].key }
}

/// One version of one CSI as the DP keeps it.
#[derive(Clone)]
pub struct Kept {
    pub composed: Composed,
    pub state: State,
    pub cause: Cause,
    pub consents: Vec<(Hash, Consent, Salt)>,
    /// What MSPs and the DP have said, by the digest of the mapping.
    pub statements: Vec<(Hash, Event)>,
    /// Size of the log before its batch.
    pub first: u64,
}

pub struct World {
    pub origin: Origin,
    pub log: NoteSigner,
    pub witnesses: Vec<Cosigner>,
    pub vrf: VrfSecret,
    pub entries: Vec<Vec<u8>>,
    pub map: PrefixTree,
    pub providers: ProviderDirectory,
    pub changes: u64,
    pub head: Head,
    pub now: u64,
    pub rng: ChaCha20Rng,
    pub versions: Vec<Kept>,
    pub serial: u64,
}

pub fn csi() -> Csi {
    Csi::parse("tel:+4915112345642").unwrap()
}

pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::sha256(&[name.as_bytes()]).as_bytes())
}

pub fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

impl World {
    /// A log with its open entry and two batches of providers: the DP as prover, two MSPs (the second publishes).
    pub fn new() -> Self {
        let origin = ORIGIN.clone();
        let log = NoteSigner::new(KeyName::new("dp.example/log").unwrap(), secret("log"));
        let witness = |i| Cosigner::new(KeyName::new(&format!("w{i}.example")).unwrap(), secret(&format!("w{i}")));
        let mut world = Self {
            origin: origin.clone(),
            log,
            witnesses: (1..=4).map(witness).collect(),
            vrf: VrfSecret::from_seed(&[7; 32]),
            entries: vec![],
            map: PrefixTree::new(),
            providers: ProviderDirectory::new(),
            changes: 0,
            head: Head {
                extensions: Extensions::NONE,
                time: UnixMillis::new(0),
                changes: 0,
                map_root: Hash::ZERO,
                open: Hash::ZERO,
                config: Hash::ZERO,
                provider_root: Hash::ZERO,
            },
            now: NOW,
            rng: ChaCha20Rng::from_seed([1; 32]),
            versions: vec![],
            serial: 0,
        };
        let open = Open {
            domain: domain("dp.example"),
            origin: (&origin).into(),
            vrf: world.vrf.public(),
            interval_ms: 1000,
            policy: Hash::sha256(&[b"policy"]),
            not_before: UnixMillis::new(NOW),
            extensions: Extensions::NONE,
        };
        world.entries.push(Entry::Open(open).encode());
        world.publish(vec![]);
        world.add_provider("dp.example", ProviderRole::PROVER, false);
        world.add_provider("chat.example", ProviderRole::MSP, false);
        world.add_provider("wire.example", ProviderRole::MSP, true);
        world
    }

    /// The first key of a domain in a role.
    pub fn add_provider(&mut self, name: &str, role: ProviderRole, publishes: bool) {
        let mut entry = self.provider(ProviderAction::Add, name, role, name, None);
        entry.publishes = Flag(publishes);
        entry.sign_by_key(&self.origin, &secret(name));
        self.log_provider(entry);
    }

    /// A further key of a domain that is known, with the word of its first one.
    pub fn add_key(&mut self, name: &str, role: ProviderRole, key: &str) {
        let entry = self.provider(ProviderAction::Add, name, role, key, Some(name));
        self.log_provider(entry);
    }

    /// A key retires, with the word of another, or its own.
    pub fn retire_key(&mut self, name: &str, role: ProviderRole, key: &str, by: &str) {
        let entry = self.provider(ProviderAction::Retire, name, role, key, Some(by));
        self.log_provider(entry);
    }

    /// An entry about a key that follows from the directory, signed by the key unless it retires, and by another one if told.
    pub fn provider(
        &self,
        action: ProviderAction,
        name: &str,
        role: ProviderRole,
        key: &str,
        by: Option<&str>,
    ) -> Provider {
        let domain = domain(name);
        let previous_leaf = self.providers.previous_leaf(&domain, role);
        let mut entry = Provider {
            role,
            action,
            previous_leaf,
            domain,
            class: 1,
            publishes: Flag(false),
            key: secret(key).public().into(),
            by_key: Optional24(None),
            by_valid: Optional24(None),
        };
        if action != ProviderAction::Retire {
            entry.sign_by_key(&self.origin, &secret(key));
        }
        if let Some(by) = by {
            entry.sign_by_valid(&self.origin, &secret(by));
        }
        entry
    }

    /// Logs a provider entry that follows, as of the head behind it.
    pub fn log_provider(&mut self, entry: Provider) {
        let head = UnixMillis::new(self.now + 1000);
        self.providers.apply(&entry, &self.origin, head).unwrap();
        self.publish(vec![Entry::Provider(entry)]);
    }

    /// Logs a batch and a head.
    pub fn publish(&mut self, batch: Vec<Entry>) {
        self.now += 1000;
        let mut bytes: Vec<Vec<u8>> = batch.iter().map(Entry::encode).collect();
        let mut changes: Vec<Change> =
            batch.iter().filter_map(|e| if let Entry::Change(c) = e { Some(*c) } else { None }).collect();
        while !changes.is_empty() && changes.len() < 16 {
            self.serial += 1;
            let draw = |what: &str| Hash::sha256(&[what.as_bytes(), &self.serial.to_be_bytes()]);
            let dummy = Change { label: waymark_mapping::label::Label(draw("label")), commitment: draw("commitment") };
            bytes.push(Entry::Change(dummy).encode());
            changes.push(dummy);
        }
        bytes.sort();
        self.entries.extend(bytes);
        self.changes += changes.len() as u64;
        self.map.insert(changes.iter().map(|c| (c.label.0, c.commitment)).collect()).unwrap();
        self.head = Head {
            extensions: Extensions::NONE,
            time: UnixMillis::new(self.now),
            changes: self.changes,
            map_root: self.map.root(),
            open: Hash::sha256(&[&self.entries[0]]),
            config: Hash::ZERO,
            provider_root: self.providers.tree().root(),
        };
        self.entries.push(Entry::Head(self.head.clone()).encode());
    }

    pub fn leaves(&self) -> Vec<Hash> {
        self.entries.iter().map(|e| leaf_hash(e)).collect()
    }

    pub fn checkpoint_at(&self, size: usize, times: [u64; 4]) -> String {
        let checkpoint = Checkpoint::new(self.origin.clone(), size as u64, naive_root(&self.leaves()[..size]));
        let text = checkpoint.format();
        let cosign = |(w, t): (&Cosigner, u64)| (t > 0).then(|| w.cosign(&text, UnixSeconds::new(t)));
        let lines: Vec<_> = self.witnesses.iter().zip(times).filter_map(cosign).collect();
        SignedCheckpoint::sign(checkpoint, &self.log).to_note(&lines)
    }

    /// The current checkpoint with exactly the quorum of three.
    pub fn checkpoint(&self) -> String {
        let t = self.now / 1000;
        self.checkpoint_at(self.entries.len(), [t, t, t, 0])
    }

    pub fn trust_text(&self) -> String {
        let mut policy = format!("log {}\n", self.log.vkey());
        for (i, w) in self.witnesses.iter().enumerate() {
            policy += &format!("witness w{} {}\n", i + 1, w.vkey());
        }
        policy += "group g 3 w1 w2 w3 w4\nquorum g\n";
        format!("policy = \"\"\"\n{policy}\"\"\"\nmax_age_s = 600\nskew_s = 30\n")
    }

    pub fn trust(&self) -> Trust {
        Trust::parse(&self.trust_text()).unwrap()
    }

    pub fn clock(&self) -> UnixMillis {
        UnixMillis::new(self.now + 500)
    }

    pub fn path(&self, index: u64) -> Vec<Hash> {
        let leaves = self.leaves();
        let plan = inclusion(index, leaves.len() as u64).unwrap();
        plan.build(&plan.nodes().map(|n| node_from_leaves(&leaves, n)).collect::<Vec<_>>()).unwrap()
    }

    /// The tenure that a mapping made now would be of.
    pub fn next_tenure(&self) -> u32 {
        self.versions.last().map_or(0, |k| k.state.tenure_of_next_mapping())
    }

    pub fn attest(&mut self, app: &str, csi: &Csi) -> Attestation {
        let tenure = self.next_tenure();
        self.attest_for(app, csi, tenure)
    }

    pub fn attest_for(&mut self, app: &str, csi: &Csi, tenure: u32) -> Attestation {
        self.attest_by("dp.example", app, csi, tenure)
    }

    pub fn attest_by(&mut self, prover: &str, app: &str, csi: &Csi, tenure: u32) -> Attestation {
        self.serial += 1;
        let mut attestation = Attestation {
            format: Format,
            csi: csi.clone(),
            recipient: secret(app).public(),
            tenure,
            purpose: Purpose::Control,
            method: Method::CONSOLE,
            prover: domain(prover),
            prover_key: secret(prover).public(),
            time: UnixMillis::new(self.now),
            expiry: UnixMillis::new(self.now + 3_600_000),
            nonce: Hash::sha256(&[&self.serial.to_be_bytes()]).as_bytes()[..16].try_into().unwrap(),
            sig: UNSIGNED,
        };
        attestation.sign(&self.origin, &secret(prover));
        attestation
    }

    pub fn mapping(&mut self, app: &str, msp: &str, tags: Tags) -> Mapping {
        let attestation = self.attest(app, &csi());
        self.mapping_by(app, msp, tags, attestation)
    }

    pub fn mapping_by(&mut self, app: &str, msp: &str, tags: Tags, attestation: Attestation) -> Mapping {
        let csi = csi();
        let opt_out = msp.is_empty();
        let mut mapping = Mapping {
            format: Format,
            csi,
            tenure: attestation.tenure,
            recipient: secret(app).public(),
            msp: if opt_out { MaybeDomain::NONE } else { domain(msp).into() },
            account: if opt_out { Account::NONE } else { Account::parse(&format!("mimi://{msp}/u/{app}")).unwrap() },
            fingerprint: Opaque8::new([]).unwrap(),
            tags,
            not_before: UnixMillis::new(self.now),
            not_after: UnixMillis::new(self.now + 100 * 24 * 3_600_000).floor_day(),
            region: Region::ANY,
            attestation,
            sig: UNSIGNED,
        };
        mapping.sign(&self.origin, &secret(app));
        mapping
    }

    pub fn visible(&mut self, app: &str, msp: &str) -> Mapping {
        self.mapping(app, msp, Tags::shown(vec![Tag::parse("default").unwrap()]).unwrap())
    }

    pub fn hidden(&mut self, app: &str, msp: &str, tag: &str) -> Mapping {
        self.mapping(app, msp, Tags::Exact(Tag::parse(tag).unwrap()))
    }

    pub fn consent(&mut self, mapping: &Mapping) -> (Hash, Consent, Salt) {
        self.serial += 1;
        let salt = Salt(*Hash::sha256(&[b"salt", &self.serial.to_be_bytes()]).as_bytes());
        let msp = mapping.msp.get().unwrap();
        let key = secret(msp.as_str());
        let mut consent = Consent {
            format: Format,
            msp,
            msp_key: key.public(),
            blinded: blind(&salt, &encode(mapping)),
            expiry: Consent::expiry_of(UnixMillis::new(self.now)),
            sig: UNSIGNED,
        };
        consent.sign(&self.origin, &key);
        (mapping.digest(), consent, salt)
    }

    pub fn before(&self) -> Option<(&State, Hash)> {
        self.versions.last().map(|k| (&k.state, k.composed.commitment))
    }

    /// What an event over the current version says, unsigned.
    pub fn tbs(&mut self, kind: EventKind, added: &[Hash], removed: &[Hash]) -> EventTbs {
        let (version, previous) = self.before().map_or((0, Hash::ZERO), |(s, c)| (s.version + 1, c));
        self.serial += 1;
        EventTbs {
            format: Format,
            kind,
            csi: csi(),
            tenure: self.before().map_or(0, |(s, _)| s.tenure),
            version,
            previous,
            added: List24::new(added.to_vec()).unwrap(),
            removed: List24::new(removed.to_vec()).unwrap(),
            reason: 0,
            time: UnixMillis::new(self.now),
            nonce: Hash::sha256(&[b"event", &self.serial.to_be_bytes()]).as_bytes()[..16].try_into().unwrap(),
        }
    }

    /// An event over the current version, signed by these apps (each with a fresh proof of possession if asked).
    pub fn event(&mut self, kind: EventKind, added: &[Mapping], removed: &[Hash], apps: &[&str], fresh: bool) -> Event {
        let added: Vec<Hash> = added.iter().map(Mapping::digest).collect();
        let tbs = self.tbs(kind, &added, removed);
        let tenure = tbs.tenure + u32::from(kind == EventKind::NewHolderPending);
        let authorities: Vec<Authority> = apps
            .iter()
            .map(|app| {
                let possession = fresh.then(|| self.attest_for(app, &csi(), tenure));
                tbs.sign_as_recipient(&self.origin, &secret(app), possession)
            })
            .collect();
        Event { tbs, authorities: List24::new(authorities).unwrap() }
    }

    /// What one provider says in its role; `stops` or serves again one mapping, or neither.
    pub fn statement(&mut self, kind: EventKind, mapping: Option<Hash>, reason: u8, by: &str) -> Event {
        let named: Vec<Hash> = mapping.into_iter().collect();
        let (added, removed) = if reason == 0 { (named, vec![]) } else { (vec![], named) };
        let mut tbs = self.tbs(kind, &added, &removed);
        tbs.reason = reason;
        let role = match kind {
            EventKind::MspDetach => AuthorityRole::Msp,
            EventKind::DpUnserve => AuthorityRole::Dp,
            _ => AuthorityRole::Csip,
        };
        let authority = tbs.sign_as(role, &self.origin, &secret(by));
        Event { tbs, authorities: List24::new(vec![authority]).unwrap() }
    }

    /// A revocation prepared in advance.
    pub fn token(&mut self, app: &str) -> Event {
        let mut tbs = self.tbs(EventKind::KeyCompromise, &[], &[]);
        (tbs.version, tbs.previous) = (ANY_VERSION, Hash::ZERO);
        let authority = tbs.sign_as_recipient(&self.origin, &secret(app), None);
        Event { tbs, authorities: List24::new(vec![authority]).unwrap() }
    }

    pub fn judge(&self, event: &Event, added: &[Mapping]) -> Result<State, Refused> {
        let csip = domain("csip.example");
        self.judge_knowing(event, added, Known { csip: Some(&csip), ..Known::default() })
    }

    pub fn judge_knowing(&self, event: &Event, added: &[Mapping], known: Known<'_>) -> Result<State, Refused> {
        let now = UnixMillis::new(self.now + 200);
        rules::apply(self.before(), Proposal { event, added, origin: &self.origin, now, known })
    }

    /// The same at another time than the world's.
    pub fn judge_at(&self, event: &Event, added: &[Mapping], now: UnixMillis) -> Result<State, Refused> {
        rules::apply(self.before(), Proposal { event, added, origin: &self.origin, now, known: Known::default() })
    }

    /// Judges a change and logs it.
    pub fn change(&mut self, event: &Event, added: &[Mapping]) -> Result<(), Refused> {
        let state = self.judge(event, added)?;
        let msps = |m: &&Mapping| !m.is_opt_out();
        let consents = added.iter().filter(msps).map(|m| self.consent(m)).collect();
        self.log_state(state, event.clone(), consents);
        Ok(())
    }

    /// Lets time pass, with a head a minute before the end of it.
    pub fn wait(&mut self, ms: u64) {
        self.now += ms;
        self.publish(vec![]);
    }

    /// Logs a change that leads to `state`, whether the rules allow it or not.
    pub fn log_state(&mut self, state: State, event: Event, consents: Vec<(Hash, Consent, Salt)>) {
        self.log_tampered(state, event, consents, |_, _| {});
    }

    /// The same by a DP that alters the record before it is committed to.
    pub fn log_tampered(
        &mut self,
        state: State,
        event: Event,
        consents: Vec<(Hash, Consent, Salt)>,
        tamper: impl FnOnce(&mut Composed, &VrfSecret),
    ) {
        let previous = self.before().map_or(Hash::ZERO, |(_, c)| c);
        let mut statements = self.versions.last().map_or(vec![], |k| k.statements.clone());
        if matches!(event.tbs.kind, EventKind::MspDetach | EventKind::DpUnserve) {
            let named = *event.tbs.removed.first().or(event.tbs.added.first()).unwrap();
            statements.retain(|(d, _)| *d != named);
            if event.tbs.added.is_empty() {
                statements.push((named, event.clone()));
            }
        }
        let cause = Cause { previous, event };
        let mut composed = compose(&state, &cause, &self.vrf, &mut self.rng);
        tamper(&mut composed, &self.vrf);
        composed.record.contents = blind(&composed.contents_salt, &encode(&composed.contents));
        composed.commitment = commit(&composed.opening, &state.csi, state.version, &encode(&composed.record));
        let label = prove_label(&self.vrf, &state.csi, state.version).1;
        let mut batch = vec![Entry::Change(Change { label, commitment: composed.commitment })];
        for (digest, consent, _) in &consents {
            let held = state.held.iter().find(|h| h.mapping.digest() == *digest).unwrap();
            if consent.msp == domain("wire.example") && !held.is_hidden() {
                batch.push(Entry::Consent(consent.clone()));
            }
        }
        let mut all = self.versions.last().map_or(vec![], |k| k.consents.clone());
        all.extend(consents);
        let first = self.entries.len() as u64;
        self.versions.push(Kept { composed, state, cause, consents: all, statements, first });
        self.publish(batch);
    }

    /// An honest issuance by these apps of these mappings, with consents.
    pub fn issue(&mut self, apps: &[&str], added: &[Mapping]) -> Event {
        let event = self.event(EventKind::Issue, added, &[], apps, false);
        let state = self.judge(&event, added).unwrap();
        let consents = added.iter().filter(|m| !m.is_opt_out()).map(|m| self.consent(m)).collect();
        self.log_state(state, event.clone(), consents);
        event
    }

    fn opened_consent(&self, kept: &Kept, held: &Held) -> Optional24<OpenedConsent> {
        let digest = held.mapping.digest();
        Optional24(kept.consents.iter().find(|(d, ..)| *d == digest).map(|(_, consent, salt)| {
            let bytes = Entry::Consent(consent.clone()).encode();
            let index = self.entries.iter().position(|e| *e == bytes).map(|i| i as u64);
            let logged = index.map(|index| Inclusion { index, path: List24::new(self.path(index)).unwrap() });
            OpenedConsent { consent: consent.clone(), salt: *salt, logged: Optional24(logged) }
        }))
    }

    /// The body of a version without what its MSPs say, as a receipt shows the version before.
    pub fn bare_body(&self, kept: &Kept) -> Body {
        let body = self.body(&Kept { consents: vec![], statements: vec![], ..kept.clone() }, None, true);
        Body { tag_proofs: List24::empty(), ..body }
    }

    /// The body of a version: hidden slots for a tag, for nobody, or all of them.
    pub fn body(&self, kept: &Kept, tag: Option<&Tag>, recipient: bool) -> Body {
        let statement = |held: &Held| {
            let digest = held.mapping.digest();
            Optional24(kept.statements.iter().find(|(d, _)| *d == digest).map(|(_, e)| e.clone()))
        };
        let content = |held: &Held| match held.standing.status {
            SlotStatus::Unserved if !recipient => Content::Closed(held.mapping.digest()),
            _ => Content::Shown(Box::new(held.mapping.clone())),
        };
        let consent = |held: &Held| match content(held) {
            Content::Closed(_) => Optional24(None),
            Content::Shown(_) => self.opened_consent(kept, held),
        };
        let visible: Vec<&Held> = kept.state.held.iter().filter(|h| !h.is_hidden()).collect();
        let opened = visible.iter().zip(&kept.composed.visible).map(|(held, salt)| OpenedVisible {
            salt: *salt,
            standing: held.standing,
            content: content(held),
            consent: consent(held),
            statement: statement(held),
        });
        let mut hidden = vec![];
        for opened in &kept.composed.hidden {
            let mut opened = opened.clone();
            let held = kept.state.held.iter().find(|h| opened.value.mapping() == Some(&h.mapping));
            if let Some(held) = held {
                opened.consent = consent(held);
                opened.statement = statement(held);
                opened.value = HiddenValue::Present(held.standing, content(held));
            }
            if recipient || (tag.is_some() && held.and_then(|h| h.mapping.tags.as_exact()) == tag) {
                hidden.push(opened);
            }
        }
        if !recipient {
            hidden.sort_by_key(|h| h.handle.0.map(|p| p.ordinal));
        }
        let place = (&kept.state.csi, kept.state.version);
        let tag_proofs = prove_tags(&self.vrf, place, &kept.composed.contents.hidden, &hidden, tag);
        Body {
            opening: kept.composed.opening,
            record: kept.composed.record.clone(),
            contents_salt: kept.composed.contents_salt,
            contents: kept.composed.contents.clone(),
            visible: List24::new(opened.collect()).unwrap(),
            hidden: List24::new(hidden).unwrap(),
            tag_proofs: List24::new(tag_proofs).unwrap(),
        }
    }

    pub fn providers_for(&self, body: Option<&Body>) -> Providers {
        let mappings = body.into_iter().flat_map(|b| {
            let hidden = b.hidden.iter().filter_map(|h| h.value.mapping());
            b.visible.iter().filter_map(|v| v.content.mapping()).chain(hidden)
        });
        let unserved = body.is_some_and(|b| b.visible.iter().any(|v| v.standing.status == SlotStatus::Unserved));
        let dp = domain("dp.example");
        let named = named_providers(mappings, body.map(|b| &b.contents.start), unserved.then_some(&dp));
        if named.is_empty() {
            return Providers::none();
        }
        let keys: Vec<Hash> = named.iter().map(|(domain, role)| leaf_place(*role, domain)).collect();
        let proof: PrefixProof = self.providers.tree().prove(&keys).unwrap().0;
        let leaves = named.iter().filter_map(|(domain, role)| self.providers.get(domain, *role).cloned()).collect();
        Providers { leaves: List24::new(leaves).unwrap(), proof }
    }

    pub fn at(&self, index: u64) -> Inclusion {
        Inclusion { index, path: List24::new(self.path(index)).unwrap() }
    }

    /// The head at an index.
    pub fn head_at(&self, index: u64) -> HeadAt {
        let Entry::Head(head) = Entry::decode(&self.entries[index as usize]).unwrap() else { panic!("not a head") };
        HeadAt { head, at: self.at(index) }
    }

    /// When a version was logged, proved by the first head behind it.
    pub fn logged(&self, version: u32) -> LoggedVersion {
        let kept = &self.versions[version as usize];
        let (vrf_proof, label) = prove_label(&self.vrf, &kept.state.csi, version);
        let commitment = kept.composed.commitment;
        let entry = Entry::Change(Change { label, commitment }).encode();
        let index = self.entries.iter().position(|e| *e == entry).unwrap() as u64;
        let is_head = |i: &u64| matches!(Entry::decode(&self.entries[*i as usize]), Ok(Entry::Head(_)));
        let head = (index..self.entries.len() as u64).find(is_head).unwrap();
        LoggedVersion { version, vrf_proof, commitment, change: self.at(index), head: self.head_at(head) }
    }

    pub fn opened(&self, version: u32) -> OpenedVersion {
        let composed = &self.versions[version as usize].composed;
        OpenedVersion { at: self.logged(version), opening: composed.opening, record: composed.record.clone() }
    }

    /// The honest proof of how the current tenure began.
    pub fn tenure_proof(&self) -> Option<TenureProof> {
        let state = &self.versions.last()?.state;
        let start = &state.start;
        if start.how == Beginning::First {
            return None;
        }
        let logged = self.logged(start.version);
        let recent = self.head.time < logged.head.head.time.plus_ms(PASSAGE_MS) && state.state != RecordState::Erased;
        let before = &self.versions[start.version as usize - 1];
        let passage = match start.how {
            _ if !recent => Passage::Past,
            Beginning::NewHolder => {
                let claim = before.state.state.claim().unwrap();
                let between = (claim.version + 1..start.version).map(|v| self.opened(v)).collect();
                let first = self.versions[start.version as usize].first;
                let (pending, before) = (self.opened(claim.version), self.head_at(first - 1));
                Passage::Hold(Hold { pending, between: List24::new(between).unwrap(), before })
            }
            Beginning::Release => {
                let kept = &self.versions[start.version as usize];
                Passage::Release(Released {
                    opening: kept.composed.opening,
                    record: kept.composed.record.clone(),
                    contents_salt: kept.composed.contents_salt,
                    contents: kept.composed.contents.clone(),
                    cause: kept.cause.clone(),
                    cause_salt: kept.composed.cause_salt,
                })
            }
            _ => Passage::Vacancy(self.opened(start.version - 1)),
        };
        let steps = List24::new(self.steps(&passage, start.version)).unwrap();
        Some(TenureProof { start: logged, passage, steps })
    }

    /// What exists of the ladders of the versions of a tenure's proof below them, and for a hold what exists of the ladder of the last
    /// version before `start` above that one; the proof's own versions left out.
    pub fn steps(&self, passage: &Passage, start: u32) -> Vec<LoggedStep> {
        let (since, hold) = match passage {
            Passage::Past | Passage::Release(_) => (start, false),
            Passage::Hold(hold) => (hold.pending.at.version, true),
            Passage::Vacancy(_) => (start - 1, false),
        };
        let own: Vec<u32> = (since..=start).collect();
        let on_ladder = |m: u32| own.iter().any(|v| m < *v && ladder::base(Some(*v)).contains(&m));
        let ahead = |m: u32| hold && m >= start && ladder::base(Some(start - 1)).contains(&m);
        let all = (0..self.versions.len() as u32).filter(|m| !own.contains(m) && (on_ladder(*m) || ahead(*m)));
        all.map(|m| self.step(m)).collect()
    }

    /// Where a version was logged.
    pub fn step(&self, version: u32) -> LoggedStep {
        let LoggedVersion { version, vrf_proof, commitment, change, .. } = self.logged(version);
        LoggedStep { version, vrf_proof, commitment, change }
    }

    /// The versions that the standings of a body name, proved.
    pub fn since(&self, body: &Body) -> Vec<LoggedVersion> {
        let visible = body.visible.iter().filter(|v| v.content.mapping().is_some()).map(|v| v.standing.since_version);
        waymark_mapping::verify::since_versions(visible).into_iter().map(|v| self.logged(v)).collect()
    }

    /// What shows that mappings and statements by retired keys were in the log before: the first version that had each of them.
    pub fn earlier(&self, body: &Body) -> Vec<Earlier> {
        let visible = body.visible.iter().map(|v| (v.content.mapping(), v.statement.0.as_ref()));
        let hidden = body.hidden.iter().map(|h| (h.value.mapping(), h.statement.0.as_ref()));
        let all: Vec<_> = visible.chain(hidden).collect();
        let stated = all.iter().filter_map(|(m, statement)| statement.map(|s| (s, *m)));
        let leaf = |domain: &Domain, role| self.providers.get(domain, role);
        let mappings = all.iter().filter_map(|(m, _)| *m);
        let needed = needed(mappings, stated, &domain("dp.example"), self.head.time, leaf);
        let with = |digest: &Hash| {
            let has = |k: &Kept| k.state.held.iter().any(|h| h.mapping.digest() == *digest);
            self.versions.iter().position(has).unwrap() as u32
        };
        let mut versions: Vec<u32> = needed.mappings.iter().map(with).chain(needed.statements.clone()).collect();
        versions.sort_unstable();
        versions.dedup();
        let open = |version: u32| {
            let mappings: Vec<Hash> = needed.mappings.iter().filter(|d| with(d) == version).copied().collect();
            self.earlier_version(version, &mappings, needed.statements.contains(&version))
        };
        versions.into_iter().map(open).collect()
    }

    /// An earlier version, opened to these mappings and to its cause.
    pub fn earlier_version(&self, version: u32, mappings: &[Hash], cause: bool) -> Earlier {
        let Kept { composed, state, .. } = &self.versions[version as usize];
        let visible = state.held.iter().filter(|h| !h.is_hidden()).zip(composed.visible.iter().copied());
        let hidden = state.held.iter().filter(|h| h.is_hidden()).map(|held| {
            let slot = composed.hidden.iter().find(|h| h.value.mapping() == Some(&held.mapping)).unwrap();
            (held, slot.salt)
        });
        let mut slots: Vec<SlotThen> = visible
            .chain(hidden)
            .map(|(held, salt)| SlotThen { mapping: held.mapping.digest(), standing: held.standing, salt })
            .filter(|slot| mappings.contains(&slot.mapping))
            .collect();
        slots.sort_by_key(|slot| slot.mapping);
        Earlier {
            at: self.logged(version),
            opening: composed.opening,
            record: composed.record.clone(),
            contents_salt: composed.contents_salt,
            contents: composed.contents.clone(),
            slots: List24::new(slots).unwrap(),
            cause_salt: Optional24(cause.then_some(composed.cause_salt)),
        }
    }

    /// An answer that claims `latest`, honest or not, for any body.
    pub fn answer_claiming(&self, csi: &Csi, latest: Option<u32>, body: Option<Body>) -> Answer {
        let versions = ladder::base(latest);
        let mut keys = vec![];
        let mut steps = vec![];
        for version in versions {
            let (vrf_proof, label) = prove_label(&self.vrf, csi, version);
            let held = self.map.get(&label.0);
            let commitment = held.filter(|_| latest.is_some_and(|n| version < n));
            keys.push(label.0);
            steps.push(LadderStep { vrf_proof, commitment });
        }
        Answer {
            format: Format,
            open: Opaque16::new(self.entries[0].clone()).unwrap(),
            config: Opaque16::new([]).unwrap(),
            head: self.head.clone(),
            head_path: List24::new(self.path(self.entries.len() as u64 - 1)).unwrap(),
            checkpoint: Opaque16::new(self.checkpoint()).unwrap(),
            version: latest.unwrap_or(0),
            ladder: List24::new(steps).unwrap(),
            map: self.map.prove(&keys).unwrap().0,
            providers: self.providers_for(body.as_ref()),
            full: Optional24(self.full(body.as_ref())),
            body: Optional24(body),
        }
    }

    fn full(&self, body: Option<&Body>) -> Option<Full> {
        let start = body.map(|b| b.contents.start.version)?;
        // Answers that claim an earlier version as the latest are of no use with a proof about a later tenure.
        let tenure = self.tenure_proof().filter(|p| p.start.version == start);
        let earlier = self.earlier(body?);
        if tenure.is_none() && earlier.is_empty() {
            return None;
        }
        let (open_path, since) = (List24::empty(), List24::empty());
        Some(Full { open_path, since, tenure: Optional24(tenure), earlier: List24::new(earlier).unwrap() })
    }

    /// The answer with the place of the open entry shown.
    pub fn with_open_path(&self, mut answer: Answer) -> Answer {
        let none = Full {
            open_path: List24::empty(),
            since: List24::empty(),
            tenure: Optional24(None),
            earlier: List24::empty(),
        };
        let full = answer.full.0.get_or_insert(none);
        full.open_path = List24::new(self.path(0)).unwrap();
        answer
    }

    /// The honest answer about the one CSI of this world, or about another that is absent.
    pub fn answer(&self, asked: &Csi, tag: Option<&Tag>) -> Answer {
        match self.versions.last().filter(|k| k.state.csi == *asked) {
            None => self.answer_claiming(asked, None, None),
            Some(kept) => self.answer_claiming(asked, Some(kept.state.version), Some(self.body(kept, tag, false))),
        }
    }

    /// What is shown of a version to an app that came with version `since`: all slots, but of hidden mappings of other apps from before
    /// that only standing and digest.
    pub fn body_since(&self, body: Body, version: u32, app: &str, since: u32) -> Body {
        let mut hidden = body.hidden.to_vec();
        for opened in &mut hidden {
            let HiddenValue::Present(standing, Content::Shown(mapping)) = &opened.value else { continue };
            if mapping.recipient == key_of(app) || since <= standing.since_version {
                continue;
            }
            opened.value = HiddenValue::Present(*standing, Content::Closed(mapping.digest()));
            (opened.handle, opened.consent, opened.statement) = (Optional24(None), Optional24(None), Optional24(None));
        }
        let mut tag_proofs = vec![];
        // The record before bears none.
        if !body.tag_proofs.is_empty() {
            tag_proofs = prove_tags(&self.vrf, (&csi(), version), &body.contents.hidden, &hidden, None);
        }
        Body { hidden: List24::new(hidden).unwrap(), tag_proofs: List24::new(tag_proofs).unwrap(), ..body }
    }

    /// The honest receipt for the latest version, for an app that came with version `since`.
    pub fn receipt_since(&self, app: &str, since: u32) -> Receipt {
        let receipt = self.receipt();
        let body = receipt.now.body.0.clone().unwrap();
        let version = receipt.now.version;
        let now = self.answer_claiming(&csi(), Some(version), Some(self.body_since(body, version, app, since)));
        let now = self.with_open_path(now);
        let previous = receipt.previous.0.clone().map(|body| self.body_since(body, version - 1, app, since));
        Receipt { now: self.with_open_path(now), previous: Optional24(previous), ..receipt }
    }

    /// The honest receipt for the latest version.
    pub fn receipt(&self) -> Receipt {
        let kept = self.versions.last().unwrap();
        let begins = kept.state.start.version == kept.state.version;
        let has_none = begins || kept.state.state == RecordState::Erased;
        let previous = self.versions.iter().rev().nth(1).filter(|_| !has_none).map(|k| self.bare_body(k));
        let now = self.answer_claiming(&kept.state.csi, Some(kept.state.version), Some(self.body(kept, None, true)));
        Receipt {
            now: self.with_open_path(now),
            cause: Optional24(Some(kept.cause.clone())),
            cause_salt: kept.composed.cause_salt,
            previous: Optional24(previous),
        }
    }
}

pub fn key_of(app: &str) -> Key {
    secret(app).public()
}
