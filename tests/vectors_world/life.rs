//! What may happen to Ann's number, each story in a log of its own that begins with the same two versions.
//!
//! The rules of the crate say which state follows; records, bodies and proofs of the past are put together here from their
//! definitions, with salts that have names. Times are constants: a hold of fourteen days is a jump.

use waymark_log::{hash::Hash, time::UnixMillis};
use waymark_mapping::{
    answer::{
        Answer, Body, Content, Full, HiddenValue, OpenedConsent, OpenedHidden, OpenedVisible, Past, Pasts, Receipt,
        TagProof,
    },
    commitment::{Opening, Salt, blind, commit},
    entry::{Change, Entry},
    event::{ANY_VERSION, Authority, AuthorityRole, Cause, Event, EventKind, EventTbs},
    label::{Handle, prove_handle, prove_label},
    mapping::{Attestation, Consent, Mapping, Method, Purpose, Tags},
    names::{Account, MaybeDomain, Region, Tag},
    record::{
        Beginning, Contents, HIDDEN_SLOTS, HOLD_MS, HiddenSlot, HiddenSlots, Record, RecordState, SHORT_HOLD_MS,
        SlotStatus, hidden_bytes,
    },
    rules::{self, Held, Known, Proposal, State},
    signed::UNSIGNED,
    tenure::{Hold, LoggedStep, LoggedVersion, OpenedVersion, PASSAGE_MS, Passage, Released, TenureProof},
    verify::since_versions,
    vrf::VrfProof,
    wire::{Format, List24, Opaque8, Optional24, encode},
};

use super::{ANN, DAY_MS, TAG, World, csi, domain, half, opening, origin, salt, secret, seed, signed, slots_of, vrf};

pub mod disputed;
pub mod wrong;

/// A prover that the policy document calls stricter.
const STRICT: &str = "strict.example";
/// Where the first and the second hidden mapping lie among the eight slots.
pub const HIDDEN_AT: [usize; 2] = [5, 2];

/// One version of the number's record.
#[derive(Clone)]
pub struct Version {
    pub state: State,
    pub cause: Cause,
    pub added: Vec<Mapping>,
    pub contents: Contents,
    pub record: Record,
    pub commitment: Hash,
    /// When it was made, the log as it was right after.
    pub log: World,
}

/// A story: the log, the versions, what MSPs and the DP have said.
#[derive(Clone)]
pub struct Life {
    pub world: World,
    pub versions: Vec<Version>,
    consents: Vec<Consented>,
    statements: Vec<(Hash, Event)>,
}

/// An MSP's consent, and the name of its salt.
#[derive(Clone)]
pub struct Consented {
    pub name: String,
    pub mapping: Mapping,
    pub consent: Consent,
}

impl Consented {
    pub fn salt(&self) -> Salt {
        salt(&format!("consent {}", self.name))
    }
}

/// Which hidden slots a body opens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// None: a look-up without a tag.
    Visible,
    /// Those of the tag.
    Tag,
    /// All, for the recipient.
    All,
    /// Those of this app, which is new.
    Own(&'static str),
}

/// A mapping to be made: whose, where, found how.
#[derive(Clone)]
pub struct Wish {
    name: &'static str,
    app: &'static str,
    msp: &'static str,
    tags: Tags,
    prover: &'static str,
    /// The name of the key that attests: the prover's first one, unless said otherwise.
    key: &'static str,
    /// How far ahead of the log's clock the prover's is.
    ahead_ms: u64,
}

fn shown(name: &'static str, app: &'static str, msp: &'static str, tags: &[&str]) -> Wish {
    let tags = Tags::shown(tags.iter().map(|t| Tag::parse(t).unwrap()).collect()).unwrap();
    Wish { name, app, msp, tags, ..at_the_dp() }
}

fn hidden(name: &'static str, app: &'static str, msp: &'static str) -> Wish {
    Wish { name, app, msp, tags: Tags::Exact(Tag::parse(TAG).unwrap()), ..at_the_dp() }
}

/// Nobody's mapping, attested by the DP itself.
fn at_the_dp() -> Wish {
    let tags = Tags::shown(vec![]).unwrap();
    Wish { name: "", app: "", msp: "", tags, prover: "dp.example", key: "dp.example", ahead_ms: 0 }
}

// The stories.

