//! Rules, each with what is accepted and, next to it, what is refused for that rule and for nothing else.
//!
//! A file says only the type of a refusal. That it is refused for the reason that `why` names, and not for another one of
//! the same type, is checked here, by the words that this program has for it.

use serde_json::{Value, json};
use waymark_log::time::UnixMillis;
use waymark_mapping::{
    answer::Answer,
    trust::Trust,
    verify::{Asked, Lookup, Rejected, Trail, verify},
};

use crate::answers::{answer_case_by, check_answer, rejected_name};
use crate::files::{bytes, hex, list, millis, text};
use crate::vectors_world::{ANN, csi, life::Life, trust_text};

/// A rule, what keeps it, and what breaks it.
pub(crate) fn rule(words: &str, accepted: Vec<Value>, refused: Vec<Value>) -> Value {
    json!({ "rule": words, "accepted": accepted, "refused": refused })
}

/// The type of a refusal, by the name that it has in the code: `OtherChange` is `other-change`.
pub(crate) fn kebab(debug: &str) -> String {
    let mut name = String::new();
    for (i, c) in debug.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            name.push('-');
        }
        name.extend(c.to_lowercase());
    }
    name
}

/// A refusal of this type, for this reason.
pub(crate) fn refusal(rejected: &Rejected, says: &str) -> &'static str {
    assert!(rejected.to_string().contains(says), "{says:?} was expected, and not: {rejected}");
    rejected_name(rejected)
}

fn judged(answer: &[u8], trust: &str, now: UnixMillis) -> Result<Lookup, Rejected> {
    let asked = Asked { origin: crate::vectors_world::origin(), csi: csi(ANN), tag: None };
    verify(answer, &asked, &Trust::parse(trust).unwrap(), None, now, &mut Trail::default()).map(|v| v.get().clone())
}

/// An answer about Ann that is believed.
pub(crate) fn good(name: &str, life: &Life, answer: &Answer) -> Value {
    good_by(&trust_text(), name, life, answer)
}

/// One that is not, for the reason that `says` has words of.
pub(crate) fn bad(why: &str, life: &Life, answer: &Answer, says: &str) -> Value {
    bad_by(&trust_text(), why, life, answer, says)
}

/// The same by another trust file, which the rule bears.
pub(crate) fn good_by(trust: &str, name: &str, life: &Life, answer: &Answer) -> Value {
    answer_case_by(trust, name, answer, ANN, None, life.world.clock())
}

pub(crate) fn bad_by(trust: &str, why: &str, life: &Life, answer: &Answer, says: &str) -> Value {
    let (padded, now) = (answer.to_padded(0).unwrap(), life.world.clock());
    let verdict = refusal(&judged(&padded, trust, now).unwrap_err(), says);
    json!({ "why": why, "csi": ANN, "tag": null, "now_ms": now.get(), "answer": hex(&padded), "verdict": verdict })
}

/// Judges a file of rules about answers from its bytes.
pub(crate) fn check_answers(file: &Value) {
    for rule in list(&file["rules"]) {
        let trust = if rule["trust"].is_null() { &file["trust"] } else { &rule["trust"] };
        for case in list(&rule["accepted"]) {
            check_answer(case, trust);
        }
        for case in list(&rule["refused"]) {
            let rejected = judged(&bytes(&case["answer"]), text(trust), millis(&case["now_ms"])).unwrap_err();
            assert_eq!(rejected_name(&rejected), text(&case["verdict"]), "{}", case["why"]);
        }
    }
}
