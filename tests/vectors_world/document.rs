//! The document against the code: its limits and its problem codes.

use std::{fs, path::PathBuf};

use waymark_log::hash::Hash;
use waymark_mapping::{
    answer::{ANSWER_SIZES, CHECKPOINT_BYTES_MAX, RECEIPT_BYTES_MAX, SLOTS_BYTES_MAX},
    ladder,
};

fn document() -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/FORMATS.md")).unwrap()
}

/// The rows of the document that name a limit, with the constant that sets it.
#[test]
fn the_document_names_the_limits_of_the_code() {
    use waymark::{api, possession};
    use waymark_log::{checkpoint, note, policy, proof, tile, tlogproof, witness as w};
    use waymark_mapping::{entry, event, identifier, mapping, names, prefix, provider, record, tenure, trust, watch};
    use waymark_runtime::listen;
    let hours = |h: u64| h * 3600 * 1000;
    let same = [
        (identifier::CSI_BYTES_MAX as u64, 255, "| CSI | 255 bytes |"),
        (names::DOMAIN_BYTES_MAX as u64, 253, "| local part, domain | 64, 253 bytes |"),
        (names::TAGS_MAX as u64, 8, "| tags of a mapping | 8 of 64 bytes, 256 bytes in all |"),
        (names::TAG_BYTES_MAX as u64, 64, "| tags of a mapping | 8 of 64 bytes, 256 bytes in all |"),
        (names::TAGS_BYTES_MAX as u64, 256, "| tags of a mapping | 8 of 64 bytes, 256 bytes in all |"),
        (record::VISIBLE_SLOTS_MAX as u64, 32, "| visible, hidden mappings | 32, 8 by format; 8, 8 unless"),
        (record::HIDDEN_SLOTS as u64, 8, "| visible, hidden mappings | 32, 8 by format; 8, 8 unless"),
        (mapping::MAPPING_LIFETIME_MS_MAX, hours(180 * 24), "| mapping's life | 180 days after possession |"),
        (record::NEW_MS, hours(72), "| newcomer | 72 h |"),
        (record::HOLD_MS, hours(14 * 24), "| hold of a claim | 14 days; 72 h on a stronger ground |"),
        (record::SHORT_HOLD_MS, hours(72), "| hold of a claim | 14 days; 72 h on a stronger ground |"),
        (record::TAKE_UP_MS, hours(14 * 24), "| taking up a claim | 14 days after its hold |"),
        (tenure::PASSAGE_MS, hours(30 * 24), "| passage of a tenure, proved | 30 days |"),
        (event::EVENT_BYTES_MAX as u64, 196 << 10, "| event, revocation | 192 KiB of authorities; 196 KiB |"),
        (waymark::export::VERSIONS_MAX as u64, 256, "| export | 256 versions |"),
        (provider::UNSIGNED_WAIT_MS, hours(7 * 24), "| unsigned provider key | due after 7 days |"),
        (provider::KEYS_PER_LEAF_MAX as u64, 64, "| keys of a domain in a role | 64, 12,288 bytes |"),
        (provider::KEYS_BYTES_MAX as u64, 12_288, "| keys of a domain in a role | 64, 12,288 bytes |"),
        (provider::RETIRED_KEPT_MS, hours(211 * 24), "| retired key | kept for 211 days; a token issuer's for 2 |"),
        (provider::ISSUER_RETIRED_KEPT_MS, hours(48), "| retired key | kept for 211 days; a token issuer's for 2 |"),
        (tile::ENTRY_BYTES_MAX as u64, 65_535, "| entry | 65,535 bytes |"),
        (entry::CHANGES_PER_HEAD_MAX as u64, 1024, "| between heads | 1,024 changes, 2,048 entries, 60 s |"),
        (entry::ENTRIES_PER_HEAD_MAX as u64, 2048, "| between heads | 1,024 changes, 2,048 entries, 60 s |"),
        (entry::HEAD_INTERVAL_MS_MAX, 60_000, "| between heads | 1,024 changes, 2,048 entries, 60 s |"),
        (entry::CHANGES_PER_BATCH_MIN as u64, 16, "| changes of a batch | at least 16, or none |"),
        (waymark_log::TREE_SIZE_MAX, 1 << 62, "| tree | 2^62 leaves; proofs of 63 hashes |"),
        (waymark_log::WITNESSED_SIZE_MAX, (1 << 63) - 1, "| size that a witness takes | 2^63 − 1 |"),
        (proof::PROOF_HASHES_MAX as u64, 63, "| tree | 2^62 leaves; proofs of 63 hashes |"),
        (note::NOTE_BYTES_MAX as u64, 128 << 10, "| note | 128 KiB, 64 lines |"),
        (note::SIGNATURES_MAX as u64, 64, "| note | 128 KiB, 64 lines |"),
        (note::KEY_NAME_BYTES_MAX as u64, 255, "| key name, origin | 255 bytes |"),
        (checkpoint::ORIGIN_BYTES_MAX as u64, 255, "| key name, origin | 255 bytes |"),
        (policy::POLICY_BYTES_MAX as u64, 256 << 10, "| policy, trust file | 256 KiB, 1 MiB |"),
        (trust::TRUST_BYTES_MAX as u64, 1 << 20, "| policy, trust file | 256 KiB, 1 MiB |"),
        (tlogproof::TLOG_PROOF_BYTES_MAX as u64, 256 << 10, "| tlog-proof | 256 KiB |"),
        (ladder::STEPS_MAX as u64, 64, "| ladder | 64 steps |"),
        (u64::from(record::CLAIM_VERSIONS_MAX), 32, "| versions after a claim | 32 |"),
        (u64::from(record::CLAIM_CHANGES_MAX), 16, "| ordinary changes after a claim | the first 16 versions |"),
        (tenure::STEPS_BYTES_MAX as u64, 106_496, "| steps of a tenure's proof | 106,496 bytes |"),
        (ANSWER_SIZES[0] as u64, 4 << 10, "| answer | 4, 8, 16, 32, 64, 128, 256 or 512 KiB |"),
        (ANSWER_SIZES[7] as u64, 512 << 10, "| answer | 4, 8, 16, 32, 64, 128, 256 or 512 KiB |"),
        (RECEIPT_BYTES_MAX as u64, 960 << 10, "| receipt | 960 KiB |"),
        (watch::WATCH_LIST_BYTES_MAX as u64, 4096, "| watch-list | 4,096 bytes, 64 labels, 180 days |"),
        (watch::WATCH_LIFETIME_MS_MAX, hours(180 * 24), "| watch-list | 4,096 bytes, 64 labels, 180 days |"),
        (api::JSON_BYTES_MAX as u64, 4 << 10, "| JSON or history request | 4 KiB |"),
        (api::CHANGE_BYTES_MAX as u64, 64 << 10, "| change request | 64 KiB |"),
        (possession::CHALLENGE_MS, 600_000, "| challenge | 10 minutes, 5 sends, 5 checks; "),
        (u64::from(possession::SENDS_MAX), 5, "| challenge | 10 minutes, 5 sends, 5 checks; "),
        (u64::from(possession::CHECKS_MAX), 5, "| challenge | 10 minutes, 5 sends, 5 checks; "),
        (possession::ATTESTATION_MS, hours(1), "| attestation | serves 60 minutes |"),
        (api::REQUEST_WINDOW_MS, 300_000, "| request's time | 5 minutes off |"),
        (listen::HEADERS_MAX as u64, 64, "| request's headers | 64, 16 KiB, within 5 s |"),
        (listen::HEADER_BYTES_MAX as u64, 16 << 10, "| request's headers | 64, 16 KiB, within 5 s |"),
        (listen::HEADER_S_MAX, 5, "| request's headers | 64, 16 KiB, within 5 s |"),
        (listen::BODY_S_MAX, 6, "| request's body | within 6 s |"),
        (RECEIPT_BYTES_MAX as u64, 960 << 10, "| page of history | 960 KiB; the DP ends one after 24 KiB |"),
        (event::EVENT_BYTES_MAX as u64, 196 << 10, "an Event of kind 6 (section 14), at most 196 KiB"),
        (event::AUTHORITIES_BYTES_MAX as u64, 196_608, "Authority authorities<0..196,608>;"),
        (SLOTS_BYTES_MAX as u64, 229_376, "OpenedVisible visible<0..229,376>;"),
        (CHECKPOINT_BYTES_MAX as u64, 65_535, "opaque checkpoint<1..65,535>;"),
        (waymark_mapping::earlier::EARLIER_BYTES_MAX as u64, 196_608, "Earlier earlier<0..196,608>;"),
        (RECEIPT_BYTES_MAX as u64, 983_040, "struct { Past steps<0..983,040>; } Pasts;"),
        (
            record::LAPSED_KEPT_MS,
            hours(14 * 24),
            "| a mapping that lapsed stays | 14 days, also where room is needed |",
        ),
        (entry::INTERVAL_MS_MAX.into(), 30_000, "| interval_ms | 30,000 |"),
        (w::REQUEST_BYTES_MAX as u64, 125_824, "A request has at most 125,824 bytes"),
    ];
    let document = document();
    for (code, document_says, row) in same {
        assert_eq!(code, document_says, "{row}");
        assert!(document.contains(row), "{row}");
    }
    assert_eq!(prefix::EMPTY, Hash::ZERO);
}

