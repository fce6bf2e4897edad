//! `waymark demo` as a user runs it: the program itself, its files, its figures, its exit codes. One of the people in its file
//! is a canary: whose number, address or accounts must turn up nowhere.
//!
//! Nowhere is: every file of every part (tiles, entries, stores, watch-lists, codes, notices, alerts), every log line at
//! trace level (URLs of all requests among them), stdout, stderr, and what the parts answer to anybody who asks. In the clear,
//! in hex, and in base64 at any alignment.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use serde_json::{Value, json};
use waymark_runtime::fetch::Fetcher;

/// Words that no other part of the system uses. A number is searched without its country code too.
const CANARIES: [&str; 5] = ["+4915550192837", "15550192837", "canary.bird", "zwitscher.example", "u/tweet-tweet"];

fn people() -> String {
    let mapping = |msp: &str, account: &str| json!({"msp": msp, "account": account, "tags": ["default"]});
    let hidden = json!({"msp": "quiet.example", "account": "mimi://quiet.example/u/tweet-tweet", "tags": [],
        "exact_tag": "canary.bird"});
    let own = mapping("nest.example", "mimi://nest.example/u/tweet-tweet");
    let mut lines = vec![
        json!({"csi": "tel:+4915550192837", "opted_out": false, "mappings": [own, hidden]}),
        json!({"csi": "mailto:canary.bird@zwitscher.example", "opted_out": true, "mappings": []}),
    ];
    for i in 0..10 {
        let account = format!("mimi://nest.example/u/{i}");
        let csi = format!("tel:+49155501{i:05}");
        lines.push(json!({"csi": csi, "opted_out": false, "mappings": [mapping("nest.example", &account)]}));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The canaries as they may look in bytes.
fn needles() -> Vec<Vec<u8>> {
    let mut needles = vec![];
    for canary in CANARIES {
        let bytes = canary.as_bytes();
        needles.extend([bytes.to_vec(), HEXLOWER.encode(bytes).into_bytes(), HEXUPPER.encode(bytes).into_bytes()]);
        for shift in 0..3 {
            // In the middle of base64 the characters depend on where the word begins; the ones at its edges on neighbours.
            let shifted: Vec<u8> = vec![0; shift].into_iter().chain(bytes.iter().copied()).collect();
            for encoding in [BASE64, BASE64URL] {
                let encoded = encoding.encode(&shifted).into_bytes();
                let whole = (shift + bytes.len()) / 3 * 4;
                needles.push(encoded[4 * usize::from(shift > 0)..whole].to_vec());
            }
        }
    }
    needles
}

#[track_caller]
fn holds_no_canary(what: &str, bytes: &[u8], needles: &[Vec<u8>]) {
    for needle in needles {
        let found = bytes.windows(needle.len()).position(|w| w == needle);
        if let Some(at) = found {
            let around = &bytes[at.saturating_sub(80)..(at + 80).min(bytes.len())];
            panic!("{what} holds an identifier: …{}…", String::from_utf8_lossy(around));
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The demo, running. Killed if a test fails.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn waymark() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn the_demo_shows_what_it_says_and_no_identifier_leaks() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    fs::write(path("people.jsonl"), people()).unwrap();
    let mut command = waymark();
    command.args(["demo", "--json", "--people"]).arg(path("people.jsonl"));
    command.arg("--dir").arg(path("data")).arg("--ready-file").arg(path("ready.json")).env("WAYMARK_LOG", "trace");
    let mut demo = Demo(command.spawn().unwrap());
    let mut stderr = demo.0.stderr.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut said = vec![];
        stderr.read_to_end(&mut said).map(|_| said)
    });
    let mut stdout = BufReader::new(demo.0.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    figures(&serde_json::from_str(&line).unwrap());
    let ready: Value = serde_json::from_slice(&fs::read(path("ready.json")).unwrap()).unwrap();
    let needles = needles();
    for (what, answer) in answers(&ready).await {
        holds_no_canary(&what, &answer, &needles);
    }
    let kill = Command::new("kill").args(["-INT", &demo.0.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "one object, no more");
    holds_no_canary("stdout", line.as_bytes(), &needles);
    let said = said.join().unwrap().unwrap();
    holds_no_canary("stderr", &said, &needles);
    // Trace lines were written, and URLs are among them: else nothing was shown.
    for expected in ["TRACE", "uri=/v1/lookups", "uri=/v1/changes", "uri=/add-checkpoint"] {
        assert!(String::from_utf8_lossy(&said).contains(expected), "no {expected} in the log lines");
    }
    let kept = files(&path("data"));
    for part in ["dp/log/tile/entries", "dp/records", "monitor", "witness4", "msp/nest.example"] {
        assert!(kept.iter().any(|f| f.to_string_lossy().contains(part)), "no file of {part}");
    }
    for file in &kept {
        holds_no_canary(&file.display().to_string(), &fs::read(file).unwrap(), &needles);
        assert!(!CANARIES.iter().any(|c| file.to_string_lossy().contains(c)));
    }
    // The search itself finds what is there.
    let found = std::panic::catch_unwind(|| holds_no_canary("the people file", people().as_bytes(), &needles));
    assert!(found.is_err());
    println!("{} files and {} bytes of log lines searched", kept.len(), said.len());
}

/// The object of `--json`, field by field.
fn figures(object: &Value) {
    let fields: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "schema",
        "people",
        "mappings_issued",
        "opted_out",
        "lookups_verified",
        "absences_verified",
        "withdrawn",
        "log_size",
        "witnesses",
        "cosignatures",
        "monitor_verified_size",
        "watch_alerts",
        "findings",
        "first_verified_lookup_ms",
        "elapsed_ms",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!(object["schema"], "waymark.demo/1");
    for (field, value) in [("people", 12), ("mappings_issued", 12), ("opted_out", 1), ("lookups_verified", 12)] {
        assert_eq!(object[field], value, "{field}");
    }
    for (field, value) in [("absences_verified", 100), ("witnesses", 4), ("watch_alerts", 1), ("findings", 0)] {
        assert_eq!(object[field], value, "{field}");
    }
    assert_eq!(object["monitor_verified_size"], object["log_size"]);
    assert!(object["cosignatures"].as_u64().unwrap() >= 3 && object["withdrawn"].as_u64().unwrap() >= 1);
}

/// What the parts tell anybody.
async fn answers(ready: &Value) -> Vec<(String, Vec<u8>)> {
    let fetcher = Fetcher::new(Duration::from_secs(10));
    let url = |name: &str| ready[name].as_str().unwrap().to_owned();
    let mut urls = vec![
        format!("{}/checkpoint", url("log_url")),
        format!("{}/v1/policy", url("dp_url")),
        format!("{}/v1/providers", url("dp_url")),
        format!("{}/status", url("monitor_url")),
    ];
    assert_eq!(ready["witnesses"].as_array().unwrap().len(), 4);
    assert!(ready["log_vkey"].as_str().unwrap().starts_with(ready["origin"].as_str().unwrap()));
    assert!(Path::new(&url("trust_file")).exists());
    for witness in ready["witnesses"].as_array().unwrap() {
        assert!(witness["vkey"].as_str().unwrap().contains('+'));
        urls.push(format!("{}/no-such-route", witness["url"].as_str().unwrap()));
    }
    let mut answers = vec![];
    for url in urls {
        let answer = fetcher.get(&url, 1 << 20).await.unwrap();
        let wanted = if url.ends_with("no-such-route") { 404 } else { 200 };
        assert_eq!(answer.status, wanted, "{url}");
        answers.push((url, answer.body));
    }
    answers
}

#[test]
fn a_bad_line_is_named_and_nothing_is_started() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("people.jsonl");
    let good = people();
    let cases = [
        ("{\"csi\":\"tel:0049155\",\"opted_out\":true,\"mappings\":[]}\n", "line 13"),
        ("not JSON\n", "line 13"),
        ("\n", "line 13"),
        (good.lines().next().unwrap(), "line 13"),
    ];
    for (bad, expected) in cases {
        fs::write(&file, format!("{good}{bad}")).unwrap();
        let ended = waymark().args(["demo", "--once", "--json", "--people"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && !said.contains("0049155") && ended.stdout.is_empty(), "{said}");
    }
    fs::write(&file, "").unwrap();
    assert_eq!(waymark().args(["demo", "--people"]).arg(&file).output().unwrap().status.code(), Some(2));
    let missing = scratch.path().join("nobody.jsonl");
    assert_eq!(waymark().args(["demo", "--people"]).arg(&missing).output().unwrap().status.code(), Some(2));
}
