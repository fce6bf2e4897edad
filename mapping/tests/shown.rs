//! What a reader is shown is whole: every slot that bears a tag, the cause of a version, the record before, and nothing that nobody
//! signed. Each test is a DP that leaves something out or puts something in.

mod world;

use waymark_log::{hash::Hash, time::UnixMillis};
use waymark_mapping::{
    answer::{Answer, HiddenValue, Past, Receipt, TagProof},
    compose::compose,
    event::{Authority, AuthorityRole, Cause, Event, EventKind},
    label::prove_handle,
    mapping::{Mapping, Tags},
    names::Tag,
    receipt::{Current, ReceiptRefused, accept, open_current},
    record::{Claim, Ground, HOLD_MS, HiddenSlot, NEW_MS, RecordState, SHORT_HOLD_MS},
    rules::{Held, Known, Refused, State},
    signed::UNSIGNED,
    verify::{Asked, Lookup, Rejected, Trail, verify},
    wire::{Flag, List24, Optional24},
};
use world::{Kept, ORIGIN, World, csi, key_of, sent};

const HOUR: u64 = 3_600_000;

/// Makes an event in a world.
type Make = fn(&mut World) -> Event;
/// Alters a record.
type Alter = fn(&mut State);

fn tag() -> Tag {
    Tag::parse("soccer").unwrap()
}

fn ask(world: &World, answer: &Answer, presented: Option<Tag>) -> Result<Lookup, Rejected> {
    let asked = Asked { origin: ORIGIN.clone(), csi: csi(), tag: presented };
    let bytes = answer.to_padded(0).unwrap();
    verify(&bytes, &asked, &world.trust(), None, world.clock(), &mut Trail::default()).map(|v| v.get().clone())
}

fn proof_of(world: &World, ordinal: u8) -> TagProof {
    TagProof { ordinal, vrf_proof: prove_handle(&world.vrf, &csi(), 0, &tag(), ordinal).0 }
}

fn accepted(world: &World, receipt: &Receipt, event: &Event, added: &[Mapping]) -> Result<Current, ReceiptRefused> {
    accept(receipt, sent(event, added), &world.trust(), None, world.clock(), &mut Trail::default())
}

fn opened(world: &World, receipt: &Receipt) -> Result<Option<Current>, ReceiptRefused> {
    let (trust, trail) = (world.trust(), &mut Trail::default());
    open_current(receipt, &world::question(csi()), &key_of("bob"), &trust, None, world.clock(), trail)
}

/// Bob's visible mapping, an hour ago.
fn bob() -> World {
    let mut world = World::new();
    let added = vec![world.visible("bob", "chat.example")];
    world.issue(&["bob"], &added);
    world.wait(HOUR);
    world
}

/// "The ordinals of opened slots are 0, 1, …, and the next is proved to be borne by none": a handle that some slot bears is no end.
#[test]
fn a_sender_who_presents_a_tag_is_shown_every_slot_that_bears_it() {
    let mut world = World::new();
    let added = vec![world.visible("a", "chat.example"), world.hidden("a", "chat.example", "soccer")];
    world.issue(&["a"], &added);
    let honest = world.answer(&csi(), Some(&tag()));
    assert_eq!(ask(&world, &honest, Some(tag())).unwrap().mappings.len(), 2);
    let kept = world.versions.last().unwrap().clone();
    let mut body = world.body(&kept, None, false);
    body.tag_proofs = List24::new(vec![proof_of(&world, 0), proof_of(&world, 1)]).unwrap();
    let answer = world.answer_claiming(&csi(), Some(0), Some(body));
    assert!(matches!(ask(&world, &answer, Some(tag())), Err(Rejected::NotProven(_))));
}

/// A mapping behind a slot that is empty and bears the tag's first handle would be found by no sender.
#[test]
fn no_slot_that_is_shown_empty_bears_the_handle_of_a_tag() {
    let mut world = World::new();
    let added = vec![world.hidden("a", "chat.example", "soccer")];
    let event = world.event(EventKind::Issue, &added, &[], &["a"], false);
    let state = world.judge(&event, &added).unwrap();
    world.log_tampered(state, event.clone(), vec![], |composed, vrf| {
        let (mut done, contents) = (false, &mut composed.contents);
        for opened in &mut composed.hidden {
            let slot = &mut contents.hidden.0[usize::from(opened.slot)];
            match &opened.value {
                HiddenValue::Present(..) => {
                    let (vrf_proof, handle) = prove_handle(vrf, &csi(), 0, &tag(), 1);
                    opened.handle = Optional24(Some(TagProof { ordinal: 1, vrf_proof }));
                    *slot = HiddenSlot { handle, ..*slot };
                }
                HiddenValue::Empty if !done => {
                    done = true;
                    *slot = HiddenSlot { handle: prove_handle(vrf, &csi(), 0, &tag(), 0).1, ..*slot };
                }
                HiddenValue::Empty => {}
            }
        }
    });
    let mut receipt = world.receipt();
    let proofs = vec![proof_of(&world, 0), proof_of(&world, 2)];
    receipt.now.body.0.as_mut().unwrap().tag_proofs = List24::new(proofs).unwrap();
    assert!(matches!(accepted(&world, &receipt, &event, &added), Err(ReceiptRefused::Rejected(_))));
}

