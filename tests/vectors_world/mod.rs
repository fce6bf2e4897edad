//! Two small logs with constant keys and times, from which the frozen vectors are made.
//!
//! The first holds nothing but final structures: its commitments are to opaque values. The second goes on from the same
//! beginning with real records. Salts, openings and nonces are SHA-256 of a name, so that a vector depends on the format
//! alone and not on the order in which a program draws random bytes.

use waymark_log::{
    checkpoint::{Checkpoint, Origin, SignedCheckpoint},
    cosignature::Cosigner,
    hash::{Hash, leaf_hash},
    key::SecretKey,
    note::{KeyName, NoteSigner},
    proof::{inclusion, naive_root, node_from_leaves},
    time::{UnixMillis, UnixSeconds},
};
use waymark_mapping::{
    answer::{
        Answer, Body, Format, Inclusion, LadderStep, OpenedConsent, OpenedHidden, OpenedVisible, Providers, Receipt,
        TagProof,
    },
    commitment::{Opening, Salt, blind, commit},
    entry::{Change, Config, Entry, Head, Open, Provider, ProviderAction, ProviderRole},
    event::{Event, EventKind, EventTbs},
    identifier::Csi,
    label::{Handle, Label, prove_handle, prove_label},
    ladder,
    mapping::{Attestation, Consent, Mapping, Method, Purpose, Tags},
    names::{Account, Domain, Region, Tag},
    prefix::PrefixTree,
    provider::{ProviderDirectory, domain_key},
    record::{
        HIDDEN_SLOTS, HiddenSlot, HiddenSlots, HiddenValue, Record, RecordState, SlotStatus, Standing, TenureStart,
        VisibleSlot,
    },
    signed::{SignedStruct, UNSIGNED},
    verify::named_domains,
    vrf::VrfSecret,
    wire::{Flag, List16, Opaque8, Opaque16, Optional16, encode},
};

/// When the logs open, milliseconds: 2026-09-21T14:13:20Z.
pub const START_MS: u64 = 1_790_000_000_000;
/// The recipient of the vectors.
pub const ANN: &str = "tel:+4915112345642";
/// Another one.
pub const BEN: &str = "mailto:Ben.Smith+news@xn--bcher-kva.example";
/// Somebody whom no log knows.
pub const NOBODY: &str = "mailto:nobody@post.example";
/// The tag of the hidden mapping.
pub const TAG: &str = "soccer";

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The one source of keys, salts and nonces: SHA-256 of a name.
pub fn seed(name: &str) -> [u8; 32] {
    *Hash::sha256(&[b"waymark vectors ", name.as_bytes()]).as_bytes()
}

/// The Ed25519 key that grows from [`seed`].
pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(&seed(name))
}

fn half(name: &str) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = seed(name);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

pub fn salt(name: &str) -> Salt {
    Salt(seed(name))
}

pub fn opening(name: &str) -> Opening {
    Opening(half(name))
}

pub fn csi(text: &str) -> Csi {
    Csi::parse(text).unwrap()
}

pub fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub fn origin() -> Origin {
    Origin::new("dp.example/log").unwrap()
}

pub fn vrf() -> VrfSecret {
    VrfSecret::from_seed(&seed("vrf"))
}

pub fn log_signer() -> NoteSigner {
    NoteSigner::new(KeyName::new("dp.example/log").unwrap(), secret("log"))
}

pub fn witness(number: u64) -> Cosigner {
    let name = format!("w{number}.example");
    Cosigner::new(KeyName::new(&name).unwrap(), secret(&name))
}

/// Four witnesses, three of whom must have cosigned.
pub fn policy_text() -> String {
    let mut policy = format!("log {}\n", log_signer().vkey());
    for number in 1..=4 {
        policy += &format!("witness w{number} {}\n", witness(number).vkey());
    }
    policy + "group g 3 w1 w2 w3 w4\nquorum g\n"
}

pub fn trust_text() -> String {
    format!("policy = \"\"\"\n{}\"\"\"\nmax_age_s = 600\nskew_s = 30\n", policy_text())
}

/// What a filler of a batch would be if it were random.
fn filler(number: u64) -> Change {
    let draw = |what: &str| Hash::new(seed(&format!("filler {what} {number}")));
    Change { label: Label(draw("label")), commitment: draw("commitment") }
}

