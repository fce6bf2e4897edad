//! What a record is made of: attestations, mappings, consents, and records with everything that opens them. The bytes of a
//! record are put together by hand, from the page's layouts and HMAC alone.

use serde_json::{Value, json};
use waymark_log::key::{Key, Signature};
use waymark_mapping::{
    commitment::Salt,
    event::Cause,
    label::verify_handle,
    mapping::{Attestation, Consent, Mapping},
    names::Tag,
    record::{Contents, HIDDEN_SLOTS, Record, RecordState, Standing},
    rules::Held,
    signed::{SignedStruct, message},
    vrf::VrfProof,
    wire::{decode, encode},
};

use crate::{
    files::{array, bytes, hash, hex, key, list, number, settle, short, text},
    hand,
    vectors_world::{
        ANN, TAG, csi,
        life::{
            Consented, Life, Version, cause_salt, contents_salt, handle, hidden_at, hidden_salt, record_opening,
            visible_salt,
        },
        origin, secret, seed, vrf,
    },
};

fn statement<T: SignedStruct>(name: &str, of: &T, by: &Key, context: &str) -> Value {
    let fields = of.fields();
    json!({
        "name": name, "bytes": hex(encode(of)), "by": by.to_hex(), "context": context,
        "message": hex(message(context, &origin(), &fields)),
    })
}

/// Attestation, mapping and consent for each mapping that a story has had.
fn statements(consents: &[Consented]) -> Vec<Value> {
    let mut statements = vec![];
    for Consented { name, mapping, consent } in consents {
        let prover = &mapping.attestation.prover_key;
        let attestation = format!("attestation, {name}");
        statements.push(statement(&attestation, &mapping.attestation, prover, "waymark/1 attestation prover"));
        let by = &mapping.recipient;
        statements.push(statement(&format!("mapping, {name}"), mapping, by, "waymark/1 mapping recipient"));
        let mut signed = statement(&format!("consent, {name}"), consent, &consent.msp_key, "waymark/1 consent msp");
        let salt = consents.iter().find(|c| c.name == *name).map(Consented::salt).unwrap();
        signed["salt"] = json!(hex(salt.0));
        signed["mapping"] = json!(hex(encode(mapping)));
        statements.push(signed);
    }
    statements
}

fn standing(of: &Standing) -> Value {
    json!({
        "status": of.status as u8, "reason": of.reason, "stated_version": of.stated_version, "newcomer": u8::from(of.newcomer.0),
        "since_version": of.since_version, "since_ms": of.since.get(),
    })
}

fn claim(state: &RecordState) -> Value {
    state.claim().map_or(Value::Null, |c| {
        json!({
            "key": c.key.to_hex(), "version": c.version, "time_ms": c.time.get(), "until_ms": c.until.get(),
            "ground": c.ground as u8, "objected": u8::from(c.objected.0),
        })
    })
}

const fn state_number(state: &RecordState) -> u8 {
    match state {
        RecordState::Standing => 1,
        RecordState::Contested(_) => 2,
        RecordState::Erased => 3,
        RecordState::Vacant => 4,
    }
}

/// One version: its fields, and what opens each of its digests.
pub(crate) fn version(name: &str, of: &Version) -> Value {
    let (state, number) = (&of.state, of.state.version);
    let held = |h: &Held| json!({ "standing": standing(&h.standing), "mapping": hex(encode(&h.mapping)) });
    let visible = state.held.iter().filter(|h| !h.is_hidden()).enumerate().map(|(i, h)| {
        let mut slot = held(h);
        slot["salt"] = json!(hex(visible_salt(number, i).0));
        slot
    });
    let hidden = (0..HIDDEN_SLOTS).map(|slot| {
        let found = hidden_at(state, slot);
        let mut shown = found.map_or(json!({ "standing": null, "mapping": null }), |(_, h)| held(h));
        shown["salt"] = json!(hex(hidden_salt(number, slot).0));
        shown["handle"] = json!(hex(of.contents.hidden.0[slot].handle.0));
        shown["handle_proof"] = json!(found.map(|(ordinal, _)| {
            let (proof, _) = handle(number, ordinal);
            let input = hex(handle_input_by_hand(ANN, number, TAG, ordinal));
            json!({ "tag": TAG, "ordinal": ordinal, "input": input, "proof": hex(proof.as_bytes()) })
        }));
        shown
    });
    let start = &state.start;
    let domain = start.domain.get();
    json!({
        "name": name, "csi": ANN, "version": number, "commitment": of.commitment.to_hex(),
        "opening": hex(record_opening(number).0), "record": hex(encode(&of.record)),
        "time_ms": state.time.get(), "tenure": state.tenure, "state": state_number(&state.state),
        "claim": claim(&state.state), "contents_salt": hex(contents_salt(number).0),
        "contents": hex(encode(&of.contents)),
        "start": {
            "version": start.version, "time_ms": start.time.get(), "how": start.how as u8,
            "domain": domain.as_ref().map_or("", |d| d.as_str()),
        },
        "visible": visible.collect::<Vec<_>>(), "hidden": hidden.collect::<Vec<_>>(),
        "cause_salt": hex(cause_salt(number).0), "cause": hex(encode(&of.cause)),
    })
}

