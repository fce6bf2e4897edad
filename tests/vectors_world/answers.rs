//! Answers: what they prove, and what is refused of them. The one that proves an absence is also taken apart by hand.

use serde_json::{Value, json};
use tls_codec::Size;
use waymark::api::outcome_code;
use waymark_log::time::UnixMillis;
use waymark_mapping::{
    answer::{ANSWER_SIZES, Answer, Content, OpenedVisible},
    facts::{ChangedHands, Contest, MappingFacts, Service, Withheld},
    names::Tag,
    record::{Beginning, Ground},
    tenure::{PASSAGE_MS, Passage},
    trust::Trust,
    verify::{Asked, Lookup, Rejected, Trail, verify},
    wire::{List24, Optional24, encode},
};

use crate::files::{bytes, hex, list, millis, number, settle, text};
use crate::hand;
use crate::vectors_world::{
    ANN, BEN, NOBODY, TAG, World, csi,
    life::{Life, Shows},
    trust_text,
};

pub(crate) const fn rejected_name(rejected: &Rejected) -> &'static str {
    match rejected {
        Rejected::Malformed(_) => "malformed",
        Rejected::NotSupported(_) => "not-supported",
        Rejected::Untrusted(_) => "untrusted",
        Rejected::NotProven(_) => "not-proven",
        Rejected::Stale(_) => "stale",
        Rejected::OtherLog => "other-log",
        Rejected::SplitView { .. } => "split-view",
        Rejected::Rollback { .. } => "rollback",
    }
}

fn service_name(service: Service) -> Value {
    match service {
        Service::Confirmed { in_log, pinned } => {
            json!({ "state": "confirmed", "in_log": in_log, "key_pinned": pinned })
        }
        Service::Unconfirmed => json!({ "state": "unconfirmed" }),
        Service::NotShownToMsp => json!({ "state": "not-shown-to-msp" }),
        Service::Detached { reason } => json!({ "state": "detached", "reason": reason }),
        Service::OptedOut => json!({ "state": "opted-out" }),
    }
}

const fn ground_name(ground: Ground) -> &'static str {
    match ground {
        Ground::Equal => "equal",
        Ground::Stricter => "stricter",
        Ground::Lapsed => "lapsed",
        Ground::Recycled => "recycled",
    }
}

const fn beginning_name(how: Beginning) -> &'static str {
    match how {
        Beginning::First => "first",
        Beginning::NewHolder => "new-holder",
        Beginning::Release => "release",
        Beginning::Vacancy => "vacancy",
    }
}

fn contest(contest: Contest) -> Value {
    match contest {
        Contest::Claim { since, until, ground, objected } => json!({
            "by": "claim", "since_ms": since.get(), "until_ms": until.get(), "ground": ground_name(ground),
            "objected": objected,
        }),
        Contest::ForeignRelease => json!({ "by": "foreign-release" }),
        Contest::ForeignProver => json!({ "by": "foreign-prover" }),
        Contest::ShortHold { ground, until } => {
            json!({ "by": "short-hold", "ground": ground as u8, "until_ms": until.get() })
        }
    }
}

fn changed_hands(changed: &ChangedHands) -> Value {
    json!({
        "how": beginning_name(changed.how), "time_ms": changed.time.get(), "recent": changed.recent,
        "ground": changed.ground.map(ground_name),
        "csip": changed.csip.as_ref().map(|(domain, pinned)| json!({ "domain": domain.as_str(), "key_pinned": pinned })),
    })
}

