//! The answer that proves an absence, and how any answer's vectors are judged.

use serde_json::{Value, json};
use tls_codec::Size;
use waymark::api::outcome_code;
use waymark_log::time::UnixMillis;
use waymark_mapping::{
    answer::{ANSWER_SIZES, Answer},
    facts::{MappingFacts, Service},
    names::Tag,
    trust::Trust,
    verify::{Asked, Lookup, Rejected, Trail, verify},
    wire::encode,
};

use crate::files::{bytes, hex, list, millis, number, settle, text};
use crate::hand;
use crate::vectors_world::{BEN, NOBODY, World, csi, trust_text};

const fn rejected_name(rejected: &Rejected) -> &'static str {
    match rejected {
        Rejected::Malformed(_) => "malformed",
        Rejected::Untrusted(_) => "untrusted",
        Rejected::NotProven(_) => "not-proven",
        Rejected::Stale(_) => "stale",
        Rejected::SplitView { .. } => "split-view",
    }
}

fn service_name(service: Service) -> Value {
    match service {
        Service::Confirmed { in_log, pinned } => {
            json!({ "state": "confirmed", "in_log": in_log, "key_pinned": pinned })
        }
        Service::Unconfirmed => json!({ "state": "unconfirmed" }),
        Service::NotShownToMsp => json!({ "state": "not-shown-to-msp" }),
        Service::OptedOut => json!({ "state": "opted-out" }),
    }
}

/// What a look-up shows, as far as FORMATS.md speaks of it.
fn shown(lookup: &Lookup) -> Value {
    let mapping = |m: &MappingFacts| {
        json!({
            "msp": m.msp.as_ref().map(|d| d.as_str()), "account": m.account.expose(), "digest": m.digest.to_hex(),
            "recipient": m.recipient.to_hex(), "prover": m.possession.prover.as_str(), "service": service_name(m.service),
            "holds": m.holds, "since_version": m.change.since_version,
        })
    };
    json!({
        "outcome": outcome_code(lookup.outcome), "version": lookup.version,
        "commitment": lookup.commitment.map(|c| c.to_hex()),
        "watched": lookup.watched.iter().map(|l| l.0.to_hex()).collect::<Vec<_>>(),
        "mappings": lookup.mappings.iter().map(mapping).collect::<Vec<_>>(),
        "log": {
            "origin": lookup.log.origin.as_str(), "size": lookup.log.size, "interval_ms": lookup.log.interval_ms,
            "head_time_ms": lookup.log.head_time.get(), "witnesses": lookup.log.witnesses, "quorum_age_s": lookup.log.age_s,
        },
    })
}

pub(crate) fn judge_answer(
    answer: &[u8],
    who: &str,
    tag: Option<&str>,
    trust: &str,
    now: UnixMillis,
) -> Result<Value, &'static str> {
    let asked = Asked { csi: csi(who), tag: tag.map(|t| Tag::parse(t).unwrap()) };
    let verified = verify(answer, &asked, &Trust::parse(trust).unwrap(), None, now, &mut Trail::default());
    verified.map(|v| shown(v.get())).map_err(|r| rejected_name(&r))
}

/// One answer: what was asked, when it is judged, what it proves.
pub(crate) fn answer_case(name: &str, answer: &Answer, who: &str, tag: Option<&str>, now: UnixMillis) -> Value {
    let padded = answer.to_padded(0).unwrap();
    json!({
        "name": name, "csi": who, "tag": tag, "now_ms": now.get(), "unpadded_bytes": answer.tls_serialized_len(),
        "answer": hex(&padded), "shown": judge_answer(&padded, who, tag, &trust_text(), now).unwrap(),
    })
}

/// An answer with one byte changed, or cut to a length, or lengthened with zeros.
fn edited(answer: &[u8], edit: &Value) -> Vec<u8> {
    let mut answer = answer.to_vec();
    if let Some(size) = edit["resize"].as_u64() {
        answer.resize(size as usize, 0);
    }
    if let Some(at) = edit["at"].as_u64() {
        answer[at as usize] ^= 1;
    }
    answer
}

pub(crate) fn check_answer(case: &Value, trust: &Value) {
    let answer = bytes(&case["answer"]);
    let (who, tag, now) = (text(&case["csi"]), case["tag"].as_str(), millis(&case["now_ms"]));
    assert_eq!(judge_answer(&answer, who, tag, text(trust), now), Ok(case["shown"].clone()), "{}", case["name"]);
    // The frame by hand: a size of five, the structure, how many zeros, the zeros.
    let unpadded = number(&case["unpadded_bytes"]) as usize;
    let zeros = answer.len() - unpadded - 2;
    assert!([4096, 8192, 16384, 32768, 65536].contains(&answer.len()) && ANSWER_SIZES.contains(&answer.len()));
    assert_eq!(answer[unpadded..unpadded + 2], (zeros as u16).to_be_bytes());
    assert!(answer[unpadded + 2..].iter().all(|b| *b == 0));
    assert_eq!(encode(&Answer::from_padded(&answer).unwrap()), answer[..unpadded]);
}

