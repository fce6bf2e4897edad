//! The frozen vectors of docs/FORMATS.md, in tests/vectors: what every other implementation is measured against.
//!
//! Each file is proved in three ways. It is made again from constant keys and compared. Its bytes are read from the file
//! and judged by the public verifying functions, which know nothing of how it was made. And the layouts that FORMATS.md
//! draws are put together by hand, from bytes and SHA-256 alone, so that the document is proved and not only the code.
//!
//! `WAYMARK_FREEZE=1` rewrites the experimental files. Final files are rewritten by `WAYMARK_FREEZE=final` only: others
//! have built on them.

#[path = "vectors_world/answers.rs"]
mod answers;
#[path = "vectors_world/changes.rs"]
mod changes;
#[path = "vectors_world/dates.rs"]
mod dates;
#[path = "vectors_world/document.rs"]
mod document;
#[path = "vectors_world/events.rs"]
mod events;
#[path = "vectors_world/experimental.rs"]
mod experimental;
#[path = "vectors_world/files.rs"]
mod files;
#[path = "vectors_world/hand.rs"]
mod hand;
#[path = "vectors_world/logs.rs"]
mod logs;
#[path = "vectors_world/maps.rs"]
mod maps;
#[path = "vectors_world/past.rs"]
mod past;
#[path = "vectors_world/quantum.rs"]
mod quantum;
#[path = "vectors_world/receipts.rs"]
mod receipts;
#[path = "vectors_world/records.rs"]
mod records;
#[path = "vectors_world/refused.rs"]
mod refused;
#[path = "vectors_world/remembered.rs"]
mod remembered;
#[path = "vectors_world/replayed.rs"]
mod replayed;
#[path = "vectors_world/tags.rs"]
mod tags;
#[path = "vectors_world/unknown.rs"]
mod unknown;
mod vectors_world;

use std::fs;

use serde_json::{Value, json};

use files::{
    FILES,
    Status::{Experimental, Final},
    flag, folder, is_to_write, text,
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
