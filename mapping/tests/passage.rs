//! What a proof of how a tenure began must show: that a look-up led to the claim all the while that it waited, and that it stood.

mod world;

use waymark_log::{hash::Hash, time::UnixMillis};
use waymark_mapping::{
    answer::{Answer, Inclusion},
    compose::{Composed, compose},
    entry::{Change, Entry},
    event::{Cause, Event, EventKind},
    label::prove_label,
    ladder::VERSION_MAX,
    mapping::{Mapping, Tags},
    receipt::accept,
    record::{Beginning, CLAIM_CHANGES_MAX, CLAIM_VERSIONS_MAX, Claim, Ground, HOLD_MS, RecordState, TAKE_UP_MS},
    rules::{self, Known, Proposal, Refused, State},
    tenure::{Hold, LoggedStep, LoggedVersion, Passage, TenureProof},
    verify::{Lookup, Outcome, Rejected, Trail, verify},
    vrf::VrfProof,
    wire::{List24, encode},
};
use world::{Kept, World, csi, key_of, question, secret, sent};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn judge(world: &World, answer: &Answer) -> Result<Lookup, Rejected> {
    let bytes = answer.to_padded(0).unwrap();
    verify(&bytes, &question(csi()), &world.trust(), None, world.clock(), &mut Trail::default())
        .map(|v| v.get().clone())
}

fn look_up(world: &World) -> Result<Lookup, Rejected> {
    judge(world, &world.answer(&csi(), None))
}

/// Whether an answer is refused, and with which words.
fn is_refused(verdict: Result<Lookup, Rejected>, words: &str) -> bool {
    matches!(verdict, Err(Rejected::NotProven(why)) if why.contains(words))
}

const OUT_OF_TURN: &str = "a look-up did not lead to it";
const NOT_KEPT: &str = "the claim did not stand";
const MISSING: &str = "how the tenure began is not proved";

/// Bob's number, and the labels that his app has given to watchers.
fn bob() -> (World, Vec<Hash>) {
    let mut world = World::new();
    let added = vec![world.visible("bob", "chat.example")];
    let event = world.issue(&["bob"], &added);
    let accepted =
        accept(&world.receipt(), sent(&event, &added), &world.trust(), None, world.clock(), &mut Trail::default())
            .unwrap();
    let watched = accepted.watched.iter().map(|l| l.0).collect();
    world.wait(HOUR);
    (world, watched)
}

fn current(world: &World) -> (State, Hash) {
    let (state, commitment) = world.before().unwrap();
    (state.clone(), commitment)
}

/// What the rules make of an event over a record that may not be in the log.
fn applied(world: &World, over: &Unlogged, event: &Event, added: &[Mapping]) -> State {
    let now = UnixMillis::new(world.now + 200);
    let proposal = Proposal { event, added, origin: &world.origin, now, known: Known::default() };
    rules::apply(Some((&over.state, over.commitment())), proposal).unwrap()
}

/// A version that was made, in the log or not.
struct Unlogged {
    state: State,
    event: Event,
    previous: Hash,
    composed: Composed,
}

impl Unlogged {
    fn new(world: &mut World, state: State, event: Event, previous: Hash) -> Self {
        let cause = Cause { previous, event: event.clone() };
        let composed = compose(&state, &cause, &world.vrf, &mut world.rng);
        Self { state, event, previous, composed }
    }

    fn commitment(&self) -> Hash {
        self.composed.commitment
    }

    fn entry(&self, world: &World) -> Entry {
        let label = prove_label(&world.vrf, &csi(), self.state.version).1;
        Entry::Change(Change { label, commitment: self.commitment() })
    }

    /// As a version of the world, logged with the batch that began at this entry.
    fn keep(self, world: &mut World, first: u64) {
        let cause = Cause { previous: self.previous, event: self.event };
        let (consents, statements) = (vec![], vec![]);
        world.versions.push(Kept { composed: self.composed, state: self.state, cause, consents, statements, first });
    }
}