impl Life {
    /// Ann's phone issues a visible mapping, her laptop a hidden one.
    pub fn first() -> Self {
        let mut life = Self { world: World::new(), versions: vec![], consents: vec![], statements: vec![] };
        let wishes = [
            shown("visible", "ann phone", "wire.example", &["default"]),
            hidden("hidden", "ann laptop", "chat.example"),
        ];
        life.add(EventKind::Issue, &wishes, &[], &["ann phone", "ann laptop"]);
        life
    }

    /// Both issue another one; the hidden ones bear the same tag.
    pub fn ann() -> Self {
        let mut life = Self::first();
        let wishes = [
            shown("second visible", "ann phone", "chat.example", &["business", "personal"]),
            hidden("second hidden", "ann laptop", "wire.example"),
        ];
        life.add(EventKind::Issue, &wishes, &[], &["ann phone", "ann laptop"]);
        life
    }

    pub fn replaced() -> Self {
        let mut life = Self::ann();
        let removed = life.digests("ann phone")[1..].to_vec();
        let wish = shown("third visible", "ann phone", "chat.example", &["business"]);
        life.add(EventKind::Replace, &[wish], &removed, &["ann phone"]);
        life
    }

    pub fn withdrawn() -> Self {
        let mut life = Self::ann();
        let removed = life.digests("ann phone")[1..].to_vec();
        life.add(EventKind::Withdraw, &[], &removed, &["ann phone"]);
        life
    }

    pub fn opted_out() -> Self {
        let mut life = Self::ann();
        let removed = life.all_digests();
        let wish = shown("opt-out", "ann phone", "", &[]);
        life.add(EventKind::OptOut, &[wish], &removed, &["ann phone", "ann laptop"]);
        life
    }

    /// The laptop's key gives way to another.
    pub fn rotated() -> Self {
        let mut life = Self::ann();
        let removed = life.digests("ann laptop");
        let wishes = [
            hidden("hidden, new key", "ann laptop 2", "chat.example"),
            hidden("second hidden, new key", "ann laptop 2", "wire.example"),
        ];
        life.add(EventKind::RotateKey, &wishes, &removed, &["ann laptop", "ann laptop 2"]);
        life
    }

    /// The phone is lost; its token was prepared before version 1 was made.
    pub fn compromised() -> Self {
        let token = Self::first().token("ann phone");
        let mut life = Self::ann();
        life.make(token, vec![], Known::default());
        life
    }

    /// Nothing stands, and nothing of what stood can be opened any more.
    pub fn erased() -> Self {
        let mut life = Self::ann();
        let removed = life.all_digests();
        life.add(EventKind::Erase, &[], &removed, &["ann phone", "ann laptop"]);
        life
    }

    /// Carol, who has the number now, or says so, adds a mapping.
    pub fn newcomer() -> Self {
        let mut life = Self::ann();
        let wish = shown("newcomer", "carol phone", "chat.example", &[]);
        life.add(EventKind::Issue, &[wish], &[], &["carol phone"]);
        life
    }

    /// Carol claims the number, with a proof by this prover. The policy document calls one of them stricter.
    pub fn claimed(prover: &'static str) -> Self {
        let mut life = Self::ann();
        let tbs = life.tbs(EventKind::NewHolderPending, &[], &[]);
        let proof = life.attestation("claim", "carol phone", 1, prover);
        life.make(signed_by(tbs, "carol phone", Some(proof)), vec![], Known::default());
        life
    }

    /// Ann's phone objects, without showing possession.
    pub fn objected() -> Self {
        let mut life = Self::claimed("dp.example");
        life.world.wait(DAY_MS);
        let tbs = life.tbs(EventKind::Objection, &[], &[]);
        life.make(signed_by(tbs, "ann phone", None), vec![], Known::default());
        life
    }

    /// Carol takes up her claim after its hold, which an objection has made twice as long.
    pub fn taken_up() -> Self {
        let mut life = Self::objected();
        life.world.wait(2 * HOLD_MS);
        life.take_up("dp.example");
        life
    }

    /// Carol takes up a claim on a stricter proof, to which nobody objected.
    pub fn taken_up_soon() -> Self {
        let mut life = Self::claimed(STRICT);
        life.world.wait(SHORT_HOLD_MS);
        life.take_up(STRICT);
        life
    }

    fn take_up(&mut self, prover: &'static str) {
        let wish = Wish { prover, key: prover, ..shown("new holder", "carol phone", "chat.example", &["default"]) };
        self.add(EventKind::NewHolder, &[wish], &[], &["carol phone"]);
    }

