//! Entries, the log over them, and its checkpoint.

use serde_json::{Value, json};
use waymark_log::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    cosignature,
    hash::{Hash, leaf_hash},
    key::{Key, Signature},
    note::{Note, Vkey},
    policy::{Freshness, Policy, Unmet},
    proof::{naive_root, verify_inclusion},
    tile::{Edge, Tile, TileKind, decode_bundle, decode_hashes},
    time::UnixSeconds,
    tlogproof::TlogProof,
};
use waymark_mapping::{
    audit::{Replay, Step},
    entry::{Entry, Head, Provider, ProviderAction},
    provider::ProviderLeaf,
    signed::{AnySignature, SignedStruct, message},
    wire::{Optional24, encode},
};

use crate::files::{array, bytes, hash, hash_hex, hex, key, list, number, settle, short, text};
use crate::hand;
use crate::vectors_world::{World, log_signer, origin, policy_text, secret, seed, witness};

// Entries.

/// Each kind of entry, each kind of provider entry: those of the log.
fn named_entries(world: &World) -> Vec<(&'static str, u64)> {
    let find = |wanted: &dyn Fn(&Entry) -> bool| {
        let found = world.entries.iter().position(|e| wanted(&Entry::decode(e).unwrap()));
        found.expect("the log has one of each") as u64
    };
    let provider = |wanted: fn(&Provider) -> bool| find(&|e| matches!(e, Entry::Provider(p) if wanted(p)));
    let unsigned = |p: &Provider| p.by_valid.0.is_none() && p.previous_leaf != Hash::ZERO;
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

/// A signature that may be absent, encoded with its algorithm; empty for none.
fn any_signature(signature: &Optional24<AnySignature>) -> Vec<u8> {
    signature.0.as_ref().map_or_else(Vec::new, encode)
}

fn fields(entry: &Entry) -> Value {
    match entry {
        Entry::Open(e) => json!({
            "domain": e.domain.as_str(), "origin": e.origin.get().as_str(), "vrf": e.vrf.to_hex(),
            "interval_ms": e.interval_ms, "policy": e.policy.to_hex(), "not_before": e.not_before.get(),
        }),
        Entry::Config(e) => json!({
            "interval_ms": e.interval_ms, "policy": e.policy.to_hex(), "log_key": e.log_key.to_hex(),
            "previous": e.previous.to_hex(), "by_log_key": hex(e.sig.as_bytes()),
        }),
        Entry::Provider(e) => json!({
            "role": e.role.to_string(), "action": format!("{:?}", e.action).to_lowercase(), "domain": e.domain.as_str(),
            "class": e.class, "publishes": e.publishes.0, "key": e.key.to_hex(), "previous_leaf": e.previous_leaf.to_hex(),
            "by_key": hex(any_signature(&e.by_key)), "by_valid": hex(any_signature(&e.by_valid)),
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
        Entry::Close(_) | Entry::Carry(_) | Entry::Skipped(_) => panic!("no such entry in this world"),
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
            let valid = secret(e.domain.as_str()).public();
            let by_key = e.by_key.0.as_ref().and_then(AnySignature::ed25519).map(|sig| {
                let key = e.key.ed25519().unwrap();
                one(&key, "waymark/1 provider key", e.key_message(&origin()), sig.as_bytes())
            });
            let by_valid = e
                .by_valid
                .0
                .as_ref()
                .and_then(AnySignature::ed25519)
                .map(|sig| one(&valid, "waymark/1 provider valid", e.valid_message(&origin()), sig.as_bytes()));
            by_key.into_iter().chain(by_valid).collect()
        }
        Entry::Open(_) | Entry::Change(_) | Entry::Head(_) | Entry::Close(_) | Entry::Carry(_) | Entry::Skipped(_) => {
            vec![]
        }
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
    // The last field is the signature by a valid key, none here: three bytes of length.
    let mut short_signature = of(first);
    short_signature.truncate(short_signature.len() - 3);
    short_signature.extend([&[0, 0, 67, 0, 1, 0, 64][..], &[1; 63]].concat());
    let cases = [
        ("an unknown format version", edit("change", 0, 2)),
        ("kind 0", edit("change", 1, 0)),
        ("kind 7, close, is of another form", edit("change", 1, 7)),
        ("kind 8, carry, is of another form", edit("change", 1, 8)),
        ("a change that is a byte too short", of("change")[..65].to_vec()),
        ("a change that is a byte too long", [of("change"), vec![0]].concat()),
        ("a kind below 128 that is not defined", edit("change", 1, 9)),
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
                hand::ed25519(&raw("vrf")),
                uint32("interval_ms"),
                raw("policy"),
                uint64("not_before"),
                hand::NO_EXTENSIONS.to_vec(),
            ],
            vec![],
        ),
        "config" => {
            let (log_key, none) = (hand::ed25519(&raw("log_key")), hand::NO_EXTENSIONS.to_vec());
            let unsigned = vec![uint32("interval_ms"), raw("policy"), log_key, raw("previous"), none];
            (2, unsigned, vec![hand::ed25519(&raw("by_log_key"))])
        }
        "provider" => {
            let unsigned = vec![
                code("role", &["msp", "prover", "csip"]),
                code("action", &["add", "rotate", "retire"]),
                name("domain"),
                vec![number(&f["class"]) as u8, u8::from(f["publishes"] == json!(true))],
                hand::ed25519(&raw("key")),
                raw("previous_leaf"),
            ];
            (3, unsigned, vec![hand::opaque24(&raw("by_key")), hand::opaque24(&raw("by_valid"))])
        }
        "consent" => {
            let msp_key = hand::ed25519(&raw("msp_key"));
            let unsigned = vec![vec![hand::FORMAT], name("msp"), msp_key, raw("blinded"), uint64("expiry")];
            (4, unsigned, vec![hand::ed25519(&raw("sig"))])
        }
        "change" => (5, vec![raw("label"), raw("commitment")], vec![]),
        "head" => {
            let roots = ["map_root", "open", "config", "provider_root"].map(raw).to_vec();
            let none = vec![hand::NO_EXTENSIONS.to_vec()];
            (6, [vec![uint64("time"), uint64("changes")], roots, none].concat(), vec![])
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
    let head = |(index, head): &(u64, Head)| {
        json!({
            "index": index, "fields": fields(&Entry::Head(head.clone())), "size": index + 1,
            "root": naive_root(&leaves[..=*index as usize]).to_hex(),
            "path": world.path(*index, index + 1).iter().map(hash_hex).collect::<Vec<_>>(),
        })
    };
    let provider = |leaf: &ProviderLeaf| {
        json!({
            "domain": leaf.domain.as_str(), "role": leaf.role.to_string(), "key": leaf.place().to_hex(), "bytes": hex(encode(leaf)),
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
        // uint8 role, opaque domain, uint32 revision, three bytes of length, keys of 54 bytes.
        assert_eq!(of[1..domain.len() + 2], hand::opaque8(domain.as_bytes()));
        assert_eq!((of.len() - 1 - (1 + domain.len()) - 4 - 3) % 54, 0);
        assert_eq!(hand::sha256(&[&of]), bytes(&case["digest"]));
        assert_eq!(hand::sha256(&[&of[..1], domain.as_bytes()]), bytes(&case["key"]));
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
