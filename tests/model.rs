//! A DP over HTTP beside a plain model of its rules: over random sequences of events both agree on every acceptance, every refusal
//! with its code, and on what recipients and senders see afterwards. After a refusal nothing has changed.
//!
//! Several people go on at the same time; in between the clock goes by seconds to months. `WAYMARK_MODEL_SEED` chooses other
//! sequences, `WAYMARK_MODEL_SECONDS` more of them. The same model goes through many more events without a DP in
//! mapping/tests/model.rs.

mod common;
#[path = "../mapping/tests/plain/mod.rs"]
mod plain;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Stage, csi, until};
use plain::{
    dice::Dice,
    forge::{CSIP, ELSEWHERE, Forge, MSPS, STRICT, domain, hidden_tag, secret},
    rules::{Ask, Bench, DAY, HOUR, Held, How, MINUTE, Ms, SECOND, State, Status, Who, Why, judge},
    tally::Tally,
    wishes::{APPS, Wisher},
};
use tokio::task::JoinSet;
use waymark::{
    api::{ChangeRequest, OfferedConsent},
    client::{ClientError, recipient::past},
    config::{CsipFile, ProverFile, Settings},
    init, onboarding,
};
use waymark_log::{hash::Hash, key::SecretKey, time::UnixMillis};
use waymark_mapping::{
    answer::{Answer, Receipt},
    commitment::{Salt, blind},
    entry::ProviderRole,
    event::{AuthorityRole, Event},
    facts::{Contest, Service},
    identifier::Csi,
    mapping::{Consent, Mapping},
    receipt::{Sent, accept, open_current},
    signed::{SignedStruct, UNSIGNED},
    verify::{Lookup, Outcome, Trail, verify},
    wire::{Format, List24, encode},
};
use waymark_runtime::clock::Clock;

/// How long an ordinary run goes on, and how much longer until everything was asked for often enough.
const SECONDS: u64 = 25;
const LONGER: Duration = Duration::from_secs(120);
/// People at the same time: a batch costs the same for one as for all.
const PEOPLE: u64 = 12;
/// Most visible mappings: few, so that what lapsed has to make way.
const VISIBLE_MAX: usize = 3;
/// A head may be so much older than the clock: what is judged by heads is judged by either.
const HEAD_LAG: Ms = 70 * SECOND;

#[tokio::test(flavor = "multi_thread")]
async fn a_dp_and_a_plain_model_of_its_rules_agree() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("WAYMARK_MODEL_SEED").unwrap_or(1);
    println!("WAYMARK_MODEL_SEED={seed}");
    let world = Arc::new(World::start().await);
    let mut people: Vec<Person> = (0..PEOPLE).map(|i| Person::new(i, seed, &world)).collect();
    let mut dice = Dice::new(seed);
    let end = Instant::now() + Duration::from_secs(number("WAYMARK_MODEL_SECONDS").unwrap_or(SECONDS));
    let codes =
        [Why::Stale, Why::Invalid, Why::Mapping, Why::Signature, Why::NotAllowed, Why::ProverUnknown, Why::ProverScope];
    let told = |people: &[Person]| {
        let mut tally = Tally::default();
        people.iter().for_each(|p| tally.add(&p.tally));
        tally
    };
    while Instant::now() < end || (Instant::now() < end + LONGER && told(&people).lacks(3, &codes).is_some()) {
        world.pass_time(&mut dice).await;
        let mut turns = JoinSet::new();
        for mut person in people.drain(..) {
            let world = Arc::clone(&world);
            turns.spawn(async move {
                person.turn(&world).await;
                person
            });
        }
        people = turns.join_all().await;
    }
    let tally = told(&people);
    tally.print();
    assert_eq!(tally.lacks(3, &codes), None);
    Arc::into_inner(world).expect("nobody else has it").stage.stop().await;
}

/// What everybody shares: a DP that believes a CSIP about some of the people's numbers.
struct World {
    stage: Stage,
    dp_key: SecretKey,
}

