//! In no life is a holder evicted who reacts in time, whatever others do with codes that they intercept and keys that they steal.
//!
//! The holder has one app. All other apps are somebody else's: some came together with the holder's own and were stolen, so that they
//! are established; some come later. They have every code, so that they prove possession whenever they like, and each is as good as
//! its key. The holder sees each change, and reacts to the first one that he does not know before its hold is over: he objects
//! with possession, and removes what is new. He renews before his mappings lapse or within 14 days after it, or, where no key of his
//! was stolen, within a year; sometimes right before he reacts. That is all; and his mappings are always there, as he left them.
//!
//! `WAYMARK_MODEL_SEED` repeats one life, `WAYMARK_MODEL_SEQUENCES` asks for more than usual.

mod plain;

use plain::{
    dice::Dice,
    forge::{Forge, STRICT, domain, secret},
    rules::{Ask, DAY, HOUR, Held, LAPSED_KEPT, Mapping, Ms, NEW, Previous, Signer, State, Who},
    wishes::Wisher,
};
use waymark_log::{checkpoint::Origin, hash::Hash, time::UnixMillis};
use waymark_mapping::{
    event::{AuthorityRole, EventKind as Kind},
    identifier::Csi,
    record::Ground,
    rules::{self, Known, Proposal, Refused},
};

/// Lives of an ordinary run.
const LIVES: u64 = 150;
/// What is tried in each.
const TRIES: usize = 120;
const BEGINNING: Ms = 20_718 * DAY;
const HOLDER: Who = Who::App(0);

#[test]
fn in_no_life_is_a_holder_evicted_who_reacts_within_the_hold() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match number("WAYMARK_MODEL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("WAYMARK_MODEL_SEQUENCES").unwrap_or(LIVES)).collect(),
    };
    let mut seen = Seen::default();
    seeds.iter().for_each(|seed| Life::new(*seed).run(&mut seen));
    println!("{} lives: {seen:?}", seeds.len());
    if seeds.len() > 1 {
        let least = [seen.attacks, seen.claims, seen.objections, seen.removals, seen.renewals, seen.late];
        assert!(least.iter().all(|n| *n >= seeds.len() as u32 / 3), "too few to show anything: {seen:?}");
        assert!(seen.cleared >= 5, "nothing ever made way: {seen:?}");
    }
}

/// How often what happened.
#[derive(Default, Debug)]
struct Seen {
    /// Changes by others that were taken.
    attacks: u32,
    /// Claims among them, and changes for which something lapsed made way.
    claims: u32,
    cleared: u32,
    objections: u32,
    /// Changes by which the holder removed something new.
    removals: u32,
    renewals: u32,
    /// Renewals of something that had lapsed already.
    late: u32,
}

