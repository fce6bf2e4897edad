//! The vectors of what may still change: typed identifiers, watch-lists, requests.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use waymark::{
    api::{
        CHANGE_MEDIA_TYPE, ChangeRequest, EVENT_MEDIA_TYPE, HISTORY_MEDIA_TYPE, HistoryRequest, OfferedConsent,
        RequestSignature,
    },
    msp::{CONSENT_MEDIA_TYPE, ConsentRequest},
};
use waymark_log::{
    hash::leaf_hash,
    key::{Key, Signature},
    proof::naive_root,
    time::UnixMillis,
};
use waymark_mapping::{
    entry::{Change, Entry},
    event::{ANY_VERSION, Event},
    label::prove_label,
    ladder,
    signed::{SignedStruct, UNSIGNED, message},
    typed::parse_typed,
    watch::{Alert, Place, WatchBook, WatchId, WatchList},
    wire::{Extensions, Format, List24, Optional24, Undecoded, decode, encode},
};

use crate::{
    files::{bytes, hash, hex, key, list, millis, number, settle, text},
    hand,
    unknown::{self, formatted},
    vectors_world::{ANN, START_MS, World, csi, life::Life, origin, secret, seed, signed, vrf},
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

// Watch-lists.

#[test]
fn watch_lists() {
    let life = Life::ann();
    let place = |version: usize| {
        let label = prove_label(&vrf(), &csi(ANN), version as u32).1;
        let commitment = life.versions[version].commitment;
        leaf_hash(&Entry::Change(Change { label, commitment }).encode())
    };
    let make = |version: Option<usize>, retired: bool| {
        let log = version.map_or_else(World::new, |v| life.versions[v].log.clone());
        let versions = if retired { vec![] } else { ladder::watched(version.map(|v| v as u32)) };
        let labels = versions.into_iter().map(|v| prove_label(&vrf(), &csi(ANN), v).1).collect();
        let made = log.clock().plus_ms(u64::from(retired));
        let list = WatchList {
            extensions: Extensions::NONE,
            format: Format,
            origin: (&origin()).into(),
            id: WatchId(seed("watch id")[..16].try_into().unwrap()),
            holder: secret("watcher").public(),
            size: log.size(),
            root: naive_root(&log.leaves()),
            made,
            expiry: made.plus_ms(30 * 24 * 3600 * 1000),
            labels: List24::new(labels).unwrap(),
            renews: Optional24(version.filter(|_| !retired).map(place)),
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
    let renewed = make(Some(1), false);
    let refused = formatted("WatchList", renewed.encode())
        .of_algorithm_2("a holder's key", renewed.holder.as_bytes(), unknown::KEY)
        .of_algorithm_2("a signature", renewed.sig.as_bytes(), unknown::SIG)
        .cut()
        .refused;
    let file = settle(
        "experimental-watch-lists",
        "Watch-lists of one name: made, renewed twice with the claim of an entry, retired; and the log that they watch.",
        &json!({
            "origin": origin().as_str(), "holder": secret("watcher").public().to_hex(), "seed": hex(seed("watcher")),
            "renew_within_ms": 600_000, "lists": lists, "entries": life.world.entries.iter().map(hex).collect::<Vec<_>>(),
            "refused": refused,
        }),
    );
    for case in list(&file["refused"]) {
        let not_supported = matches!(WatchList::decode(&bytes(&case["bytes"])), Err(Undecoded::NotSupported { .. }));
        assert_eq!(not_supported, text(&case["verdict"]) == "not-supported", "{}", case["why"]);
        assert!(WatchList::decode(&bytes(&case["bytes"])).is_err(), "{}", case["why"]);
    }
    let lists = list(&file["lists"]);
    for case in lists {
        let list = WatchList::decode(&bytes(&case["bytes"])).unwrap();
        list.verify().unwrap();
        let fields = &bytes(&case["bytes"])[..bytes(&case["bytes"]).len() - 68];
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
    let (life, app) = (Life::first(), secret("ann phone"));
    let first = life.last();
    let consents = life.consents().iter().zip(0u8..).map(|(c, index)| {
        let (consent, salt) = (c.consent.clone(), c.salt());
        OfferedConsent { index, consent, salt }
    });
    let change = ChangeRequest {
        event: first.cause.event.clone(),
        added: List24::new(first.added.clone()).unwrap(),
        consents: List24::new(consents.collect()).unwrap(),
    };
    let consent = ConsentRequest { mapping: first.added[0].clone(), salt: life.consents()[0].salt() };
    let history = |version| encode(&HistoryRequest { csi: csi(ANN), version });
    let bodies = [
        ("/v1/changes", CHANGE_MEDIA_TYPE, encode(&change), true),
        ("/v1/history", HISTORY_MEDIA_TYPE, history(ANY_VERSION), true),
        ("/v1/history", HISTORY_MEDIA_TYPE, history(1), true),
        ("/v1/revocations", EVENT_MEDIA_TYPE, encode(&life.token("ann phone")), false),
        ("/v1/consents", CONSENT_MEDIA_TYPE, encode(&consent), true),
    ];
    let time = UnixMillis::new(START_MS + 5000);
    let case = |(path, media_type, body, is_signed): (&str, &str, Vec<u8>, bool)| {
        let nonce = seed(&hex(&body))[..16].try_into().unwrap();
        let signature = RequestSignature::sign(&origin(), &app, ("POST", path), &body, time, nonce);
        json!({
            "method": "POST", "path": path, "media_type": media_type, "body": hex(body),
            "header": is_signed.then(|| signature.format()),
        })
    };
    let file = settle(
        "experimental-requests",
        "A recipient's requests: path, media type, body and, where one is needed, the value of the header Waymark-Recipient.",
        &json!({ "origin": origin().as_str(), "seed": hex(seed("ann phone")), "requests": bodies.map(case) }),
    );
    for case in list(&file["requests"]) {
        let (method, path, body) = (text(&case["method"]), text(&case["path"]), bytes(&case["body"]));
        match path {
            "/v1/changes" => assert_eq!(encode(&decode::<ChangeRequest>("change", &body).unwrap()), body),
            "/v1/history" => {
                let request: HistoryRequest = decode("history request", &body).unwrap();
                assert_eq!([hand::opaque8(ANN.as_bytes()), request.version.to_be_bytes().to_vec()].concat(), body);
            }
            "/v1/revocations" => {
                let token: Event = decode("event", &body).unwrap();
                assert!(token.tbs.names_no_version());
                token.authorities[0].verify(&token.tbs, &origin()).unwrap();
            }
            _ => assert_eq!(encode(&decode::<ConsentRequest>("consent", &body).unwrap()), body),
        }
        // A revocation speaks for itself, whoever brings it.
        assert_eq!(case["header"].is_null(), path == "/v1/revocations");
        if case["header"].is_null() {
            continue;
        }
        let signature = RequestSignature::parse(text(&case["header"])).unwrap();
        assert!(signature.is_under(&origin(), method, path, &body));
        assert!(!signature.is_under(&origin(), method, path, &body[1..]));
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
