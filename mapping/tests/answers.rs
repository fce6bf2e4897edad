//! Answers and receipts, honest and not, through the whole of `verify` and `accept`.

mod world;

use waymark_log::{hash::Hash, key::Key, time::UnixMillis};
use waymark_mapping::{
    answer::Answer,
    entry::{Entry, Open},
    event::EventKind,
    facts::Service,
    identifier::Csi,
    label::prove_label,
    ladder,
    mapping::Mapping,
    names::Tag,
    receipt::{ReceiptRefused, Sent, accept},
    record::{NEW_MS, VISIBLE_SLOTS_MAX},
    rules::{Held, Known, Refused},
    verify::{Asked, Lookup, Outcome, Rejected, Trail, verify},
    wire::{Opaque16, decode, encode},
};
use world::{ORIGIN, World, csi, key_of, question, sent};

fn asked(tag: Option<&str>) -> Asked {
    Asked { origin: ORIGIN.clone(), csi: csi(), tag: tag.map(|t| Tag::parse(t).unwrap()) }
}

fn check(world: &World, answer: &Answer, asked: &Asked) -> Result<Lookup, Rejected> {
    let bytes = answer.to_padded(0).unwrap();
    let verified = verify(&bytes, asked, &world.trust(), None, world.clock(), &mut Trail::default())?;
    Ok(verified.get().clone())
}

fn is_not_proven(verdict: Result<Lookup, Rejected>) -> bool {
    matches!(verdict, Err(Rejected::NotProven(_)))
}

/// As many as a record has room for, each with its consent, detached by its MSP, and attested by a key that has retired since.
#[test]
fn a_record_with_thirty_two_visible_mappings_is_answered() {
    let mut world = World::new();
    let added: Vec<Mapping> = (0..33).map(|_| world.visible("a", "wire.example")).collect();
    let known = Known { visible_max: Some(VISIBLE_SLOTS_MAX), ..Known::default() };
    let event = world.event(EventKind::Issue, &added[..32], &[], &["a"], false);
    let state = world.judge_knowing(&event, &added[..32], known).unwrap();
    let consents = added[..32].iter().map(|m| world.consent(m)).collect();
    world.log_state(state, event.clone(), consents);
    accept(&world.receipt(), sent(&event, &added[..32]), &world.trust(), None, world.clock(), &mut Trail::default())
        .unwrap();
    let more = world.event(EventKind::Issue, &added[32..], &[], &["a"], false);
    assert_eq!(world.judge_knowing(&more, &added[32..], known), Err(Refused::Full));
    for mapping in &added[..32] {
        let event = world.statement(EventKind::MspDetach, Some(mapping.digest()), 1, "wire.example");
        world.change(&event, &[]).unwrap();
    }
    let prover = waymark_mapping::entry::ProviderRole::PROVER;
    world.add_key("dp.example", prover, "the prover's next key");
    world.retire_key("dp.example", prover, "dp.example", "the prover's next key");
    let lookup = check(&world, &world.answer(&csi(), None), &asked(None)).unwrap();
    assert_eq!(lookup.mappings.iter().filter(|m| m.holds).count(), 32);
}

#[test]
fn absent_listed_and_withdrawn_are_told_apart() {
    let mut world = World::new();
    let lookup = check(&world, &world.answer(&csi(), None), &asked(None)).unwrap();
    assert_eq!((lookup.outcome, lookup.version, lookup.mappings.len()), (Outcome::Absent, None, 0));

    let a = world.visible("a", "chat.example");
    let b = world.visible("b", "wire.example");
    world.issue(&["a", "b"], &[a.clone(), b]);
    let lookup = check(&world, &world.answer(&csi(), None), &asked(None)).unwrap();
    assert_eq!((lookup.outcome, lookup.version, lookup.mappings.len()), (Outcome::Listed, Some(0), 2));
    let services: Vec<Service> = lookup.mappings.iter().map(|m| m.service).collect();
    assert_eq!(services[0], Service::Confirmed { in_log: false, pinned: false });
    assert_eq!(services[1], Service::Confirmed { in_log: true, pinned: false });
    assert!(lookup.mappings.iter().all(|m| m.holds && !m.change.is_new && !m.possession.independent_of_dp));
    assert_eq!((lookup.log.witnesses, lookup.log.witnesses_known, lookup.log.auditors), (3, 4, 0));
    // Somebody else is still absent.
    let other = question(Csi::parse("mailto:ann@post.example").unwrap());
    let lookup = check(&world, &world.answer(&other.csi, None), &other).unwrap();
    assert_eq!(lookup.outcome, Outcome::Absent);

    let event = world.event(EventKind::Withdraw, &[], &[a.digest()], &["a"], false);
    let state = world.judge(&event, &[]).unwrap();
    world.log_state(state, event, vec![]);
    let lookup = check(&world, &world.answer(&csi(), None), &asked(None)).unwrap();
    assert_eq!((lookup.outcome, lookup.version, lookup.mappings.len()), (Outcome::Listed, Some(1), 1));
    assert_eq!(lookup.mappings[0].recipient, key_of("b"));
}