/// An event by this app over a record that may not be in the log.
fn event_over(world: &mut World, kind: EventKind, over: (&State, Hash), added: &[Mapping], app: &str) -> Event {
    let digests: Vec<Hash> = added.iter().map(Mapping::digest).collect();
    let mut tbs = world.tbs(kind, &digests, &[]);
    (tbs.version, tbs.previous, tbs.tenure) = (over.0.version + 1, over.1, over.0.tenure);
    let possession = (kind == EventKind::NewHolderPending).then(|| world.attest_for(app, &csi(), tbs.tenure + 1));
    let authority = tbs.sign_as_recipient(&world.origin, &secret(app), possession);
    Event { tbs, authorities: List24::new(vec![authority]).unwrap() }
}

fn mallorys(world: &mut World) -> Mapping {
    let proof = world.attest_for("mallory", &csi(), 1);
    world.mapping_by("mallory", "chat.example", Tags::shown(vec![]).unwrap(), proof)
}

/// Mallory's claim over a version.
fn claim_over(world: &mut World, over: (&State, Hash)) -> Unlogged {
    let event = event_over(world, EventKind::NewHolderPending, over, &[], "mallory");
    let now = UnixMillis::new(world.now + 200);
    let proposal = Proposal { event: &event, added: &[], origin: &world.origin, now, known: Known::default() };
    let state = rules::apply(Some(over), proposal).unwrap();
    Unlogged::new(world, state, event, over.1)
}

/// Mallory takes up the claim of a version.
fn taken_up(world: &mut World, over: &Unlogged) -> Unlogged {
    let mapping = mallorys(world);
    let before = (&over.state, over.commitment());
    let event = event_over(world, EventKind::NewHolder, before, std::slice::from_ref(&mapping), "mallory");
    let state = applied(world, over, &event, std::slice::from_ref(&mapping));
    Unlogged::new(world, state, event, over.commitment())
}

fn claim(world: &mut World) {
    let event = world.event(EventKind::NewHolderPending, &[], &[], &["mallory"], true);
    world.change(&event, &[]).unwrap();
}

fn take_up(world: &mut World) -> Result<(), Refused> {
    let mapping = mallorys(world);
    let event = world.event(EventKind::NewHolder, std::slice::from_ref(&mapping), &[], &["mallory"], false);
    world.change(&event, std::slice::from_ref(&mapping))
}

/// The MSP takes Bob's mapping from what it serves, or back.
fn restatement(world: &mut World) -> Event {
    let held = &world.before().unwrap().0.held[0];
    let (digest, serves) = (held.mapping.digest(), held.standing.reason == 0);
    world.statement(EventKind::DpUnserve, Some(digest), u8::from(serves), "dp.example")
}

fn restate(world: &mut World) {
    let event = restatement(world);
    world.change(&event, &[]).unwrap();
}

fn bob_alone_is_seen(world: &World, version: u32) {
    let lookup = look_up(world).unwrap();
    assert_eq!((lookup.version, lookup.outcome, lookup.contested), (Some(version), Outcome::Listed, None));
    assert!(lookup.mappings.iter().all(|m| m.recipient == key_of("bob")));
}

#[test]
fn a_claim_that_is_logged_out_of_turn_has_not_waited() {
    let (mut world, watched) = bob();
    let (s0, c0) = current(&world);
    // Version 1 is nothing at all and is never opened; version 2 is the claim. Only version 2 is logged.
    let (s1, e1) = (State { version: 1, ..s0 }, world.versions[0].cause.event.clone());
    let v1 = Unlogged::new(&mut world, s1, e1, c0);
    let v2 = claim_over(&mut world, (&v1.state, v1.commitment()));
    let (first2, entry) = (world.entries.len() as u64, v2.entry(&world));
    world.publish(vec![entry]);
    for _ in 0..15 {
        world.wait(DAY);
        bob_alone_is_seen(&world, 0);
        assert!(watched.iter().all(|l| world.map.get(l).is_none()), "a watch-list fires");
    }
    let v3 = taken_up(&mut world, &v2);
    let (first3, batch) = (world.entries.len() as u64, vec![v1.entry(&world), v3.entry(&world)]);
    v1.keep(&mut world, first3);
    v2.keep(&mut world, first2);
    v3.keep(&mut world, first3);
    world.publish(batch);
    assert!(is_refused(look_up(&world), OUT_OF_TURN));
    // With the first head from which the claim could be found, it has not waited.
    let (mut answer, head) = (world.answer(&csi(), None), world.logged(3).head);
    let proof = proof_of(&mut answer);
    let Passage::Hold(hold) = &mut proof.passage else { panic!("a hold") };
    hold.pending.at.head = head;
    assert!(is_refused(judge(&world, &answer), NOT_KEPT));
}

