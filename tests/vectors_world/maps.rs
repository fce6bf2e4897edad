//! Identifiers, labels, commitments, ladders and the prefix map.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use waymark_log::hash::Hash;
use waymark_mapping::{
    commitment::{Opening, Salt, blind, commit, opens},
    identifier::{Csi, CsiError},
    label::{Label, label_input, prove_label, verify_label},
    ladder,
    prefix::{PrefixProof, PrefixTree},
    vrf::VrfProof,
    wire::{decode, encode},
};

use crate::files::{array, bytes, hash, hash_hex, hex, key, list, settle, short, shorts, text};
use crate::hand;
use crate::vectors_world::{ANN, BEN, NOBODY, csi, opaque_value, opening, salt, seed, vrf};

// Identifiers.

const CANONICAL: [(&str, &str); 17] = [
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
    ("mailto:\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}@post.example", "letters and marks"),
    ("mailto:x\u{304}\u{661}@post.example", "a mark that has no composed form, and a digit beyond ASCII"),
    ("mailto:\u{1c89}@post.example", "a letter of Unicode 16.0"),
    ("mailto:ann@xn--a.example", "a label that begins with xn-- is not decoded"),
    ("mailto:a@b.c", "one byte each"),
];

const NOT_CANONICAL: [(&str, &str); 37] = [
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
    // Invisible: soft hyphen, zero-width joiner, variation selector, Hangul filler.
    ("mailto:a\u{ad}b@post.example", "local-part"),
    ("mailto:a\u{200d}b@post.example", "local-part"),
    ("mailto:a\u{fe0f}@post.example", "local-part"),
    ("mailto:\u{3164}@post.example", "local-part"),
    // Compatibility forms: fullwidth, ligature, superscript, Thai sara am.
    ("mailto:\u{ff41}nn@post.example", "local-part"),
    ("mailto:\u{fb01}n@post.example", "local-part"),
    ("mailto:a\u{b2}@post.example", "local-part"),
    ("mailto:\u{e19}\u{e49}\u{e33}@post.example", "local-part"),
    // A letter of Unicode 17.0, private use, a symbol.
    ("mailto:a\u{a7ce}@post.example", "local-part"),
    ("mailto:a\u{e000}@post.example", "local-part"),
    ("mailto:\u{1f150}@post.example", "local-part"),
    // A mark without a letter before it; an address in digits.
    ("mailto:a.\u{301}b@post.example", "local-part"),
    ("mailto:ann@127.0.0.1", "domain"),
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
