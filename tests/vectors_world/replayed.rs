//! Whole logs as a monitor judges them: with an entry that breaks one rule, next to a log in which the rule is kept.

use serde_json::{Value, json};
use waymark_log::{hash::Hash, key::Key, proof::naive_root, time::UnixMillis};
use waymark_mapping::{
    audit::{Finding, Replay},
    entry::{Carry, Close, Entry, Provider, ProviderAction, ProviderRole},
    mapping::Consent,
    signed::{AnyKey, AnySignature, SignedStruct, UNSIGNED},
    wire::{Extensions, Opaque8, Optional24},
};

use crate::files::{bytes, hash, hex, key, list, number, settle, text};
use crate::hand;
use crate::refused::{kebab, rule};
use crate::vectors_world::{NOBODY, START_MS, World, csi, origin, salt, secret, signed, trust_text};

/// What a monitor says of a log: findings, in order, and the entries that it cannot judge.
fn replayed(entries: &[Vec<u8>], root: &Hash, log_key: Key) -> (Vec<Finding>, Vec<u64>) {
    let step = Replay::new(origin(), log_key).extend(entries, entries.len() as u64, root);
    (step.findings, step.not_supported)
}

/// A finding: the rule that is broken, the entry that shows it, and of a provider entry why.
fn finding(of: &Finding) -> Value {
    let why = match of {
        Finding::Provider { why, .. } => json!(kebab(&format!("{why:?}"))),
        _ => Value::Null,
    };
    json!({ "rule": of.rule(), "entry": of.index(), "why": why })
}

fn case(name: (&str, &str), world: &World) -> Value {
    let root = naive_root(&world.leaves());
    let (findings, not_supported) = replayed(&world.entries, &root, secret("log").public());
    json!({
        name.0: name.1, "entries": world.entries.iter().map(hex).collect::<Vec<_>>(), "root": root.to_hex(),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(), "not_supported": not_supported,
    })
}

fn good(name: &str, world: &World) -> Value {
    let case = case(("name", name), world);
    assert_eq!(case["findings"], json!([]), "{name}");
    case
}

/// A log with these findings, by their rules.
fn bad(why: &str, world: &World, rules: &[&str]) -> Value {
    let case = case(("why", why), world);
    let found: Vec<&str> = case["findings"].as_array().unwrap().iter().map(|f| text(&f["rule"])).collect();
    assert_eq!(found, rules, "{why}");
    case
}

/// A log that goes on with these batches.
fn with(batches: Vec<Vec<Entry>>) -> World {
    let mut world = World::new();
    for batch in batches {
        world.publish(batch);
    }
    world
}

// The end of a log.

fn close(successor: &str) -> Close {
    let successor_open = if successor.is_empty() { Hash::ZERO } else { Hash::sha256(&[b"the next open entry"]) };
    Close {
        time: UnixMillis::new(START_MS + 2500),
        successor: Opaque8::new(successor.as_bytes()).unwrap(),
        successor_open,
        extensions: Extensions::NONE,
        sig: UNSIGNED,
    }
}

fn closed(by: &str, successor: &str) -> Entry {
    Entry::Close(signed(close(successor), by))
}

fn closes() -> Value {
    let next = "next.example/log";
    let one = |entry| with(vec![vec![entry]]);
    let mut elsewhere = close(next);
    elsewhere.sign(&waymark_log::checkpoint::Origin::new(next).unwrap(), &secret("log"));
    rule(
        "A close entry is by the log's key for this log; its successor is an origin or empty; nothing follows its head.",
        vec![good("with a successor", &one(closed("log", next))), good("without one", &one(closed("log", "")))],
        vec![
            bad("by another key", &one(closed("dp.example", next)), &["succession"]),
            bad("signed for the successor's origin", &one(Entry::Close(elsewhere)), &["succession"]),
            bad("its successor is not an origin", &one(closed("log", "next\nexample")), &["succession"]),
            bad("two of them", &with(vec![vec![closed("log", next), closed("log", "")]]), &["succession"]),
            bad("a head follows", &with(vec![vec![closed("log", next)], vec![]]), &["after-close", "no-head"]),
            bad(
                "an entry and a head follow",
                &with(vec![vec![closed("log", next)], vec![consent_of("wire.example", 0)]]),
                &["after-close", "after-close", "no-head"],
            ),
        ],
    )
}