struct Life {
    seed: u64,
    dice: Dice,
    wisher: Wisher,
    forge: Forge,
    now: Ms,
    /// How long after his mappings have lapsed he still renews them.
    grace: Ms,
    known: (Vec<waymark_mapping::names::Domain>, usize),
    stands: rules::State,
    commitment: Hash,
    /// What stands, in the model's words; and the holder's own part of it, as he left it.
    state: State,
    own: Vec<Mapping>,
    /// When the holder will look, if something came that he has not seen to.
    looks: Option<Ms>,
    /// When he renews.
    renews: Ms,
    serial: u32,
    story: Vec<String>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let origin = Origin::new("dp.example/log").unwrap();
        let csi = Csi::parse("tel:+4915112345642").unwrap();
        let mut dice = Dice::new(seed ^ (1 << 62));
        let visible_max = [2, 3, 8][(seed % 3) as usize];
        let mut wisher = Wisher::new(seed, false, visible_max);
        let mut forge = Forge::new(origin, csi, secret("dp.example"));
        let stricter = if seed.is_multiple_of(2) { vec![domain(STRICT)] } else { vec![] };
        // The holder's app, and perhaps others of his that are stolen later.
        let now = BEGINNING;
        let mut own: Vec<Mapping> = (0..1 + dice.below(2)).map(|_| wisher.mapping(HOLDER, 0, 0, now)).collect();
        if visible_max < 8 {
            own.truncate(1);
        }
        let mut added = own.clone();
        for stolen in (1..visible_max as u8).take(2).filter(|_| dice.chance(70)) {
            added.push(wisher.mapping(Who::App(stolen), 0, 0, now));
        }
        let grace = if added.len() > own.len() { LAPSED_KEPT } else { 365 * DAY };
        let ask = asked(Kind::Issue, 0, None, added, vec![], &[HOLDER, Who::App(1), Who::App(2)], now);
        let (event, sent) = (forge.event(&ask, Hash::ZERO), forge.sent(&ask));
        let known = Known { stricter: &stricter, visible_max: Some(visible_max), ..Known::default() };
        let proposal =
            Proposal { event: &event, added: &sent, origin: &forge.origin, now: UnixMillis::new(now), known };
        let stands = rules::apply(None, proposal).unwrap();
        let state = plain_of(&mut forge, &stands, &ask.added);
        let mut life = Self {
            seed,
            dice,
            wisher,
            forge,
            now,
            grace,
            known: (stricter, visible_max),
            stands,
            commitment: Hash::sha256(&[b"0"]),
            state,
            own,
            looks: None,
            renews: 0,
            serial: 1 << 20,
            story: vec![],
        };
        life.plan_renewal();
        life
    }

    fn run(mut self, seen: &mut Seen) {
        for _ in 0..TRIES {
            let next = self.pass_time();
            while self.looks.into_iter().chain([self.renews]).any(|at| at <= next) {
                self.turn_of_the_holder(seen);
            }
            self.now = next;
            self.turn_of_others(seen);
            self.check();
        }
    }

    /// When others try something next: soon, later, or exactly where something ends.
    fn pass_time(&mut self) -> Ms {
        let soon =
            self.dice.weighted(&[(1, 30), (HOUR, 20), (30 * HOUR, 10), (71 * HOUR, 6), (20 * DAY, 3), (170 * DAY, 1)]);
        let held = self.state.held.iter().flat_map(|h| [h.since + NEW, h.mapping.until, h.mapping.until + LAPSED_KEPT]);
        let claim = self.state.claim.iter().map(|c| c.until);
        let ends: Vec<Ms> = held.chain(claim).filter(|at| *at > self.now + 1).collect();
        let end = if self.dice.chance(40) { self.dice.pick(&ends) } else { None };
        end.map_or(self.now + soon, |at| at - self.dice.below(2))
    }

    /// He renews at some time from thirty days before the first of his mappings lapses on.
    fn plan_renewal(&mut self) {
        let first = self.own.iter().map(|m| m.until).min().expect("he has one");
        let from = first.saturating_sub(30 * DAY).max(self.now);
        let to = first + self.grace - 1;
        let at =
            if self.dice.chance(30) { first + self.dice.below(self.grace) } else { from + self.dice.below(to - from) };
        self.renews = at.max(self.now + 1);
    }

    /// What is to be seen to has to be before the first hold is over.
    fn notice(&mut self) {
        let news = self.state.held.iter().filter(|h| self.is_new(h)).map(|h| h.since + NEW);
        let claim = self.state.live_claim(self.now).map(|c| c.until);
        let Some(end) = news.chain(claim).min() else { return };
        // A newcomer that claims stays new for longer; he does not count on it.
        let end = end.max(self.now + 2);
        let at = self.now + 1 + self.dice.below(end - self.now - 1);
        self.looks = Some(self.looks.map_or(at, |earlier| earlier.min(at)));
    }

    fn is_new(&self, held: &Held) -> bool {
        held.mapping.key != HOLDER && self.state.is_new(held, self.now)
    }

    fn turn_of_the_holder(&mut self, seen: &mut Seen) {
        let looks = self.looks.filter(|at| *at <= self.renews);
        self.now = looks.unwrap_or(self.renews).max(self.now + 1);
        if looks.is_none() || self.dice.chance(30) {
            self.renew(seen);
        }
        if looks.is_some() {
            self.looks = None;
            self.react(seen);
        }
        self.check();
    }

    fn renew(&mut self, seen: &mut Seen) {
        let old = self.own.clone();
        let new: Vec<Mapping> = old
            .iter()
            .map(|m| {
                let fresh = self.wisher.mapping(HOLDER, self.state.tenure, 0, self.now);
                Mapping { msp: m.msp, hidden: m.hidden, words: m.words, ..fresh }
            })
            .collect();
        seen.renewals += 1;
        seen.late += u32::from(old.iter().any(|m| m.until <= self.now));
        self.own.clone_from(&new);
        let ask = self.ask(Kind::Replace, new, old, None);
        self.must(&ask);
        self.plan_renewal();
    }

    fn react(&mut self, seen: &mut Seen) {
        if self.state.live_claim(self.now).is_some() {
            self.now += 1;
            let proof = self.wisher.proof(HOLDER, self.state.tenure, self.now - 1, self.now);
            let ask = self.ask(Kind::Objection, vec![], vec![], Some(proof));
            self.must(&ask);
            seen.objections += 1;
        }
        let news: Vec<Mapping> = self.state.held.iter().filter(|h| self.is_new(h)).map(|h| h.mapping.clone()).collect();
        if !news.is_empty() {
            self.now += 1;
            let proof = self.wisher.proof(HOLDER, self.state.tenure, self.now - 1, self.now);
            let ask = self.ask(Kind::Withdraw, vec![], news, Some(proof));
            self.must(&ask);
            seen.removals += 1;
        }
    }

    fn ask(
        &mut self,
        kind: Kind,
        added: Vec<Mapping>,
        removed: Vec<Mapping>,
        proof: Option<plain::rules::Proof>,
    ) -> Ask {
        self.serial += 1;
        let mut ask = asked(kind, self.serial, Some(&self.state), added, removed, &[HOLDER], self.now);
        ask.signers = vec![Signer { who: HOLDER, role: AuthorityRole::Recipient, proof, forged: false }];
        ask
    }

    /// What the holder asks for is never refused.
    fn must(&mut self, ask: &Ask) {
        if let Err(why) = self.put(ask, false) {
            self.fail(&format!("the holder's {:?} is refused: {why:?}", ask.kind));
        }
    }

    fn turn_of_others(&mut self, seen: &mut Seen) {
        let clearing = if self.dice.chance(30) { self.wisher.clearing(&self.state, self.now) } else { None };
        let mut ask = clearing.unwrap_or_else(|| self.wisher.wish(Some(&self.state), self.now));
        // Who has stolen a key seldom revokes it.
        if ask.kind == Kind::KeyCompromise && self.dice.chance(90) {
            return;
        }
        let signs = |s: &Signer| s.who == HOLDER || s.role != AuthorityRole::Recipient;
        // They have no key of his; and the operator does not take the number back.
        if ask.kind == Kind::Release || ask.signers.iter().any(|s| signs(s) && !s.forged) {
            if self.dice.chance(50) {
                return;
            }
            ask.signers.retain(|s| !signs(s));
        }
        let signs = |key| ask.signers.iter().any(|s| s.who == key);
        let gone = ask.removed.iter().filter_map(|m| self.state.find(m));
        let clears = gone.into_iter().any(|h| !self.state.is_new(h, self.now) && !signs(h.mapping.key));
        let recycled = self.dice.chance(20);
        if self.put(&ask, recycled).is_ok() {
            seen.attacks += 1;
            seen.claims += u32::from(ask.kind == Kind::NewHolderPending);
            seen.cleared += u32::from(clears && matches!(ask.kind, Kind::Replace | Kind::OptOut));
            self.notice();
        }
    }

    fn put(&mut self, ask: &Ask, recycled: bool) -> Result<(), Refused> {
        let (event, sent) = (self.forge.event(ask, self.commitment), self.forge.sent(ask));
        let known = Known {
            csip: None,
            ground: recycled.then_some(Ground::Recycled),
            stricter: &self.known.0,
            visible_max: Some(self.known.1),
        };
        let (origin, now) = (&self.forge.origin, UnixMillis::new(self.now));
        let proposal = Proposal { event: &event, added: &sent, origin, now, known };
        self.stands = rules::apply(Some((&self.stands, self.commitment)), proposal)?;
        let all: Vec<Mapping> = self.state.held.iter().map(|h| h.mapping.clone()).chain(ask.added.clone()).collect();
        self.state = plain_of(&mut self.forge, &self.stands, &all);
        self.commitment = Hash::sha256(&[&self.stands.version.to_be_bytes()]);
        let (added, removed) = (&ask.added, &ask.removed);
        let signers: Vec<Who> = ask.signers.iter().map(|s| s.who).collect();
        self.story.push(format!("at {} {:?} by {signers:?}: +{added:?} -{removed:?}", self.now - BEGINNING, ask.kind));
        Ok(())
    }

    /// All that he put there is there, in his tenure, and nothing of it is new.
    fn check(&self) {
        let mine: Vec<&Held> = self.state.held.iter().filter(|h| h.mapping.key == HOLDER).collect();
        let is_kept = self.own.iter().all(|m| mine.iter().any(|h| h.mapping == *m));
        if !is_kept || mine.len() != self.own.len() || self.state.tenure != 0 {
            self.fail("the holder is evicted");
        }
        if mine.iter().any(|h| self.state.is_new(h, self.now)) {
            self.fail("the holder is a newcomer at his own place");
        }
    }

    fn fail(&self, what: &str) -> ! {
        self.story.iter().for_each(|line| println!("{line}"));
        println!("now {}: {:#?}", self.now - BEGINNING, self.state);
        panic!("WAYMARK_MODEL_SEED={}: {what}", self.seed);
    }
}

/// A state in the model's words, of mappings that are known.
fn plain_of(forge: &mut Forge, found: &rules::State, known: &[Mapping]) -> State {
    forge.told(found, known).expect("nothing stands that nobody asked for")
}

fn asked(
    kind: Kind,
    serial: u32,
    over: Option<&State>,
    added: Vec<Mapping>,
    removed: Vec<Mapping>,
    signers: &[Who],
    now: Ms,
) -> Ask {
    let has_part = |who: &&Who| **who == HOLDER || added.iter().any(|m| m.key == **who);
    let sign = |who: &Who| Signer { who: *who, role: AuthorityRole::Recipient, proof: None, forged: false };
    Ask {
        serial,
        kind,
        elsewhere: false,
        tenure: over.map_or(0, |s| s.tenure),
        version: Some(over.map_or(0, |s| s.version + 1)),
        previous: if over.is_some() { Previous::Current } else { Previous::Zero },
        signers: signers.iter().filter(has_part).map(sign).collect(),
        sent: added.clone(),
        added,
        removed,
        reason: 0,
        time: now,
        consents: vec![],
    }
}
