//! Witnesses with ML-DSA-44 keys: their keys and policies load in every build, their cosignatures are verified with the
//! feature `pq` and ignored without it.
//!
//! The crate `ml-dsa` signs here. The message is put together by hand, from the text of C2SP tlog-cosignature.

use ml_dsa::{Keypair as _, MlDsa44, SigningKey};
use proptest::prelude::*;
use waymark_log::{
    checkpoint::{Checkpoint, ORIGIN_BYTES_MAX, Origin, SignedCheckpoint},
    cosignature::{self, Cosigner, ML_DSA_44_BODY_BYTES},
    hash::Hash,
    key::SecretKey,
    mldsa::{IS_VERIFIED, KEY_BYTES, MlDsa44Key},
    note::{KEY_NAME_BYTES_MAX, KeyName, Note, NoteError, NoteKey, NoteSigner, Role, SignatureLine, Vkey},
    policy::{DEFINITIONS_MAX, Freshness, POLICY_BYTES_MAX, Policy, Unmet},
    time::UnixSeconds,
    witness::REQUEST_NOTE_BYTES_MAX,
};

const NOW: UnixSeconds = UnixSeconds::new(10_000);
const FRESH: Freshness = Freshness { max_age_s: 600, skew_s: 30 };

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

fn log() -> NoteSigner {
    NoteSigner::new(name("log.example"), SecretKey::from_seed(&[1; 32]))
}

fn checkpoint() -> Checkpoint {
    Checkpoint::new(Origin::new("log.example").unwrap(), 9, Hash::new([7; 32]))
}

fn signed(lines: &[SignatureLine]) -> String {
    SignedCheckpoint::sign(checkpoint(), &log()).to_note(lines)
}

/// What a cosigner signs: `cosigned_message`, field by field.
#[derive(Clone)]
struct Message {
    name: String,
    time: u64,
    origin: String,
    start: u64,
    end: u64,
    hash: [u8; 32],
}

impl Message {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![b's', b'u', b'b', b't', b'r', b'e', b'e', b'/', b'v', b'1', 0x0a, 0x00];
        bytes.push(u8::try_from(self.name.len()).unwrap());
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(&self.time.to_be_bytes());
        bytes.push(u8::try_from(self.origin.len()).unwrap());
        bytes.extend_from_slice(self.origin.as_bytes());
        bytes.extend_from_slice(&self.start.to_be_bytes());
        bytes.extend_from_slice(&self.end.to_be_bytes());
        bytes.extend_from_slice(&self.hash);
        bytes
    }
}

/// A witness that cosigns with ML-DSA-44.
struct MlDsaCosigner {
    name: KeyName,
    secret: SigningKey<MlDsa44>,
}

impl MlDsaCosigner {
    fn new(text: &str, seed: u8) -> Self {
        Self { name: name(text), secret: SigningKey::from_seed(&[seed; 32].into()) }
    }

    fn key(&self) -> MlDsa44Key {
        MlDsa44Key::from_slice(&self.secret.verifying_key().encode()).unwrap()
    }

    fn vkey(&self) -> Vkey {
        Vkey::ml_dsa_44(self.name.clone(), self.key())
    }

    fn sign(&self, message: &[u8], context: &[u8]) -> Vec<u8> {
        self.secret.expanded_key().sign_deterministic(message, context).unwrap().encode().to_vec()
    }

    /// The message of a cosignature on the whole of a checkpoint's tree.
    fn message(&self, checkpoint: &Checkpoint, time: u64) -> Message {
        Message {
            name: self.name.to_string(),
            time,
            origin: checkpoint.origin.to_string(),
            start: 0,
            end: checkpoint.size,
            hash: *checkpoint.root.as_bytes(),
        }
    }

    fn line_over(&self, time: u64, message: &[u8]) -> SignatureLine {
        SignatureLine::new(&self.vkey(), [&time.to_be_bytes()[..], &self.sign(message, b"")].concat())
    }

    fn line(&self, time: u64) -> SignatureLine {
        self.line_over(time, &self.message(&checkpoint(), time).bytes())
    }
}