    /// A DP that lets Carol in after a day, though the claim that it logged says fourteen.
    pub fn hold_skipped() -> Self {
        let mut life = Self::claimed("dp.example");
        life.world.wait(DAY_MS);
        let now = life.now();
        if let RecordState::Contested(claim) = &mut life.versions.last_mut().unwrap().state.state {
            claim.until = now;
        }
        life.take_up("dp.example");
        life
    }

    /// The operator takes the number back.
    pub fn released() -> Self {
        let mut life = Self::ann();
        let event = life.statement(EventKind::Release, AuthorityRole::Csip, "numbers.example", None, 0);
        let csip = domain("numbers.example");
        life.make(event, vec![], Known { csip: Some(&csip), ..Known::default() });
        life
    }

    /// And Carol begins.
    pub fn after_release() -> Self {
        let mut life = Self::released();
        let wish = shown("after the release", "carol phone", "chat.example", &["default"]);
        life.add(EventKind::Issue, &[wish], &[], &["carol phone"]);
        life
    }

    /// Ann withdraws everything, and nothing stands.
    pub fn vacant() -> Self {
        let mut life = Self::ann();
        let removed = life.all_digests();
        life.add(EventKind::Withdraw, &[], &removed, &["ann phone", "ann laptop"]);
        life
    }

    /// And Carol begins.
    pub fn after_vacancy() -> Self {
        let mut life = Self::vacant();
        let wish = shown("after the vacancy", "carol phone", "chat.example", &["default"]);
        life.add(EventKind::Issue, &[wish], &[], &["carol phone"]);
        life
    }

    /// wire.example says that it does not serve the first visible mapping any more.
    pub fn detached() -> Self {
        let mut life = Self::ann();
        let named = life.digests("ann phone")[0];
        let event = life.statement(EventKind::MspDetach, AuthorityRole::Msp, "wire.example", Some(named), 1);
        life.make(event, vec![], Known::default());
        life
    }

    /// The DP withholds the first mapping of an app.
    pub fn withheld(app: &str) -> Self {
        let mut life = Self::ann();
        let named = life.digests(app)[0];
        let event = life.statement(EventKind::DpUnserve, AuthorityRole::Dp, "dp.example", Some(named), 2);
        life.make(event, vec![], Known::default());
        life
    }
}

// How a change is made.

impl Life {
    pub fn last(&self) -> &Version {
        self.versions.last().unwrap()
    }

    pub fn now(&self) -> UnixMillis {
        UnixMillis::new(self.world.now_ms)
    }

    pub fn consents(&self) -> &[Consented] {
        &self.consents
    }

    fn all_digests(&self) -> Vec<Hash> {
        self.last().state.digests()
    }

    fn digests(&self, app: &str) -> Vec<Hash> {
        let by = |h: &&Held| h.mapping.recipient == secret(app).public();
        self.last().state.held.iter().filter(by).map(|h| h.mapping.digest()).collect()
    }

    fn attestation(&self, name: &str, app: &str, tenure: u32, prover: &str) -> Attestation {
        signed(self.unsigned_attestation(name, app, tenure, prover), prover)
    }

    fn unsigned_attestation(&self, name: &str, app: &str, tenure: u32, prover: &str) -> Attestation {
        Attestation {
            format: Format,
            csi: csi(ANN),
            recipient: secret(app).public(),
            tenure,
            purpose: Purpose::Control,
            method: Method::SMS,
            prover: domain(prover),
            prover_key: secret(prover).public(),
            time: self.now(),
            expiry: self.now().plus_ms(3_600_000),
            nonce: half(&format!("attestation {name}")),
            sig: UNSIGNED,
        }
    }

