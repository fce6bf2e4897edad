//! What people, providers and clocks do, at random: a life that is the same for the same seed.

use std::sync::Arc;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use waymark::{
    api::{ChangeRequest, OfferedConsent},
    authorise::{Bench, Judged, TrustedCsip, TrustedProver, authorise},
    policy::change,
    sequencer::{
        batch::{PendingChange, Promise},
        pool::Place,
        rests::RestsOn,
        writer::Writer,
    },
};
use waymark_log::{hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    commitment::{Salt, blind},
    entry::{Provider, ProviderAction, ProviderRole},
    event::{ANY_VERSION, AuthorityRole, Event, EventKind, EventTbs},
    identifier::Csi,
    mapping::{Attestation, Consent, MAPPING_LIFETIME_MS_MAX, Mapping, Method, Purpose, Tags},
    names::{Account, Domain, MaybeDomain, Region, Tag},
    record::{NEW_MS, TAKE_UP_MS},
    rules::{Held, State},
    signed::{SignedStruct, UNSIGNED},
    wire::{Flag, Format, List24, Opaque8, Optional24, encode},
};

use super::{
    disk::How,
    dp::{Waits, World, origin},
};
use crate::common::{csi, domain, key, shown};

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;
/// By how much the DP's clock is off at most: senders allow 30 s.
const OFF_MS_MAX: u64 = 25 * SECOND;
const PEOPLE: usize = 5;
const APPS: usize = 3;
const DP: &str = "dp.example";
const PROVER: &str = "prover.example";
const CSIP: &str = "csip.example";
const MSPS: [&str; 3] = ["quiet.example", "loud.example", "wire.example"];

/// A provider and all keys that it has ever made.
struct Party {
    name: &'static str,
    role: ProviderRole,
    publishes: bool,
    keys: Vec<SecretKey>,
}

pub struct Life {
    dice: ChaCha8Rng,
    pub world: World,
    parties: Vec<Party>,
    people: Vec<Csi>,
    /// Times by the DP's clock at which something ends or begins.
    edges: Vec<u64>,
    serial: u64,
}

/// A change that is to be asked for.
struct Wish {
    kind: EventKind,
    added: Vec<Mapping>,
    removed: Vec<Hash>,
    signers: Vec<(SecretKey, Option<Attestation>)>,
    role: AuthorityRole,
    reason: u8,
}

impl Wish {
    fn of(kind: EventKind, signers: Vec<(SecretKey, Option<Attestation>)>) -> Self {
        Self { kind, added: vec![], removed: vec![], signers, role: AuthorityRole::Recipient, reason: 0 }
    }
}

fn app(who: &Csi, i: usize) -> SecretKey {
    key(&format!("{}/{i}", who.expose()))
}

fn tags(i: usize) -> Tag {
    Tag::parse(["family", "work", "club"][i % 3]).unwrap()
}

