//! MIMI's requirements R1, R2, R3, R5 and point F8, as far as a pure verifier can hold them: a DP that has every key but the
//! recipient's, and logs what it likes.

mod world;

use waymark_log::{hash::Hash, key::Key};
use waymark_mapping::{
    answer::{Answer, Body},
    entry::ProviderRole,
    event::EventKind,
    facts::Service,
    mapping::{Consent, Mapping, Tags},
    names::Tag,
    rules::{Held, Refused},
    signed::{SignedStruct, UNSIGNED},
    trust::Trust,
    verify::{Lookup, Outcome, Rejected, Trail, verify},
    wire::{List24, Opaque8, Optional24, encode},
};
use world::{World, csi, domain, key_of, question, secret};

fn judged(world: &World, answer: &Answer, trust: &Trust) -> Result<Lookup, Rejected> {
    let asked = question(csi());
    let bytes = answer.to_padded(0).unwrap();
    verify(&bytes, &asked, trust, None, world.clock(), &mut Trail::default()).map(|v| v.get().clone())
}

fn check(world: &World) -> Result<Lookup, Rejected> {
    judged(world, &world.answer(&csi(), None), &world.trust())
}

fn is_not_proven<T>(verdict: &Result<T, Rejected>) -> bool {
    matches!(verdict, Err(Rejected::NotProven(_)))
}

fn shown(tag: &str) -> Tags {
    Tags::shown(vec![Tag::parse(tag).unwrap()]).unwrap()
}

/// Logs `forged` in the place of the one mapping that was asked for, with the MSP's consent under it, whatever the rules say.
fn log_instead(world: &mut World, honest: &Mapping, forged: &Mapping, app: &str) {
    let event = world.event(EventKind::Issue, std::slice::from_ref(honest), &[], &[app], false);
    let mut state = world.judge(&event, std::slice::from_ref(honest)).unwrap();
    let standing = state.held[0].standing;
    state.held = vec![Held { standing, mapping: forged.clone() }];
    let consent = world.consent(forged);
    world.log_state(state, event, vec![consent]);
}

/// R1: the DP's signatures, the prover's and the MSP's together make no mapping.
#[test]
fn r1_a_mapping_that_its_recipient_did_not_sign_is_refused_by_the_rules_and_by_verify() {
    let unsigned = |m: &mut Mapping| m.sig = UNSIGNED;
    let by = |who: &'static str| move |m: &mut Mapping| m.sign(&World::new().origin, &secret(who));
    let borrowed = |m: &mut Mapping| {
        let mut world = World::new();
        m.sig = world.visible("bob", "wire.example").sig;
    };
    let (by_dp, by_msp) = (by("dp.example"), by("chat.example"));
    let forgeries: [&dyn Fn(&mut Mapping); 4] = [&unsigned, &by_dp, &by_msp, &borrowed];
    for (number, forge) in forgeries.iter().enumerate() {
        let mut world = World::new();
        let honest = world.visible("bob", "chat.example");
        let mut forged = honest.clone();
        forge(&mut forged);
        let event = world.event(EventKind::Issue, std::slice::from_ref(&forged), &[], &["bob"], false);
        assert!(world.judge(&event, std::slice::from_ref(&forged)).is_err(), "{number}");
        log_instead(&mut world, &honest, &forged, "bob");
        assert!(is_not_proven(&check(&world)), "{number}");
    }
    // The DP names a key of its own as the recipient, but all that it has is an attestation for Bob's.
    let mut world = World::new();
    let honest = world.visible("bob", "chat.example");
    let mut forged = Mapping { recipient: key_of("dp.example"), ..honest.clone() };
    forged.sign(&world.origin, &secret("dp.example"));
    log_instead(&mut world, &honest, &forged, "bob");
    assert!(is_not_proven(&check(&world)));
    // With nothing forged the same steps end well.
    let mut world = World::new();
    let honest = world.visible("bob", "chat.example");
    log_instead(&mut world, &honest, &honest, "bob");
    assert_eq!(check(&world).unwrap().mappings.len(), 1);
}