#[test]
fn a_tenure_that_is_logged_before_what_leads_to_it_did_not_begin_then() {
    let (mut world, watched) = bob();
    let (s0, c0) = current(&world);
    let mut v1 = claim_over(&mut world, (&s0, c0));
    let RecordState::Contested(claim) = &mut v1.state.state else { panic!("contested") };
    claim.until = UnixMillis::new(world.now);
    let v1 = Unlogged::new(&mut world, v1.state, v1.event, c0);
    let v2 = taken_up(&mut world, &v1);
    let (first2, early) = (world.entries.len() as u64, v2.entry(&world));
    world.publish(vec![early]);
    for _ in 0..31 {
        world.wait(DAY);
        bob_alone_is_seen(&world, 0);
        assert!(watched.iter().all(|l| world.map.get(l).is_none()), "a watch-list fires");
    }
    let (first1, late) = (world.entries.len() as u64, v1.entry(&world));
    v1.keep(&mut world, first1);
    v2.keep(&mut world, first2);
    world.publish(vec![late]);
    let mut answer = world.answer(&csi(), None);
    assert!(matches!(proof_of(&mut answer).passage, Passage::Past));
    assert!(is_refused(judge(&world, &answer), OUT_OF_TURN));
}

#[test]
fn a_claim_past_which_look_ups_were_led_has_not_waited() {
    let (mut world, _) = bob();
    let (s0, c0) = current(&world);
    // With the claim, version 3 is logged, in which Bob stands alone: every look-up is led to that one.
    let v1 = claim_over(&mut world, (&s0, c0));
    let (s3, e3) = (State { version: 3, ..s0 }, world.versions[0].cause.event.clone());
    let v3 = Unlogged::new(&mut world, s3, e3, c0);
    let (first, batch) = (world.entries.len() as u64, vec![v1.entry(&world), v3.entry(&world)]);
    world.publish(batch);
    let kept = Kept { first, ..unkept(&v3) };
    for _ in 0..15 {
        world.wait(DAY);
        let answer = world.answer_claiming(&csi(), Some(3), Some(world.body(&kept, None, false)));
        let lookup = judge(&world, &answer).unwrap();
        assert_eq!((lookup.outcome, lookup.contested), (Outcome::Listed, None));
        assert!(lookup.mappings.iter().all(|m| m.recipient == key_of("bob")));
    }
    // Version 2 is the change of hands, and version 4 goes on from there.
    let v2 = taken_up(&mut world, &v1);
    let (s4, e4) = (State { version: 4, ..v2.state.clone() }, v2.event.clone());
    let v4 = Unlogged::new(&mut world, s4, e4, v3.commitment());
    let (second, batch) = (world.entries.len() as u64, vec![v2.entry(&world), v4.entry(&world)]);
    v1.keep(&mut world, first);
    v2.keep(&mut world, second);
    v3.keep(&mut world, first);
    v4.keep(&mut world, second);
    world.publish(batch);
    assert!(is_refused(look_up(&world), OUT_OF_TURN));
}

fn unkept(made: &Unlogged) -> Kept {
    Kept {
        composed: made.composed.clone(),
        state: made.state.clone(),
        cause: Cause { previous: made.previous, event: made.event.clone() },
        consents: vec![],
        statements: vec![],
        first: 0,
    }
}

