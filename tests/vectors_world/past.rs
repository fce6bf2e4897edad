//! Answers that rest on keys which have retired, and the times in answers: what is refused, next to what is not.

use serde_json::{Value, json};
use waymark_mapping::{
    answer::Answer,
    earlier::{Earlier, SlotThen},
    wire::{List24, Optional24},
};

use crate::files::settle;
use crate::refused::{bad, bad_by, check_answers, good, good_by, rule};
use crate::vectors_world::{
    life::{Life, Shows},
    secret, trust_text,
};

const NOT_IN_THE_LOG: &str = "is not shown to have been in the log before";
const DOES_NOT_OPEN: &str = "does not open to what is shown";
const HAD_RETIRED: &str = "is not the prover's, or that had retired";
const NOBODY_WHO_MAY: &str = "nobody who may has said";

/// Two mappings whose prover's key has retired since: each is shown in an earlier version.
fn earlier_versions() -> Value {
    let life = Life::prover_retired();
    let [first, second] = life.of_the_phone()[..] else { unreachable!("two mappings") };
    let (in_0, in_1) = (life.earlier(0, &[first], false), life.earlier(1, &[second], false));
    let both = life.earlier(1, &[first, second], false);
    let of = |earlier: &[&Earlier]| life.answer_with_earlier(earlier.iter().map(|e| (*e).clone()).collect());
    let refused = |why, earlier: &[&Earlier], says| bad(&format!("earlier versions: {why}"), &life, &of(earlier), says);
    let with_slots = |version: &Earlier, slots| Earlier { slots: List24::new(slots).unwrap(), ..version.clone() };
    let mut reversed = both.slots.to_vec();
    reversed.reverse();
    let not_yet = with_slots(&in_0, vec![life.slot_then(1, &second)]);
    let twice = with_slots(&both, vec![both.slots[0].clone(), both.slots[0].clone(), both.slots[1].clone()]);
    rule(
        "What a key has attested that has retired is shown in an earlier version, each mapping once, and nothing else.",
        vec![
            good("each mapping in the version that added it", &life, &of(&[&in_0, &in_1])),
            good("both in one version", &life, &of(&[&both])),
        ],
        vec![
            refused("none", &[], NOT_IN_THE_LOG),
            refused("one mapping is left out", &[&in_0], NOT_IN_THE_LOG),
            refused("one mapping twice, in two versions", &[&in_0, &both], NOT_IN_THE_LOG),
            refused("they descend", &[&in_1, &in_0], NOT_IN_THE_LOG),
            refused("one shows nothing", &[&with_slots(&in_0, vec![]), &both], NOT_IN_THE_LOG),
            refused("one shows what nobody asked for", &[&both_and_cause(&both)], DOES_NOT_OPEN),
            refused("a mapping in a version that did not have it yet", &[&in_0, &not_yet], DOES_NOT_OPEN),
            refused(
                "a version under the number of another one",
                &[&Earlier { at: in_1.at.clone(), ..in_0.clone() }],
                DOES_NOT_OPEN,
            ),
            refused("slots descend", &[&with_slots(&both, reversed)], DOES_NOT_OPEN),
            refused("a slot is opened twice", &[&twice], DOES_NOT_OPEN),
            refused(
                "a slot with the standing of another mapping",
                &[
                    &with_slots(
                        &in_0,
                        vec![SlotThen {
                            standing: both.slots.iter().find(|s| s.mapping == second).unwrap().standing,
                            ..in_0.slots[0].clone()
                        }],
                    ),
                    &in_1,
                ],
                DOES_NOT_OPEN,
            ),
        ],
    )
}

/// The same version, with what opens its cause: no statement.
fn both_and_cause(version: &Earlier) -> Earlier {
    let salt = crate::vectors_world::life::cause_salt(version.at.version);
    Earlier { cause_salt: Optional24(Some(salt)), ..version.clone() }
}

fn logged_before_it_retired() -> Value {
    let life = Life::changed_after_it_retired();
    let first = life.of_the_phone()[0];
    let of = |version| life.answer_with_earlier(vec![life.earlier(version, &[first], false)]);
    rule(
        "The earlier version was logged before the key retired.",
        vec![good("in version 0", &life, &of(0)), good("in version 1", &life, &of(1))],
        vec![bad("in version 2, logged after the key retired", &life, &of(2), HAD_RETIRED)],
    )
}