#[test]
fn opted_out_is_neither_absent_nor_empty() {
    let mut world = World::new();
    let none = world.mapping("a", "", waymark_mapping::mapping::Tags::shown(vec![]).unwrap());
    let event = world.event(EventKind::OptOut, std::slice::from_ref(&none), &[], &["a"], false);
    let state = world.judge(&event, std::slice::from_ref(&none)).unwrap();
    world.log_state(state, event, vec![]);
    assert_eq!(check(&world, &world.answer(&csi(), None), &asked(None)).unwrap().outcome, Outcome::OptedOut);
    let event = world.event(EventKind::Withdraw, &[], &[none.digest()], &["a"], false);
    let state = world.judge(&event, &[]).unwrap();
    world.log_state(state, event, vec![]);
    assert_eq!(check(&world, &world.answer(&csi(), None), &asked(None)).unwrap().outcome, Outcome::NoneListed);
}

#[test]
fn a_hidden_mapping_is_found_by_its_tag_only_and_cannot_be_denied() {
    let mut world = World::new();
    let mappings = [
        world.visible("a", "chat.example"),
        world.hidden("b", "wire.example", "soccer"),
        world.hidden("c", "chat.example", "soccer"),
    ];
    world.issue(&["a", "b", "c"], &mappings);
    let tag = |t: &str| Tag::parse(t).unwrap();
    let general = check(&world, &world.answer(&csi(), None), &asked(None)).unwrap();
    assert_eq!(general.mappings.len(), 1);
    let soccer = check(&world, &world.answer(&csi(), Some(&tag("soccer"))), &asked(Some("soccer"))).unwrap();
    assert_eq!(soccer.mappings.len(), 3);
    let chess = check(&world, &world.answer(&csi(), Some(&tag("chess"))), &asked(Some("chess"))).unwrap();
    assert_eq!(chess.mappings.len(), 1);

    // Denied, half denied, or shown to somebody who presented another tag or none.
    let kept = world.versions.last().unwrap();
    let claim = |body| world.answer_claiming(&csi(), Some(0), Some(body));
    let full = world.body(kept, Some(&tag("soccer")), false);
    for opened in 0..full.hidden.len() {
        let mut body = full.clone();
        body.hidden = waymark_mapping::wire::List24::new(full.hidden[..opened].to_vec()).unwrap();
        let vrf_proof = waymark_mapping::label::prove_handle(&world.vrf, &csi(), 0, &tag("soccer"), opened as u8).0;
        body.tag_proofs = waymark_mapping::wire::List24::new(vec![waymark_mapping::answer::TagProof {
            ordinal: opened as u8,
            vrf_proof,
        }])
        .unwrap();
        assert!(is_not_proven(check(&world, &claim(body), &asked(Some("soccer")))), "{opened} opened");
    }
    assert!(is_not_proven(check(&world, &claim(world.body(kept, None, false)), &asked(Some("soccer")))));
    assert!(is_not_proven(check(&world, &claim(full.clone()), &asked(Some("chess")))));
    assert!(is_not_proven(check(&world, &claim(full), &asked(None))));
    assert!(is_not_proven(check(&world, &claim(world.body(kept, None, true)), &asked(None))));
}

#[test]
fn every_flipped_bit_of_an_answer_is_refused() {
    let mut world = World::new();
    let mappings = [world.visible("a", "wire.example"), world.hidden("b", "chat.example", "soccer")];
    world.issue(&["a", "b"], &mappings);
    let asked = asked(Some("soccer"));
    let good = world.answer(&csi(), asked.tag.as_ref()).to_padded(0).unwrap();
    let (trust, now) = (world.trust(), world.clock());
    verify(&good, &asked, &trust, None, now, &mut Trail::default()).unwrap();
    let bits = good.len() * 8;
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (good, asked, trust) = (&good, &asked, &trust);
            scope.spawn(move || {
                for bit in (worker..bits).step_by(2) {
                    let mut bytes = good.clone();
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    let verdict = verify(&bytes, asked, trust, None, now, &mut Trail::default());
                    assert!(verdict.is_err(), "bit {bit} (byte {})", bit / 8);
                }
            });
        }
    });
}

