//! The vectors of what may still change: typed identifiers, records, answers with bodies, receipts, watch-lists, requests.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use waymark::{
    api::{CHANGE_MEDIA_TYPE, ChangeRequest, HISTORY_MEDIA_TYPE, HistoryRequest, OfferedConsent, RequestSignature},
    msp::{CONSENT_MEDIA_TYPE, ConsentRequest},
};
use waymark_log::{
    hash::leaf_hash,
    key::{Key, Signature},
    proof::naive_root,
    time::UnixMillis,
};
use waymark_mapping::{
    answer::Receipt,
    commitment::{Opening, Salt, commit},
    entry::{Change, Entry},
    event::{Authority, Event},
    label::{prove_label, verify_handle},
    ladder,
    mapping::{Attestation, Consent, Mapping},
    names::Tag,
    receipt::{ReceiptRefused, accept},
    record::{HiddenValue, Record},
    signed::{SignedStruct, UNSIGNED, message},
    trust::Trust,
    typed::parse_typed,
    verify::Trail,
    vrf::VrfProof,
    watch::{Alert, Place, WatchBook, WatchId, WatchList},
    wire::{List16, Optional16, decode, encode},
};

use crate::{
    answers::{answer_case, check_answer, judge_answer},
    files::{array, bytes, hash, hex, key, list, millis, number, settle, short, text},
    hand,
    vectors_world::{
        ANN, HIDDEN_AT, Held, Records, START_MS, Shows, TAG, Version, World, csi, event_salt, handle, hidden_salt,
        hidden_value, origin, record_opening, salt, secret, seed, signed, trust_text, visible_salt, vrf,
    },
};

#[test]
fn typed() {
    // Only what needs no table of numbering plans: tables change, and a vector must not.
    let typed = [
        "+49 151 123 456 42",
        "+39 06 1234 5678",
        "+54 9 11 2345-6789",
        "+54 11 2345-6789",
        " tel:+4915112345642 ",
        "Ann+X@B\u{dc}CHER.Example",
        "mailto:Ann@Post.Example",
    ];
    let cases = typed.map(|t| json!({ "typed": t, "canonical": parse_typed(t, None).unwrap().expose() }));
    let none = ["", "0151 12345642", "hello", "+49 151 1234x", "ann@", "@post.example"];
    let file = settle(
        "experimental-typed",
        "What a person may type and the canonical CSI that it becomes: an aid for input, never a judge.",
        &json!({ "cases": cases, "refused": none }),
    );
    for case in list(&file["cases"]) {
        let canonical = csi(text(&case["canonical"]));
        assert_eq!(parse_typed(text(&case["typed"]), None), Ok(canonical.clone()));
        assert_eq!(parse_typed(canonical.expose(), None), Ok(canonical), "the canonical form is typed as itself");
    }
    for typed in list(&file["refused"]) {
        assert!(parse_typed(text(typed), None).is_err(), "{typed}");
    }
}

#[test]
fn answers() {
    let records = Records::new();
    let case = |name, version: usize, shows, tag: Option<&str>| {
        answer_case(name, &records.answer(version, shows), ANN, tag, records.logs[version].clock())
    };
    let answers = [
        case("version 0, no tag presented", 0, Shows::Visible, None),
        case("version 0, the tag presented", 0, Shows::Tag, Some(TAG)),
        case("version 1, no tag presented", 1, Shows::Visible, None),
    ];
    let file = settle(
        "experimental-answers",
        "Answers that open a record, with the trust file and what each shows.",
        &json!({ "trust": trust_text(), "answers": answers }),
    );
    for case in list(&file["answers"]) {
        check_answer(case, &file["trust"]);
        // What was opened to one question is refused as the answer to the other.
        let other = if case["tag"].is_null() { Some(TAG) } else { None };
        let verdict = judge_answer(&bytes(&case["answer"]), ANN, other, text(&file["trust"]), millis(&case["now_ms"]));
        assert_eq!(verdict, Err("not-proven"), "{}", case["name"]);
    }
}

// What a record is made of.

fn statement<T: SignedStruct>(name: &str, of: &T, by: &Key, context: &str) -> Value {
    let fields = of.fields();
    json!({
        "name": name, "bytes": hex(encode(of)), "by": by.to_hex(), "context": context,
        "message": hex(message(context, &origin(), &fields)),
    })
}