/// What a look-up shows, as far as FORMATS.md speaks of it.
fn shown(lookup: &Lookup) -> Value {
    let mapping = |m: &MappingFacts| {
        json!({
            "msp": m.msp.as_ref().map(|d| d.as_str()), "account": m.account.expose(), "digest": m.digest.to_hex(),
            "recipient": m.recipient.to_hex(), "prover": m.possession.prover.as_str(), "service": service_name(m.service),
            "holds": m.holds, "since_version": m.change.since_version,
            "logged_by_ms": m.change.logged_by.map(UnixMillis::get), "is_new": m.change.is_new,
        })
    };
    let mut shown = json!({
        "outcome": outcome_code(lookup.outcome), "version": lookup.version,
        "commitment": lookup.commitment.map(|c| c.to_hex()),
        "watched": lookup.watched.iter().map(|l| l.0.to_hex()).collect::<Vec<_>>(),
        "mappings": lookup.mappings.iter().map(mapping).collect::<Vec<_>>(),
        "log": {
            "origin": lookup.log.origin.as_str(), "size": lookup.log.size, "interval_ms": lookup.log.interval_ms,
            "head_time_ms": lookup.log.head_time.get(), "witnesses": lookup.log.witnesses, "quorum_age_s": lookup.log.age_s,
        },
    });
    if lookup.version.is_some() {
        let withheld =
            |w: &Withheld| json!({ "reason": w.reason, "since_ms": w.since.get(), "said_ms": w.by_event.get() });
        shown["tenure"] = json!(lookup.tenure);
        shown["tenure_of_next_mapping"] = json!(lookup.tenure_of_next_mapping);
        shown["contested"] = json!(lookup.contested.map(contest));
        shown["changed_hands"] = json!(lookup.changed_hands.as_ref().map(changed_hands));
        shown["withheld"] = json!(lookup.withheld.iter().map(withheld).collect::<Vec<_>>());
    }
    shown
}

pub(crate) fn judge_answer(
    answer: &[u8],
    who: &str,
    tag: Option<&str>,
    trust: &str,
    now: UnixMillis,
) -> Result<Value, &'static str> {
    let asked =
        Asked { origin: crate::vectors_world::origin(), csi: csi(who), tag: tag.map(|t| Tag::parse(t).unwrap()) };
    let verified = verify(answer, &asked, &Trust::parse(trust).unwrap(), None, now, &mut Trail::default());
    verified.map(|v| shown(v.get())).map_err(|r| rejected_name(&r))
}

/// One answer: what was asked, when it is judged, what it proves.
pub(crate) fn answer_case(name: &str, answer: &Answer, who: &str, tag: Option<&str>, now: UnixMillis) -> Value {
    answer_case_by(&trust_text(), name, answer, who, tag, now)
}

