//! The vector files: written, compared, read.

use std::{fs, path::PathBuf};

use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::Value;
use waymark_log::{hash::Hash, key::Key, time::UnixMillis};

/// Whether others may build on a file.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Final,
    Experimental,
}

use Status::{Experimental, Final};

/// Every file there is: a file that is not here is tested by nobody.
pub const FILES: [(&str, Status); 27] = [
    ("answer-absent", Final),
    ("answers-retired-keys", Final),
    ("answers-times", Final),
    ("answers", Final),
    ("checkpoint", Final),
    ("checkpoint-ml-dsa-44", Final),
    ("commitments", Final),
    ("consents", Final),
    ("entries", Final),
    ("events", Final),
    ("events-refused", Final),
    ("experimental-memory", Experimental),
    ("experimental-requests", Experimental),
    ("experimental-typed", Experimental),
    ("experimental-watch-lists", Experimental),
    ("history", Final),
    ("identifiers", Final),
    ("labels", Final),
    ("ladders", Final),
    ("log", Final),
    ("log-findings", Final),
    ("mappings", Final),
    ("not-supported", Final),
    ("prefix-map", Final),
    ("receipts", Final),
    ("receipts-refused", Final),
    ("records", Final),
];

#[derive(Serialize)]
struct File<'a> {
    description: &'a str,
    status: Status,
    #[serde(flatten)]
    body: &'a Value,
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub fn flag() -> Option<String> {
    std::env::var("WAYMARK_FREEZE").ok()
}

/// Whether a file is to be written: `same` says that it holds already what the code makes.
pub fn is_to_write(status: Status, flag: Option<&str>, same: bool) -> Result<bool, &'static str> {
    match (flag, status) {
        (None, _) if same => Ok(false),
        (None, _) => {
            Err("the file is not what the code makes; if that is meant, see WAYMARK_FREEZE in tests/vectors.rs")
        }
        (Some("1" | "final"), _) if same => Ok(false),
        (Some("final"), _) | (Some("1"), Experimental) => Ok(true),
        (Some("1"), Final) => Err("this file is final and others have built on it; WAYMARK_FREEZE=final, if you must"),
        (Some(_), _) => Err("WAYMARK_FREEZE is 1 or final"),
    }
}

/// Compares a file with what the code makes, or writes it, and returns what is on the disk.
pub fn settle(name: &str, description: &str, body: &Value) -> Value {
    let (_, status) = *FILES.iter().find(|(n, _)| *n == name).expect("the file is in FILES");
    let text = serde_json::to_string_pretty(&File { description, status, body }).unwrap() + "\n";
    let path = folder().join(format!("{name}.json"));
    let read = || Some(serde_json::from_str::<Value>(&fs::read_to_string(&path).ok()?).expect("a vector file is JSON"));
    let (made, old) = (serde_json::from_str(&text).unwrap(), read());
    match is_to_write(status, flag().as_deref(), old.as_ref() == Some(&made)) {
        Ok(true) => fs::write(&path, text).unwrap(),
        Ok(false) => {}
        Err(why) => panic!("{name}: {why}{}", old.map_or(String::new(), |old| first_difference("", &old, &made))),
    }
    read().expect("the file is there")
}

/// Where two files part, so that nobody has to compare hex by eye.
pub fn first_difference(at: &str, old: &Value, new: &Value) -> String {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().map(|(k, v)| first_difference(&format!("{at}/{k}"), v, &b[k])).find(|d| !d.is_empty())
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.map(|(i, (v, w))| first_difference(&format!("{at}/{i}"), v, w)).find(|d| !d.is_empty())
        }
        _ if old == new => None,
        _ => Some(format!("\n  at {at}\n  file {old}\n  code {new}")),
    }
    .unwrap_or_default()
}

pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

pub fn hash_hex(hash: &Hash) -> String {
    hash.to_hex()
}

pub fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(text(value).as_bytes()).unwrap()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

pub fn list(value: &Value) -> &[Value] {
    match value.as_array() {
        Some(list) if !list.is_empty() => list,
        _ => panic!("not a list, or an empty one: {value}"),
    }
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

pub fn short(value: &Value) -> u32 {
    u32::try_from(number(value)).unwrap()
}

pub fn shorts(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(short).collect()
}

pub fn hash(value: &Value) -> Hash {
    Hash::from_slice(&bytes(value)).unwrap()
}

pub fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub fn key(value: &Value) -> Key {
    Key::new(array(value))
}

pub fn millis(value: &Value) -> UnixMillis {
    UnixMillis::new(number(value))
}
