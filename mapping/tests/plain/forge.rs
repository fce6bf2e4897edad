//! From the model's words to signed structures, and from the state that the rules lead to back to the model's words.

use std::collections::HashMap;

use waymark_log::{checkpoint::Origin, hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    event::{ANY_VERSION, Authority, AuthorityRole, Event, EventTbs},
    identifier::Csi,
    mapping::{Attestation, Mapping, Method, Purpose, Tags},
    names::{Account, Domain, MaybeDomain, Region, Tag},
    record::{Beginning, Claim, Ground, RecordState, SlotStatus, Standing, TenureStart},
    rules as real,
    signed::{SignedStruct, UNSIGNED},
    wire::{Format, List24, Opaque8},
};

use super::{rules as plain, wishes::APPS};
use plain::{Ask, Previous, Prover, Signer, Who};

/// The MSPs of the model, by number; the last one is not in the log.
pub const MSPS: [&str; 3] = ["quiet.example", "loud.example", "nowhere.example"];
/// The CSIP.
pub const CSIP: &str = "csip.example";
/// The prover that the policy document may call stricter.
pub const STRICT: &str = "strict.example";
/// The prover that is not believed about the CSIs of the model.
pub const ELSEWHERE: &str = "elsewhere.example";
const HIDDEN: [&str; 3] = ["soccer", "choir", "work"];

pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::sha256(&[name.as_bytes()]).as_bytes())
}

pub fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

pub fn hidden_tag(number: u8) -> Tag {
    Tag::parse(HIDDEN[usize::from(number) % HIDDEN.len()]).unwrap()
}

/// Signs for everybody around one CSI.
pub struct Forge {
    pub origin: Origin,
    pub csi: Csi,
    /// Nothing ever stands there.
    elsewhere: Csi,
    apps: Vec<SecretKey>,
    msps: Vec<SecretKey>,
    csip: SecretKey,
    /// The DP's key as a prover.
    dp: SecretKey,
    strict: SecretKey,
    /// Of the prover that is not believed.
    elsewheres: SecretKey,
    nobody: SecretKey,
    /// Makes what is forged.
    forger: SecretKey,
    made: HashMap<plain::Mapping, Mapping>,
    attested: HashMap<plain::Proof, Attestation>,
}

impl Forge {
    pub fn new(origin: Origin, csi: Csi, dp: SecretKey) -> Self {
        let elsewhere = Csi::parse("tel:+4900000001").unwrap();
        Self {
            apps: (0..APPS).map(|number| secret(&format!("{} {number}", csi.expose()))).collect(),
            msps: MSPS.map(secret).to_vec(),
            csip: secret(CSIP),
            dp,
            strict: secret(STRICT),
            elsewheres: secret(ELSEWHERE),
            nobody: secret("nobody"),
            forger: secret("forger"),
            origin,
            csi,
            elsewhere,
            made: HashMap::new(),
            attested: HashMap::new(),
        }
    }

    pub fn secret(&self, who: Who) -> &SecretKey {
        match who {
            Who::App(number) => &self.apps[usize::from(number)],
            Who::Msp(number) => &self.msps[usize::from(number)],
            Who::Csip => &self.csip,
            Who::Dp => &self.dp,
            Who::Nobody => &self.nobody,
        }
    }

    fn csi(&self, elsewhere: bool) -> Csi {
        if elsewhere { self.elsewhere.clone() } else { self.csi.clone() }
    }

    pub fn attestation(&mut self, p: &plain::Proof) -> Attestation {
        if let Some(made) = self.attested.get(p) {
            return made.clone();
        }
        let (prover, secret) = match p.by {
            Prover::Dp => ("dp.example", &self.dp),
            Prover::Strict => (STRICT, &self.strict),
            Prover::Elsewhere => (ELSEWHERE, &self.elsewheres),
            Prover::Nobody => ("prover.example", &self.nobody),
        };
        let mut made = Attestation {
            format: Format,
            csi: self.csi(p.elsewhere),
            recipient: self.secret(p.key).public(),
            tenure: p.tenure,
            purpose: if p.control { Purpose::Control } else { Purpose::View },
            method: Method::CONSOLE,
            prover: domain(prover),
            prover_key: secret.public(),
            time: UnixMillis::new(p.time),
            expiry: UnixMillis::new(p.expiry),
            nonce: nonce(p.serial),
            sig: UNSIGNED,
        };
        made.sign(&self.origin, if p.forged { &self.forger } else { secret });
        self.attested.insert(p.clone(), made.clone());
        made
    }

