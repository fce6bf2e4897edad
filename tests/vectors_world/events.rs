//! Events: each kind once, encoded and signed, over a record that it changes; put together by hand from its fields.

use serde_json::{Value, json};
use waymark_log::{key::Signature, time::UnixMillis};
use waymark_mapping::{
    event::{Authority, AuthorityRole, Cause, Event, EventKind},
    mapping::{Attestation, Mapping},
    rules::{self, Known, Proposal},
    signed::message,
    wire::{decode, encode},
};

use crate::{
    files::{array, bytes, hash, hex, key, list, number, settle, short, text},
    hand, records,
    vectors_world::{
        domain,
        life::{Life, Version},
        origin,
    },
};

const fn context(role: AuthorityRole) -> &'static str {
    match role {
        AuthorityRole::Recipient => "waymark/1 event recipient",
        AuthorityRole::Csip => "waymark/1 event csip",
        AuthorityRole::Msp => "waymark/1 event msp",
        AuthorityRole::Dp => "waymark/1 event dp",
    }
}

fn authority(of: &Authority, event: &Event) -> Value {
    // The event, and the fields of the authority before its signature.
    let fields = [encode(&event.tbs), encode(&of.role), encode(&of.key), encode(&of.possession)].concat();
    let signed = message(context(of.role), &origin(), &fields);
    json!({
        "role": of.role as u8, "key": of.key.to_hex(), "context": context(of.role), "message": hex(signed),
        "possession": of.possession.0.as_ref().map(|p| hex(encode(p))), "signature": hex(of.sig.as_bytes()),
    })
}

/// The event that made a version, and the record that it makes.
fn case(life: &Life) -> Value {
    let of = life.last();
    let (event, tbs) = (&of.cause.event, &of.cause.event.tbs);
    let digests = |list: &[waymark_log::hash::Hash]| list.iter().map(|d| d.to_hex()).collect::<Vec<_>>();
    json!({
        "kind": tbs.kind as u8, "name": format!("{:?}", tbs.kind), "event": hex(encode(event)),
        "tbs": {
            "csi": tbs.csi.expose(), "tenure": tbs.tenure, "version": tbs.version, "previous": tbs.previous.to_hex(),
            "added": digests(&tbs.added), "removed": digests(&tbs.removed), "reason": tbs.reason,
            "time_ms": tbs.time.get(), "nonce": hex(tbs.nonce),
        },
        "authorities": event.authorities.iter().map(|a| authority(a, event)).collect::<Vec<_>>(),
        "mappings": of.added.iter().map(|m| hex(encode(m))).collect::<Vec<_>>(),
        "before": life.versions.iter().rev().nth(1).map(|before| records::version("before", before)),
        "after": records::version("after", of),
    })
}

/// A story that ends with each kind.
fn lives() -> [Life; 13] {
    [
        Life::first(),
        Life::replaced(),
        Life::withdrawn(),
        Life::opted_out(),
        Life::rotated(),
        Life::compromised(),
        Life::released(),
        Life::claimed("dp.example"),
        Life::objected(),
        Life::taken_up(),
        Life::detached(),
        Life::withheld("ann phone"),
        Life::erased(),
    ]
}

#[test]
fn events() {
    let cases = lives().map(|life| case(&life));
    let file = settle(
        "events",
        "An event of each kind, with what is signed, the mappings that it adds, and the records before and after.",
        &json!({ "origin": origin().as_str(), "any_version": u32::MAX, "events": cases }),
    );
    let kinds: Vec<u64> = list(&file["events"]).iter().map(|case| number(&case["kind"])).collect();
    assert_eq!(kinds, (1..=13).collect::<Vec<_>>());
    for case in list(&file["events"]) {
        event_by_hand(case, text(&file["origin"]));
        check_rules(case);
    }
}

fn event_by_hand(case: &Value, origin_text: &str) {
    let (tbs, name) = (&case["tbs"], text(&case["name"]));
    let digests = |list: &Value| list.as_array().unwrap().iter().flat_map(bytes).collect::<Vec<u8>>();
    let signed = [
        &[hand::FORMAT, number(&case["kind"]) as u8][..],
        &hand::opaque8(text(&tbs["csi"]).as_bytes()),
        &hand::uint32(short(&tbs["tenure"])),
        &hand::uint32(short(&tbs["version"])),
        &bytes(&tbs["previous"]),
        &hand::list24(&digests(&tbs["added"])),
        &hand::list24(&digests(&tbs["removed"])),
        &[number(&tbs["reason"]) as u8],
        &hand::uint64(number(&tbs["time_ms"])),
        &bytes(&tbs["nonce"]),
    ]
    .concat();
    let mut authorities = vec![];
    for authority in list(&case["authorities"]) {
        let possession = authority["possession"].as_str().map_or(vec![], |_| bytes(&authority["possession"]));
        let fields = [
            vec![number(&authority["role"]) as u8],
            hand::ed25519(&bytes(&authority["key"])),
            hand::opaque24(&possession),
        ]
        .concat();
        let message = hand::signed(text(&authority["context"]), origin_text, &[&signed[..], &fields].concat());
        assert_eq!(message, bytes(&authority["message"]), "{name}");
        key(&authority["key"]).verify(&message, &Signature::new(array(&authority["signature"]))).unwrap();
        authorities.extend(fields);
        authorities.extend(hand::ed25519(&bytes(&authority["signature"])));
        if !possession.is_empty() {
            decode::<Attestation>("attestation", &possession).unwrap().verify(&origin()).unwrap();
        }
    }
    assert_eq!([signed, hand::list24(&authorities)].concat(), bytes(&case["event"]), "{name}");
    // The record after names the event, and the commitment of the record before.
    let previous = if case["before"].is_null() { vec![0; 32] } else { bytes(&case["before"]["commitment"]) };
    assert_eq!([previous, bytes(&case["event"])].concat(), bytes(&case["after"]["cause"]), "{name}");
}

/// The rules let the event lead from the record before to the one after, and over no other record.
fn check_rules(case: &Value) {
    let cause: Cause = decode("cause", &bytes(&case["after"]["cause"])).unwrap();
    let added: Vec<Mapping> =
        case["mappings"].as_array().unwrap().iter().map(|m| decode("mapping", &bytes(m)).unwrap()).collect();
    let life = lives().into_iter().nth(number(&case["kind"]) as usize - 1).unwrap();
    let before = life.versions.iter().rev().nth(1).map(|before| (&before.state, before.commitment));
    assert_eq!(
        before.map(|(_, c)| c),
        case["before"]["commitment"].as_str().map(|_| hash(&case["before"]["commitment"]))
    );
    let (csip, origin) = (domain("numbers.example"), origin());
    let known = Known { csip: Some(&csip), ..Known::default() };
    let now = UnixMillis::new(number(&case["after"]["time_ms"]));
    let proposal = Proposal { event: &cause.event, added: &added, origin: &origin, now, known };
    let Version { state, .. } = life.last();
    assert_eq!(rules::apply(before, proposal).as_ref(), Ok(state), "{}", case["name"]);
    let stale = before.map(|(state, _)| (state, waymark_log::hash::Hash::ZERO));
    let in_advance = cause.event.tbs.kind == EventKind::KeyCompromise;
    assert_eq!(stale.is_some_and(|b| rules::apply(Some(b), proposal).is_err()), before.is_some() && !in_advance);
}