// What a log goes on from.

fn carry(from: &str) -> Carry {
    Carry {
        origin: (&waymark_log::checkpoint::Origin::new(from).unwrap()).into(),
        size: 4711,
        root: Hash::sha256(&[b"the last root"]),
        open: Hash::sha256(&[b"the open entry before"]),
        close: Hash::sha256(&[b"the close entry before"]),
        log_key: secret("log before").public(),
        extensions: Extensions::NONE,
        sig: UNSIGNED,
    }
}

fn carried(from: &str, by: &str) -> Entry {
    Entry::Carry(signed(carry(from), by))
}

fn carries() -> Value {
    let (before, key) = ("before.example/log", "log before");
    let one = |entry| with(vec![vec![entry]]);
    let mut elsewhere = carry(before);
    elsewhere.sign(&waymark_log::checkpoint::Origin::new("third.example/log").unwrap(), &secret(key));
    let mut other_tree = signed(carry(before), key);
    other_tree.size += 1;
    let mut late = World::new();
    let change = late.opaque_change(crate::vectors_world::ANN, 0);
    late.publish(vec![change]);
    late.publish(vec![carried(before, key)]);
    rule(
        "A carry entry is by the key that it names for this log; there is one, before any change, of another log.",
        vec![good("by the key of the log before", &one(carried(before, key)))],
        vec![
            bad("by the key of this log", &one(carried(before, "log")), &["succession"]),
            bad("signed for another log that would go on", &one(Entry::Carry(elsewhere)), &["succession"]),
            bad("of another tree than was signed", &one(Entry::Carry(other_tree)), &["succession"]),
            bad("of this very log", &one(carried("dp.example/log", key)), &["succession"]),
            bad(
                "two of them",
                &with(vec![vec![carried(before, key), carried("third.example/log", key)]]),
                &["succession"],
            ),
            bad("after the first change", &late, &["succession"]),
        ],
    )
}

// Consents in the log.

fn unsigned_consent(msp: &str) -> Consent {
    World::new().consent(msp, &salt("logged consent"), b"a mapping")
}

fn consent_of(msp: &str, later_ms: u64) -> Entry {
    let consent = unsigned_consent(msp);
    Entry::Consent(signed(Consent { expiry: consent.expiry.plus_ms(later_ms), ..consent }, msp))
}

fn consents() -> Value {
    let one = |entry| with(vec![vec![entry]]);
    let dated = |expiry: UnixMillis| {
        one(Entry::Consent(signed(Consent { expiry, ..unsigned_consent("wire.example") }, "wire.example")))
    };
    let expiry = unsigned_consent("wire.example").expiry;
    let mut by_another = unsigned_consent("wire.example");
    by_another.msp_key = secret("chat.example").public();
    let over = UnixMillis::new(START_MS).month_after(0);
    rule(
        "A consent ends with a UTC month, is not over, and is by a key that is valid for its MSP.",
        vec![good("it ends with a month", &dated(expiry))],
        vec![
            bad("a millisecond later", &dated(expiry.plus_ms(1)), &["consent"]),
            bad("a millisecond earlier", &dated(UnixMillis::new(expiry.get() - 1)), &["consent"]),
            bad("a day later", &dated(expiry.plus_ms(24 * 3600 * 1000)), &["consent"]),
            bad("it is over", &dated(over), &["consent"]),
            bad("by the key of another MSP", &one(Entry::Consent(signed(by_another, "chat.example"))), &["consent"]),
            bad("by the key of a CSIP", &one(consent_of("numbers.example", 0)), &["consent"]),
        ],
    )
}

// Provider entries.

/// wire.example, an MSP, with a key of its own as a prover.
fn two_roles() -> World {
    let mut world = World::new();
    let entry = added(&world, "wire.example", ProviderRole::PROVER, "wire prover", Some("wire.example"));
    world.publish(vec![Entry::Provider(entry)]);
    world
}

fn added(world: &World, of: &str, role: ProviderRole, key: &str, by: Option<&str>) -> Provider {
    world.provider(of, role, ProviderAction::Add, 1, false, key, by)
}

