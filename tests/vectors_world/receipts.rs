//! Receipts, and a page of history that goes on from one.

use serde_json::{Value, json};
use waymark_mapping::{
    answer::{Pasts, Receipt},
    event::Event,
    mapping::Mapping,
    receipt::{Current, ReceiptRefused, Sent, accept},
    trust::Trust,
    verify::Trail,
    wire::{decode, encode},
};

use crate::{
    files::{bytes, hash, hex, list, millis, number, settle, text},
    hand,
    vectors_world::{
        life::{Life, Shows},
        trust_text,
    },
};

fn case(name: &str, life: &Life, shows: Shows) -> Value {
    case_of(name, life, shows, &life.receipt(shows))
}

/// A receipt, and the event and mappings of the app that gets it.
pub(crate) fn case_of(name: &str, life: &Life, shows: Shows, receipt: &Receipt) -> Value {
    let last = life.last();
    json!({
        "name": name, "version": last.state.version, "now_ms": life.world.clock().get(),
        "receipt": hex(receipt.encode()), "signed_event": hex(encode(&last.cause.event)),
        "added": last.added.iter().map(|m| hex(encode(m))).collect::<Vec<_>>(),
        "complete": shows == Shows::All, "has_previous": receipt.previous.0.is_some(),
    })
}

/// What an app that signed the event of one case makes of the receipt of another.
pub(crate) fn judge(receipt: &Value, signed: &Value, trust: &str) -> Result<Current, ReceiptRefused> {
    let event: Event = decode("event", &bytes(&signed["signed_event"])).unwrap();
    let mapping = |m: &Value| decode::<Mapping>("mapping", &bytes(m)).unwrap();
    let added: Vec<Mapping> = signed["added"].as_array().unwrap().iter().map(mapping).collect();
    let (origin, trust, now) =
        (crate::vectors_world::origin(), Trust::parse(trust).unwrap(), millis(&receipt["now_ms"]));
    let receipt = Receipt::decode(&bytes(&receipt["receipt"])).unwrap();
    let sent = Sent { origin: &origin, event: &event, added: &added, by: &event.authorities[0].key };
    accept(&receipt, sent, &trust, None, now, &mut Trail::default())
}

#[test]
fn receipts() {
    let cases = [
        case("the first version, which begins the first tenure", &Life::first(), Shows::All),
        case("a change over it", &Life::ann(), Shows::All),
        case("a newcomer's, who is shown nothing hidden", &Life::newcomer(), Shows::Own("carol phone")),
        case("a claim", &Life::claimed("dp.example"), Shows::Own("carol phone")),
        case("an objection", &Life::objected(), Shows::All),
        case("a new holder's, which begins a tenure", &Life::taken_up(), Shows::All),
        case("after a vacancy, which begins a tenure", &Life::after_vacancy(), Shows::All),
        case("after a release, in the tenure that it began", &Life::after_release(), Shows::All),
        case("a revocation that was prepared before the version it was laid over", &Life::compromised(), Shows::All),
        case("everything erased", &Life::erased(), Shows::All),
    ];
    let file = settle(
        "receipts",
        "Receipts, each with the event that was signed and the mappings that it added.",
        &json!({ "trust": trust_text(), "receipts": cases }),
    );
    let (cases, trust) = (list(&file["receipts"]), text(&file["trust"]));
    for case in cases {
        let current = judge(case, case, trust).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
        assert_eq!(u64::from(current.state.version), number(&case["version"]));
        assert_eq!(json!(current.complete), case["complete"], "{}", case["name"]);
        let receipt = Receipt::decode(&bytes(&case["receipt"])).unwrap();
        assert_eq!(json!(receipt.previous.0.is_some()), case["has_previous"]);
        for other in cases.iter().filter(|c| c["name"] != case["name"]) {
            assert_eq!(judge(case, other, trust), Err(ReceiptRefused::OtherChange), "{}", case["name"]);
        }
    }
}

#[test]
fn history() {
    let life = Life::withdrawn();
    let file = settle(
        "history",
        "A receipt, and the page of history that leads from it down to the beginning of the tenure.",
        &json!({
            "trust": trust_text(), "receipt": case("the latest version", &life, Shows::All),
            "page": hex(encode(&life.history())),
            "steps": life.versions.iter().rev().map(|v| json!({
                "version": v.state.version, "kind": v.cause.event.tbs.kind as u8,
                "commitment": v.commitment.to_hex(), "cause": hex(encode(&v.cause)),
            })).collect::<Vec<_>>(),
        }),
    );
    let page: Pasts = decode("page", &bytes(&file["page"])).unwrap();
    let (steps, receipt) = (list(&file["steps"]), &file["receipt"]);
    assert_eq!(page.steps.len(), steps.len());
    let current = judge(receipt, receipt, text(&file["trust"])).unwrap();
    let signed: Event = decode("event", &bytes(&receipt["signed_event"])).unwrap();
    let by = signed.authorities[0].key;
    let (mut anchor, mut commitment) = (Some(current.anchor), current.commitment);
    for (past, step) in page.steps.iter().zip(steps) {
        let at = anchor.take().unwrap();
        assert_eq!((u64::from(at.version()), commitment), (number(&step["version"]), hash(&step["commitment"])));
        assert_eq!(encode(&past.cause), bytes(&step["cause"]));
        // Another step's cause does not open this version.
        for other in page.steps.iter().filter(|o| *o != past) {
            assert!(at.step(other, &by).is_err());
        }
        let (event, before) = at.step(past, &by).unwrap();
        assert_eq!(event.tbs.kind as u64, number(&step["kind"]));
        commitment = past.cause.previous;
        anchor = before.map(|(_, anchor)| anchor);
    }
    assert!(anchor.is_none() && commitment == waymark_log::hash::Hash::ZERO, "the first version has none before");
    chain_by_hand(&file, &page);
}

/// Each record's digest of its cause opens by hand, and names the commitment of the record before.
fn chain_by_hand(file: &Value, page: &Pasts) {
    let receipt = Receipt::decode(&bytes(&file["receipt"]["receipt"])).unwrap();
    let mut digest = receipt.now.body.0.unwrap().contents.cause;
    let steps = list(&file["steps"]);
    for (i, (past, step)) in page.steps.iter().zip(steps).enumerate() {
        assert_eq!(hand::hmac(&past.cause_salt.0, &bytes(&step["cause"])), digest.as_bytes());
        let before = steps.get(i + 1).map_or(vec![0; 32], |next| bytes(&next["commitment"]));
        assert_eq!(bytes(&step["cause"])[..32], before);
        if let Some(body) = &past.previous.0 {
            digest = body.contents.cause;
        }
    }
}
