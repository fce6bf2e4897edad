//! A mapping past its not-after: still its key's, and in nobody's way.

mod world;

use waymark_log::hash::Hash;
use waymark_mapping::{
    event::{Event, EventKind},
    mapping::Mapping,
    receipt::accept,
    record::{Ground, HIDDEN_SLOTS, LAPSED_KEPT_MS, NEW_MS, RecordState, SHORT_HOLD_MS, VISIBLE_MAPPINGS_DEFAULT},
    rules::{Known, Refused, State},
    verify::Trail,
    wire::List24,
};
use world::{World, csi, key_of, secret, sent};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// Bob's one mapping, which has lapsed a day ago.
fn lapsed() -> (World, Mapping) {
    let mut world = World::new();
    let mapping = world.visible("bob", "chat.example");
    world.issue(&["bob"], std::slice::from_ref(&mapping));
    world.wait(101 * DAY);
    (world, mapping)
}

fn visible(world: &mut World, app: &str, count: usize) -> Vec<Mapping> {
    (0..count).map(|_| world.visible(app, "chat.example")).collect()
}

fn state(world: &World) -> &State {
    &world.versions.last().unwrap().state
}

fn stands(world: &World, mapping: &Mapping) -> bool {
    state(world).held.iter().any(|h| h.mapping == *mapping)
}

fn change(
    world: &mut World,
    kind: EventKind,
    added: &[Mapping],
    removed: &[Hash],
    apps: &[&str],
) -> Result<Event, Refused> {
    let event = world.event(kind, added, removed, apps, false);
    world.change(&event, added).map(|()| event)
}

/// Eight visible mappings: Bob's, which lapses after a hundred days, and seven that Carol renews before that.
fn full() -> (World, Mapping) {
    let mut world = World::new();
    let bobs = world.visible("bob", "chat.example");
    world.issue(&["bob"], std::slice::from_ref(&bobs));
    let carols = visible(&mut world, "carol", 7);
    world.issue(&["carol"], &carols);
    world.wait(90 * DAY);
    let again = visible(&mut world, "carol", 7);
    let old: Vec<Hash> = carols.iter().map(Mapping::digest).collect();
    change(&mut world, EventKind::Replace, &again, &old, &["carol"]).unwrap();
    world.wait(11 * DAY);
    (world, bobs)
}

/// Nobody who intercepts a code begins a tenure by clearing away what has lapsed: the one who held the identifier would be the newcomer.
#[test]
fn a_lapsed_mapping_goes_by_no_withdrawal_and_no_erasure_without_its_key() {
    let (mut world, bobs) = lapsed();
    let foothold = world.visible("mallory", "chat.example");
    change(&mut world, EventKind::Issue, std::slice::from_ref(&foothold), &[], &["mallory"]).unwrap();
    let both = [foothold.digest(), bobs.digest()];
    for later in [0, 1, 30] {
        world.wait(later * DAY);
        for kind in [EventKind::Withdraw, EventKind::Erase] {
            assert_eq!(change(&mut world, kind, &[], &both, &["mallory"]).unwrap_err(), Refused::Lapsed, "{kind:?}");
        }
        let more = world.visible("mallory", "chat.example");
        let replace = change(&mut world, EventKind::Replace, &[more], &[bobs.digest()], &["mallory"]);
        assert_eq!(replace.unwrap_err(), Refused::Lapsed, "there is room");
    }
    change(&mut world, EventKind::Withdraw, &[], &[foothold.digest()], &["mallory"]).unwrap();
    assert_eq!((state(&world).tenure_of_next_mapping(), stands(&world, &bobs)), (0, true), "no vacancy opens");
    // Its own key may.
    change(&mut world, EventKind::Erase, &[], &[bobs.digest()], &["bob"]).unwrap();
}

