//! What a reader does not believe of a DP that has keys, log and witnesses, and lies.

mod world;

use waymark_log::time::UnixMillis;
use waymark_mapping::{
    answer::{Answer, HiddenValue, Receipt, TagProof},
    compose::Composed,
    event::{ANY_VERSION, Event, EventKind},
    label::prove_handle,
    mapping::Mapping,
    names::Tag,
    receipt::{Current, ReceiptRefused, accept, open_current},
    record::{HOLD_MS, HiddenSlot, NEW_MS},
    signed::SignedStruct,
    verify::{Asked, Lookup, Rejected, Trail, verify},
    vrf::VrfSecret,
    wire::{List24, Optional24, Undecoded, decode, encode},
};
use world::{ORIGIN, World, csi, key_of, question, secret, sent};

const MINUTE_MS: u64 = 60_000;

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn ask(world: &World, answer: &Answer, presented: Option<&str>) -> Result<Lookup, Rejected> {
    let asked = Asked { origin: ORIGIN.clone(), csi: csi(), tag: presented.map(tag) };
    let bytes = answer.to_padded(0).unwrap();
    verify(&bytes, &asked, &world.trust(), None, world.clock(), &mut Trail::default()).map(|v| v.get().clone())
}

fn is_not_proven(verdict: Result<Lookup, Rejected>) -> bool {
    matches!(verdict, Err(Rejected::NotProven(_)))
}

fn judge(world: &World, receipt: &Receipt, event: &Event, added: &[Mapping]) -> Result<Current, ReceiptRefused> {
    accept(receipt, sent(event, added), &world.trust(), None, world.clock(), &mut Trail::default())
}

fn current(world: &World, receipt: &Receipt, app: &str) -> Result<Option<Current>, ReceiptRefused> {
    open_current(receipt, &question(csi()), &key_of(app), &world.trust(), None, world.clock(), &mut Trail::default())
}

/// Moves the handle of a hidden mapping to another ordinal of its tag.
fn move_handle(composed: &mut Composed, vrf: &VrfSecret, ordinal: u8) {
    for opened in &mut composed.hidden {
        let HiddenValue::Present(_, content) = &opened.value else { continue };
        let text = content.mapping().and_then(|m| m.tags.as_exact()).unwrap();
        let (vrf_proof, handle) = prove_handle(vrf, &csi(), 0, text, ordinal);
        opened.handle = Optional24(Some(TagProof { ordinal, vrf_proof }));
        let slot = &mut composed.contents.hidden.0[usize::from(opened.slot)];
        *slot = HiddenSlot { handle, ..*slot };
    }
}

/// A DP that logs a hidden mapping under an ordinal that no sender comes to. `end` is what its receipt says of the tag.
fn hidden_away(ordinal: u8, end: &[u8]) -> (World, Event, Vec<Mapping>, Receipt) {
    let mut world = World::new();
    let added = vec![world.hidden("a", "chat.example", "soccer")];
    let event = world.event(EventKind::Issue, &added, &[], &["a"], false);
    let state = world.judge(&event, &added).unwrap();
    world.log_tampered(state, event.clone(), vec![], |composed, vrf| move_handle(composed, vrf, ordinal));
    let mut receipt = world.receipt();
    let proof = |ordinal: &u8| TagProof {
        ordinal: *ordinal,
        vrf_proof: prove_handle(&world.vrf, &csi(), 0, &tag("soccer"), *ordinal).0,
    };
    let body = receipt.now.body.0.as_mut().unwrap();
    body.tag_proofs = List24::new(end.iter().map(proof).collect()).unwrap();
    (world, event, added, receipt)
}