impl Life {
    pub fn new(seed: u64) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let world = World::new(1_800_000_000_000 + dice.next_u64() % (300 * DAY), &mut dice);
        let party = |name: &'static str, role, publishes| Party { name, role, publishes, keys: vec![key(name)] };
        let parties = vec![
            party(DP, ProviderRole::PROVER, false),
            party(PROVER, ProviderRole::PROVER, false),
            party(MSPS[0], ProviderRole::MSP, false),
            party(MSPS[1], ProviderRole::MSP, true),
            party(MSPS[2], ProviderRole::MSP, true),
            party(CSIP, ProviderRole::CSIP, false),
        ];
        let people = (0..PEOPLE).map(|i| csi(&format!("tel:+49151123456{i:02}"))).collect();
        let mut life = Self { dice, world, parties, people, edges: vec![], serial: 0 };
        life.world.start(None);
        life.settle();
        for i in 0..life.parties.len() {
            life.provider_entry(i, ProviderAction::Add, None);
        }
        life.settle();
        life
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.dice.next_u64() % bound
    }

    fn pick(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    fn percent(&mut self, of: u64) -> bool {
        self.below(100) < of
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.dice.fill_bytes(&mut bytes);
        bytes
    }

    /// Something happens, and some time passes.
    pub fn step(&mut self) {
        if self.world.running.is_none() {
            let killed = if self.percent(20) { Some(self.how()) } else { None };
            self.world.start(killed);
        }
        match self.below(100) {
            0..42 => self.somebody(),
            42..47 => self.some_provider(),
            47..48 => self.config(),
            48..51 => {
                let i = self.pick(3);
                let there = self.percent(70);
                self.world.witnesses[i].is_there = there;
            }
            51..55 => self.world.offset_ms = self.below(2 * OFF_MS_MAX) as i64 - OFF_MS_MAX as i64,
            55..58 => self.world.purge(),
            58..61 => {
                let (after, how) = (self.below(7) as u32, self.how());
                self.world.fuse.arm(after, how);
            }
            61..62 => self.world.kill(),
            _ => self.turn(),
        }
        self.pass();
    }

    fn how(&mut self) -> How {
        [How::NotWritten, How::HalfWritten, How::Written][self.pick(3)]
    }

    fn turn(&mut self) {
        self.world.turn(&mut self.dice);
        // What is signed is published at once, unless the power goes, a witness is away, or somebody is faster.
        if self.percent(80) {
            self.world_passes(1, 100);
            self.world.publish_signed();
        }
        self.learn_edges();
    }

    /// Mostly little, sometimes much, and often just to where something ends.
    fn pass(&mut self) {
        match self.below(100) {
            0..76 => self.world_passes(20, 2 * SECOND),
            76..82 => self.world_passes(2 * SECOND, 70 * SECOND),
            82..95 => self.jump_to_an_edge(),
            95..98 => self.world_passes(HOUR, 100 * HOUR),
            98..99 => self.world_passes(DAY, 20 * DAY),
            _ => {
                let month = self.world.now().month_after(1);
                self.jump_to(month.get());
            }
        }
    }

    fn world_passes(&mut self, from: u64, to: u64) {
        let ms = from + self.below(to - from);
        self.world.pass(ms);
    }

    /// To some milliseconds before or after a time of the DP's clock, if it is still to come.
    fn jump_to(&mut self, edge: u64) {
        let (now, off) = (self.world.now().get(), self.below(120));
        let at = (edge + off).saturating_sub(100);
        self.world.pass(at.saturating_sub(now).max(1));
    }

    fn jump_to_an_edge(&mut self) {
        let now = self.world.now().get();
        self.edges.retain(|e| *e > now);
        if !self.edges.is_empty() {
            let i = self.pick(self.edges.len());
            let edge = self.edges[i];
            // The near ones mostly: far ones end everything that is nearer.
            if edge - now < HOUR || self.percent(20) {
                self.jump_to(edge);
            }
        }
    }

    fn learn_edges(&mut self) {
        let Some(running) = &self.world.running else { return };
        let keys = running.writer.state.audited.providers().leaves().flat_map(|l| l.keys.iter());
        let times: Vec<u64> = keys.flat_map(|k| [k.due.get(), k.retired.get()]).collect();
        let now = self.world.now().get();
        self.edges.extend(times.into_iter().filter(|t| *t > now));
        self.edges.sort_unstable();
        self.edges.dedup();
        self.edges.truncate(64);
    }

    /// The party's secrets that are valid by what is published, or all of them.
    fn valid_key(&mut self, party: usize) -> Option<SecretKey> {
        let any = self.percent(5);
        let snapshot = self.world.running.as_ref()?.answering.published.snapshot()?;
        let (party, now) = (&self.parties[party], self.world.now());
        let who = domain(party.name);
        let good = |k: &&SecretKey| any || snapshot.providers.is_valid(&who, party.role, &k.public(), now);
        let good: Vec<SecretKey> = party.keys.iter().filter(good).map(again).collect();
        let i = if good.is_empty() { return None } else { self.pick(good.len()) };
        Some(again(&good[i]))
    }

    fn some_provider(&mut self) {
        let party = self.pick(self.parties.len());
        let action = match self.below(10) {
            0..6 => ProviderAction::Rotate,
            6..8 => ProviderAction::Add,
            _ => ProviderAction::Retire,
        };
        let by = self.valid_key(party);
        let unsigned = action != ProviderAction::Retire && self.percent(20);
        self.provider_entry(party, action, by.filter(|_| !unsigned));
    }

    fn provider_entry(&mut self, party: usize, action: ProviderAction, by: Option<SecretKey>) {
        self.serial += 1;
        let (name, serial, first) = (self.parties[party].name, self.serial, self.parties[party].keys.len() == 1);
        let Party { role, publishes, .. } = self.parties[party];
        let of = |w: &Writer| w.state.audited.providers().previous_leaf(&domain(name), role);
        let previous_leaf = self.world.running.as_ref().map_or(Hash::ZERO, |r| of(&r.writer));
        let key = match action {
            ProviderAction::Retire => {
                let i = self.pick(self.parties[party].keys.len());
                again(&self.parties[party].keys[i])
            }
            _ if first && previous_leaf == Hash::ZERO => again(&self.parties[party].keys[0]),
            _ => {
                let secret = key(&format!("{name}/{serial}"));
                self.parties[party].keys.push(again(&secret));
                secret
            }
        };
        let flips = self.percent(10);
        let Some(running) = &self.world.running else { return };
        let mut entry = Provider {
            role,
            action,
            domain: domain(name),
            class: 1,
            publishes: Flag(publishes != (flips && role == ProviderRole::MSP)),
            key: key.public().into(),
            previous_leaf,
            by_key: Optional24(None),
            by_valid: Optional24(None),
        };
        if action != ProviderAction::Retire {
            entry.by_key = Optional24(Some(key.sign(&entry.key_message(&origin())).into()));
        }
        entry.by_valid = Optional24(by.map(|by| by.sign(&entry.valid_message(&origin())).into()));
        let _ = running.pool.add_provider(entry, |_| true);
    }

    fn config(&mut self) {
        let draw = self.bytes::<32>();
        // Another interval, and sometimes another document.
        let interval_ms = 50 + (self.below(2000) as u32);
        let Some(running) = &self.world.running else { return };
        let latest = running.writer.state.latest_promise();
        let before = Promise::of(latest).unwrap();
        let policy = if draw[0] < 128 { before.policy } else { Hash::sha256(&[&draw]) };
        let config = change::make(&origin(), &key("log"), Promise { policy, interval_ms }, latest);
        let _ = running.pool.add_config(config);
    }

    /// A proof of possession by one of the provers.
    fn attest(&mut self, who: &Csi, recipient: &SecretKey, tenure: u32) -> Option<Attestation> {
        let party = usize::from(self.percent(40));
        let secret = self.valid_key(party)?;
        let time = self.world.true_now();
        let lasts = [30 * SECOND, 60 * SECOND, 600 * SECOND, HOUR][self.pick(4)];
        let mut attestation = Attestation {
            format: Format,
            csi: who.clone(),
            recipient: recipient.public(),
            tenure,
            purpose: Purpose::Control,
            method: Method::SMS,
            prover: domain(self.parties[party].name),
            prover_key: secret.public(),
            time,
            expiry: time.plus_ms(lasts),
            nonce: self.bytes(),
            sig: UNSIGNED,
        };
        attestation.sign(&origin(), &secret);
        Some(attestation)
    }

    fn mapping(&mut self, who: &Csi, secret: &SecretKey, tenure: u32) -> Option<Mapping> {
        let attestation = self.attest(who, secret, tenure)?;
        let (msp, now) = (MSPS[self.pick(MSPS.len())], self.world.true_now());
        let tag = tags(self.pick(3));
        let tags = if self.percent(30) { Tags::Exact(tag) } else { shown(tag.expose()) };
        let days = [1, 2, 30, 180][self.pick(4)] * DAY;
        let end = attestation.time.plus_ms(days.min(MAPPING_LIFETIME_MS_MAX)).floor_day();
        let opt_out = self.percent(5);
        let mut mapping = Mapping {
            format: Format,
            csi: who.clone(),
            tenure,
            recipient: secret.public(),
            msp: if opt_out { MaybeDomain::NONE } else { domain(msp).into() },
            account: if opt_out { Account::NONE } else { Account::parse(&format!("mimi://{msp}/u/1")).unwrap() },
            fingerprint: Opaque8::new([]).unwrap(),
            tags: if opt_out { Tags::shown(vec![]).unwrap() } else { tags },
            not_before: UnixMillis::new(now.get() - 1),
            not_after: end,
            region: Region::ANY,
            attestation,
            sig: UNSIGNED,
        };
        mapping.sign(&origin(), secret);
        Some(mapping)
    }

    fn consent(&mut self, mapping: &Mapping) -> Option<(Consent, Salt)> {
        let msp: Domain = mapping.msp.get()?;
        let party = self.parties.iter().position(|p| domain(p.name) == msp)?;
        let secret = self.valid_key(party)?;
        let (salt, now) = (Salt(self.bytes()), self.world.true_now());
        let expiry = if self.percent(50) { now.month_after(1) } else { Consent::expiry_of(now) };
        let blinded = blind(&salt, &encode(mapping));
        let mut consent = Consent { format: Format, msp, msp_key: secret.public(), blinded, expiry, sig: UNSIGNED };
        consent.sign(&origin(), &secret);
        Some((consent, salt))
    }

    /// Somebody asks for a change.
    fn somebody(&mut self) {
        let i = self.pick(PEOPLE);
        let who = self.people[i].clone();
        let Some(running) = &self.world.running else { return };
        let Ok(latest) = running.answering.latest(&who) else { return };
        let before = latest.map(|l| (l.row.state(), l.row.commitment));
        let Some(wish) = self.wish(&who, before.as_ref().map(|(s, _)| s)) else { return };
        let Some(request) = self.request(&who, before.as_ref(), wish) else { return };
        self.ask(request);
    }

    fn wish(&mut self, who: &Csi, before: Option<&State>) -> Option<Wish> {
        let tenure = before.map_or(0, State::tenure_of_next_mapping);
        let secret = app(who, self.pick(APPS));
        let held = |life: &mut Self| {
            let held = &before?.held;
            if held.is_empty() { None } else { Some(held[life.pick(held.len())].clone()) }
        };
        let owner = |h: &Held| (0..APPS).map(|i| app(who, i)).find(|k| k.public() == h.mapping.recipient);
        let claim = before.and_then(|s| s.claim_at(self.world.now()).copied());
        let what = if claim.is_some() && self.percent(60) { 60 } else { self.below(100) };
        Some(match what {
            0..45 => {
                let mapping = self.mapping(who, &secret, tenure)?;
                let kind = if mapping.is_opt_out() { EventKind::OptOut } else { EventKind::Issue };
                Wish { added: vec![mapping], ..Wish::of(kind, vec![(secret, None)]) }
            }
            45..52 => {
                let held = held(self)?;
                Wish {
                    removed: vec![held.mapping.digest()],
                    ..Wish::of(EventKind::Withdraw, vec![(owner(&held)?, None)])
                }
            }
            52..60 => {
                let (held, mapping) = (held(self)?, self.mapping(who, &secret, tenure)?);
                let owner = owner(&held)?;
                let mut signers = vec![];
                if owner.public() != secret.public() {
                    signers.push((owner, None));
                }
                signers.push((secret, None));
                let kind = if mapping.is_opt_out() { EventKind::OptOut } else { EventKind::Replace };
                Wish { added: vec![mapping], removed: vec![held.mapping.digest()], ..Wish::of(kind, signers) }
            }
            60..68 => match claim {
                None => {
                    let proof = self.attest(who, &secret, before?.tenure + 1)?;
                    Wish::of(EventKind::NewHolderPending, vec![(secret, Some(proof))])
                }
                Some(claim) if claim.until <= self.world.now() || self.percent(10) => {
                    let claimant = (0..APPS).map(|i| app(who, i)).find(|k| k.public() == claim.key)?;
                    let mapping = self.mapping(who, &claimant, before?.tenure + 1)?;
                    Wish { added: vec![mapping], ..Wish::of(EventKind::NewHolder, vec![(claimant, None)]) }
                }
                Some(_) if self.percent(70) => return None,
                Some(_) => {
                    let owner = owner(&held(self)?)?;
                    let proof = if self.percent(50) { self.attest(who, &owner, before?.tenure) } else { None };
                    Wish::of(EventKind::Objection, vec![(owner, proof)])
                }
            },
            68..74 => {
                // The rule for new mappings.
                let now = self.world.now();
                let new = before?.held.iter().find(|h| before.is_some_and(|s| s.is_new_at(h, now)))?;
                let removed = vec![new.mapping.digest()];
                let proof = self.attest(who, &secret, before?.tenure)?;
                Wish { removed, ..Wish::of(EventKind::Withdraw, vec![(secret, Some(proof))]) }
            }
            74..86 => {
                let (held, by_msp) = (held(self)?, self.percent(60));
                let msp = held.mapping.msp.get();
                let of = |p: &Party| if by_msp { Some(domain(p.name)) == msp } else { p.name == DP };
                let party = self.parties.iter().position(of)?;
                let signers = vec![(self.valid_key(party)?, None)];
                let (kind, role) = match by_msp {
                    true => (EventKind::MspDetach, AuthorityRole::Msp),
                    false => (EventKind::DpUnserve, AuthorityRole::Dp),
                };
                let is_served = held.standing.status == waymark_mapping::record::SlotStatus::Served;
                let reason = u8::from(is_served);
                let removed = if is_served { vec![held.mapping.digest()] } else { vec![] };
                let mut wish = Wish { removed, role, reason, ..Wish::of(kind, signers) };
                if !is_served {
                    wish.added.push(held.mapping);
                }
                wish
            }
            86..89 => {
                let state = before?;
                let mut signers: Vec<(SecretKey, Option<Attestation>)> = vec![];
                for i in 0..APPS {
                    if state.held.iter().any(|h| h.mapping.recipient == app(who, i).public()) {
                        signers.push((app(who, i), None));
                    }
                }
                if signers.is_empty() {
                    let proof = self.attest(who, &secret, state.tenure)?;
                    signers.push((secret, Some(proof)));
                }
                Wish { removed: state.digests(), ..Wish::of(EventKind::Erase, signers) }
            }
            89..96 => Wish::of(EventKind::KeyCompromise, vec![(secret, None)]),
            _ => {
                let signers = vec![(self.valid_key(5)?, None)];
                Wish { role: AuthorityRole::Csip, ..Wish::of(EventKind::Release, signers) }
            }
        })
    }

    fn request(&mut self, who: &Csi, before: Option<&(State, Hash)>, wish: Wish) -> Option<ChangeRequest> {
        let Wish { kind, added, removed, signers, role, reason } = wish;
        let (tenure, version, previous) =
            before.map_or((0, 0, Hash::ZERO), |(s, commitment)| (s.tenure, s.version + 1, *commitment));
        let in_advance = kind == EventKind::KeyCompromise;
        let tbs = EventTbs {
            format: Format,
            kind,
            csi: who.clone(),
            tenure,
            version: if in_advance { ANY_VERSION } else { version },
            previous: if in_advance { Hash::ZERO } else { previous },
            added: List24::new(added.iter().map(Mapping::digest).collect())?,
            removed: List24::new(removed)?,
            reason,
            time: self.world.true_now(),
            nonce: self.bytes(),
        };
        let sign = |(secret, possession): (SecretKey, Option<Attestation>)| match role {
            AuthorityRole::Recipient => tbs.sign_as_recipient(&origin(), &secret, possession),
            role => tbs.sign_as(role, &origin(), &secret),
        };
        let authorities = List24::new(signers.into_iter().map(sign).collect())?;
        let is_statement = matches!(kind, EventKind::MspDetach | EventKind::DpUnserve);
        let added = if is_statement { vec![] } else { added };
        let mut consents = vec![];
        for (index, mapping) in (0..).zip(&added) {
            if mapping.msp.get().is_some()
                && self.percent(90)
                && let Some((consent, salt)) = self.consent(mapping)
            {
                consents.push(OfferedConsent { index, consent, salt });
            }
        }
        let event = Event { tbs, authorities };
        Some(ChangeRequest { event, added: List24::new(added)?, consents: List24::new(consents)? })
    }

    /// Has a change judged and queued, as the directory does.
    fn ask(&mut self, request: ChangeRequest) {
        let now = self.world.now();
        let Some(running) = &mut self.world.running else { return };
        let csips = [TrustedCsip { domain: domain(CSIP), issues: vec!["tel:".to_owned()] }];
        let provers = [TrustedProver { domain: domain(PROVER), attests: vec!["*".to_owned()] }];
        let Some(snapshot) = running.answering.published.snapshot() else { return };
        if running.pool.is_in_flight(&running.answering.sealer.csi_key(&request.event.tbs.csi)) {
            return;
        }
        let bench = Bench {
            origin: &origin(),
            csips: &csips,
            provers: &provers,
            policy: snapshot.policy,
            stricter: &[],
            visible_max: 8,
            regions: &[],
            recycled: false,
            now,
        };
        let kind = request.event.tbs.kind;
        match authorise(&running.answering, &request, bench, &mut self.dice) {
            Ok(Judged::Authorized(change)) => {
                self.edges.extend(change.rests_on.iter().filter_map(end_of).filter(|e| *e > now.get()));
                self.edges.extend([NEW_MS, TAKE_UP_MS].map(|ms| now.get() + ms));
                self.edges.extend(change.row.record.state.claim().map(|c| c.until.get()));
                let digest = *Hash::sha256(&[&encode(&request)]).as_bytes();
                let is_next = |c: &PendingChange| running.answering.published.is_next(&c.csi_key, c.row.version);
                let place: Place = Arc::new(());
                if let Ok(ticket) = running.pool.add(digest, *change, &place, is_next) {
                    running.waits.push(Waits { ticket, request });
                    self.world.tally.count(format!("asked for: {kind:?}"));
                }
            }
            Ok(Judged::AlreadyDone) => {}
            Err(why) => self.world.tally.count(format!("refused at once: {why}")),
        }
    }

    /// Everybody is there, and all that was asked for comes to its end.
    fn settle(&mut self) {
        self.world.fuse.reset();
        self.world.witnesses.iter_mut().for_each(|w| w.is_there = true);
        if self.world.running.is_none() {
            self.world.start(None);
        }
        // Long enough for a clock that is behind to catch up with the last head.
        for _ in 0..200 {
            self.world.pass(SECOND);
            self.turn();
            if self.world.is_quiet() {
                break;
            }
        }
        assert!(self.world.is_quiet(), "the log does not come to rest");
    }

    /// The end: everything is published, judged by monitors, and believed by senders.
    pub fn end(&mut self) {
        self.world.kill();
        self.settle();
        // A head of now, after whatever was published late.
        self.world.pass(61 * SECOND);
        self.settle();
        assert_eq!(self.world.findings(), []);
        self.world.check_acknowledged();
        for who in self.people.clone() {
            self.world.check_answer(&who, None, true);
            (0..3).for_each(|i| self.world.check_answer(&who, Some(&tags(i)), true));
        }
    }
}

fn again(secret: &SecretKey) -> SecretKey {
    SecretKey::from_seed(&secret.to_seed())
}

fn end_of(condition: &RestsOn) -> Option<u64> {
    match condition {
        RestsOn::Lasts(_, end) => Some(end.get()),
        _ => None,
    }
}