#[test]
fn records() {
    let life = Life::ann();
    let names = ["ann phone", "ann laptop", "ann laptop 2", "carol phone"];
    let providers = ["dp.example", "chat.example", "wire.example", "numbers.example"];
    let keys = names.iter().chain(&providers);
    let keys = keys.map(|n| json!({ "name": n, "seed": hex(seed(n)), "public": secret(n).public().to_hex() }));
    let versions = [
        version("one visible and one hidden mapping", &life.versions[0]),
        version("two of each", &life.versions[1]),
        version("a newcomer's mapping beside them", Life::newcomer().last()),
        version("claimed", Life::claimed("dp.example").last()),
        version("the claim extended by an objection", Life::objected().last()),
        version("a new holder", Life::taken_up().last()),
        version("released", Life::released().last()),
        version("a mapping after the release", Life::after_release().last()),
        version("a mapping detached", Life::detached().last()),
        version("a mapping withheld", Life::withheld("ann phone").last()),
        version("vacant", Life::vacant().last()),
        version("erased", Life::erased().last()),
    ];
    let file = settle(
        "records",
        "Attestations, mappings, consents and records, with what is signed and what opens what.",
        &json!({
            "origin": origin().as_str(),
            "vrf_public": vrf().public().to_hex(),
            "keys": keys.collect::<Vec<_>>(),
            "statements": statements(life.consents()),
            "versions": versions,
        }),
    );
    for case in list(&file["statements"]) {
        check_statement(case, text(&file["origin"]));
    }
    for case in list(&file["versions"]) {
        record_by_hand(case);
        check_handles(case, &key(&file["vrf_public"]));
        let record: Record = decode("record", &bytes(&case["record"])).unwrap();
        assert_eq!(u64::from(state_number(&record.state)), number(&case["state"]));
        assert_eq!(claim(&record.state), case["claim"]);
        let contents: Contents = decode("contents", &bytes(&case["contents"])).unwrap();
        assert_eq!(contents.visible.len(), case["visible"].as_array().unwrap().len());
        let cause: Cause = decode("cause", &bytes(&case["cause"])).unwrap();
        assert_eq!(cause.event.tbs.csi, csi(text(&case["csi"])));
    }
}

fn handle_input_by_hand(who: &str, version: u32, tag: &str, ordinal: u8) -> Vec<u8> {
    let (context, csi) = (hand::opaque8(b"waymark/1 tag"), hand::opaque8(who.as_bytes()));
    [&[0][..], &context, &csi, &version.to_be_bytes(), &hand::opaque8(tag.as_bytes()), &[ordinal]].concat()
}

