//! Every kind of event beyond issuing and withdrawing: who may, who may not, and what a sender and a recipient are shown of it.

mod world;

use waymark_log::{proof::naive_root, time::UnixMillis};
use waymark_mapping::{
    answer::{Answer, Content, Past, Receipt},
    audit::{Finding, Replay},
    event::{Event, EventKind},
    facts::{Contest, Service},
    mapping::{Mapping, Tags},
    names::Tag,
    receipt::{Current, ReceiptRefused, accept, open_current},
    record::{Beginning, Ground, HOLD_MS, RecordState, SHORT_HOLD_MS, TAKE_UP_MS},
    rules::{Known, Refused, State},
    tenure::{PASSAGE_MS, Passage},
    trust::Trust,
    verify::{Asked, Lookup, Outcome, Rejected, Trail, verify},
    wire::{List24, Optional24},
};
use world::{ORIGIN, World, csi, domain, key_of, question, secret, sent};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn check_with(world: &World, answer: &Answer, tag: Option<&str>, trust: &Trust) -> Result<Lookup, Rejected> {
    let asked = Asked { origin: ORIGIN.clone(), csi: csi(), tag: tag.map(|t| Tag::parse(t).unwrap()) };
    let bytes = answer.to_padded(0).unwrap();
    let verified = verify(&bytes, &asked, trust, None, world.clock(), &mut Trail::default())?;
    Ok(verified.get().clone())
}

fn check(world: &World, answer: &Answer) -> Result<Lookup, Rejected> {
    check_with(world, answer, None, &world.trust())
}

fn seen(world: &World) -> Lookup {
    check(world, &world.answer(&csi(), None)).unwrap()
}

fn is_not_proven(verdict: Result<Lookup, Rejected>) -> bool {
    matches!(verdict, Err(Rejected::NotProven(_)))
}

fn accepted(world: &World, event: &Event, added: &[Mapping]) -> Result<Current, ReceiptRefused> {
    accept(&world.receipt(), sent(event, added), &world.trust(), None, world.clock(), &mut Trail::default())
}

fn all(mappings: &[Mapping]) -> Vec<waymark_log::hash::Hash> {
    mappings.iter().map(Mapping::digest).collect()
}

/// Bob, with a mapping in public and a hidden one, an hour ago.
fn bob() -> (World, [Mapping; 2]) {
    let mut world = World::new();
    let mappings = [world.visible("bob", "chat.example"), world.hidden("bob", "wire.example", "soccer")];
    world.issue(&["bob"], &mappings);
    world.wait(HOUR);
    (world, mappings)
}

/// Carol, a newcomer with possession shown to this prover, claims the number.
fn claim_by(world: &mut World, prover: &str, known: Known<'_>) -> Result<Event, Refused> {
    let mut event = world.event(EventKind::NewHolderPending, &[], &[], &["carol"], false);
    let proof = world.attest_by(prover, "carol", &csi(), event.tbs.tenure + 1);
    let authority = event.tbs.sign_as_recipient(&world.origin, &secret("carol"), Some(proof));
    event.authorities = List24::new(vec![authority]).unwrap();
    let state = world.judge_knowing(&event, &[], known)?;
    world.log_state(state, event.clone(), vec![]);
    Ok(event)
}

fn claim(world: &mut World, known: Known<'_>) -> Result<Event, Refused> {
    claim_by(world, "dp.example", known)
}

fn plain_claim(world: &mut World) -> Event {
    claim(world, Known::default()).unwrap()
}

fn next_tenure_mapping(world: &mut World, app: &str) -> Mapping {
    let tenure = world.before().unwrap().0.tenure + 1;
    let proof = world.attest_for(app, &csi(), tenure);
    world.mapping_by(app, "chat.example", Tags::shown(vec![]).unwrap(), proof)
}

fn take_over(world: &mut World, app: &str) -> Result<(Event, Mapping), Refused> {
    let mapping = next_tenure_mapping(world, app);
    let event = world.event(EventKind::NewHolder, std::slice::from_ref(&mapping), &[], &[app], false);
    world.change(&event, std::slice::from_ref(&mapping))?;
    Ok((event, mapping))
}

fn state(world: &World) -> RecordState {
    world.versions.last().unwrap().state.state
}