#[test]
fn records() {
    let records = Records::new();
    let names = ["ann phone", "ann laptop", "dp.example", "chat.example", "wire.example"];
    let mut statements = vec![];
    let last = records.versions.last().unwrap();
    for held in &last.held {
        let (m, name) = (&held.mapping, held.name);
        let (recipient, prover, msp) = (&m.recipient, &m.attestation.prover_key, &held.consent.msp_key);
        statements.push(statement(
            &format!("attestation, {name}"),
            &m.attestation,
            prover,
            "waymark/1 attestation prover",
        ));
        statements.push(statement(&format!("mapping, {name}"), m, recipient, "waymark/1 mapping recipient"));
        let mut consent = statement(&format!("consent, {name}"), &held.consent, msp, "waymark/1 consent msp");
        consent["salt"] = json!(hex(salt(&format!("consent {name}")).0));
        consent["mapping"] = json!(hex(encode(m)));
        statements.push(consent);
    }
    let version = |v: &Version| {
        let number = v.record.version;
        let visible = v.held.iter().filter(|h| h.mapping.tags.as_exact().is_none());
        let opened = |h: &Held| json!({ "salt": hex(visible_salt(number, h).0), "mapping": hex(encode(&h.mapping)) });
        let hidden = |slot| json!({ "salt": hex(hidden_salt(number, slot).0), "value": hex(encode(&hidden_value(slot, &v.held))) });
        let signed = |a: &Authority| {
            let message = message("waymark/1 event recipient", &origin(), &encode(&v.event.tbs));
            json!({ "by": a.key.to_hex(), "message": hex(message), "signature": hex(a.sig.as_bytes()) })
        };
        let (proof, output) = handle(number, 0);
        json!({
            "csi": ANN, "version": number, "record": hex(encode(&v.record)), "opening": hex(record_opening(number).0),
            "commitment": v.commitment.to_hex(),
            "visible": visible.map(opened).collect::<Vec<_>>(),
            "hidden": (0..8).map(hidden).collect::<Vec<_>>(),
            "handle": {
                "tag": TAG, "ordinal": 0, "slot": HIDDEN_AT, "proof": hex(proof.as_bytes()), "handle": hex(output.0),
                "input": hex(handle_input_by_hand(ANN, number, TAG, 0)),
            },
            "event": hex(encode(&v.event)), "event_salt": hex(event_salt(number).0),
            "authorities": v.event.authorities.iter().map(signed).collect::<Vec<_>>(),
        })
    };
    let file = settle(
        "experimental-records",
        "Attestations, mappings, consents, events and records, with what is signed and what opens what.",
        &json!({
            "origin": origin().as_str(),
            "vrf_public": vrf().public().to_hex(),
            "keys": names.map(|n| json!({ "name": n, "seed": hex(seed(n)), "public": secret(n).public().to_hex() })),
            "statements": statements,
            "versions": records.versions.iter().map(version).collect::<Vec<_>>(),
        }),
    );
    for case in list(&file["statements"]) {
        check_statement(case, text(&file["origin"]));
    }
    for case in list(&file["versions"]) {
        check_version(case, &key(&file["vrf_public"]));
    }
}

fn handle_input_by_hand(who: &str, version: u32, tag: &str, ordinal: u8) -> Vec<u8> {
    let (context, csi) = (hand::opaque8(b"waymark/1 tag"), hand::opaque8(who.as_bytes()));
    [&[0][..], &context, &csi, &version.to_be_bytes(), &hand::opaque8(tag.as_bytes()), &[ordinal]].concat()
}

fn check_statement(case: &Value, origin_text: &str) {
    let (of, by, name) = (bytes(&case["bytes"]), key(&case["by"]), text(&case["name"]));
    let (fields, signature) = of.split_at(of.len() - 64);
    let message = hand::signed(text(&case["context"]), origin_text, fields);
    assert_eq!(message, bytes(&case["message"]), "{name}");
    by.verify(&message, &Signature::from_slice(signature).unwrap()).unwrap();
    match name.split(',').next().unwrap() {
        "attestation" => decode::<Attestation>("attestation", &of).unwrap().verify(&origin()).unwrap(),
        "mapping" => decode::<Mapping>("mapping", &of).unwrap().verify(&origin()).unwrap(),
        _ => {
            let consent: Consent = decode("consent", &of).unwrap();
            let mapping: Mapping = decode("mapping", &bytes(&case["mapping"])).unwrap();
            let salt = Salt(array(&case["salt"]));
            assert!(consent.is_for(&mapping, &salt, &origin()), "{name}");
            assert_eq!(hand::hmac(&salt.0, &bytes(&case["mapping"])), consent.blinded.as_bytes());
        }
    }
}