    fn mapping(&self, wish: &Wish, tenure: u32) -> Mapping {
        let (msp, fingerprint, account) = if wish.msp.is_empty() {
            (MaybeDomain::NONE, Opaque8::new([]), Account::NONE)
        } else {
            let account = Account::parse(&format!("mimi://{}/u/ann", wish.msp)).unwrap();
            (domain(wish.msp).into(), Opaque8::new(seed(&format!("fingerprint {}", wish.name))), account)
        };
        let attestation = Attestation {
            prover_key: secret(wish.key).public(),
            time: self.now().plus_ms(wish.ahead_ms),
            ..self.unsigned_attestation(wish.name, wish.app, tenure, wish.prover)
        };
        let mapping = Mapping {
            format: Format,
            csi: csi(ANN),
            tenure,
            recipient: secret(wish.app).public(),
            msp,
            account,
            fingerprint: fingerprint.unwrap(),
            tags: wish.tags.clone(),
            not_before: self.now(),
            not_after: self.now().plus_ms(100 * DAY_MS).floor_day(),
            region: Region::parse("EU").unwrap(),
            attestation: signed(attestation, wish.key),
            sig: UNSIGNED,
        };
        signed(mapping, wish.app)
    }

    fn tbs(&self, kind: EventKind, added: &[Hash], removed: &[Hash]) -> EventTbs {
        let version = self.versions.len() as u32;
        EventTbs {
            format: Format,
            kind,
            csi: csi(ANN),
            tenure: self.versions.last().map_or(0, |v| v.state.tenure),
            version,
            previous: self.versions.last().map_or(Hash::ZERO, |v| v.commitment),
            added: List24::new(added.to_vec()).unwrap(),
            removed: List24::new(removed.to_vec()).unwrap(),
            reason: 0,
            time: self.now().plus_ms(100),
            nonce: half(&format!("event {kind:?} {version}")),
        }
    }

    /// What recipients ask for, signed by their apps, with their MSPs' consents.
    fn add(&mut self, kind: EventKind, wishes: &[Wish], removed: &[Hash], apps: &[&str]) {
        let state = self.versions.last().map(|v| &v.state);
        let tenure = match (kind, state) {
            (EventKind::NewHolder, Some(state)) => state.tenure + 1,
            (_, state) => state.map_or(0, State::tenure_of_next_mapping),
        };
        let added: Vec<Mapping> = wishes.iter().map(|w| self.mapping(w, tenure)).collect();
        for (wish, mapping) in wishes.iter().zip(&added).filter(|(_, m)| !m.is_opt_out()) {
            let (name, mapping) = (wish.name.to_owned(), mapping.clone());
            let consent = self.world.consent(wish.msp, &salt(&format!("consent {name}")), &encode(&mapping));
            self.consents.push(Consented { name, mapping, consent });
        }
        let tbs = self.tbs(kind, &added.iter().map(Mapping::digest).collect::<Vec<_>>(), removed);
        let sign = |app: &&str| tbs.sign_as_recipient(&origin(), &secret(app), None);
        let authorities = List24::new(apps.iter().map(sign).collect()).unwrap();
        self.make(Event { tbs, authorities }, added, Known::default());
    }

    /// A revocation prepared in advance.
    pub fn token(&self, app: &str) -> Event {
        let mut tbs = self.tbs(EventKind::KeyCompromise, &[], &[]);
        (tbs.version, tbs.previous) = (ANY_VERSION, Hash::ZERO);
        signed_by(tbs, app, None)
    }

    fn statement(&self, kind: EventKind, role: AuthorityRole, by: &str, named: Option<Hash>, reason: u8) -> Event {
        let mut tbs = self.tbs(kind, &[], named.as_slice());
        tbs.reason = reason;
        let authority = tbs.sign_as(role, &origin(), &secret(by));
        Event { tbs, authorities: List24::new(vec![authority]).unwrap() }
    }

    /// Makes a change that the rules allow, 200 ms after the last head.
    fn make(&mut self, event: Event, added: Vec<Mapping>, known: Known<'_>) {
        let before = self.versions.last().map(|v| (&v.state, v.commitment));
        let (origin, now, stricter) = (origin(), self.now().plus_ms(200), [domain(STRICT)]);
        let known = Known { stricter: &stricter, ..known };
        let state = rules::apply(before, Proposal { event: &event, added: &added, origin: &origin, now, known });
        self.log(state.unwrap(), event, added);
    }

    /// Logs the version that a change leads to.
    fn log(&mut self, state: State, event: Event, added: Vec<Mapping>) {
        if let (EventKind::MspDetach | EventKind::DpUnserve, [named]) = (event.tbs.kind, &event.tbs.removed[..]) {
            self.statements.push((*named, event.clone()));
        }
        let cause = Cause { previous: self.versions.last().map_or(Hash::ZERO, |v| v.commitment), event };
        let contents = contents(&state, &cause);
        self.log_as(state, cause, added, contents);
    }