#[test]
fn a_key_is_rotated_and_keeps_its_standing() {
    let (mut world, old) = bob();
    let before = world.versions.last().unwrap().state.held[0].standing;
    let say = |world: &mut World, app: &str| {
        [world.visible(app, "chat.example"), world.hidden(app, "wire.example", "soccer")]
    };
    let mut new = say(&mut world, "bob2");
    for (new, old) in new.iter_mut().zip(&old) {
        new.account = old.account.clone();
        waymark_mapping::signed::SignedStruct::sign(new, &world.origin, &secret("bob2"));
    }
    // Both keys, all mappings, the same words.
    for (apps, added, removed, why) in [
        (&["bob"][..], &new[..], &old[..], Refused::NotAuthorised),
        (&["bob2"], &new, &old, Refused::NotAuthorised),
        (&["bob", "bob2"], &new[..1], &old[..1], Refused::Shape),
        (&["bob", "bob2"], &[new[1].clone(), new[0].clone()], &old, Refused::Shape),
    ] {
        let event = world.event(EventKind::RotateKey, added, &all(removed), apps, false);
        assert_eq!(world.judge(&event, added), Err(why), "{apps:?}");
    }
    let event = world.event(EventKind::RotateKey, &new, &all(&old), &["bob", "bob2"], false);
    world.change(&event, &new).unwrap();
    let held = &world.versions.last().unwrap().state.held;
    assert!(held.iter().all(|h| h.standing == before && h.mapping.recipient == key_of("bob2")));
    assert!(accepted(&world, &event, &new).unwrap().complete);
    assert_eq!(seen(&world).mappings[0].recipient, key_of("bob2"));

    // What its MSP said of one of them was said of that mapping, and nobody says it of another.
    let detached = world.statement(EventKind::MspDetach, Some(new[0].digest()), 1, "chat.example");
    world.change(&detached, &[]).unwrap();
    let mut newer = say(&mut world, "bob3");
    for (newer, new) in newer.iter_mut().zip(&new) {
        newer.account = new.account.clone();
        waymark_mapping::signed::SignedStruct::sign(newer, &world.origin, &secret("bob3"));
    }
    let event = world.event(EventKind::RotateKey, &newer, &all(&new), &["bob2", "bob3"], false);
    assert_eq!(world.judge(&event, &newer), Err(Refused::NotServed));
}

/// Otherwise somebody who intercepts a code comes into the standing of a mapping that ran out, and is new to nobody.
#[test]
fn a_mapping_that_ran_out_is_not_taken_over() {
    let mut world = World::new();
    let [old, live] = [world.visible("bob", "chat.example"), world.visible("ann", "chat.example")];
    world.issue(&["bob", "ann"], &[old.clone(), live]);
    world.wait(101 * DAY);
    let mut same = world.visible("mallory", "chat.example");
    same.account = old.account.clone();
    waymark_mapping::signed::SignedStruct::sign(&mut same, &world.origin, &secret("mallory"));
    let event = world.event(EventKind::RotateKey, std::slice::from_ref(&same), &[old.digest()], &["mallory"], true);
    assert_eq!(world.judge(&event, std::slice::from_ref(&same)), Err(Refused::NotAuthorised));
    // Signed by nobody, or by somebody whom nothing else gives a part.
    for (apps, why) in [(&[][..], Refused::NotAuthorised), (&["mallory"], Refused::Bystander)] {
        let event = world.event(EventKind::Withdraw, &[], &[old.digest()], apps, true);
        assert_eq!(world.judge(&event, &[]), Err(why));
    }
}

/// "While a mapping is new": the rule lets those who were there before remove it, and do nothing else with it.
#[test]
fn a_new_mapping_is_not_rotated_by_those_who_may_remove_it() {
    let (mut world, _) = bob();
    let carols = world.visible("carol", "chat.example");
    world.issue(&["carol"], std::slice::from_ref(&carols));
    let mut same = world.visible("bob2", "chat.example");
    same.account = carols.account.clone();
    waymark_mapping::signed::SignedStruct::sign(&mut same, &world.origin, &secret("bob2"));
    let event = world.event(EventKind::RotateKey, &[same.clone()], &[carols.digest()], &["bob", "bob2"], true);
    assert_eq!(world.judge(&event, &[same]), Err(Refused::NotAuthorised));
}

#[test]
fn a_claim_that_is_void_keeps_nothing_new() {
    let (mut world, _) = bob();
    let carols = world.visible("carol", "chat.example");
    world.issue(&["carol"], std::slice::from_ref(&carols));
    plain_claim(&mut world);
    let is_new = |world: &World| {
        let state = &world.versions.last().unwrap().state;
        let held = state.held.iter().find(|h| h.mapping == carols).unwrap();
        state.is_new_at(held, world.clock())
    };
    world.wait(HOLD_MS + HOUR);
    assert!(is_new(&world), "as long as its key claims the CSI");
    world.wait(TAKE_UP_MS);
    assert!(!is_new(&world));
    // Nor is there anything of it left to revoke.
    let (mut world, _) = bob();
    plain_claim(&mut world);
    world.wait(HOLD_MS + TAKE_UP_MS);
    let token = world.token("carol");
    assert_eq!(world.judge(&token, &[]), Err(Refused::NotThere));
}

/// Everybody sees how a visible mapping stands and what a tenure rests on: neither may tell what is hidden.
#[test]
fn what_is_hidden_does_not_show_in_what_is_visible() {
    let shown = [false, true].map(|hides| {
        let mut world = World::new();
        let strict = world.attest_by("strict.example", "ann", &csi(), 0);
        let soccer = Tags::Exact(Tag::parse("soccer").unwrap());
        let secret = world.mapping_by("ann", "wire.example", soccer, strict);
        let bobs = world.visible("bob", "chat.example");
        // Bob registers, Ann's hidden mapping with his, and first in the list.
        let first: Vec<Mapping> = hides.then_some(secret).into_iter().chain([bobs.clone()]).collect();
        world.issue(if hides { &["ann", "bob"] } else { &["bob"] }, &first);
        world.wait(100 * HOUR);
        // Ann's app shows itself; Bob leaves; Ann adds another while she is new.
        let ann = world.visible("ann", "chat.example");
        world.issue(&["ann"], std::slice::from_ref(&ann));
        let leave = world.event(EventKind::Withdraw, &[], &[bobs.digest()], &["bob"], false);
        world.change(&leave, &[]).unwrap();
        let more = world.visible("ann", "nebula.example");
        world.issue(&["ann"], std::slice::from_ref(&more));
        let state = &world.versions.last().unwrap().state;
        let visible = state.held.iter().filter(|h| !h.is_hidden());
        (state.start.domain.get(), visible.map(|h| h.standing.newcomer.0).collect::<Vec<_>>())
    });
    assert_eq!(shown, [(Some(domain("dp.example")), vec![true, true]), (Some(domain("dp.example")), vec![true, true])]);
}

