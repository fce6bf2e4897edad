//! The frozen vectors of docs/FORMATS.md, in tests/vectors: what every other implementation is measured against.
//!
//! Each file is proved in three ways. It is made again from constant keys and compared. Its bytes are read from the file
//! and judged by the public verifying functions, which know nothing of how it was made. And the layouts that FORMATS.md
//! draws are put together by hand, from bytes and SHA-256 alone, so that the document is proved and not only the code.
//!
//! `WAYMARK_FREEZE=1` rewrites the experimental files. Final files are rewritten by `WAYMARK_FREEZE=final` only: others
//! have built on them.

#[path = "vectors_world/experimental.rs"]
mod experimental;
#[path = "vectors_world/files.rs"]
mod files;
#[path = "vectors_world/hand.rs"]
mod hand;
mod vectors_world;

use std::{fs, path::PathBuf};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tls_codec::Size;
use waymark_log::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    cosignature,
    hash::{Hash, leaf_hash},
    key::{Key, Signature},
    note::{Note, Vkey},
    policy::{Freshness, Policy, Unmet},
    proof::{naive_root, verify_inclusion},
    tile::{Edge, Tile, TileKind, decode_bundle, decode_hashes},
    time::{UnixMillis, UnixSeconds},
    tlogproof::TlogProof,
};
use waymark_mapping::{
    answer::{ANSWER_SIZES, Answer},
    audit::{Replay, Step},
    commitment::{Opening, Salt, blind, commit, opens},
    entry::{Entry, Provider, ProviderAction, ProviderRole},
    facts::{MappingFacts, Service},
    identifier::{Csi, CsiError},
    label::{Label, label_input, prove_label, verify_label},
    ladder,
    names::Tag,
    prefix::{PrefixProof, PrefixTree},
    provider::{ProviderLeaf, domain_key},
    signed::{SignedStruct, UNSIGNED, message},
    trust::Trust,
    verify::{Asked, Lookup, Outcome, Rejected, Trail, verify},
    vrf::VrfProof,
    wire::{decode, encode},
};

use files::{
    FILES,
    Status::{Experimental, Final},
    array, bytes, flag, folder, hash, hash_hex, hex, is_to_write, key, list, millis, number, settle, short, shorts,
    text,
};
use vectors_world::{
    ANN, BEN, NOBODY, World, csi, log_signer, opaque_value, opening, origin, policy_text, salt, secret, seed,
    trust_text, vrf, witness,
};

#[test]
fn final_files_are_not_rewritten_by_accident() {
    for status in [Final, Experimental] {
        for flag in [None, Some("1"), Some("final")] {
            assert_eq!(is_to_write(status, flag, true), Ok(false), "nothing to do");
        }
        assert!(is_to_write(status, None, false).is_err(), "without the flag nothing is ever written");
        assert!(is_to_write(status, Some("yes"), true).is_err(), "a flag that is no flag");
        assert_eq!(is_to_write(status, Some("final"), false), Ok(true));
    }
    assert_eq!(is_to_write(Experimental, Some("1"), false), Ok(true));
    assert!(is_to_write(Final, Some("1"), false).is_err());
}

#[test]
fn every_file_is_known_and_says_what_it_is() {
    if flag().is_some() {
        // Others are writing.
        return;
    }
    let mut found: Vec<String> = fs::read_dir(folder()).unwrap().map(|f| name_of(f.unwrap())).collect();
    found.sort();
    let mut known: Vec<String> = FILES.iter().map(|(name, _)| format!("{name}.json")).collect();
    known.push("README.md".to_owned());
    known.sort();
    assert_eq!(found, known);
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    for (name, status) in FILES {
        let file: Value =
            serde_json::from_str(&fs::read_to_string(folder().join(format!("{name}.json"))).unwrap()).unwrap();
        assert_eq!(file["status"], json!(status), "{name}");
        assert!(text(&file["description"]).ends_with('.'), "{name}");
        assert_eq!(name.starts_with("experimental-"), status == Experimental, "{name}");
        assert!(readme.contains(&format!("`{name}.json`")), "{name} is not in the README");
    }
}

fn name_of(file: fs::DirEntry) -> String {
    file.file_name().into_string().unwrap()
}

// Identifiers.

const CANONICAL: [(&str, &str); 13] = [
    ("tel:+4915112345642", "a German mobile"),
    ("tel:+390612345678", "an Italian landline keeps its leading zero"),
    ("tel:+39612345678", "without the zero it is another CSI"),
    ("tel:+5491123456789", "an Argentine mobile as dialled from abroad, with the 9"),
    ("tel:+541123456789", "the same without the 9: another CSI"),
    ("tel:+2901234", "seven digits, the fewest"),
    ("tel:+123456789012345", "fifteen digits, the most"),
    ("mailto:ann@post.example", "an address"),
    ("mailto:Ann@post.example", "the local part is kept byte for byte"),
    ("mailto:ann+news@post.example", "a plus-address is a CSI of its own"),
    ("mailto:o'neil=x@xn--bcher-kva.example", "a domain in A-labels, a local part with punctuation"),
    ("mailto:j\u{fc}rgen@post.example", "a local part beyond ASCII, in NFC"),
    ("mailto:a@b.c", "one byte each"),
];

const NOT_CANONICAL: [(&str, &str); 24] = [
    ("", "scheme"),
    ("+4915112345642", "scheme"),
    ("TEL:+4915112345642", "scheme"),
    ("sip:ann@post.example", "scheme"),
    ("tel:4915112345642", "number"),
    ("tel:+049151123456", "number"),
    ("tel:+123456", "number"),
    ("tel:+1234567890123456", "number"),
    ("tel:+49 15112345642", "number"),
    ("tel:+4915112345642;ext=1", "number"),
    ("tel:+491511234564\u{0662}", "number"),
    ("mailto:ann", "domain"),
    ("mailto:ann@localhost", "domain"),
    ("mailto:ann@Post.example", "domain"),
    ("mailto:ann@b\u{fc}cher.example", "domain"),
    ("mailto:ann@post..example", "domain"),
    ("mailto:ann@-post.example", "domain"),
    ("mailto:ann@post.example.", "domain"),
    ("mailto:@post.example", "local-part"),
    ("mailto:a..b@post.example", "local-part"),
    ("mailto:\"a b\"@post.example", "local-part"),
    ("mailto:a@b@post.example", "local-part"),
    ("mailto:a\u{202e}b@post.example", "local-part"),
    ("mailto:u\u{308}@post.example", "local-part"),
];

const fn reason(error: CsiError) -> &'static str {
    match error {
        CsiError::Scheme => "scheme",
        CsiError::Number => "number",
        CsiError::LocalPart => "local-part",
        CsiError::Domain => "domain",
        CsiError::TooLong => "too-long",
    }
}