/// A log, grown batch by batch.
#[derive(Clone)]
pub struct World {
    pub entries: Vec<Vec<u8>>,
    pub heads: Vec<(u64, Head)>,
    pub providers: ProviderDirectory,
    pub map: PrefixTree,
    config: Vec<u8>,
    changes: u64,
    fillers: u64,
    now_ms: u64,
}

impl World {
    /// The open entry, a head, a batch with four providers, a head.
    pub fn new() -> Self {
        let open = Open {
            domain: domain("dp.example"),
            origin: (&origin()).into(),
            vrf: vrf().public(),
            interval_ms: 1000,
            policy: Hash::sha256(&[b"policy document\n"]),
            not_before: UnixMillis::new(START_MS),
            reserved: Opaque8::new([]).unwrap(),
        };
        let mut world = Self {
            entries: vec![Entry::Open(open).encode()],
            heads: vec![],
            providers: ProviderDirectory::new(),
            map: PrefixTree::new(),
            config: vec![],
            changes: 0,
            fillers: 0,
            now_ms: START_MS,
        };
        world.publish(vec![]);
        let first = [
            ("dp.example", ProviderRole::Prover, 0, false),
            ("chat.example", ProviderRole::Msp, 1, false),
            ("wire.example", ProviderRole::Msp, 1, true),
            ("numbers.example", ProviderRole::Csip, 2, false),
        ];
        let batch = first.map(|(name, role, class, publishes)| {
            let entry = world.provider(name, role, ProviderAction::Add, class, publishes, name, None);
            Entry::Provider(entry)
        });
        world.publish(batch.to_vec());
        world
    }

    /// A log of final structures only: every kind of entry, every kind of provider entry.
    pub fn of_final_structures() -> Self {
        let mut world = Self::new();
        let config = Config {
            interval_ms: 2000,
            policy: Hash::sha256(&[b"policy document, second edition\n"]),
            log_key: secret("log").public(),
            previous: Hash::sha256(&[&world.entries[0]]),
            sig: UNSIGNED,
        };
        let consent = world.consent("wire.example", &salt("opaque consent"), b"an opaque mapping");
        let (msp, rotate, add) = (ProviderRole::Msp, ProviderAction::Rotate, ProviderAction::Add);
        let rotation = world.provider("chat.example", msp, rotate, 1, false, "chat.example 2", Some("chat.example"));
        // Nobody at wire.example has signed this one: it waits for seven days...
        let pending = world.provider("wire.example", msp, add, 1, true, "wire.example 2", None);
        let (mut batch, config_entry) = (vec![], signed(config, "log"));
        world.config = Entry::Config(config_entry.clone()).encode();
        batch.push(Entry::Config(config_entry));
        batch.extend([Entry::Provider(rotation), Entry::Provider(pending), Entry::Consent(consent)]);
        world.publish(batch);
        // ...and is cancelled before.
        let retire = ProviderAction::Retire;
        let cancel = world.provider("wire.example", msp, retire, 1, true, "wire.example 2", Some("wire.example"));
        let (ann, ben) = (world.opaque_change(ANN, 0), world.opaque_change(BEN, 0));
        world.publish(vec![Entry::Provider(cancel), ann, ben]);
        let ann = world.opaque_change(ANN, 1);
        world.publish(vec![ann]);
        world
    }