fn ed25519_witness() -> Cosigner {
    Cosigner::new(name("w.example"), SecretKey::from_seed(&[9; 32]))
}

fn policy_of(witness: &Vkey) -> Policy {
    Policy::parse(&format!("log {}\nwitness w {witness}\nquorum w\n", log().vkey())).unwrap()
}

/// The frozen checkpoint is judged as its file says, in builds that verify the algorithm and in those that do not.
#[test]
fn the_frozen_checkpoint_is_judged_as_this_build_can() {
    let file = include_str!("../../tests/vectors/checkpoint-ml-dsa-44.json");
    let file: serde_json::Value = serde_json::from_str(file).unwrap();
    let column = if IS_VERIFIED { "verified" } else { "not_verified" };
    for case in file["judged"].as_array().unwrap() {
        for quorum in ["all", "any"] {
            let policy = Policy::parse(file["policies"][quorum].as_str().unwrap()).unwrap();
            let (note, now) = (case["note"].as_str().unwrap(), UnixSeconds::new(case["now_s"].as_u64().unwrap()));
            let judged = match policy.judge(note.as_bytes(), now, FRESH) {
                Ok(_) => "met",
                Err(Unmet::Quorum { .. }) => "unmet",
                Err(Unmet::Stale { .. }) => "stale",
                Err(_) => "bad-signature",
            };
            assert_eq!(case[quorum][column], judged, "{}, {quorum}", case["why"]);
        }
    }
}

#[test]
fn the_key_id_is_the_hash_of_name_type_and_key() {
    let key = MlDsaCosigner::new("w.example", 2).key();
    let hash = Hash::sha256(&[b"w.example\n", &[6], key.as_bytes()]);
    let vkey = Vkey::ml_dsa_44(name("w.example"), key);
    let text = vkey.to_string();
    assert!(text.starts_with(&format!("w.example+{}+B", &hash.to_hex()[..8])), "0x06 is the first byte of the base64");
    assert_eq!((vkey.signature_type(), vkey.role(), vkey.ed25519()), (6, Role::Witness, None));
    let other = text.replace(&hash.to_hex()[..8], "00000000");
    assert_eq!(
        Vkey::parse(&other),
        Err(NoteError::BadVkey("the key ID does not belong to this name and key")),
        "an ID of another key"
    );
}

#[test]
fn a_key_of_another_length_is_refused() {
    for length in [0, 32, KEY_BYTES - 1, KEY_BYTES + 1, 1952] {
        assert_eq!(MlDsa44Key::from_slice(&vec![3; length]), None);
        let bytes = [vec![6], vec![3; length]].concat();
        let id = &Hash::sha256(&[b"w.example\n", &bytes]).to_hex()[..8];
        let text = format!("w.example+{id}+{}", data_encoding::BASE64.encode(&bytes));
        assert_eq!(Vkey::parse(&text), Err(NoteError::BadVkey("an ML-DSA-44 key has 1,312 bytes")), "{length}");
    }
}

#[test]
fn an_unsupported_signature_type_is_named_with_its_line() {
    for (signature_type, shown) in [(0x02, "0x02"), (0x03, "0x03"), (0x05, "0x05"), (0x07, "0x07"), (0xff, "0xff")] {
        let vkey = format!("w.example+01020304+{}", data_encoding::BASE64.encode(&[signature_type, 1, 2, 3]));
        assert_eq!(Vkey::parse(&vkey), Err(NoteError::UnsupportedType(signature_type)));
        let error = Policy::parse(&format!("log {}\n\nwitness w {vkey}\nquorum w\n", log().vkey())).unwrap_err();
        assert_eq!(error.to_string(), format!("policy line 3: signature type {shown} is not supported"));
    }
    let (witness, ml_dsa) = (ed25519_witness().vkey().clone(), MlDsaCosigner::new("w.example", 2).vkey());
    for (text, expected) in [
        (format!("log {ml_dsa}\nquorum none\n"), "signature type 0x06 is not supported for a log: it must be 0x01"),
        (format!("log {witness}\nquorum none\n"), "signature type 0x04 is not supported for a log: it must be 0x01"),
        (
            format!("witness w {}\nquorum w\n", log().vkey()),
            "signature type 0x01 is not supported for a witness: it must be 0x04 or 0x06",
        ),
    ] {
        assert_eq!(Policy::parse(&text).unwrap_err().to_string(), format!("policy line 1: {expected}"));
    }
    let empty = Vkey::parse("w.example+01020304+");
    assert_eq!(empty, Err(NoteError::BadVkey("the key is empty")));
}