fn refused(csi: &str) -> Value {
    json!({ "text": csi, "reason": reason(Csi::parse(csi).unwrap_err()) })
}

#[test]
fn identifiers() {
    let accepted = CANONICAL.map(|(text, why)| json!({ "text": text, "why": why, "bytes": hex(encode(&csi(text))) }));
    let mut bad: Vec<Value> = NOT_CANONICAL.iter().map(|(text, _)| refused(text)).collect();
    bad.push(refused(&format!("mailto:{}@post.example", "a".repeat(65))));
    bad.push(refused(&format!("mailto:a@{}example", "abcdefg.".repeat(40))));
    let file = settle(
        "identifiers",
        "Canonical CSIs with their TLS form, and texts that are refused with the reason.",
        &json!({ "accepted": accepted, "refused": bad }),
    );
    for case in list(&file["accepted"]) {
        let read: Csi = decode("csi", &bytes(&case["bytes"])).unwrap();
        assert_eq!(read.expose(), text(&case["text"]));
        assert_eq!(bytes(&case["bytes"]), hand::opaque8(text(&case["text"]).as_bytes()));
    }
    for (case, (text_wanted, why)) in list(&file["refused"]).iter().zip(NOT_CANONICAL) {
        assert_eq!((text(&case["text"]), text(&case["reason"])), (text_wanted, why));
    }
    for case in list(&file["refused"]) {
        assert_eq!(Csi::parse(text(&case["text"])).map_err(reason), Err(text(&case["reason"])));
        if text(&case["reason"]) != "too-long" {
            assert!(decode::<Csi>("csi", &hand::opaque8(text(&case["text"]).as_bytes())).is_err());
        }
    }
}

// Labels.

/// The order of the group of edwards25519, little endian.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The proof with s + q in place of s: the same equation, another encoding.
fn with_order_added(proof: &VrfProof) -> [u8; 80] {
    let (mut bytes, mut carry) = (*proof.as_bytes(), 0);
    for (byte, order) in bytes[48..].iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    bytes
}

#[test]
fn labels() {
    let secret = vrf();
    let case = |(who, version): (&str, u32)| {
        let (proof, label) = prove_label(&secret, &csi(who), version);
        let input = hex(label_input(&csi(who), version));
        json!({ "csi": who, "version": version, "input": input, "proof": hex(proof.as_bytes()), "label": hash_hex(&label.0) })
    };
    let asked = [(ANN, 0), (ANN, 1), (ANN, 2), (ANN, 3), (ANN, u32::MAX - 1), (BEN, 0), (NOBODY, 0)];
    let good = prove_label(&secret, &csi(ANN), 0).0;
    let mut flipped = *good.as_bytes();
    flipped[32] ^= 1;
    let bad = |why: &str, public: &[u8; 32], version: u32, proof: &[u8; 80]| {
        let (public, proof) = (hex(public), hex(proof));
        json!({ "why": why, "public": public, "csi": ANN, "version": version, "proof": proof })
    };
    let public = *secret.public().as_bytes();
    let mut small_order = [0; 32];
    small_order[0] = 1;
    let refused = [
        bad("the proof is for another version", &public, 1, good.as_bytes()),
        bad("s + q in place of s: not the one encoding of the proof", &public, 0, &with_order_added(&good)),
        bad("one bit of c is flipped", &public, 0, &flipped),
        bad("a public key of small order", &small_order, 0, good.as_bytes()),
    ];
    let file = settle(
        "labels",
        "Labels of CSI versions: VRF input, proof and output under a constant key; proofs that are refused.",
        &json!({
            "seed": hex(seed("vrf")),
            "public": secret.public().to_hex(),
            "labels": asked.map(case),
            "refused": refused,
        }),
    );
    let public = key(&file["public"]);
    for case in list(&file["labels"]) {
        let (who, version) = (csi(text(&case["csi"])), short(&case["version"]));
        let proof = VrfProof::new(array(&case["proof"]));
        assert_eq!(verify_label(&public, &who, version, &proof), Ok(Label(hash(&case["label"]))));
        let by_hand = [hand::opaque8(who.expose().as_bytes()), version.to_be_bytes().to_vec()].concat();
        assert_eq!(bytes(&case["input"]), by_hand);
    }
    for case in list(&file["refused"]) {
        let (who, proof) = (csi(text(&case["csi"])), VrfProof::new(array(&case["proof"])));
        assert!(verify_label(&key(&case["public"]), &who, short(&case["version"]), &proof).is_err(), "{}", case["why"]);
    }
}

// Commitments.

/// KEYTRANS cipher suite 0x0002, from FORMATS.md.
const KC: &str = "d821f8790d97709796b4d7903357c3f5";

#[test]
fn commitments() {
    let values: [(&str, u32, Vec<u8>); 4] = [
        (ANN, 0, opaque_value(0).1),
        (ANN, 1, opaque_value(1).1),
        (BEN, 0, vec![]),
        ("mailto:a@b.c", u32::MAX - 1, (0..=255).collect()),
    ];
    let case = |(who, version, value): &(&str, u32, Vec<u8>)| {
        let opening = if value.starts_with(b"an opaque") { opaque_value(*version).0 } else { opening(who) };
        let commitment = commit(&opening, &csi(who), *version, value);
        json!({
            "opening": hex(opening.0), "csi": who, "version": version, "value": hex(value),
            "commitment": hash_hex(&commitment),
        })
    };
    let digest = |(name, value): (&str, &[u8])| json!({ "salt": hex(salt(name).0), "value": hex(value), "digest": hash_hex(&blind(&salt(name), value)) });
    let digests = [("opaque consent", &b"an opaque mapping"[..]), ("nothing", b"")];
    let file = settle(
        "commitments",
        "Commitments to a value under CSI and version, and blinded digests.",
        &json!({
            "commitments": values.iter().map(case).collect::<Vec<_>>(),
            "digests": digests.map(digest),
        }),
    );
    for case in list(&file["commitments"]) {
        let (who, version, value) = (text(&case["csi"]), short(&case["version"]), bytes(&case["value"]));
        let opening = Opening(array(&case["opening"]));
        assert_eq!(commit(&opening, &csi(who), version, &value), hash(&case["commitment"]));
        let message = [
            bytes(&case["opening"]),
            hand::opaque8(who.as_bytes()),
            version.to_be_bytes().to_vec(),
            (value.len() as u32).to_be_bytes().to_vec(),
            value,
        ];
        let kc = HEXLOWER.decode(KC.as_bytes()).unwrap();
        assert_eq!(hand::hmac(&kc, &message.concat()), bytes(&case["commitment"]));
    }
    for case in list(&file["digests"]) {
        assert!(opens(&hash(&case["digest"]), &Salt(array(&case["salt"])), &bytes(&case["value"])));
        assert_eq!(hand::hmac(&bytes(&case["salt"]), &bytes(&case["value"])), bytes(&case["digest"]));
    }
}

