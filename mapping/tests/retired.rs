//! What keys of providers are good for after they have retired: for what was in the log before, and for nothing else. The DP here has
//! every retired key and logs what it likes.

mod world;

use proptest::prelude::*;
use waymark_log::time::UnixMillis;
use waymark_mapping::{
    answer::{Answer, Full},
    earlier::Earlier,
    entry::{ProviderAction, ProviderRole},
    event::EventKind,
    identifier::Csi,
    mapping::{MAPPING_LIFETIME_MS_MAX, Mapping, Tags},
    names::Tag,
    provider::RETIRED_KEPT_MS,
    record::{SlotStatus, Standing},
    rules::Held,
    signed::SignedStruct,
    trust::Trust,
    verify::{Asked, Lookup, Outcome, Rejected, Trail, verify},
    wire::{List24, Optional24},
};
use world::{Kept, ORIGIN, World, csi, domain, key_of, question, secret};

const DAY: u64 = 24 * 3_600_000;
const PROVER: ProviderRole = ProviderRole::PROVER;

fn judged(world: &World, answer: &Answer, tag: Option<&str>, trust: &Trust) -> Result<Lookup, Rejected> {
    let asked = Asked { origin: ORIGIN.clone(), csi: csi(), tag: tag.map(|t| Tag::parse(t).unwrap()) };
    let bytes = answer.to_padded(0).unwrap();
    verify(&bytes, &asked, trust, None, world.clock(), &mut Trail::default()).map(|v| v.get().clone())
}

fn check(world: &World, answer: &Answer) -> Result<Lookup, Rejected> {
    judged(world, answer, None, &world.trust())
}

fn seen(world: &World) -> Lookup {
    check(world, &world.answer(&csi(), None)).unwrap()
}

fn is_not_proven(verdict: &Result<Lookup, Rejected>) -> bool {
    matches!(verdict, Err(Rejected::NotProven(_)))
}

/// The DP's prover has a second key, and its first one retires.
fn retire_prover(world: &mut World) {
    world.add_key("dp.example", PROVER, "the prover's next key");
    world.retire_key("dp.example", PROVER, "dp.example", "the prover's next key");
}

fn visible(world: &mut World, app: &str, tag: &str) -> Mapping {
    world.mapping(app, "chat.example", Tags::shown(vec![Tag::parse(tag).unwrap()]).unwrap())
}

/// An answer with these earlier versions in place of the honest ones.
fn with_earlier(world: &World, earlier: Vec<Earlier>) -> Answer {
    let mut answer = world.answer(&csi(), None);
    let full = Full {
        open_path: List24::empty(),
        since: List24::empty(),
        tenure: Optional24(None),
        earlier: List24::new(earlier).unwrap(),
    };
    answer.full = Optional24((!full.earlier.is_empty()).then_some(full));
    answer
}

/// A mapping attested with the prover's retired key, dated back to `time`, logged whatever the rules say with a standing that says it
/// has stood since `version`.
fn forge(world: &mut World, app: &str, time: UnixMillis, version: u32) -> Mapping {
    let mut mapping = visible(world, app, "forged");
    mapping.attestation.time = time;
    mapping.attestation.sign(&world.origin, &secret("dp.example"));
    mapping.not_after = time.plus_ms(MAPPING_LIFETIME_MS_MAX).floor_day();
    mapping.sign(&world.origin, &secret(app));
    mapping.verify(&world.origin).unwrap();
    let event = world.event(EventKind::Issue, std::slice::from_ref(&mapping), &[], &[app], false);
    let mut state = world.before().unwrap().0.clone();
    state.version += 1;
    state.time = UnixMillis::new(world.now);
    let standing = Standing { since_version: version, since: time, ..state.held[0].standing };
    state.held.push(Held { standing, mapping: mapping.clone() });
    world.log_state(state, event, vec![]);
    mapping
}

/// Bob's mapping, logged; a day later the prover's key retires.
fn bob() -> (World, Mapping, UnixMillis) {
    let mut world = World::new();
    let mapping = visible(&mut world, "bob", "default");
    world.issue(&["bob"], std::slice::from_ref(&mapping));
    world.wait(DAY);
    let before = UnixMillis::new(world.now - 1000);
    retire_prover(&mut world);
    (world, mapping, before)
}

#[test]
fn a_mapping_outlives_the_key_that_attested_it() {
    let (mut world, _, _) = bob();
    let lookup = seen(&world);
    assert_eq!((lookup.outcome, lookup.mappings.len()), (Outcome::Listed, 1));
    // It is shown to have been there before, or it is not believed.
    assert!(is_not_proven(&check(&world, &with_earlier(&world, vec![]))));
    world.wait(50 * DAY);
    assert_eq!(seen(&world).outcome, Outcome::Listed);
}

