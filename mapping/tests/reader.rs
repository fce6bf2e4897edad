//! What a reader does not believe of a DP that has keys, log and witnesses, and lies.

mod world;

use waymark_log::{hash::Hash, time::UnixMillis};
use waymark_mapping::{
    answer::{Answer, HiddenValue, Receipt, TagProof},
    compose::Composed,
    entry::{Change, Entry},
    event::{ANY_VERSION, AuthorityRole, Event, EventKind},
    facts::Service,
    label::{prove_handle, prove_label},
    ladder,
    mapping::{Attestation, Consent, MAPPING_LIFETIME_MS_MAX, Mapping, MappingRefused, Method},
    names::Tag,
    receipt::{Current, ReceiptRefused, accept, open_current},
    record::{Claim, Contents, Ground, HOLD_MS, HiddenSlot, NEW_MS, Record, RecordState, SlotStatus},
    rules::{Refused, State},
    signed::{SignedStruct, UNSIGNED},
    verify::{Asked, Lookup, Outcome, Rejected, Trail, verify},
    vrf::VrfSecret,
    watch::{WatchId, WatchList},
    wire::{Extensions, Flag, Format, List24, Optional24, Undecoded, decode, encode},
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

/// A record whose times a DP has altered before it was logged.
fn dated(alter: impl FnOnce(&mut State)) -> Result<Lookup, Rejected> {
    let mut world = World::new();
    let added = vec![world.visible("a", "chat.example")];
    let event = world.event(EventKind::Issue, &added, &[], &["a"], false);
    let mut state = world.judge(&event, &added).unwrap();
    alter(&mut state);
    world.log_state(state, event, vec![]);
    ask(&world, &world.answer(&csi(), None), None)
}

#[test]
fn nothing_in_a_record_is_dated_after_it() {
    let claim = |time: UnixMillis| {
        let (key, until) = (key_of("b"), time.plus_ms(HOLD_MS));
        RecordState::Contested(Claim { key, version: 0, time, until, ground: Ground::Equal, objected: Flag(false) })
    };
    for (ahead, good) in [(0, true), (1, false)] {
        for alter in [
            &(|s: &mut State| s.start.time = s.time.plus_ms(ahead)) as &dyn Fn(&mut State),
            &|s| s.held[0].standing.since = s.time.plus_ms(ahead),
            &|s| s.state = claim(s.time.plus_ms(ahead)),
        ] {
            let verdict = dated(alter);
            assert_eq!((verdict.is_ok(), is_not_proven(verdict)), (good, !good), "{ahead} ms");
        }
    }
    // A statement is dated by who makes it, whose clock may be 30 s ahead.
    for (kind, by, role) in [
        (EventKind::MspDetach, "chat.example", AuthorityRole::Msp),
        (EventKind::DpUnserve, "dp.example", AuthorityRole::Dp),
    ] {
        for (ahead, good) in [(30_000, true), (30_001, false)] {
            let mut world = World::new();
            let added = vec![world.visible("a", "chat.example")];
            world.issue(&["a"], &added);
            let mut event = world.statement(kind, Some(added[0].digest()), 1, by);
            let state = world.judge(&event, &[]).unwrap();
            event.tbs.time = state.time.plus_ms(ahead);
            let authority = event.tbs.sign_as(role, &world.origin, &secret(by));
            event.authorities = List24::new(vec![authority]).unwrap();
            world.log_state(state, event, vec![]);
            let verdict = ask(&world, &world.answer(&csi(), None), None);
            assert_eq!((verdict.is_ok(), is_not_proven(verdict)), (good, !good), "{kind:?} {ahead} ms");
        }
    }
}

/// A time to the millisecond would link what one person says at several providers.
#[test]
fn a_mapping_ends_with_a_day_and_a_consent_with_a_month() {
    let logged = |not_after: &dyn Fn(&Mapping) -> UnixMillis, expiry_off: u64| {
        let mut world = World::new();
        let honest = world.visible("a", "chat.example");
        let mut mapping = honest.clone();
        mapping.not_after = not_after(&honest);
        mapping.sign(&world.origin.clone(), &secret("a"));
        let event = world.event(EventKind::Issue, std::slice::from_ref(&mapping), &[], &["a"], false);
        let judged = world.judge(&event, std::slice::from_ref(&mapping)).map(drop);
        let event_of_honest = world.event(EventKind::Issue, std::slice::from_ref(&honest), &[], &["a"], false);
        let mut state = world.judge(&event_of_honest, std::slice::from_ref(&honest)).unwrap();
        state.held[0].mapping = mapping.clone();
        let (digest, mut consent, salt) = world.consent(&mapping);
        consent.expiry = consent.expiry.plus_ms(expiry_off);
        consent.sign(&world.origin, &secret("chat.example"));
        world.log_state(state, event, vec![(digest, consent, salt)]);
        (mapping.verify(&world.origin), judged, ask(&world, &world.answer(&csi(), None), None))
    };
    let end = |m: &Mapping| m.attestation.time.plus_ms(MAPPING_LIFETIME_MS_MAX);
    for good in [&(|m: &Mapping| m.not_after) as &dyn Fn(&Mapping) -> UnixMillis, &|m| end(m).floor_day()] {
        let (verified, judged, seen) = logged(good, 0);
        assert!(verified.is_ok() && judged.is_ok() && seen.is_ok());
    }
    let day = 24 * 60 * MINUTE_MS;
    for bad in [
        &(|m: &Mapping| m.not_after.plus_ms(1)) as &dyn Fn(&Mapping) -> UnixMillis,
        &|m| UnixMillis::new(m.not_after.get() - 1),
        &end,
        &|m| end(m).floor_day().plus_ms(day),
    ] {
        let (verified, judged, seen) = logged(bad, 0);
        assert_eq!(verified, Err(MappingRefused::Validity));
        assert!(matches!(judged, Err(Refused::Mapping(MappingRefused::Validity))), "{judged:?}");
        assert!(is_not_proven(seen));
    }
    for off in [1, day] {
        assert!(is_not_proven(logged(&|m| m.not_after, off).2), "{off}");
    }
}

#[test]
fn how_strict_a_proof_is_follows_from_its_method() {
    for (method, strength) in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (0, 0), (6, 0), (255, 0)] {
        assert_eq!(Method(method).strength(), strength);
        let mut world = World::new();
        let mut proof = world.attest("a", &csi());
        proof.method = Method(method);
        proof.sign(&world.origin.clone(), &secret("dp.example"));
        let tags = waymark_mapping::mapping::Tags::shown(vec![]).unwrap();
        let added = [world.mapping_by("a", "chat.example", tags, proof)];
        world.issue(&["a"], &added);
        let seen = ask(&world, &world.answer(&csi(), None), None).unwrap();
        assert_eq!(seen.mappings[0].possession.strength, strength, "{method}");
    }
}

