//! The rules beside a plain model of them, over random sequences of events: both agree on every acceptance, every refusal with its
//! code, and on every state that comes of it.
//!
//! `WAYMARK_MODEL_SEED` repeats one sequence, `WAYMARK_MODEL_SEQUENCES` asks for more than usual.

mod plain;

use std::collections::BTreeSet;

use plain::{
    dice::Dice,
    forge::{CSIP, Forge, STRICT, domain, secret},
    rules::{Ask, Bench, DAY, HOUR, LAPSED_KEPT, MINUTE, Ms, NEW, SECOND, State, TAKE_UP, Who, Why, judge},
    tally::Tally,
    wishes::Wisher,
};
use waymark_log::{checkpoint::Origin, hash::Hash, time::UnixMillis};
use waymark_mapping::{
    event::{AuthorityRole, Event},
    identifier::Csi,
    mapping::Mapping,
    record::Ground,
    rules::{self, Known, Proposal, Refused},
};

/// Sequences of an ordinary run.
const SEQUENCES: u64 = 400;
/// Events of a sequence.
const EVENTS: usize = 60;
/// When every sequence begins.
const BEGINNING: Ms = 1_790_000_000_000;

#[test]
fn the_rules_and_a_plain_model_of_them_agree() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match number("WAYMARK_MODEL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("WAYMARK_MODEL_SEQUENCES").unwrap_or(SEQUENCES)).collect(),
    };
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get()).min(seeds.len());
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let share = |worker: usize| seeds.iter().skip(worker).step_by(workers).copied().collect::<Vec<u64>>();
        let run = |worker: usize| {
            let mine = share(worker);
            scope.spawn(move || {
                let mut tally = Tally::default();
                mine.into_iter().for_each(|seed| Sequence::new(seed).run(&mut tally));
                tally
            })
        };
        let running: Vec<_> = (0..workers).map(run).collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let mut all = Tally::default();
    tallies.iter().for_each(|tally| all.add(tally));
    all.print();
    if seeds.len() > 1 {
        let codes = [
            Why::Stale,
            Why::Invalid,
            Why::Mapping,
            Why::Signature,
            Why::NotAllowed,
            Why::NothingToClaim,
            Why::Claimed,
            Why::NoClaim,
            Why::HoldNotOver,
            Why::Objected,
            Why::Full,
        ];
        assert_eq!(all.lacks(100, &codes), None);
        assert!(all.cleared >= 20, "{} changes for which something lapsed made way: too few", all.cleared);
    }
}

/// What stands, by the rules and by the model.
struct Stands {
    found: rules::State,
    commitment: Hash,
    expected: State,
}

struct Sequence {
    seed: u64,
    wisher: Wisher,
    dice: Dice,
    forge: Forge,
    now: Ms,
    stands: Option<Stands>,
    /// Most visible mappings, and whether the policy document calls a prover stricter.
    visible_max: usize,
    stricter: bool,
    /// What was accepted so far: refusals changed nothing.
    story: Vec<(Ms, Ask)>,
}

impl Sequence {
    fn new(seed: u64) -> Self {
        let origin = Origin::new("dp.example/log").unwrap();
        let csi = Csi::parse("tel:+4915112345642").unwrap();
        let visible_max = [2, 3, 8, 32][(seed % 4) as usize];
        Self {
            seed,
            wisher: Wisher::new(seed, false, visible_max),
            visible_max,
            stricter: !seed.is_multiple_of(3),
            dice: Dice::new(seed ^ (1 << 63)),
            forge: Forge::new(origin, csi, secret("dp.example")),
            now: BEGINNING + DAY,
            stands: None,
            story: vec![],
        }
    }

    fn run(mut self, tally: &mut Tally) {
        for _ in 0..EVENTS {
            self.pass_time();
            let ask = self.wisher.wish(self.stands.as_ref().map(|s| &s.expected), self.now);
            let recycled = self.dice.chance(5);
            self.put(ask, recycled, tally);
        }
    }

    /// A moment, some hours, days; or exactly to where something ends, or right before it.
    fn pass_time(&mut self) {
        self.now += self.dice.weighted(&[(1, 10), (10 * SECOND, 20), (10 * MINUTE, 20), (HOUR, 20), (71 * HOUR, 4)]);
        let edges: Vec<Ms> = self.stands.as_ref().map_or(vec![], |s| edges(&s.expected));
        let ahead: Vec<Ms> = edges.into_iter().filter(|edge| *edge > self.now + 1).collect();
        let soonest = ahead.iter().min().copied();
        let any = self.dice.pick(&ahead);
        let claim = self.stands.as_ref().and_then(|s| s.expected.live_claim(self.now));
        let hold = claim.map(|c| c.until).filter(|until| *until > self.now);
        let to = match self.dice.below(100) {
            0..8 => soonest,
            8..12 => any,
            12 => Some(self.now + 181 * DAY),
            13..28 => hold,
            _ => None,
        };
        if let Some(to) = to {
            self.now = to - self.dice.below(2);
        }
    }