/// An event is shown as the cause of a version only if it made it: signed, for that version, and leading to that record. Else an app would
/// take somebody else's change for its own, and claim it before its watchers.
#[test]
fn the_cause_that_is_shown_is_the_event_that_made_the_version() {
    let cases: [(&str, Make); 3] = [
        ("of an earlier version", |world| world.versions[0].cause.event.clone()),
        ("signed by nobody", |world| {
            let mapping = world.visible("bob", "wire.example");
            let mut event = world.event(EventKind::Issue, &[mapping], &[], &["bob"], false);
            let unsigned = Authority { sig: UNSIGNED, ..event.authorities[0].clone() };
            event.authorities = List24::new(vec![unsigned]).unwrap();
            event
        }),
        // Bob has signed it over this very record, and it was never carried out.
        ("for another change", |world| {
            let mapping = world.visible("bob", "wire.example");
            world.event(EventKind::Issue, &[mapping], &[], &["bob"], false)
        }),
    ];
    for (what, cause) in cases {
        let mut world = bob();
        world.wait(NEW_MS);
        let shown_as = cause(&mut world);
        let added = vec![world.visible("mallory", "chat.example")];
        let real = world.event(EventKind::Issue, &added, &[], &["mallory"], false);
        let state = world.judge(&real, &added).unwrap();
        world.log_state(state, shown_as, vec![]);
        assert!(opened(&world, &world.receipt()).is_err(), "{what}");
    }
    let mut world = bob();
    world.wait(NEW_MS);
    let added = vec![world.visible("mallory", "chat.example")];
    let real = world.event(EventKind::Issue, &added, &[], &["mallory"], false);
    world.change(&real, &added).unwrap();
    let current = opened(&world, &world.receipt()).unwrap().unwrap();
    assert_eq!(current.event, Some(real));
}

/// What a key sees of the record before is as complete as what it sees of the record: else what is kept back could be dropped.
#[test]
fn the_record_before_is_shown_whole_to_a_key_that_is_not_new() {
    let mut world = World::new();
    let hidden = world.hidden("bob", "chat.example", "soccer");
    let first = vec![world.visible("bob", "chat.example"), hidden.clone()];
    world.issue(&["bob"], &first);
    world.wait(NEW_MS + HOUR);
    let added = vec![world.visible("bob", "wire.example")];
    let event = world.event(EventKind::Issue, &added, &[], &["bob"], false);
    let mut state = world.judge(&event, &added).unwrap();
    state.held.retain(|h| h.mapping != hidden);
    world.log_state(state, event.clone(), vec![]);
    let mut receipt = world.receipt();
    assert_eq!(accepted(&world, &receipt, &event, &added), Err(ReceiptRefused::NotTheChange));
    let previous = receipt.previous.0.as_mut().unwrap();
    let kept: Vec<_> = previous.hidden.iter().filter(|h| h.value.mapping().is_none()).cloned().collect();
    previous.hidden = List24::new(kept).unwrap();
    assert_eq!(accepted(&world, &receipt, &event, &added), Err(ReceiptRefused::Incomplete));
}

