//! Random lives of one identifier, put to the rules: they never panic, and whatever they allow keeps what they promise.
//!
//! The input is a script: each byte is a throw of the dice. Events are signed by whose they are, or nearly so, since the rules look
//! at little else of an event whose signatures fail. What is checked is less than what the rules say (a model beside them is in the
//! mapping crate's tests), and holds for every event and every state.

use std::sync::LazyLock;

use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{Key, SecretKey},
    time::UnixMillis,
};
use waymark_mapping::{
    event::{ANY_VERSION, Authority, AuthorityRole, Event, EventKind, EventTbs},
    identifier::Csi,
    mapping::{Attestation, Mapping, Method, Purpose, Tags},
    names::{Account, Domain, MaybeDomain, Region, Tag},
    record::{Ground, HIDDEN_SLOTS, LAPSED_KEPT_MS, SlotStatus},
    rules::{self, Held, Known, Proposal, State},
    signed::{SignedStruct, UNSIGNED},
    wire::{Format, List24, Opaque8},
};

/// Most events of one life: enough for a claim that is taken up, and a life after it. Each costs a dozen signatures.
const EVENTS_MAX: usize = 12;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Most visible mappings: few, so that a record is full within a life.
const VISIBLE_MAX: usize = 4;
/// Between two events.
const WAITS_MS: [u64; 8] = [1000, 1000, HOUR_MS, DAY_MS, 4 * DAY_MS, 15 * DAY_MS, 29 * DAY_MS, 200 * DAY_MS];
const KINDS: [EventKind; 13] = [
    EventKind::Issue,
    EventKind::Replace,
    EventKind::Withdraw,
    EventKind::OptOut,
    EventKind::RotateKey,
    EventKind::KeyCompromise,
    EventKind::Release,
    EventKind::NewHolderPending,
    EventKind::Objection,
    EventKind::NewHolder,
    EventKind::MspDetach,
    EventKind::DpUnserve,
    EventKind::Erase,
];

/// Whose identifier, at which log, and everybody around it.
struct Cast {
    origin: Origin,
    csi: Csi,
    apps: Vec<SecretKey>,
    /// Prover, MSP, CSIP and DP at once: the rules do not ask whose key it is.
    provider: SecretKey,
    domain: Domain,
}

static CAST: LazyLock<Cast> = LazyLock::new(|| Cast {
    origin: Origin::new("dp.example/log").expect("an origin"),
    csi: Csi::parse("tel:+4915112345642").expect("an identifier"),
    apps: (1..=4).map(|n| SecretKey::from_seed(&[n; 32])).collect(),
    provider: SecretKey::from_seed(&[9; 32]),
    domain: Domain::parse("dp.example").expect("a domain"),
});

/// A script, read byte by byte; zeros when it is over.
struct Dice<'a>(&'a [u8]);

impl Dice<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == bound - 1
    }

    fn of<'b, T>(&mut self, items: &'b [T]) -> &'b T {
        &items[self.below(items.len())]
    }

    const fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// Plays a script; says whether the rules allowed anything.
pub fn live(script: &[u8]) -> bool {
    let mut taken = false;
    play(script, |before, event, next| {
        check(before, event, next);
        taken = true;
    });
    taken
}

/// Puts one event after the other to the rules, and tells of those that they allow.
fn play(script: &[u8], mut allowed: impl FnMut(Option<&State>, &Event, &State)) {
    let (cast, mut dice, mut now) = (&*CAST, Dice(script), UnixMillis::new(1_790_000_000_000));
    let mut before: Option<(State, Hash)> = None;
    for number in 0..EVENTS_MAX {
        if dice.is_over() {
            return;
        }
        now = now.plus_ms(*dice.of(&WAITS_MS));
        let (event, added) = Wish { cast, dice: &mut dice, before: before.as_ref(), now }.event();
        let known = Known {
            csip: (!dice.one_in(4)).then_some(&cast.domain),
            ground: dice.one_in(8).then_some(Ground::Recycled),
            stricter: if dice.one_in(2) { std::slice::from_ref(&cast.domain) } else { &[] },
            visible_max: Some(VISIBLE_MAX),
        };
        let proposal = Proposal { event: &event, added: &added, origin: &cast.origin, now, known };
        let last = before.as_ref().map(|(state, commitment)| (state, *commitment));
        let Ok(next) = rules::apply(last, proposal) else { continue };
        assert_eq!(next.time, now);
        allowed(last.map(|(state, _)| state), &event, &next);
        before = Some((next, Hash::sha256(&[&[number as u8]])));
    }
}