/// The bytes of fixed structures, as the document counts them.
#[test]
fn the_document_counts_the_bytes_of_the_code() {
    use waymark_log::{key::SecretKey, time::UnixMillis};
    use waymark_mapping::{
        entry::{Change, Entry, Head},
        label::Label,
        provider::ProviderKey,
        record::{Claim, Ground, Record, RecordState, Slot, SlotStatus, Standing},
        wire::{Extensions, Flag, Format, encode},
    };
    let (zero, time, key) = (Hash::ZERO, UnixMillis::new(0), SecretKey::from_seed(&[1; 32]).public());
    let (status, newcomer) = (SlotStatus::Served, Flag(false));
    let standing = Standing { status, reason: 0, stated_version: 0, newcomer, since_version: 0, since: time };
    let claim = Claim { key, version: 0, time, until: time, ground: Ground::Equal, objected: Flag(false) };
    let record = |state| encode(&Record { format: Format, time, tenure: 0, state, contents: zero }).len();
    let extensions = Extensions::NONE;
    let head = Head { time, changes: 0, map_root: zero, open: zero, config: zero, provider_root: zero, extensions };
    let provider = ProviderKey { class: 0, publishes: Flag(false), key: key.into(), due: time, retired: time };
    let document = document();
    for (bytes, says) in [
        (encode(&standing).len(), (19, "Ms since; } Standing;  /* 19 bytes */")),
        (encode(&Slot { standing, mapping: zero }).len(), (51, "mapping = SHA-256(Mapping); 51 bytes */")),
        (encode(&claim).len(), (58, "uint8 objected; } Claim; /* 58 bytes */")),
        (record(RecordState::Standing), (46, "Hash contents; } Record;  /* 46 or 104 bytes */")),
        (record(RecordState::Contested(claim)), (104, "/* 46 or 104 bytes */")),
        (encode(&provider).len(), (54, "/* 54 bytes with Ed25519 */")),
        (Entry::Head(head).encode().len(), (149, "/* 149 bytes without extensions */")),
        (Entry::Change(Change { label: Label(zero), commitment: zero }).encode().len(), (66, "/* 66 bytes in all */")),
    ] {
        assert_eq!(bytes, says.0, "{}", says.1);
        assert!(document.contains(says.1), "{}", says.1);
    }
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