#[test]
fn a_lapsed_holder_objects_removes_what_is_new_and_renews() {
    let (mut world, bobs) = lapsed();
    let foothold = world.visible("mallory", "chat.example");
    change(&mut world, EventKind::Issue, std::slice::from_ref(&foothold), &[], &["mallory"]).unwrap();
    assert!(state(&world).held[1].standing.newcomer.0, "a newcomer beside a lapsed mapping is new");
    let event = world.event(EventKind::NewHolderPending, &[], &[], &["mallory"], true);
    world.change(&event, &[]).unwrap();
    let claim = *state(&world).state.claim().unwrap();
    assert_eq!((claim.ground, claim.until.since(claim.time)), (Ground::Lapsed, SHORT_HOLD_MS));
    // He renews first and objects afterwards: a renewal is no later than what it renews.
    let renewed = world.visible("bob", "chat.example");
    change(&mut world, EventKind::Replace, std::slice::from_ref(&renewed), &[bobs.digest()], &["bob"]).unwrap();
    let event = world.event(EventKind::Objection, &[], &[foothold.digest()], &["bob"], true);
    world.change(&event, &[]).unwrap();
    assert_eq!((state(&world).state, state(&world).held.len()), (RecordState::Standing, 1));
    // The same without a claim: a renewal in between takes nothing of the rule for new mappings.
    let foothold = world.visible("mallory", "chat.example");
    change(&mut world, EventKind::Issue, std::slice::from_ref(&foothold), &[], &["mallory"]).unwrap();
    let again = world.visible("bob", "chat.example");
    change(&mut world, EventKind::Replace, &[again], &[renewed.digest()], &["bob"]).unwrap();
    let event = world.event(EventKind::Withdraw, &[], &[foothold.digest()], &["bob"], true);
    world.change(&event, &[]).unwrap();
    assert_eq!(state(&world).held.len(), 1);
}

/// Who comes after a claim and waits does not come before it by renewing: only those who were there object.
#[test]
fn nobody_who_came_after_a_claim_objects_to_it_by_renewing() {
    let mut world = World::new();
    let bobs = world.visible("bob", "chat.example");
    world.issue(&["bob"], &[bobs]);
    let event = world.event(EventKind::NewHolderPending, &[], &[], &["carol"], true);
    world.change(&event, &[]).unwrap();
    let late = world.visible("mallory", "chat.example");
    change(&mut world, EventKind::Issue, std::slice::from_ref(&late), &[], &["mallory"]).unwrap();
    world.wait(NEW_MS + HOUR);
    let again = world.visible("mallory", "chat.example");
    change(&mut world, EventKind::Replace, std::slice::from_ref(&again), &[late.digest()], &["mallory"]).unwrap();
    assert!(state(&world).held[1].standing.newcomer.0);
    world.wait(NEW_MS + HOUR);
    let event = world.event(EventKind::Objection, &[], &[], &["mallory"], true);
    assert_eq!(world.judge(&event, &[]), Err(Refused::NotAuthorised));
}

#[test]
fn the_only_mapping_is_renewed_by_its_key_though_it_has_lapsed() {
    for kind in [EventKind::Issue, EventKind::Replace] {
        let (mut world, bobs) = lapsed();
        let new = world.visible("bob", "chat.example");
        let removed = if kind == EventKind::Replace { vec![bobs.digest()] } else { vec![] };
        change(&mut world, kind, std::slice::from_ref(&new), &removed, &["bob"]).unwrap();
        assert!(stands(&world, &new) && !state(&world).held.last().unwrap().standing.newcomer.0);
        assert_eq!(state(&world).tenure, 0);
    }
}

#[test]
fn a_lost_key_is_followed_by_a_claim_that_waits_72_hours() {
    let (mut world, bobs) = lapsed();
    let event = world.event(EventKind::NewHolderPending, &[], &[], &["bob2"], true);
    world.change(&event, &[]).unwrap();
    world.wait(SHORT_HOLD_MS + HOUR);
    let proof = world.attest_for("bob2", &csi(), 1);
    let tags = waymark_mapping::mapping::Tags::shown(vec![]).unwrap();
    let new = world.mapping_by("bob2", "chat.example", tags, proof);
    change(&mut world, EventKind::NewHolder, std::slice::from_ref(&new), &[], &["bob2"]).unwrap();
    assert!(stands(&world, &new) && !stands(&world, &bobs));
}

/// Only a full record, only as much as must, only 14 days after it lapsed, and only with a signer that is not new.
#[test]
fn a_lapsed_mapping_makes_way_where_a_full_record_needs_the_room() {
    let (mut world, bobs) = full();
    let ninth = |world: &mut World, app: &str| {
        let more = world.visible(app, "chat.example");
        change(world, EventKind::Replace, &[more], &[bobs.digest()], &[app])
    };
    assert_eq!(ninth(&mut world, "carol").unwrap_err(), Refused::Lapsed, "it lapsed a day ago");
    world.wait(LAPSED_KEPT_MS);
    // A new phone alone does not; Carol has two go for one, or clears without need.
    assert_eq!(ninth(&mut world, "dave").unwrap_err(), Refused::Lapsed);
    let own = state(&world).held[1].mapping.digest();
    let more = world.visible("carol", "chat.example");
    let two = change(&mut world, EventKind::Replace, std::slice::from_ref(&more), &[bobs.digest(), own], &["carol"]);
    assert_eq!(two.unwrap_err(), Refused::Lapsed, "with her own one gone there was room");
    let list = std::slice::from_ref(&more);
    let event = world.event(EventKind::Replace, list, &[bobs.digest()], &["carol"], false);
    let room = world.judge_knowing(&event, list, Known { visible_max: Some(9), ..Known::default() });
    assert_eq!(room.unwrap_err(), Refused::Lapsed, "this DP takes nine");
    let event = ninth(&mut world, "carol").unwrap();
    assert!(!stands(&world, &bobs) && state(&world).held.len() == VISIBLE_MAPPINGS_DEFAULT);
    // Her app accepts it without knowing the limit: it named what goes.
    let added = [state(&world).held.last().unwrap().mapping.clone()];
    accept(&world.receipt(), sent(&event, &added), &world.trust(), None, world.clock(), &mut Trail::default()).unwrap();
}