    /// Logs a version with these contents, whatever they say.
    fn log_as(&mut self, state: State, cause: Cause, added: Vec<Mapping>, contents: Contents) {
        let sealed = blind(&contents_salt(state.version), &encode(&contents));
        let record =
            Record { format: Format, time: state.time, tenure: state.tenure, state: state.state, contents: sealed };
        let commitment = commit(&record_opening(state.version), &csi(ANN), state.version, &encode(&record));
        let label = prove_label(&vrf(), &csi(ANN), state.version).1;
        let mut batch = vec![Entry::Change(Change { label, commitment })];
        // wire.example publishes its consents, to visible mappings only.
        let is_logged = |c: &&Consented| c.consent.msp == domain("wire.example") && c.mapping.tags.as_exact().is_none();
        let new = self.consents.iter().filter(|c| added.contains(&c.mapping)).filter(is_logged);
        batch.extend(new.map(|c| Entry::Consent(c.consent.clone())));
        self.world.publish(batch);
        let log = self.world.clone();
        self.versions.push(Version { state, cause, added, contents, record, commitment, log });
    }
}

fn signed_by(tbs: EventTbs, app: &str, possession: Option<Attestation>) -> Event {
    let authority: Authority = tbs.sign_as_recipient(&origin(), &secret(app), possession);
    Event { tbs, authorities: List24::new(vec![authority]).unwrap() }
}

// What opens a record.

pub fn record_opening(version: u32) -> Opening {
    opening(&format!("record {version}"))
}

pub fn contents_salt(version: u32) -> Salt {
    salt(&format!("contents {version}"))
}

pub fn cause_salt(version: u32) -> Salt {
    salt(&format!("cause {version}"))
}

pub fn visible_salt(version: u32, index: usize) -> Salt {
    salt(&format!("visible {version} {index}"))
}

pub fn hidden_salt(version: u32, slot: usize) -> Salt {
    salt(&format!("hidden {version} {slot}"))
}

pub fn handle(version: u32, ordinal: u8) -> (VrfProof, Handle) {
    prove_handle(&vrf(), &csi(ANN), version, &Tag::parse(TAG).unwrap(), ordinal)
}

/// The hidden mappings by slot: all of them bear the same tag, and their ordinals are their order.
pub fn hidden_at(state: &State, slot: usize) -> Option<(u8, &Held)> {
    let ordinal = HIDDEN_AT.iter().position(|at| *at == slot)?;
    state.held.iter().filter(|h| h.is_hidden()).nth(ordinal).map(|held| (ordinal as u8, held))
}

fn contents(state: &State, cause: &Cause) -> Contents {
    let version = state.version;
    let visible = state.held.iter().filter(|h| !h.is_hidden()).enumerate();
    let visible = visible.map(|(i, h)| blind(&visible_salt(version, i), &encode(&h.slot())));
    let slot = |slot: usize| {
        let held = hidden_at(state, slot);
        let [a, b, c, d, e, f, g, h, ..] = seed(&format!("handle {version} {slot}"));
        let random = Handle([a, b, c, d, e, f, g, h]);
        let bytes = hidden_bytes(held.map(|(_, h)| h.slot()).as_ref());
        HiddenSlot {
            handle: held.map_or(random, |(ordinal, _)| handle(version, ordinal).1),
            digest: blind(&hidden_salt(version, slot), &bytes),
        }
    };
    Contents {
        format: Format,
        start: state.start.clone(),
        visible: List24::new(visible.collect()).unwrap(),
        hidden: HiddenSlots(std::array::from_fn::<_, HIDDEN_SLOTS, _>(slot)),
        cause: blind(&cause_salt(version), &encode(cause)),
    }
}

// What is shown.