#[test]
fn a_prepared_token_revokes_a_lost_phone_whatever_has_happened_since() {
    let (mut world, _) = bob();
    let token = world.token("bob");
    let ann = world.visible("ann", "chat.example");
    world.issue(&["ann"], &[ann]);
    // Nobody else can make one, and an ordinary event cannot leave its version out.
    let mut forged = token.clone();
    forged.tbs.time = UnixMillis::new(1);
    assert_eq!(world.judge(&forged, &[]), Err(Refused::Signature));
    let mut named = world.event(EventKind::KeyCompromise, &[], &[], &["bob"], false);
    assert_eq!(world.judge(&named, &[]), Err(Refused::Stale));
    named = world.token("stranger");
    assert_eq!(world.judge(&named, &[]), Err(Refused::NotThere));
    world.change(&token, &[]).unwrap();
    let lookup = seen(&world);
    assert_eq!((lookup.mappings.len(), lookup.mappings[0].recipient), (1, key_of("ann")));
    // Played again it finds nothing.
    assert_eq!(world.judge(&token, &[]), Err(Refused::NotThere));
    // And the key that was lost can see on a receipt what happened.
    assert_eq!(accepted(&world, &token, &[]).unwrap().state.held.len(), 1);
}

#[test]
fn erasing_needs_everybodys_word_and_leaves_a_tombstone() {
    let (mut world, bobs) = bob();
    let ann = world.visible("ann", "chat.example");
    world.issue(&["ann"], std::slice::from_ref(&ann));
    world.wait(4 * DAY);
    let everything = [&all(&bobs)[..], &[ann.digest()]].concat();
    for (removed, apps, why) in [
        (&everything[..], &["bob"][..], Refused::NotAuthorised),
        (&everything[..2], &["bob"], Refused::Shape),
        (&everything[..], &["bob", "ann", "carol"], Refused::Bystander),
    ] {
        let event = world.event(EventKind::Erase, &[], removed, apps, true);
        assert_eq!(world.judge(&event, &[]), Err(why));
    }
    let event = world.event(EventKind::Erase, &[], &everything, &["bob", "ann"], false);
    world.change(&event, &[]).unwrap();
    accepted(&world, &event, &[]).unwrap();
    let lookup = seen(&world);
    assert_eq!((lookup.outcome, lookup.mappings.len(), lookup.tenure_of_next_mapping), (Outcome::Erased, 0, 1));
    // Whoever comes next begins a tenure, which says where it began.
    let next = world.visible("carol", "chat.example");
    let event = world.issue(&["carol"], std::slice::from_ref(&next));
    assert!(world.receipt().previous.0.is_none());
    assert!(accepted(&world, &event, &[next]).unwrap().complete);
    let lookup = seen(&world);
    let begun = lookup.changed_hands.unwrap();
    assert_eq!((begun.how, begun.recent, lookup.tenure), (Beginning::Vacancy, true, Some(1)));
    // If that is erased as well, nothing before is needed to show it.
    let carols = world.versions.last().unwrap().state.held[0].mapping.digest();
    let event = world.event(EventKind::Erase, &[], &[carols], &["carol"], false);
    world.change(&event, &[]).unwrap();
    assert!(matches!(world.tenure_proof().unwrap().passage, Passage::Past));
    let lookup = seen(&world);
    assert_eq!((lookup.outcome, lookup.changed_hands.unwrap().recent), (Outcome::Erased, false));
}

#[test]
fn where_nothing_stands_possession_alone_erases() {
    let (mut world, bobs) = bob();
    let event = world.event(EventKind::Withdraw, &[], &all(&bobs), &["bob"], false);
    world.change(&event, &[]).unwrap();
    assert_eq!(state(&world), RecordState::Vacant);
    let event = world.event(EventKind::Erase, &[], &[], &["carol"], false);
    assert_eq!(world.judge(&event, &[]), Err(Refused::NotAuthorised));
    let event = world.event(EventKind::Erase, &[], &[], &["carol"], true);
    world.change(&event, &[]).unwrap();
    assert_eq!(seen(&world).outcome, Outcome::Erased);
    let again = world.event(EventKind::Erase, &[], &[], &["carol"], true);
    assert_eq!(world.judge(&again, &[]), Err(Refused::NotThere));
}