// Ladders.

#[test]
fn ladders() {
    let far = [31, 32, 33, 100, 1000, u32::MAX / 2 - 1, u32::MAX / 2, u32::MAX - 1];
    let latest = std::iter::once(None).chain((0..=16).map(Some)).chain(far.map(Some));
    let case = |n: Option<u32>| json!({ "latest": n, "versions": ladder::base(n), "watched": ladder::watched(n) });
    let file = settle(
        "ladders",
        "For each latest version: the versions to look up, in order, and those of them that must be absent.",
        &json!({ "ladders": latest.map(case).collect::<Vec<_>>() }),
    );
    let cases = list(&file["ladders"]);
    let latest_of = |case: &Value| case["latest"].as_u64().map(|n| u32::try_from(n).unwrap());
    for case in cases {
        let n = latest_of(case);
        assert_eq!(shorts(&case["versions"]), ladder_by_hand(n), "{n:?}");
        let absent: Vec<u32> = shorts(&case["versions"]).into_iter().filter(|v| n.is_none_or(|n| *v > n)).collect();
        assert_eq!(shorts(&case["watched"]), absent);
        // A later version that is claimed to be the latest must show one of these present.
        for later in cases.iter().filter(|c| latest_of(c) > n) {
            let present: Vec<u32> = shorts(&later["versions"]);
            assert!(absent.iter().any(|v| present.contains(v) && Some(*v) <= latest_of(later)), "{n:?} {later}");
        }
    }
}

/// FORMATS.md's words, one after the other.
fn ladder_by_hand(latest: Option<u32>) -> Vec<u32> {
    let Some(n) = latest else { return vec![0] };
    let mut looked_up = vec![];
    let (mut below, mut above) = (0u64, 0u64);
    while above <= u64::from(n) {
        below = above;
        looked_up.push(above);
        above = 2 * above + 1;
    }
    looked_up.push(above);
    while above - below > 1 {
        let between = (below + above) / 2;
        looked_up.push(between);
        if between <= u64::from(n) { below = between } else { above = between }
    }
    looked_up.into_iter().map(|v| u32::try_from(v).unwrap()).collect()
}

// The prefix map.

/// A key of two given bytes and zeros.
fn map_key(first: u8, second: u8) -> Hash {
    let mut key = [0; 32];
    (key[0], key[1]) = (first, second);
    Hash::new(key)
}

/// A map and what is looked up in it.
struct MapCase {
    name: &'static str,
    entries: Vec<(Hash, Hash)>,
    searches: Vec<Vec<Hash>>,
}

fn maps() -> Vec<MapCase> {
    let map = |name, entries, searches| MapCase { name, entries, searches };
    let entry = |key: Hash| (key, Hash::new(seed(&format!("commitment {}", key.to_hex()))));
    let (a, b, c, d) = (map_key(0x00, 1), map_key(0x00, 2), map_key(0x40, 3), map_key(0xff, 4));
    let random: Vec<Hash> = (0..40).map(|i| Hash::new(seed(&format!("map key {i}")))).collect();
    let missing: Vec<Hash> = (40..43).map(|i| Hash::new(seed(&format!("map key {i}")))).collect();
    let mixed = vec![random[7], missing[0], random[0], missing[1], random[31]];
    vec![
        map("empty", vec![], vec![vec![a], vec![d, a]]),
        map("one entry", vec![entry(c)], vec![vec![c], vec![d], vec![map_key(0x41, 9), map_key(0x00, 9)]]),
        // a and b part at bit 14 only; most of what they pass on the way there has one child.
        map(
            "four entries",
            vec![entry(a), entry(b), entry(c), entry(d)],
            vec![
                vec![a],
                vec![b, a],
                vec![d, c, b, a],
                vec![map_key(0x00, 3)],
                vec![map_key(0x00, 9), a],
                vec![map_key(0x80, 9)],
                vec![map_key(0x80, 9), map_key(0x81, 9)],
                vec![map_key(0x10, 9), c],
            ],
        ),
        map("forty entries", random.iter().copied().map(entry).collect(), vec![vec![random[3]], missing, mixed]),
    ]
}

#[test]
fn prefix_map() {
    let hex_or_null = |commitment: Option<Hash>| commitment.map_or(Value::Null, |c| json!(c.to_hex()));
    let mut trees = vec![];
    for MapCase { name, entries, searches } in maps() {
        let tree = PrefixTree::from_entries(entries.clone()).unwrap();
        let prove = |keys: &Vec<Hash>| {
            let proof = encode(&tree.prove(keys).unwrap().0);
            let searched = |k: &Hash| json!({ "key": k.to_hex(), "commitment": hex_or_null(tree.get(k)) });
            json!({ "keys": keys.iter().map(searched).collect::<Vec<_>>(), "proof": hex(proof) })
        };
        trees.push(json!({
            "name": name,
            "entries": entries.iter().map(|(k, c)| json!([k.to_hex(), c.to_hex()])).collect::<Vec<_>>(),
            "root": tree.root().to_hex(),
            "proofs": searches.iter().map(prove).collect::<Vec<_>>(),
        }));
    }
    let file = settle(
        "prefix-map",
        "Prefix maps with their roots, proofs of presence and absence, and proofs that are refused.",
        &json!({ "trees": trees, "refused": refused_proofs() }),
    );
    for tree in list(&file["trees"]) {
        let entries: Vec<(Vec<u8>, Vec<u8>)> =
            tree["entries"].as_array().unwrap().iter().map(|e| (bytes(&e[0]), bytes(&e[1]))).collect();
        assert_eq!(hand::map(&entries, 0), bytes(&tree["root"]), "{}", tree["name"]);
        for case in list(&tree["proofs"]) {
            assert_eq!(judge_proof(case, &hash(&tree["root"])), Ok(()), "{case}");
        }
    }
    for case in list(&file["refused"]) {
        assert!(judge_proof(case, &hash(&case["root"])).is_err(), "{}", case["why"]);
    }
}

fn judge_proof(case: &Value, root: &Hash) -> Result<(), String> {
    let proof: PrefixProof = decode("prefix proof", &bytes(&case["proof"])).map_err(|e| e.to_string())?;
    let commitment = |v: &Value| (!v.is_null()).then(|| hash(v));
    let keys: Vec<(Hash, Option<Hash>)> =
        list(&case["keys"]).iter().map(|k| (hash(&k["key"]), commitment(&k["commitment"]))).collect();
    proof.verify(&keys, root).map_err(|e| e.to_string())
}