#[test]
fn hidden_mappings_too_are_shown_to_have_been_there_before() {
    let mut world = World::new();
    let (hidden, other) = (world.hidden("bob", "chat.example", "chess"), world.hidden("bob", "wire.example", "go"));
    world.issue(&["bob"], &[hidden, other]);
    retire_prover(&mut world);
    let tag = Tag::parse("chess").unwrap();
    let mut answer = world.answer(&csi(), Some(&tag));
    assert_eq!(judged(&world, &answer, Some("chess"), &world.trust()).unwrap().mappings.len(), 1);
    assert_eq!(answer.full.0.as_ref().unwrap().earlier[0].slots.len(), 1);
    answer.full = Optional24(None);
    assert!(is_not_proven(&judged(&world, &answer, Some("chess"), &world.trust())));
}

#[test]
fn a_retired_key_attests_only_what_was_in_the_log_before() {
    let (mut world, bobs, before) = bob();
    world.wait(90 * DAY);
    let pinned = world.trust_text()
        + &format!(
            "[[provider]]\nrole = \"prover\"\ndomain = \"dp.example\"\nkey = \"{}\"\n",
            key_of("dp.example").to_hex()
        );
    let trusts = [world.trust(), Trust::parse(&pinned).unwrap()];
    for trust in &trusts {
        assert_eq!(judged(&world, &world.answer(&csi(), None), None, trust).unwrap().outcome, Outcome::Listed);
    }
    // What the thief of the retired key dates back, and the DP says to have stood since a version that was logged in time.
    let forged = forge(&mut world, "mallory", before, 0);
    let honest = world.earlier_version(0, &[bobs.digest()], false);
    let mut lies = world.earlier_version(1, &[forged.digest()], false);
    let late = [honest.clone(), lies.clone()];
    // The version in which it is, the time of one in which it is not, or a slot that is not there.
    lies.at = world.logged(0);
    let mut empty = honest.clone();
    let slot = waymark_mapping::earlier::SlotThen { mapping: forged.digest(), ..honest.slots[0].clone() };
    let mut both = vec![honest.slots[0].clone(), slot];
    both.sort_by_key(|s| s.mapping);
    empty.slots = List24::new(both).unwrap();
    for earlier in [vec![], vec![honest.clone()], late.to_vec(), vec![honest, lies], vec![empty]] {
        for trust in &trusts {
            assert!(is_not_proven(&judged(&world, &with_earlier(&world, earlier.clone()), None, trust)));
        }
    }
    // All is flawless but for the time by when the version was logged.
    let verdict = check(&world, &with_earlier(&world, late.to_vec()));
    let Err(Rejected::NotProven(why)) = verdict else { panic!("{verdict:?}") };
    assert!(why.contains("had retired"), "{why}");
}

#[test]
fn a_rotated_mapping_needs_its_own_attestation_in_the_log_before() {
    let mut world = World::new();
    let old = visible(&mut world, "bob", "default");
    world.issue(&["bob"], std::slice::from_ref(&old));
    world.wait(DAY);
    let mut new = visible(&mut world, "bob's next key", "default");
    new.account = old.account.clone();
    new.sign(&world.origin, &secret("bob's next key"));
    let event = world.event(
        EventKind::RotateKey,
        std::slice::from_ref(&new),
        &[old.digest()],
        &["bob", "bob's next key"],
        false,
    );
    world.change(&event, std::slice::from_ref(&new)).unwrap();
    // Its standing is that of the old one; its attestation is of the version that rotated it.
    assert_eq!(world.before().unwrap().0.held[0].standing.since_version, 0);
    retire_prover(&mut world);
    assert_eq!(seen(&world).outcome, Outcome::Listed);
    let old_one = world.earlier_version(0, &[old.digest()], false);
    assert!(is_not_proven(&check(&world, &with_earlier(&world, vec![old_one]))));
    assert_eq!(world.answer(&csi(), None).full.0.unwrap().earlier[0].at.version, 1);
}

