//! Receipts whose proofs of tags are not whole, and receipts that do not show the place of the open entry.

use serde_json::{Value, json};
use waymark_mapping::{
    answer::{Receipt, TagProof},
    receipt::ReceiptRefused,
    wire::List24,
};

use crate::files::{list, settle, text};
use crate::receipts::{case_of, judge};
use crate::refused::{refusal, rule};
use crate::vectors_world::{
    TAG,
    life::{Life, Shows, wrong::tag_proof},
    trust_text,
};

const NOT_TO_THE_END: &str = "not proved to their end";
const NOT_PROVED: &str = "a handle of a tag is not proved";
const NOT_OPENED: &str = "of a tag that is not opened";

/// A receipt that is refused for this reason.
fn bad(why: &str, life: &Life, shows: Shows, receipt: &Receipt, says: &str) -> Value {
    let mut case = case_of(why, life, shows, receipt);
    let Err(ReceiptRefused::Rejected(rejected)) = judge(&case, &case, &trust_text()) else {
        panic!("{why}: it is not refused for what it proves");
    };
    let fields = case.as_object_mut().unwrap();
    let why = fields.remove("name").unwrap();
    fields.insert("why".to_owned(), why);
    fields.insert("verdict".to_owned(), json!(refusal(&rejected, says)));
    case
}

fn with_proofs(life: &Life, shows: Shows, proofs: &[TagProof]) -> Receipt {
    let mut receipt = life.receipt(shows);
    receipt.now.body.0.as_mut().unwrap().tag_proofs = List24::new(proofs.to_vec()).unwrap();
    receipt
}

/// All is opened: ordinals 0 and 1 are proved by their slots, 2 is the end.
fn of_all() -> Value {
    let life = Life::ann();
    let (end, beyond) = (tag_proof(1, TAG, 2), tag_proof(1, TAG, 3));
    let of = |proofs: &[TagProof]| with_proofs(&life, Shows::All, proofs);
    let refused = |why, proofs: &[TagProof], says| bad(why, &life, Shows::All, &of(proofs), says);
    let called_the_end = TagProof { ordinal: 2, ..beyond };
    rule(
        "For each tag that is shown, the first ordinal that no slot bears is proved, and nothing else.",
        vec![case_of("the end is proved", &life, Shows::All, &of(&[end]))],
        vec![
            refused("nothing is proved", &[], NOT_TO_THE_END),
            refused("the ordinal behind the end", &[beyond], NOT_TO_THE_END),
            refused("the proof of another ordinal under the end's number", &[called_the_end], NOT_PROVED),
            refused("the proof of another tag", &[tag_proof(1, "chess", 2)], NOT_PROVED),
            refused("the proof of another version", &[tag_proof(0, TAG, 2)], NOT_PROVED),
            refused("an ordinal that a slot proves already", &[tag_proof(1, TAG, 0), end], NOT_TO_THE_END),
            refused("the end, and one more", &[end, beyond], NOT_OPENED),
            refused("the end, and the end of a tag that nobody bears", &[end, tag_proof(1, "chess", 0)], NOT_OPENED),
        ],
    )
}

/// To a newcomer only its own slot is opened, of ordinal 1: ordinal 0 is somebody else's, and proved without its slot.
fn of_own() -> Value {
    let (life, shows) = (Life::hidden_newcomer(), Shows::Own("carol phone"));
    let (other, end) = (tag_proof(1, TAG, 0), tag_proof(1, TAG, 2));
    let of = |proofs: &[TagProof]| with_proofs(&life, shows, proofs);
    let refused = |why, proofs: &[TagProof], says| bad(why, &life, shows, &of(proofs), says);
    rule(
        "Ordinals below the end that no slot shown proves are proved, ascending.",
        vec![case_of("ordinals 0 and 2", &life, shows, &of(&[other, end]))],
        vec![
            refused("ordinal 0 is missing", &[end], NOT_TO_THE_END),
            refused("the end is missing", &[other], NOT_TO_THE_END),
            refused("they descend", &[end, other], NOT_TO_THE_END),
        ],
    )
}

/// A mapping at ordinal 1 of a tag of which ordinal 0 is absent: no sender comes to it.
fn behind_the_end() -> Value {
    let (honest, life) = (Life::first(), Life::behind_the_end());
    rule(
        "A mapping that is shown lies before the end of its tag.",
        vec![case_of("at ordinal 0", &honest, Shows::All, &honest.receipt(Shows::All))],
        vec![bad(
            "at ordinal 1, and ordinal 0 is absent",
            &life,
            Shows::All,
            &life.receipt_behind_the_end(),
            "behind the end",
        )],
    )
}

fn open_entry() -> Value {
    let life = Life::first();
    let mut hidden = life.receipt(Shows::All);
    hidden.now.full.0.as_mut().unwrap().open_path = List24::empty();
    let mut wrong = life.receipt(Shows::All);
    let full = wrong.now.full.0.as_mut().unwrap();
    let mut path = full.open_path.to_vec();
    path.reverse();
    full.open_path = List24::new(path).unwrap();
    rule(
        "A receipt shows that the open entry is entry 0.",
        vec![case_of("its path", &life, Shows::All, &life.receipt(Shows::All))],
        vec![
            bad("no path", &life, Shows::All, &hidden, "the open entry's place is not shown"),
            bad("a path that does not lead to the root", &life, Shows::All, &wrong, "the open entry is not entry 0"),
        ],
    )
}

#[test]
fn receipts_that_are_not_whole() {
    let file = settle(
        "receipts-refused",
        "Receipts with what they prove of tags and of the open entry, and with something missing or something else.",
        &json!({ "trust": trust_text(), "rules": [of_all(), of_own(), behind_the_end(), open_entry()] }),
    );
    for rule in list(&file["rules"]) {
        for case in list(&rule["accepted"]) {
            judge(case, case, text(&file["trust"])).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
        }
        for case in list(&rule["refused"]) {
            let Err(ReceiptRefused::Rejected(rejected)) = judge(case, case, text(&file["trust"])) else {
                panic!("{} is not refused for what it proves", case["why"]);
            };
            assert_eq!(crate::answers::rejected_name(&rejected), text(&case["verdict"]), "{}", case["why"]);
        }
    }
}