/// Proofs put together by hand over the map of four entries, each wrong in one way.
fn refused_proofs() -> Vec<Value> {
    let MapCase { entries, .. } = maps().swap_remove(2);
    let tree = PrefixTree::from_entries(entries.clone()).unwrap();
    let [(a, of_a), (b, _), (c, of_c), (d, of_d)] = entries[..] else { unreachable!("four entries") };
    let prove = |keys: &[Hash]| encode(&tree.prove(keys).unwrap().0);
    let case = |why: &str, keys: &[(Hash, Option<Hash>)], proof: Vec<u8>| {
        let key = |(k, v): &(Hash, Option<Hash>)| json!({ "key": k.to_hex(), "commitment": v.map(|v| v.to_hex()) });
        let keys: Vec<Value> = keys.iter().map(key).collect();
        json!({ "why": why, "root": tree.root().to_hex(), "keys": keys, "proof": hex(proof) })
    };
    // d alone lies at depth 1: one result of two bytes, then the elements.
    let of_d_proof = prove(&[d]);
    let elements = of_d_proof[3..].to_vec();
    let as_neighbour = |key: &Hash, commitment: &Hash, depth: u8| {
        [&[1, 2][..], key.as_bytes(), commitment.as_bytes(), &[depth], &elements].concat()
    };
    let (near, far) = (map_key(0x80, 9), map_key(0x10, 9));
    let mut one_more = of_d_proof.clone();
    one_more[4] += 1;
    one_more.extend([0; 32]);
    let mut one_less = of_d_proof.clone();
    one_less[4] -= 1;
    one_less.truncate(one_less.len() - 32);
    let mut deeper = of_d_proof.clone();
    deeper[2] += 1;
    let mut shuffled = prove(&[a, b]);
    let last = shuffled.len() - 32;
    shuffled.copy_within(last - 32..last, last);
    // Two searches end at one leaf and are shown different ones.
    let other_leaf = map_key(0x81, 7);
    let neighbour = |leaf: &Hash| [&[2][..], leaf.as_bytes(), of_d.as_bytes(), &[1]].concat();
    let quarrel = [&[2][..], &neighbour(&d), &neighbour(&other_leaf), &elements].concat();
    vec![
        case("a key that is there is shown as its own neighbour", &[(d, None)], as_neighbour(&d, &of_d, 1)),
        case("the neighbour does not lie where the search went", &[(far, None)], as_neighbour(&d, &of_d, 1)),
        case("another commitment", &[(d, Some(of_c))], of_d_proof.clone()),
        case("said to be absent, shown as present", &[(d, None)], of_d_proof.clone()),
        case("one element too many", &[(d, Some(of_d))], one_more),
        case("one element too few", &[(d, Some(of_d))], one_less),
        case("a depth that is not the leaf's", &[(d, Some(of_d))], deeper),
        case("an element repeated in place of another", &[(a, Some(of_a)), (b, tree.get(&b))], shuffled),
        case("two results for one key", &[(d, Some(of_d))], prove(&[d, c])),
        case("one key twice", &[(d, Some(of_d)), (d, Some(of_d))], [&[2, 1, 1, 1, 1][..], &elements].concat()),
        case("two searches end at one node and disagree", &[(near, None), (map_key(0x82, 9), None)], quarrel),
        case("a result of unknown type", &[(d, Some(of_d))], [&[1, 4, 1][..], &elements].concat()),
        case("a byte is left over", &[(d, Some(of_d))], [&of_d_proof[..], &[0]].concat()),
    ]
}

// Entries.

/// Each kind of entry, each kind of provider entry: those of the log.
fn named_entries(world: &World) -> Vec<(&'static str, u64)> {
    let find = |wanted: &dyn Fn(&Entry) -> bool| {
        let found = world.entries.iter().position(|e| wanted(&Entry::decode(e).unwrap()));
        found.expect("the log has one of each") as u64
    };
    let provider = |wanted: fn(&Provider) -> bool| find(&|e| matches!(e, Entry::Provider(p) if wanted(p)));
    let unsigned = |p: &Provider| p.by_valid.as_slice().is_empty() && p.previous_leaf != Hash::ZERO;
    vec![
        ("open", 0),
        ("head", find(&|e| matches!(e, Entry::Head(_)))),
        ("config", find(&|e| matches!(e, Entry::Config(_)))),
        ("provider, the first key of a domain", provider(|p| p.previous_leaf == Hash::ZERO)),
        ("provider, rotated under the valid key", provider(|p| p.action == ProviderAction::Rotate)),
        (
            "provider, added without a valid key: due after seven days",
            find(&|e| matches!(e, Entry::Provider(p) if unsigned(p))),
        ),
        ("provider, a pending key retired", provider(|p| p.action == ProviderAction::Retire)),
        ("consent", find(&|e| matches!(e, Entry::Consent(_)))),
        ("change", find(&|e| matches!(e, Entry::Change(_)))),
    ]
}

fn role_name(role: ProviderRole) -> &'static str {
    match role {
        ProviderRole::Msp => "msp",
        ProviderRole::Prover => "prover",
        ProviderRole::Csip => "csip",
    }
}

fn fields(entry: &Entry) -> Value {
    match entry {
        Entry::Open(e) => json!({
            "domain": e.domain.as_str(), "origin": e.origin.get().as_str(), "vrf": e.vrf.to_hex(),
            "interval_ms": e.interval_ms, "policy": e.policy.to_hex(), "not_before": e.not_before.get(),
            "reserved": hex(e.reserved.as_slice()),
        }),
        Entry::Config(e) => json!({
            "interval_ms": e.interval_ms, "policy": e.policy.to_hex(), "log_key": e.log_key.to_hex(),
            "previous": e.previous.to_hex(), "by_log_key": hex(e.sig.as_bytes()),
        }),
        Entry::Provider(e) => json!({
            "role": role_name(e.role), "action": format!("{:?}", e.action).to_lowercase(), "domain": e.domain.as_str(),
            "class": e.class, "publishes": e.publishes.0, "key": e.key.to_hex(), "previous_leaf": e.previous_leaf.to_hex(),
            "by_key": hex(e.by_key.as_bytes()), "by_valid": hex(e.by_valid.as_slice()),
        }),
        Entry::Consent(e) => json!({
            "msp": e.msp.as_str(), "msp_key": e.msp_key.to_hex(), "blinded": e.blinded.to_hex(),
            "expiry": e.expiry.get(), "sig": hex(e.sig.as_bytes()),
        }),
        Entry::Change(e) => json!({ "label": e.label.0.to_hex(), "commitment": e.commitment.to_hex() }),
        Entry::Head(e) => json!({
            "time": e.time.get(), "changes": e.changes, "map_root": e.map_root.to_hex(), "open": e.open.to_hex(),
            "config": e.config.to_hex(), "provider_root": e.provider_root.to_hex(),
        }),
    }
}