#[test]
fn a_legitimate_newcomer_succeeds_without_anybodys_help() {
    let (mut world, _) = bob();
    let event = plain_claim(&mut world);
    accepted(&world, &event, &[]).unwrap();
    let lookup = seen(&world);
    assert!(matches!(lookup.contested, Some(Contest::Claim { ground: Ground::Equal, objected: false, .. })));
    assert_eq!(lookup.mappings.len(), 1, "a claim evicts nobody");
    world.wait(HOLD_MS - HOUR);
    assert_eq!(take_over(&mut world, "carol").unwrap_err(), Refused::Held);
    world.wait(2 * HOUR);
    // Possession shown before the hold was over does not count, nor does somebody else's claim.
    assert_eq!(take_over(&mut world, "mallory").unwrap_err(), Refused::NoClaim);
    let mut early = world.attest_for("carol", &csi(), 1);
    early.time = UnixMillis::new(world.now - 2 * DAY);
    waymark_mapping::signed::SignedStruct::sign(&mut early, &world.origin, &secret("dp.example"));
    let early = world.mapping_by("carol", "chat.example", Tags::shown(vec![]).unwrap(), early);
    let event = world.event(EventKind::NewHolder, std::slice::from_ref(&early), &[], &["carol"], false);
    assert_eq!(world.judge(&event, &[early]), Err(Refused::Time));
    let (event, mapping) = take_over(&mut world, "carol").unwrap();
    assert!(accepted(&world, &event, &[mapping]).unwrap().complete);
    let lookup = seen(&world);
    let begun = lookup.changed_hands.unwrap();
    assert_eq!((begun.how, begun.recent, begun.ground), (Beginning::NewHolder, true, Some(Ground::Equal)));
    assert_eq!((lookup.mappings.len(), lookup.mappings[0].recipient), (1, key_of("carol")));
    assert!(!lookup.mappings[0].change.is_new && lookup.contested.is_none());
    // For 30 days the hold is proved; then only where the tenure began.
    world.wait(PASSAGE_MS);
    assert!(!seen(&world).changed_hands.unwrap().recent);
}

/// "Old keeps, newcomer wins, both object": who shows what, and what comes of it.
#[test]
fn the_table_of_conflicts() {
    let object = |world: &mut World, app: &str, fresh: bool, removed: &[Mapping]| {
        let event = world.event(EventKind::Objection, &[], &all(removed), &[app], fresh);
        world.change(&event, &[]).map(|()| event)
    };
    // Old keeps: fresh possession stops the claim, and what the claimant added goes with it.
    let (mut world, _) = bob();
    let carols = world.visible("carol", "chat.example");
    world.issue(&["carol"], std::slice::from_ref(&carols));
    plain_claim(&mut world);
    world.wait(10 * DAY);
    assert_eq!(object(&mut world, "bob", false, std::slice::from_ref(&carols)).unwrap_err(), Refused::NotAuthorised);
    assert_eq!(object(&mut world, "carol", true, &[]).unwrap_err(), Refused::NotAuthorised);
    assert_eq!(object(&mut world, "stranger", true, &[]).unwrap_err(), Refused::NotAuthorised);
    let event = object(&mut world, "bob", true, std::slice::from_ref(&carols)).unwrap();
    accepted(&world, &event, &[]).unwrap();
    assert_eq!((state(&world), seen(&world).mappings.len()), (RecordState::Standing, 1));
    world.wait(HOLD_MS);
    assert_eq!(take_over(&mut world, "carol").unwrap_err(), Refused::NoClaim);

    // Newcomer wins: an objection without possession extends once, by as much again, and no further.
    let (mut world, _) = bob();
    plain_claim(&mut world);
    world.wait(DAY);
    let event = object(&mut world, "bob", false, &[]).unwrap();
    accepted(&world, &event, &[]).unwrap();
    assert!(matches!(seen(&world).contested, Some(Contest::Claim { objected: true, .. })));
    assert_eq!(object(&mut world, "bob", false, &[]).unwrap_err(), Refused::Objected);
    world.wait(HOLD_MS);
    assert_eq!(take_over(&mut world, "carol").unwrap_err(), Refused::Held);
    world.wait(HOLD_MS);
    take_over(&mut world, "carol").unwrap();
    assert_eq!(seen(&world).mappings[0].recipient, key_of("carol"));

    // Both have possession, again and again: nobody is evicted, and everybody is told.
    let (mut world, _) = bob();
    for _ in 0..3 {
        plain_claim(&mut world);
        world.wait(13 * DAY);
        object(&mut world, "bob", true, &[]).unwrap();
        assert_eq!(seen(&world).mappings[0].recipient, key_of("bob"));
    }

    // A claim that nobody takes up is void, and the next one counts.
    let (mut world, _) = bob();
    plain_claim(&mut world);
    assert_eq!(claim(&mut world, Known::default()).unwrap_err(), Refused::Claimed);
    world.wait(HOLD_MS + TAKE_UP_MS);
    assert!(seen(&world).contested.is_none());
    assert_eq!(take_over(&mut world, "carol").unwrap_err(), Refused::NoClaim);
    plain_claim(&mut world);
}