fn check_version(case: &Value, vrf: &Key) {
    let (who, version) = (csi(text(&case["csi"])), short(&case["version"]));
    let record: Record = decode("record", &bytes(&case["record"])).unwrap();
    assert_eq!((&record.csi, record.version), (&who, version));
    let opening = Opening(array(&case["opening"]));
    assert_eq!(commit(&opening, &who, version, &bytes(&case["record"])), hash(&case["commitment"]));
    assert_eq!(record.visible.len(), list(&case["visible"]).len());
    for (slot, opened) in record.visible.iter().zip(list(&case["visible"])) {
        assert_eq!(hand::hmac(&bytes(&opened["salt"]), &bytes(&opened["mapping"])), slot.digest.as_bytes());
    }
    for (i, (slot, opened)) in record.hidden.0.iter().zip(list(&case["hidden"])).enumerate() {
        assert_eq!(hand::hmac(&bytes(&opened["salt"]), &bytes(&opened["value"])), slot.digest.as_bytes());
        let value: HiddenValue = decode("hidden value", &bytes(&opened["value"])).unwrap();
        assert_eq!(value != HiddenValue::Empty, i as u64 == number(&case["handle"]["slot"]));
    }
    let h = &case["handle"];
    let (tag, ordinal) = (Tag::parse(text(&h["tag"])).unwrap(), number(&h["ordinal"]) as u8);
    let handle = verify_handle(vrf, &who, version, &tag, ordinal, &VrfProof::new(array(&h["proof"]))).unwrap();
    assert_eq!(hex(handle.0), text(&h["handle"]));
    assert_eq!(record.hidden.0[number(&h["slot"]) as usize].handle, handle);
    let output = waymark_mapping::vrf::verify(vrf, &bytes(&h["input"]), &VrfProof::new(array(&h["proof"]))).unwrap();
    assert_eq!(output.as_bytes()[..8], handle.0);
    let event: Event = decode("event", &bytes(&case["event"])).unwrap();
    assert_eq!(hand::hmac(&bytes(&case["event_salt"]), &bytes(&case["event"])), record.recipient_only.as_bytes());
    for (authority, signed) in event.authorities.iter().zip(list(&case["authorities"])) {
        authority.verify(&event.tbs, &origin()).unwrap();
        assert_eq!(authority.key, key(&signed["by"]));
        authority.key.verify(&bytes(&signed["message"]), &Signature::new(array(&signed["signature"]))).unwrap();
    }
    // An event names mappings by SHA-256; a hidden one stands behind the flag and the fifteen bytes of its standing.
    let visible = list(&case["visible"]).iter().map(|v| bytes(&v["mapping"]));
    let hidden = list(&case["hidden"]).iter().map(|h| bytes(&h["value"])).filter(|v| v[0] == 1);
    let named: Vec<Vec<u8>> = visible.chain(hidden.map(|v| v[16..].to_vec())).map(|m| hand::sha256(&[&m])).collect();
    assert!(event.tbs.added.iter().all(|digest| named.contains(&digest.as_bytes().to_vec())));
}

// Receipts.

#[test]
fn receipts() {
    let records = Records::new();
    let case = |version: usize| {
        let (v, receipt) = (&records.versions[version], records.receipt(version));
        json!({
            "version": version, "now_ms": records.logs[version].clock().get(), "receipt": hex(receipt.encode()),
            "signed_event": hex(encode(&v.event)), "added": v.added.iter().map(|m| hex(encode(m))).collect::<Vec<_>>(),
        })
    };
    let file = settle(
        "experimental-receipts",
        "Receipts for a first change and for one over it, with the event that was signed and the mappings that it added.",
        &json!({ "trust": trust_text(), "receipts": [case(0), case(1)] }),
    );
    let trust = Trust::parse(text(&file["trust"])).unwrap();
    let cases = list(&file["receipts"]);
    for case in cases {
        let receipt = Receipt::decode(&bytes(&case["receipt"])).unwrap();
        let judge = |of: &Value| {
            let event: Event = decode("event", &bytes(&of["signed_event"])).unwrap();
            let mapping = |m: &Value| decode::<Mapping>("mapping", &bytes(m)).unwrap();
            let added: Vec<Mapping> = list(&of["added"]).iter().map(mapping).collect();
            accept(&receipt, &event, &added, &trust, None, millis(&case["now_ms"]), &mut Trail::default())
        };
        let current = judge(case).unwrap();
        assert_eq!((u64::from(current.state.version), current.complete), (number(&case["version"]), true));
        for other in cases.iter().filter(|c| c["version"] != case["version"]) {
            assert_eq!(judge(other), Err(ReceiptRefused::OtherChange));
        }
    }
}