    /// A change whose value is no record but a few bytes.
    fn opaque_change(&self, who: &str, version: u32) -> Entry {
        let csi = csi(who);
        let (opening, value) = opaque_value(version);
        let commitment = commit(&opening, &csi, version, &value);
        Entry::Change(Change { label: prove_label(&vrf(), &csi, version).1, commitment })
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one entry, named at each call")]
    fn provider(
        &self,
        name: &str,
        role: ProviderRole,
        action: ProviderAction,
        class: u8,
        publishes: bool,
        key: &str,
        by: Option<&str>,
    ) -> Provider {
        let domain = domain(name);
        let mut entry = Provider {
            role,
            action,
            previous_leaf: self.providers.previous_leaf(&domain),
            domain,
            class,
            publishes: Flag(publishes),
            key: secret(key).public(),
            by_key: UNSIGNED,
            by_valid: Opaque8::new([]).unwrap(),
        };
        if action != ProviderAction::Retire {
            entry.by_key = secret(key).sign(&entry.key_message(&origin()));
        }
        if let Some(by) = by {
            entry.by_valid = Opaque8::new(*secret(by).sign(&entry.valid_message(&origin())).as_bytes()).unwrap();
        }
        entry
    }

    pub fn consent(&self, msp: &str, salt: &Salt, mapping: &[u8]) -> Consent {
        let consent = Consent {
            msp: domain(msp),
            msp_key: secret(msp).public(),
            blinded: blind(salt, mapping),
            expiry: UnixMillis::new(START_MS + 90 * DAY_MS),
            sig: UNSIGNED,
        };
        signed(consent, msp)
    }

    /// Logs a batch in order and the head that closes it, one second later.
    pub fn publish(&mut self, batch: Vec<Entry>) {
        self.now_ms += 1000;
        let time = UnixMillis::new(self.now_ms);
        let mut entries = batch;
        let count = |entries: &[Entry]| entries.iter().filter(|e| matches!(e, Entry::Change(_))).count();
        while (1..16).contains(&count(&entries)) {
            self.fillers += 1;
            entries.push(Entry::Change(filler(self.fillers)));
        }
        entries.sort_by_key(Entry::encode);
        for entry in entries {
            match &entry {
                Entry::Provider(provider) => self.providers.apply(provider, &origin(), time).unwrap(),
                Entry::Change(change) => {
                    self.changes += 1;
                    self.map.insert(vec![(change.label.0, change.commitment)]).unwrap();
                }
                _ => {}
            }
            self.entries.push(entry.encode());
        }
        let digest = |bytes: &[u8]| if bytes.is_empty() { Hash::ZERO } else { Hash::sha256(&[bytes]) };
        let head = Head {
            time,
            changes: self.changes,
            map_root: self.map.root(),
            open: digest(&self.entries[0]),
            config: digest(&self.config),
            provider_root: self.providers.tree().root(),
        };
        self.heads.push((self.entries.len() as u64, head));
        self.entries.push(Entry::Head(head).encode());
    }

    pub fn leaves(&self) -> Vec<Hash> {
        self.entries.iter().map(|e| leaf_hash(e)).collect()
    }

    /// The path of an entry in the tree of the first `size`.
    pub fn path(&self, index: u64, size: u64) -> Vec<Hash> {
        let leaves = self.leaves();
        let plan = inclusion(index, size).unwrap();
        plan.build(&plan.nodes().map(|n| node_from_leaves(&leaves, n)).collect::<Vec<_>>()).unwrap()
    }

    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::new(origin(), self.size(), naive_root(&self.leaves()))
    }

    /// When the last head was made, in seconds.
    pub fn head_s(&self) -> u64 {
        self.now_ms / 1000
    }

    /// The checkpoint as the log and the first three witnesses signed it, one after the other.
    pub fn cosigned(&self) -> String {
        let checkpoint = self.checkpoint();
        let text = checkpoint.format();
        let cosign = |i: u64| witness(i + 1).cosign(&text, UnixSeconds::new(self.head_s() + i));
        SignedCheckpoint::sign(checkpoint, &log_signer()).to_note(&(0..3).map(cosign).collect::<Vec<_>>())
    }

    /// A moment at which the checkpoint is fresh.
    pub fn clock(&self) -> UnixMillis {
        UnixMillis::new(self.now_ms + 2500)
    }

    fn answer_with(&self, asked: &Csi, latest: Option<u32>, body: Option<Body>) -> Answer {
        let (mut keys, mut steps) = (vec![], vec![]);
        for version in ladder::base(latest) {
            let (vrf_proof, label) = prove_label(&vrf(), asked, version);
            let commitment = self.map.get(&label.0).filter(|_| latest.is_some_and(|n| version < n));
            keys.push(label.0);
            steps.push(LadderStep { vrf_proof, commitment });
        }
        let (_, head) = *self.heads.last().unwrap();
        Answer {
            format: Format,
            open: Opaque16::new(self.entries[0].clone()).unwrap(),
            config: Opaque16::new(self.config.clone()).unwrap(),
            head,
            head_path: List16::new(self.path(self.size() - 1, self.size())).unwrap(),
            checkpoint: Opaque16::new(self.cosigned()).unwrap(),
            version: latest.unwrap_or(0),
            ladder: List16::new(steps).unwrap(),
            map: self.map.prove(&keys).unwrap().0,
            providers: self.providers_of(body.as_ref()),
            body: Optional16(body),
            full: Opaque16::new([]).unwrap(),
        }
    }