#[test]
fn what_shortens_a_hold() {
    let ground = |world: &World| world.versions.last().unwrap().state.state.claim().unwrap().ground;
    // All old mappings have lapsed.
    let (mut world, _) = bob();
    world.wait(200 * DAY);
    plain_claim(&mut world);
    assert_eq!(ground(&world), Ground::Lapsed);
    // A register says that the number was given away.
    let (mut world, _) = bob();
    let event = claim(&mut world, Known { ground: Some(Ground::Recycled), ..Known::default() }).unwrap();
    assert_eq!(ground(&world), Ground::Recycled);
    accepted(&world, &event, &[]).unwrap();
    // Nothing stands: nothing to claim.
    let (mut world, bobs) = bob();
    let event = world.event(EventKind::Withdraw, &[], &all(&bobs), &["bob"], false);
    world.change(&event, &[]).unwrap();
    assert_eq!(claim(&mut world, Known::default()).unwrap_err(), Refused::NothingToClaim);
}

fn strict_world() -> World {
    let (mut world, _) = bob();
    world.add_provider("strict.example", waymark_mapping::entry::ProviderRole::PROVER, false);
    world
}

/// No prover says of itself how strict it is: only the logged policy document shortens a hold, once.
#[test]
fn a_prover_is_stricter_only_by_the_policy_document() {
    let ground = |world: &World| world.versions.last().unwrap().state.state.claim().unwrap().ground;
    let listed = [domain("strict.example")];
    let known = Known { stricter: &listed, ..Known::default() };
    let mut world = strict_world();
    claim_by(&mut world, "strict.example", Known::default()).unwrap();
    assert_eq!(ground(&world), Ground::Equal, "not listed");
    let mut world = strict_world();
    claim_by(&mut world, "dp.example", known).unwrap();
    assert_eq!(ground(&world), Ground::Equal, "another prover");
    let mut world = strict_world();
    let event = claim_by(&mut world, "strict.example", known).unwrap();
    assert_eq!(ground(&world), Ground::Stricter);
    accepted(&world, &event, &[]).unwrap();
    // It is taken up with such a proof, too: so the record names whose word the short hold rests on.
    world.wait(SHORT_HOLD_MS + HOUR);
    let weak = next_tenure_mapping(&mut world, "carol");
    let event = world.event(EventKind::NewHolder, std::slice::from_ref(&weak), &[], &["carol"], false);
    assert_eq!(world.judge_knowing(&event, &[weak], known), Err(Refused::Weaker));
    let proof = world.attest_by("strict.example", "carol", &csi(), 1);
    let strict = world.mapping_by("carol", "chat.example", Tags::shown(vec![]).unwrap(), proof);
    let event = world.event(EventKind::NewHolder, std::slice::from_ref(&strict), &[], &["carol"], false);
    let state = world.judge_knowing(&event, std::slice::from_ref(&strict), known).unwrap();
    world.log_state(state, event, vec![]);
    assert_eq!(seen(&world).changed_hands.unwrap().ground, Some(Ground::Stricter));
    // What was recorded rests on such a proof already: the next one is no stricter.
    world.wait(DAY);
    let event = {
        let mut event = world.event(EventKind::NewHolderPending, &[], &[], &["dave"], false);
        let proof = world.attest_by("strict.example", "dave", &csi(), 2);
        let authority = event.tbs.sign_as_recipient(&world.origin, &secret("dave"), Some(proof));
        event.authorities = List24::new(vec![authority]).unwrap();
        event
    };
    let claimed = world.judge_knowing(&event, &[], known).unwrap();
    assert_eq!(claimed.state.claim().unwrap().ground, Ground::Equal);
}

/// A DP may call any prover stricter. A sender whom that is to convince has its key in the trust file, and sees it at work.
#[test]
fn a_change_of_hands_on_a_stricter_proof_is_contested_unless_that_prover_is_pinned() {
    let listed = [domain("strict.example")];
    let known = Known { stricter: &listed, ..Known::default() };
    let changed_hands = |attested_by: &str| {
        let mut world = strict_world();
        claim_by(&mut world, "strict.example", known).unwrap();
        world.wait(SHORT_HOLD_MS + HOUR);
        let proof = world.attest_by(attested_by, "carol", &csi(), 1);
        let mapping = world.mapping_by("carol", "chat.example", Tags::shown(vec![]).unwrap(), proof);
        let event = world.event(EventKind::NewHolder, std::slice::from_ref(&mapping), &[], &["carol"], false);
        // A DP that calls every prover stricter.
        let all = [domain("strict.example"), domain("dp.example")];
        let lax = Known { stricter: &all, ..Known::default() };
        let mut state = world.judge_knowing(&event, &[mapping], lax).unwrap();
        state.start.domain = domain("strict.example").into();
        world.log_state(state, event, vec![]);
        world
    };
    let pin = |key: &str| {
        let key = key_of(key).to_hex();
        format!("[[provider]]\nrole = \"prover\"\ndomain = \"strict.example\"\nkey = \"{key}\"\n")
    };
    let contested = |world: &World, pins: &str| {
        let trust = Trust::parse(&(world.trust_text() + pins)).unwrap();
        check_with(world, &world.answer(&csi(), None), None, &trust).unwrap().contested
    };
    let mut world = changed_hands("strict.example");
    assert_eq!(contested(&world, ""), Some(Contest::ForeignProver));
    assert_eq!(contested(&world, &pin("strict.example")), None);
    // For as long as how the tenure began is proved.
    world.wait(PASSAGE_MS);
    assert_eq!(contested(&world, ""), None);
    // The name of a pinned prover that has attested nothing here does not convince.
    let world = changed_hands("dp.example");
    assert_eq!(contested(&world, &pin("strict.example")), Some(Contest::ForeignProver));
    // And a hold of 14 days asks for nobody's word.
    let (mut world, _) = bob();
    plain_claim(&mut world);
    world.wait(HOLD_MS + HOUR);
    take_over(&mut world, "carol").unwrap();
    assert_eq!(seen(&world).contested, None);
}

