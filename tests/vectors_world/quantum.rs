//! A checkpoint that an ML-DSA-44 witness has cosigned. The crate `ml-dsa` signs; another one verifies in the programs.

use ml_dsa::{Keypair as _, MlDsa44, SigningKey};
use serde_json::{Value, json};
use waymark_log::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    mldsa::{IS_VERIFIED, MlDsa44Key},
    note::{KeyName, NoteError, SignatureLine, Vkey},
    policy::{Freshness, Policy, Unmet},
    time::UnixSeconds,
};

use crate::files::{bytes, hex, list, number, settle, text};
use crate::hand;
use crate::vectors_world::{World, log_signer, seed, witness};

const NAME: &str = "pq.example";
const FRESH: Freshness = Freshness { max_age_s: 600, skew_s: 30 };

fn secret() -> SigningKey<MlDsa44> {
    SigningKey::from_seed(&seed(NAME).into())
}

fn public() -> Vec<u8> {
    secret().verifying_key().encode().to_vec()
}

fn vkey() -> Vkey {
    Vkey::ml_dsa_44(KeyName::new(NAME).unwrap(), MlDsa44Key::from_slice(&public()).unwrap())
}

/// FORMATS.md's CosignedMessage, field by field.
fn message(checkpoint: &Checkpoint, name: &str, time: u64, (start, end): (u64, u64)) -> Vec<u8> {
    [
        b"subtree/v1\n\0".to_vec(),
        hand::opaque8(name.as_bytes()),
        hand::uint64(time).to_vec(),
        hand::opaque8(checkpoint.origin.as_str().as_bytes()),
        hand::uint64(start).to_vec(),
        hand::uint64(end).to_vec(),
        checkpoint.root.as_bytes().to_vec(),
    ]
    .concat()
}

fn line(message: &[u8], time: u64) -> SignatureLine {
    // FIPS 204, deterministic, with the empty context.
    let signature = secret().expanded_key().sign_deterministic(message, b"").unwrap().encode();
    SignatureLine::new(&vkey(), [&time.to_be_bytes()[..], &signature[..]].concat())
}

/// Both witnesses are asked for, or one of them is enough.
fn policy(quorum: &str) -> String {
    let classic = witness(1);
    format!(
        "log {}\nwitness w1 {}\nwitness pq {}\ngroup g {quorum} w1 pq\nquorum g\n",
        log_signer().vkey(),
        classic.vkey(),
        vkey()
    )
}

fn verdict(policy: &str, note: &str, now: u64) -> &'static str {
    match Policy::parse(policy).unwrap().judge(note.as_bytes(), UnixSeconds::new(now), FRESH) {
        Ok(_) => "met",
        Err(Unmet::Quorum { .. }) => "unmet",
        Err(Unmet::Stale { .. }) => "stale",
        Err(Unmet::UnknownLog) => "unknown-log",
        Err(Unmet::Checkpoint(CheckpointError::Note(NoteError::BadSignature(_)))) => "bad-signature",
        Err(Unmet::Checkpoint(_)) => "malformed",
    }
}

/// What a verifier says with ML-DSA-44 and without, where both witnesses are needed and where one is enough.
fn case(why: &str, lines: &[SignatureLine], world: &World, all: [&str; 2], any: [&str; 2]) -> Value {
    let note = SignedCheckpoint::sign(world.checkpoint(), &log_signer()).to_note(lines);
    let now = world.head_s() + 2;
    assert_eq!([verdict(&policy("all"), &note, now), verdict(&policy("any"), &note, now)], [all[0], any[0]], "{why}");
    json!({
        "why": why, "note": note, "now_s": now,
        "all": { "verified": all[0], "not_verified": all[1] }, "any": { "verified": any[0], "not_verified": any[1] },
    })
}

fn cases(world: &World) -> Vec<Value> {
    let (checkpoint, at) = (world.checkpoint(), world.head_s());
    let size = checkpoint.size;
    let classic = witness(1).cosign(&checkpoint.format(), UnixSeconds::new(at));
    let signed = |name: &str, time, range| line(&message(&checkpoint, name, time, range), time);
    let good = signed(NAME, at, (0, size));
    let flipped = |at: usize| {
        let mut body = good.body().to_vec();
        body[at] ^= 1;
        SignatureLine::new(&vkey(), body)
    };
    let with = |why, line: SignatureLine, verified: [&str; 2]| {
        case(why, &[classic.clone(), line], world, [verified[0], "unmet"], [verified[1], "met"])
    };
    let bad = ["bad-signature", "bad-signature"];
    vec![
        with("cosigned by both", good.clone(), ["met", "met"]),
        case("the ML-DSA-44 witness alone", std::slice::from_ref(&good), world, ["unmet", "unmet"], ["met", "unmet"]),
        case("the Ed25519 witness alone", std::slice::from_ref(&classic), world, ["unmet", "unmet"], ["met", "met"]),
        with("one bit of the signature is flipped", flipped(8 + 1200), bad),
        with("one bit of the time is flipped", flipped(7), bad),
        with("one bit of the last byte, among the hints, is flipped", flipped(8 + 2419), bad),
        with("over another range of the tree", signed(NAME, at, (1, size)), bad),
        with("over a smaller tree", signed(NAME, at, (0, size - 1)), bad),
        with("under another name", signed("pq2.example", at, (0, size)), bad),
        with("it does not say when", signed(NAME, 0, (0, size)), ["unmet", "met"]),
        with("too old", signed(NAME, at - 700, (0, size)), ["stale", "met"]),
    ]
}

#[test]
fn checkpoint_ml_dsa_44() {
    let world = World::of_final_structures();
    let (checkpoint, at) = (world.checkpoint(), world.head_s());
    let file = settle(
        "checkpoint-ml-dsa-44",
        "A checkpoint cosigned with ML-DSA-44, judged by who verifies the algorithm and by who does not.",
        &json!({
            "checkpoint": checkpoint.format(), "max_age_s": FRESH.max_age_s, "skew_s": FRESH.skew_s,
            "witness": {
                "name": NAME, "seed": hex(seed(NAME)), "public": hex(public()), "vkey": vkey().to_string(), "time_s": at,
                "message": hex(message(&checkpoint, NAME, at, (0, checkpoint.size))),
                "line": line(&message(&checkpoint, NAME, at, (0, checkpoint.size)), at).to_string(),
            },
            "policies": { "all": policy("all"), "any": policy("any") },
            "judged": cases(&world),
        }),
    );
    let column = if IS_VERIFIED { "verified" } else { "not_verified" };
    for case in list(&file["judged"]) {
        for quorum in ["all", "any"] {
            let policy = text(&file["policies"][quorum]);
            let judged = verdict(policy, text(&case["note"]), number(&case["now_s"]));
            assert_eq!(judged, text(&case[quorum][column]), "{}, {quorum}", case["why"]);
        }
    }
    let key = MlDsa44Key::from_slice(&bytes(&file["witness"]["public"])).unwrap();
    let body = SignatureLine::parse(text(&file["witness"]["line"]).trim_end()).unwrap().body().to_vec();
    assert_eq!(key.verify(&bytes(&file["witness"]["message"]), &body[8..]).is_ok(), IS_VERIFIED);
}
