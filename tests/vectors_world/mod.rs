//! Small logs with constant keys and times, from which the frozen vectors are made.
//!
//! The first knows no records: its commitments are to opaque values. The others go on from the same beginning with what may
//! happen to Ann's number ([`life`]). Salts, openings and nonces are SHA-256 of a name, so that a vector depends on the format
//! alone and not on the order in which a program draws random bytes.

pub mod life;

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
    answer::{Answer, Body, Content, Full, HeadAt, HiddenValue, Inclusion, LadderStep, Providers},
    commitment::{Opening, Salt, blind, commit},
    entry::{Change, Config, Entry, Head, Open, Provider, ProviderAction, ProviderRole},
    identifier::Csi,
    label::{Label, prove_label},
    ladder,
    mapping::{Consent, Mapping},
    names::Domain,
    prefix::PrefixTree,
    provider::{ProviderDirectory, leaf_place},
    record::{SlotStatus, Standing},
    signed::{SignedStruct, UNSIGNED},
    verify::named_providers,
    vrf::VrfSecret,
    wire::{Extensions, Flag, Format, List24, Opaque16, Optional24},
};

/// When the logs open, milliseconds: 2026-09-21T14:13:20Z.
pub const START_MS: u64 = 1_790_000_000_000;
/// The recipient of the vectors.
pub const ANN: &str = "tel:+4915112345642";
/// Another one.
pub const BEN: &str = "mailto:Ben.Smith+news@xn--bcher-kva.example";
/// Somebody whom no log knows.
pub const NOBODY: &str = "mailto:nobody@post.example";
/// The tag of the hidden mappings.
pub const TAG: &str = "soccer";