/// What a DP logs that lets Carol in a day after her claim. Its rules would not, so it makes the record by hand.
fn let_in_early() -> (World, State, Event) {
    let (mut world, _) = bob();
    plain_claim(&mut world);
    world.wait(DAY);
    let mapping = next_tenure_mapping(&mut world, "carol");
    let event = world.event(EventKind::NewHolder, std::slice::from_ref(&mapping), &[], &["carol"], false);
    let (before, commitment) = world.before().unwrap();
    let mut early = before.clone();
    let RecordState::Contested(claim) = &mut early.state else { panic!("contested") };
    claim.until = UnixMillis::new(world.now);
    let proposal = waymark_mapping::rules::Proposal {
        event: &event,
        added: std::slice::from_ref(&mapping),
        origin: &world.origin,
        now: UnixMillis::new(world.now + 200),
        known: Known::default(),
    };
    let state = waymark_mapping::rules::apply(Some((&early, commitment)), proposal).unwrap();
    (world, state, event)
}

/// What is left to a DP: a sender sees no more of the past than a head that is dated back. A monitor that follows the log sees it at once.
#[test]
fn a_head_that_is_dated_back_hides_a_skipped_hold_from_senders_and_from_no_monitor() {
    let (mut world, state, event) = let_in_early();
    let now = world.now;
    world.now -= PASSAGE_MS + DAY;
    world.log_state(state, event, vec![]);
    world.now = now + HOUR;
    world.publish(vec![]);
    let lookup = seen(&world);
    assert_eq!((lookup.outcome, lookup.contested), (Outcome::Listed, None));
    assert!(!lookup.changed_hands.unwrap().recent);
    let leaves = world.leaves();
    let mut replay = Replay::new(world.origin.clone(), world.log.key());
    let found = replay.extend(&world.entries, leaves.len() as u64, &naive_root(&leaves)).findings;
    assert!(matches!(found[..], [Finding::Head { what: "the time", .. }]), "{found:?}");
}

#[test]
fn a_dp_that_skips_the_hold_is_not_believed() {
    let (mut world, state, event) = let_in_early();
    world.log_state(state, event, vec![]);
    assert!(is_not_proven(check(&world, &world.answer(&csi(), None))));
    // Nor by calling it something else, leaving the proof away, or saying that it was long ago.
    let mut answer = world.answer(&csi(), None);
    answer.full = Optional24(None);
    assert!(is_not_proven(check(&world, &answer)));
    let mut answer = world.answer(&csi(), None);
    answer.full.0.as_mut().unwrap().tenure.0.as_mut().unwrap().passage = Passage::Past;
    assert!(is_not_proven(check(&world, &answer)));
    let mut answer = world.answer(&csi(), None);
    answer.full.0.as_mut().unwrap().tenure.0.as_mut().unwrap().passage = Passage::Vacancy(world.opened(1));
    assert!(is_not_proven(check(&world, &answer)));
}

#[test]
fn a_csip_takes_a_number_back() {
    let (mut world, _) = bob();
    world.add_provider("csip.example", waymark_mapping::entry::ProviderRole::CSIP, false);
    let event = world.statement(EventKind::Release, None, 0, "csip.example");
    assert_eq!(world.judge_knowing(&event, &[], Known::default()), Err(Refused::NotAuthorised));
    world.change(&event, &[]).unwrap();
    let lookup = seen(&world);
    assert_eq!((lookup.outcome, lookup.tenure), (Outcome::NoneListed, Some(1)));
    assert_eq!(lookup.contested, Some(Contest::ForeignRelease));
    assert_eq!(lookup.changed_hands.unwrap().csip, Some((domain("csip.example"), false)));
    // The next mapping is of this tenure, and the release is still what it began with.
    let carols = world.visible("carol", "chat.example");
    let event = world.issue(&["carol"], std::slice::from_ref(&carols));
    accepted(&world, &event, &[carols]).unwrap();
    let pinned = world.trust_text()
        + &format!(
            "[[provider]]\nrole = \"csip\"\ndomain = \"csip.example\"\nkey = \"{}\"\n",
            key_of("csip.example").to_hex()
        );
    let lookup = check_with(&world, &world.answer(&csi(), None), None, &Trust::parse(&pinned).unwrap()).unwrap();
    assert_eq!((lookup.contested, lookup.outcome), (None, Outcome::Listed));
    assert_eq!(lookup.changed_hands.unwrap().csip, Some((domain("csip.example"), true)));
    let other = pinned.replace(&key_of("csip.example").to_hex(), &key_of("else").to_hex());
    let verdict = check_with(&world, &world.answer(&csi(), None), None, &Trust::parse(&other).unwrap());
    assert!(matches!(verdict, Err(Rejected::Untrusted(_))));
    // By a key that is no CSIP's.
    let (mut world, _) = bob();
    world.add_provider("csip.example", waymark_mapping::entry::ProviderRole::CSIP, false);
    let event = world.statement(EventKind::Release, None, 0, "stranger");
    world.change(&event, &[]).unwrap();
    assert!(is_not_proven(check(&world, &world.answer(&csi(), None))));
}