impl World {
    async fn start() -> Self {
        let csip = CsipFile { domain: CSIP.to_owned(), issues: vec!["tel:+4915".to_owned()] };
        let clock = Clock::shifted();
        let prover = |name: &str, attests: &str, stricter| {
            let attests = vec![attests.to_owned()];
            ProverFile { domain: name.to_owned(), attests, stricter }
        };
        let provers = [prover(STRICT, "tel:+", true), prover(ELSEWHERE, "@post.example", false)];
        let stage = Stage::with_file(1, &clock, |file| {
            file.csip.push(csip);
            file.prover.extend(provers);
            file.visible_mappings = VISIBLE_MAX;
        })
        .await;
        let dir = stage.root.path().join("dp");
        let roles = [(CSIP, ProviderRole::CSIP), (STRICT, ProviderRole::PROVER), (ELSEWHERE, ProviderRole::PROVER)];
        for (name, role) in roles {
            let entry = init::provider_entry(&domain(name), role, false, 1, &stage.origin, &secret(name));
            onboarding::submit(&dir, &entry).unwrap();
            until("a provider to be logged", async || stage.dp.knows_provider(&domain(name))).await;
        }
        let dp_key = Settings::load(&dir).unwrap().prover;
        stage.pass(2 * HOUR).await;
        Self { stage, dp_key }
    }

    fn now(&self) -> Ms {
        self.stage.clock.now().get()
    }

    /// Nothing, or a jump after which the log has a head of that day; never quite so far that something ends to the second.
    async fn pass_time(&self, dice: &mut Dice) {
        let jumps = [
            (0, 50),
            (10 * SECOND, 15),
            (HOUR, 15),
            (71 * HOUR, 6),
            (73 * HOUR, 8),
            (13 * DAY, 5),
            (15 * DAY, 6),
            (181 * DAY, 1),
        ];
        let by = dice.weighted(&jumps);
        if by > 0 {
            self.stage.pass(by + dice.below(20 * MINUTE)).await;
        }
    }

    /// What a sender sees, verified, and the answer that it was taken from.
    async fn look_up(&self, who: &Csi, tag: Option<u8>) -> Result<(Lookup, Answer), String> {
        let asked = common::asked(who, tag.map(hidden_tag));
        let bytes = self.stage.client().look_up(who, asked.tag.as_ref()).await.map_err(|e| e.to_string())?;
        let now = self.stage.clock.now();
        let verified = verify(&bytes, &asked, &self.stage.trust, None, now, &mut Trail::default());
        Ok((verified.map_err(|e| e.to_string())?.get().clone(), Answer::from_padded(&bytes).unwrap()))
    }
}

/// Everybody who wants something of one CSI.
struct Person {
    who: Csi,
    issued: bool,
    wisher: Wisher,
    forge: Forge,
    expected: Option<State>,
    commitment: Hash,
    /// The change that made what stands.
    made_by: Option<(Ask, Event, Vec<Mapping>)>,
    story: Vec<Ask>,
    tally: Tally,
}

/// What the DP said.
enum Said {
    Receipt(Box<Receipt>),
    Answer,
    Refused(String),
}

impl Person {
    fn new(number: u64, seed: u64, world: &World) -> Self {
        let issued = number % 6 != 5;
        let who = csi(&format!("tel:+491{}1123456{number:02}", if issued { 5 } else { 7 }));
        Self {
            issued,
            wisher: Wisher::new(seed * PEOPLE + number, true, VISIBLE_MAX),
            forge: Forge::new(world.stage.origin.clone(), who.clone(), world.dp_key.clone()),
            who,
            expected: None,
            commitment: Hash::ZERO,
            made_by: None,
            story: vec![],
            tally: Tally::default(),
        }
    }