/// Signatures inside an entry: by which key, over which bytes.
fn signatures(entry: &Entry) -> Vec<Value> {
    let one = |by: &Key, context: &str, message: Vec<u8>, signature: &[u8]| json!({ "by": by.to_hex(), "context": context, "message": hex(message), "signature": hex(signature) });
    let of = |context: &'static str, fields: Vec<u8>| message(context, &origin(), &fields);
    match entry {
        Entry::Config(e) => {
            let message = of("waymark/1 config log", e.fields());
            vec![one(&secret("log").public(), "waymark/1 config log", message, e.sig.as_bytes())]
        }
        Entry::Consent(e) => {
            vec![one(&e.msp_key, "waymark/1 consent msp", of("waymark/1 consent msp", e.fields()), e.sig.as_bytes())]
        }
        Entry::Provider(e) => {
            let by_key = one(&e.key, "waymark/1 provider key", e.key_message(&origin()), e.by_key.as_bytes());
            let valid = secret(e.domain.as_str()).public();
            let by_valid = one(&valid, "waymark/1 provider valid", e.valid_message(&origin()), e.by_valid.as_slice());
            let all = [(e.by_key != UNSIGNED, by_key), (!e.by_valid.as_slice().is_empty(), by_valid)];
            all.into_iter().filter(|(is_there, _)| *is_there).map(|(_, one)| one).collect()
        }
        Entry::Open(_) | Entry::Change(_) | Entry::Head(_) => vec![],
    }
}

fn refused_entries(world: &World) -> Vec<Value> {
    let of = |name: &str| {
        let (_, index) = *named_entries(world).iter().find(|(n, _)| *n == name).unwrap();
        world.entries[index as usize].clone()
    };
    let edit = |name: &str, at: usize, byte: u8| {
        let mut entry = of(name);
        entry[at] = byte;
        entry
    };
    let first = "provider, the first key of a domain";
    let mut short_signature = of(first);
    let last = short_signature.len() - 1;
    short_signature[last] = 63;
    short_signature.extend([1; 63]);
    let cases = [
        ("an unknown format version", edit("change", 0, 2)),
        ("kind 0", edit("change", 1, 0)),
        ("kind 7, close, is reserved", edit("change", 1, 7)),
        ("kind 8, carry, is reserved", edit("change", 1, 8)),
        ("a change that is a byte too short", of("change")[..65].to_vec()),
        ("a change that is a byte too long", [of("change"), vec![0]].concat()),
        ("a provider's role that is not defined", edit(first, 2, 4)),
        ("a provider's action that is not defined", edit(first, 3, 0)),
        ("a domain that is not in canonical form", edit(first, 5, b'D')),
        ("a signature by a valid key that has 63 bytes", short_signature),
        ("nothing", vec![]),
    ];
    cases.into_iter().map(|(why, entry)| json!({ "why": why, "bytes": hex(entry) })).collect()
}

#[test]
fn entries() {
    let world = World::of_final_structures();
    let case = |(name, index): (&str, u64)| {
        let bytes = &world.entries[index as usize];
        let entry = Entry::decode(bytes).unwrap();
        json!({
            "name": name, "bytes": hex(bytes), "leaf_hash": leaf_hash(bytes).to_hex(), "fields": fields(&entry),
            "signatures": signatures(&entry),
        })
    };
    let file = settle(
        "entries",
        "Log entries of each kind with their leaf hash, what they say and what their signatures are over.",
        &json!({
            "origin": origin().as_str(),
            "entries": named_entries(&world).into_iter().map(case).collect::<Vec<_>>(),
            "refused": refused_entries(&world),
        }),
    );
    for case in list(&file["entries"]) {
        let entry = Entry::decode(&bytes(&case["bytes"])).unwrap();
        assert_eq!(entry.encode(), bytes(&case["bytes"]));
        assert_eq!(fields(&entry), case["fields"]);
        assert_eq!(leaf_hash(&bytes(&case["bytes"])), hash(&case["leaf_hash"]));
        for one in case["signatures"].as_array().unwrap() {
            let signature = Signature::new(array(&one["signature"]));
            assert_eq!(key(&one["by"]).verify(&bytes(&one["message"]), &signature), Ok(()), "{}", case["name"]);
        }
        entry_by_hand(case, text(&file["origin"]));
    }
    for case in list(&file["refused"]) {
        assert!(Entry::decode(&bytes(&case["bytes"])).is_err(), "{}", case["why"]);
    }
}

/// An entry put together from its fields as FORMATS.md draws them.
fn entry_by_hand(case: &Value, origin: &str) {
    let f = &case["fields"];
    let raw = |name: &str| bytes(&f[name]);
    let name = |field: &str| hand::opaque8(text(&f[field]).as_bytes());
    let uint32 = |field: &str| short(&f[field]).to_be_bytes().to_vec();
    let uint64 = |field: &str| number(&f[field]).to_be_bytes().to_vec();
    let code = |field: &str, words: &[&str]| vec![1 + words.iter().position(|w| *w == text(&f[field])).unwrap() as u8];
    let (kind, unsigned, rest) = match text(&case["name"]).split(',').next().unwrap() {
        "open" => (
            1,
            vec![
                name("domain"),
                name("origin"),
                raw("vrf"),
                uint32("interval_ms"),
                raw("policy"),
                uint64("not_before"),
                hand::opaque8(&raw("reserved")),
            ],
            vec![],
        ),
        "config" => {
            let unsigned = vec![uint32("interval_ms"), raw("policy"), raw("log_key"), raw("previous")];
            (2, unsigned, vec![raw("by_log_key")])
        }
        "provider" => {
            let unsigned = vec![
                code("role", &["msp", "prover", "csip"]),
                code("action", &["add", "rotate", "retire"]),
                name("domain"),
                vec![number(&f["class"]) as u8, u8::from(f["publishes"] == json!(true))],
                raw("key"),
                raw("previous_leaf"),
            ];
            (3, unsigned, vec![raw("by_key"), hand::opaque8(&raw("by_valid"))])
        }
        "consent" => (4, vec![name("msp"), raw("msp_key"), raw("blinded"), uint64("expiry")], vec![raw("sig")]),
        "change" => (5, vec![raw("label"), raw("commitment")], vec![]),
        "head" => {
            let roots = ["map_root", "open", "config", "provider_root"].map(raw).to_vec();
            (6, [vec![uint64("time"), uint64("changes")], roots].concat(), vec![])
        }
        other => panic!("{other}"),
    };
    let unsigned = unsigned.concat();
    let entry = [&[1, kind][..], &unsigned, &rest.concat()].concat();
    assert_eq!(entry, bytes(&case["bytes"]), "{}", case["name"]);
    assert_eq!(hand::sha256(&[&[0], &entry]), bytes(&case["leaf_hash"]), "{}", case["name"]);
    for one in case["signatures"].as_array().unwrap() {
        let message = hand::signed(text(&one["context"]), origin, &unsigned);
        assert_eq!(message, bytes(&one["message"]), "{}", case["name"]);
    }
}

