//! What a DP promises: the document that is served is the one that is logged; another one counts from the head behind its config
//! entry; a DP that would do something else does not start.

mod common;

use std::{path::Path, process::Command};

use common::{QUIET, Stage, Witnesses, client, csi, key, make_dp, request, shown, until, with_consent};
use waymark::{
    config::{Settings, names},
    dp,
    policy::{
        Document,
        change::{self, submit},
    },
    sequencer::batch::Promise,
};
use waymark_log::{checkpoint::Origin, hash::Hash, key::SecretKey};
use waymark_mapping::{
    entry::{Config, Entry},
    event::EventKind,
    names::Region,
    signed::SignedStruct,
    wire::encode,
};
use waymark_monitor as monitor;
use waymark_runtime::{
    clock::Clock,
    fetch::{Fetched, Fetcher},
    keyfile,
};

const BOB: &str = "tel:+4915112345642";

/// Changes text in a file.
#[track_caller]
fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// Runs a command of `waymark-dp config`; what it says on stderr if it fails.
fn config(command: &str, dir: &Path) -> Result<String, String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_waymark-dp"));
    let out = program.args(["config", command, "--dir"]).arg(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

async fn get(fetcher: &Fetcher, url: &str, path: &str) -> Fetched {
    fetcher.get(&format!("{url}{path}"), 1 << 20).await.unwrap()
}

/// The digest of the document that is served.
async fn served(fetcher: &Fetcher, url: &str) -> Hash {
    Hash::sha256(&[&get(fetcher, url, "/v1/policy").await.body])
}

fn monitor_of(stage: &Stage) -> monitor::Settings {
    let copies = (1..).zip(&stage.witnesses.running).map(|(i, w)| (format!("w{i}"), w.url())).collect();
    let followed = monitor::FollowedLog { trust: stage.trust.clone(), url: stage.dp.log_url(), witnesses: copies };
    monitor::Settings { logs: vec![followed], ..monitor_settings(stage.root.path()) }
}

fn monitor_settings(root: &Path) -> monitor::Settings {
    monitor::Settings {
        data_dir: root.join("monitor"),
        listen: common::loopback(),
        operations: None,
        tls: None,
        roots: Default::default(),
        logs: vec![],
        poll_ms: 1000,
        proxies: waymark_runtime::proxies::Proxies::default(),
        renew_within_ms: 1000,
        log_memory_bytes: 1 << 30,
    }
}

/// What the log says is promised.
async fn logged(stage: &Stage) -> Promise {
    let entries = stage.entries().await;
    entries.iter().rev().find_map(|e| Promise::of(&e.encode())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_document_counts_from_its_head_on() {
    let stage = Stage::new().await;
    let dir = stage.root.path().join("dp");
    let url = stage.dp.url();
    let first = served(&stage.fetcher, &url).await;
    assert_eq!(logged(&stage).await.policy, first);
    let content = monitor::once(monitor_of(&stage), Clock::System).await.unwrap();
    assert_eq!(content.findings, Vec::<String>::new());

    // Nothing to change; then a document that does not say what the configuration does.
    assert!(config("apply", &dir).unwrap_err().contains("nothing changes"));
    edit(&dir.join(names::CONFIG), "lookups_per_minute = 1000000", "lookups_per_minute = 1");
    assert!(config("apply", &dir).unwrap_err().contains("limits.lookups_per_minute"));
    let proposed = config("propose", &dir).unwrap();
    edit(&dir.join(names::DOCUMENT), "contact = \"\"", "contact = \"mailto:help@dp.example\"");
    edit(&dir.join(names::CONFIG), "interval_ms = 50", "interval_ms = 60");
    assert_ne!(config("apply", &dir).unwrap(), proposed);
    let second = Hash::sha256(&[&std::fs::read(dir.join(names::DOCUMENT)).unwrap()]);
    until("the new document", async || served(&stage.fetcher, &url).await == second).await;
    assert_eq!(logged(&stage).await, Promise { policy: second, interval_ms: 60 });
    until("the file to be put away", async || dir.join("config/accepted").exists()).await;
    assert_eq!(std::fs::read_dir(dir.join("config/incoming")).unwrap().count(), 0);

    // Senders verify on, are limited by the new document (an IPv4 address has 16 times what it says), and find the old one
    // under its digest.
    let mut refused = 0;
    for _ in 0..36 {
        // A minute may turn over between two of them, once.
        match stage.client().look_up(&csi(BOB), None).await {
            Ok(_) => {}
            Err(e) => {
                assert_eq!(e.code(), Some("too-many-requests"));
                refused += 1;
            }
        }
    }
    assert!((4..=20).contains(&refused), "{refused}");
    for digest in [first, second] {
        let old = get(&stage.fetcher, &url, &format!("/v1/policy/{}", digest.to_hex())).await;
        assert_eq!((old.status, Hash::sha256(&[&old.body]), &old.media_type[..]), (200, digest, "application/toml"));
        Document::parse(&old.body).unwrap();
    }
    for none in [Hash::sha256(&[b"none"]).to_hex(), "x".to_owned(), second.to_hex().to_uppercase()] {
        assert_eq!(get(&stage.fetcher, &url, &format!("/v1/policy/{none}")).await.status, 404, "{none}");
    }
    let content = monitor::once(monitor_of(&stage), Clock::System).await.unwrap();
    assert_eq!(content.findings, Vec::<String>::new());

    // And after a start it is the same.
    let Stage { root, witnesses, dp, fetcher, trust, .. } = stage;
    dp.stop().await.unwrap();
    let fsck = Command::new(env!("CARGO_BIN_EXE_waymark-dp")).args(["fsck", "--dir"]).arg(&dir).output().unwrap();
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
    edit(&dir.join(names::CONFIG), "interval_ms = 60", "interval_ms = 50");
    let dp = dp::start(Settings::load(&dir).unwrap(), Clock::System).await.unwrap();
    until("a checkpoint", async || dp.published_size() > 0).await;
    assert_eq!(served(&fetcher, &dp.url()).await, second);
    common::look_up(&client(&fetcher, &dp.url()), &trust, &csi(BOB), None).await;
    dp.stop().await.unwrap();
    // A document that is gone is missed.
    std::fs::remove_file(dir.join(names::POLICIES).join(format!("{}.toml", first.to_hex()))).unwrap();
    let fsck = Command::new(env!("CARGO_BIN_EXE_waymark-dp")).args(["fsck", "--dir"]).arg(&dir).output().unwrap();
    assert!(String::from_utf8_lossy(&fsck.stdout).contains("is not in the folder of policies"));
    witnesses.stop().await;
    drop(root);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_has_its_digest_and_is_not_sent_twice() {
    let stage = Stage::new().await;
    let digest = served(&stage.fetcher, &stage.dp.url()).await;
    let raw = async |path: &str, tag: Option<String>| {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(stage.dp.address()).await.unwrap();
        let tag = tag.map(|t| format!("if-none-match: {t}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{tag}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let tag = format!("\"{}\"", digest.to_hex());
    let answer = raw("/v1/policy", None).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("etag: {tag}")), "{answer}");
    assert!(answer.contains(&format!("repr-digest: sha-256=:{}:", digest.to_base64())), "{answer}");
    assert!(answer.contains("cache-control: no-cache"), "{answer}");
    let again = raw("/v1/policy", Some(format!("\"other\", {tag}"))).await;
    assert!(again.starts_with("HTTP/1.1 304") && again.ends_with("\r\n\r\n"), "{again}");
    assert!(raw("/v1/policy", Some("\"other\"".to_owned())).await.starts_with("HTTP/1.1 200"));
    assert!(raw(&format!("/v1/policy/{}", digest.to_hex()), None).await.contains("immutable"));
    stage.stop().await;
}

/// A DP that is made and does not run, and what a start says of it.
struct Resting {
    root: tempfile::TempDir,
    witnesses: Witnesses,
}

impl Resting {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let witnesses = Witnesses::start(root.path(), 1).await;
        make_dp(&root.path().join("dp"), &witnesses);
        Self { root, witnesses }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("dp").join(name)
    }

    /// Why it does not start, `None` if it does.
    async fn start(&self) -> Option<String> {
        let settings = match Settings::load(&self.path("")) {
            Ok(settings) => settings,
            Err(why) => return Some(why.to_string()),
        };
        match dp::start(settings, Clock::System).await {
            Ok(running) => {
                until("a checkpoint", async || running.published_size() > 0).await;
                running.stop().await.unwrap();
                None
            }
            Err(why) => Some(why.to_string()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradiction_is_not_started_and_is_named() {
    let resting = Resting::new().await;
    assert_eq!(resting.start().await, None);
    let (config_file, document) = (resting.path(names::CONFIG), resting.path(names::DOCUMENT));
    for (path, from, to, says) in [
        (&config_file, "lookups_per_minute = 1000000", "lookups_per_minute = 7", "limits.lookups_per_minute"),
        (&config_file, "regions = [\"EU\"]", "regions = []", "regions"),
        (&config_file, "codes = \"folder\"", "codes = \"console\"", "channels"),
        (&config_file, "interval_ms = 50", "interval_ms = 51", "interval_ms"),
        (&document, "claim_hours = 336", "claim_hours = 335", "policy.toml is not the document"),
        (&document, "# Who promises.", "# Who promises!", "policy.toml is not the document"),
        (&document, "claim_hours = 336", "claim_hours = 336\nmore = 1", "not a policy document"),
    ] {
        edit(path, from, to);
        let said = resting.start().await.unwrap_or_else(|| panic!("{to} was started"));
        assert!(said.contains(says), "{to}: {said}");
        edit(path, to, from);
    }
    // The shelf's copy is what counts; one that was altered is none.
    let shelf = std::fs::read_dir(resting.path(names::POLICIES)).unwrap().next().unwrap().unwrap().path();
    let mut permissions = std::fs::metadata(&shelf).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a test's own file")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&shelf, permissions).unwrap();
    edit(&shelf, "claim_hours = 336", "claim_hours = 337");
    assert!(resting.start().await.unwrap().contains("is not in the folder of policies"));
    edit(&shelf, "claim_hours = 337", "claim_hours = 336");
    assert_eq!(resting.start().await, None);
    resting.witnesses.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dp_that_is_stopped_starts_with_what_waits() {
    let resting = Resting::new().await;
    assert_eq!(resting.start().await, None);
    let dir = resting.path("");
    edit(&resting.path(names::CONFIG), "regions = [\"EU\"]", "regions = [\"EU\", \"CH\"]");
    config("propose", &dir).unwrap();
    assert!(resting.start().await.unwrap().contains("config apply"));
    let digest = config("apply", &dir).unwrap();
    let dp = dp::start(Settings::load(&dir).unwrap(), Clock::System).await.unwrap();
    let fetcher = Fetcher::default();
    until("the new document", async || served(&fetcher, &dp.url()).await.to_hex() == digest).await;
    dp.stop().await.unwrap();
    assert_eq!(resting.start().await, None);
    resting.witnesses.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_must_not_be_logged_is_put_aside() {
    let stage = Stage::new().await;
    let dir = stage.root.path().join("dp");
    let log_key = SecretKey::from_seed(&keyfile::load(&dir.join("keys/log.key")).unwrap());
    let open = stage.entries().await.into_iter().next().unwrap().encode();
    let (origin, now) = (stage.origin.clone(), logged(&stage).await);
    let good = change::make(&origin, &log_key, Promise { interval_ms: 70, ..now }, &open);
    let mut other_key = good.clone();
    other_key.log_key = key("another log key").public();
    other_key.sign(&origin, &log_key);
    let other_log =
        change::make(&Origin::new("other.example/log").unwrap(), &log_key, Promise { interval_ms: 70, ..now }, &open);
    let unknown = change::make(&origin, &log_key, Promise { policy: Hash::sha256(&[b"none"]), ..now }, &open);
    let faster = change::make(&origin, &log_key, Promise { interval_ms: 49, ..now }, &open);
    let same = change::make(&origin, &log_key, now, &open);
    let bad: [&Config; 5] = [&other_key, &other_log, &unknown, &faster, &same];
    bad.iter().for_each(|c| submit(&dir, c).unwrap());
    std::fs::write(dir.join("config/incoming/no.config"), b"nothing").unwrap();
    let count = |which: &str| std::fs::read_dir(dir.join("config").join(which)).map_or(0, Iterator::count);
    until("six refusals", async || count("refused") == 6).await;
    submit(&dir, &good).unwrap();
    until("the good one", async || count("accepted") == 1).await;
    let configs = stage.entries().await.into_iter().filter(|e| matches!(e, Entry::Config(_))).count();
    assert_eq!((configs, logged(&stage).await.interval_ms), (1, 70));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_for_another_region_is_refused() {
    let stage = Stage::new().await;
    let (bob, who) = (key("bob"), csi(BOB));
    let issue = async |region: &str| {
        let mut mapping = stage.mapping(&bob, &who, QUIET, shown("default")).await;
        mapping.region = Region::parse(region).unwrap();
        mapping.sign(&stage.origin, &bob);
        let possession = Some(mapping.attestation.clone());
        let added = [with_consent(&stage.origin, mapping)];
        let current = stage.look_up(&who, None).await;
        let change = request(&stage.origin, &current, &who, EventKind::Issue, &added, &[], &[(&bob, possession)]);
        assert!(encode(&change).len() > 500);
        stage.client().change(&bob, &change).await
    };
    for elsewhere in ["US", "E", "EU-DE"] {
        assert_eq!(issue(elsewhere).await.unwrap_err().code(), Some("region-refused"), "{elsewhere}");
    }
    issue("EU").await.unwrap();
    assert_eq!(stage.look_up(&who, None).await.mappings.len(), 1);
    stage.stop().await;
}