    async fn turn(&mut self, world: &World) {
        if let Some((ask, event, sent)) = self.made_by.clone().filter(|_| self.wisher.dice.chance(5)) {
            // The same once more: nothing is made twice, and nothing is refused.
            if let Said::Refused(code) = self.send(world, &ask, &event, &sent).await {
                self.fail(&ask, &format!("sent again it is refused with {code}"));
            }
            return self.check_look_up(world, None).await;
        }
        let before = world.now();
        let ask = self.wisher.wish(self.expected.as_ref(), before);
        let event = self.forge.event(&ask, self.commitment);
        let sent = self.forge.sent(&ask);
        let said = self.send(world, &ask, &event, &sent).await;
        let span = (before, world.now());
        match said {
            Said::Refused(code) => self.refused(&ask, &code, span),
            said => self.accepted(world, (ask, event, sent), said, span).await,
        }
        self.check_look_up(world, None).await;
        let tag = self.wisher.dice.below(3) as u8;
        self.check_look_up(world, Some(tag)).await;
        let key = Who::App(self.wisher.dice.below(u64::from(APPS)) as u8);
        self.check_history(world, key).await;
    }

    async fn send(&mut self, world: &World, ask: &Ask, event: &Event, sent: &[Mapping]) -> Said {
        let request = ChangeRequest {
            event: event.clone(),
            added: List24::new(sent.to_vec()).unwrap(),
            consents: List24::new(self.consents(ask, sent)).unwrap(),
        };
        let sender = self.sender(ask);
        let by_recipients = ask.signers.iter().all(|s| s.role == AuthorityRole::Recipient);
        let client = world.stage.client();
        let said = if by_recipients {
            client.change(sender, &request).await.map(|receipt| Said::Receipt(Box::new(receipt)))
        } else {
            client.state(sender, &request).await.map(|_| Said::Answer)
        };
        match said {
            Ok(said) => said,
            Err(ClientError::Refused { code, .. }) => Said::Refused(code),
            Err(other) => self.fail(ask, &other.to_string()),
        }
    }

    fn sender(&self, ask: &Ask) -> &SecretKey {
        self.forge.secret(ask.signers.first().map_or(Who::App(0), |s| s.who))
    }

    fn consents(&self, ask: &Ask, sent: &[Mapping]) -> Vec<OfferedConsent> {
        let consent = |c: &plain::rules::Consent| {
            let salt = Salt([c.index; 32]);
            let mapping = sent.get(usize::from(c.index)).filter(|_| c.under);
            let key = self.forge.secret(c.by);
            let mut consent = Consent {
                format: Format,
                msp: domain(MSPS[usize::from(c.msp)]),
                msp_key: key.public(),
                blinded: mapping.map_or(Hash::ZERO, |m| blind(&salt, &encode(m))),
                expiry: UnixMillis::new(c.expiry),
                sig: UNSIGNED,
            };
            consent.sign(&self.forge.origin, if c.forged { self.forge.secret(Who::Nobody) } else { key });
            OfferedConsent { index: c.index, consent, salt }
        };
        ask.consents.iter().map(consent).collect()
    }

    fn judge(&self, ask: &Ask, now: Ms) -> Result<State, BTreeSet<Why>> {
        let bench = Bench {
            now,
            recycled: false,
            issued: self.issued,
            directory: true,
            visible_max: VISIBLE_MAX,
            stricter: true,
        };
        judge(self.expected.as_ref(), ask, bench)
    }

    /// The model must know the reason, at some moment between asking and hearing.
    fn refused(&mut self, ask: &Ask, code: &str, (before, after): (Ms, Ms)) {
        let verdicts = [self.judge(ask, before), self.judge(ask, after)];
        let mut reasons: BTreeSet<Why> = verdicts.into_iter().filter_map(Result::err).flatten().collect();
        // A hold is over by the log's time, which lags.
        let earlier = self.judge(ask, before - HEAD_LAG).err().unwrap_or_default();
        reasons.extend(earlier.into_iter().filter(|why| *why == Why::HoldNotOver));
        match reasons.iter().find(|why| why.code() == code) {
            Some(why) => self.tally.refuse(ask.kind, why.code(), &reasons),
            None => self.fail(ask, &format!("refused with {code}, the model says {reasons:?}")),
        }
    }