fn rotated(by: Option<&str>) -> World {
    let mut world = two_roles();
    let entry =
        world.provider("wire.example", ProviderRole::PROVER, ProviderAction::Rotate, 1, false, "wire prover 2", by);
    world.publish_unjudged(entry);
    world
}

fn rotation() -> Value {
    rule(
        "A provider's key is rotated by a valid key of its own role.",
        vec![
            good("by the prover's key", &rotated(Some("wire prover"))),
            good("by nobody: due after seven days", &rotated(None)),
        ],
        vec![
            bad("by the key of the same domain as an MSP", &rotated(Some("wire.example")), &["provider"]),
            bad("by the key of another domain", &rotated(Some("dp.example")), &["provider"]),
            bad("by the new key itself", &rotated(Some("wire prover 2")), &["provider"]),
        ],
    )
}

/// numbers.example, a CSIP, becomes an MSP too, and its new key signs a consent in the next batch, or so much later.
fn new_role(by: Option<&str>, wait_ms: u64) -> World {
    let mut world = World::new();
    let entry = added(&world, "numbers.example", ProviderRole::MSP, "numbers msp", by);
    world.publish(vec![Entry::Provider(entry)]);
    world.now_ms += wait_ms;
    let consent = Consent { msp_key: secret("numbers msp").public(), ..unsigned_consent("numbers.example") };
    world.publish(vec![Entry::Consent(signed(consent, "numbers msp"))]);
    world
}

/// The same without the consent; the head says that the key is valid at once.
fn said_to_be_due(by: Option<&str>) -> World {
    let mut honest = World::new();
    let entry = added(&honest, "numbers.example", ProviderRole::MSP, "numbers msp", Some("numbers.example"));
    let mut said = entry.clone();
    if by.is_none() {
        said.by_valid = Optional24(None);
    }
    honest.publish(vec![Entry::Provider(entry)]);
    let at = honest.entries.len() - 2;
    honest.entries[at] = Entry::Provider(said).encode();
    honest
}

fn first_key_of_a_role() -> Value {
    let (week_ms, by) = (7 * 24 * 3600 * 1000, Some("numbers.example"));
    rule(
        "The first key of a new role of a known domain, without a signature by a valid key, is due after seven days.",
        vec![
            good("with a signature: it signs a consent at once", &new_role(by, 0)),
            good("without one: it signs a consent a week later", &new_role(None, week_ms - 1000)),
            good("with a signature: the head says that it is valid at once", &said_to_be_due(by)),
        ],
        vec![
            bad("without a signature it signs a consent at once", &new_role(None, 0), &["consent"]),
            bad("a millisecond before the week is over", &new_role(None, week_ms - 1001), &["consent"]),
            bad("without a signature the head says that it is valid at once", &said_to_be_due(None), &["head"]),
            bad("with a signature by a key of another domain", &signed_by_another_domain(), &["provider"]),
        ],
    )
}

fn signed_by_another_domain() -> World {
    let mut world = World::new();
    let entry = added(&world, "numbers.example", ProviderRole::MSP, "numbers msp", Some("wire.example"));
    world.publish_unjudged(entry);
    world
}

/// A key of an algorithm, with a signature of its size that nobody here can check.
fn of_algorithm(key: u16, signature: u16) -> World {
    let mut world = World::new();
    let mut entry = added(&world, "quantum.example", ProviderRole::MSP, "quantum", None);
    entry.key = AnyKey::new(key, &[7; 1312]).unwrap();
    entry.by_key = Optional24(AnySignature::new(signature, &[7; 2420]));
    world.publish_unjudged(entry);
    world
}

fn algorithms() -> Value {
    rule(
        "A provider entry by an unknown algorithm is applied and not judged; by another one than its key's it is refused.",
        vec![good("key and signature by algorithm 2", &of_algorithm(2, 2))],
        vec![bad("a key of algorithm 2, a signature of algorithm 3", &of_algorithm(2, 3), &["provider"])],
    )
}