#[test]
fn every_flipped_bit_of_a_receipt_is_refused() {
    let mut world = World::new();
    let first = world.visible("a", "wire.example");
    world.issue(&["a"], &[first]);
    let mappings = [world.visible("a", "chat.example"), world.hidden("a", "chat.example", "soccer")];
    let event = world.issue(&["a"], &mappings);
    let good = world.receipt().encode();
    let (trust, now) = (world.trust(), world.clock());
    let judge = |bytes: &[u8]| {
        let receipt = waymark_mapping::answer::Receipt::decode(bytes).map_err(|e| e.to_string())?;
        accept(&receipt, sent(&event, &mappings), &trust, None, now, &mut Trail::default()).map_err(|e| e.to_string())
    };
    let current = judge(&good).unwrap();
    assert!(current.complete && current.state.version == 1 && current.state.held.len() == 3);
    let bits = good.len() * 8;
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (good, judge) = (&good, &judge);
            scope.spawn(move || {
                for bit in (worker..bits).step_by(2) {
                    let mut bytes = good.clone();
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    assert!(judge(&bytes).is_err(), "bit {bit} (byte {})", bit / 8);
                }
            });
        }
    });
}

#[test]
fn an_old_head_cannot_ride_in_a_new_checkpoint() {
    let mut world = World::new();
    let a = world.visible("a", "chat.example");
    world.issue(&["a"], &[a]);
    let old = world.answer(&csi(), None);
    let old_size = world.entries.len();
    world.publish(vec![]);
    // The old head, proved where it really is in the new tree.
    let mut answer = old.clone();
    answer.checkpoint = Opaque16::new(world.checkpoint()).unwrap();
    answer.head_path = waymark_mapping::wire::List24::new(world.path(old_size as u64 - 1)).unwrap();
    assert!(is_not_proven(check(&world, &answer, &asked(None))));
    // A checkpoint that ends in something else than a head.
    let t = world.now / 1000;
    let mut answer = old;
    answer.checkpoint = Opaque16::new(world.checkpoint_at(old_size - 1, [t, t, t, 0])).unwrap();
    assert!(is_not_proven(check(&world, &answer, &asked(None))));
}

#[test]
fn a_log_that_promises_an_interval_of_more_than_30_s_is_not_believed() {
    for (interval_ms, believed) in [(30_000, true), (30_001, false), (u32::MAX, false)] {
        let mut world = World::new();
        let Ok(Entry::Open(open)) = Entry::decode(&world.entries[0]) else { panic!("the open entry") };
        world.entries[0] = Entry::Open(Open { interval_ms, ..open }).encode();
        world.publish(vec![]);
        let verdict = check(&world, &world.answer(&csi(), None), &asked(None));
        assert!(if believed { verdict.is_ok() } else { is_not_proven(verdict) }, "{interval_ms}");
    }
}

#[test]
fn a_minority_of_fresh_cosignatures_does_not_carry_an_old_quorum() {
    let world = World::new();
    let (size, t) = (world.entries.len(), world.now / 1000);
    let mut answer = world.answer(&csi(), None);
    let mut with = |times| {
        answer.checkpoint = Opaque16::new(world.checkpoint_at(size, times)).unwrap();
        check(&world, &answer, &asked(None))
    };
    assert!(with([t, t, t, 0]).is_ok());
    assert!(matches!(with([t, t, 0, 0]), Err(Rejected::Stale(_))));
    assert!(matches!(with([t, t, t - 700, t - 700]), Err(Rejected::Stale(_))));
    assert!(matches!(with([t, t, t + 60, t + 60]), Err(Rejected::Stale(_))));
    // Cosigned long after the head was made: somebody keeps an old tree alive.
    assert!(matches!(with([t + 31; 4]), Err(Rejected::Stale(_))));
    let late = verify(
        &{
            answer.checkpoint = Opaque16::new(world.checkpoint_at(size, [t + 100; 4])).unwrap();
            answer.to_padded(0).unwrap()
        },
        &asked(None),
        &world.trust(),
        None,
        UnixMillis::new(world.now + 100_000),
        &mut Trail::default(),
    );
    assert!(matches!(late, Err(Rejected::Stale(_))));
}

