//! The arrows of the house: which crate may know which, what the pure ones may not touch, and that nothing is `unsafe`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each crate and those of ours it may depend on.
const ARROWS: [(&str, &[&str]); 7] = [
    ("log", &[]),
    ("mapping", &["waymark-log"]),
    ("runtime", &["waymark-log"]),
    ("witness", &["waymark-log", "waymark-runtime"]),
    ("monitor", &["waymark-log", "waymark-mapping", "waymark-runtime"]),
    (".", &["waymark-log", "waymark-mapping", "waymark-runtime", "waymark-witness", "waymark-monitor"]),
    ("fuzz", &["waymark", "waymark-log", "waymark-mapping"]),
];

/// What a pure crate's dependencies may not be: a runtime, a network, a store, a logger, a clock or a source of randomness.
const IMPURE_CRATES: [&str; 16] = [
    "tokio",
    "axum",
    "hyper",
    "reqwest",
    "redb",
    "sled",
    "tracing",
    "log",
    "rand",
    "getrandom",
    "jiff",
    "chrono",
    "time",
    "tempfile",
    "blake3",
    "anyhow",
];

/// And what its own code may not name.
const IMPURE_NAMES: [&str; 12] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "OsRng",
    "SysRng",
    "thread_rng",
    "println!",
    "async ",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn manifest(of: &str) -> toml::Table {
    fs::read_to_string(root().join(of).join("Cargo.toml")).unwrap().parse().unwrap()
}

/// Names in a table of a manifest, `dependencies` for one.
fn names(manifest: &toml::Table, table: &str) -> BTreeSet<String> {
    manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(|t| t.keys().cloned()).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of a file: without comments, and without its tests, which may do as they like.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_crate_is_in_the_workspace_and_is_tested() {
    let manifest = manifest(".");
    let list = |key: &str| -> BTreeSet<String> {
        let members = manifest["workspace"][key].as_array().unwrap();
        members.iter().map(|m| m.as_str().unwrap().to_owned()).collect()
    };
    let ours: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(list("default-members"), ours, "`cargo test` must test all");
    assert_eq!(list("members"), ours.iter().filter(|n| *n != ".").cloned().collect());
}

#[test]
fn dependencies_follow_the_arrows() {
    for (name, allowed) in ARROWS {
        let manifest = manifest(name);
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let ours: Vec<String> =
                names(&manifest, table).into_iter().filter(|n| n == "waymark" || n.starts_with("waymark-")).collect();
            for dependency in &ours {
                assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
            }
        }
        let lints = manifest.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool);
        assert_eq!(lints, Some(true), "{name} has lints of its own");
    }
}

#[test]
fn the_pure_crates_are_pure() {
    for name in ["log", "mapping"] {
        let dependencies = names(&manifest(name), "dependencies");
        for impure in IMPURE_CRATES {
            assert!(!dependencies.contains(impure), "{name} depends on {impure}");
        }
        let files = sources(&root().join(name).join("src"));
        assert!(files.len() > 5);
        for file in files {
            let code = code(&file);
            for impure in IMPURE_NAMES {
                assert!(!code.contains(impure), "{} names {impure}", file.display());
            }
        }
    }
}

/// What a terminal shows goes through one place, which lets nothing through that acts on it.
#[test]
fn nothing_is_printed_but_by_the_screen() {
    let printers = ["runtime/src/screen.rs", "runtime/src/telemetry.rs"];
    let mut seen = 0;
    for (crate_name, _) in ARROWS.iter().filter(|(name, _)| *name != "fuzz") {
        for file in sources(&root().join(crate_name).join("src")) {
            let name = file.strip_prefix(root()).unwrap().display().to_string();
            if printers.contains(&name.as_str()) {
                seen += 1;
                continue;
            }
            let code = code(&file);
            for raw in ["std::print", "std::eprint", "stdout()", "stderr()", "dbg!"] {
                assert!(!code.contains(raw), "{name} prints by {raw}");
            }
            // In the first crate these are macros of its own.
            if *crate_name != "." {
                assert!(!code.contains("println!(") && !code.contains("print!("), "{name} prints by itself");
            }
        }
    }
    assert_eq!(seen, printers.len());
    let own = code(&root().join("src/lib.rs"));
    let modules = own.find("pub mod ").unwrap();
    for name in ["print", "println", "eprint", "eprintln"] {
        assert!(
            own.find(&format!("macro_rules! {name} {{")).is_some_and(|at| at < modules),
            "{name} is the standard one"
        );
    }
    for program in sources(&root().join("src/bin")) {
        assert!(!code(&program).contains("print"), "{}", program.display());
    }
}

#[test]
fn only_the_demo_knows_witness_and_monitor() {
    let mut seen = 0;
    for file in sources(&root().join("src")) {
        let code = code(&file);
        let names_them = code.contains("waymark_witness") || code.contains("waymark_monitor");
        let is_demo = file.starts_with(root().join("src/demo"));
        assert!(is_demo || !names_them, "{} names the witness or the monitor", file.display());
        seen += usize::from(names_them);
    }
    assert!(seen > 0, "not even the demo names them: the test looks for the wrong thing");
}

#[test]
fn every_file_begins_with_its_promise_and_none_is_unsafe() {
    assert_eq!(manifest(".")["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for (name, _) in ARROWS {
        for folder in ["src", "tests", "benches"] {
            let folder = root().join(name).join(folder);
            if !folder.is_dir() {
                continue;
            }
            for file in sources(&folder) {
                let text = fs::read_to_string(&file).unwrap();
                assert!(text.starts_with("//! "), "{} does not begin with its promise", file.display());
                assert!(!code(&file).contains("allow(unsafe_code)"), "{}", file.display());
            }
        }
    }
}