#[test]
fn an_ml_dsa_44_key_is_one_witness_only() {
    let key = MlDsaCosigner::new("w.example", 2).key();
    let (one, two) = (Vkey::ml_dsa_44(name("a.example"), key.clone()), Vkey::ml_dsa_44(name("b.example"), key));
    let error = Policy::parse(&format!("witness a {one}\nwitness b {two}\nquorum a\n")).unwrap_err();
    assert_eq!((error.line, error.what.as_str()), (2, "too many witnesses, or this key is a witness already"));
}

#[test]
fn sixteen_cosignatures_with_the_longest_names_fit_into_a_note() {
    let long = "n".repeat(KEY_NAME_BYTES_MAX);
    let origin = "o".repeat(ORIGIN_BYTES_MAX);
    let log = NoteSigner::new(name(&origin), SecretKey::from_seed(&[1; 32]));
    let checkpoint = Checkpoint::new(Origin::new(&origin).unwrap(), 1 << 62, Hash::ZERO);
    let line = |i| {
        let vkey = Vkey::ml_dsa_44(name(&long), MlDsa44Key::from_slice(&[i; KEY_BYTES]).unwrap());
        SignatureLine::new(&vkey, vec![i; ML_DSA_44_BODY_BYTES])
    };
    let lines: Vec<_> = (0..16).map(line).collect();
    let note = SignedCheckpoint::sign(checkpoint, &log).to_note(&lines);
    assert!(note.len() <= REQUEST_NOTE_BYTES_MAX, "{} bytes", note.len());
    // A structure that carries a note behind two length bytes has room for it, too.
    assert!(note.len() <= usize::from(u16::MAX), "{} bytes", note.len());
    assert_eq!(Note::parse(note.as_bytes()).unwrap().lines().len(), 17);
}

#[test]
fn a_policy_holds_as_many_ml_dsa_44_witnesses_as_the_specification_recommends() {
    let long = "n".repeat(KEY_NAME_BYTES_MAX);
    let mut text = format!("log {}\n", log().vkey());
    for i in 0..32 {
        let vkey = Vkey::ml_dsa_44(name(&long), MlDsa44Key::from_slice(&[i; KEY_BYTES]).unwrap());
        text += &format!("witness w{i} {vkey} https://{long}/{long}\n");
    }
    text += "quorum w0\n";
    assert!(text.len() <= POLICY_BYTES_MAX / 2, "{} bytes", text.len());
    assert_eq!(Policy::parse(&text).unwrap().witnesses().len(), 32);
    const { assert!(DEFINITIONS_MAX >= 32) };
}

#[test]
fn an_ml_dsa_44_witness_is_present_only_where_its_cosignature_is_verified() {
    let witness = MlDsaCosigner::new("w.example", 2);
    let policy = policy_of(&witness.vkey());
    assert_eq!(policy.witnesses()[0].vkey, witness.vkey(), "it is listed in every build");
    let judged = policy.judge(signed(&[witness.line(9_990)]).as_bytes(), NOW, FRESH);
    if IS_VERIFIED {
        let cosigned = judged.unwrap();
        assert_eq!((cosigned.quorum_time(), cosigned.cosignatures()), (UnixSeconds::new(9_990), 1));
        assert_eq!(cosigned.to_note(), signed(&[witness.line(9_990)]));
    } else {
        assert_eq!(judged, Err(Unmet::Quorum { have: 0 }));
        let note = Note::parse(signed(&[witness.line(9_990)]).as_bytes()).unwrap();
        assert_eq!(cosignature::check(&note, &witness.vkey()), Ok(None));
    }
}