#[test]
fn what_an_msp_or_the_dp_says_removes_nothing() {
    let (mut world, bobs) = bob();
    // Detached: the mapping stands, its MSP's confirmation does not.
    let event = world.statement(EventKind::MspDetach, Some(bobs[0].digest()), 1, "chat.example");
    world.change(&event, &[]).unwrap();
    let lookup = seen(&world);
    assert_eq!((lookup.outcome, lookup.mappings[0].service), (Outcome::Listed, Service::Detached { reason: 1 }));
    let stranger = world.statement(EventKind::MspDetach, Some(all(&bobs)[0]), 0, "chat.example");
    world.change(&stranger, &[]).unwrap();
    assert!(matches!(seen(&world).mappings[0].service, Service::Confirmed { .. }));
    // Twice, of what is not there, or with lists of more than one.
    assert_eq!(world.judge(&stranger, &[]), Err(Refused::Stale));
    let again = world.statement(EventKind::MspDetach, Some(bobs[0].digest()), 0, "chat.example");
    assert_eq!(world.judge(&again, &[]), Err(Refused::NotThere));
    // Withheld: closed to senders, with the DP's word for it; shown to the recipient.
    let event = world.statement(EventKind::DpUnserve, Some(bobs[0].digest()), 2, "dp.example");
    world.change(&event, &[]).unwrap();
    let lookup = seen(&world);
    assert_eq!((lookup.outcome, lookup.mappings.len(), lookup.withheld.len()), (Outcome::NoneListed, 0, 1));
    assert_eq!(lookup.withheld[0].reason, 2);
    let recipient = open_current(
        &world.receipt(),
        &question(csi()),
        &secret("bob").public(),
        &world.trust(),
        None,
        world.clock(),
        &mut Trail::default(),
    );
    assert_eq!(recipient.unwrap().unwrap().state.held.len(), 2);
    // Without the statement, with somebody else's, or closed without any reason.
    let forged = world.statement(EventKind::DpUnserve, Some(bobs[0].digest()), 2, "chat.example");
    for statement in [None, Some(forged)] {
        let mut answer = world.answer(&csi(), None);
        edit(&mut answer, |v| v.statement = Optional24(statement.clone()));
        assert!(is_not_proven(check(&world, &answer)), "{statement:?}");
    }
    let (world, bobs) = bob();
    let mut answer = world.answer(&csi(), None);
    edit(&mut answer, |v| v.content = Content::Closed(bobs[0].digest()));
    assert!(is_not_proven(check(&world, &answer)));
}

/// Changes the first visible slot of an answer.
fn edit(answer: &mut Answer, change: impl Fn(&mut waymark_mapping::answer::OpenedVisible)) {
    let body = answer.body.0.as_mut().unwrap();
    let mut visible = body.visible.to_vec();
    change(&mut visible[0]);
    body.visible = List24::new(visible).unwrap();
}

#[test]
fn the_time_of_what_stands_can_be_proved() {
    let (mut world, _) = bob();
    let ann = world.visible("ann", "wire.example");
    world.issue(&["ann"], &[ann]);
    world.wait(DAY);
    let full = |world: &World| {
        let mut answer = world.answer(&csi(), None);
        let since = world.since(answer.body.0.as_ref().unwrap());
        answer.full = Optional24(Some(waymark_mapping::answer::Full {
            open_path: List24::empty(),
            since: List24::new(since).unwrap(),
            tenure: Optional24(None),
            earlier: List24::empty(),
        }));
        answer
    };
    let lookup = check(&world, &full(&world)).unwrap();
    let times: Vec<_> = lookup.mappings.iter().map(|m| (m.change.since, m.change.logged_by.unwrap())).collect();
    assert!(times.iter().all(|(since, logged)| since <= logged && logged.since(*since) <= 1000), "{times:?}");
    assert!(seen(&world).mappings.iter().all(|m| m.change.logged_by.is_none()));
    // Some of them, or another one.
    let mut answer = full(&world);
    let since = &mut answer.full.0.as_mut().unwrap().since;
    *since = List24::new(since[1..].to_vec()).unwrap();
    assert!(is_not_proven(check(&world, &answer)));
    let mut answer = full(&world);
    let mut wrong = answer.full.0.as_ref().unwrap().since.to_vec();
    wrong[0].head = world.head_at(1);
    answer.full.0.as_mut().unwrap().since = List24::new(wrong).unwrap();
    assert!(is_not_proven(check(&world, &answer)), "a head in front of the entry");
}