    fn providers_of(&self, body: Option<&Body>) -> Providers {
        let visible = body.into_iter().flat_map(|b| b.visible.iter().map(|v| &v.mapping));
        let hidden = body.into_iter().flat_map(|b| b.hidden.iter()).filter_map(|h| match &h.value {
            HiddenValue::Present(_, mapping) => Some(&**mapping),
            HiddenValue::Empty => None,
        });
        let domains = named_domains(visible.chain(hidden));
        if domains.is_empty() {
            return Providers::none();
        }
        let keys: Vec<Hash> = domains.iter().map(domain_key).collect();
        let leaves = domains.iter().filter_map(|d| self.providers.get(d).cloned()).collect();
        Providers { leaves: List16::new(leaves).unwrap(), proof: self.providers.tree().prove(&keys).unwrap().0 }
    }

    /// The answer about somebody of whom no version exists.
    pub fn absent(&self, who: &str) -> Answer {
        self.answer_with(&csi(who), None, None)
    }
}

/// What the final log commits to in place of a record.
pub fn opaque_value(version: u32) -> (Opening, Vec<u8>) {
    (opening(&format!("opaque opening {version}")), format!("an opaque value, version {version}").into_bytes())
}

pub fn signed<T: SignedStruct>(mut unsigned: T, by: &str) -> T {
    unsigned.sign(&origin(), &secret(by));
    unsigned
}

/// One mapping of Ann's record, with the MSP's consent.
#[derive(Clone)]
pub struct Held {
    pub name: &'static str,
    pub mapping: Mapping,
    pub standing: Standing,
    pub consent: Consent,
}

/// One version of Ann's record.
#[derive(Clone)]
pub struct Version {
    pub record: Record,
    pub event: Event,
    pub added: Vec<Mapping>,
    pub held: Vec<Held>,
    pub commitment: Hash,
}

/// The second log: Ann issues one visible and one hidden mapping, then adds a visible one.
#[derive(Clone)]
pub struct Records {
    pub world: World,
    pub versions: Vec<Version>,
    /// The logs as they were after each version.
    pub logs: Vec<World>,
}

/// Where the hidden mapping lies among the eight slots.
pub const HIDDEN_AT: usize = 5;

impl Records {
    pub fn new() -> Self {
        let mut records = Self { world: World::new(), versions: vec![], logs: vec![] };
        let shown = |tags: &[&str]| Tags::shown(tags.iter().map(|t| Tag::parse(t).unwrap()).collect()).unwrap();
        let first = records.held("visible", "ann phone", "wire.example", shown(&["default"]));
        let hidden = records.held("hidden", "ann laptop", "chat.example", Tags::Exact(Tag::parse(TAG).unwrap()));
        records.issue(vec![first, hidden], &["ann phone", "ann laptop"]);
        let second = records.held("second visible", "ann phone", "chat.example", shown(&["business", "personal"]));
        records.issue(vec![second], &["ann phone"]);
        records
    }

