//! Published test vectors, read from `WAYMARK_VECTORS` (default `../shared/vectors` beside the project).
//!
//! Each suite says on stderr how many cases ran or that it was skipped. A suite that runs and finds no cases fails.

use std::{fs, io::Write as _, path::PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use serde::Deserialize;
use waymark_log::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    hash::Hash,
    key::{Key, Signature},
    note::{Note, Vkey},
    proof::{verify_consistency, verify_inclusion},
};

fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WAYMARK_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")), PathBuf::from);
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    // Written past libtest's capture, so that a skipped suite is seen.
    let _ = writeln!(std::io::stderr(), "vectors {name}: skipped (no such folder; set WAYMARK_VECTORS)");
    None
}

fn report(name: &str, ran: usize, refused_by_type: usize) {
    assert!(ran > 0, "{name}: the folder is there and has no cases");
    let note = if refused_by_type > 0 { format!(", {refused_by_type} of them refused by type") } else { String::new() };
    let _ = writeln!(std::io::stderr(), "vectors {name}: {ran} cases ran, 0 skipped{note}");
}

fn json_files(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(json_files(&path));
        } else if path.extension().is_some_and(|e| e == "json") {
            files.push(path);
        }
    }
    files
}

fn hash(base64: &str) -> Option<Hash> {
    Hash::from_slice(&BASE64.decode(base64.as_bytes()).ok()?)
}

fn hashes(base64: &Option<Vec<String>>) -> Option<Vec<Hash>> {
    base64.iter().flatten().map(|h| hash(h)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[test]
fn merkle_inclusion() {
    let Some(folder) = folder("merkle/testdata/inclusion") else { return };
    let (mut ran, mut by_type) = (0, 0);
    for file in json_files(&folder) {
        let case: Inclusion = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        ran += 1;
        // A root, leaf or proof hash that is not 32 bytes cannot be expressed here, and so is refused.
        let typed = hash(&case.root).zip(hash(&case.leaf_hash)).zip(hashes(&case.proof));
        let Some(((root, leaf), proof)) = typed else {
            assert!(case.want_err, "{file:?}");
            by_type += 1;
            continue;
        };
        let verdict = verify_inclusion(case.leaf_idx, case.tree_size, &leaf, &proof, &root);
        assert_eq!(verdict.is_err(), case.want_err, "{file:?}: {verdict:?}");
    }
    report("merkle/inclusion", ran, by_type);
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[test]
fn merkle_consistency() {
    let Some(folder) = folder("merkle/testdata/consistency") else { return };
    let (mut ran, mut by_type, mut not_expressible) = (0, 0, 0);
    for file in json_files(&folder) {
        let case: Consistency = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        ran += 1;
        let typed = hash(&case.root1).zip(hash(&case.root2)).zip(hashes(&case.proof));
        let Some(((root1, root2), proof)) = typed else {
            by_type += 1;
            not_expressible += usize::from(!case.want_err);
            continue;
        };
        let verdict = verify_consistency(case.size1, case.size2, &root1, &root2, &proof);
        assert_eq!(verdict.is_err(), case.want_err, "{file:?}: {verdict:?}");
    }
    // One case wants roots that are not 32 bytes accepted; the type refuses them, which SOURCES.md allows.
    assert!(not_expressible <= 1);
    report("merkle/consistency", ran, by_type);
}

#[derive(Deserialize)]
struct Cctv {
    key: String,
    sig: String,
    msg: String,
    flags: Option<Vec<String>>,
}

/// The strict rule of `key.rs` accepts a vector exactly if no flag names a low-order or non-canonical point, nor a residue
/// that only a cofactored equation would swallow. Components of low order in an otherwise good point are accepted.
#[test]
fn cctv_ed25519() {
    let Some(folder) = folder("cctv") else { return };
    let cases: Vec<Cctv> = serde_json::from_slice(&fs::read(folder.join("ed25519vectors.json")).unwrap()).unwrap();
    let mut accepted = 0;
    for (i, case) in cases.iter().enumerate() {
        let key = Key::from_hex(&case.key).unwrap();
        let signature = Signature::from_slice(&HEXLOWER.decode(case.sig.as_bytes()).unwrap()).unwrap();
        let flags = case.flags.as_deref().unwrap_or_default();
        let strict = !flags.iter().any(|f| {
            ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R", "low_order_residue", "reencoded_k"]
                .contains(&f.as_str())
        });
        let verdict = key.verify(case.msg.as_bytes(), &signature);
        assert_eq!(verdict.is_ok(), strict, "case {i}: {flags:?}");
        accepted += usize::from(strict);
    }
    assert!(accepted > 0, "some vectors are good signatures");
    report("cctv/ed25519", cases.len(), 0);
}

#[derive(Deserialize)]
struct Wycheproof {
    #[serde(rename = "testGroups")]
    groups: Vec<WycheproofGroup>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WycheproofGroup {
    public_key: WycheproofKey,
    tests: Vec<WycheproofCase>,
}

#[derive(Deserialize)]
struct WycheproofKey {
    pk: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WycheproofCase {
    tc_id: u32,
    msg: String,
    sig: String,
    result: String,
}

#[test]
fn wycheproof_ed25519() {
    let Some(folder) = folder("wycheproof") else { return };
    let file: Wycheproof = serde_json::from_slice(&fs::read(folder.join("ed25519_test.json")).unwrap()).unwrap();
    let mut ran = 0;
    for group in &file.groups {
        let key = Key::from_hex(&group.public_key.pk).unwrap();
        for case in &group.tests {
            ran += 1;
            let message = HEXLOWER.decode(case.msg.as_bytes()).unwrap();
            // A signature that is not 64 bytes cannot be expressed.
            let signature = Signature::from_slice(&HEXLOWER.decode(case.sig.as_bytes()).unwrap());
            let accepted = signature.is_some_and(|s| key.verify(&message, &s).is_ok());
            assert_eq!(accepted, case.result == "valid", "tcId {}", case.tc_id);
        }
    }
    report("wycheproof/ed25519", ran, 0);
}

#[derive(Deserialize)]
struct RealCheckpoint {
    name: String,
    vkey: String,
    note: String,
}

#[test]
fn real_checkpoints() {
    let Some(folder) = folder("real-checkpoints") else { return };
    let cases: Vec<RealCheckpoint> =
        serde_json::from_slice(&fs::read(folder.join("checkpoints.json")).unwrap()).unwrap();
    for case in &cases {
        let vkey = Vkey::parse(&case.vkey).unwrap();
        assert_eq!(vkey.to_string(), case.vkey);
        let note = Note::parse(case.note.as_bytes()).unwrap();
        assert_eq!(note.format(), case.note, "{}", case.name);
        let origin = Checkpoint::parse(note.text()).unwrap().origin;
        let opened = SignedCheckpoint::open(&note, &origin, std::slice::from_ref(&vkey)).unwrap();
        assert_eq!(opened.to_note(&[]), case.note);
        let mut bytes = case.note.clone().into_bytes();
        bytes[25] ^= 1;
        let forged = Note::parse(&bytes).unwrap();
        assert!(SignedCheckpoint::open(&forged, &origin, &[vkey]).is_err());
    }
    report("real-checkpoints", cases.len(), 0);
}