// Watch-lists.

#[test]
fn watch_lists() {
    let records = Records::new();
    let place = |version: usize| {
        let label = prove_label(&vrf(), &csi(ANN), version as u32).1;
        let commitment = records.versions[version].commitment;
        leaf_hash(&Entry::Change(Change { label, commitment }).encode())
    };
    let make = |version: Option<usize>, retired: bool| {
        let log = version.map_or_else(World::new, |v| records.logs[v].clone());
        let versions = if retired { vec![] } else { ladder::watched(version.map(|v| v as u32)) };
        let labels = versions.into_iter().map(|v| prove_label(&vrf(), &csi(ANN), v).1).collect();
        let made = log.clock().plus_ms(u64::from(retired));
        let list = WatchList {
            origin: (&origin()).into(),
            id: WatchId(seed("watch id")[..16].try_into().unwrap()),
            holder: secret("watcher").public(),
            size: log.size(),
            root: naive_root(&log.leaves()),
            made,
            expiry: made.plus_ms(30 * 24 * 3600 * 1000),
            labels: List16::new(labels).unwrap(),
            renews: Optional16(version.filter(|_| !retired).map(place)),
            sig: UNSIGNED,
        };
        signed(list, "watcher")
    };
    let case = |name: &str, list: &WatchList| {
        let message = message("waymark/1 watch-list holder", &origin(), &list.fields());
        json!({
            "name": name, "bytes": hex(list.encode()), "message": hex(message), "size": list.size,
            "labels": list.labels.iter().map(|l| l.0.to_hex()).collect::<Vec<_>>(), "made_ms": list.made.get(),
            "renews": list.renews.0.map(|leaf| leaf.to_hex()),
        })
    };
    let lists = [
        case("no version yet: label 0", &make(None, false)),
        case("version 0 is ours", &make(Some(0), false)),
        case("version 1 is ours", &make(Some(1), false)),
        case("retired", &make(Some(1), true)),
    ];
    let last = records.logs.last().unwrap();
    let file = settle(
        "experimental-watch-lists",
        "Watch-lists of one name: made, renewed twice with the claim of an entry, retired; and the log that they watch.",
        &json!({
            "origin": origin().as_str(), "holder": secret("watcher").public().to_hex(), "seed": hex(seed("watcher")),
            "renew_within_ms": 600_000, "lists": lists, "entries": last.entries.iter().map(hex).collect::<Vec<_>>(),
        }),
    );
    let lists = list(&file["lists"]);
    for case in lists {
        let list = WatchList::decode(&bytes(&case["bytes"])).unwrap();
        list.verify().unwrap();
        let fields = &bytes(&case["bytes"])[..bytes(&case["bytes"]).len() - 64];
        let by_hand = hand::signed("waymark/1 watch-list holder", text(&file["origin"]), fields);
        assert_eq!(by_hand, bytes(&case["message"]));
        key(&file["holder"]).verify(&by_hand, &list.sig).unwrap();
        let labels = case["labels"].as_array().unwrap();
        assert_eq!(list.labels.iter().map(|l| l.0).collect::<Vec<_>>(), labels.iter().map(hash).collect::<Vec<_>>());
        assert_eq!(list.renews.0.map(|l| l.to_hex()).as_deref(), case["renews"].as_str());
    }
    // Renewed in time, nothing is said. Version 1 cannot be the latest without version 0 before it: one alert says it.
    let entries: Vec<Vec<u8>> = list(&file["entries"]).iter().map(bytes).collect();
    assert_eq!(alerts(lists, &entries, number(&file["renew_within_ms"])), 0);
    assert_eq!(alerts(&lists[..1], &entries, number(&file["renew_within_ms"])), 1);
    assert_eq!(alerts(&lists[..2], &entries, number(&file["renew_within_ms"])), 1);
}

