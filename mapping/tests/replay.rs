//! The monitor's replay over a whole world, and over worlds that were tampered with.

mod world;

use waymark_log::{checkpoint::Origin, hash::Hash, key::algorithm, proof::naive_root, time::UnixMillis};
use waymark_mapping::{
    audit::{Audited, Finding, Replay, Step},
    entry::{Carry, Change, Close, Config, Entry, Head, ProviderAction, ProviderRole, Skipped},
    label::Label,
    mapping::Consent,
    provider::UNSIGNED_WAIT_MS,
    signed::{AnyKey, AnySignature, SignedStruct, UNSIGNED},
    wire::{Extension, Extensions, Opaque8, Opaque16, Optional24},
};
use world::{World, domain, key_of, secret};

fn world() -> World {
    let mut world = World::new();
    let a = world.visible("a", "wire.example");
    world.issue(&["a"], &[a]);
    let b = world.visible("b", "chat.example");
    world.issue(&["b"], &[b]);
    world
}

fn replay(world: &World) -> (Replay, Step) {
    let mut replay = Replay::new(world.origin.clone(), world.log.key());
    let leaves = world.leaves();
    let step = replay.extend(&world.entries, leaves.len() as u64, &naive_root(&leaves));
    (replay, step)
}

fn findings(world: &World) -> Vec<Finding> {
    replay(world).1.findings
}

#[test]
fn an_honest_log_has_no_findings_in_one_step_or_in_many() {
    let world = world();
    let (replay, step) = replay(&world);
    assert_eq!((step.findings, step.notices), (vec![], vec![]));
    assert_eq!((step.changes.len(), step.consents.len()), (32, 1));
    assert_eq!(replay.map().root(), world.head.map_root);
    assert_eq!(replay.last_head().unwrap().1, world.head);

    let mut piecewise = Replay::new(world.origin.clone(), world.log.key());
    let leaves = world.leaves();
    let heads = world.entries.iter().enumerate().filter(|(_, e)| matches!(Entry::decode(e), Ok(Entry::Head(_))));
    for (index, _) in heads {
        let (from, size) = (piecewise.size() as usize, index + 1);
        let step = piecewise.extend(&world.entries[from..size], size as u64, &naive_root(&leaves[..size]));
        assert_eq!(step.findings, []);
    }
    assert_eq!((piecewise.root(), piecewise.map().root()), (replay.root(), replay.map().root()));
    let change = &step.changes[3];
    assert_eq!(replay.place(&change.label), Some((change.place, change.head)));
}

#[test]
fn entries_that_do_not_lead_to_the_root_are_not_believed() {
    let world = world();
    let mut replay = Replay::new(world.origin.clone(), world.log.key());
    let size = world.entries.len() as u64;
    let step = replay.extend(&world.entries, size, &Hash::ZERO);
    assert_eq!((step.findings, replay.size()), (vec![Finding::RootMismatch { size }], 0));
    let step = replay.extend(&world.entries[1..], size, &naive_root(&world.leaves()));
    assert_eq!((step.findings, replay.size()), (vec![Finding::RootMismatch { size }], 0));
}

/// Replaces the last head by one that was changed.
fn with_head(change: impl FnOnce(&mut Head)) -> Vec<Finding> {
    let mut world = world();
    let mut head = world.head.clone();
    change(&mut head);
    *world.entries.last_mut().unwrap() = Entry::Head(head).encode();
    findings(&world)
}

#[test]
fn a_head_that_lies_is_found() {
    let is_head = |f: &[Finding], what| matches!(f, [Finding::Head { what: w, .. }] if *w == what);
    assert!(is_head(&with_head(|h| h.map_root = Hash::ZERO), "the map root"));
    assert!(is_head(&with_head(|h| h.provider_root = Hash::ZERO), "the provider root"));
    assert!(is_head(&with_head(|h| h.changes += 1), "the number of changes"));
    assert!(is_head(&with_head(|h| h.open = Hash::ZERO), "the link to the open or config entry"));
    assert!(is_head(&with_head(|h| h.config = Hash::sha256(&[])), "the link to the open or config entry"));
    assert!(is_head(&with_head(|h| h.time = UnixMillis::new(1)), "the time"));
}