// What holds of every change that the rules allow.

fn check(before: Option<&State>, event: &Event, next: &State) {
    let hidden = next.held.iter().filter(|h| h.is_hidden()).count();
    assert!(hidden <= HIDDEN_SLOTS && next.held.len() - hidden <= VISIBLE_MAX);
    assert!(next.held.is_sorted_by_key(Held::is_hidden), "visible mappings come first");
    assert_eq!(next.version, before.map_or(0, |b| b.version + 1));
    assert!(next.csi == event.tbs.csi);
    assert_eq!(next.state.is_empty(), next.held.is_empty());
    assert!(next.held.iter().all(|h| h.mapping.csi == next.csi && h.mapping.tenure == next.tenure));
    if let Some(claim) = next.state.claim() {
        assert_eq!(claim.version == next.version, event.tbs.kind == EventKind::NewHolderPending);
    }
    let Some(before) = before else { return check_listed(&[], event, next) };
    let begins = next.start.version == next.version;
    assert!(if begins { next.tenure == before.tenure + 1 } else { next.start == before.start });
    assert!(next.closed.is_empty());
    assert_eq!(begins, next.tenure != before.tenure);
    check_listed(&before.held, event, next);
    check_evictions(before, event, next);
}

/// Nothing comes that was not listed, and nothing goes, but with the kinds that list nothing.
fn check_listed(before: &[Held], event: &Event, next: &State) {
    let tbs = &event.tbs;
    let is_in = |held: &[Held], h: &Held| held.iter().any(|o| o.mapping == h.mapping);
    let came: Vec<Hash> = next.held.iter().filter(|h| !is_in(before, h)).map(|h| h.mapping.digest()).collect();
    let gone: Vec<&Held> = before.iter().filter(|h| !is_in(&next.held, h)).collect();
    let all_listed = gone.len() == tbs.removed.len() && gone.iter().all(|h| tbs.removed.contains(&h.mapping.digest()));
    match tbs.kind {
        EventKind::MspDetach | EventKind::DpUnserve | EventKind::NewHolderPending => {
            assert!(came.is_empty() && gone.is_empty());
            let changed = before.iter().zip(&next.held).filter(|(b, n)| b != n).count();
            assert_eq!(changed, tbs.added.len() + tbs.removed.len());
        }
        EventKind::NewHolder => assert_eq!(gone.len(), before.len()),
        EventKind::Release => assert!(next.held.is_empty()),
        EventKind::KeyCompromise => {
            let own = before.iter().filter(|h| h.mapping.recipient == event.authorities[0].key).count();
            assert!(came.is_empty() && gone.len() == own);
            assert!(gone.iter().all(|h| h.mapping.recipient == event.authorities[0].key));
        }
        _ => assert!(all_listed, "something went that was not listed, or stayed that was"),
    }
    let listed = came.len() == tbs.added.len() && came.iter().all(|d| tbs.added.contains(d));
    assert!(listed || matches!(tbs.kind, EventKind::MspDetach | EventKind::DpUnserve));
}