#[test]
fn a_claim_that_an_objection_ended_and_that_stands_up_again_has_not_waited() {
    let (mut world, _) = bob();
    claim(&mut world);
    let contested = world.before().unwrap().0.state;
    world.wait(DAY);
    let objection = world.event(EventKind::Objection, &[], &[], &["bob"], true);
    world.change(&objection, &[]).unwrap();
    for _ in 0..14 {
        world.wait(DAY);
        bob_alone_is_seen(&world, 2);
    }
    // The DP puts the old claim back, and the claimant takes it up at once.
    let mut state = world.before().unwrap().0.clone();
    (state.version, state.time, state.state) = (3, UnixMillis::new(world.now + 200), contested);
    world.log_state(state, objection, vec![]);
    take_up(&mut world).unwrap();
    assert!(is_refused(look_up(&world), NOT_KEPT));
    // Nor are versions in which it did not stand left out.
    let without = |keeps: &dyn Fn(u32) -> bool| {
        let mut answer = world.answer(&csi(), None);
        let Passage::Hold(hold) = &mut proof_of(&mut answer).passage else { panic!("a hold") };
        let between = hold.between.iter().filter(|v| keeps(v.at.version)).cloned().collect();
        hold.between = List24::new(between).unwrap();
        judge(&world, &answer)
    };
    assert!(is_refused(without(&|v| v == 3), MISSING));
    assert!(is_refused(without(&|_| false), MISSING));
}

/// Mallory has claimed the number, Bob's MSP and Bob have spoken, and the claim was taken up after its hold. The DP alters the claim in
/// what it logs of these four changes.
fn taken_over(alter: impl Fn(u32, &mut Claim)) -> World {
    let (mut world, _) = bob();
    restate(&mut world);
    claim(&mut world);
    for n in 0..4 {
        world.wait(DAY);
        let event = match n {
            2 => world.event(EventKind::Objection, &[], &[], &["bob"], false),
            _ => restatement(&mut world),
        };
        let mut state = world.judge(&event, &[]).unwrap();
        let RecordState::Contested(claim) = &mut state.state else { panic!("contested") };
        alter(n, claim);
        world.log_state(state, event, vec![]);
    }
    world.wait(2 * HOLD_MS);
    take_up(&mut world).unwrap();
    world
}

fn proof_of(answer: &mut Answer) -> &mut TenureProof {
    answer.full.0.as_mut().unwrap().tenure.0.as_mut().unwrap()
}

#[test]
fn every_version_from_the_claim_to_the_change_of_hands_is_shown() {
    let mut world = taken_over(|_, _| {});
    restate(&mut world);
    assert_eq!(look_up(&world).unwrap().changed_hands.unwrap().how, Beginning::NewHolder);
    let mut answer = world.answer(&csi(), None);
    let Passage::Hold(hold) = proof_of(&mut answer).passage.clone() else { panic!("a hold") };
    assert_eq!(hold.between.iter().map(|v| v.at.version).collect::<Vec<_>>(), [3, 4, 5, 6]);
    let mut tried = vec![];
    for at in 0..4 {
        let mut fewer = hold.between.to_vec();
        let mut twice = fewer.clone();
        fewer.remove(at);
        twice.insert(at, fewer[0].clone());
        tried.extend([fewer, twice]);
    }
    let mut turned = hold.between.to_vec();
    turned.swap(1, 2);
    let earlier = [&[world.opened(1)], &hold.between[..]].concat();
    let later = [&hold.between[..], &[world.opened(7)]].concat();
    tried.extend([turned, earlier, later]);
    for between in tried {
        let Passage::Hold(shown) = &mut proof_of(&mut answer).passage else { panic!("a hold") };
        shown.between = List24::new(between).unwrap();
        assert!(is_refused(judge(&world, &answer), MISSING));
    }
}

#[test]
fn only_an_objection_changes_a_claim_and_that_once() {
    type Alter = fn(u32, &mut Claim);
    let cases: [(Alter, bool); 6] = [
        (|_, _| {}, true),
        // Bob's objection is taken back.
        (
            |n, c| {
                if n == 3 {
                    c.objected.0 = false
                }
            },
            false,
        ),
        (
            |n, c| {
                if n == 1 {
                    c.until = UnixMillis::new(c.until.get() - 1)
                }
            },
            false,
        ),
        (
            |n, c| {
                if n == 3 {
                    c.until = c.until.plus_ms(HOUR)
                }
            },
            false,
        ),
        (
            |n, c| {
                if n == 1 {
                    c.time = UnixMillis::new(c.time.get() - 1)
                }
            },
            false,
        ),
        (|n, c| if n < 3 { c.key = key_of("eve") } else { c.key = key_of("mallory") }, false),
    ];
    for (alter, is_believed) in cases {
        let verdict = look_up(&taken_over(alter));
        assert_eq!(verdict.is_ok(), is_believed);
        assert!(is_believed || is_refused(verdict, NOT_KEPT));
    }
}