#[test]
fn rules_of_a_batch() {
    // A checkpoint that does not end in a head.
    let mut w = world();
    w.entries.pop();
    assert!(matches!(findings(&w)[..], [Finding::NoHead { .. }]));
    // Out of order.
    let mut w = world();
    let n = w.entries.len();
    w.entries.swap(n - 2, n - 3);
    assert!(matches!(findings(&w)[..], [Finding::Batch { .. }]));
    // A lonely change.
    let mut w = World::new();
    let change = Change { label: Label(Hash::sha256(&[b"l"])), commitment: Hash::ZERO };
    w.map.insert(vec![(change.label.0, change.commitment)]).unwrap();
    w.changes += 1;
    w.entries.push(Entry::Change(change).encode());
    w.publish(vec![]);
    assert!(matches!(findings(&w)[..], [Finding::Batch { .. }]));
    // The same label twice: found, and the map root that hides it as well.
    let mut w = world();
    let at = w.entries.iter().position(|e| matches!(Entry::decode(e), Ok(Entry::Change(_)))).unwrap();
    let Ok(Entry::Change(first)) = Entry::decode(&w.entries[at]) else { unreachable!() };
    let again = Entry::Change(Change { commitment: Hash::ZERO, ..first }).encode();
    let head = w.entries.len() - 1;
    w.entries.insert(head, again);
    w.entries[head - 16..=head].sort();
    assert!(findings(&w).iter().any(|f| matches!(f, Finding::DuplicateLabel { .. })));
    // Something that is no entry, and a second open entry.
    let mut w = world();
    w.entries.push(vec![1, 7, 0]);
    w.publish(vec![]);
    assert!(matches!(findings(&w)[..], [Finding::Undecodable { .. }]));
    let mut w = world();
    let open = w.entries[0].clone();
    w.entries.push(open);
    w.publish(vec![]);
    assert!(matches!(findings(&w)[..], [Finding::Open { .. }]));
}

#[test]
fn a_consent_by_an_unknown_key_is_found() {
    let mut w = world();
    let m = w.visible("c", "mail.example");
    let (_, consent, _) = w.consent(&m);
    w.publish(vec![Entry::Consent(consent)]);
    assert!(matches!(findings(&w)[..], [Finding::Consent { .. }]));
}

/// The findings about a consent under a good mapping, with what was altered signed by its MSP all the same.
fn consent_findings(alter: impl FnOnce(&mut World, &mut Consent)) -> Vec<Finding> {
    let mut w = world();
    let m = w.visible("c", "wire.example");
    let (_, mut consent, _) = w.consent(&m);
    alter(&mut w, &mut consent);
    consent.sign(&w.origin, &secret("wire.example"));
    w.publish(vec![Entry::Consent(consent)]);
    findings(&w)
}