/// Nobody loses a mapping that holds without a word of the own key, but by a claim whose hold is over, or by the CSIP.
fn check_evictions(before: &State, event: &Event, next: &State) {
    let now = next.time;
    let signs = |key: &Key| event.authorities.iter().any(|a| a.key == *key);
    match event.tbs.kind {
        EventKind::Release => assert!(event.authorities.iter().all(|a| a.role == AuthorityRole::Csip)),
        EventKind::NewHolder => {
            let claim = before.claim_at(now).expect("a claim is open");
            assert!(claim.until <= now && claim.time.plus_ms(claim.ground.hold_ms()) <= now && signs(&claim.key));
            assert!(next.held.iter().all(|h| h.mapping.recipient == claim.key));
        }
        _ => {
            for held in before.held.iter().filter(|h| !next.held.iter().any(|n| n.mapping == h.mapping)) {
                let lapsed = held.mapping.not_after.plus_ms(LAPSED_KEPT_MS) <= now && made_way(event, held, next);
                let yields = lapsed || before.is_new_at(held, now);
                assert!(signs(&held.mapping.recipient) || yields, "somebody was evicted");
            }
        }
    }
}

/// Whether a full record needed the room of what lapsed.
fn made_way(event: &Event, held: &Held, next: &State) -> bool {
    let (visible, hidden) = next.counts();
    let is_full = if held.is_hidden() { hidden == HIDDEN_SLOTS } else { visible >= VISIBLE_MAX };
    !event.tbs.added.is_empty() && is_full
}

// What somebody may want.

struct Wish<'a, 'b> {
    cast: &'a Cast,
    dice: &'a mut Dice<'b>,
    before: Option<&'a (State, Hash)>,
    now: UnixMillis,
}

impl Wish<'_, '_> {
    fn state(&self) -> Option<&State> {
        self.before.map(|(state, _)| state)
    }

    fn held(&self) -> Vec<Held> {
        self.state().map_or(vec![], |s| s.held.clone())
    }

    fn app(&mut self) -> SecretKey {
        self.dice.of(&self.cast.apps).clone()
    }

    /// The app with a key, if it is one of them.
    fn app_of(&self, key: &Key) -> Option<SecretKey> {
        self.cast.apps.iter().find(|a| a.public() == *key).cloned()
    }

    /// An event of any kind, mostly as it should be.
    fn event(mut self) -> (Event, Vec<Mapping>) {
        let any = *self.dice.of(&KINDS);
        let kind = if self.held().is_empty() && !self.dice.one_in(3) { EventKind::Issue } else { any };
        let app = self.signer(kind);
        let removed = self.removed(kind, &app);
        let added = self.added(kind, &app, &removed);
        let mut tbs = self.tbs(kind, &removed, &added);
        self.spoil(&mut tbs);
        let authorities = self.authorities(&tbs, &app, &removed, &added);
        let added = if tbs.added.len() == added.len() { added } else { vec![] };
        (Event { tbs, authorities: List24::new(authorities).expect("a few") }, added)
    }

    /// Who is at it: the claimant, where there must be one, or the holder of something, or anybody.
    fn signer(&mut self, kind: EventKind) -> SecretKey {
        let claimant = self.state().and_then(|s| s.state.claim()).and_then(|c| self.app_of(&c.key));
        let held = self.held();
        let holder = if held.is_empty() { None } else { Some(self.dice.of(&held).mapping.recipient) };
        let any = self.app();
        match (kind, claimant, holder.and_then(|key| self.app_of(&key))) {
            (EventKind::NewHolder, Some(claimant), _) => claimant,
            (EventKind::Issue | EventKind::NewHolderPending, ..) => any,
            (_, _, Some(holder)) if !self.dice.one_in(6) => holder,
            _ => any,
        }
    }