proptest! {
    #[test]
    fn verifier_keys_have_one_spelling(text in "[!-*,-~]{1,255}", seed: [u8; 32]) {
        let bytes: Vec<u8> = seed.iter().cycle().take(KEY_BYTES).enumerate().map(|(i, b)| b ^ i as u8).collect();
        let vkey = Vkey::ml_dsa_44(name(&text), MlDsa44Key::from_slice(&bytes).unwrap());
        let parsed = Vkey::parse(&vkey.to_string()).unwrap();
        prop_assert_eq!(&parsed, &vkey);
        prop_assert_eq!(parsed.to_string(), vkey.to_string());
        prop_assert!(matches!(parsed.key(), NoteKey::MlDsa44(key) if key.as_bytes()[..] == bytes[..]));
    }

    #[test]
    fn policies_list_what_their_text_says(kinds in prop::collection::vec(any::<bool>(), 1..12)) {
        let mut text = format!("log {}\n", log().vkey());
        let mut vkeys = Vec::new();
        for (i, is_ml_dsa) in (0u8..).zip(&kinds) {
            let key = || MlDsa44Key::from_slice(&[i; KEY_BYTES]).unwrap();
            let named = name(&format!("w{i}.example"));
            vkeys.push(match is_ml_dsa {
                true => Vkey::ml_dsa_44(named, key()),
                false => Vkey::new(named, Role::Witness, SecretKey::from_seed(&[i; 32]).public()),
            });
            text += &format!("witness w{i} {}\n", vkeys[usize::from(i)]);
        }
        let members: Vec<String> = (0..kinds.len()).map(|i| format!("w{i}")).collect();
        text += &format!("group g all {}\nquorum g\n", members.join(" "));
        let policy = Policy::parse(&text).unwrap();
        let listed: Vec<Vkey> = policy.witnesses().iter().map(|w| w.vkey.clone()).collect();
        prop_assert_eq!(listed, vkeys);
        prop_assert_eq!(policy.cosignatures_min(), kinds.len());
    }
}

#[cfg(feature = "pq")]
mod verified {
    use fips204::{
        ml_dsa_44::{KG, PublicKey},
        traits::{KeyGen as _, SerDes as _, Signer as _, Verifier as _},
    };
    use ml_dsa::{Signature, VerifyingKey};

    use super::*;

    fn check(vkey: &Vkey, line: SignatureLine) -> Result<Option<UnixSeconds>, NoteError> {
        cosignature::check(&Note::new(checkpoint().format(), vec![line]).unwrap(), vkey)
    }

    fn bad(vkey: &Vkey) -> Result<Option<UnixSeconds>, NoteError> {
        Err(NoteError::BadSignature(vkey.name().clone()))
    }

    /// The oracle's verdict. It decodes key and signature by itself.
    fn oracle_accepts(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let key = VerifyingKey::<MlDsa44>::decode(key.try_into().unwrap());
        let signature = Signature::decode(signature.try_into().unwrap());
        signature.is_some_and(|s| key.verify_with_context(message, b"", &s))
    }

    #[test]
    fn two_implementations_agree_on_keys_and_signatures() {
        for seed in 0..8 {
            let (ours, secret) = KG::keygen_from_seed(&[seed; 32]);
            let theirs = MlDsaCosigner::new("w.example", seed);
            assert_eq!(ours.clone().into_bytes(), *theirs.key().as_bytes());
            let message = theirs.message(&checkpoint(), 5).bytes();
            // Both sign deterministically with 32 zero bytes of randomness.
            let signature = secret.try_sign_with_seed(&[0; 32], &message, b"").unwrap();
            assert_eq!(signature.to_vec(), theirs.sign(&message, b""));
            assert!(oracle_accepts(theirs.key().as_bytes(), &message, &signature));
            assert!(ours.verify(&message, &signature, b""));
            // And with any other: the signature is another one, and as good.
            let signature = secret.try_sign_with_seed(&[seed + 1; 32], &message, b"").unwrap();
            assert!(oracle_accepts(theirs.key().as_bytes(), &message, &signature));
            assert_eq!(theirs.key().verify(&message, &signature), Ok(()));
        }
    }