/// A trust file that pins the prover's first key, which has retired since.
fn pinned() -> String {
    let key = secret("dp.example").public().to_hex();
    format!("{}[[provider]]\nrole = \"prover\"\ndomain = \"dp.example\"\nkey = \"{key}\"\n", trust_text())
}

fn pinned_and_retired() -> Value {
    let (life, trust) = (Life::changed_after_it_retired(), pinned());
    let first = life.of_the_phone()[0];
    let of = |version| life.answer_with_earlier(vec![life.earlier(version, &[first], false)]);
    let (new_life, new) = by_key("dp.example 2");
    let mut rule = rule(
        "A pin lets no key attest after it has retired, and lets no other key in.",
        vec![good_by(&trust, "logged before the pinned key retired", &life, &of(0))],
        vec![
            bad_by(&trust, "logged after the pinned key retired", &life, &of(2), HAD_RETIRED),
            bad_by(&trust, "attested by the key that is valid, and not pinned", &new_life, &new, "than the one pinned"),
        ],
    );
    rule["trust"] = json!(trust);
    rule
}

/// A mapping of version 2 by a key of the prover, and the answer that shows it.
fn by_key(key: &'static str) -> (Life, Answer) {
    let life = Life::issued_after_it_retired(key);
    let [first, second, third] = life.of_the_phone()[..] else { unreachable!("three mappings") };
    let mut earlier = vec![life.earlier(0, &[first], false), life.earlier(1, &[second], false)];
    if key == "dp.example" {
        earlier.push(life.earlier(2, &[third], false));
    }
    let answer = life.answer_with_earlier(earlier);
    (life, answer)
}

fn attested_after_it_retired() -> Value {
    let ((one, by_new), (other, by_old)) = (by_key("dp.example 2"), by_key("dp.example"));
    rule(
        "A key that has retired attests nothing that is new.",
        vec![good("a mapping of version 2 by the prover's new key", &one, &by_new)],
        vec![bad("a mapping of version 2 by the key that had retired", &other, &by_old, HAD_RETIRED)],
    )
}

fn statement_of_msp() -> Value {
    let (life, late) = (Life::detached_then_retired(), Life::retired_then_detached());
    let of = |life: &Life, earlier| life.answer_with_earlier(earlier);
    let stated = life.earlier(2, &[], true);
    let bare = Earlier { cause_salt: Optional24(None), ..stated.clone() };
    rule(
        "A statement by an MSP's key that has retired is shown to have made its version before.",
        vec![good("the version that the statement made", &life, &of(&life, vec![stated.clone()]))],
        vec![
            bad("no earlier version", &life, &of(&life, vec![]), NOT_IN_THE_LOG),
            bad("the salt of its cause is left out", &life, &of(&life, vec![bare]), NOT_IN_THE_LOG),
            bad("a version that it did not make", &life, &of(&life, vec![life.earlier(1, &[], true)]), DOES_NOT_OPEN),
            bad(
                "a statement that was logged after the key retired",
                &late,
                &of(&late, vec![late.earlier(2, &[], true)]),
                NOBODY_WHO_MAY,
            ),
        ],
    )
}

fn statement_of_dp() -> Value {
    let life = Life::withheld_then_retired();
    let shown = life.of_the_phone()[1];
    let of = |earlier| life.answer_with_earlier(earlier);
    let (mapping, stated) = (life.earlier(1, &[shown], false), life.earlier(2, &[], true));
    let elsewhere = Earlier { cause_salt: stated.cause_salt.clone(), ..mapping.clone() };
    rule(
        "A statement about a closed mapping by a retired key of the DP is shown to have made its version before.",
        vec![good(
            "the other mapping in version 1, the statement in version 2",
            &life,
            &of(vec![mapping.clone(), stated]),
        )],
        vec![
            bad("the statement's version is left out", &life, &of(vec![mapping]), NOT_IN_THE_LOG),
            bad("the statement's salt in another version", &life, &of(vec![elsewhere]), DOES_NOT_OPEN),
        ],
    )
}

fn release() -> Value {
    let (before, after) = (Life::released_and_retired(false), Life::released_and_retired(true));
    rule(
        "A release by a CSIP's key that has retired was logged before.",
        vec![good("the key retired after the release", &before, &before.answer(Shows::Visible))],
        vec![bad(
            "the key had retired when the release was logged",
            &after,
            &after.answer(Shows::Visible),
            "is not the CSIP's, or that had retired",
        )],
    )
}