#[test]
fn a_receipt_proves_what_a_sender_with_the_tag_will_find() {
    let (world, event, added, receipt) = hidden_away(0, &[1]);
    judge(&world, &receipt, &event, &added).unwrap();
    let sender = ask(&world, &world.answer(&csi(), Some(&tag("soccer"))), Some("soccer")).unwrap();
    assert_eq!(sender.mappings.len(), 1);
    // Whatever the receipt says of the tag: what lies behind its end was not promised.
    for (ordinal, end) in
        [(1, &[0][..]), (1, &[]), (1, &[0, 2]), (1, &[2]), (200, &[0]), (7, &[0, 1, 2, 3, 4, 5, 6, 8])]
    {
        let (world, event, added, receipt) = hidden_away(ordinal, end);
        let verdict = judge(&world, &receipt, &event, &added);
        assert!(matches!(verdict, Err(ReceiptRefused::Rejected(Rejected::NotProven(_)))), "{ordinal} {end:?}");
        assert!(current(&world, &receipt, "a").is_err(), "{ordinal} {end:?}");
    }
    // Nor proofs too many, too few, or of a tag that is not opened.
    for end in [&[][..], &[0], &[2], &[1, 2], &[1, 1]] {
        let (world, event, added, receipt) = hidden_away(0, end);
        assert!(judge(&world, &receipt, &event, &added).is_err(), "{end:?}");
    }
}

#[test]
fn ordinals_are_proved_for_each_tag_and_need_no_slot_of_another_key() {
    let mut world = World::new();
    let added = vec![
        world.visible("a", "chat.example"),
        world.hidden("a", "chat.example", "soccer"),
        world.hidden("a", "wire.example", "chess"),
        world.hidden("b", "wire.example", "soccer"),
    ];
    world.issue(&["a", "b"], &added);
    let mut receipt = world.receipt();
    current(&world, &receipt, "a").unwrap();
    // A key that sees its own slots only: the handle of the other key's mapping is proved without its slot.
    let kept = world.versions.last().unwrap().clone();
    let own = world.body(&kept, None, true).hidden.to_vec();
    let own: Vec<_> =
        own.into_iter().filter(|h| h.value.mapping().is_some_and(|m| m.recipient == key_of("b"))).collect();
    let (place, slots) = ((&kept.state.csi, kept.state.version), &kept.composed.contents.hidden);
    let proofs = waymark_mapping::compose::prove_tags(&world.vrf, place, slots, &own, None);
    assert_eq!(proofs.len(), 2);
    let body = receipt.now.body.0.as_mut().unwrap();
    (body.hidden, body.tag_proofs) = (List24::new(own).unwrap(), List24::new(proofs.clone()).unwrap());
    let trail = &mut Trail::default();
    let by = key_of("somebody who is not established here");
    open_current(&receipt, &question(csi()), &by, &world.trust(), None, world.clock(), trail).unwrap();
    // Without the proof of the other handle, the tag is not proved to its end.
    receipt.now.body.0.as_mut().unwrap().tag_proofs = List24::new(proofs[1..].to_vec()).unwrap();
    assert!(open_current(&receipt, &question(csi()), &by, &world.trust(), None, world.clock(), trail).is_err());
}

#[test]
fn what_is_dated_after_its_head_is_refused() {
    for ahead in [31_000, 60 * 24 * 60 * MINUTE_MS] {
        let mut world = World::new();
        let mut attestation = world.attest("a", &csi());
        attestation.time = UnixMillis::new(world.now + ahead);
        attestation.expiry = attestation.time.plus_ms(MINUTE_MS);
        attestation.sign(&world.origin.clone(), &secret("dp.example"));
        let tags = waymark_mapping::mapping::Tags::shown(vec![]).unwrap();
        let added = vec![world.mapping_by("a", "chat.example", tags, attestation)];
        let event = world.event(EventKind::Issue, &added, &[], &["a"], false);
        // The rules refuse it; a DP in league with its prover would log it all the same.
        assert!(world.judge(&event, &added).is_err());
        let mut state = world.judge_at(&event, &added, UnixMillis::new(world.now + ahead)).unwrap();
        state.time = world.clock();
        state.start.time = world.clock();
        state.held[0].standing.since = world.clock();
        world.log_state(state, event, vec![]);
        assert!(is_not_proven(ask(&world, &world.answer(&csi(), None), None)), "{ahead} ms");
    }
}