#[test]
fn answer_absent() {
    let world = World::of_final_structures();
    let answer = world.absent(NOBODY);
    let (good, unpadded) = (answer_case("nobody", &answer, NOBODY, None, world.clock()), answer.tls_serialized_len());
    let now = world.clock().get();
    let padded = answer.to_padded(0).unwrap();
    let refused = [
        ("a byte of the padding is not zero", json!({ "at": padded.len() - 1 }), now),
        ("the length of the padding is not what is there", json!({ "at": unpadded + 1 }), now),
        ("an unknown format version", json!({ "at": 0 }), now),
        ("a size that answers do not have", json!({ "resize": 4097 }), now),
        ("more than one padding", json!({ "resize": 8192 }), now),
        ("another open entry", json!({ "at": 10 }), now),
        ("an answer about somebody else", json!({ "csi": BEN }), now),
        ("a byte of the map proof", json!({ "at": unpadded - 20 }), now),
        ("eleven minutes later", json!({}), now + 660_000),
        ("a minute too early", json!({}), now - 60_000),
    ];
    let refusal = |(why, edit, now): (&str, Value, u64)| {
        let who = edit["csi"].as_str().unwrap_or(NOBODY);
        let verdict =
            judge_answer(&edited(&padded, &edit), who, None, &trust_text(), UnixMillis::new(now)).unwrap_err();
        json!({ "why": why, "edit": edit, "now_ms": now, "verdict": verdict })
    };
    let file = settle(
        "answer-absent",
        "An answer that proves that a CSI has no version, with its trust file, and what is refused of it.",
        &json!({ "trust": trust_text(), "answers": [good], "refused": refused.map(refusal) }),
    );
    let case = &list(&file["answers"])[0];
    check_answer(case, &file["trust"]);
    absent_by_hand(case);
    let verdicts =
        ["malformed", "malformed", "malformed", "malformed", "malformed", "not-proven", "not-proven", "not-proven"];
    let wanted = verdicts.into_iter().chain(["stale", "stale"]);
    for (refused, wanted) in list(&file["refused"]).iter().zip(wanted) {
        let answer = edited(&bytes(&case["answer"]), &refused["edit"]);
        let who = refused["edit"]["csi"].as_str().unwrap_or(text(&case["csi"]));
        let verdict = judge_answer(&answer, who, None, text(&file["trust"]), millis(&refused["now_ms"]));
        assert_eq!(verdict, Err(wanted), "{}", refused["why"]);
        assert_eq!(text(&refused["verdict"]), wanted, "{}", refused["why"]);
    }
}

/// The fields of an answer without a body, cut out by their lengths alone.
fn absent_by_hand(case: &Value) {
    let answer = bytes(&case["answer"]);
    let mut rest = &answer[..number(&case["unpadded_bytes"]) as usize];
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at(count);
        rest = after;
        taken.to_vec()
    };
    let two = |bytes: Vec<u8>| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    assert_eq!(take(1), [1], "format");
    let length = two(take(2));
    let open = take(length);
    let length = two(take(2));
    let config = take(length);
    let head = take(8 + 8 + 4 * 32);
    let length = two(take(2));
    let path = take(length);
    let length = two(take(2));
    let note = String::from_utf8(take(length)).unwrap();
    assert_eq!(take(4), [0; 4], "version");
    assert_eq!(two(take(2)), 80 + 1, "one step of the ladder");
    let (_vrf_proof, no_commitment) = (take(80), take(1));
    assert_eq!(no_commitment, [0]);
    assert_eq!(take(1), [1], "one result");
    // Where the search ends there is another leaf, or no child at all.
    let mut value = match take(1)[..] {
        [2] => hand::sha256(&[&[2], &take(64)]),
        [3] => vec![0; 32],
        _ => panic!("presence is claimed"),
    };
    let depth = usize::from(take(1)[0]);
    let elements: Vec<Vec<u8>> = (0..two(take(2))).map(|_| take(32)).collect();
    assert_eq!(take(2), [0, 0], "no body");
    assert_eq!(take(2 + 1 + 2), [0; 5], "no providers: no leaves, no results, no elements");
    assert_eq!(take(2), [0, 0], "full");
    assert!(rest.is_empty());

    assert_eq!(head[48..80], hand::sha256(&[&open]));
    assert_eq!(head[80..112], hand::sha256(&[&config]));
    // The head is the last leaf: every hash of its path stands to the left.
    let leaf = hand::sha256(&[&[0, 1, 6], &head]);
    let root = path.chunks(32).fold(leaf, |below, left| hand::sha256(&[&[1], left, &below]));
    assert_eq!(data_encoding::BASE64.encode(&root), note.split('\n').nth(2).unwrap());
    let label = bytes(&case["shown"]["watched"][0]);
    let bit = |depth: usize| label[depth / 8] & (0x80 >> (depth % 8)) != 0;
    // Elements come left to right: those left of the path from the top down, then those right of it from the bottom up.
    assert_eq!(elements.len(), depth);
    let (left, right) = elements.split_at((0..depth).filter(|d| bit(*d)).count());
    let (mut left, mut right) = (left.iter().rev(), right.iter());
    for d in (0..depth).rev() {
        value = if bit(d) {
            hand::sha256(&[&[3], left.next().unwrap(), &value])
        } else {
            hand::sha256(&[&[3], &value, right.next().unwrap()])
        };
    }
    assert_eq!(value, head[16..48]);
}