#[test]
fn nothing_rides_along_with_what_was_there_before() {
    let (mut world, bobs, _) = bob();
    let honest = world.earlier_version(0, &[bobs.digest()], false);
    assert!(check(&world, &with_earlier(&world, vec![honest.clone()])).is_ok());
    // Nor with an absence, which has no past.
    let nobody = Csi::parse("tel:+4930123456").unwrap();
    let mut absent = world.answer(&nobody, None);
    absent.full = with_earlier(&world, vec![honest.clone()]).full;
    let padded = absent.to_padded(0).unwrap();
    let verdict = verify(&padded, &question(nobody), &world.trust(), None, world.clock(), &mut Trail::default());
    assert!(matches!(verdict, Err(Rejected::NotProven(_))), "{verdict:?}");
    world.wait(DAY);
    let honest = Earlier { at: world.logged(0), ..honest };
    let unasked = Earlier { slots: List24::empty(), ..honest.clone() };
    let caused = Earlier { cause_salt: Optional24(Some(honest.contents_salt)), ..honest.clone() };
    for earlier in [vec![honest.clone(), honest.clone()], vec![unasked, honest.clone()], vec![caused]] {
        assert!(is_not_proven(&check(&world, &with_earlier(&world, earlier))));
    }
    // And nothing is shown of the past while the key is valid.
    let mut world = World::new();
    let mapping = visible(&mut world, "bob", "default");
    world.issue(&["bob"], std::slice::from_ref(&mapping));
    let needless = world.earlier_version(0, &[mapping.digest()], false);
    assert!(is_not_proven(&check(&world, &with_earlier(&world, vec![needless]))));
}

#[test]
fn a_key_that_waits_to_be_replaced_is_still_believed() {
    let mut world = World::new();
    let mapping = visible(&mut world, "bob", "default");
    world.issue(&["bob"], std::slice::from_ref(&mapping));
    // Somebody has a rotation logged that is due in seven days: until then the key has an end, and is valid.
    let unsigned = world.provider(ProviderAction::Rotate, "dp.example", PROVER, "somebody", None);
    world.log_provider(unsigned);
    assert!(world.answer(&csi(), None).full.0.is_none());
    assert_eq!(seen(&world).outcome, Outcome::Listed);
    world.wait(8 * DAY);
    assert!(world.answer(&csi(), None).full.0.is_some());
    assert_eq!(seen(&world).outcome, Outcome::Listed);
}

/// An MSP's statement under Bob's mapping, made with a key that retires afterwards.
fn detached() -> (World, Mapping) {
    let mut world = World::new();
    let mapping = visible(&mut world, "bob", "default");
    world.issue(&["bob"], std::slice::from_ref(&mapping));
    let event = world.statement(EventKind::MspDetach, Some(mapping.digest()), 1, "chat.example");
    world.change(&event, &[]).unwrap();
    world.add_key("chat.example", ProviderRole::MSP, "chat's next key");
    world.retire_key("chat.example", ProviderRole::MSP, "chat.example", "chat's next key");
    (world, mapping)
}

#[test]
fn a_statement_outlives_the_key_that_signed_it() {
    let (world, _) = detached();
    assert!(matches!(seen(&world).mappings[0].service, waymark_mapping::facts::Service::Detached { reason: 1 }));
    assert!(is_not_proven(&check(&world, &with_earlier(&world, vec![]))));
    // That the version was logged is not enough: the statement has made it.
    let mut other = world.earlier_version(1, &[], true);
    other.cause_salt = Optional24(Some(other.contents_salt));
    assert!(is_not_proven(&check(&world, &with_earlier(&world, vec![other]))));
}

#[test]
fn a_retired_key_states_only_what_was_in_the_log_before() {
    let mut world = World::new();
    let mapping = visible(&mut world, "bob", "default");
    world.issue(&["bob"], std::slice::from_ref(&mapping));
    let ann = world.visible("ann", "wire.example");
    world.issue(&["ann"], &[ann]);
    world.add_key("chat.example", ProviderRole::MSP, "chat's next key");
    world.retire_key("chat.example", ProviderRole::MSP, "chat.example", "chat's next key");
    world.wait(DAY);
    // Forged with the retired key: over version 0, to have made version 1, which Ann's mapping has made.
    let mut event = world.statement(EventKind::MspDetach, Some(mapping.digest()), 1, "chat.example");
    let previous = world.versions[0].composed.commitment;
    (event.tbs.version, event.tbs.previous, event.tbs.time) = (1, previous, world.versions[1].state.time);
    let role = waymark_mapping::event::AuthorityRole::Msp;
    let authority = event.tbs.sign_as(role, &world.origin, &secret("chat.example"));
    event.authorities = List24::new(vec![authority]).unwrap();
    let mut state = world.before().unwrap().0.clone();
    state.version += 1;
    let standing = &mut state.held[0].standing;
    (standing.status, standing.reason, standing.stated_version) = (SlotStatus::Detached, 1, 1);
    world.log_state(state, event, vec![]);
    for earlier in [vec![], vec![world.earlier_version(1, &[], true)], vec![world.earlier_version(2, &[], true)]] {
        assert!(is_not_proven(&check(&world, &with_earlier(&world, earlier))));
    }
    // And to have made the version that it has made: flawless, but for the time by when that was logged.
    let said = |retire: bool| {
        let mut world = World::new();
        let mapping = visible(&mut world, "bob", "default");
        world.issue(&["bob"], std::slice::from_ref(&mapping));
        let time = UnixMillis::new(world.now);
        world.add_key("chat.example", ProviderRole::MSP, "chat's next key");
        let retires = |world: &mut World| {
            world.retire_key("chat.example", ProviderRole::MSP, "chat.example", "chat's next key");
        };
        if retire {
            retires(&mut world);
        }
        let mut event = world.statement(EventKind::MspDetach, Some(mapping.digest()), 1, "chat.example");
        event.tbs.time = time;
        let authority = event.tbs.sign_as(role, &world.origin, &secret("chat.example"));
        event.authorities = List24::new(vec![authority]).unwrap();
        world.change(&event, &[]).unwrap();
        if !retire {
            retires(&mut world);
        }
        check(&world, &with_earlier(&world, vec![world.earlier_version(1, &[], true)]))
    };
    assert!(said(false).is_ok() && is_not_proven(&said(true)));
}