#[test]
fn logs_with_findings() {
    let file = settle(
        "log-findings",
        "Whole logs, as a monitor judges them: each rule kept and broken. What is found, by rule and entry.",
        &json!({
            "origin": origin().as_str(), "log_key": secret("log").public().to_hex(),
            "rules": [closes(), carries(), consents(), rotation(), first_key_of_a_role(), algorithms()],
        }),
    );
    for rule in list(&file["rules"]) {
        for case in list(&rule["accepted"]).iter().chain(list(&rule["refused"])) {
            let entries: Vec<Vec<u8>> = list(&case["entries"]).iter().map(bytes).collect();
            let (findings, not_supported) = replayed(&entries, &hash(&case["root"]), key(&file["log_key"]));
            assert_eq!(json!(findings.iter().map(finding).collect::<Vec<_>>()), case["findings"], "{case}");
            assert_eq!(json!(not_supported), case["not_supported"]);
            entries.iter().filter(|e| matches!(e[1], 7 | 8)).for_each(|e| succession_by_hand(e));
            let index = |f: &Value| f["entry"].is_null() || number(&f["entry"]) < entries.len() as u64;
            assert!(case["findings"].as_array().unwrap().iter().all(index));
        }
    }
}

/// Close and carry entries from their fields, as FORMATS.md draws them, and what is signed of them.
fn succession_by_hand(entry: &[u8]) {
    let (fields, signature) = match Entry::decode(entry).unwrap() {
        Entry::Close(e) => {
            let successor = hand::opaque8(e.successor.as_slice());
            let fields = [hand::uint64(e.time.get()).to_vec(), successor, e.successor_open.as_bytes().to_vec()];
            assert_eq!(e.fields(), [&fields.concat()[..], &hand::NO_EXTENSIONS].concat());
            ([vec![1, 7], fields.concat()], e.sig)
        }
        Entry::Carry(e) => {
            let digests = [e.root, e.open, e.close].map(|digest| digest.as_bytes().to_vec());
            let name = hand::opaque8(e.origin.get().as_str().as_bytes());
            let key = hand::ed25519(e.log_key.as_bytes());
            let fields = [name, hand::uint64(e.size).to_vec(), digests.concat(), key];
            assert_eq!(e.fields(), [&fields.concat()[..], &hand::NO_EXTENSIONS].concat());
            ([vec![1, 8], fields.concat()], e.sig)
        }
        _ => panic!("neither ends a log nor begins one"),
    };
    let whole = [&fields.concat()[..], &hand::NO_EXTENSIONS, &hand::ed25519(signature.as_bytes())].concat();
    assert_eq!(whole, entry);
    // Who signs it is what the cases are about; what is signed is this.
    let (context, by) =
        if entry[1] == 7 { ("waymark/1 close log", "log") } else { ("waymark/1 carry log", "log before") };
    let unsigned = &whole[2..whole.len() - 68];
    let message = hand::signed(context, origin().as_str(), unsigned);
    let code = match Entry::decode(entry).unwrap() {
        Entry::Close(e) => e.verify_by(&origin(), &secret(by).public()),
        Entry::Carry(e) => e.verify_by(&origin(), &secret(by).public()),
        _ => return,
    };
    assert_eq!(code.is_ok(), secret(by).public().verify(&message, &signature).is_ok());
}

/// A log of a later format is not supported, which is no attack.
#[test]
fn an_open_entry_of_another_format_is_not_supported() {
    use waymark_mapping::{
        answer::Answer,
        trust::Trust,
        verify::{Asked, Rejected, Trail, verify},
        wire::Opaque16,
    };
    let mut world = World::new();
    let open = [&[2], &world.entries[0][1..]].concat();
    let (_, head) = world.heads.last_mut().unwrap();
    head.open = Hash::sha256(&[&open]);
    *world.entries.last_mut().unwrap() = Entry::Head(head.clone()).encode();
    let answer = Answer { open: Opaque16::new(open).unwrap(), ..world.absent(NOBODY) };
    let trust = Trust::parse(&trust_text()).unwrap();
    let asked = Asked { origin: origin(), csi: csi(NOBODY), tag: None };
    let judged = verify(&answer.to_padded(0).unwrap(), &asked, &trust, None, world.clock(), &mut Trail::default());
    assert!(matches!(judged, Err(Rejected::NotSupported(_))), "{:?}", judged.map(drop));
}