/// Where what allowed a change is closed to the reader, the rest of the record is compared all the same.
#[test]
fn a_change_that_is_judged_by_what_it_names_brings_nothing_along() {
    let cases: [(bool, Alter); 3] = [
        (true, |_| {}),
        (false, |state| {
            state.state = RecordState::Contested(Claim {
                key: key_of("eve"),
                version: state.version,
                time: state.time,
                until: state.time.plus_ms(HOLD_MS),
                ground: Ground::Equal,
                objected: Flag(false),
            });
        }),
        (false, |state| state.held.last_mut().unwrap().standing.since = UnixMillis::new(1)),
    ];
    for (right, alter) in cases {
        let mut world = World::new();
        let first = [world.visible("bob", "chat.example"), world.hidden("bob", "wire.example", "soccer")];
        world.issue(&["bob"], &first);
        world.wait(HOUR);
        let second = [world.visible("tablet", "chat.example")];
        world.issue(&["tablet"], &second);
        world.wait(NEW_MS + HOUR);
        let added = vec![world.visible("tablet", "wire.example"), world.visible("watch", "chat.example")];
        let event = world.event(EventKind::Issue, &added, &[], &["tablet", "watch"], false);
        let mut state = world.judge(&event, &added).unwrap();
        // The last of the visible ones is the one that was added.
        state.held.sort_by_key(Held::is_hidden);
        let visible = state.held.iter().filter(|h| !h.is_hidden()).count();
        let hidden = state.held.split_off(visible);
        alter(&mut state);
        state.held.extend(hidden);
        world.log_state(state, event.clone(), vec![]);
        let verdict = accepted(&world, &world.receipt_since("tablet", 1), &event, &added);
        assert_eq!(verdict.is_ok(), right, "{:?}", verdict.err());
    }
}

/// A key that came long ago is not made new by another date: it would be owed nothing, and anybody could remove what it says.
#[test]
fn a_mapping_does_not_stand_since_a_time_after_its_proof_of_possession() {
    let mut world = bob();
    world.wait(NEW_MS);
    let added = vec![world.visible("mallory", "chat.example")];
    let event = world.event(EventKind::Issue, &added, &[], &["mallory"], false);
    let mut state = world.judge(&event, &added).unwrap();
    let (version, time) = (state.version, state.time);
    let own = &mut state.held[0].standing;
    (own.newcomer, own.since, own.since_version) = (Flag(true), time, version);
    world.log_state(state, event, vec![]);
    assert!(matches!(ask(&world, &world.answer(&csi(), None), None), Err(Rejected::NotProven(_))));
    assert!(matches!(opened(&world, &world.receipt()), Err(ReceiptRefused::Rejected(_))));
}

/// A hold of 72 hours rests on the DP's word wherever no prover is pinned for it: the sender is told.
#[test]
fn a_short_hold_that_nothing_proves_is_shown_as_contested() {
    for ground in [Ground::Equal, Ground::Lapsed, Ground::Recycled, Ground::Stricter] {
        let mut world = bob();
        let claim = world.event(EventKind::NewHolderPending, &[], &[], &["eve"], true);
        let mut state = world.judge(&claim, &[]).unwrap();
        let RecordState::Contested(c) = &mut state.state else { panic!() };
        (c.ground, c.until) = (ground, c.time.plus_ms(ground.hold_ms()));
        world.log_state(state, claim, vec![]);
        world.wait(ground.hold_ms() + HOUR);
        let proof = world.attest_for("eve", &csi(), 1);
        let mapping = world.mapping_by("eve", "chat.example", Tags::shown(vec![]).unwrap(), proof);
        let taken = world.event(EventKind::NewHolder, std::slice::from_ref(&mapping), &[], &["eve"], false);
        let dp = [world::domain("dp.example")];
        let known = Known { stricter: &dp, ..Known::default() };
        let state = world.judge_knowing(&taken, std::slice::from_ref(&mapping), known).unwrap();
        world.log_state(state, taken, vec![]);
        let contested = |world: &World| ask(world, &world.answer(&csi(), None), None).unwrap().contested.is_some();
        assert_eq!(contested(&world), ground != Ground::Equal, "{ground:?}");
        // As long as a hold of the usual length would have gone on; what rests on a prover, as long as the passage is proved.
        world.wait(HOLD_MS - SHORT_HOLD_MS);
        assert_eq!(contested(&world), ground == Ground::Stricter, "{ground:?}");
    }
}

/// "No signing time lies more than 30 s after the head it is logged under": a statement dated further ahead is not taken.
#[test]
fn a_statement_that_readers_would_refuse_is_not_logged() {
    let mut world = bob();
    let digest = world.versions[0].state.held[0].mapping.digest();
    for (ahead, taken) in [(4 * 60_000, false), (30_000, true)] {
        let mut statement = world.statement(EventKind::MspDetach, Some(digest), 1, "chat.example");
        statement.tbs.time = UnixMillis::new(world.now + ahead);
        let authority = statement.tbs.sign_as(AuthorityRole::Msp, &world.origin, &world::secret("chat.example"));
        statement.authorities = List24::new(vec![authority]).unwrap();
        let verdict = world.change(&statement, &[]).err();
        assert_eq!(verdict, (!taken).then_some(Refused::DatedAhead));
    }
    assert!(ask(&world, &world.answer(&csi(), None), None).is_ok());
}