#[test]
fn two_trees_of_one_size_are_a_split_view() {
    let mut one = World::new();
    let mut two = World::new();
    one.publish(vec![]);
    two.now += 1;
    two.publish(vec![]);
    let bytes = one.answer(&csi(), None).to_padded(0).unwrap();
    let seen = verify(&bytes, &asked(None), &one.trust(), None, one.clock(), &mut Trail::default()).unwrap();
    let bytes = two.answer(&csi(), None).to_padded(0).unwrap();
    let verdict =
        verify(&bytes, &asked(None), &two.trust(), seen.recall().settled(), two.clock(), &mut Trail::default());
    let Err(Rejected::SplitView { ours, theirs, .. }) = verdict else { panic!("{verdict:?}") };
    assert!(ours == one.checkpoint() && theirs == two.checkpoint());
}

#[test]
fn ladders_are_sound_end_to_end() {
    // Sixteen versions, each logged; then a DP that leaves out what somebody at version n watches.
    let mut world = World::new();
    let a = world.visible("a", "chat.example");
    world.issue(&["a"], &[a]);
    for _ in 1..16 {
        let old = world.versions.last().unwrap().state.held.last().unwrap().mapping.clone();
        let m = world.visible("a", "chat.example");
        let event = world.event(EventKind::Replace, std::slice::from_ref(&m), &[old.digest()], &["a"], false);
        let state = world.judge(&event, &[m]).unwrap();
        world.log_state(state, event, vec![]);
    }
    let label = |v: u32| prove_label(&world.vrf, &csi(), v).1.0;
    let commitments: Vec<(Hash, Hash)> =
        (0..16).map(|v| (label(v), world.versions[v as usize].composed.commitment)).collect();
    let mut accepted = 0;
    for n in 0..16u32 {
        let watched = ladder::watched(Some(n));
        for m in n + 1..16 {
            // With everything up to m in the map, m is accepted, and a label that n watches is there.
            let up_to = |m: u32, without: &[u32]| {
                let keep = (0..=m).filter(|v| !without.contains(v)).map(|v| commitments[v as usize]);
                waymark_mapping::prefix::PrefixTree::from_entries(keep.collect()).unwrap()
            };
            let body = world.body(&world.versions[m as usize], None, false);
            let mut judge = |map: waymark_mapping::prefix::PrefixTree| {
                world.map = map;
                world.publish(vec![]);
                let verdict = check(&world, &world.answer_claiming(&csi(), Some(m), Some(body.clone())), &asked(None));
                (verdict, world.map.clone())
            };
            let (verdict, map) = judge(up_to(m, &[]));
            if verdict.is_ok() {
                accepted += 1;
                assert!(watched.iter().any(|v| *v < 16 && map.get(&commitments[*v as usize].0).is_some()), "{n}, {m}");
            }
            // Without the watched labels, m is not accepted, whatever else is there.
            let (verdict, _) = judge(up_to(m, &watched));
            assert!(is_not_proven(verdict), "{n}, {m}");
        }
    }
    assert_eq!(accepted, 16 * 15 / 2);
}

#[test]
fn a_latest_version_that_is_not_opened_is_not_proven() {
    let mut world = World::new();
    let a = world.visible("a", "chat.example");
    world.issue(&["a"], &[a]);
    assert!(is_not_proven(check(&world, &world.answer_claiming(&csi(), Some(0), None), &asked(None))));
    assert!(is_not_proven(check(&world, &world.answer_claiming(&csi(), None, None), &asked(None))));
    // A visible mapping left closed.
    let kept = world.versions.last().unwrap();
    let mut body = world.body(kept, None, false);
    body.visible = waymark_mapping::wire::List24::empty();
    assert!(is_not_proven(check(&world, &world.answer_claiming(&csi(), Some(0), Some(body)), &asked(None))));
}

#[test]
fn a_publishing_msp_must_be_able_to_see_every_visible_mapping_that_counts() {
    let mut world = World::new();
    let m = world.visible("a", "wire.example");
    let event = world.event(EventKind::Issue, std::slice::from_ref(&m), &[], &["a"], false);
    let state = world.judge(&event, std::slice::from_ref(&m)).unwrap();
    world.log_state(state, event, vec![]);
    let lookup = check(&world, &world.answer(&csi(), None), &asked(None)).unwrap();
    assert_eq!(lookup.mappings[0].service, Service::NotShownToMsp);
    assert_eq!((lookup.mappings[0].holds, lookup.outcome), (false, Outcome::NoneListed));
}