/// The DP takes Mallory's claim up, whatever has become of it.
fn take_up_regardless(world: &mut World) {
    let mapping = mallorys(world);
    let event = world.event(EventKind::NewHolder, std::slice::from_ref(&mapping), &[], &["mallory"], false);
    let (before, commitment) = current(world);
    let now = UnixMillis::new(world.now + 200);
    let over = UnixMillis::new(world.now - HOLD_MS - HOUR);
    let claim = Claim::new(key_of("mallory"), before.version, over, before.state.claim().unwrap().ground);
    let before = State { state: RecordState::Contested(claim), ..before };
    let added = std::slice::from_ref(&mapping);
    let proposal = Proposal { event: &event, added, origin: &world.origin, now, known: Known::default() };
    let state = rules::apply(Some((&before, commitment)), proposal).unwrap();
    let consents = vec![world.consent(&mapping)];
    world.log_state(state, event, consents);
}

/// Bob's number, long after he came.
fn bob_long_since() -> World {
    let (mut world, _) = bob();
    world.wait(40 * DAY);
    world
}

/// Senders are not shown a claim that is void, and an objection to it is refused: so it does not wait.
#[test]
fn a_claim_that_is_void_does_not_wait() {
    // It is dated so far back that it is void from the day on which it is logged.
    let mut world = bob_long_since();
    let event = world.event(EventKind::NewHolderPending, &[], &[], &["mallory"], true);
    let mut state = world.judge(&event, &[]).unwrap();
    state.time = UnixMillis::new(world.now - 29 * DAY);
    state.state = RecordState::Contested(Claim::new(key_of("mallory"), 1, state.time, Ground::Equal));
    world.log_state(state, event, vec![]);
    for _ in 0..15 {
        world.wait(DAY);
        bob_alone_is_seen(&world, 1);
    }
    take_up_regardless(&mut world);
    assert!(is_refused(look_up(&world), NOT_KEPT));
    // It stood, and is taken up when it has been void for long.
    let mut world = bob_long_since();
    claim(&mut world);
    world.wait(HOLD_MS + TAKE_UP_MS);
    bob_alone_is_seen(&world, 1);
    take_up_regardless(&mut world);
    assert!(is_refused(look_up(&world), NOT_KEPT));
    // In time is until the head behind it.
    for late in [0, 1000] {
        let mut world = bob_long_since();
        claim(&mut world);
        let until = world.before().unwrap().0.state.claim().unwrap().until.get();
        world.wait(until + TAKE_UP_MS - world.now - 3000 + late);
        take_up_regardless(&mut world);
        assert_eq!(world.head.time.get() >= until + TAKE_UP_MS, late > 0);
        assert_eq!(look_up(&world).is_ok(), late == 0);
    }
}

#[test]
fn an_objection_does_not_raise_a_claim_that_is_void() {
    for waited in [1, 12] {
        let mut world = bob_long_since();
        let event = world.event(EventKind::NewHolderPending, &[], &[], &["mallory"], true);
        let mut state = world.judge(&event, &[]).unwrap();
        state.time = UnixMillis::new(world.now - 26 * DAY);
        let claim = Claim::new(key_of("mallory"), 1, state.time, Ground::Equal);
        state.state = RecordState::Contested(claim);
        world.log_state(state, event, vec![]);
        // It is void after two days. The DP has it extended before or after.
        world.wait(waited * DAY);
        let event = world.event(EventKind::Objection, &[], &[], &["bob"], false);
        let (before, _) = current(&world);
        let time = UnixMillis::new(world.now + 200);
        let extended = RecordState::Contested(claim.extended().unwrap());
        world.log_state(State { version: 2, time, state: extended, ..before }, event, vec![]);
        world.wait(14 * DAY - waited * DAY + HOUR);
        take_up_regardless(&mut world);
        let verdict = look_up(&world);
        assert_eq!(verdict.is_ok(), waited == 1, "{waited}");
        assert!(waited == 1 || is_refused(verdict, NOT_KEPT));
    }
}