    fn removed(&mut self, kind: EventKind, app: &SecretKey) -> Vec<Held> {
        let (mut held, claim) = (self.held(), self.state().and_then(|s| s.state.claim().copied()));
        match kind {
            EventKind::Erase => held,
            EventKind::RotateKey => {
                held.retain(|h| h.mapping.recipient == app.public());
                held
            }
            EventKind::Objection => {
                held.retain(|h| claim.is_some_and(|c| c.key == h.mapping.recipient));
                if self.dice.one_in(2) { held } else { vec![] }
            }
            EventKind::Replace | EventKind::Withdraw | EventKind::OptOut => {
                let stranger = self.dice.one_in(6);
                held.retain(|h| stranger || h.mapping.recipient == app.public());
                let most = 1 + self.dice.below(4);
                held.truncate(most);
                held
            }
            EventKind::MspDetach | EventKind::DpUnserve if !held.is_empty() => vec![self.dice.of(&held).clone()],
            _ => vec![],
        }
    }

    fn added(&mut self, kind: EventKind, app: &SecretKey, removed: &[Held]) -> Vec<Mapping> {
        let next = self.state().map_or(0, |s| s.tenure + 1);
        let tenure = self.state().map_or(0, State::tenure_of_next_mapping);
        let count = *self.dice.of(&[1, 1, 1, 2, 5]);
        match kind {
            EventKind::Issue | EventKind::Replace => (0..count).map(|_| self.mapping(app, tenure, None)).collect(),
            EventKind::NewHolder => (0..count).map(|_| self.mapping(app, next, None)).collect(),
            EventKind::OptOut => vec![self.opt_out(app, tenure)],
            EventKind::RotateKey => {
                let other = self.app();
                removed.iter().map(|h| self.mapping(&other, tenure, Some(&h.mapping))).collect()
            }
            _ => vec![],
        }
    }

    fn tbs(&mut self, kind: EventKind, removed: &[Held], added: &[Mapping]) -> EventTbs {
        let (mut version, mut previous) = self.before.map_or((0, Hash::ZERO), |(s, c)| (s.version + 1, *c));
        if kind == EventKind::KeyCompromise {
            (version, previous) = (ANY_VERSION, Hash::ZERO);
        }
        let mut added: Vec<Hash> = added.iter().map(Mapping::digest).collect();
        let mut gone: Vec<Hash> = removed.iter().map(|h| h.mapping.digest()).collect();
        let mut reason = 0;
        if matches!(kind, EventKind::MspDetach | EventKind::DpUnserve) {
            if removed.iter().any(|h| h.standing.status == SlotStatus::Served) {
                reason = 1 + self.dice.below(3) as u8;
            } else {
                added = std::mem::take(&mut gone);
            }
        }
        EventTbs {
            format: Format,
            kind,
            csi: self.cast.csi.clone(),
            tenure: self.state().map_or(0, |s| s.tenure),
            version,
            previous,
            added: List24::new(added).expect("a few"),
            removed: List24::new(gone).expect("sixteen at most"),
            reason,
            time: self.now,
            nonce: [0; 16],
        }
    }

    /// One time in eight something is wrong.
    fn spoil(&mut self, tbs: &mut EventTbs) {
        if !self.dice.one_in(8) {
            return;
        }
        match self.dice.below(6) {
            0 => tbs.version = tbs.version.wrapping_add(1),
            1 => tbs.tenure = tbs.tenure.wrapping_add(1),
            2 => tbs.reason ^= 1,
            3 => tbs.previous = Hash::sha256(&[b"another"]),
            4 => tbs.removed = List24::empty(),
            _ => tbs.added = List24::empty(),
        }
    }