#[test]
fn a_second_mapping_slipped_into_a_receipt_is_refused() {
    for hidden in [false, true] {
        let mut world = World::new();
        let mine = world.visible("a", "chat.example");
        let theirs = if hidden {
            world.hidden("mallory", "wire.example", "trap")
        } else {
            world.visible("mallory", "wire.example")
        };
        let event = world.event(EventKind::Issue, std::slice::from_ref(&mine), &[], &["a"], false);
        let mut state = world.judge(&event, std::slice::from_ref(&mine)).unwrap();
        let standing = state.held[0].standing;
        state.held.push(Held { standing, mapping: theirs });
        world.log_state(state, event.clone(), vec![]);
        let verdict =
            accept(&world.receipt(), sent(&event, &[mine]), &world.trust(), None, world.clock(), &mut Trail::default());
        assert_eq!(verdict.unwrap_err(), ReceiptRefused::NotTheChange, "hidden: {hidden}");
    }
}

#[test]
fn a_receipt_that_hides_slots_from_an_established_key_is_refused() {
    let mut world = World::new();
    let mine = world.visible("a", "chat.example");
    let event = world.issue(&["a"], std::slice::from_ref(&mine));
    let mut receipt = world.receipt();
    let body = receipt.now.body.0.as_mut().unwrap();
    body.hidden = waymark_mapping::wire::List24::new(body.hidden[1..].to_vec()).unwrap();
    let verdict = accept(&receipt, sent(&event, &[mine]), &world.trust(), None, world.clock(), &mut Trail::default());
    assert_eq!(verdict.unwrap_err(), ReceiptRefused::Incomplete);
}

/// What the established key was allowed may rest on what the new one is not shown; what the event names, it can check.
#[test]
fn a_new_key_checks_what_it_sent_with_an_established_one() {
    let mut world = World::new();
    let (secret, shown) = (world.hidden("bob", "chat.example", "soccer"), world.visible("bob", "chat.example"));
    world.issue(&["bob"], &[secret.clone(), shown.clone()]);
    world.now += NEW_MS;
    let mine = world.visible("carol", "wire.example");
    let removed = [secret.digest(), shown.digest()];
    let event = world.event(EventKind::Replace, std::slice::from_ref(&mine), &removed, &["carol", "bob"], true);
    world.change(&event, std::slice::from_ref(&mine)).unwrap();
    let mut receipt = world.receipt();
    for body in [receipt.now.body.0.as_mut().unwrap(), receipt.previous.0.as_mut().unwrap()] {
        body.hidden = waymark_mapping::wire::List24::empty();
    }
    let judge = |by: &Key, added: &[Mapping]| {
        let (sent, now) = (Sent { origin: &ORIGIN, event: &event, added, by }, world.clock());
        accept(&receipt, sent, &world.trust(), None, now, &mut Trail::default()).map(|current| current.complete)
    };
    let carol = event.authorities[0].key;
    assert_eq!(judge(&carol, std::slice::from_ref(&mine)), Ok(false));
    assert_eq!(judge(&carol, &[shown]), Err(ReceiptRefused::NotTheChange));
}