/// What a batch must judge again at its head, a monitor judges there as well.
#[test]
fn a_consent_holds_at_its_head_and_ends_with_a_month() {
    let is_found = |found: Vec<Finding>| matches!(found[..], [Finding::Consent { .. }]);
    assert_eq!(consent_findings(|_, _| {}), []);
    // It is over when its head is made, be it by a millisecond.
    let month = |w: &World| UnixMillis::new(w.now).month_after(1);
    assert!(is_found(consent_findings(|w, consent| {
        consent.expiry = month(w);
        w.now = consent.expiry.get() - 1000;
    })));
    assert_eq!(
        consent_findings(|w, consent| {
            consent.expiry = month(w);
            w.now = consent.expiry.get() - 1001;
        }),
        []
    );
    // Its key has retired, or is rotated in the same batch.
    assert!(is_found(consent_findings(|w, _| {
        w.add_key("wire.example", ProviderRole::MSP, "wire's next key");
        w.retire_key("wire.example", ProviderRole::MSP, "wire.example", "wire's next key");
    })));
    let mut w = world();
    let m = w.visible("c", "wire.example");
    let (_, consent, _) = w.consent(&m);
    let (role, by) = (ProviderRole::MSP, Some("wire.example"));
    let rotation = w.provider(ProviderAction::Rotate, "wire.example", role, "wire's next key", by);
    w.providers.apply(&rotation, &w.origin, UnixMillis::new(w.now + 1000)).unwrap();
    w.publish(vec![Entry::Provider(rotation), Entry::Consent(consent)]);
    assert!(is_found(findings(&w)));
    // A time of its own would link what one person's providers sign.
    for off in [1, 24 * 3_600_000] {
        assert!(is_found(consent_findings(|_, consent| consent.expiry = consent.expiry.plus_ms(off))), "{off}");
    }
}

/// A log's last words, by this key.
fn close(world: &World, by: &str, successor: &str) -> Entry {
    let successor_open = if successor.is_empty() { Hash::ZERO } else { Hash::sha256(&[b"the next open entry"]) };
    close_with(world, by, successor, successor_open)
}

fn close_with(world: &World, by: &str, successor: &str, successor_open: Hash) -> Entry {
    let mut close = Close {
        time: UnixMillis::new(world.now),
        successor: Opaque8::new(successor).unwrap(),
        successor_open,
        extensions: Extensions::NONE,
        sig: UNSIGNED,
    };
    close.sign(&world.origin, &secret(by));
    Entry::Close(close)
}

#[test]
fn a_log_is_closed_once_by_its_own_key_and_nothing_follows() {
    for (by, successor, good) in
        [("log", "", true), ("log", "next.example/log", true), ("log", "no origin", false), ("stranger", "", false)]
    {
        let mut w = world();
        let closing = close(&w, by, successor);
        w.publish(vec![closing]);
        let found = findings(&w);
        assert!(if good { found.is_empty() } else { matches!(found[..], [Finding::Succession { .. }]) }, "{found:?}");
    }
    let mut w = world();
    let twice = vec![close(&w, "log", ""), close(&w, "log", "next.example/log")];
    w.publish(twice);
    assert!(matches!(findings(&w)[..], [Finding::Succession { .. }]));
    // A head that comes after the one behind it, too.
    let mut w = world();
    let closing = close(&w, "log", "");
    w.publish(vec![closing]);
    w.publish(vec![]);
    assert!(findings(&w).iter().any(|f| matches!(f, Finding::AfterClose { .. })));
}

#[test]
fn a_close_names_another_log_and_its_open_entry_or_neither() {
    let (named, none) = (Hash::sha256(&[b"the next open entry"]), Hash::ZERO);
    for (successor, open, good) in [
        ("next.example/log", named, true),
        ("", none, true),
        ("next.example/log", none, false),
        ("", named, false),
        // It would go on from itself.
        ("dp.example/log", named, false),
    ] {
        let mut w = world();
        let closing = close_with(&w, "log", successor, open);
        w.publish(vec![closing]);
        let found = findings(&w);
        assert!(if good { found.is_empty() } else { matches!(found[..], [Finding::Succession { .. }]) }, "{found:?}");
    }
}

/// Entries that nobody can judge: of kind 2 with a key by algorithm 9, of kind 5 and too short, or of a kind that is skipped.
fn not_judged(kind: u8, count: u32) -> Vec<Vec<u8>> {
    let rest: &[u8] = if kind == 2 { &[&[0; 32][..], &[0, 9, 0, 1, 7]].concat() } else { &[] };
    (0..count).map(|n| [&[1, kind], &n.to_be_bytes()[..], rest].concat()).collect()
}