// The log.

/// The tiles that the checkpoint needs.
fn tiles(world: &World) -> Vec<Value> {
    let mut edge = Edge::new();
    for entry in &world.entries {
        edge.append(entry, |_, _| panic!("the log is smaller than a tile")).unwrap();
    }
    edge.partials(0).iter().map(|(tile, bytes)| json!({ "path": tile.path(), "bytes": hex(bytes) })).collect()
}

#[test]
fn log() {
    let world = World::of_final_structures();
    let leaves = world.leaves();
    let head = |(index, head): &(u64, _)| {
        json!({
            "index": index, "fields": fields(&Entry::Head(*head)), "size": index + 1,
            "root": naive_root(&leaves[..=*index as usize]).to_hex(),
            "path": world.path(*index, index + 1).iter().map(hash_hex).collect::<Vec<_>>(),
        })
    };
    let provider = |leaf: &ProviderLeaf| {
        json!({
            "domain": leaf.domain.as_str(), "key": domain_key(&leaf.domain).to_hex(), "bytes": hex(encode(leaf)),
            "digest": leaf.digest().to_hex(),
        })
    };
    let file = settle(
        "log",
        "A whole log: its entries, each head with its place and path, the tiles, the providers as they stand at the end.",
        &json!({
            "origin": origin().as_str(),
            "log_key": secret("log").public().to_hex(),
            "entries": world.entries.iter().map(hex).collect::<Vec<_>>(),
            "heads": world.heads.iter().map(head).collect::<Vec<_>>(),
            "tiles": tiles(&world),
            "provider_leaves": world.providers.leaves().map(provider).collect::<Vec<_>>(),
        }),
    );
    let entries: Vec<Vec<u8>> = list(&file["entries"]).iter().map(bytes).collect();
    let mut replay = Replay::new(origin(), key(&file["log_key"]));
    for head in list(&file["heads"]) {
        let (index, size, root) = (number(&head["index"]), number(&head["size"]), hash(&head["root"]));
        let from = replay.size() as usize;
        let step = replay.extend(&entries[from..size as usize], size, &root);
        assert_eq!((step.findings, step.notices), (vec![], Vec::<String>::new()));
        let path: Vec<Hash> = head["path"].as_array().unwrap().iter().map(hash).collect();
        let entry = Entry::decode(&entries[index as usize]).unwrap();
        assert_eq!(fields(&entry), head["fields"]);
        verify_inclusion(index, size, &leaf_hash(&entries[index as usize]), &path, &root).unwrap();
    }
    assert_eq!(replay.size(), entries.len() as u64);
    check_that_nothing_forged_is_believed(&entries, &file);
    check_tiles(&file, &entries);
    log_by_hand(&file, &entries);
}

/// One bit of one entry, and the monitor believes nothing.
fn check_that_nothing_forged_is_believed(entries: &[Vec<u8>], file: &Value) {
    let last = list(&file["heads"]).last().unwrap();
    let mut entries = entries.to_vec();
    entries[3][70] ^= 1;
    let mut replay = Replay::new(origin(), key(&file["log_key"]));
    let step: Step = replay.extend(&entries, number(&last["size"]), &hash(&last["root"]));
    assert_eq!((step.findings.len(), replay.size()), (1, 0));
}

fn check_tiles(file: &Value, entries: &[Vec<u8>]) {
    for case in list(&file["tiles"]) {
        let tile = Tile::parse(text(&case["path"])).unwrap();
        let content = bytes(&case["bytes"]);
        match tile.kind {
            TileKind::Hashes { level } => {
                let leaves: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
                assert_eq!((level, decode_hashes(&content, tile.width).unwrap()), (0, leaves));
            }
            TileKind::Entries => assert_eq!(decode_bundle(&content, tile.width).unwrap(), entries),
        }
    }
}

/// Roots, map and providers from the entries' bytes.
fn log_by_hand(file: &Value, entries: &[Vec<u8>]) {
    let leaves: Vec<Vec<u8>> = entries.iter().map(|e| hand::sha256(&[&[0], e])).collect();
    for head in list(&file["heads"]) {
        let (index, f) = (number(&head["index"]) as usize, &head["fields"]);
        assert_eq!(hand::tree(&leaves[..=index]), bytes(&head["root"]));
        let changes: Vec<&Vec<u8>> = entries[..index].iter().filter(|e| e[1] == 5).collect();
        let map: Vec<(Vec<u8>, Vec<u8>)> = changes.iter().map(|e| (e[2..34].to_vec(), e[34..66].to_vec())).collect();
        assert_eq!((changes.len() as u64, hand::map(&map, 0)), (number(&f["changes"]), bytes(&f["map_root"])));
        assert_eq!(hand::sha256(&[&entries[0]]), bytes(&f["open"]));
        let config = entries[..index].iter().rfind(|e| e[1] == 2).map_or(vec![0; 32], |e| hand::sha256(&[e]));
        assert_eq!(config, bytes(&f["config"]));
    }
    let leaf = |case: &Value| {
        let (domain, of) = (text(&case["domain"]), bytes(&case["bytes"]));
        // opaque domain, two bytes of length, keys of 51 bytes.
        assert_eq!(of[..=domain.len()], hand::opaque8(domain.as_bytes()));
        assert_eq!((of.len() - domain.len() - 3) % 51, 0);
        assert_eq!(hand::sha256(&[&of]), bytes(&case["digest"]));
        assert_eq!(hand::sha256(&[domain.as_bytes()]), bytes(&case["key"]));
        (bytes(&case["key"]), bytes(&case["digest"]))
    };
    let providers: Vec<(Vec<u8>, Vec<u8>)> = list(&file["provider_leaves"]).iter().map(leaf).collect();
    let last = list(&file["heads"]).last().unwrap();
    assert_eq!(hand::map(&providers, 0), bytes(&last["fields"]["provider_root"]));
}

// The checkpoint.

const FRESH: Freshness = Freshness { max_age_s: 600, skew_s: 30 };

