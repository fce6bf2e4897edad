//! The contract of the HTTP API: what docs/openapi.json says is what a running DP does, and nothing else.
//!
//! `WAYMARK_FREEZE=1` rewrites docs/openapi.json. One test makes every answer and every error that is documented happen, over
//! HTTP, and accepts nothing that is not documented; what cannot be forced is listed in [`NOT_FORCED`] with the reason.

mod common;
#[path = "contract_world"]
mod contract_world {
    //! The scenes.
    pub mod book;
    pub mod changes;
    pub mod faults;
    pub mod possession;
    pub mod requests;
    pub mod scene;
}

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use contract_world::{
    book::{Book, documented},
    changes, faults, possession, requests,
    scene::Scene,
};
use proptest::test_runner::Config as ProptestConfig;
use regex::Regex;
use waymark::{
    api::schema::CSI_PATTERN,
    http::openapi::{json, operations::OPERATIONS},
};
use waymark_mapping::identifier::Csi;

/// Documented answers that no test can bring about: operation, status, code, and why.
const NOT_FORCED: [(&str, u16, &str, &str); 9] = [
    (
        "change",
        500,
        "batch-dropped",
        "a batch that is not sound, of which none is known: tests/sound.rs makes one by hand",
    ),
    (
        "revoke",
        500,
        "batch-dropped",
        "a batch that is not sound, of which none is known: tests/sound.rs makes one by hand",
    ),
    (
        "revoke",
        409,
        "overtaken",
        "a clock that is set back between the request and its batch: tests/sound.rs sets one back",
    ),
    ("change", 422, "prover-scope", "a second prover in dp.toml: tests/possession.rs has one"),
    ("revoke", 422, "prover-scope", "a second prover in dp.toml: tests/possession.rs has one"),
    ("lookUp", 503, "busy", "256 look-ups at a time, each some 0.1 ms of a core and never waiting: two cores do two"),
    ("import", 500, "internal", "a task that panics, of which none is known"),
    (
        "confirmLink",
        200,
        "application/json",
        "a link in a mail that arrives: tests/possession.rs opens one at a prover",
    ),
    ("confirmLink", 503, "busy", "a disk that has been full since the start: tests/full.rs fills one"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_description_is_the_frozen_one() {
    let path = root().join("docs/openapi.json");
    match std::env::var("WAYMARK_FREEZE").as_deref() {
        Err(_) => assert!(
            fs::read_to_string(&path).unwrap_or_default() == json(),
            "docs/openapi.json is not what the code makes; if that is meant, set WAYMARK_FREEZE=1 and look at the difference"
        ),
        Ok(_) => fs::write(&path, json()).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_happens_and_nothing_else() {
    let book = Book::default();
    let scene = Scene::new(&book, |_| {}).await;
    let requests = async {
        requests::pages(&scene).await;
        requests::signatures(&scene).await;
        requests::names(&scene).await;
        requests::methods(&scene).await;
        requests::retries(&scene).await;
        requests::forms(&scene).await;
        possession::challenges(&scene).await;
        changes::refused(&scene).await;
        changes::claims(&scene).await;
        changes::revocations(&scene).await;
        requests::busy_imports(&scene).await;
        changes::providers(&scene).await;
    };
    // Some of them wait for half a minute, so they wait together.
    tokio::join!(
        requests,
        requests::limits(&book),
        possession::budgets(&book),
        faults::nothing_published(&book),
        faults::no_witness(&book),
        faults::broken_disk(&book),
        faults::overtaken(&book),
        faults::kept_elsewhere(&book),
    );
    scene.stage.stop().await;
    let (seen, documented) = (book.entries(), documented());
    let not_forced: BTreeSet<_> = NOT_FORCED.iter().map(|(id, s, what, _)| (*id, *s, (*what).to_owned())).collect();
    let missing: Vec<_> = documented.iter().filter(|e| !seen.contains(*e) && !not_forced.contains(*e)).collect();
    assert!(missing.is_empty(), "documented, and never seen: {missing:#?}");
    let needless: Vec<_> = not_forced.iter().filter(|e| seen.contains(*e) || !documented.contains(*e)).collect();
    assert!(needless.is_empty(), "not forced, and seen or not documented: {needless:#?}");
    println!("{} answers documented, {} seen", documented.len(), seen.len());
}

#[test]
fn every_route_is_documented_and_every_operation_has_one() {
    let mut routes = BTreeSet::new();
    let route = Regex::new(r#"\.route\("([^"]+)", ([^\n]+)\)\n"#).unwrap();
    for file in ["src/http/mod.rs", "src/http/challenges.rs"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for route in route.captures_iter(&text) {
            for method in ["get", "post"] {
                if route[2].contains(&format!("{method}(")) {
                    routes.insert((method.to_uppercase(), route[1].to_owned()));
                }
            }
        }
    }
    // The pages about problems are the shell's; the log's two forms of paths are one route.
    routes.insert(("GET".to_owned(), "/v1/problems/{code}".to_owned()));
    assert!(routes.remove(&("GET".to_owned(), "/log/{*path}".to_owned())));
    routes.insert(("GET".to_owned(), "/log/tile/{level}/{index}".to_owned()));
    let described: BTreeSet<_> = OPERATIONS.iter().map(|o| (o.method.to_owned(), o.path.to_owned())).collect();
    assert_eq!(described, routes);
    let ids: BTreeSet<_> = OPERATIONS.iter().map(|o| o.id).collect();
    assert_eq!(ids.len(), OPERATIONS.len());
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The codes of problems in the sources, with their statuses; each code has one status and one title.
fn codes_in_the_code() -> BTreeSet<(u16, String)> {
    let kind = Regex::new(r#"Kind::new\(\s*([0-9]{3}),\s*"([a-z-]+)",\s*"([^"]+)"\s*,?\s*\)"#).unwrap();
    let mut codes = BTreeMap::new();
    for crate_ in [".", "runtime", "monitor", "witness"] {
        for file in
            sources(&root().join(crate_).join("src")).iter().filter(|f| f.extension().is_some_and(|e| e == "rs"))
        {
            let text = fs::read_to_string(file).unwrap();
            for found in kind.captures_iter(&text) {
                let (status, title) = (found[1].parse().unwrap(), found[3].to_owned());
                let before = codes.insert(found[2].to_owned(), (status, title.clone()));
                assert!(before.is_none_or(|b| b == (status, title)), "{} means two things", &found[2]);
            }
        }
    }
    codes.into_iter().map(|(code, (status, _))| (status, code)).collect()
}

#[test]
fn the_table_of_problems_is_the_codes() {
    let formats = fs::read_to_string(root().join("docs/FORMATS.md")).unwrap();
    let section = formats.split("\n## ").find(|s| s.starts_with("25.")).unwrap();
    let code = Regex::new("`([a-z]+(?:-[a-z]+)*)`").unwrap();
    let mut table = BTreeSet::new();
    for row in section.lines().filter(|l| l.starts_with("| ") && l.as_bytes()[2].is_ascii_digit()) {
        let (status, codes) = row[2..].split_once(" | ").unwrap();
        table.extend(code.captures_iter(codes).map(|c| (status.parse().unwrap(), c[1].to_owned())));
    }
    assert_eq!(table, codes_in_the_code());
}

#[test]
fn the_pattern_refuses_no_identifier() {
    let pattern = Regex::new(CSI_PATTERN).unwrap();
    for good in [
        "tel:+4915112345678",
        "tel:+2901234",
        "mailto:Ann.Smith+news@post.example",
        "mailto:o'neil=x@xn--bcher-kva.example",
        "mailto:j\u{fc}rgen@post.example",
        "mailto:\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}@post.example",
        "mailto:\u{20000}@post.example",
    ] {
        assert!(Csi::parse(good).is_ok() && pattern.is_match(good), "{good}");
    }
    for bad in ["", "tel:+0491511234", "tel:+123456", "sip:a@b.c", "mailto:a@b", "mailto:a..b@c.d", "mailto:a b@c.d"] {
        assert!(Csi::parse(bad).is_err() && !pattern.is_match(bad), "{bad}");
    }
    let quiet = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest::proptest!(quiet, |(text in "(tel:\\+|mailto:)?[a-zA-Z0-9.@\\PC-]{0,40}")| {
        proptest::prop_assert!(Csi::parse(&text).is_err() || pattern.is_match(&text));
    });
}