/// The rules of a batch that are broken where these entries come before a head as they are.
fn batch_of(entries: Vec<Vec<u8>>) -> Vec<&'static str> {
    let mut w = World::new();
    w.entries.extend(entries);
    w.publish(vec![]);
    let what = |f| if let Finding::Batch { what, .. } = f { Some(what) } else { None };
    findings(&w).into_iter().filter_map(what).collect()
}

#[test]
fn entries_that_cannot_be_judged_are_counted_and_ordered_like_all_others() {
    let (order, count) = ("entries are not in ascending order", "more than 2,048 entries since the last head");
    for kind in [2, 5, 200] {
        let made = |count| not_judged(kind, count);
        assert_eq!(batch_of(made(2048)), [""; 0]);
        assert_eq!(batch_of(made(2049)), [count]);
        assert_eq!(batch_of(made(3).into_iter().rev().collect()), [order]);
        assert_eq!(batch_of([made(1), made(1)].concat()), [order]);
        let reversed = made(2100).into_iter().rev().collect();
        assert_eq!(batch_of(reversed), [count, order]);
    }
    // One among those that are judged stands in its place.
    let mut w = world();
    let at = w.entries.len() - 1;
    w.entries.splice(at..at, not_judged(2, 1));
    assert!(matches!(findings(&w)[..], [Finding::Batch { what, .. }] if what == order));
    // An open entry in a wrong place is counted as well.
    let open = World::new().entries[0].clone();
    assert_eq!(batch_of([not_judged(2, 1), vec![open]].concat()), [order]);
}

#[test]
fn nothing_follows_a_close_also_what_cannot_be_judged() {
    for late in [not_judged(2, 1), not_judged(5, 1), not_judged(200, 1), vec![vec![2, 5, 0]]] {
        let mut w = world();
        let closing = close(&w, "log", "");
        w.publish(vec![closing]);
        let index = w.entries.len() as u64;
        w.entries.extend(late);
        let found = findings(&w);
        assert_eq!(found, [Finding::AfterClose { index }, Finding::NoHead { size: index + 1 }]);
    }
}

/// What this log goes on from, in the words of that log's key.
fn carry(world: &World, from: &str, by: &str) -> Entry {
    let mut carry = Carry {
        origin: (&Origin::new(from).unwrap()).into(),
        size: 5,
        root: Hash::ZERO,
        open: Hash::ZERO,
        close: Hash::ZERO,
        log_key: key_of("the log before"),
        extensions: Extensions::NONE,
        sig: UNSIGNED,
    };
    carry.sign(&world.origin, &secret(by));
    Entry::Carry(carry)
}

#[test]
fn a_log_says_once_and_before_its_first_change_what_it_carries_on() {
    for (from, by, good) in [
        ("old.example/log", "the log before", true),
        ("old.example/log", "log", false),
        ("dp.example/log", "the log before", false),
    ] {
        let mut w = World::new();
        let carried = carry(&w, from, by);
        w.publish(vec![carried]);
        let found = findings(&w);
        assert!(if good { found.is_empty() } else { matches!(found[..], [Finding::Succession { .. }]) }, "{found:?}");
    }
    // Not twice, and not where something was logged already.
    let mut w = World::new();
    for from in ["old.example/log", "older.example/log"] {
        let carried = carry(&w, from, "the log before");
        w.publish(vec![carried]);
    }
    assert!(matches!(findings(&w)[..], [Finding::Succession { .. }]));
    let mut w = world();
    let late = carry(&w, "old.example/log", "the log before");
    w.publish(vec![late]);
    assert!(matches!(findings(&w)[..], [Finding::Succession { .. }]));
}

#[test]
fn a_carry_comes_in_a_batch_before_that_of_the_first_change() {
    for (apart, good) in [(true, true), (false, false)] {
        let mut w = World::new();
        let mut batch = vec![carry(&w, "old.example/log", "the log before")];
        if apart {
            w.publish(std::mem::take(&mut batch));
        }
        let a = w.visible("a", "wire.example");
        w.issue(&["a"], &[a]);
        // Behind the changes, in ascending order, as the bytes have it.
        let head = w.entries.len() - 1;
        w.entries.splice(head..head, batch.iter().map(Entry::encode));
        let found = findings(&w);
        assert!(if good { found.is_empty() } else { matches!(found[..], [Finding::Succession { .. }]) }, "{found:?}");
    }
}