#[test]
fn checkpoint() {
    let world = World::of_final_structures();
    let checkpoint = world.checkpoint();
    let plain = checkpoint.format();
    let signed = SignedCheckpoint::sign(checkpoint, &log_signer()).to_note(&[]);
    let (cosigned, at) = (world.cosigned(), world.head_s());
    let cosignature = |i: u64| {
        let (witness, time) = (witness(i + 1), UnixSeconds::new(at + i));
        let line = witness.cosign(&plain, time).to_string();
        let message = format!("cosignature/v1\ntime {}\n{plain}", time.get());
        json!({
            "name": format!("w{}.example", i + 1), "seed": hex(seed(&format!("w{}.example", i + 1))),
            "vkey": witness.vkey().to_string(), "time_s": time.get(), "message": message, "line": line,
        })
    };
    let index = world.size() - 2;
    let hashes = world.path(index, world.size());
    let proof = TlogProof { extra: None, index, hashes, checkpoint: cosigned.clone() };
    let case = |now: u64| {
        let judged = Policy::parse(&policy_text()).unwrap().judge(cosigned.as_bytes(), UnixSeconds::new(now), FRESH);
        let (verdict, quorum) = match judged {
            Ok(met) => ("met", json!(met.quorum_time().get())),
            Err(Unmet::Stale { .. }) => ("stale", Value::Null),
            Err(other) => panic!("{other}"),
        };
        json!({ "now_s": now, "verdict": verdict, "quorum_time_s": quorum })
    };
    // Around the window: one, two and three cosignatures inside it, at its end and past it.
    let times = [at - 30, at - 29, at - 28, at + 2, at + 600, at + 601];
    let file = settle(
        "checkpoint",
        "A checkpoint as it is signed, cosigned and judged by a policy at several times, and a tlog-proof under it.",
        &json!({
            "log": { "name": "dp.example/log", "seed": hex(seed("log")), "vkey": log_signer().vkey().to_string() },
            "checkpoint": plain,
            "signed": signed,
            "cosignatures": (0..3).map(cosignature).collect::<Vec<_>>(),
            "cosigned": cosigned,
            "policy": policy_text(),
            "max_age_s": FRESH.max_age_s,
            "skew_s": FRESH.skew_s,
            "judged": times.map(case),
            "entry": hex(&world.entries[index as usize]),
            "tlog_proof": proof.format(),
        }),
    );
    let policy = Policy::parse(text(&file["policy"])).unwrap();
    let freshness = Freshness { max_age_s: number(&file["max_age_s"]), skew_s: number(&file["skew_s"]) };
    let note = text(&file["cosigned"]).as_bytes();
    let parsed = Note::parse(note).unwrap();
    assert_eq!(Checkpoint::parse(text(&file["checkpoint"])).unwrap().format(), parsed.text());
    let of_log = Vkey::parse(text(&file["log"]["vkey"])).unwrap();
    assert_eq!(Note::parse(text(&file["signed"]).as_bytes()).unwrap().check(&of_log), Ok(true));
    for case in list(&file["judged"]) {
        let judged = policy.judge(note, UnixSeconds::new(number(&case["now_s"])), freshness);
        match text(&case["verdict"]) {
            "met" => assert_eq!(judged.unwrap().quorum_time().get(), number(&case["quorum_time_s"])),
            _ => assert!(matches!(judged, Err(Unmet::Stale { .. })), "{case}"),
        }
    }
    for case in list(&file["cosignatures"]) {
        let vkey = Vkey::parse(text(&case["vkey"])).unwrap();
        assert_eq!(cosignature::check(&parsed, &vkey), Ok(Some(UnixSeconds::new(number(&case["time_s"])))));
    }
    let proof = TlogProof::parse(text(&file["tlog_proof"])).unwrap();
    let (leaf, now) = (leaf_hash(&bytes(&file["entry"])), UnixSeconds::new(at + 2));
    proof.verify(&leaf, &policy, now, freshness).unwrap();
    assert!(proof.verify(&leaf_hash(b"another entry"), &policy, now, freshness).is_err());
    checkpoint_by_hand(&file);
}

/// Key IDs, note and cosignatures from FORMATS.md's words, down to the signed bytes.
fn checkpoint_by_hand(file: &Value) {
    use data_encoding::BASE64;
    // A verifier key is name+ID+key; the key's first byte is its type.
    let open_vkey = |vkey: &str| {
        let mut parts = vkey.splitn(3, '+');
        let (name, id, key) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let key = BASE64.decode(key.as_bytes()).unwrap();
        let computed = hand::sha256(&[name.as_bytes(), b"\n", &key]);
        assert_eq!(hex(&computed[..4]), id);
        (name.to_owned(), computed[..4].to_vec(), key)
    };
    let checkpoint = text(&file["checkpoint"]);
    let mut note = format!("{checkpoint}\n");
    let (name, id, log_key) = open_vkey(text(&file["log"]["vkey"]));
    assert_eq!(log_key[0], 1);
    let line = text(&file["signed"]).strip_prefix(&note).unwrap();
    let body = BASE64.decode(line.strip_prefix(&format!("\u{2014} {name} ")).unwrap().trim_end().as_bytes()).unwrap();
    assert_eq!(body[..4], id);
    let signature = Signature::from_slice(&body[4..]).unwrap();
    Key::from_slice(&log_key[1..]).unwrap().verify(checkpoint.as_bytes(), &signature).unwrap();
    note += line;
    for case in list(&file["cosignatures"]) {
        let (name, id, witness_key) = open_vkey(text(&case["vkey"]));
        assert_eq!(witness_key[0], 4);
        let line = text(&case["line"]);
        let body = line.strip_prefix(&format!("\u{2014} {name} ")).unwrap().trim_end();
        let body = BASE64.decode(body.as_bytes()).unwrap();
        assert_eq!((body.len(), &body[..4]), (4 + 8 + 64, &id[..]));
        assert_eq!(body[4..12], number(&case["time_s"]).to_be_bytes());
        let time = case["time_s"].to_string();
        let message = [&b"cosignature/v1\ntime "[..], time.as_bytes(), b"\n", checkpoint.as_bytes()];
        assert_eq!(message.concat(), text(&case["message"]).as_bytes());
        let signature = Signature::from_slice(&body[12..]).unwrap();
        Key::from_slice(&witness_key[1..]).unwrap().verify(&message.concat(), &signature).unwrap();
        note += line;
    }
    assert_eq!(note, text(&file["cosigned"]));
    assert!(text(&file["tlog_proof"]).starts_with("c2sp.org/tlog-proof@v1\nindex "));
    assert!(text(&file["tlog_proof"]).ends_with(&note));
}