#[test]
fn the_steps_of_a_proof_are_those_that_lead_to_its_versions_and_no_others() {
    let (mut world, _) = bob();
    (0..4).for_each(|_| restate(&mut world));
    let withdrawn = world.event(EventKind::Withdraw, &[], &all(&world), &["bob"], false);
    let mut vacated = clone(&world);
    vacated.change(&withdrawn, &[]).unwrap();
    let next = vacated.visible("carol", "chat.example");
    vacated.issue(&["carol"], std::slice::from_ref(&next));
    claim(&mut world);
    restate(&mut world);
    world.wait(HOLD_MS + HOUR);
    take_up(&mut world).unwrap();
    (0..2).for_each(|_| restate(&mut world));
    let mut past = clone(&world);
    past.wait(31 * DAY);
    // Versions 5 and 6 of a hold that version 7 ended, 8 not being on the ladder of 6; version 5 that is vacant, and 6; version 7 alone.
    for (world, steps) in [(world, vec![0, 1, 3]), (vacated, vec![0, 1, 3]), (past, vec![0, 1, 3])] {
        steps_are_these(&world, &steps);
    }
}

fn steps_are_these(world: &World, expected: &[u32]) {
    assert!(look_up(world).is_ok());
    let mut answer = world.answer(&csi(), None);
    let steps = proof_of(&mut answer).steps.to_vec();
    assert_eq!(steps.iter().map(|s| s.version).collect::<Vec<_>>(), expected);
    let mut tried: Vec<Vec<LoggedStep>> = vec![vec![]];
    for (i, step) in steps.iter().enumerate() {
        // One is left out, is there twice, is another, or is not where it is said to be.
        let change = |alter: &dyn Fn(&mut Vec<LoggedStep>)| {
            let mut other = steps.clone();
            alter(&mut other);
            other
        };
        tried.push(change(&|s| drop(s.remove(i))));
        tried.push(change(&|s| s.insert(i, step.clone())));
        tried.push(change(&|s| s[i] = LoggedStep { version: step.version, ..world.step(2) }));
        tried.push(change(&|s| s[i].change.index += 1));
        tried.push(change(&|s| s[i].commitment = Hash::ZERO));
    }
    tried.push([&steps[..2], &[world.step(2)], &steps[2..]].concat());
    let latest = world.versions.len() as u32 - 1;
    tried.push([steps.as_slice(), &[world.step(latest)]].concat());
    tried.push(steps.iter().rev().cloned().collect());
    for steps in tried {
        proof_of(&mut answer).steps = List24::new(steps).unwrap();
        assert!(matches!(judge(world, &answer), Err(Rejected::NotProven(_))));
    }
}

fn all(world: &World) -> Vec<Hash> {
    world.before().unwrap().0.digests()
}

fn clone(world: &World) -> World {
    World {
        entries: world.entries.clone(),
        map: world.map.clone(),
        providers: world.providers.clone(),
        changes: world.changes,
        head: world.head.clone(),
        now: world.now,
        versions: world.versions.clone(),
        serial: world.serial + 1000,
        ..World::new()
    }
}