impl Life {
    /// The body of a version, as it is shown now.
    fn body(&self, version: &Version, shows: Shows) -> Body {
        let (state, number) = (&version.state, version.state.version);
        let content = |held: &Held| match (held.standing.status, shows) {
            (SlotStatus::Unserved, Shows::Visible | Shows::Tag) => Content::Closed(held.mapping.digest()),
            _ => Content::Shown(Box::new(held.mapping.clone())),
        };
        let visible = state.held.iter().filter(|h| !h.is_hidden()).enumerate().map(|(i, held)| OpenedVisible {
            salt: visible_salt(number, i),
            standing: held.standing,
            content: content(held),
            consent: self.opened_consent(&content(held)),
            statement: self.statement_about(held),
        });
        let mut hidden = vec![];
        for slot in 0..HIDDEN_SLOTS {
            let held = hidden_at(state, slot);
            let opens = match shows {
                Shows::Visible => false,
                Shows::Tag => held.is_some(),
                Shows::Own(app) => held.is_some_and(|(_, h)| h.mapping.recipient == secret(app).public()),
                Shows::All => true,
            };
            if opens {
                hidden.push(self.opened_hidden(number, slot, held, content));
            }
        }
        // All hidden mappings of this life have the one tag.
        let shown: Vec<u8> = hidden.iter().filter_map(|h| h.handle.0.map(|proof| proof.ordinal)).collect();
        let end = (0..HIDDEN_SLOTS).filter_map(|slot| hidden_at(state, slot)).count() as u8;
        let asked = shows == Shows::Tag || !shown.is_empty();
        let proofs = (0..=end).filter(|n| asked && !shown.contains(n));
        let tag_proofs = proofs.map(|ordinal| TagProof { ordinal, vrf_proof: handle(number, ordinal).0 }).collect();
        if shows == Shows::Tag {
            hidden.sort_by_key(|h| h.handle.0.map(|proof| proof.ordinal));
        }
        Body {
            opening: record_opening(number),
            record: version.record.clone(),
            contents_salt: contents_salt(number),
            contents: version.contents.clone(),
            visible: List24::new(visible.collect()).unwrap(),
            hidden: List24::new(hidden).unwrap(),
            tag_proofs: List24::new(tag_proofs).unwrap(),
        }
    }

    fn opened_hidden(
        &self,
        version: u32,
        slot: usize,
        held: Option<(u8, &Held)>,
        content: impl Fn(&Held) -> Content,
    ) -> OpenedHidden {
        let proof = |ordinal| TagProof { ordinal, vrf_proof: handle(version, ordinal).0 };
        OpenedHidden {
            slot: slot as u8,
            salt: hidden_salt(version, slot),
            value: held.map_or(HiddenValue::Empty, |(_, h)| HiddenValue::Present(h.standing, content(h))),
            handle: Optional24(held.map(|(ordinal, _)| proof(ordinal))),
            consent: held.map_or(Optional24(None), |(_, h)| self.opened_consent(&content(h))),
            statement: held.map_or(Optional24(None), |(_, h)| self.statement_about(h)),
        }
    }

    fn opened_consent(&self, content: &Content) -> Optional24<OpenedConsent> {
        let found = self.consents.iter().find(|c| content.mapping() == Some(&c.mapping));
        Optional24(found.map(|c| {
            let logged = self.world.find(&Entry::Consent(c.consent.clone())).map(|index| self.world.at(index));
            OpenedConsent { consent: c.consent.clone(), salt: c.salt(), logged: Optional24(logged) }
        }))
    }

    fn statement_about(&self, held: &Held) -> Optional24<Event> {
        let named = |(digest, _): &&(Hash, Event)| *digest == held.mapping.digest();
        Optional24(self.statements.iter().find(named).map(|(_, event)| event.clone()))
    }

    /// The body of a version of the past: what others say of it is left out.
    fn bare_body(&self, version: &Version, shows: Shows) -> Body {
        let body = Self { consents: vec![], statements: vec![], ..self.clone() }.body(version, shows);
        Body { tag_proofs: List24::empty(), ..body }
    }

    pub fn answer(&self, shows: Shows) -> Answer {
        self.answer_with(shows, self.full(false))
    }

    pub fn answer_with(&self, shows: Shows, full: Option<Full>) -> Answer {
        let version = self.last();
        self.world.answer_with(&csi(ANN), Some(version.state.version), Some(self.body(version, shows)), full)
    }

    /// A receipt always shows the open entry's place.
    fn full_of_receipt(&self) -> Full {
        let tenure = Optional24(self.tenure_proof());
        Full { open_path: self.world.at(0).path, since: List24::empty(), tenure, earlier: List24::empty() }
    }