/// Unexpected alerts of a book that is given these lists as the log grows to the size they name.
fn alerts(lists: &[Value], entries: &[Vec<u8>], renew_within_ms: u64) -> usize {
    let mut book = WatchBook::new(origin(), renew_within_ms);
    let (mut unexpected, mut now, mut replayed) = (0, millis(&lists[0]["made_ms"]), 0u64);
    let mut seen = std::collections::HashMap::new();
    let mut replay = |book: &mut WatchBook, to: u64, replayed: &mut u64, now: UnixMillis| {
        for (index, bytes) in entries.iter().enumerate().take(to as usize).skip(*replayed as usize) {
            if let Ok(Entry::Change(change)) = Entry::decode(bytes) {
                let place = Place { index: index as u64, leaf: leaf_hash(bytes) };
                book.on_change(place, &change.label, now, now);
                seen.insert(change.label, (place, now));
            }
        }
        *replayed = to.max(*replayed);
        seen.clone()
    };
    let mut tick = |book: &mut WatchBook, replayed, now| {
        let fired = book.tick(replayed, now);
        unexpected += fired.iter().filter(|a| matches!(a, Alert::Unexpected { .. })).count();
    };
    for case in lists {
        let list = WatchList::decode(&bytes(&case["bytes"])).unwrap();
        now = list.made;
        let known = replay(&mut book, list.size, &mut replayed, now);
        book.import(list, now, replayed, |label| known.get(label).copied()).unwrap();
        tick(&mut book, replayed, now);
    }
    replay(&mut book, entries.len() as u64, &mut replayed, now);
    tick(&mut book, replayed, now.plus_ms(renew_within_ms));
    unexpected
}

// Requests.

#[test]
fn requests() {
    let records = Records::new();
    let (first, app) = (&records.versions[0], secret("ann phone"));
    let held = |i: usize| {
        let h = first.held.iter().find(|h| h.mapping == first.added[i]).unwrap();
        OfferedConsent { index: i as u8, consent: h.consent.clone(), salt: salt(&format!("consent {}", h.name)) }
    };
    let change = ChangeRequest {
        event: first.event.clone(),
        added: List16::new(first.added.clone()).unwrap(),
        consents: List16::new(vec![held(0), held(1)]).unwrap(),
    };
    let consent = ConsentRequest { mapping: first.added[0].clone(), salt: salt("consent visible") };
    let bodies = [
        ("/v1/changes", CHANGE_MEDIA_TYPE, encode(&change)),
        ("/v1/history", HISTORY_MEDIA_TYPE, encode(&HistoryRequest { csi: csi(ANN) })),
        ("/v1/consents", CONSENT_MEDIA_TYPE, encode(&consent)),
    ];
    let time = UnixMillis::new(START_MS + 5000);
    let case = |(path, media_type, body): (&str, &str, Vec<u8>)| {
        let nonce = seed(path)[..16].try_into().unwrap();
        let signature = RequestSignature::sign(&origin(), &app, ("POST", path), &body, time, nonce);
        json!({
            "method": "POST", "path": path, "media_type": media_type, "body": hex(body),
            "header": signature.format(),
        })
    };
    let file = settle(
        "experimental-requests",
        "Requests that a recipient signs: path, media type, body and the value of the header Waymark-Recipient.",
        &json!({ "origin": origin().as_str(), "seed": hex(seed("ann phone")), "requests": bodies.map(case) }),
    );
    for case in list(&file["requests"]) {
        let (method, path, body) = (text(&case["method"]), text(&case["path"]), bytes(&case["body"]));
        let signature = RequestSignature::parse(text(&case["header"])).unwrap();
        assert!(signature.is_under(&origin(), method, path, &body));
        assert!(!signature.is_under(&origin(), method, path, &body[1..]));
        match path {
            "/v1/changes" => assert_eq!(encode(&decode::<ChangeRequest>("change", &body).unwrap()), body),
            "/v1/history" => assert_eq!(body, hand::opaque8(ANN.as_bytes())),
            _ => assert_eq!(encode(&decode::<ConsentRequest>("consent", &body).unwrap()), body),
        }
        request_by_hand(case, text(&file["origin"]));
    }
}

fn request_by_hand(case: &Value, origin_text: &str) {
    let header = text(&case["header"]);
    let parts: Vec<&str> = header.split("; ").map(|part| part.split_once('=').unwrap().1).collect();
    let [public, time, nonce, signature] = parts[..] else { panic!("{header}") };
    let raw = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap();
    let fields = [
        hand::opaque8(text(&case["method"]).as_bytes()),
        hand::opaque8(text(&case["path"]).as_bytes()),
        hand::sha256(&[&bytes(&case["body"])]),
        time.parse::<u64>().unwrap().to_be_bytes().to_vec(),
        raw(nonce),
    ];
    let message = hand::signed("waymark/1 request recipient", origin_text, &fields.concat());
    let signature = Signature::from_slice(&raw(signature)).unwrap();
    Key::from_slice(&raw(public)).unwrap().verify(&message, &signature).unwrap();
}