    async fn accepted(
        &mut self,
        world: &World,
        (ask, event, sent): (Ask, Event, Vec<Mapping>),
        said: Said,
        (before, after): (Ms, Ms),
    ) {
        let (lookup, answer) = world.look_up(&self.who, None).await.unwrap_or_else(|e| self.fail(&ask, &e));
        let Some(time) = answer.body.0.map(|b| b.record.time.get()) else { self.fail(&ask, "accepted and not there") };
        assert!(before <= time && time <= after, "the time of the change: {before} <= {time} <= {after}");
        let expected = match self.judge(&ask, time) {
            Ok(expected) => expected,
            Err(reasons) => self.fail(&ask, &format!("accepted, the model says {reasons:?}")),
        };
        if let Said::Receipt(receipt) = said {
            let (trust, now) = (&world.stage.trust, world.stage.clock.now());
            let origin = common::origin();
            let sent = Sent { origin: &origin, event: &event, added: &sent, by: &self.sender(&ask).public() };
            match accept(&receipt, sent, trust, None, now, &mut Trail::default()) {
                Ok(current) if current.complete => {
                    if let Some(difference) = self.forge.difference(&expected, &current.state) {
                        self.fail(&ask, &difference);
                    }
                }
                Ok(_) => {}
                Err(e) => self.fail(&ask, &format!("the app does not accept the receipt: {e}")),
            }
        }
        self.tally.accept(ask.kind);
        self.made_by = Some((ask.clone(), event, sent));
        self.story.push(ask);
        self.expected = Some(expected);
        self.commitment = lookup.commitment.unwrap();
    }