/// The same by another trust file.
pub(crate) fn answer_case_by(
    trust: &str,
    name: &str,
    answer: &Answer,
    who: &str,
    tag: Option<&str>,
    now: UnixMillis,
) -> Value {
    let padded = answer.to_padded(0).unwrap();
    json!({
        "name": name, "csi": who, "tag": tag, "now_ms": now.get(), "unpadded_bytes": answer.tls_serialized_len(),
        "answer": hex(&padded), "shown": judge_answer(&padded, who, tag, trust, now).unwrap(),
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
    // The frame by hand: a size of eight, the structure, how many zeros in three bytes, the zeros.
    let unpadded = number(&case["unpadded_bytes"]) as usize;
    let zeros = answer.len() - unpadded - 3;
    let sizes = [4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288];
    assert!(sizes.contains(&answer.len()) && ANSWER_SIZES == sizes);
    assert_eq!(answer[unpadded..unpadded + 3], (zeros as u32).to_be_bytes()[1..]);
    assert!(answer[unpadded + 3..].iter().all(|b| *b == 0));
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
        ("the length of the padding is not what is there", json!({ "at": unpadded + 2 }), now),
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
        ["malformed", "malformed", "not-supported", "malformed", "malformed", "not-proven", "not-proven", "not-proven"];
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
    let three = |bytes: Vec<u8>| bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
    assert_eq!(take(1), [1], "format");
    let length = two(take(2));
    let open = take(length);
    let length = two(take(2));
    let config = take(length);
    let head = take(8 + 8 + 4 * 32 + 3);
    let length = three(take(3));
    let path = take(length);
    let length = two(take(2));
    let note = String::from_utf8(take(length)).unwrap();
    assert_eq!(take(4), [0; 4], "version");
    assert_eq!(three(take(3)), 80 + 1, "one step of the ladder");
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
    assert_eq!(take(3), [0; 3], "no body");
    assert_eq!(take(3 + 1 + 2), [0; 6], "no providers: no leaves, no results, no elements");
    assert_eq!(take(3), [0; 3], "full");
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

// Answers with a record.

/// Each story, and what a sender is shown at its end.
fn good() -> Vec<Value> {
    let of = |name, life: &Life, shows| {
        let tag = (shows == Shows::Tag).then_some(TAG);
        answer_case(name, &life.answer(shows), ANN, tag, life.world.clock())
    };
    let (first, ann) = (Life::first(), Life::ann());
    let mut long_ago = Life::taken_up_soon();
    long_ago.world.wait(PASSAGE_MS);
    let full = ann.answer_with(Shows::Visible, ann.full(true));
    let withheld = Life::withheld("ann laptop");
    vec![
        of("version 0, no tag presented", &first, Shows::Visible),
        of("version 0, the tag presented", &first, Shows::Tag),
        of("version 1, no tag presented", &ann, Shows::Visible),
        of("version 1, the tag presented: two mappings bear it", &ann, Shows::Tag),
        answer_case("when each mapping was logged", &full, ANN, None, ann.world.clock()),
        of("a newcomer beside an older key", &Life::newcomer(), Shows::Visible),
        of("a claim is open", &Life::claimed("dp.example"), Shows::Visible),
        of("a claim is open, and an objection has extended it", &Life::objected(), Shows::Visible),
        of("a new holder, after a hold and an objection", &Life::taken_up(), Shows::Visible),
        of("a new holder, after a short hold", &Life::taken_up_soon(), Shows::Visible),
        of("a new holder, thirty days later", &long_ago, Shows::Visible),
        of("released by the CSIP, nothing stands", &Life::released(), Shows::Visible),
        of("the first mapping after a release", &Life::after_release(), Shows::Visible),
        of("everything was withdrawn", &Life::vacant(), Shows::Visible),
        of("the first mapping after that", &Life::after_vacancy(), Shows::Visible),
        of("opted out", &Life::opted_out(), Shows::Visible),
        of("detached by its MSP", &Life::detached(), Shows::Visible),
        of("withheld by the DP", &Life::withheld("ann phone"), Shows::Visible),
        of("withheld by the DP, hidden", &withheld, Shows::Tag),
        of("the same, no tag presented", &withheld, Shows::Visible),
        of("erased", &Life::erased(), Shows::Visible),
    ]
}

/// An answer whose first visible slot was changed.
fn with_first_slot(life: &Life, change: impl Fn(&mut OpenedVisible)) -> Answer {
    let mut answer = life.answer(Shows::Visible);
    let body = answer.body.0.as_mut().unwrap();
    let mut visible = body.visible.to_vec();
    change(&mut visible[0]);
    body.visible = List24::new(visible).unwrap();
    answer
}

/// An answer about a tenure whose proof says something else.
fn with_passage(life: &Life, passage: Passage) -> Answer {
    let mut full = life.full(false).unwrap();
    let start = full.tenure.0.take().unwrap().start;
    full.tenure = Optional24(Some(life.with_steps(start, passage)));
    life.answer_with(Shows::Visible, Some(full))
}

/// What a DP that cheats might send, and what was spoilt on the way.
fn bad() -> Vec<Value> {
    let (ann, taken_up, skipped) = (Life::ann(), Life::taken_up(), Life::hold_skipped());
    let (after, withheld, detached) = (Life::after_vacancy(), Life::withheld("ann phone"), Life::detached());
    let said_by_another = detached.answer(Shows::Visible).body.0.unwrap().visible[0].statement.clone();
    let mut denied = ann.answer(Shows::Tag);
    let body = denied.body.0.as_mut().unwrap();
    body.hidden = List24::new(body.hidden[..1].to_vec()).unwrap();
    let mut flipped = taken_up.answer(Shows::Visible).to_padded(0).unwrap();
    // Behind the proof of the tenure stand the three bytes of a list of earlier versions, which is empty.
    let last = taken_up.answer(Shows::Visible).tls_serialized_len() - 1 - 3;
    flipped[last] ^= 1;
    let refused = |why: &str, life: &Life, tag: Option<&str>, answer: &[u8]| {
        let verdict = judge_answer(answer, ANN, tag, &trust_text(), life.world.clock()).unwrap_err();
        json!({
            "why": why, "csi": ANN, "tag": tag, "now_ms": life.world.clock().get(), "answer": hex(answer),
            "verdict": verdict,
        })
    };
    let of = |why, life: &Life, answer: Answer| refused(why, life, None, &answer.to_padded(0).unwrap());
    vec![
        of("a new holder after one day of fourteen", &skipped, skipped.answer(Shows::Visible)),
        of("the same, said to be long ago", &skipped, with_passage(&skipped, Passage::Past)),
        of(
            "the same, said to have followed where nothing stood",
            &skipped,
            with_passage(&skipped, Passage::Vacancy(skipped.opened(2))),
        ),
        of("how the tenure began is left out", &after, after.answer_with(Shows::Visible, None)),
        refused("a byte in the proof of a hold", &taken_up, None, &flipped),
        of(
            "a withheld mapping without the DP's statement",
            &withheld,
            with_first_slot(&withheld, |slot| slot.statement = Optional24(None)),
        ),
        of(
            "a withheld mapping with its MSP's statement in place of the DP's",
            &withheld,
            with_first_slot(&withheld, |slot| slot.statement = said_by_another.clone()),
        ),
        of(
            "a mapping that is served is closed",
            &ann,
            with_first_slot(&ann, |slot| {
                slot.content = Content::Closed(slot.content.digest());
                slot.consent = Optional24(None);
            }),
        ),
        of(
            "a detached mapping without its MSP's statement",
            &detached,
            with_first_slot(&detached, |slot| slot.statement = Optional24(None)),
        ),
        refused("the second mapping with the tag is denied", &ann, Some(TAG), &denied.to_padded(0).unwrap()),
        of("hidden mappings are shown to somebody without their tag", &ann, ann.answer(Shows::All)),
    ]
}

#[test]
fn answers() {
    let file = settle(
        "answers",
        "Answers that open a record, with the trust file and what each shows; and answers that are not believed.",
        &json!({ "trust": trust_text(), "answers": good(), "refused": bad() }),
    );
    for case in list(&file["answers"]) {
        check_answer(case, &file["trust"]);
        // What was opened to one question is refused as the answer to the other.
        let other = if case["tag"].is_null() { Some(TAG) } else { None };
        let verdict = judge_answer(&bytes(&case["answer"]), ANN, other, text(&file["trust"]), millis(&case["now_ms"]));
        assert_eq!(verdict, Err("not-proven"), "{}", case["name"]);
    }
    for case in list(&file["refused"]) {
        let (answer, tag, now) = (bytes(&case["answer"]), case["tag"].as_str(), millis(&case["now_ms"]));
        let verdict = judge_answer(&answer, text(&case["csi"]), tag, text(&file["trust"]), now);
        assert_eq!(verdict, Err("not-proven"), "{}", case["why"]);
        assert_eq!(text(&case["verdict"]), "not-proven", "{}", case["why"]);
    }
    holds_by_hand(list(&file["answers"]), list(&file["refused"]));
}

/// The one inequality of a hold, over the times of heads alone.
fn holds_by_hand(good: &[Value], bad: &[Value]) {
    const DAY_MS: u64 = 86_400_000;
    let kept = |case: &Value| {
        let full = Answer::from_padded(&bytes(&case["answer"])).unwrap().full.0?;
        let Passage::Hold(hold) = full.tenure.0?.passage else { return None };
        let claim = *hold.pending.record.state.claim()?;
        let until = hold.between.last().map_or(Some(claim), |last| last.record.state.claim().copied())?.until;
        let least_days = if claim.ground == Ground::Equal { 14 } else { 3 };
        let over = (hold.pending.at.head.head.time.get() + least_days * DAY_MS).max(until.get());
        Some(over <= hold.before.head.time.get())
    };
    assert_eq!(good.iter().filter_map(kept).collect::<Vec<_>>(), [true, true]);
    let bad = bad.iter().filter(|case| text(&case["why"]).starts_with("a new holder"));
    assert_eq!(bad.filter_map(kept).collect::<Vec<_>>(), [false]);
}