/// Logs of today are not convicted for what tomorrow's programs add where there is room for it, and for nothing else.
#[test]
fn what_later_versions_add_in_its_place_is_hashed_ordered_and_skipped() {
    let extensions = || Extensions::new(vec![Extension { kind: 77, value: Opaque16::new(b"new").unwrap() }]).unwrap();
    let mut w = world();
    let skipped = [128, 255].map(|kind| Entry::Skipped(Skipped::new(kind, b"whatever".to_vec()).unwrap()));
    w.publish(skipped.to_vec());
    w.head.extensions = extensions();
    *w.entries.last_mut().unwrap() = Entry::Head(w.head.clone()).encode();
    assert_eq!(findings(&w), []);
    // Ordered like any other.
    let head = w.entries.len() - 1;
    w.entries.swap(head - 1, head - 2);
    assert!(matches!(findings(&w)[..], [Finding::Batch { .. }]));
    for bytes in [vec![1, 0], vec![1, 9, 1], vec![1, 127], vec![2, 5, 0], vec![2, 128], vec![0, 200]] {
        let mut w = world();
        w.entries.push(bytes.clone());
        w.publish(vec![]);
        let (_, step) = replay(&w);
        assert!(matches!(step.findings[..], [Finding::Undecodable { .. }]), "{bytes:?}: {:?}", step.findings);
        assert_eq!(step.not_supported, []);
    }
}

