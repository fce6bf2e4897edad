//! The KEYTRANS vectors (suite 0x0002) and RFC 9381's own text, read from `WAYMARK_VECTORS` (default `../shared/vectors`).
//!
//! Each suite says on stderr how many cases ran or that it was skipped. A suite that runs and finds no cases fails.

use std::{collections::BTreeMap, fs, io::Write as _, path::PathBuf};

use data_encoding::HEXLOWER;
use serde_json::Value;
use waymark_log::{hash::Hash, key::Key};
use waymark_mapping::{
    commitment::commit_raw,
    ladder,
    prefix::{PrefixProof, PrefixTree},
    vrf::{self, VrfProof, VrfSecret},
    wire::{decode, encode},
};

fn read(name: &str) -> Option<String> {
    let root = std::env::var_os("WAYMARK_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")), PathBuf::from);
    let text = fs::read_to_string(root.join(name)).ok();
    if text.is_none() {
        // Written past libtest's capture, so that a skipped suite is seen.
        let _ = writeln!(std::io::stderr(), "vectors {name}: skipped (no such file; set WAYMARK_VECTORS)");
    }
    text
}

fn report(name: &str, ran: usize) {
    assert!(ran > 0, "{name}: the file is there and has no cases");
    let _ = writeln!(std::io::stderr(), "vectors {name}: {ran} cases ran, 0 skipped");
}