#[test]
fn a_release_outlives_the_key_that_signed_it_and_none_is_made_after() {
    let released = |retire_first: bool| {
        let mut world = World::new();
        let mapping = visible(&mut world, "bob", "default");
        world.issue(&["bob"], &[mapping]);
        world.add_provider("csip.example", ProviderRole::CSIP, false);
        world.add_key("csip.example", ProviderRole::CSIP, "csip's next key");
        let event = world.statement(EventKind::Release, None, 0, "csip.example");
        let mut state = world.judge(&event, &[]).unwrap();
        if retire_first {
            world.retire_key("csip.example", ProviderRole::CSIP, "csip.example", "csip's next key");
            // The DP dates it back.
            state.start.time = state.time;
        }
        world.log_state(state, event, vec![]);
        if !retire_first {
            world.retire_key("csip.example", ProviderRole::CSIP, "csip.example", "csip's next key");
        }
        let key = key_of("csip.example").to_hex();
        let pin = format!("[[provider]]\nrole = \"csip\"\ndomain = \"csip.example\"\nkey = \"{key}\"\n");
        let pinned = Trust::parse(&(world.trust_text() + &pin)).unwrap();
        [world.trust(), pinned].map(|trust| judged(&world, &world.answer(&csi(), None), None, &trust))
    };
    assert!(released(false).iter().all(|seen| seen.as_ref().is_ok_and(|seen| seen.outcome == Outcome::NoneListed)));
    assert!(released(true).iter().all(is_not_proven));
}

/// The first key of every role has gone from the directory.
fn drop_old_keys(world: &mut World) {
    for (name, role) in [("dp.example", PROVER), ("chat.example", ProviderRole::MSP)] {
        let by = if role == PROVER { "the prover's next key" } else { "chat's next key" };
        let entry = world.provider(ProviderAction::Add, name, role, "a third key", Some(by));
        world.log_provider(entry);
        assert!(world.providers.get(&domain(name), role).unwrap().find(&key_of(name)).is_none());
    }
}

#[test]
fn a_mapping_that_has_lapsed_is_not_asked_for_a_key_that_was_dropped() {
    for kind in [None, Some(EventKind::MspDetach), Some(EventKind::DpUnserve)] {
        let mut world = World::new();
        let mapping = visible(&mut world, "bob", "default");
        world.issue(&["bob"], std::slice::from_ref(&mapping));
        if let Some(kind) = kind {
            let by = if kind == EventKind::DpUnserve { "dp.example" } else { "chat.example" };
            let event = world.statement(kind, Some(mapping.digest()), 1, by);
            world.change(&event, &[]).unwrap();
        }
        retire_prover(&mut world);
        world.add_key("chat.example", ProviderRole::MSP, "chat's next key");
        world.retire_key("chat.example", ProviderRole::MSP, "chat.example", "chat's next key");
        world.wait(RETIRED_KEPT_MS);
        drop_old_keys(&mut world);
        let lookup = seen(&world);
        assert_eq!(lookup.outcome, Outcome::NoneListed, "{kind:?}");
        assert!(lookup.mappings.iter().all(|m| !m.holds));
    }
}