    fn held(&self, name: &'static str, app: &str, msp: &str, tags: Tags) -> Held {
        let now = UnixMillis::new(self.world.now_ms);
        let attestation = Attestation {
            csi: csi(ANN),
            recipient: secret(app).public(),
            tenure: 0,
            purpose: Purpose::Control,
            method: Method::SMS,
            strength: 1,
            prover: domain("dp.example"),
            prover_key: secret("dp.example").public(),
            time: now,
            expiry: now.plus_ms(3_600_000),
            nonce: half(&format!("attestation {name}")),
            sig: UNSIGNED,
        };
        let mapping = Mapping {
            csi: csi(ANN),
            tenure: 0,
            recipient: secret(app).public(),
            msp: domain(msp).into(),
            account: Account::parse(&format!("mimi://{msp}/u/ann")).unwrap(),
            fingerprint: Opaque8::new(seed(&format!("fingerprint {name}"))).unwrap(),
            tags,
            not_before: now,
            not_after: now.plus_ms(100 * DAY_MS),
            region: Region::parse("EU").unwrap(),
            attestation: signed(attestation, "dp.example"),
            sig: UNSIGNED,
        };
        let mapping = signed(mapping, app);
        let consent = self.world.consent(msp, &salt(&format!("consent {name}")), &encode(&mapping));
        let version = self.versions.len() as u32;
        // Both keys of version 0 come together, and later ones are keys that stand already: nobody is new.
        let (status, newcomer, since) = (SlotStatus::Served, Flag(false), now.plus_ms(200));
        let standing = Standing { status, reason: 0, newcomer, since_version: version, since };
        Held { name, mapping, standing, consent }
    }

    fn issue(&mut self, new: Vec<Held>, apps: &[&str]) {
        let version = self.versions.len() as u32;
        let added: Vec<Mapping> = new.iter().map(|h| h.mapping.clone()).collect();
        let tbs = EventTbs {
            kind: EventKind::Issue,
            csi: csi(ANN),
            tenure: 0,
            version,
            previous: self.versions.last().map_or(Hash::ZERO, |v| v.commitment),
            added: List16::new(added.iter().map(Mapping::digest).collect()).unwrap(),
            removed: List16::empty(),
            reason: 0,
            time: UnixMillis::new(self.world.now_ms + 100),
            nonce: half(&format!("event {version}")),
        };
        let sign = |app: &&str| tbs.sign_as_recipient(&origin(), &secret(app), None);
        let authorities = List16::new(apps.iter().map(sign).collect()).unwrap();
        let event = Event { tbs, authorities };
        let logged: Vec<Consent> = new.iter().filter(|h| is_logged(h)).map(|h| h.consent.clone()).collect();
        let mut held = self.versions.last().map_or(vec![], |v| v.held.clone());
        held.extend(new);
        held.sort_by_key(|h| h.mapping.tags.as_exact().is_some());
        let record = record(version, &held, &event);
        let commitment = commit(&record_opening(version), &csi(ANN), version, &encode(&record));
        let label = prove_label(&vrf(), &csi(ANN), version).1;
        let mut batch = vec![Entry::Change(Change { label, commitment })];
        batch.extend(logged.into_iter().map(Entry::Consent));
        self.world.publish(batch);
        self.versions.push(Version { record, event, added, held, commitment });
        self.logs.push(self.world.clone());
    }

    /// The body of a version, as it is shown at the time of the log of version `at`.
    fn body(&self, version: usize, at: usize, shows: Shows) -> Body {
        let of = &self.versions[version];
        let number = of.record.version;
        let consent = |h: &Held| Optional16((shows != Shows::Before).then(|| opened_consent(h, &self.logs[at])));
        let visible = of.held.iter().filter(|h| h.mapping.tags.as_exact().is_none());
        let visible = (0u8..).zip(visible).map(|(slot, h)| OpenedVisible {
            slot,
            salt: visible_salt(number, h),
            mapping: h.mapping.clone(),
            consent: consent(h),
            statement: Optional16(None),
        });
        let secret_one = of.held.iter().find(|h| h.mapping.tags.as_exact().is_some());
        let mut hidden = vec![];
        for slot in 0..HIDDEN_SLOTS {
            let is_it = slot == HIDDEN_AT;
            let opens = match shows {
                Shows::Visible => false,
                Shows::Tag => is_it,
                Shows::All | Shows::Before => true,
            };
            if opens {
                let (vrf_proof, _) = handle(number, 0);
                hidden.push(OpenedHidden {
                    slot: slot as u8,
                    salt: hidden_salt(number, slot),
                    value: hidden_value(slot, &of.held),
                    handle: Optional16(is_it.then_some(TagProof { ordinal: 0, vrf_proof })),
                    consent: Optional16(secret_one.filter(|_| is_it).and_then(|h| consent(h).0)),
                });
            }
        }
        let tag_end = (shows == Shows::Tag).then(|| TagProof { ordinal: 1, vrf_proof: handle(number, 1).0 });
        Body {
            opening: record_opening(number),
            record: of.record.clone(),
            visible: List16::new(visible.collect()).unwrap(),
            hidden: List16::new(hidden).unwrap(),
            tag_end: Optional16(tag_end),
        }
    }