    fn authorities(&mut self, tbs: &EventTbs, app: &SecretKey, gone: &[Held], came: &[Mapping]) -> Vec<Authority> {
        let (cast, kind) = (self.cast, tbs.kind);
        let role = match kind {
            EventKind::Release => AuthorityRole::Csip,
            EventKind::MspDetach => AuthorityRole::Msp,
            EventKind::DpUnserve => AuthorityRole::Dp,
            _ => AuthorityRole::Recipient,
        };
        if role != AuthorityRole::Recipient {
            return vec![tbs.sign_as(role, &cast.origin, &cast.provider)];
        }
        let mut signers = vec![app.public()];
        // Some do without the others: by the rule for new mappings, or in vain.
        let alone = matches!(kind, EventKind::Objection | EventKind::NewHolder) || self.dice.one_in(4);
        if !alone {
            signers.extend(gone.iter().map(|h| h.mapping.recipient).chain(came.iter().map(|m| m.recipient)));
        }
        if self.dice.one_in(16) {
            signers.push(self.app().public());
        }
        signers.sort_unstable();
        signers.dedup();
        let tenure = tbs.tenure.wrapping_add(u32::from(kind == EventKind::NewHolderPending));
        let shows = if kind == EventKind::NewHolderPending { 8 } else { 2 };
        let signers: Vec<SecretKey> = signers.iter().filter_map(|key| self.app_of(key)).collect();
        let sign = |app: &SecretKey| {
            let possession = (!self.dice.one_in(shows)).then(|| self.attestation(app, tenure));
            tbs.sign_as_recipient(&cast.origin, app, possession)
        };
        signers.iter().map(sign).collect()
    }

    fn attestation(&mut self, app: &SecretKey, tenure: u32) -> Attestation {
        let Cast { origin, csi, provider, domain, .. } = self.cast;
        let mut attestation = Attestation {
            format: Format,
            csi: csi.clone(),
            recipient: app.public(),
            tenure,
            purpose: if self.dice.one_in(16) { Purpose::View } else { Purpose::Control },
            method: Method::SMS,
            prover: domain.clone(),
            prover_key: provider.public(),
            time: self.now,
            expiry: self.now.plus_ms(HOUR_MS),
            nonce: [self.dice.below(256) as u8; 16],
            sig: UNSIGNED,
        };
        attestation.sign(origin, provider);
        attestation
    }

    /// A mapping, or what another one says under a new key.
    fn mapping(&mut self, app: &SecretKey, tenure: u32, says: Option<&Mapping>) -> Mapping {
        let tag = Tag::parse(["soccer", "work", "choir"][self.dice.below(3)]).expect("a tag");
        let tags = if self.dice.one_in(2) { Tags::Exact(tag) } else { Tags::shown(vec![tag]).expect("one tag") };
        let mapping = Mapping {
            format: Format,
            csi: self.cast.csi.clone(),
            tenure,
            recipient: app.public(),
            msp: says.map_or_else(|| self.cast.domain.clone().into(), |m| m.msp.clone()),
            account: says.map_or(Account::NONE, |m| m.account.clone()),
            fingerprint: Opaque8::new([self.dice.below(256) as u8]).expect("one byte"),
            tags: says.map_or(tags, |m| m.tags.clone()),
            not_before: self.now,
            not_after: self.now.plus_ms(100 * DAY_MS).floor_day(),
            region: says.map_or(Region::ANY, |m| m.region.clone()),
            attestation: self.attestation(app, tenure),
            sig: UNSIGNED,
        };
        self.signed(mapping, app)
    }

    fn opt_out(&mut self, app: &SecretKey, tenure: u32) -> Mapping {
        let mapping = self.mapping(app, tenure, None);
        let tags = Tags::shown(vec![]).expect("no tags");
        let fingerprint = Opaque8::new([]).expect("nothing");
        self.signed(Mapping { msp: MaybeDomain::NONE, fingerprint, tags, ..mapping }, app)
    }

    fn signed(&self, mut mapping: Mapping, app: &SecretKey) -> Mapping {
        mapping.sign(&self.cast.origin, app);
        mapping
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    /// A check that never sees a kind allowed checks nothing of it.
    #[test]
    fn every_kind_is_allowed_in_some_life() {
        let (mut rng, mut seen) = (ChaCha12Rng::from_seed([2; 32]), [0; KINDS.len()]);
        for _ in 0..2000 {
            let mut script = [0; 512];
            rng.fill_bytes(&mut script);
            play(&script, |_, event, _| seen[event.tbs.kind as usize - 1] += 1);
            if seen.iter().all(|count| *count > 0) {
                return;
            }
        }
        panic!("some kind is never allowed: {seen:?}");
    }
}