pub const DAY_MS: u64 = 24 * 3600 * 1000;

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
    pub now_ms: u64,
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
            extensions: Extensions::NONE,
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
            ("dp.example", ProviderRole::PROVER, 0, false),
            ("strict.example", ProviderRole::PROVER, 2, false),
            ("chat.example", ProviderRole::MSP, 1, false),
            ("wire.example", ProviderRole::MSP, 1, true),
            ("numbers.example", ProviderRole::CSIP, 2, false),
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
            extensions: Extensions::NONE,
            interval_ms: 2000,
            policy: Hash::sha256(&[b"policy document, second edition\n"]),
            log_key: secret("log").public(),
            previous: Hash::sha256(&[&world.entries[0]]),
            sig: UNSIGNED,
        };
        let consent = world.consent("wire.example", &salt("opaque consent"), b"an opaque mapping");
        let (msp, rotate, add) = (ProviderRole::MSP, ProviderAction::Rotate, ProviderAction::Add);
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
    pub fn opaque_change(&self, who: &str, version: u32) -> Entry {
        let csi = csi(who);
        let (opening, value) = opaque_value(version);
        let commitment = commit(&opening, &csi, version, &value);
        Entry::Change(Change { label: prove_label(&vrf(), &csi, version).1, commitment })
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one entry, named at each call")]
    pub fn provider(
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
            previous_leaf: self.providers.previous_leaf(&domain, role),
            domain,
            class,
            publishes: Flag(publishes),
            key: secret(key).public().into(),
            by_key: Optional24(None),
            by_valid: Optional24(None),
        };
        if action != ProviderAction::Retire {
            entry.sign_by_key(&origin(), &secret(key));
        }
        if let Some(by) = by {
            entry.sign_by_valid(&origin(), &secret(by));
        }
        entry
    }

    pub fn consent(&self, msp: &str, salt: &Salt, mapping: &[u8]) -> Consent {
        let consent = Consent {
            format: Format,
            msp: domain(msp),
            msp_key: secret(msp).public(),
            blinded: blind(salt, mapping),
            expiry: Consent::expiry_of(UnixMillis::new(START_MS)),
            sig: UNSIGNED,
        };
        signed(consent, msp)
    }

    /// Logs a provider entry that a DP would not log, and a head that says what follows from it: nothing, if it is refused.
    pub fn publish_unjudged(&mut self, entry: Provider) {
        let time = UnixMillis::new(self.now_ms + 1000);
        // Refused or not: a monitor says.
        let _ = self.providers.follow(&entry, &origin(), time);
        self.entries.push(Entry::Provider(entry).encode());
        self.publish(vec![]);
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
            extensions: Extensions::NONE,
            time,
            changes: self.changes,
            map_root: self.map.root(),
            open: digest(&self.entries[0]),
            config: digest(&self.config),
            provider_root: self.providers.tree().root(),
        };
        self.heads.push((self.entries.len() as u64, head.clone()));
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

    /// Where an entry is, in the tree as it is.
    fn at(&self, index: u64) -> Inclusion {
        Inclusion { index, path: List24::new(self.path(index, self.size())).unwrap() }
    }

    /// Where an entry is, if it is there.
    fn find(&self, entry: &Entry) -> Option<u64> {
        let bytes = entry.encode();
        self.entries.iter().position(|e| *e == bytes).map(|i| i as u64)
    }

    fn head_at(&self, (index, head): (u64, Head)) -> HeadAt {
        HeadAt { head, at: self.at(index) }
    }

    /// The last head in front of an entry.
    fn head_before(&self, index: u64) -> HeadAt {
        self.head_at(self.heads.iter().rfind(|(i, _)| *i < index).unwrap().clone())
    }

    /// The first head behind an entry.
    fn head_after(&self, index: u64) -> HeadAt {
        self.head_at(self.heads.iter().find(|(i, _)| *i > index).unwrap().clone())
    }

    /// Lets time pass; a head closes it.
    pub fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.publish(vec![]);
    }

    fn answer_with(&self, asked: &Csi, latest: Option<u32>, body: Option<Body>, full: Option<Full>) -> Answer {
        let (mut keys, mut steps) = (vec![], vec![]);
        for version in ladder::base(latest) {
            let (vrf_proof, label) = prove_label(&vrf(), asked, version);
            let commitment = self.map.get(&label.0).filter(|_| latest.is_some_and(|n| version < n));
            keys.push(label.0);
            steps.push(LadderStep { vrf_proof, commitment });
        }
        let (_, head) = self.heads.last().unwrap().clone();
        Answer {
            format: Format,
            open: Opaque16::new(self.entries[0].clone()).unwrap(),
            config: Opaque16::new(self.config.clone()).unwrap(),
            head,
            head_path: List24::new(self.path(self.size() - 1, self.size())).unwrap(),
            checkpoint: Opaque16::new(self.cosigned()).unwrap(),
            version: latest.unwrap_or(0),
            ladder: List24::new(steps).unwrap(),
            map: self.map.prove(&keys).unwrap().0,
            providers: self.providers_of(body.as_ref()),
            body: Optional24(body),
            full: Optional24(full),
        }
    }

    fn providers_of(&self, body: Option<&Body>) -> Providers {
        let slots: Vec<(&Standing, &Content)> = body.map(slots_of).unwrap_or_default();
        let mappings: Vec<&Mapping> = slots.iter().filter_map(|(_, content)| content.mapping()).collect();
        let withheld = slots.iter().any(|(standing, _)| standing.status == SlotStatus::Unserved);
        let dp = domain("dp.example");
        let start = body.map(|b| &b.contents.start);
        let named = named_providers(mappings.into_iter(), start, withheld.then_some(&dp));
        if named.is_empty() {
            return Providers::none();
        }
        let keys: Vec<Hash> = named.iter().map(|(domain, role)| leaf_place(*role, domain)).collect();
        let leaves = named.iter().filter_map(|(domain, role)| self.providers.get(domain, *role).cloned()).collect();
        Providers { leaves: List24::new(leaves).unwrap(), proof: self.providers.tree().prove(&keys).unwrap().0 }
    }

    /// The answer about somebody of whom no version exists.
    pub fn absent(&self, who: &str) -> Answer {
        self.answer_with(&csi(who), None, None, None)
    }
}

/// What a body accounts for, visible slots first.
fn slots_of(body: &Body) -> Vec<(&Standing, &Content)> {
    let hidden = body.hidden.iter().filter_map(|h| match &h.value {
        HiddenValue::Present(standing, content) => Some((standing, content)),
        HiddenValue::Empty => None,
    });
    body.visible.iter().map(|v| (&v.standing, &v.content)).chain(hidden).collect()
}

/// What the final log commits to in place of a record.
pub fn opaque_value(version: u32) -> (Opening, Vec<u8>) {
    (opening(&format!("opaque opening {version}")), format!("an opaque value, version {version}").into_bytes())
}

pub fn signed<T: SignedStruct>(mut unsigned: T, by: &str) -> T {
    unsigned.sign(&origin(), &secret(by));
    unsigned
}