// Answers.

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Absent => "absent",
        Outcome::OptedOut => "opted-out",
        Outcome::NoneListed => "none-listed",
        Outcome::Listed => "listed",
        Outcome::Erased => "erased",
    }
}

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
        "outcome": outcome_name(lookup.outcome), "version": lookup.version,
        "commitment": lookup.commitment.map(|c| c.to_hex()),
        "watched": lookup.watched.iter().map(|l| l.0.to_hex()).collect::<Vec<_>>(),
        "mappings": lookup.mappings.iter().map(mapping).collect::<Vec<_>>(),
        "log": {
            "origin": lookup.log.origin.as_str(), "size": lookup.log.size, "interval_ms": lookup.log.interval_ms,
            "head_time_ms": lookup.log.head_time.get(), "witnesses": lookup.log.witnesses, "quorum_age_s": lookup.log.age_s,
        },
    })
}

fn judge_answer(
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
fn answer_case(name: &str, answer: &Answer, who: &str, tag: Option<&str>, now: UnixMillis) -> Value {
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

fn check_answer(case: &Value, trust: &Value) {
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

// The document.

fn document() -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/FORMATS.md")).unwrap()
}

/// The rows of the document that name a limit, with the constant that sets it.
#[test]
fn the_document_names_the_limits_of_the_code() {
    use waymark::api;
    use waymark_log::{checkpoint, note, policy, proof, tile, tlogproof, witness as w};
    use waymark_mapping::{entry, identifier, mapping, names, prefix, provider, record, trust, watch};
    let hours = |h: u64| h * 3600 * 1000;
    let same = [
        (identifier::CSI_BYTES_MAX as u64, 255, "| CSI | 255 bytes |"),
        (names::DOMAIN_BYTES_MAX as u64, 253, "| local part, domain | 64, 253 bytes |"),
        (names::TAGS_MAX as u64, 8, "| tags of a mapping | 8 of 64 bytes, 256 bytes in all |"),
        (names::TAG_BYTES_MAX as u64, 64, "| tags of a mapping | 8 of 64 bytes, 256 bytes in all |"),
        (names::TAGS_BYTES_MAX as u64, 256, "| tags of a mapping | 8 of 64 bytes, 256 bytes in all |"),
        (record::VISIBLE_SLOTS_MAX as u64, 8, "| visible, hidden mappings | 8, 8 |"),
        (record::HIDDEN_SLOTS as u64, 8, "| visible, hidden mappings | 8, 8 |"),
        (mapping::MAPPING_LIFETIME_MS_MAX, hours(180 * 24), "| mapping's life | 180 days after possession |"),
        (record::NEW_MS, hours(72), "| newcomer | 72 h |"),
        (provider::UNSIGNED_WAIT_MS, hours(7 * 24), "| unsigned provider key | due after 7 days |"),
        (provider::KEYS_PER_DOMAIN_MAX as u64, 64, "| keys of a domain | 64 |"),
        (tile::ENTRY_BYTES_MAX as u64, 65_535, "| entry | 65,535 bytes |"),
        (entry::CHANGES_PER_HEAD_MAX as u64, 1024, "| between heads | 1,024 changes, 2,048 entries, 60 s |"),
        (entry::ENTRIES_PER_HEAD_MAX as u64, 2048, "| between heads | 1,024 changes, 2,048 entries, 60 s |"),
        (entry::HEAD_INTERVAL_MS_MAX, 60_000, "| between heads | 1,024 changes, 2,048 entries, 60 s |"),
        (entry::CHANGES_PER_BATCH_MIN as u64, 16, "| changes of a batch | at least 16, or none |"),
        (waymark_log::TREE_SIZE_MAX, 1 << 62, "| tree | 2^62 leaves; proofs of 63 hashes |"),
        (proof::PROOF_HASHES_MAX as u64, 63, "| tree | 2^62 leaves; proofs of 63 hashes |"),
        (note::NOTE_BYTES_MAX as u64, 128 << 10, "| note | 128 KiB, 64 lines |"),
        (note::SIGNATURES_MAX as u64, 64, "| note | 128 KiB, 64 lines |"),
        (note::KEY_NAME_BYTES_MAX as u64, 255, "| key name, origin | 255 bytes |"),
        (checkpoint::ORIGIN_BYTES_MAX as u64, 255, "| key name, origin | 255 bytes |"),
        (policy::POLICY_BYTES_MAX as u64, 256 << 10, "| policy, trust file | 256 KiB, 1 MiB |"),
        (trust::TRUST_BYTES_MAX as u64, 1 << 20, "| policy, trust file | 256 KiB, 1 MiB |"),
        (tlogproof::TLOG_PROOF_BYTES_MAX as u64, 256 << 10, "| tlog-proof | 256 KiB |"),
        (ladder::STEPS_MAX as u64, 64, "| ladder | 64 steps |"),
        (ANSWER_SIZES[0] as u64, 4 << 10, "| answer | 4, 8, 16, 32 or 64 KiB |"),
        (ANSWER_SIZES[4] as u64, 64 << 10, "| answer | 4, 8, 16, 32 or 64 KiB |"),
        (waymark_mapping::answer::RECEIPT_BYTES_MAX as u64, 192 << 10, "| receipt | 192 KiB |"),
        (watch::WATCH_LIST_BYTES_MAX as u64, 4096, "| watch-list | 4,096 bytes, 64 labels, 180 days |"),
        (watch::WATCH_LIFETIME_MS_MAX, hours(180 * 24), "| watch-list | 4,096 bytes, 64 labels, 180 days |"),
        (api::JSON_BYTES_MAX as u64, 4 << 10, "| JSON or history request | 4 KiB |"),
        (api::CHANGE_BYTES_MAX as u64, 64 << 10, "| change request | 64 KiB |"),
        (api::REQUEST_WINDOW_MS, 300_000, "| request's time | 5 minutes off |"),
        (w::REQUEST_BYTES_MAX as u64, 125_824, "A request has at most 125,824 bytes"),
    ];
    let document = document();
    for (code, document_says, row) in same {
        assert_eq!(code, document_says, "{row}");
        assert!(document.contains(row), "{row}");
    }
    assert_eq!(prefix::EMPTY, Hash::ZERO);
}

#[test]
fn the_document_names_every_problem() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let (document, mut seen) = (document(), 0);
    let table = document.split("## 25.").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    for source in ["src/http/error.rs", "src/msp/mod.rs", "runtime/src/problem.rs", "monitor/src/http.rs"] {
        let text = fs::read_to_string(root.join(source)).unwrap();
        // Each is made as `Kind::new(409, "version-stale", "...")`, on one line or several.
        for made in text.split("Kind::new(").skip(1) {
            let Some((status, rest)) = made.split_once(',').filter(|(s, _)| s.trim().len() == 3) else { continue };
            let code = rest.split('"').nth(1).unwrap();
            let row = table.lines().find(|l| l.starts_with(&format!("| {} |", status.trim())));
            assert!(row.is_some_and(|r| r.contains(&format!("`{code}`"))), "{source}: {status} {code}");
            seen += 1;
        }
    }
    assert!(seen > 30, "the sources make their problems in another way now");
}