    pub fn mapping(&mut self, m: &plain::Mapping) -> Mapping {
        if let Some(made) = self.made.get(m) {
            return made.clone();
        }
        let attestation = self.attestation(&m.proof);
        let msp = m.msp.map(|msp| MSPS[usize::from(msp)]);
        let account = match m.words {
            0 => Account::NONE,
            words => Account::parse(&format!("mimi://x.example/u/{words}")).unwrap(),
        };
        let mut made = Mapping {
            format: Format,
            csi: self.csi(m.elsewhere),
            tenure: m.tenure,
            recipient: self.secret(m.key).public(),
            msp: msp.map_or(MaybeDomain::NONE, |msp| domain(msp).into()),
            account,
            fingerprint: Opaque8::new([]).unwrap(),
            tags: m.hidden.map_or_else(|| Tags::shown(vec![]).unwrap(), |tag| Tags::Exact(hidden_tag(tag))),
            not_before: UnixMillis::new(m.from),
            not_after: UnixMillis::new(m.until),
            region: Region::ANY,
            attestation,
            sig: UNSIGNED,
        };
        made.sign(&self.origin, if m.forged { &self.forger } else { self.secret(m.key) });
        self.made.insert(m.clone(), made.clone());
        made
    }

    pub fn digest(&mut self, m: &plain::Mapping) -> Hash {
        self.mapping(m).digest()
    }

    /// The event that asks for it, over the commitment of what stands.
    pub fn event(&mut self, ask: &Ask, current: Hash) -> Event {
        let previous = match ask.previous {
            Previous::Current => current,
            Previous::Zero => Hash::ZERO,
            Previous::Other => Hash::sha256(&[b"other"]),
        };
        let tbs = EventTbs {
            format: Format,
            kind: ask.kind,
            csi: self.csi(ask.elsewhere),
            tenure: ask.tenure,
            version: ask.version.unwrap_or(ANY_VERSION),
            previous,
            added: List24::new(ask.added.iter().map(|m| self.digest(m)).collect()).unwrap(),
            removed: List24::new(ask.removed.iter().map(|m| self.digest(m)).collect()).unwrap(),
            reason: ask.reason,
            time: UnixMillis::new(ask.time),
            nonce: nonce(ask.serial),
        };
        let authorities: Vec<Authority> = ask.signers.iter().map(|s| self.authority(&tbs, s)).collect();
        Event { tbs, authorities: List24::new(authorities).unwrap() }
    }

    fn authority(&mut self, tbs: &EventTbs, signer: &Signer) -> Authority {
        let possession = signer.proof.as_ref().map(|p| self.attestation(p));
        let key = self.secret(signer.who);
        let by = if signer.forged { &self.forger } else { key };
        // Only recipients show possession.
        let signed = match signer.role {
            AuthorityRole::Recipient => tbs.sign_as_recipient(&self.origin, by, possession),
            role => tbs.sign_as(role, &self.origin, by),
        };
        Authority { key: key.public(), ..signed }
    }

    pub fn sent(&mut self, ask: &Ask) -> Vec<Mapping> {
        ask.sent.iter().map(|m| self.mapping(m)).collect()
    }

    /// How a state differs from what the model says, if it does.
    ///
    /// Of hidden mappings no order is expected: a record's slots have none.
    pub fn difference(&mut self, expected: &plain::State, found: &real::State) -> Option<String> {
        match self.words(expected, found) {
            Ok(found) if self.in_order(&found) == self.in_order(expected) => None,
            Ok(found) => Some(format!("the model expects\n{expected:#?}\nand finds\n{found:#?}")),
            Err(what) => Some(what.to_owned()),
        }
    }