    #[test]
    fn a_flipped_bit_of_a_cosignature_is_refused() {
        /// Bytes of time and commitment hash, at the front of a body.
        const FRONT_BYTES: usize = 8 + 32;
        /// Bytes of the hints, at the end of a body.
        const HINT_BYTES: usize = 84;
        let witness = MlDsaCosigner::new("w.example", 2);
        let (vkey, line) = (witness.vkey(), witness.line(1_700_000_000));
        let message = witness.message(&checkpoint(), 1_700_000_000).bytes();
        assert_eq!(line.body().len(), ML_DSA_44_BODY_BYTES);
        assert_eq!(check(&vkey, line.clone()), Ok(Some(UnixSeconds::new(1_700_000_000))));
        // Every bit of time, hash and hints; of the responses between them a sample.
        let (front, hints) = (FRONT_BYTES * 8, (ML_DSA_44_BODY_BYTES - HINT_BYTES) * 8);
        for bit in (0..front).chain((front..hints).step_by(11)).chain(hints..ML_DSA_44_BODY_BYTES * 8) {
            let mut body = line.body().to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            if bit >= 64 {
                assert!(!oracle_accepts(witness.key().as_bytes(), &message, &body[8..]), "bit {bit}");
            }
            assert_eq!(check(&vkey, SignatureLine::new(&vkey, body)), bad(&vkey), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_message_is_refused() {
        let witness = MlDsaCosigner::new("w.example", 2);
        let message = witness.message(&checkpoint(), 5).bytes();
        let signature = witness.sign(&message, b"");
        assert_eq!(witness.key().verify(&message, &signature), Ok(()));
        for bit in 0..message.len() * 8 {
            let mut message = message.clone();
            message[bit / 8] ^= 1 << (bit % 8);
            assert!(witness.key().verify(&message, &signature).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_key_with_a_flipped_bit_is_another_key() {
        let witness = MlDsaCosigner::new("w.example", 2);
        let message = witness.message(&checkpoint(), 5).bytes();
        let signature = witness.sign(&message, b"");
        for bit in (0..KEY_BYTES * 8).step_by(13) {
            let mut key = *witness.key().as_bytes();
            key[bit / 8] ^= 1 << (bit % 8);
            assert!(MlDsa44Key::from_slice(&key).unwrap().verify(&message, &signature).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn with_exactly_the_quorum_a_flipped_bit_of_the_note_is_refused() {
        let witness = MlDsaCosigner::new("w.example", 2);
        let policy = policy_of(&witness.vkey());
        let good = signed(&[witness.line(9_990)]);
        policy.judge(good.as_bytes(), NOW, FRESH).unwrap();
        let text = checkpoint().format().len() * 8;
        for bit in (0..text).chain((text..good.len() * 8).step_by(11)) {
            let mut bytes = good.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(policy.judge(&bytes, NOW, FRESH).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_known_line_that_fails_rejects_the_note_also_where_another_quorum_is_met() {
        let (ed25519, ml_dsa) = (ed25519_witness(), MlDsaCosigner::new("pq.example", 2));
        let text = format!(
            "log {}\nwitness a {}\nwitness b {}\ngroup g any a b\nquorum g\n",
            log().vkey(),
            ed25519.vkey(),
            ml_dsa.vkey()
        );
        let policy = Policy::parse(&text).unwrap();
        let good = ed25519.cosign(&checkpoint().format(), UnixSeconds::new(9_990));
        let judge = |lines: &[SignatureLine]| policy.judge(signed(lines).as_bytes(), NOW, FRESH);
        assert_eq!(judge(&[good.clone(), ml_dsa.line(9_995)]).unwrap().quorum_time(), UnixSeconds::new(9_995));
        let mut body = ml_dsa.line(9_995).body().to_vec();
        body[2_000] ^= 1;
        for forged in [body, vec![0; ML_DSA_44_BODY_BYTES], vec![0; 72], vec![0; 7], vec![0; ML_DSA_44_BODY_BYTES + 1]]
        {
            let judged = judge(&[good.clone(), SignatureLine::new(&ml_dsa.vkey(), forged)]);
            assert_eq!(judged, Err(Unmet::from(NoteError::BadSignature(ml_dsa.name.clone()))));
        }
        let twice = judge(&[good, ml_dsa.line(9_995), ml_dsa.line(9_996)]);
        assert_eq!(twice, Err(Unmet::from(NoteError::Repeated(ml_dsa.name.clone()))));
    }

    #[test]
    fn a_signature_over_anything_but_the_whole_tree_is_refused() {
        let witness = MlDsaCosigner::new("w.example", 2);
        let whole = witness.message(&checkpoint(), 5);
        let refused = |change: fn(&mut Message)| {
            let mut message = whole.clone();
            change(&mut message);
            assert_eq!(check(&witness.vkey(), witness.line_over(5, &message.bytes())), bad(&witness.vkey()));
            // A subtree is signed without a time.
            message.time = 0;
            assert_eq!(check(&witness.vkey(), witness.line_over(0, &message.bytes())), bad(&witness.vkey()));
        };
        refused(|m| m.start = 1);
        refused(|m| m.start = 8);
        refused(|m| m.end = 8);
        refused(|m| (m.start, m.end) = (8, 9));
        refused(|m| m.end = 0);
        refused(|m| m.hash[31] ^= 1);
        refused(|m| m.origin = "log.example/2".to_owned());
        refused(|m| m.name = "v.example".to_owned());
        let text = Checkpoint { size: 10, ..checkpoint() }.format();
        let note = Note::new(text, vec![witness.line(5)]).unwrap();
        assert_eq!(cosignature::check(&note, &witness.vkey()), bad(&witness.vkey()));
    }

    #[test]
    fn a_signature_with_a_context_or_over_the_other_message_is_refused() {
        let witness = MlDsaCosigner::new("w.example", 2);
        let with = |message: &[u8], context: &[u8]| {
            let body = [&5u64.to_be_bytes()[..], &witness.sign(message, context)].concat();
            check(&witness.vkey(), SignatureLine::new(&witness.vkey(), body))
        };
        let message = witness.message(&checkpoint(), 5).bytes();
        assert_eq!(with(&message, b""), Ok(Some(UnixSeconds::new(5))));
        assert_eq!(with(&message, b"x"), bad(&witness.vkey()));
        let ed25519_message = format!("cosignature/v1\ntime 5\n{}", checkpoint().format());
        assert_eq!(with(ed25519_message.as_bytes(), b""), bad(&witness.vkey()));
    }

    #[test]
    fn a_text_that_is_no_checkpoint_bears_no_cosignature() {
        let witness = MlDsaCosigner::new("w.example", 2);
        let note = Note::new("log.example\n9\n".to_owned(), vec![witness.line(5)]).unwrap();
        assert_eq!(cosignature::check(&note, &witness.vkey()), bad(&witness.vkey()));
    }

    #[test]
    fn extension_lines_are_not_in_the_message() {
        let witness = MlDsaCosigner::new("w.example", 2);
        let text = Checkpoint { extensions: vec!["more".to_owned()], ..checkpoint() }.format();
        let note = Note::new(text, vec![witness.line(5)]).unwrap();
        assert_eq!(cosignature::check(&note, &witness.vkey()), Ok(Some(UnixSeconds::new(5))));
    }

    #[test]
    fn names_and_origins_of_the_greatest_length_verify() {
        let witness = MlDsaCosigner::new(&"n".repeat(KEY_NAME_BYTES_MAX), 2);
        let origin = Origin::new(&"o".repeat(ORIGIN_BYTES_MAX)).unwrap();
        let checkpoint = Checkpoint::new(origin, 1 << 62, Hash::ZERO);
        let line = witness.line_over(5, &witness.message(&checkpoint, 5).bytes());
        let note = Note::new(checkpoint.format(), vec![line]).unwrap();
        assert_eq!(cosignature::check(&note, &witness.vkey()), Ok(Some(UnixSeconds::new(5))));
    }

    #[test]
    fn times_are_judged_as_those_of_ed25519_witnesses() {
        let (ed25519, ml_dsa) = (ed25519_witness(), MlDsaCosigner::new("pq.example", 2));
        let text = format!(
            "log {}\nwitness a {}\nwitness b {}\ngroup g all a b\nquorum g\n",
            log().vkey(),
            ed25519.vkey(),
            ml_dsa.vkey()
        );
        let policy = Policy::parse(&text).unwrap();
        let judge = |a, b| {
            let lines = [ed25519.cosign(&checkpoint().format(), UnixSeconds::new(a)), ml_dsa.line(b)];
            policy.judge(signed(&lines).as_bytes(), NOW, FRESH).map(|c| c.quorum_time().get())
        };
        assert_eq!(judge(9_950, 9_400), Ok(9_400));
        assert_eq!(judge(9_950, 9_990), Ok(9_950));
        assert_eq!(judge(9_950, 10_030), Ok(9_950));
        assert_eq!(judge(9_950, 9_399), Err(Unmet::Stale { have: 2, fresh: 1 }));
        assert_eq!(judge(9_950, 10_031), Err(Unmet::Stale { have: 2, fresh: 1 }));
        let beyond = ml_dsa.line(i64::MAX as u64 + 1);
        assert_eq!(check(&ml_dsa.vkey(), beyond), bad(&ml_dsa.vkey()));
        let latest = i64::MAX as u64;
        assert_eq!(check(&ml_dsa.vkey(), ml_dsa.line(latest)), Ok(Some(UnixSeconds::new(latest))));
    }

    #[test]
    fn a_good_signature_without_a_time_is_no_cosignature_and_no_fault() {
        let witness = MlDsaCosigner::new("w.example", 2);
        assert_eq!(check(&witness.vkey(), witness.line(0)), Ok(None));
        let judged =
            policy_of(&witness.vkey()).judge(signed(&[witness.line(0)]).as_bytes(), UnixSeconds::new(5), FRESH);
        assert_eq!(judged, Err(Unmet::Quorum { have: 0 }), "not even where the epoch is fresh");
    }

    #[test]
    fn one_operator_with_two_keys_is_two_witnesses() {
        let (ed25519, ml_dsa) = (ed25519_witness(), MlDsaCosigner::new("w.example", 2));
        let text = format!(
            "log {}\nwitness classic {}\nwitness pq {}\ngroup both all classic pq\nquorum both\n",
            log().vkey(),
            ed25519.vkey(),
            ml_dsa.vkey()
        );
        let policy = Policy::parse(&text).unwrap();
        let classic = ed25519.cosign(&checkpoint().format(), UnixSeconds::new(9_980));
        let judge = |lines: &[SignatureLine]| policy.judge(signed(lines).as_bytes(), NOW, FRESH);
        assert_eq!(judge(std::slice::from_ref(&classic)), Err(Unmet::Quorum { have: 1 }));
        assert_eq!(judge(&[classic, ml_dsa.line(9_990)]).unwrap().cosignatures(), 2);
    }

    #[test]
    fn a_key_of_zeros_and_random_keys_are_read_and_accept_nothing_by_chance() {
        for byte in [0, 1, 0x7f, 0xff] {
            let key = MlDsa44Key::from_slice(&[byte; KEY_BYTES]).unwrap();
            assert!(PublicKey::try_from_bytes([byte; KEY_BYTES]).is_ok(), "every 1,312 bytes encode a key");
            assert!(key.verify(b"m", &[byte; 2420]).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn two_implementations_agree_on_any_bytes(
            seed in 0u8..4,
            at in prop::collection::vec((0usize..2420, any::<u8>()), 0..4),
        ) {
            let witness = MlDsaCosigner::new("w.example", seed);
            let message = witness.message(&checkpoint(), 5).bytes();
            let good = witness.sign(&message, b"");
            let mut signature = good.clone();
            for (i, byte) in at {
                signature[i] = byte;
            }
            let verdict = witness.key().verify(&message, &signature).is_ok();
            prop_assert_eq!(verdict, oracle_accepts(witness.key().as_bytes(), &message, &signature));
            prop_assert_eq!(verdict, signature == good);
        }
    }
}