    /// How the tenure began if it is not the first; and, for `all`, the open entry's place and when the versions that stand were logged.
    pub fn full(&self, all: bool) -> Option<Full> {
        let tenure = self.tenure_proof();
        let body = self.body(self.last(), Shows::Visible);
        let versions = since_versions(slots_of(&body).into_iter().map(|(standing, _)| standing.since_version));
        let since: Vec<_> = versions.into_iter().filter(|_| all).map(|v| self.logged(v)).collect();
        let needed = tenure.is_some() || all;
        let open_path = if all { self.world.at(0).path } else { List24::empty() };
        needed.then(|| Full {
            open_path,
            since: List24::new(since).unwrap(),
            tenure: Optional24(tenure),
            earlier: List24::empty(),
        })
    }

    fn change(&self, version: u32) -> u64 {
        let label = prove_label(&vrf(), &csi(ANN), version).1;
        let commitment = self.versions[version as usize].commitment;
        self.world.find(&Entry::Change(Change { label, commitment })).unwrap()
    }

    pub fn logged(&self, version: u32) -> LoggedVersion {
        let (vrf_proof, _) = prove_label(&vrf(), &csi(ANN), version);
        let (index, commitment) = (self.change(version), self.versions[version as usize].commitment);
        let (change, head) = (self.world.at(index), self.world.head_after(index));
        LoggedVersion { version, vrf_proof, commitment, change, head }
    }

    pub fn opened(&self, version: u32) -> OpenedVersion {
        let record = self.versions[version as usize].record.clone();
        OpenedVersion { at: self.logged(version), opening: record_opening(version), record }
    }

    fn tenure_proof(&self) -> Option<TenureProof> {
        let start = &self.last().state.start;
        let last = start.version.checked_sub(1).filter(|_| start.how != Beginning::First)?;
        let logged = self.logged(start.version);
        let recent = self.now() < logged.head.head.time.plus_ms(PASSAGE_MS);
        let passage = match start.how {
            _ if !recent => Passage::Past,
            Beginning::NewHolder => {
                let claim = self.versions[last as usize].state.state.claim().unwrap();
                Passage::Hold(Hold {
                    pending: self.opened(claim.version),
                    between: List24::new((claim.version + 1..=last).map(|v| self.opened(v)).collect()).unwrap(),
                    before: self.world.head_before(logged.change.index),
                })
            }
            Beginning::Release => {
                let began = &self.versions[start.version as usize];
                Passage::Release(Released {
                    opening: record_opening(start.version),
                    record: began.record.clone(),
                    contents_salt: contents_salt(start.version),
                    contents: began.contents.clone(),
                    cause: began.cause.clone(),
                    cause_salt: cause_salt(start.version),
                })
            }
            _ => Passage::Vacancy(self.opened(last)),
        };
        Some(self.with_steps(logged, passage))
    }

    /// The proof with the steps that it needs.
    pub fn with_steps(&self, start: LoggedVersion, passage: Passage) -> TenureProof {
        let proof = TenureProof { start, passage, steps: List24::empty() };
        let step = |version| {
            let LoggedVersion { version, vrf_proof, commitment, change, .. } = self.logged(version);
            LoggedStep { version, vrf_proof, commitment, change }
        };
        let steps = proof.steps_needed(self.last().state.version).into_iter().map(step).collect();
        TenureProof { steps: List24::new(steps).unwrap(), ..proof }
    }

    /// The receipt for the latest version.
    pub fn receipt(&self, shows: Shows) -> Receipt {
        let version = self.last();
        Receipt {
            now: self.answer_with(shows, Some(self.full_of_receipt())),
            cause: Optional24(Some(version.cause.clone())),
            cause_salt: cause_salt(version.state.version),
            previous: Optional24(self.previous(version.state.version, shows)),
        }
    }

    /// The record before, unless the version begins its tenure or is erased.
    fn previous(&self, version: u32, shows: Shows) -> Option<Body> {
        let state = &self.versions[version as usize].state;
        let has_none = state.start.version == version || state.state == RecordState::Erased;
        let before = version.checked_sub(1).filter(|_| !has_none)?;
        Some(self.bare_body(&self.versions[before as usize], shows))
    }

    /// The page of history from the latest version down to the tenure's beginning.
    pub fn history(&self) -> Pasts {
        let (begun, latest) = (self.last().state.start.version, self.last().state.version);
        let step = |version: u32| Past {
            cause: self.versions[version as usize].cause.clone(),
            cause_salt: cause_salt(version),
            previous: Optional24(self.previous(version, Shows::All)),
        };
        Pasts { steps: List24::new((begun..=latest).rev().map(step).collect()).unwrap() }
    }
}