#[test]
fn a_hidden_mapping_that_lapsed_makes_way_for_a_ninth() {
    let mut world = World::new();
    let shown = world.visible("carol", "chat.example");
    let mut first = vec![world.hidden("bob", "chat.example", "soccer"), shown.clone()];
    first.extend((1..HIDDEN_SLOTS).map(|_| world.hidden("carol", "chat.example", "choir")));
    let bobs = first[0].digest();
    world.issue(&["bob", "carol"], &first);
    world.wait(101 * DAY + LAPSED_KEPT_MS);
    let own = world.visible("carol", "chat.example");
    let hidden = world.hidden("carol", "chat.example", "work");
    let replace = change(&mut world, EventKind::Replace, &[own], &[shown.digest(), bobs], &["carol"]);
    assert_eq!(replace.unwrap_err(), Refused::Lapsed, "what is added is not hidden");
    change(&mut world, EventKind::Replace, &[hidden], &[bobs], &["carol"]).unwrap();
    assert!(state(&world).held.iter().all(|h| h.mapping.recipient == key_of("carol")));
}

/// A DP that lowers its limit takes nothing away: no more may come.
#[test]
fn a_lower_limit_takes_nothing_away() {
    let (mut world, _) = full();
    let known = Known { visible_max: Some(3), ..Known::default() };
    let old = state(&world).held[1].mapping.digest();
    let more = world.visible("carol", "chat.example");
    let list = std::slice::from_ref(&more);
    let renew = world.event(EventKind::Replace, list, &[old], &["carol"], false);
    world.judge_knowing(&renew, list, known).unwrap();
    let issue = world.event(EventKind::Issue, list, &[], &["carol"], false);
    assert_eq!(world.judge_knowing(&issue, list, known).unwrap_err(), Refused::Full);
    let withdraw = world.event(EventKind::Withdraw, &[], &[old], &["carol"], false);
    world.judge_knowing(&withdraw, &[], known).unwrap();
}

#[test]
fn a_record_with_a_mapping_twice_is_refused_and_never_made() {
    let (mut world, bobs) = full();
    let withdraw = world.event(EventKind::Withdraw, &[], &[bobs.digest()], &["bob"], false);
    let mut doubled = state(&world).clone();
    doubled.held.push(doubled.held[0].clone());
    let kept = world.versions.last_mut().unwrap();
    let good = std::mem::replace(&mut kept.state, doubled);
    assert_eq!(world.judge(&withdraw, &[]).unwrap_err(), Refused::Twice);
    world.versions.last_mut().unwrap().state = good;
    let mapping = world.visible("carol", "chat.example");
    let twice = [mapping.clone(), mapping];
    let event = world.event(EventKind::Issue, &twice, &[], &["carol"], false);
    assert_eq!(world.judge(&event, &twice).unwrap_err(), Refused::Shape);
}

/// Whoever carries an event can neither take its proof of possession away nor put another one in.
#[test]
fn the_possession_in_an_event_is_signed() {
    let (mut world, _) = lapsed();
    let event = world.event(EventKind::NewHolderPending, &[], &[], &["mallory"], true);
    world.change(&event, &[]).unwrap();
    let stops = world.event(EventKind::Objection, &[], &[], &["bob"], true);
    let extends = world.event(EventKind::Objection, &[], &[], &["bob"], false);
    let carry = |event: &Event, possession| {
        let mut authority = event.authorities[0].clone();
        authority.possession = possession;
        Event { tbs: event.tbs.clone(), authorities: List24::new(vec![authority]).unwrap() }
    };
    let other = world.event(EventKind::Objection, &[], &[], &["bob"], true).authorities[0].possession.clone();
    for altered in
        [carry(&stops, extends.authorities[0].possession.clone()), carry(&stops, other.clone()), carry(&extends, other)]
    {
        assert_eq!(world.judge(&altered, &[]).unwrap_err(), Refused::Signature);
    }
    assert!(secret("bob").public() == stops.authorities[0].key);
    world.change(&stops, &[]).unwrap();
}