fn check_statement(case: &Value, origin_text: &str) {
    let (of, by, name) = (bytes(&case["bytes"]), key(&case["by"]), text(&case["name"]));
    // The signature stands behind its algorithm's number and its length.
    let (fields, signature) = (&of[..of.len() - 68], &of[of.len() - 64..]);
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

/// A record from its fields to its commitment.
fn record_by_hand(case: &Value) {
    let name = text(&case["name"]);
    let visible: Vec<u8> = case["visible"].as_array().unwrap().iter().flat_map(visible_digest_by_hand).collect();
    let hidden: Vec<u8> = list(&case["hidden"]).iter().flat_map(hidden_slot_by_hand).collect();
    assert_eq!(hidden.len(), 8 * 40, "{name}: eight slots, used or not");
    let start = &case["start"];
    let contents = [
        &[hand::FORMAT][..],
        &hand::uint32(short(&start["version"])),
        &hand::uint64(number(&start["time_ms"])),
        &[number(&start["how"]) as u8],
        &hand::opaque8(text(&start["domain"]).as_bytes()),
        &hand::list24(&visible),
        &hidden,
        &hand::hmac(&bytes(&case["cause_salt"]), &bytes(&case["cause"])),
    ];
    assert_eq!(contents.concat(), bytes(&case["contents"]), "{name}");
    let record = [
        &[hand::FORMAT][..],
        &hand::uint64(number(&case["time_ms"])),
        &hand::uint32(short(&case["tenure"])),
        &[number(&case["state"]) as u8],
        &claim_by_hand(&case["claim"]),
        &hand::hmac(&bytes(&case["contents_salt"]), &contents.concat()),
    ]
    .concat();
    assert_eq!(record, bytes(&case["record"]), "{name}");
    // FORMATS.md gives these lengths.
    assert_eq!(record.len(), if case["claim"].is_null() { 46 } else { 46 + 58 }, "{name}");
    let committed = hand::commitment(&bytes(&case["opening"]), text(&case["csi"]), short(&case["version"]), &record);
    assert_eq!(committed, hash(&case["commitment"]).as_bytes(), "{name}");
}

fn claim_by_hand(claim: &Value) -> Vec<u8> {
    if claim.is_null() {
        return vec![];
    }
    let byte = |name: &str| number(&claim[name]) as u8;
    [
        &hand::ed25519(&bytes(&claim["key"]))[..],
        &hand::uint32(short(&claim["version"])),
        &hand::uint64(number(&claim["time_ms"])),
        &hand::uint64(number(&claim["until_ms"])),
        &[byte("ground"), byte("objected")],
    ]
    .concat()
}

/// The nineteen bytes of a standing, then the mapping's digest.
fn slot_by_hand(slot: &Value) -> Vec<u8> {
    let (standing, mapping) = (&slot["standing"], bytes(&slot["mapping"]));
    let byte = |name: &str| number(&standing[name]) as u8;
    let standing = [
        &[byte("status"), byte("reason")][..],
        &hand::uint32(short(&standing["stated_version"])),
        &[byte("newcomer")],
        &hand::uint32(short(&standing["since_version"])),
        &hand::uint64(number(&standing["since_ms"])),
    ]
    .concat();
    assert_eq!(standing.len(), 19);
    [standing, hand::sha256(&[&mapping])].concat()
}

fn visible_digest_by_hand(slot: &Value) -> Vec<u8> {
    hand::hmac(&bytes(&slot["salt"]), &slot_by_hand(slot))
}

fn hidden_slot_by_hand(slot: &Value) -> Vec<u8> {
    let value = if slot["mapping"].is_null() { vec![0] } else { [vec![1], slot_by_hand(slot)].concat() };
    [bytes(&slot["handle"]), hand::hmac(&bytes(&slot["salt"]), &value)].concat()
}

fn check_handles(case: &Value, vrf: &Key) {
    let (who, version) = (csi(text(&case["csi"])), short(&case["version"]));
    for slot in list(&case["hidden"]).iter().filter(|slot| !slot["handle_proof"].is_null()) {
        let h = &slot["handle_proof"];
        let (tag, ordinal) = (Tag::parse(text(&h["tag"])).unwrap(), number(&h["ordinal"]) as u8);
        let proof = VrfProof::new(array(&h["proof"]));
        let handle = verify_handle(vrf, &who, version, &tag, ordinal, &proof).unwrap();
        assert_eq!(hex(handle.0), text(&slot["handle"]));
        let output = waymark_mapping::vrf::verify(vrf, &bytes(&h["input"]), &proof).unwrap();
        assert_eq!(output.as_bytes()[..8], handle.0);
    }
}