#[test]
fn a_record_is_not_dated_after_its_head() {
    let mut world = World::new();
    let added = vec![world.visible("a", "chat.example")];
    let event = world.event(EventKind::Issue, &added, &[], &["a"], false);
    let state = world.judge_at(&event, &added, UnixMillis::new(world.now + 5_000)).unwrap();
    world.log_state(state, event, vec![]);
    assert!(is_not_proven(ask(&world, &world.answer(&csi(), None), None)));
}

#[test]
fn the_number_for_any_version_is_no_version() {
    let world = World::new();
    let mut answer = world.answer(&csi(), None);
    answer.version = ANY_VERSION;
    assert!(is_not_proven(ask(&world, &answer, None)));
}

#[test]
fn a_statement_that_was_taken_back_is_not_shown_again() {
    let mut world = World::new();
    let added = vec![world.visible("a", "chat.example")];
    world.issue(&["a"], &added);
    let digest = added[0].digest();
    let first = world.statement(EventKind::MspDetach, Some(digest), 1, "chat.example");
    world.change(&first, &[]).unwrap();
    ask(&world, &world.answer(&csi(), None), None).unwrap();
    let mut back = world.statement(EventKind::MspDetach, None, 0, "chat.example");
    back.tbs.added = List24::new(vec![digest]).unwrap();
    back.authorities = List24::new(vec![back.tbs.sign_as(
        waymark_mapping::event::AuthorityRole::Msp,
        &world.origin,
        &secret("chat.example"),
    )])
    .unwrap();
    world.change(&back, &[]).unwrap();
    // The DP detaches it again by itself, with the old statement.
    let mut state = world.versions.last().unwrap().state.clone();
    state.version += 1;
    state.held[0].standing.status = waymark_mapping::record::SlotStatus::Detached;
    state.held[0].standing.reason = 1;
    state.held[0].standing.stated_version = state.version;
    world.log_state(state, first, vec![]);
    assert!(is_not_proven(ask(&world, &world.answer(&csi(), None), None)));
}

#[test]
fn a_list_with_something_twice_is_not_the_list_that_was_signed() {
    // Worlds are the same each time that they are made.
    let made = || {
        let mut world = World::new();
        let added = vec![world.visible("a", "chat.example"), world.visible("a", "wire.example")];
        let event = world.event(EventKind::Issue, &added, &[], &["a"], false);
        let honest = world.judge(&event, &added).unwrap();
        (world, event, added, honest)
    };
    let (mut world, event, added, honest) = made();
    world.log_state(honest.clone(), event.clone(), vec![]);
    judge(&world, &world.receipt(), &event, &added).unwrap();
    for held in [
        vec![honest.held[0].clone(), honest.held[1].clone(), honest.held[0].clone()],
        vec![honest.held[1].clone(), honest.held[0].clone()],
        vec![honest.held[0].clone(), honest.held[0].clone()],
        vec![honest.held[0].clone()],
    ] {
        let (mut world, event, added, honest) = made();
        let state = waymark_mapping::rules::State { held, ..honest };
        world.log_state(state, event.clone(), vec![]);
        let verdict = judge(&world, &world.receipt(), &event, &added);
        assert_eq!(verdict.err(), Some(ReceiptRefused::NotTheChange));
    }
}