#[test]
fn a_claim_is_void_once_more_versions_were_made_than_its_proof_may_show() {
    let (mut world, _) = bob();
    claim(&mut world);
    (0..CLAIM_VERSIONS_MAX).for_each(|_| restate(&mut world));
    assert!(look_up(&world).unwrap().contested.is_some());
    let mut kept = clone(&world);
    kept.wait(HOLD_MS + HOUR);
    take_up(&mut kept).unwrap();
    let answer = kept.answer(&csi(), None);
    assert_eq!(judge(&kept, &answer).unwrap().changed_hands.unwrap().how, Beginning::NewHolder);
    let Passage::Hold(hold) = answer.full.0.unwrap().tenure.0.unwrap().passage else { panic!("a hold") };
    assert_eq!(hold.between.len(), CLAIM_VERSIONS_MAX as usize);
    // One more, and nothing is claimed any more.
    let contested = world.before().unwrap().0.state;
    restate(&mut world);
    assert_eq!((world.before().unwrap().0.state, look_up(&world).unwrap().contested), (RecordState::Standing, None));
    world.wait(HOLD_MS + HOUR);
    assert_eq!(take_up(&mut world), Err(Refused::NoClaim));
    // Not even if the DP leaves it standing.
    let (last, event) = (world.before().unwrap().0.clone(), world.versions[1].cause.event.clone());
    world.log_state(State { version: last.version + 1, state: contested, ..last }, event, vec![]);
    assert_eq!(look_up(&world).unwrap().contested, None);
    assert_eq!(take_up(&mut world), Err(Refused::NoClaim));
}

/// A former holder whose possession is gone does not end a claim by changing something often; what ends a stolen key still may come.
#[test]
fn a_claim_is_not_made_void_by_ordinary_changes() {
    let (mut world, _) = bob();
    claim(&mut world);
    (0..CLAIM_CHANGES_MAX).for_each(|_| restate(&mut world));
    let mapping = world.visible("bob", "wire.example");
    let event = world.event(EventKind::Issue, std::slice::from_ref(&mapping), &[], &["bob"], false);
    assert_eq!(world.judge(&event, &[mapping]), Err(Refused::Unsettled));
    let objection = world.event(EventKind::Objection, &[], &[], &["bob"], false);
    world.change(&objection, &[]).unwrap();
    assert!(look_up(&world).unwrap().contested.is_some());
    let token = world.token("bob");
    assert!(world.judge(&token, &[]).is_ok());
}

#[test]
fn the_longest_proof_has_room_in_a_log_of_a_billion_entries() {
    let mut answer = taken_over(|_, _| {}).answer(&csi(), None);
    let TenureProof { start, passage, .. } = proof_of(&mut answer).clone();
    let Passage::Hold(hold) = passage else { panic!("a hold") };
    let far = |at: &mut LoggedVersion, version: u32| {
        at.version = version;
        (at.change.path, at.head.at.path) = (path_of_thirty(), path_of_thirty());
    };
    let opened = |version: u32| {
        let mut opened = hold.pending.clone();
        far(&mut opened.at, version);
        opened
    };
    let mut most = 0;
    let lasts = [40, 1000, (1 << 19) + 15, (1 << 20) - 2, 1 << 20, 0x5555_5555, 0x7fff_fffe, VERSION_MAX - 1];
    for last in lasts.into_iter().chain((0..200).map(|i| (1 << 18) + i * 7919)) {
        let pending = last - CLAIM_VERSIONS_MAX;
        let between: Vec<_> = (pending..=last).skip(1).map(opened).collect();
        let mut start = start.clone();
        far(&mut start, last + 1);
        let between = List24::new(between).unwrap();
        let passage = Passage::Hold(Hold { pending: opened(pending), between, before: hold.before.clone() });
        let proof = TenureProof { start, passage, steps: List24::empty() };
        let steps: Vec<LoggedStep> = proof.steps_needed(VERSION_MAX).into_iter().map(far_step).collect();
        most = most.max(steps.len());
        let proof = TenureProof { steps: List24::new(steps).unwrap(), ..proof };
        let longest = if last < 1 << 21 { 136 << 10 } else { 184 << 10 };
        assert!(encode(&proof).len() <= longest, "{last}: {}", encode(&proof).len());
    }
    assert!(most <= 95, "{most}");
}

fn path_of_thirty() -> List24<Hash, 2048> {
    List24::new(vec![Hash::ZERO; 30]).unwrap()
}

fn far_step(version: u32) -> LoggedStep {
    let change = Inclusion { index: 0, path: path_of_thirty() };
    LoggedStep { version, vrf_proof: VrfProof::new([0; 80]), commitment: Hash::ZERO, change }
}