/// A DP and somebody with a key show Bob another past than the one in the log: his second mapping was in version `at`, and is gone in the next
/// one, which is made over a version that was never logged. Gives the commitment of the real one.
fn rewritten(at: u32) -> (World, Hash) {
    let mut world = bob();
    for _ in 0..at {
        let added = vec![world.visible("bob", "wire.example")];
        world.issue(&["bob"], &added);
    }
    world.wait(HOUR);
    let real = world.versions.pop().unwrap();
    let added = vec![world.visible("mallory", "chat.example")];
    let event = world.event(EventKind::Issue, &added, &[], &["mallory"], false);
    let state = world.judge(&event, &added).unwrap();
    let cause = Cause { previous: world.before().unwrap().1, event };
    let composed = compose(&state, &cause, &world.vrf, &mut world.rng);
    world.versions.push(Kept { composed, state, cause, consents: vec![], statements: vec![], first: real.first });
    let removed = [added[0].digest()];
    let added = vec![world.visible("mallory", "wire.example")];
    let event = world.event(EventKind::Replace, &added, &removed, &["mallory"], false);
    world.change(&event, &added).unwrap();
    (world, real.composed.commitment)
}

fn past_of(world: &World, version: usize) -> Past {
    let kept = &world.versions[version];
    let previous = world.bare_body(&world.versions[version - 1]);
    Past { cause: kept.cause.clone(), cause_salt: kept.composed.cause_salt, previous: Optional24(Some(previous)) }
}

#[test]
fn the_past_that_is_shown_is_the_one_in_the_log_as_far_as_the_ladder_shows_it() {
    // The ladder of version 4 has version 3, and so have those of the versions after it.
    let (mut world, _) = rewritten(3);
    assert_eq!(opened(&world, &world.receipt()), Err(ReceiptRefused::OtherPrevious));
    let added = vec![world.visible("bob", "chat.example")];
    let event = world.event(EventKind::Issue, &added, &[], &["bob"], false);
    world.change(&event, &added).unwrap();
    let anchor = opened(&world, &world.receipt()).unwrap().unwrap().anchor;
    let (_, before) = anchor.step(&past_of(&world, 5), &key_of("bob")).unwrap();
    let refused = before.unwrap().1.step(&past_of(&world, 4), &key_of("bob"));
    assert_eq!(refused, Err(ReceiptRefused::OtherPrevious));
}

#[test]
fn the_past_that_is_shown_leads_through_the_version_that_the_reader_was_shown_before() {
    // No ladder of the next versions has version 4.
    let (mut world, real) = rewritten(4);
    let mut anchor = opened(&world, &world.receipt()).unwrap().unwrap().anchor;
    assert_eq!(anchor.remember(4, real), Err(ReceiptRefused::OtherPrevious));
    let added = vec![world.visible("bob", "chat.example")];
    let event = world.event(EventKind::Issue, &added, &[], &["bob"], false);
    world.change(&event, &added).unwrap();
    for (commitment, is_shown) in [(real, false), (world.versions[4].composed.commitment, true)] {
        let mut anchor = opened(&world, &world.receipt()).unwrap().unwrap().anchor;
        anchor.remember(4, commitment).unwrap();
        let (_, before) = anchor.step(&past_of(&world, 6), &key_of("bob")).unwrap();
        let verdict = before.unwrap().1.step(&past_of(&world, 5), &key_of("bob"));
        assert_eq!(verdict.is_ok(), is_shown);
    }
}

/// A record is no older than the one that it follows: dated back, a claim in it is void before anybody has seen it.
#[test]
fn a_record_is_not_dated_before_the_one_that_it_follows() {
    for back in [0, 1] {
        let mut world = bob();
        world.wait(NEW_MS);
        let standing = world.before().unwrap().0.held[0].mapping.digest();
        let event = world.statement(EventKind::DpUnserve, Some(standing), 1, "dp.example");
        world.change(&event, &[]).unwrap();
        let event = world.event(EventKind::NewHolderPending, &[], &[], &["mallory"], true);
        let time = UnixMillis::new(world.before().unwrap().0.time.get() - back);
        let mut state = world.judge(&event, &[]).unwrap();
        (state.time, state.state) =
            (time, RecordState::Contested(Claim::new(key_of("mallory"), 2, time, Ground::Equal)));
        world.log_state(state, event, vec![]);
        let verdict = opened(&world, &world.receipt());
        assert_eq!(verdict.err(), (back > 0).then_some(ReceiptRefused::OtherPrevious));
    }
}