#[test]
fn the_current_record_of_an_established_key_is_shown_whole_and_with_its_cause() {
    let mut world = World::new();
    let added = vec![world.visible("a", "chat.example")];
    world.issue(&["a"], &added);
    world.wait(NEW_MS);
    let thief = vec![world.hidden("thief", "wire.example", "gold")];
    world.issue(&["thief"], &thief);
    let receipt = world.receipt();
    let shown = current(&world, &receipt, "a").unwrap().unwrap();
    assert_eq!(shown.state.held.len(), 2);
    // What raised the alert is kept back, or what made the version is.
    let mut without = receipt.clone();
    let body = without.now.body.0.as_mut().unwrap();
    let (hidden, none) = (body.hidden.to_vec(), List24::empty());
    let empty = hidden.into_iter().filter(|h| h.value.mapping().is_none()).collect();
    (body.hidden, body.tag_proofs) = (List24::new(empty).unwrap(), none);
    without.now.providers = world.providers_for(without.now.body.0.as_ref());
    assert_eq!(current(&world, &without, "a").err(), Some(ReceiptRefused::Incomplete));
    let mut without = receipt;
    without.cause = Optional24(None);
    assert_eq!(current(&world, &without, "a").err(), Some(ReceiptRefused::Incomplete));
}

#[test]
fn heads_that_are_shown_ascend_in_time_with_their_index() {
    let mut world = World::new();
    let added = vec![world.visible("a", "chat.example")];
    world.issue(&["a"], &added);
    // The head behind the change is dated in 1970: what it proves would look old. (A monitor finds the head.)
    let mut state = world.versions.last().unwrap().state.clone();
    let later = world.clock();
    world.now = 1_000;
    let event = world.versions.last().unwrap().cause.event.clone();
    state.version += 1;
    state.held[0].standing.since_version = 1;
    state.held[0].standing.since = UnixMillis::new(0);
    state.time = UnixMillis::new(0);
    state.start.time = UnixMillis::new(0);
    state.held[0].mapping.attestation.time = later;
    world.log_state(state, event, vec![]);
    world.now = later.get() + HOLD_MS;
    world.publish(vec![]);
    let mut answer = world.answer(&csi(), None);
    let since = world.since(answer.body.0.as_ref().unwrap());
    answer.full = Optional24(Some(waymark_mapping::answer::Full {
        open_path: List24::empty(),
        since: List24::new(since).unwrap(),
        tenure: Optional24(None),
        earlier: List24::empty(),
    }));
    assert!(is_not_proven(ask(&world, &answer, None)));
}

#[test]
fn possession_under_an_event_is_signed_with_it() {
    let mut world = World::new();
    let added = vec![world.visible("a", "chat.example")];
    let event = world.event(EventKind::Issue, &added, &[], &["a"], true);
    let authority = &event.authorities[0];
    assert!(authority.possession.0.is_some() && authority.verify(&event.tbs, &world.origin).is_ok());
    let mut without = authority.clone();
    without.possession = Optional24(None);
    assert!(without.verify(&event.tbs, &world.origin).is_err());
    let mut other = authority.clone();
    other.possession = Optional24(Some(world.attest("a", &csi())));
    assert!(other.verify(&event.tbs, &world.origin).is_err());
}

#[test]
fn an_unknown_algorithm_is_not_supported_and_not_malformed() {
    let mut world = World::new();
    let bytes = encode(&world.visible("a", "chat.example"));
    let mut newer = bytes.clone();
    newer[0] = 2;
    assert!(matches!(decode::<Mapping>("mapping", &newer), Err(Undecoded::NotSupported { .. })));
    // The recipient's key: its algorithm stands behind the format, the identifier and the tenure.
    let at = 1 + encode(&csi()).len() + 4;
    let mut newer = bytes.clone();
    newer[at..at + 2].copy_from_slice(&waymark_log::key::algorithm::ML_DSA_44.to_be_bytes());
    assert!(matches!(decode::<Mapping>("mapping", &newer), Err(Undecoded::NotSupported { .. })));
    let mut wrong_length = bytes;
    wrong_length[at + 3] = 31;
    assert!(matches!(decode::<Mapping>("mapping", &wrong_length), Err(Undecoded::Malformed { .. })));
}