fn keytrans() -> Option<Value> {
    Some(serde_json::from_str(&read("keytrans/keytrans-a.json")?).unwrap())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn hash(value: &Value) -> Hash {
    Hash::from_slice(&bytes(value)).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    list(value).iter().map(number).collect()
}

fn entries(tree: &Value) -> Vec<(Hash, Hash)> {
    let entries = &tree["entries"];
    if entries["kind"] == "explicit" {
        return list(&entries["list"]).iter().map(|e| (hash(&e[0]), hash(&e[1]))).collect();
    }
    let seed = entries["seed"].as_str().unwrap();
    (0..number(&entries["count"]))
        .map(|i| {
            let part = |kind: &str| Hash::sha256(&[format!("{seed}/{kind}/{i}").as_bytes()]);
            (part("key"), part("commitment"))
        })
        .collect()
}

#[test]
fn prefix_trees() {
    let Some(file) = keytrans() else { return };
    let mut ran = 0;
    for tree in list(&file["prefix_trees"]) {
        let entries = entries(tree);
        for schedule in list(&tree["schedules"]) {
            let (mut model, mut grown, mut only_adds) = (BTreeMap::new(), PrefixTree::new(), true);
            for batch in list(&schedule["batches"]) {
                let indices = |ranges: &Value| -> Vec<usize> {
                    list(ranges).iter().flat_map(|r| number(&r[0]) as usize..number(&r[1]) as usize).collect()
                };
                for i in indices(&batch["remove"]) {
                    model.remove(&entries[i].0);
                    only_adds = false;
                }
                let added: Vec<(Hash, Hash)> = indices(&batch["add"]).into_iter().map(|i| entries[i]).collect();
                model.extend(added.iter().copied());
                // Our map never loses an entry, so a tree after a removal is built anew; until then it also grows.
                let rebuilt = PrefixTree::from_entries(model.iter().map(|(k, c)| (*k, *c)).collect()).unwrap();
                assert_eq!(rebuilt.root(), hash(&batch["root"]), "{} {}", tree["name"], schedule["name"]);
                assert_eq!(rebuilt.len(), u64::from(number(&batch["size"])));
                if only_adds {
                    grown.insert(added).unwrap();
                    assert_eq!(grown.root(), rebuilt.root());
                }
                ran += 1;
            }
        }
    }
    report("keytrans/prefix_trees", ran);
}

#[test]
fn prefix_proofs() {
    let Some(file) = keytrans() else { return };
    let trees: BTreeMap<&str, PrefixTree> = list(&file["prefix_trees"])
        .iter()
        .map(|t| (t["name"].as_str().unwrap(), PrefixTree::from_entries(entries(t)).unwrap()))
        .collect();
    let (mut ran, mut rejected) = (0, 0);
    for case in list(&file["prefix_proofs"]) {
        let tree = &trees[case["tree"].as_str().unwrap()];
        let keys: Vec<Hash> = list(&case["keys"]).iter().map(hash).collect();
        let root = hash(&case["root"]);
        assert_eq!(tree.root(), root);
        let commitments = list(&case["commitments"]).iter().map(|c| (!c.is_null()).then(|| hash(c)));
        let expected: Vec<(Hash, Option<Hash>)> = keys.iter().copied().zip(commitments).collect();
        let encoded = bytes(&case["proof"]);
        let proof: PrefixProof = decode("proof", &encoded).unwrap();
        assert_eq!(encode(&proof), encoded);
        assert_eq!(proof.verify(&expected, &root), Ok(()), "{} {}", case["tree"], case["name"]);
        assert_eq!(encode(&tree.prove(&keys).unwrap().0), encoded, "{} {}", case["tree"], case["name"]);
        ran += 1;
        for reject in list(&case["reject"]) {
            let verdict = decode::<PrefixProof>("proof", &bytes(&reject["proof"])).map(|p| p.verify(&expected, &root));
            assert!(!matches!(verdict, Ok(Ok(()))), "{}: {}", case["name"], reject["what"]);
            rejected += 1;
        }
    }
    report("keytrans/prefix_proofs", ran);
    report("keytrans/prefix_proofs reject", rejected);
}

#[test]
fn ladders() {
    let Some(file) = keytrans() else { return };
    let ladders = &file["ladders"];
    let mut ran = 0;
    for case in list(&ladders["base"]).iter().chain(list(&ladders["base_from_draft_only"])) {
        assert_eq!(ladder::base(Some(number(&case["n"]))), numbers(&case["versions"]));
        ran += 1;
    }
    for case in list(&ladders["monitoring"]) {
        assert_eq!(ladder::monitoring(number(&case["t"])), numbers(&case["versions"]));
        ran += 1;
    }
    for name in ["search", "search_label_absent", "search_without_duplicates"] {
        for case in list(&ladders[name]) {
            let (left, right) = (numbers(&case["left_inclusion"]), numbers(&case["right_non_inclusion"]));
            let greatest = (!case["n"].is_null()).then(|| number(&case["n"]));
            let steps = ladder::search(number(&case["t"]), greatest);
            // Lookups that another log entry has answered already are left out where the draft says so.
            let steps: Vec<_> = steps.into_iter().filter(|(v, _)| !left.contains(v) && !right.contains(v)).collect();
            assert_eq!(steps.iter().map(|s| s.0).collect::<Vec<_>>(), numbers(&case["versions"]), "{name} {case}");
            assert_eq!(steps.iter().map(|s| u32::from(s.1)).collect::<Vec<_>>(), numbers(&case["included"]));
            ran += 1;
        }
    }
    report("keytrans/ladders", ran);
}

#[test]
fn vrf_cases() {
    let Some(file) = keytrans() else { return };
    let secret = VrfSecret::from_seed(&bytes(&file["vrf"]["secret_key"]).try_into().unwrap());
    let public = Key::from_slice(&bytes(&file["vrf"]["public_key"])).unwrap();
    assert_eq!(secret.public(), public);
    let mut ran = 0;
    for case in list(&file["vrf"]["cases"]) {
        let input = bytes(&case["input"]);
        let (proof, output) = secret.prove(&input);
        assert_eq!(proof.as_bytes().as_slice(), bytes(&case["proof"]));
        assert_eq!(output, hash(&case["output"]));
        assert_eq!(vrf::verify(&public, &input, &proof), Ok(output));
        // The input is the CSI's own: KEYTRANS's label is our canonical identifier.
        let label = case["label_utf8"].as_str().and_then(|l| waymark_mapping::identifier::Csi::parse(l).ok());
        if let Some(csi) = label {
            assert_eq!(waymark_mapping::label::label_input(&csi, number(&case["version"])), input);
        }
        ran += 1;
    }
    for case in list(&file["vrf"]["reject"]) {
        // A proof that is not 80 bytes cannot be expressed.
        let verdict = <[u8; 80]>::try_from(bytes(&case["proof"]))
            .map(|p| vrf::verify(&public, &bytes(&case["input"]), &VrfProof::new(p)));
        assert!(!matches!(verdict, Ok(Ok(_))), "{}", case["what"]);
        ran += 1;
    }
    report("keytrans/vrf", ran);
}

#[test]
fn commitments() {
    let Some(file) = keytrans() else { return };
    let mut ran = 0;
    for case in list(&file["commitments"]) {
        assert_eq!(commit_raw(&bytes(&case["commitment_value"])), hash(&case["commitment"]));
        // Where the label is one of our identifiers and there is no third party's signature, the whole path agrees.
        let csi = case["label_utf8"].as_str().and_then(|l| waymark_mapping::identifier::Csi::parse(l).ok());
        if let (Some(csi), true) = (csi, case["suffix_signature"].is_null()) {
            let opening = waymark_mapping::commitment::Opening(bytes(&case["opening"]).try_into().unwrap());
            let ours =
                waymark_mapping::commitment::commit(&opening, &csi, number(&case["version"]), &bytes(&case["value"]));
            assert_eq!(ours, hash(&case["commitment"]));
        }
        ran += 1;
    }
    report("keytrans/commitments", ran);
}

/// The examples of RFC 9381 appendix B.3 as the draft's own text prints them.
#[test]
fn rfc_9381_text() {
    let Some(text) = read("rfc-extracts/rfc9381-ecvrf-examples.txt") else { return };
    let section = text.split("## ").find(|s| s.starts_with("ECVRF-EDWARDS25519-SHA512-TAI")).unwrap();
    let mut ran = 0;
    for example in section.split("# Example").skip(1) {
        let field = |name: &str| {
            let line = example.lines().find(|l| l.split([' ', '=']).next() == Some(name)).unwrap();
            let value = line.rsplit_once("= ").map_or("", |(_, value)| value).split(" (").next().unwrap().trim();
            let value = if value.starts_with('(') { "" } else { value };
            HEXLOWER.decode(value.as_bytes()).unwrap()
        };
        let secret = VrfSecret::from_seed(&field("SK").try_into().unwrap());
        let (proof, output) = secret.prove(&field("alpha"));
        assert_eq!(secret.public().as_bytes().as_slice(), field("PK"));
        assert_eq!(proof.as_bytes().as_slice(), field("pi"));
        assert_eq!(output.as_bytes().as_slice(), &field("beta")[..32]);
        assert_eq!(vrf::verify(&secret.public(), &field("alpha"), &proof), Ok(output));
        ran += 1;
    }
    report("rfc-extracts/rfc9381 (edwards25519, TAI)", ran);
}