    fn in_order(&mut self, state: &plain::State) -> plain::State {
        let mut state = state.clone();
        let shown = state.held.iter().take_while(|h| h.mapping.hidden.is_none()).count();
        state.held[shown..].sort_by_key(|h| (h.mapping.hidden.is_some(), self.digest(&h.mapping)));
        state
    }

    /// What the rules led to, in the model's words. Mappings are told by their digests among those that are expected.
    fn words(&mut self, expected: &plain::State, found: &real::State) -> Result<plain::State, &'static str> {
        let known: HashMap<Hash, plain::Mapping> =
            expected.held.iter().map(|h| (self.digest(&h.mapping), h.mapping.clone())).collect();
        let mut held = vec![];
        for h in &found.held {
            let mapping = known.get(&h.mapping.digest()).ok_or("a mapping stands that should not")?;
            held.push(words_of(&h.standing, mapping.clone()));
        }
        // What is closed to a reader is told by its digest.
        for slot in &found.closed {
            let mapping = known.get(&slot.mapping).filter(|m| m.hidden.is_some());
            held.push(words_of(&slot.standing, mapping.ok_or("something closed stands that should not")?.clone()));
        }
        if found.state.is_empty() != held.is_empty() {
            return Err("the state does not say whether anything stands");
        }
        Ok(plain::State {
            version: found.version,
            time: found.time.get(),
            tenure: found.tenure,
            start: start_of(&found.start),
            claim: found.state.claim().map(|c| self.claim_of(c)),
            erased: found.state == RecordState::Erased,
            held,
            there: expected.there.clone(),
        })
    }

    /// What the rules led to, in the model's words, of mappings that are known; nothing is told of which keys were there.
    pub fn told(&mut self, found: &real::State, known: &[plain::Mapping]) -> Option<plain::State> {
        let held = |mapping: &plain::Mapping| plain::Held {
            mapping: mapping.clone(),
            newcomer: false,
            since: 0,
            since_version: 0,
            status: plain::Status::Served,
            stated_version: 0,
        };
        let expected = plain::State {
            version: 0,
            time: 0,
            tenure: 0,
            start: start_of(&found.start),
            claim: None,
            erased: false,
            held: known.iter().map(held).collect(),
            there: Default::default(),
        };
        self.words(&expected, found).ok()
    }

    fn claim_of(&self, claim: &Claim) -> plain::Claim {
        let whose = (0..APPS).map(Who::App).find(|who| self.secret(*who).public() == claim.key);
        plain::Claim {
            key: whose.unwrap_or(Who::Nobody),
            version: claim.version,
            time: claim.time.get(),
            until: claim.until.get(),
            hold: claim.ground.hold_ms(),
            on_stricter: claim.ground == Ground::Stricter,
            objected: claim.objected.0,
        }
    }
}

fn start_of(start: &TenureStart) -> plain::Start {
    plain::Start {
        version: start.version,
        time: start.time.get(),
        how: match start.how {
            Beginning::First => plain::How::First,
            Beginning::NewHolder => plain::How::NewHolder,
            Beginning::Release => plain::How::Release,
            Beginning::Vacancy => plain::How::Vacancy,
        },
        on_strict: start.how != Beginning::Release && start.domain == domain(STRICT).into(),
    }
}

fn words_of(standing: &Standing, mapping: plain::Mapping) -> plain::Held {
    plain::Held {
        mapping,
        newcomer: standing.newcomer.0,
        since: standing.since.get(),
        since_version: standing.since_version,
        status: match standing.status {
            SlotStatus::Served => plain::Status::Served,
            SlotStatus::Detached => plain::Status::Detached(standing.reason),
            SlotStatus::Unserved => plain::Status::Unserved(standing.reason),
        },
        stated_version: standing.stated_version,
    }
}

fn nonce(serial: u32) -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[..4].copy_from_slice(&serial.to_be_bytes());
    nonce
}