#[test]
fn what_is_withheld_by_a_key_that_was_dropped_was_withheld_long_ago() {
    let mut world = World::new();
    let mapping = visible(&mut world, "bob", "default");
    world.issue(&["bob"], std::slice::from_ref(&mapping));
    // Not the DP's key.
    let event = world.statement(EventKind::DpUnserve, Some(mapping.digest()), 1, "chat.example");
    world.change(&event, &[]).unwrap();
    assert!(is_not_proven(&check(&world, &world.answer(&csi(), None))));
    world.wait(100 * DAY);
    assert!(is_not_proven(&check(&world, &world.answer(&csi(), None))));
    assert!(is_not_proven(&check(&world, &with_earlier(&world, vec![]))));
}

#[test]
fn a_reader_whose_clock_is_behind_does_not_use_what_had_lapsed() {
    let mut world = World::new();
    let mut mapping = visible(&mut world, "bob", "default");
    // Attested by nobody who is known, and over when the head was made.
    mapping.attestation.prover_key = key_of("stranger");
    mapping.attestation.sign(&world.origin, &secret("stranger"));
    mapping.sign(&world.origin, &secret("bob"));
    let event = world.event(EventKind::Issue, std::slice::from_ref(&mapping), &[], &["bob"], false);
    let state = world.judge(&event, std::slice::from_ref(&mapping)).unwrap();
    world.log_state(state, event, vec![]);
    let end = mapping.not_after.get();
    world.wait(end - world.now);
    assert!(world.head.time >= mapping.not_after);
    let asked = question(csi());
    let bytes = world.answer(&csi(), None).to_padded(0).unwrap();
    let now = UnixMillis::new(end - 1);
    let lookup = verify(&bytes, &asked, &world.trust(), None, now, &mut Trail::default()).unwrap();
    assert_eq!(lookup.get().outcome, Outcome::NoneListed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever a prover does with its keys, and however often: a mapping that was logged while its key was valid is believed as long as
    /// it lives.
    #[test]
    fn no_mapping_that_holds_loses_its_provers_key(steps in prop::collection::vec((0u64..40, 0u8..4), 1..40)) {
        let mut world = World::new();
        let (mut valid, mut names) = (vec!["dp.example".to_owned()], 0);
        // What was attested: with which key, and when.
        let mut attested: Vec<(String, u64)> = vec![];
        for (days, what) in steps {
            world.now += days * DAY + 1000;
            attested.extend(valid.iter().map(|key| (key.clone(), world.now)));
            let (by, next) = (valid[0].clone(), format!("key {names}"));
            let action = match what {
                0 => ProviderAction::Add,
                1 if valid.len() > 1 => ProviderAction::Retire,
                _ => ProviderAction::Rotate,
            };
            let key = if action == ProviderAction::Retire { by.clone() } else { next.clone() };
            let entry = world.provider(action, "dp.example", PROVER, &key, Some(&by));
            let head = UnixMillis::new(world.now + 1000);
            if world.providers.apply(&entry, &world.origin, head).is_err() {
                continue;
            }
            names += 1;
            match action {
                ProviderAction::Add => valid.push(next),
                ProviderAction::Rotate => valid = vec![next],
                ProviderAction::Retire => { valid.remove(0); }
            }
            let leaf = world.providers.get(&domain("dp.example"), PROVER).unwrap();
            for (key, time) in &attested {
                // The longest that a mapping with this attestation can hold.
                let holds = head.get() < time + MAPPING_LIFETIME_MS_MAX;
                let believed = leaf.find(&key_of(key)).is_some_and(|k| {
                    k.is_believed(UnixMillis::new(*time), Some(UnixMillis::new(*time)), head)
                });
                prop_assert!(believed || !holds);
            }
        }
    }
}

#[test]
fn a_flipped_bit_of_an_earlier_version_is_refused() {
    let (mut world, mapping) = detached();
    retire_prover(&mut world);
    let Kept { state, .. } = world.versions.last().unwrap();
    assert_eq!(state.held[0].mapping, mapping);
    let answer = world.answer(&csi(), None);
    assert_eq!(answer.full.0.as_ref().unwrap().earlier.len(), 2);
    let (trust, now, asked) = (world.trust(), world.clock(), question(csi()));
    let good = answer.to_padded(0).unwrap();
    let judge = |bytes: &[u8]| verify(bytes, &asked, &trust, None, now, &mut Trail::default());
    judge(&good).unwrap();
    let end = good.len() - good.iter().rev().take_while(|b| **b == 0).count();
    let full = tls_codec::Size::tls_serialized_len(&answer.full);
    for bit in ((end - full) * 8..end * 8).step_by(5) {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(judge(&bytes).is_err(), "bit {bit} (byte {})", bit / 8);
    }
}