    /// What a sender sees is what the model expects.
    async fn check_look_up(&mut self, world: &World, tag: Option<u8>) {
        let before = world.now();
        let looked_up = world.look_up(&self.who, tag).await;
        let (lookup, _) = looked_up.unwrap_or_else(|e| panic!("{e}, after {:?}", self.story.last()));
        let outcomes = [before, world.now()].map(|now| outcome(self.expected.as_ref(), tag, now));
        let seen = self.expected.as_ref().map(|s| (s.version, self.commitment, s.tenure));
        let found = lookup.version.map(|v| (v, lookup.commitment.unwrap(), lookup.tenure.unwrap()));
        assert_eq!(found, seen, "{:?}", self.story.last());
        assert!(outcomes.contains(&lookup.outcome), "{:?} for {outcomes:?}", lookup.outcome);
        let Some(expected) = self.expected.clone() else { return };
        assert_eq!(lookup.tenure_of_next_mapping, expected.next_tenure());
        let shown = |h: &&Held| h.mapping.hidden.is_none() || h.mapping.hidden == tag;
        let mut withheld: Vec<u8> = expected.held.iter().filter(shown).filter_map(unserved).collect();
        let mut found: Vec<u8> = lookup.withheld.iter().map(|w| w.reason).collect();
        withheld.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, withheld);
        let mut listed: Vec<(Hash, Option<u8>)> = vec![];
        for held in expected.held.iter().filter(shown).filter(|h| unserved(h).is_none()) {
            let detached = if let Status::Detached(reason) = held.status { Some(reason) } else { None };
            listed.push((self.forge.digest(&held.mapping), detached));
        }
        let detached = |service| if let Service::Detached { reason } = service { Some(reason) } else { None };
        let mut found: Vec<_> = lookup.mappings.iter().map(|m| (m.digest, detached(m.service))).collect();
        // Visible ones in the order they came, hidden ones after them in none.
        let visible = expected.held.iter().filter(|h| h.mapping.hidden.is_none() && unserved(h).is_none()).count();
        found.get_mut(visible..).unwrap_or_default().sort_unstable();
        listed[visible..].sort_unstable();
        assert_eq!(found, listed, "{:?}", self.story.last());
        self.check_contest(&lookup, &expected, before);
    }

    fn check_contest(&self, lookup: &Lookup, expected: &State, now: Ms) {
        let claim = match lookup.contested {
            Some(Contest::Claim { since, until, objected, .. }) => Some((since.get(), until.get(), objected)),
            _ => None,
        };
        let open = expected.live_claim(now).map(|c| (c.time, c.until, c.objected));
        assert_eq!(claim, open, "{:?}", self.story.last());
        assert_eq!(lookup.changed_hands.is_some(), expected.start.how != How::First);
    }

    /// What the holder of a key sees: everything, its own, or nothing.
    async fn check_history(&mut self, world: &World, key: Who) {
        let now = world.now();
        let Some(expected) = self.expected.clone() else { return };
        let has_one = expected.held.iter().any(|h| h.mapping.key == key);
        let established = [now - HEAD_LAG, now].map(|now| expected.is_established(key, now));
        let public = self.forge.secret(key).public();
        let receipt = match world.stage.client().history(self.forge.secret(key), &self.who).await {
            Ok(receipt) => receipt,
            Err(e) => {
                assert!(e.code() == Some("no-record") && !has_one, "{key:?}: {e}, {:?}", self.story.last());
                return;
            }
        };
        assert!(has_one, "{key:?} has nothing here");
        let (trust, now) = (&world.stage.trust, world.stage.clock.now());
        let asked = common::asked(&self.who, None);
        let opened = open_current(&receipt, &asked, &public, trust, None, now, &mut Trail::default());
        let current = opened.unwrap().expect("a record");
        if established == [true, true] {
            assert!(current.complete);
            if let Some(difference) = self.forge.difference(&expected, &current.state) {
                panic!("{key:?}: {difference}");
            }
            let closed = expected.held.iter().filter(|h| !expected.sees(key, h)).map(|h| self.forge.digest(&h.mapping));
            let closed: BTreeSet<Hash> = closed.collect();
            let found: BTreeSet<Hash> = current.state.closed.iter().map(|slot| slot.mapping).collect();
            assert_eq!(found, closed, "what {key:?} is not shown of what was hidden before it came");
            let steps = past(&world.stage.client(), self.forge.secret(key), &current, None).await.unwrap();
            assert_eq!(
                steps.last().map(|s| s.version),
                current.state.first_seen_by(&public),
                "how far back {key:?} sees"
            );
        } else if established == [false, false]
            && !self.made_by.as_ref().is_some_and(|(_, e, _)| e.authorities.iter().any(|a| a.key == public))
        {
            let others = current.state.held.iter().filter(|h| h.is_hidden() && h.mapping.recipient != public).count();
            assert_eq!(others, 0, "{key:?} is new");
        }
    }

    fn fail(&self, ask: &Ask, what: &str) -> ! {
        println!("what was accepted until then, since the last new beginning:");
        let start = self.expected.as_ref().map_or(0, |s| s.start.version);
        for ask in self.story.iter().filter(|ask| ask.version.is_none_or(|v| v >= start)) {
            println!("{ask:?}");
        }
        println!("what stands: {:#?}", self.expected);
        println!("{ask:#?}");
        panic!("{:?} {what}", ask.kind);
    }
}

fn unserved(held: &Held) -> Option<u8> {
    if let Status::Unserved(reason) = held.status { Some(reason) } else { None }
}

/// Which answer it is.
fn outcome(state: Option<&State>, tag: Option<u8>, now: Ms) -> Outcome {
    let Some(state) = state else { return Outcome::Absent };
    if state.erased {
        return Outcome::Erased;
    }
    let seen = |h: &&Held| (h.mapping.hidden.is_none() || h.mapping.hidden == tag) && unserved(h).is_none();
    let holds = |h: &&Held| h.mapping.from <= now && now < h.mapping.until;
    let counted: Vec<&Held> = state.held.iter().filter(seen).filter(holds).collect();
    if counted.iter().any(|h| h.mapping.msp.is_some()) {
        Outcome::Listed
    } else if counted.is_empty() {
        Outcome::NoneListed
    } else {
        Outcome::OptedOut
    }
}