/// R1: nor does anybody else's word, with a good signature, in the recipient's place.
#[test]
fn r1_no_other_role_authorises_an_issue() {
    let mut world = World::new();
    let mapping = world.visible("bob", "chat.example");
    for other in ["dp.example", "chat.example", "mallory"] {
        let event = world.event(EventKind::Issue, std::slice::from_ref(&mapping), &[], &[other], false);
        assert_eq!(world.judge(&event, std::slice::from_ref(&mapping)), Err(Refused::NotAuthorised), "{other}");
    }
}

/// R2: tags are under the recipient's signature.
#[test]
fn r2_altering_a_tag_breaks_the_signature() {
    let other_tags = [shown("business"), Tags::shown(vec![]).unwrap(), shown("Default")];
    for tags in other_tags {
        let mut world = World::new();
        let honest = world.visible("bob", "chat.example");
        assert_eq!(honest.tags, shown("default"));
        let altered = Mapping { tags, ..honest.clone() };
        log_instead(&mut world, &honest, &altered, "bob");
        assert!(is_not_proven(&check(&world)));
    }
    // Shown as signed, and with the mapping that bears it.
    let mut world = World::new();
    let mappings = [
        world.mapping("bob", "chat.example", shown("personal")),
        world.mapping("bob", "wire.example", shown("business")),
    ];
    world.issue(&["bob"], &mappings);
    let found = check(&world).unwrap();
    let pairs: Vec<_> = found.mappings.iter().map(|m| (m.msp.clone().unwrap(), m.tags.clone())).collect();
    assert_eq!(pairs, [(domain("chat.example"), shown("personal")), (domain("wire.example"), shown("business"))]);
}

/// R3: of three mappings none can be left out, in whatever way.
#[test]
fn r3_a_dp_that_omits_one_of_three_mappings_is_detected() {
    let mut world = World::new();
    let three =
        [world.visible("a", "chat.example"), world.visible("b", "wire.example"), world.visible("c", "chat.example")];
    world.issue(&["a", "b"], &three[..2]);
    let two = world.versions.last().unwrap().clone();
    world.issue(&["c"], &three[2..]);
    assert_eq!(check(&world).unwrap().mappings.len(), 3);
    let kept = world.versions.last().unwrap().clone();
    let refused = |version: u32, body: Body| {
        let answer = world.answer_claiming(&csi(), Some(version), Some(body));
        is_not_proven(&judged(&world, &answer, &world.trust()))
    };
    for omitted in 0..3 {
        // Its slot is not opened; or the record itself has one slot less.
        let mut body = world.body(&kept, None, false);
        let rest = |n: usize| (0..n).filter(move |i| *i != omitted);
        body.visible = List24::new(rest(3).map(|i| body.visible[i].clone()).collect()).unwrap();
        assert!(refused(1, body.clone()), "{omitted} is not opened");
        let slots = &body.contents.visible;
        body.contents.visible = List24::new(rest(slots.len()).map(|i| slots[i]).collect()).unwrap();
        assert!(refused(1, body), "{omitted} is not in the record");
    }
    // The version before, which lists two, is passed off as the latest.
    assert!(refused(0, world.body(&two, None, false)));
    // All three are denied.
    assert!(is_not_proven(&judged(&world, &world.answer_claiming(&csi(), None, None), &world.trust())));
}

/// R5: what is known of each answer, beside its outcome: how many mappings, at how many MSPs, by how many keys.
fn told(world: &World) -> (Outcome, usize, usize, usize) {
    let found = check(world).unwrap();
    let count = |mut all: Vec<Vec<u8>>| {
        all.sort();
        all.dedup();
        all.len()
    };
    let msps = found.mappings.iter().filter_map(|m| m.msp.as_ref()).map(|d| d.as_str().as_bytes().to_vec()).collect();
    let keys = found.mappings.iter().map(|m| m.recipient.as_bytes().to_vec()).collect();
    (found.outcome, found.mappings.len(), count(msps), count(keys))
}