#[test]
fn the_number_for_any_version_is_no_version() {
    // Each is logged with all versions that its ladder asks for.
    let latest = |version: u32| {
        let mut world = World::new();
        let added = vec![world.visible("a", "chat.example")];
        let event = world.event(EventKind::Issue, &added, &[], &["a"], false);
        let mut state = world.judge(&event, &added).unwrap();
        state.version = version;
        world.log_state(state, event, vec![]);
        let there = ladder::base(Some(version)).into_iter().filter(|v| *v < version);
        let change = |v| Change { label: prove_label(&world.vrf, &csi(), v).1, commitment: Hash::sha256(&[b"any"]) };
        let batch = there.map(|v| Entry::Change(change(v))).collect();
        world.publish(batch);
        ask(&world, &world.answer(&csi(), None), None)
    };
    assert_eq!(latest(ANY_VERSION - 1).unwrap().version, Some(ANY_VERSION - 1));
    assert!(is_not_proven(latest(ANY_VERSION)));
}

#[test]
fn a_statement_that_was_taken_back_does_not_make_a_new_standing() {
    let mut world = World::new();
    let added = vec![world.visible("a", "chat.example")];
    world.issue(&["a"], &added);
    let digest = added[0].digest();
    let first = world.statement(EventKind::MspDetach, Some(digest), 1, "chat.example");
    world.change(&first, &[]).unwrap();
    ask(&world, &world.answer(&csi(), None), None).unwrap();
    let mut back = world.statement(EventKind::MspDetach, None, 0, "chat.example");
    back.tbs.added = List24::new(vec![digest]).unwrap();
    back.authorities =
        List24::new(vec![back.tbs.sign_as(AuthorityRole::Msp, &world.origin, &secret("chat.example"))]).unwrap();
    world.change(&back, &[]).unwrap();
    // The DP detaches it again by itself, with the old statement.
    let again = |world: &mut World, stated_version: u32| {
        let mut state = world.versions.last().unwrap().state.clone();
        state.version += 1;
        let standing = &mut state.held[0].standing;
        (standing.status, standing.reason, standing.stated_version) = (SlotStatus::Detached, 1, stated_version);
        world.log_state(state, first.clone(), vec![]);
    };
    let watched = current(&world, &world.receipt(), "a").unwrap().unwrap().watched;
    again(&mut world, 3);
    assert!(is_not_proven(ask(&world, &world.answer(&csi(), None), None)));
    // With the old version, too, a sender takes it for what it was. It is a version that nobody asked for: the recipient's watch-list fires.
    again(&mut world, 1);
    let seen = ask(&world, &world.answer(&csi(), None), None).unwrap();
    assert_eq!(seen.mappings[0].service, Service::Detached { reason: 1 });
    let label = |version| prove_label(&world.vrf, &csi(), version).1;
    assert!(watched.contains(&label(3)) && world.map.get(&label(3).0).is_some());
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
        let state = State { held, ..honest };
        world.log_state(state, event.clone(), vec![]);
        let verdict = judge(&world, &world.receipt(), &event, &added);
        // A mapping that is there twice is in no good record at all.
        let refused = verdict.expect_err("another list");
        assert!(matches!(refused, ReceiptRefused::NotTheChange | ReceiptRefused::Rejected(Rejected::NotProven(_))));
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
    // Two mappings, and the head behind the second is dated so many milliseconds after the one behind the first.
    let logged_by = |dated: u64| {
        let mut world = World::new();
        let first = vec![world.visible("a", "chat.example")];
        world.issue(&["a"], &first);
        let now = world.now;
        let second = vec![world.visible("a", "wire.example")];
        let event = world.event(EventKind::Issue, &second, &[], &["a"], false);
        let state = world.judge(&event, &second).unwrap();
        world.now = now + dated - 1000;
        world.log_state(state, event, vec![]);
        world.now = now + HOLD_MS;
        world.publish(vec![]);
        let mut answer = world.answer(&csi(), None);
        answer.full = Optional24(Some(waymark_mapping::answer::Full {
            open_path: List24::empty(),
            since: List24::new(world.since(answer.body.0.as_ref().unwrap())).unwrap(),
            tenure: Optional24(None),
            earlier: List24::empty(),
        }));
        ask(&world, &answer, None)
    };
    assert_eq!(logged_by(1000).unwrap().mappings.len(), 2);
    // What it proves would look as old as a DP likes, or younger than the answer's own head.
    for dated in [0, HOLD_MS + 1000, HOLD_MS + 1001] {
        assert!(is_not_proven(logged_by(dated)), "{dated} ms");
    }
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

/// What is left to a DP with a prover on its side, or to whoever holds an intercepted code at such a DP: without a change of hands the one
/// mapping goes and another one comes. A sender who comes for the first time cannot tell; whoever watches, or knew the mapping, can.
#[test]
fn a_takeover_within_a_tenure_verifies_and_shows_to_those_who_watched() {
    let mut world = World::new();
    let bobs = vec![world.visible("bob", "chat.example")];
    world.issue(&["bob"], &bobs);
    let before = current(&world, &world.receipt(), "bob").unwrap().unwrap();
    world.wait(NEW_MS);
    let forged = [world.visible("mallory", "chat.example")];
    let event = world.event(EventKind::Replace, &forged, &[bobs[0].digest()], &["mallory"], true);
    assert_eq!(world.judge(&event, &forged), Err(Refused::NotAuthorised), "an honest DP does not");
    let mut state = world.versions.last().unwrap().state.clone();
    (state.version, state.time) = (1, world.clock());
    state.held[0].mapping = forged[0].clone();
    (state.held[0].standing.since_version, state.held[0].standing.since) = (1, state.time);
    world.log_state(state, event, vec![]);

    let seen = ask(&world, &world.answer(&csi(), None), None).unwrap();
    assert_eq!((seen.outcome, seen.contested, seen.changed_hands), (Outcome::Listed, None, None));
    let [found] = &seen.mappings[..] else { panic!("one mapping") };
    assert!(found.holds && !found.change.is_new && found.recipient == key_of("mallory"));
    // The label of the new version is one of those that Bob's watch-list holds, and his mapping is not among what everybody sees.
    let label = prove_label(&world.vrf, &csi(), 1).1;
    assert!(before.watched.contains(&label) && world.map.get(&label.0).is_some());
    assert!(seen.mappings.iter().all(|m| m.digest != bobs[0].digest()));
}

/// Old records are opened inside newer answers, so each structure says itself of which format it is.
#[test]
fn every_structure_that_is_signed_or_committed_to_begins_with_its_format() {
    fn only_format_1<T: tls_codec::Deserialize + tls_codec::Serialize + tls_codec::Size>(what: &T) {
        let mut bytes = encode(what);
        assert!(bytes[0] == 1 && decode::<T>("structure", &bytes).is_ok());
        for other in [0, 2, 255] {
            bytes[0] = other;
            assert!(matches!(decode::<T>("structure", &bytes), Err(Undecoded::NotSupported { .. })), "{other}");
        }
    }
    let mut world = World::new();
    let added = vec![world.visible("a", "chat.example")];
    let event = world.issue(&["a"], &added);
    let (_, consent, _) = world.consent(&added[0]);
    let composed = world.versions[0].composed.clone();
    only_format_1::<Attestation>(&added[0].attestation);
    only_format_1::<Mapping>(&added[0]);
    only_format_1::<Consent>(&consent);
    only_format_1::<Event>(&event);
    only_format_1::<Contents>(&composed.contents);
    only_format_1::<Record>(&composed.record);
    only_format_1::<Answer>(&world.answer(&csi(), None));
    let mut list = WatchList {
        format: Format,
        origin: (&*ORIGIN).into(),
        id: WatchId([1; 16]),
        holder: key_of("a's watcher"),
        size: 1,
        root: Hash::ZERO,
        made: world.clock(),
        expiry: world.clock(),
        labels: List24::empty(),
        renews: Optional24(None),
        extensions: Extensions::NONE,
        sig: UNSIGNED,
    };
    list.sign(&ORIGIN, &secret("a's watcher"));
    only_format_1::<WatchList>(&list);
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