#[test]
fn retired_keys() {
    let rules = [
        earlier_versions(),
        logged_before_it_retired(),
        pinned_and_retired(),
        attested_after_it_retired(),
        statement_of_msp(),
        statement_of_dp(),
        release(),
    ];
    let file = settle(
        "answers-retired-keys",
        "Answers that rest on keys which have retired, with the earlier versions that show what was in the log.",
        &json!({ "trust": trust_text(), "rules": rules }),
    );
    check_answers(&file);
}

// Times.

const DATED_AHEAD: &str = "dated after the head it is logged under";
const DO_NOT_ASCEND: &str = "do not ascend";

/// The same life with one time at its latest, and one millisecond later.
fn dates(words: &str, what: &str, life: impl Fn(u64) -> Life) -> Value {
    let (latest, later) = (life(0), life(1));
    rule(
        words,
        vec![good(&format!("{what} at the latest time"), &latest, &latest.answer(Shows::Visible))],
        vec![bad(&format!("{what} one millisecond later"), &later, &later.answer(Shows::Visible), DATED_AHEAD)],
    )
}

/// An answer with the places of all the versions that its standings name.
fn in_full(life: &Life) -> Answer {
    life.answer_with(Shows::Visible, life.full(true))
}

/// The same life with the later head one millisecond later, and at other times.
fn heads(words: &str, life: impl Fn(i64) -> Life, refused: &[(&str, i64)]) -> Value {
    let ascend = life(1);
    let refused = refused.iter().map(|(why, ms)| {
        let life = life(*ms);
        bad(why, &life, &in_full(&life), DO_NOT_ASCEND)
    });
    rule(words, vec![good("one millisecond later", &ascend, &in_full(&ascend))], refused.collect())
}

#[test]
fn times() {
    let skew = 30_000;
    let rules = [
        dates("An attestation is dated at most 30 s after the record.", "the attestation", |ms| {
            Life::attested_ahead(skew + ms)
        }),
        dates("A statement is dated at most 30 s after the record.", "the statement", |ms| {
            Life::stated_ahead(skew + ms)
        }),
        dates("A record is not dated after its head.", "the record", |ms| {
            Life::with_dates(|state| state.time = state.time.plus_ms(800 + ms))
        }),
        dates("A tenure does not begin after the record.", "the beginning", |ms| {
            Life::with_dates(|state| state.start.time = state.time.plus_ms(ms))
        }),
        dates("A mapping does not stand since a time after the record.", "the standing", |ms| {
            Life::with_dates(|state| state.held[0].standing.since = state.time.plus_ms(ms))
        }),
        dates("A claim is not dated after its record.", "the claim", Life::claimed_ahead),
        heads(
            "The head of the checkpoint is later than the one behind a version that is shown.",
            Life::last_head_apart,
            &[("of the same time", 0), ("one millisecond earlier", -1)],
        ),
        heads("Heads that are shown ascend in time with their index.", Life::heads_apart, &[("of the same time", 0)]),
    ];
    let file = settle(
        "answers-times",
        "Answers in which a time is as late as it may be, or heads ascend as little as they may; and a bit more.",
        &json!({ "trust": trust_text(), "rules": rules }),
    );
    check_answers(&file);
}

/// "None: there is nothing more to prove": one answer has one form.
#[test]
fn a_proof_that_proves_nothing_is_not_there() {
    let (none, life) = (List24::empty(), Life::ann());
    let full = waymark_mapping::answer::Full {
        open_path: none,
        since: List24::empty(),
        tenure: Optional24(None),
        earlier: List24::empty(),
    };
    bad("empty", &life, &life.answer_with(Shows::Visible, Some(full)), "proves nothing");
}

/// How a mapping stands is of versions that are there, and nothing is stated of one that is served.
#[test]
fn a_standing_names_versions_that_are_there() {
    let stated = Life::with_dates(|state| state.held[0].standing.stated_version = 3);
    bad("stated", &stated, &stated.answer(Shows::Visible), "nobody has said so");
    let ahead = Life::with_dates(|state| state.held[0].standing.since_version = 7);
    bad("ahead", &ahead, &ahead.answer(Shows::Visible), "a version that is not there");
}