/// R5: none, opted out, one, many, and several sets are told apart, each proved.
#[test]
fn r5_the_five_answers_are_told_apart() {
    let mut world = World::new();
    assert_eq!(told(&world), (Outcome::Absent, 0, 0, 0));

    let none = world.mapping("a", "", Tags::shown(vec![]).unwrap());
    let event = world.event(EventKind::OptOut, std::slice::from_ref(&none), &[], &["a"], false);
    world.change(&event, std::slice::from_ref(&none)).unwrap();
    assert_eq!(told(&world), (Outcome::OptedOut, 1, 0, 1));

    let one = world.visible("a", "chat.example");
    let event = world.event(EventKind::Replace, std::slice::from_ref(&one), &[none.digest()], &["a"], false);
    world.change(&event, std::slice::from_ref(&one)).unwrap();
    assert_eq!(told(&world), (Outcome::Listed, 1, 1, 1));

    let many = world.visible("a", "wire.example");
    world.issue(&["a"], std::slice::from_ref(&many));
    assert_eq!(told(&world), (Outcome::Listed, 2, 2, 1), "one recipient key, two MSPs");

    let others = world.visible("b", "chat.example");
    world.issue(&["b"], std::slice::from_ref(&others));
    assert_eq!(told(&world), (Outcome::Listed, 3, 2, 2), "another app of the recipient's has a set of its own");

    for mapping in [&one, &many] {
        let event = world.event(EventKind::Withdraw, &[], &[mapping.digest()], &["a"], false);
        world.change(&event, &[]).unwrap();
    }
    let event = world.event(EventKind::Withdraw, &[], &[others.digest()], &["b"], false);
    world.change(&event, &[]).unwrap();
    assert_eq!(told(&world), (Outcome::NoneListed, 0, 0, 0), "and none that stands is not the same as none ever");
}

/// The one visible mapping's consent, put in place of what the MSP gave.
fn with_consent(world: &World, by: &str) -> (Answer, Key) {
    let kept = world.versions.last().unwrap();
    let mut body = world.body(kept, None, false);
    let mut opened = body.visible[0].clone();
    let consent = opened.consent.0.as_mut().unwrap();
    consent.consent = Consent { msp_key: key_of(by), sig: UNSIGNED, ..consent.consent.clone() };
    consent.consent.sign(&world.origin, &secret(by));
    body.visible = List24::new(vec![opened]).unwrap();
    (world.answer_claiming(&csi(), Some(kept.state.version), Some(body)), key_of(by))
}

/// F8: who the recipient is does not hang on the MSP's key, and not on whether there is one.
#[test]
fn f8_another_key_of_the_msp_does_not_change_who_the_recipient_is() {
    let mut world = World::new();
    let mapping = world.visible("bob", "chat.example");
    world.issue(&["bob"], std::slice::from_ref(&mapping));
    let before = check(&world).unwrap();
    assert_eq!(before.mappings[0].service, Service::Confirmed { in_log: false, pinned: false });
    let (swapped, key) = with_consent(&world, "somebody at the MSP");
    assert_ne!(key, key_of("chat.example"));
    let mut without = world.body(world.versions.last().unwrap(), None, false);
    let mut opened = without.visible[0].clone();
    opened.consent = Optional24(None);
    without.visible = List24::new(vec![opened]).unwrap();
    let without = world.answer_claiming(&csi(), Some(0), Some(without));
    for answer in [swapped, without] {
        let found = judged(&world, &answer, &world.trust()).unwrap();
        let (old, new) = (&before.mappings[0], &found.mappings[0]);
        assert_eq!(new.service, Service::Unconfirmed);
        assert_eq!((&new.recipient, &new.digest, &new.possession), (&old.recipient, &old.digest, &old.possession));
    }
    // An MSP that hangs its own key under the mapping has changed what the recipient signed.
    let stapled = Mapping {
        fingerprint: Opaque8::new(*Hash::sha256(&[&encode(&key)]).as_bytes()).unwrap(),
        ..world.visible("bob", "chat.example")
    };
    assert!(stapled.verify(&world.origin).is_err());
}

/// F3: a DP may be an MSP as well, and the facts say that it vouches for itself.
#[test]
fn f3_an_msp_may_run_the_dp_and_the_facts_say_so() {
    let mut world = World::new();
    let mut alone = World::new();
    let other = alone.visible("bob", "chat.example");
    alone.issue(&["bob"], std::slice::from_ref(&other));
    assert!(check(&alone).unwrap().mappings[0].possession.independent_of_msp);

    world.add_key("dp.example", ProviderRole::MSP, "the DP's messenger");
    let mapping = world.visible("bob", "dp.example");
    world.issue(&["bob"], std::slice::from_ref(&mapping));
    let possession = check(&world).unwrap().mappings.remove(0).possession;
    assert_eq!((possession.independent_of_dp, possession.independent_of_msp), (false, false));
}