    fn put(&mut self, ask: Ask, recycled: bool, tally: &mut Tally) {
        let bench = Bench {
            now: self.now,
            recycled,
            issued: true,
            directory: false,
            visible_max: self.visible_max,
            stricter: self.stricter,
        };
        let expected = judge(self.stands.as_ref().map(|s| &s.expected), &ask, bench);
        let current = self.stands.as_ref().map_or(Hash::ZERO, |s| s.commitment);
        let (event, sent) = (self.forge.event(&ask, current), self.forge.sent(&ask));
        let found = self.apply(&ask, &event, &sent, recycled);
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                tally.accept(ask.kind);
                tally.cleared += u32::from(self.clears(&ask));
                if let Some(difference) = self.forge.difference(&expected, &found) {
                    self.fail(&ask, &difference);
                }
                self.story.push((self.now, ask));
                let commitment = Hash::sha256(&[&expected.version.to_be_bytes()]);
                self.stands = Some(Stands { found, commitment, expected });
            }
            (Err(reasons), Err(refused)) => {
                let given = why(refused);
                tally.refuse(ask.kind, given.code(), &reasons);
                if !reasons.contains(&given) {
                    self.fail(&ask, &format!("refused with {given:?} ({refused:?}), the model says {reasons:?}"));
                }
            }
            (Ok(_), Err(refused)) => self.fail(&ask, &format!("refused with {refused:?}, the model accepts")),
            (Err(reasons), Ok(_)) => self.fail(&ask, &format!("accepted, the model says {reasons:?}")),
        }
    }

    /// Whether something lapsed makes way for a change that its key did not sign.
    fn clears(&self, ask: &Ask) -> bool {
        let Some(before) = self.stands.as_ref().map(|s| &s.expected) else { return false };
        let signs = |key| ask.signers.iter().any(|s| s.who == key);
        let gone = ask.removed.iter().filter_map(|m| before.find(m));
        gone.into_iter().any(|h| h.has_lapsed(self.now) && !before.is_new(h, self.now) && !signs(h.mapping.key))
    }

    fn apply(&self, ask: &Ask, event: &Event, sent: &[Mapping], recycled: bool) -> Result<rules::State, Refused> {
        // What a DP finds out before: whether the one who signs is the CSIP.
        let (csip, stricter) = (domain(CSIP), [domain(STRICT)]);
        let is_csip = |s: &plain::rules::Signer| s.who == Who::Csip && s.role == AuthorityRole::Csip;
        let known = Known {
            csip: ask.signers.iter().all(is_csip).then_some(&csip),
            ground: recycled.then_some(Ground::Recycled),
            stricter: if self.stricter { &stricter } else { &[] },
            visible_max: Some(self.visible_max),
        };
        let before = self.stands.as_ref().map(|s| (&s.found, s.commitment));
        let (origin, now) = (&self.forge.origin, UnixMillis::new(self.now));
        rules::apply(before, Proposal { event, added: sent, origin, now, known })
    }

    fn fail(&self, ask: &Ask, what: &str) -> ! {
        println!("seed {}: what was accepted until then, since the last new beginning:", self.seed);
        let start = self.stands.as_ref().map_or(0, |s| s.expected.start.version);
        for (time, ask) in self.story.iter().filter(|(_, ask)| ask.version.is_none_or(|v| v >= start)) {
            println!("at {}: {ask:?}", time - BEGINNING);
        }
        println!("what stands: {:#?}", self.stands.as_ref().map(|s| &s.expected));
        println!("at {}: {ask:#?}", self.now - BEGINNING);
        panic!("WAYMARK_MODEL_SEED={}: {:?} {what}", self.seed, ask.kind);
    }
}

/// The times at which something ends.
fn edges(state: &State) -> Vec<Ms> {
    let held = state.held.iter().flat_map(|h| [h.since + NEW, h.mapping.until, h.mapping.until + LAPSED_KEPT]);
    let claim = state.claim.iter().flat_map(|c| [c.until, c.until + TAKE_UP]);
    held.chain(claim).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The stable code of each refusal, as the DP gives it.
fn why(refused: Refused) -> Why {
    match refused {
        Refused::Stale => Why::Stale,
        Refused::Elsewhere
        | Refused::Shape
        | Refused::OtherMappings
        | Refused::NotThere
        | Refused::NotServed
        | Refused::DatedAhead
        | Refused::Twice => Why::Invalid,
        Refused::Mapping(_) | Refused::Time => Why::Mapping,
        Refused::Signature => Why::Signature,
        Refused::NotAuthorised | Refused::Bystander | Refused::Lapsed | Refused::Weaker => Why::NotAllowed,
        Refused::Full => Why::Full,
        Refused::NothingToClaim => Why::NothingToClaim,
        Refused::Claimed | Refused::Unsettled => Why::Claimed,
        Refused::NoClaim => Why::NoClaim,
        Refused::Held => Why::HoldNotOver,
        Refused::Objected => Why::Objected,
    }
}