#[test]
fn a_monitor_tells_who_added_keys_in_whose_name() {
    let mut world = World::new();
    world.add_key("chat.example", ProviderRole::CSIP, "chat's numbers");
    let waits = world.provider(ProviderAction::Rotate, "chat.example", ProviderRole::MSP, "somebody", None);
    world.log_provider(waits);
    let due = world.head.time.plus_ms(UNSIGNED_WAIT_MS);
    world.retire_key("chat.example", ProviderRole::MSP, "somebody", "chat.example");
    let step = replay(&world).1;
    assert_eq!((step.findings, step.not_supported), (vec![], vec![]));
    let told = step.providers.iter().filter(|p| p.domain == domain("chat.example"));
    let told: Vec<_> = told.map(|p| (p.role, p.action, p.key.clone(), p.due)).collect();
    let (add, rotate, retire) = (ProviderAction::Add, ProviderAction::Rotate, ProviderAction::Retire);
    let (msp, csip, now) = (ProviderRole::MSP, ProviderRole::CSIP, UnixMillis::new(0));
    let key = |name| AnyKey::from(key_of(name));
    let expected = [
        (msp, add, key("chat.example"), now),
        (csip, add, key("chat's numbers"), now),
        (msp, rotate, key("somebody"), due),
        (msp, retire, key("somebody"), now),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_provider_entry_that_cannot_be_judged_is_named_and_applied() {
    let mut world = World::new();
    let mut entry = world.provider(ProviderAction::Add, "new.example", ProviderRole::MSP, "unused", None);
    // Keys and signatures of the sizes that ML-DSA-44 has.
    entry.key = AnyKey::new(algorithm::ML_DSA_44, &[1; 1312]).unwrap();
    entry.by_key = Optional24(AnySignature::new(algorithm::ML_DSA_44, &[2; 2420]));
    world.providers.follow(&entry, &world.origin, UnixMillis::new(world.now + 1000)).unwrap();
    world.publish(vec![Entry::Provider(entry.clone())]);
    let index = world.entries.len() as u64 - 2;
    let (replay, step) = replay(&world);
    // The provider root of the head is that of the replay, and the monitor says which entry it has not judged.
    assert_eq!((step.findings, step.not_supported), (vec![], vec![index]));
    assert_eq!(step.providers.last().map(|p| &p.key), Some(&entry.key));
    assert_eq!(replay.providers().tree().root(), world.head.provider_root);
}

/// A config entry that promises this interval, logged with a head of its own.
fn promise(world: &mut World, interval_ms: u32) {
    let previous = Hash::sha256(&[&world.entries[0]]);
    let log_key = secret("log").public();
    let policy = Hash::sha256(&[b"policy"]);
    let extensions = Extensions::NONE;
    let mut config = Config { interval_ms, policy, log_key, previous, extensions, sig: UNSIGNED };
    config.sign(&world.origin, &secret("log"));
    let entry = Entry::Config(config);
    world.publish(vec![entry.clone()]);
    name_config(world, &entry);
}

/// Has the last head name this config entry.
fn name_config(world: &mut World, config: &Entry) {
    world.head.config = Hash::sha256(&[&config.encode()]);
    *world.entries.last_mut().unwrap() = Entry::Head(world.head.clone()).encode();
}

/// A head that comes so many milliseconds after the last one: what a monitor notices.
fn notices_after(world: &mut World, ms: u64) -> usize {
    let config = world.entries.iter().rev().find_map(|e| match Entry::decode(e) {
        Ok(config @ Entry::Config(_)) => Some(config),
        _ => None,
    });
    let before = replay(world).1.notices.len();
    world.now += ms - 1000;
    world.publish(vec![]);
    if let Some(config) = config {
        name_config(world, &config);
    }
    let (_, step) = replay(world);
    assert_eq!(step.findings, []);
    step.notices.len() - before
}

#[test]
fn the_interval_that_is_in_effect_says_when_a_head_is_late() {
    let mut w = World::new();
    // One second is promised, and a minute is allowed on top of the minute after which a quiet log has a head.
    assert_eq!((notices_after(&mut w, 121_000), notices_after(&mut w, 121_001)), (0, 1));
    promise(&mut w, 30_000);
    assert_eq!((notices_after(&mut w, 150_000), notices_after(&mut w, 150_001)), (0, 1));
    // A head that is late by the promise so far is not excused by the one that comes with it.
    let mut w = World::new();
    w.now += 130_000;
    promise(&mut w, 30_000);
    assert_eq!(replay(&w).1.notices.len(), 1);
}

#[test]
fn no_log_may_promise_an_interval_of_more_than_30_s() {
    let mut w = World::new();
    promise(&mut w, 30_000);
    assert_eq!(findings(&w), []);
    let mut w = World::new();
    promise(&mut w, 30_001);
    let found = findings(&w);
    assert!(matches!(found[..], [Finding::Interval { .. }]), "{found:?}");
    assert!(found[0].rewrites_nothing() && found[0].index() == Some(w.entries.len() as u64 - 2));
}

#[test]
fn a_state_that_was_judged_goes_on_from_where_it_is() {
    let world = world();
    let leaves = world.leaves();
    let last = world.entries.len() as u64;
    let heads = world.entries.iter().enumerate().filter(|(_, e)| matches!(Entry::decode(e), Ok(Entry::Head(_))));
    let mut audited = Audited::new(world.origin.clone(), world.log.key());
    for (index, _) in heads {
        let (from, size) = (audited.size() as usize, index + 1);
        let before = audited.clone();
        let root = naive_root(&leaves[..size]);
        assert_eq!(audited.extend(&world.entries[from..size], size as u64, &root).findings, []);
        // A clone is another log: what one takes changes nothing of the other, and the same entries are judged the same.
        let mut again = before.clone();
        assert_eq!(before.size(), from as u64);
        assert_eq!(again.extend(&world.entries[from..size], size as u64, &root).findings, []);
        assert_eq!((again.root(), again.map().root()), (audited.root(), audited.map().root()));
    }
    assert_eq!((audited.size(), audited.map().root()), (last, world.head.map_root));
}
