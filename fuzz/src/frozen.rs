//! Answers that are almost those of the frozen vectors, judged as a sender would: what is accepted says nothing else.

use std::sync::LazyLock;

use serde_json::Value;
use waymark_log::{checkpoint::Origin, time::UnixMillis};
use waymark_mapping::{
    answer::{Answer, Full},
    facts::OpenKnown,
    identifier::Csi,
    names::Tag,
    trust::Trust,
    verify::{Asked, Lookup, Trail, verify},
    wire::{Optional24, decode, encode},
};

/// One answer of the vectors, and how it is judged.
struct Frozen {
    asked: Asked,
    now: UnixMillis,
    bytes: Vec<u8>,
    answer: Answer,
    lookup: Lookup,
}

/// The trust file of the vectors, and the answers that it accepts.
static FROZEN: LazyLock<(Trust, Vec<Frozen>)> = LazyLock::new(|| {
    let file: Value = serde_json::from_str(include_str!("../../tests/vectors/answers.json")).expect("JSON");
    let trust = Trust::parse(file["trust"].as_str().expect("a trust file")).expect("a good one");
    let cases = file["answers"].as_array().expect("a list").iter().map(|case| frozen(case, &trust)).collect();
    (trust, cases)
});

fn frozen(case: &Value, trust: &Trust) -> Frozen {
    let text = |name: &str| case[name].as_str().expect("a text");
    let tag = case["tag"].as_str().map(|t| Tag::parse(t).expect("a tag"));
    let asked = Asked { origin: origin_of(trust), csi: Csi::parse(text("csi")).expect("an identifier"), tag };
    let now = UnixMillis::new(case["now_ms"].as_u64().expect("a time"));
    let bytes = data_encoding::HEXLOWER.decode(text("answer").as_bytes()).expect("hex");
    let answer = Answer::from_padded(&bytes).expect("an answer");
    let lookup = judge(&bytes, &asked, trust, now).expect("it is accepted");
    Frozen { asked, now, bytes, answer, lookup }
}

/// The one log of the vectors' trust file.
fn origin_of(trust: &Trust) -> Origin {
    Origin::new(trust.policy().logs()[0].vkey.name().as_str()).expect("an origin")
}

fn judge(bytes: &[u8], asked: &Asked, trust: &Trust, now: UnixMillis) -> Option<Lookup> {
    verify(bytes, asked, trust, None, now, &mut Trail::default()).ok().map(|v| v.get().clone())
}

/// An answer under a checkpoint of the vectors: accepted only if it is theirs, byte for byte.
pub fn answer(input: &[u8]) -> bool {
    let Ok(answer) = Answer::from_padded(input) else { return false };
    let (trust, cases) = &*FROZEN;
    let mut taken = false;
    for case in cases.iter().filter(|case| case.answer.checkpoint == answer.checkpoint) {
        if judge(input, &case.asked, trust, case.now).is_some() {
            assert!(cases.iter().any(|case| case.bytes == input), "an answer is accepted that nobody made");
            taken = true;
        }
    }
    taken
}

/// What an answer proves of the past, laid into an answer of the vectors: what is accepted then says what that one said, but
/// perhaps not when, and perhaps proves the place of entry 0 where that one did not, or the reverse.
pub fn past(input: &[u8]) -> bool {
    let Ok(full) = decode::<Full>("past", input) else { return false };
    assert_eq!(encode(&full), input, "the past is written differently");
    let (trust, cases) = &*FROZEN;
    let begins = |f: &Full| f.tenure.0.as_ref().map(|t| t.start.commitment);
    let mut taken = false;
    for case in cases {
        let Some(own) = &case.answer.full.0 else { continue };
        if begins(own) != begins(&full) {
            continue;
        }
        let changed = Answer { full: Optional24(Some(full.clone())), ..case.answer.clone() };
        let Some(bytes) = changed.to_padded(0) else { continue };
        if let Some(lookup) = judge(&bytes, &case.asked, trust, case.now) {
            assert_eq!(less(lookup), less(case.lookup.clone()));
            taken = true;
        }
    }
    taken
}

/// A look-up without what the past may leave open: the times that are proved by positions, since another head behind an entry
/// proves a later one, and how entry 0 is known, since its path may be left out.
fn less(mut lookup: Lookup) -> Lookup {
    lookup.log.open = OpenKnown::HeadOnly;
    lookup.mappings.iter_mut().for_each(|m| m.change.logged_by = None);
    if let Some(begun) = &mut lookup.changed_hands {
        begun.time = UnixMillis::new(0);
    }
    lookup
}

/// What stands inside an answer and is read by itself here: the body, and the proof of the past.
pub fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let Ok(answer) = Answer::from_padded(bytes) else { return vec![] };
    let body = answer.body.0.as_ref().map(encode);
    let full = answer.full.0.as_ref().map(encode);
    body.into_iter().chain(full).chain([encode(&answer)]).collect()
}