#[test]
fn history_goes_back_to_the_beginning_of_the_tenure() {
    let (mut world, bobs) = bob();
    let ann = world.visible("ann", "wire.example");
    world.issue(&["ann"], &[ann]);
    let event = world.event(EventKind::Withdraw, &[], &all(&bobs[..1]), &["bob"], false);
    world.change(&event, &[]).unwrap();
    let current = accepted(&world, &event, &[]).unwrap();
    let past = |version: usize| Past {
        cause: world.versions[version].cause.clone(),
        cause_salt: world.versions[version].composed.cause_salt,
        previous: Optional24(version.checked_sub(1).map(|v| world.bare_body(&world.versions[v]))),
    };
    let (kind, step) = current.anchor.step(&past(2), &key_of("bob")).map(|(e, s)| (e.tbs.kind, s)).unwrap();
    let (state, anchor) = step.unwrap();
    assert_eq!((kind, state.version, state.held.len()), (EventKind::Withdraw, 1, 3));
    assert!(anchor.step(&past(2), &key_of("bob")).is_err(), "another version's cause");
    let mut other = past(1);
    other.previous = Optional24(Some(world.bare_body(&world.versions[1])));
    assert!(anchor.step(&other, &key_of("bob")).is_err(), "another record before");
    let (event, step) = anchor.step(&past(1), &key_of("bob")).unwrap();
    let (state, anchor) = step.unwrap();
    assert_eq!((event.tbs.kind, state.version, state.held.len()), (EventKind::Issue, 0, 2));
    assert!(anchor.step(&past(0), &key_of("bob")).unwrap().1.is_none());
}

/// Nobody is shown the history of somebody else, in either direction: no byte of an old mapping, key or consent stands in
/// what the new holder or a sender gets, and the old holder's last receipt has nothing of the new one's.
#[test]
fn tenures_know_nothing_of_each_other() {
    let (mut world, bobs) = bob();
    plain_claim(&mut world);
    let old = world.receipt().encode();
    world.wait(HOLD_MS + HOUR);
    let (_, carols) = take_over(&mut world, "carol").unwrap();
    let new = [world.receipt().encode(), world.answer(&csi(), None).to_padded(0).unwrap()];
    let holds = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|w| w == what);
    for mapping in &bobs {
        let account = mapping.account.expose().as_bytes();
        for what in [mapping.recipient.as_bytes(), mapping.digest().as_bytes(), account, mapping.sig.as_bytes()] {
            assert!(new.iter().all(|bytes| !holds(bytes, what)));
            assert!(what == mapping.digest().as_bytes() || holds(&old, what));
        }
    }
    assert!(!holds(&old, carols.account.expose().as_bytes()) && !holds(&old, b"carol"));
    // A newcomer that shows up where all was withdrawn learns as little.
    let (mut world, bobs) = bob();
    let event = world.event(EventKind::Withdraw, &[], &all(&bobs), &["bob"], false);
    world.change(&event, &[]).unwrap();
    let carols = world.visible("carol", "chat.example");
    world.issue(&["carol"], &[carols]);
    let new = world.receipt().encode();
    assert!(!holds(&new, bobs[0].recipient.as_bytes()) && !holds(&new, b"bob"));
}

/// A bit of every byte; every bit, which takes minutes, with `WAYMARK_FLIPS=all`.
#[test]
fn a_flipped_bit_of_a_proof_of_the_past_is_refused() {
    let step = if std::env::var("WAYMARK_FLIPS").is_ok_and(|flips| flips == "all") { 1 } else { 7 };
    let mut answers = vec![];
    let (mut world, _) = bob();
    plain_claim(&mut world);
    let objection = world.event(EventKind::Objection, &[], &[], &["bob"], false);
    world.change(&objection, &[]).unwrap();
    world.wait(2 * HOLD_MS + HOUR);
    take_over(&mut world, "carol").unwrap();
    answers.push((world.answer(&csi(), None), world));
    let (mut world, bobs) = bob();
    world.add_provider("csip.example", waymark_mapping::entry::ProviderRole::CSIP, false);
    let event = world.statement(EventKind::Release, None, 0, "csip.example");
    world.change(&event, &[]).unwrap();
    drop(bobs);
    answers.push((world.answer(&csi(), None), world));
    let (mut world, bobs) = bob();
    let event = world.statement(EventKind::DpUnserve, Some(bobs[0].digest()), 2, "dp.example");
    world.change(&event, &[]).unwrap();
    answers.push((world.answer(&csi(), None), world));
    std::thread::scope(|scope| {
        for (answer, world) in &answers {
            scope.spawn(move || {
                let (trust, now, asked) = (world.trust(), world.clock(), question(csi()));
                let good = answer.to_padded(0).unwrap();
                let judge = |bytes: &[u8]| verify(bytes, &asked, &trust, None, now, &mut Trail::default());
                judge(&good).unwrap();
                // What the flips of an ordinary answer have not shown: the full part, and the statement.
                let padding = good.len() - good.iter().rev().take_while(|b| **b == 0).count();
                for bit in (0..padding * 8).step_by(step) {
                    let mut bytes = good.clone();
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    assert!(judge(&bytes).is_err(), "bit {bit} (byte {})", bit / 8);
                }
            });
        }
    });
}

#[test]
fn a_receipt_with_a_history_that_is_not_the_readers_is_refused() {
    let (mut world, _) = bob();
    plain_claim(&mut world);
    world.wait(HOLD_MS + HOUR);
    let (event, mapping) = take_over(&mut world, "carol").unwrap();
    let mut receipt: Receipt = world.receipt();
    receipt.previous = Optional24(Some(world.bare_body(&world.versions[1])));
    let verdict =
        accept(&receipt, sent(&event, &[mapping]), &world.trust(), None, world.clock(), &mut Trail::default());
    assert_eq!(verdict.unwrap_err(), ReceiptRefused::OtherPrevious);
}