#[test]
fn a_newcomer_is_new_and_the_older_key_removes_it() {
    let mut world = World::new();
    let bob = world.visible("bob", "chat.example");
    world.issue(&["bob"], &[bob]);
    let bad = world.visible("mallory", "wire.example");
    let event = world.issue(&["mallory"], std::slice::from_ref(&bad));
    let lookup = check(&world, &world.answer(&csi(), None), &asked(None)).unwrap();
    let new: Vec<bool> = lookup.mappings.iter().map(|m| m.change.is_new).collect();
    assert_eq!(new, [false, true]);
    // Mallory's receipt may keep Bob's hidden slots closed, and says so.
    let mut receipt = world.receipt();
    for body in [receipt.now.body.0.as_mut().unwrap(), receipt.previous.0.as_mut().unwrap()] {
        body.hidden = waymark_mapping::wire::List24::empty();
    }
    let current = accept(
        &receipt,
        sent(&event, std::slice::from_ref(&bad)),
        &world.trust(),
        None,
        world.clock(),
        &mut Trail::default(),
    );
    assert!(!current.unwrap().complete);

    // Mallory cannot remove Bob, with or without fresh possession; nor can Bob without it.
    let bobs = world.versions[0].state.held[0].mapping.digest();
    for (target, app, fresh) in [(bobs, "mallory", true), (bobs, "mallory", false), (bad.digest(), "bob", false)] {
        let event = world.event(EventKind::Withdraw, &[], &[target], &[app], fresh);
        assert_eq!(world.judge(&event, &[]), Err(Refused::NotAuthorised), "{app} {fresh}");
    }
    let event = world.event(EventKind::Withdraw, &[], &[bad.digest()], &["bob"], true);
    // After 72 hours the mapping is no longer new, and the rule no longer holds.
    let added = world.now;
    world.now += NEW_MS;
    let late = world.event(EventKind::Withdraw, &[], &[bad.digest()], &["bob"], true);
    assert_eq!(world.judge(&late, &[]), Err(Refused::NotAuthorised));
    world.now = added;
    let state = world.judge(&event, &[]).unwrap();
    world.log_state(state, event.clone(), vec![]);
    let lookup = check(&world, &world.answer(&csi(), None), &asked(None)).unwrap();
    assert_eq!(lookup.mappings.len(), 1);
    let current =
        accept(&world.receipt(), sent(&event, &[]), &world.trust(), None, world.clock(), &mut Trail::default());
    assert!(current.unwrap().complete);
}

#[test]
fn what_the_rules_refuse() {
    let mut world = World::new();
    let a = world.visible("a", "chat.example");
    let b = world.visible("b", "chat.example");
    let one = std::slice::from_ref(&a);
    // Nobody but the recipient.
    let event = world.event(EventKind::Issue, one, &[], &["b"], false);
    assert_eq!(world.judge(&event, one), Err(Refused::NotAuthorised));
    let event = world.event(EventKind::Issue, one, &[], &["a", "b"], false);
    assert_eq!(world.judge(&event, one), Err(Refused::Bystander));
    // Another mapping than the event names.
    let event = world.event(EventKind::Issue, one, &[], &["a"], false);
    assert_eq!(world.judge(&event, std::slice::from_ref(&b)), Err(Refused::OtherMappings));
    // Kinds that do not fit, or have nothing to work on.
    let event = world.event(EventKind::Withdraw, one, &[], &["a"], false);
    assert_eq!(world.judge(&event, one), Err(Refused::Shape));
    let event = world.event(EventKind::OptOut, one, &[], &["a"], false);
    assert_eq!(world.judge(&event, one), Err(Refused::Shape));
    let event = world.event(EventKind::Erase, &[], &[], &["a"], false);
    assert_eq!(world.judge(&event, &[]), Err(Refused::NotThere));
    // Stale: over no version, over an old one, or played again.
    let event = world.issue(&["a"], one);
    assert_eq!(world.judge(&event, one), Err(Refused::Stale));
    // Room for eight.
    for i in 1..8 {
        let m = world.visible(&format!("x{i}"), "chat.example");
        world.issue(&[&format!("x{i}")], &[m]);
    }
    let event = world.event(EventKind::Issue, std::slice::from_ref(&b), &[], &["b"], false);
    assert_eq!(world.judge(&event, std::slice::from_ref(&b)), Err(Refused::Full));
    // A forged signature.
    let mut event = world.event(EventKind::Withdraw, &[], &[a.digest()], &["a"], false);
    event.tbs.time = UnixMillis::new(1);
    assert_eq!(world.judge(&event, &[]), Err(Refused::Signature));
}

#[test]
fn encodings_round_trip() {
    let mut world = World::new();
    let mappings = [world.visible("a", "wire.example"), world.hidden("b", "chat.example", "soccer")];
    world.issue(&["a", "b"], &mappings);
    let answer = world.answer(&csi(), None);
    let padded = answer.to_padded(0).unwrap();
    assert_eq!(Answer::from_padded(&padded).unwrap(), answer);
    let receipt = world.receipt();
    assert_eq!(decode::<waymark_mapping::answer::Receipt>("receipt", &encode(&receipt)).unwrap(), receipt);
    for cut in (0..padded.len()).step_by(97) {
        assert!(Answer::from_padded(&padded[..cut]).is_err());
    }
    assert!(Answer::from_padded(&vec![0; 4096]).is_err());
    let _ = answer.to_padded(40_000).map(|p| assert_eq!(p.len(), 64 << 10));
}