    /// The answer about Ann right after a version.
    pub fn answer(&self, version: usize, shows: Shows) -> Answer {
        let body = self.body(version, version, shows);
        self.logs[version].answer_with(&csi(ANN), Some(version as u32), Some(body))
    }

    /// The receipt for a version, whole.
    pub fn receipt(&self, version: usize) -> Receipt {
        let of = &self.versions[version];
        Receipt {
            now: self.answer(version, Shows::All),
            event: Optional16(Some(of.event.clone())),
            event_salt: event_salt(of.record.version),
            previous: Optional16(version.checked_sub(1).map(|v| self.body(v, version, Shows::Before))),
        }
    }
}

/// Which hidden slots a body opens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// None: a look-up without a tag.
    Visible,
    /// That of the tag.
    Tag,
    /// All, for the recipient.
    All,
    /// All, for the recipient, without consents: the version before.
    Before,
}

/// wire.example publishes its consents, to visible mappings only.
fn is_logged(held: &Held) -> bool {
    held.consent.msp == domain("wire.example") && held.mapping.tags.as_exact().is_none()
}

fn opened_consent(held: &Held, log: &World) -> OpenedConsent {
    let bytes = Entry::Consent(held.consent.clone()).encode();
    let index = log.entries.iter().position(|e| *e == bytes).map(|i| i as u64);
    let inclusion = |index| Inclusion { index, path: List16::new(log.path(index, log.size())).unwrap() };
    OpenedConsent {
        consent: held.consent.clone(),
        salt: salt(&format!("consent {}", held.name)),
        logged: Optional16(index.map(inclusion)),
    }
}

pub fn record_opening(version: u32) -> Opening {
    opening(&format!("record {version}"))
}

pub fn event_salt(version: u32) -> Salt {
    salt(&format!("event salt {version}"))
}

pub fn visible_salt(version: u32, held: &Held) -> Salt {
    salt(&format!("visible {version} {}", held.name))
}

pub fn hidden_salt(version: u32, slot: usize) -> Salt {
    salt(&format!("hidden {version} {slot}"))
}

pub fn hidden_value(slot: usize, held: &[Held]) -> HiddenValue {
    let hidden = held.iter().find(|h| h.mapping.tags.as_exact().is_some() && slot == HIDDEN_AT);
    hidden.map_or(HiddenValue::Empty, |h| HiddenValue::Present(h.standing, Box::new(h.mapping.clone())))
}

pub fn handle(version: u32, ordinal: u8) -> (waymark_mapping::vrf::VrfProof, Handle) {
    prove_handle(&vrf(), &csi(ANN), version, &Tag::parse(TAG).unwrap(), ordinal)
}

fn record(version: u32, held: &[Held], event: &Event) -> Record {
    let visible = held
        .iter()
        .filter(|h| h.mapping.tags.as_exact().is_none())
        .map(|h| VisibleSlot { standing: h.standing, digest: blind(&visible_salt(version, h), &encode(&h.mapping)) });
    let hidden: Vec<HiddenSlot> = (0..HIDDEN_SLOTS)
        .map(|slot| {
            let random = Hash::new(seed(&format!("handle {version} {slot}")));
            let [a, b, c, d, e, f, g, h, ..] = *random.as_bytes();
            let handle = if slot == HIDDEN_AT { handle(version, 0).1 } else { Handle([a, b, c, d, e, f, g, h]) };
            HiddenSlot { handle, digest: blind(&hidden_salt(version, slot), &encode(&hidden_value(slot, held))) }
        })
        .collect();
    let time = held[0].standing.since;
    Record {
        csi: csi(ANN),
        version,
        tenure: 0,
        start: TenureStart { version: 0, time, how: 1, prover: domain("dp.example").into(), strength: 1 },
        state: RecordState::Normal,
        visible: List16::new(visible.collect()).unwrap(),
        hidden: HiddenSlots(hidden.try_into().unwrap()),
        recipient_only: blind(&event_salt(version), &encode(event)),
    }
}
