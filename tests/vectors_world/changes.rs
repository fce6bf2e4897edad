//! The rules of changes: events that are refused over a record, next to those that are not.

use serde_json::{Value, json};
use waymark_mapping::{
    event::{AuthorityRole, Event, EventKind},
    mapping::{Attestation, Mapping},
    rules::{Refused, SKEW_MS},
    signed::UNSIGNED,
    wire::{decode, encode},
};

use crate::files::{bytes, hex, list, millis, settle, text};
use crate::records;
use crate::refused::kebab;
use crate::vectors_world::{
    TAG, domain,
    life::{
        Life,
        disputed::{Change, for_a_view, for_somebody_else, in_role, recipient, swapped},
    },
    origin, signed,
};

/// A rule over one record.
struct Rule {
    words: &'static str,
    life: Life,
    accepted: Vec<(&'static str, Change)>,
    refused: Vec<(&'static str, Change, Refused)>,
}

fn case(name: (&str, &str), change: &Change) -> Value {
    json!({
        name.0: name.1, "kind": change.event.tbs.kind as u8, "event": hex(encode(&change.event)),
        "mappings": change.added.iter().map(|m| hex(encode(m))).collect::<Vec<_>>(), "time_ms": change.now.get(),
        "stricter_provers": change.stricter.iter().map(|d| d.as_str()).collect::<Vec<_>>(),
    })
}

fn name_of(refused: Refused) -> String {
    match refused {
        Refused::Mapping(why) => format!("mapping-{}", kebab(&format!("{why:?}"))),
        other => kebab(&format!("{other:?}")),
    }
}

impl Rule {
    fn json(&self) -> Value {
        let accepted = self.accepted.iter().map(|(name, change)| {
            let state = self.life.judge(change).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut case = case(("name", name), change);
            let claim = state.state.claim().map(|c| json!({ "ground": c.ground as u8, "until_ms": c.until.get() }));
            case["after"] = json!({
                "version": state.version, "tenure": state.tenure, "claim": claim,
                "mappings": state.digests().iter().map(|d| d.to_hex()).collect::<Vec<_>>(),
            });
            case
        });
        let refused = self.refused.iter().map(|(why, change, verdict)| {
            assert_eq!(self.life.judge(change).as_ref().err(), Some(verdict), "{why}");
            let mut case = case(("why", why), change);
            case["verdict"] = json!(name_of(*verdict));
            case
        });
        json!({
            "rule": self.words, "before": records::version("before", self.life.last()),
            "accepted": accepted.collect::<Vec<_>>(), "refused": refused.collect::<Vec<_>>(),
        })
    }
}

// What has lapsed stays its key's.

fn removal(life: &Life, kind: EventKind, removed: &[waymark_log::hash::Hash], by: &[&str]) -> Change {
    let tbs = life.names(kind, &[], removed);
    let authorities = by.iter().map(|app| recipient(&tbs, app, None)).collect();
    life.proposal(tbs, authorities, vec![])
}

fn withdrawal_of_lapsed() -> Rule {
    let life = Life::lapsed();
    let mut removed = life.of("ann phone");
    let own = removal(&life, EventKind::Withdraw, &removed, &["ann phone"]);
    removed.extend(life.of("carol phone"));
    let of = |by: &[&str]| removal(&life, EventKind::Withdraw, &removed, by);
    Rule {
        words: "A mapping of another key that has lapsed is not withdrawn without that key.",
        accepted: vec![("its key signs, too", of(&["ann phone", "carol phone"])), ("the own ones alone", own)],
        refused: vec![("its key does not sign", of(&["ann phone"]), Refused::Lapsed)],
        life,
    }
}

fn erasure_of_lapsed() -> Rule {
    let life = Life::lapsed();
    let of = |by: &[&str]| removal(&life, EventKind::Erase, &life.all(), by);
    Rule {
        words: "A record is not erased without the keys of all mappings in it, lapsed or not.",
        accepted: vec![("all keys sign", of(&["ann phone", "ann laptop", "carol phone"]))],
        refused: vec![
            ("the key of one that has lapsed does not sign", of(&["ann phone", "ann laptop"]), Refused::Lapsed),
            (
                "one that has lapsed is not named",
                removal(
                    &life,
                    EventKind::Erase,
                    &[life.of("ann phone"), life.of("ann laptop")].concat(),
                    &["ann phone", "ann laptop"],
                ),
                Refused::Shape,
            ),
        ],
        life,
    }
}

fn erasure_of_standing() -> Rule {
    let life = Life::settled();
    let of = |by: &[&str]| removal(&life, EventKind::Erase, &life.all(), by);
    Rule {
        words: "A mapping of another key that has not lapsed and is not new is not erased without that key.",
        accepted: vec![("all keys sign", of(&["ann phone", "ann laptop", "carol phone"]))],
        refused: vec![("one does not", of(&["ann phone", "ann laptop"]), Refused::NotAuthorised)],
        life,
    }
}

// Possession.

fn removal_of_new() -> Rule {
    let life = Life::newcomer();
    let removed = life.of("carol phone");
    let tbs = life.names(EventKind::Withdraw, &[], &removed);
    let with =
        |proof: Option<Attestation>| life.proposal(tbs.clone(), vec![recipient(&tbs, "ann phone", proof)], vec![]);
    let good = life.possession("ann phone", 0, |_| {});
    let signed_for_one = recipient(&tbs, "ann phone", Some(good.clone()));
    let carried = |proof| life.proposal(tbs.clone(), vec![swapped(&signed_for_one, proof)], vec![]);
    let since = life.last().state.held.iter().find(|h| h.standing.newcomer.0).unwrap().standing.since;
    let other = life.possession("ann phone", 0, |p| p.nonce[0] ^= 1);
    let unsigned = Attestation { sig: UNSIGNED, ..good.clone() };
    let none = Refused::NotAuthorised;
    Rule {
        words: "A mapping that is new is removed by a key that came before it and shows possession after it.",
        accepted: vec![("possession is shown", with(Some(good.clone())))],
        refused: vec![
            ("no possession", with(None), none),
            ("the attestation is not signed", with(Some(unsigned)), none),
            ("the attestation is signed by another key", with(Some(signed(good.clone(), "chat.example"))), none),
            ("possession by another key", with(Some(life.possession("carol phone", 0, |_| {}))), none),
            ("possession of another identifier", with(Some(life.possession("ann phone", 0, for_somebody_else))), none),
            ("possession for another tenure", with(Some(life.possession("ann phone", 1, |_| {}))), none),
            ("possession for a view", with(Some(life.possession("ann phone", 0, for_a_view))), none),
            ("possession as old as the mapping", with(Some(life.possession("ann phone", 0, |p| p.time = since))), none),
            (
                "possession that has expired",
                with(Some(life.possession("ann phone", 0, |p| p.expiry = life.now()))),
                none,
            ),
            ("possession that was put in after the signature", carried(Some(other)), Refused::Signature),
            ("possession that was taken out after the signature", carried(None), Refused::Signature),
        ],
        life,
    }
}

fn claim() -> Rule {
    let life = Life::ann();
    let tbs = life.names(EventKind::NewHolderPending, &[], &[]);
    let by = |proof: Attestation| life.proposal(tbs.clone(), vec![recipient(&tbs, "carol phone", Some(proof))], vec![]);
    let made = life.now().plus_ms(200);
    let dated = |ms| by(life.possession("carol phone", 1, |p| p.time = made.plus_ms(ms)));
    let strict = |stricter: &[&str]| {
        let proof = life.possession("carol phone", 1, |p| {
            p.prover = domain("strict.example");
            p.prover_key = crate::vectors_world::secret("strict.example").public();
        });
        let change = by(signed(proof, "strict.example"));
        Change { stricter: stricter.iter().map(|d| domain(d)).collect(), ..change }
    };
    Rule {
        words: "A claim shows possession for the next tenure; whose proof shortens its hold says the policy document.",
        accepted: vec![
            ("for the next tenure", by(life.possession("carol phone", 1, |_| {}))),
            ("dated 30 s ahead", dated(SKEW_MS)),
            ("by a prover that is listed as stricter: the ground is 2", strict(&["strict.example"])),
            ("by a prover that is not listed: the ground is 1", strict(&[])),
        ],
        refused: vec![
            ("for the tenure that stands", by(life.possession("carol phone", 0, |_| {})), Refused::NotAuthorised),
            ("by another key", by(life.possession("ann phone", 1, |_| {})), Refused::NotAuthorised),
            ("dated a millisecond further ahead", dated(SKEW_MS + 1), Refused::NotAuthorised),
        ],
        life,
    }
}

fn stricter_prover() -> Rule {
    let life = Life::waited_strict();
    let of = |prover, stricter: &[&str]| {
        let added = vec![life.taking_up(prover)];
        let tbs = life.names(EventKind::NewHolder, &added, &[]);
        let by = recipient(&tbs, "carol phone", None);
        Change { stricter: stricter.iter().map(|d| domain(d)).collect(), ..life.proposal(tbs, vec![by], added) }
    };
    Rule {
        words: "A claim of ground 2 is taken up with possession shown to a prover that the policy document lists still.",
        accepted: vec![("it is listed", of("strict.example", &["strict.example"]))],
        refused: vec![
            ("it is not listed any more", of("strict.example", &[]), Refused::Weaker),
            ("another one is listed", of("strict.example", &["dp.example"]), Refused::Weaker),
            ("possession shown to another prover", of("dp.example", &["strict.example"]), Refused::Weaker),
        ],
        life,
    }
}

fn hold() -> Rule {
    let life = Life::waited();
    let added = vec![life.taking_up("dp.example")];
    let tbs = life.names(EventKind::NewHolder, &added, &[]);
    let until = life.last().state.state.claim().unwrap().until;
    let at = |ms: u64, by: &str| {
        let change = life.proposal(tbs.clone(), vec![recipient(&tbs, by, None)], added.clone());
        Change { now: waymark_log::time::UnixMillis::new(until.get() - 1 + ms), ..change }
    };
    Rule {
        words: "A claim is taken up by its key, when its hold is over.",
        accepted: vec![("at its end", at(1, "carol phone"))],
        refused: vec![
            ("a millisecond before", at(0, "carol phone"), Refused::Held),
            ("by another key", at(1, "ann phone"), Refused::NoClaim),
        ],
        life,
    }
}

// RotateKey.

fn rotation() -> Rule {
    let life = Life::first();
    let removed = life.of("ann laptop");
    let of = |new: Mapping, removed: &[waymark_log::hash::Hash], by: &[&str]| {
        let tbs = life.names(EventKind::RotateKey, std::slice::from_ref(&new), removed);
        let authorities = by.iter().map(|app| recipient(&tbs, app, None)).collect();
        life.proposal(tbs, authorities, vec![new])
    };
    let both = ["ann laptop", "ann laptop 2"];
    let good = || life.under_the_second_key(|_| {});
    let tbs = life.names(EventKind::RotateKey, &[good()], &removed);
    let mixed = |role| {
        let authorities = vec![recipient(&tbs, "ann laptop", None), in_role(&tbs, role, "ann laptop 2")];
        life.proposal(tbs.clone(), authorities, vec![good()])
    };
    let visible = life.of("ann phone");
    Rule {
        words: "A key gives way to another one: both sign as recipients, and the new mapping says what the old one said.",
        accepted: vec![("both sign", of(good(), &removed, &both))],
        refused: vec![
            ("the old key does not sign", of(good(), &removed, &["ann laptop 2"]), Refused::NotAuthorised),
            ("the new key does not sign", of(good(), &removed, &["ann laptop"]), Refused::NotAuthorised),
            ("the new key signs as an MSP", mixed(AuthorityRole::Msp), Refused::Signature),
            ("the new key signs as the DP", mixed(AuthorityRole::Dp), Refused::Signature),
            ("the new key signs as a CSIP", mixed(AuthorityRole::Csip), Refused::Signature),
            (
                "at another MSP",
                of(life.under_the_second_key(|w| w.at("wire.example")), &removed, &both),
                Refused::Shape,
            ),
            (
                "to a key that has a mapping here",
                of(life.under_the_second_key(|w| w.by("ann phone")), &removed, &["ann laptop", "ann phone"]),
                Refused::Shape,
            ),
            ("in place of another key's mapping", of(good(), &visible, &["ann phone", "ann laptop 2"]), Refused::Shape),
        ],
        life,
    }
}

// Times of what is added.

fn issue() -> Rule {
    let life = Life::ann();
    let of = |ahead_ms, later_ms| {
        let added = vec![life.issued(200 + ahead_ms)];
        let tbs = life.names(EventKind::Issue, &added, &[]);
        let by = recipient(&tbs, "ann phone", None);
        let change = life.proposal(tbs, vec![by], added);
        Change { now: change.now.plus_ms(later_ms), ..change }
    };
    // An attestation serves for an hour, from the last head on.
    let hour = 3_600_000 - 200;
    Rule {
        words: "What is added was attested at most 30 s ahead, and is added before the attestation expires.",
        accepted: vec![("dated 30 s ahead", of(SKEW_MS, 0)), ("a millisecond before it expires", of(0, hour - 1))],
        refused: vec![
            ("dated a millisecond further ahead", of(SKEW_MS + 1, 0), Refused::Time),
            ("when it has expired", of(0, hour), Refused::Time),
        ],
        life,
    }
}

#[test]
fn events_refused() {
    // The stories speak of hidden mappings with one tag.
    assert_eq!(Life::first().last().state.held[1].mapping.tags.as_exact().map(|t| t.expose()), Some(TAG));
    let rules = [
        withdrawal_of_lapsed(),
        erasure_of_lapsed(),
        erasure_of_standing(),
        removal_of_new(),
        claim(),
        stricter_prover(),
        hold(),
        rotation(),
        issue(),
    ];
    let file = settle(
        "events-refused",
        "Events over a record: those that its rules allow, and those that they refuse, with the reason.",
        &json!({ "origin": origin().as_str(), "rules": rules.iter().map(Rule::json).collect::<Vec<_>>() }),
    );
    for (rule, case) in rules.iter().zip(list(&file["rules"])) {
        let read = |case: &Value| {
            let event: Event = decode("event", &bytes(&case["event"])).unwrap();
            let mapping = |m: &Value| decode::<Mapping>("mapping", &bytes(m)).unwrap();
            let added = case["mappings"].as_array().unwrap().iter().map(mapping).collect();
            let stricter = case["stricter_provers"].as_array().unwrap().iter().map(|d| domain(text(d))).collect();
            rule.life.judge(&Change { event, added, now: millis(&case["time_ms"]), stricter })
        };
        for case in list(&case["accepted"]) {
            assert!(read(case).is_ok(), "{}", case["name"]);
        }
        for case in list(&case["refused"]) {
            assert_eq!(read(case).map_err(name_of), Err(text(&case["verdict"]).to_owned()), "{}", case["why"]);
        }
    }
}
