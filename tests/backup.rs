//! Copies of a DP and what is made of them: whole, without what was erased, without what belongs elsewhere; and what is refused.

mod common;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use common::{QUIET, Stage, Witnesses, client, csi, domain, key, request, shown, until, with_consent};
use waymark::{
    client::{dp::DpClient, memory::LogMemory, recipient, recipient::prove},
    config::{ProverFile, Settings, names},
    dp,
    init::{self, open_rows},
    onboarding,
    row::Kept,
    sequencer::purge::open_row,
    store::{RowKeys, seal::Sealer},
};
use waymark_log::{checkpoint::Origin, hash::Hash};
use waymark_mapping::{
    entry::{Provider, ProviderAction, ProviderRole},
    event::EventKind,
    identifier::Csi,
    mapping::{Attestation, Mapping, Method, Purpose},
    names::{Account, Region},
    provider::ProviderDirectory,
    signed::{SignedStruct, UNSIGNED},
    trust::Trust,
    wire::{Format, Optional24},
};
use waymark_runtime::{clock::Clock, fetch::Fetcher};

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{} {}", self.out, self.err);
        self
    }
}

fn waymark_dp(args: &[&str]) -> Said {
    let out = Command::new(env!("CARGO_BIN_EXE_waymark-dp")).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: out.status.code(), out: text(&out.stdout), err: text(&out.stderr) }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A DP that rests, and all that is needed to run it, or a copy of it.
struct Rested {
    root: tempfile::TempDir,
    witnesses: Witnesses,
    trust: Trust,
    origin: Origin,
    fetcher: Fetcher,
}

impl Rested {
    async fn of(stage: Stage) -> Self {
        let Stage { root, witnesses, dp, trust, origin, fetcher, .. } = stage;
        dp.stop().await.unwrap();
        Self { root, witnesses, trust, origin, fetcher }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn back_up(&self, to: &str, more: &[&str]) -> Said {
        let (dir, to) = (text(&self.path("dp")), text(&self.path(to)));
        waymark_dp(&[&["backup", "--dir", &dir, "--to", &to], more].concat())
    }

    fn restore(&self, from: &str, to: &str, more: &[&str]) -> Said {
        let (from, to) = (text(&self.path(from)), text(&self.path(to)));
        waymark_dp(&[&["restore", "--from", &from, "--dir", &to], more].concat())
    }

    /// Runs what was restored, as a stage.
    async fn run(self, name: &str) -> Stage {
        let dp = dp::start(Settings::load(&self.path(name)).unwrap(), Clock::System).await.unwrap();
        until("a checkpoint", async || dp.published_size() > 0).await;
        let Self { root, witnesses, trust, origin, fetcher } = self;
        Stage { root, witnesses, dp, trust, origin, fetcher, clock: Clock::System }
    }

    /// All that the records in a folder hold, unsealed, and the number of their stubs. A store that is opened changes: it is a copy.
    fn unsealed(&self, name: &str) -> (Vec<u8>, usize) {
        let settings = Settings::load(&self.path("dp")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        common::copy_folder(&self.path(name), folder.path());
        let rows = open_rows(folder.path(), settings.store, false).unwrap();
        let keys = RowKeys::open(&folder.path().join(names::ROW_KEYS)).unwrap();
        let sealer = Sealer::new(&settings.store_key, Arc::new(keys));
        let (mut all, mut stubs) = (vec![], 0);
        rows.for_each(&mut |row| {
            let kept = open_row(&sealer, &row).unwrap();
            stubs += usize::from(matches!(kept, Kept::Stub(_)));
            all.extend(kept.encode());
        })
        .unwrap();
        (all, stubs)
    }
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

/// All bytes of all files below a folder.
fn all_bytes(folder: &Path) -> Vec<u8> {
    let mut all = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.extend(if path.is_dir() { all_bytes(&path) } else { std::fs::read(path).unwrap() });
    }
    all
}

/// The account of a person, by which their mapping is known again.
fn account(name: &str) -> String {
    format!("mimi://x.example/u/canary-{name}")
}

/// A mapping of this person, for a region; possession is proved at the DP that runs in `dir`.
async fn mapping(stage: &Stage, dir: &str, (name, who): (&str, &Csi), region: &str) -> Mapping {
    let secret = key(name);
    let attestation = common::attest(&stage.client(), &stage.root.path().join(dir), &secret, who).await;
    let mut mapping = common::mapping(&stage.origin, &secret, &attestation, QUIET, shown("default"));
    mapping.account = Account::parse(&account(name)).unwrap();
    mapping.region = Region::parse(region).unwrap();
    mapping.sign(&stage.origin, &secret);
    mapping
}

/// A DP that takes the word of a prover whose keys bear the prover's name.
async fn stage_that_believes(prover: &str) -> Stage {
    let believed = ProverFile { domain: prover.to_owned(), attests: vec!["*".to_owned()], stricter: false };
    let stage = Stage::with_file(1, &Clock::System, |file| file.prover = vec![believed]).await;
    onboarding::submit(&stage.root.path().join("dp"), &prover_entry(&stage, prover)).unwrap();
    until("the prover to be logged", async || stage.dp.knows_provider(&domain(prover))).await;
    stage
}

fn prover_entry(stage: &Stage, prover: &str) -> Provider {
    init::provider_entry(&domain(prover), ProviderRole::PROVER, false, 0, &stage.origin, &key(prover))
}

/// The prover's key retires, by its own word.
async fn retire(stage: &Stage, prover: &str) {
    let (add, mut directory) = (prover_entry(stage, prover), ProviderDirectory::new());
    directory.apply(&add, &stage.origin, Clock::System.now()).unwrap();
    let previous_leaf = directory.previous_leaf(&domain(prover), ProviderRole::PROVER);
    let action = ProviderAction::Retire;
    let mut entry = Provider { action, previous_leaf, by_key: Optional24(None), ..add };
    entry.sign_by_valid(&stage.origin, &key(prover));
    onboarding::submit(&stage.root.path().join("dp"), &entry).unwrap();
    until("the key to be retired", async || {
        let answer = stage.fetcher.get(&format!("{}/v1/providers", stage.dp.url()), 1 << 20).await.unwrap();
        let providers: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).unwrap();
        providers.iter().any(|p| p["domain"] == prover && p["retired_ms"] != 0)
    })
    .await;
}

/// A mapping whose possession another prover attests.
fn attested_by(prover: &str, stage: &Stage, (name, who): (&str, &Csi), tag: &str) -> Mapping {
    let now = Clock::System.now();
    let mut attestation = Attestation {
        format: Format,
        csi: who.clone(),
        recipient: key(name).public(),
        tenure: 0,
        purpose: Purpose::Control,
        method: Method::CONSOLE,
        prover: domain(prover),
        prover_key: key(prover).public(),
        time: now,
        expiry: now.plus_ms(3_600_000),
        nonce: waymark_runtime::random::bytes(),
        sig: UNSIGNED,
    };
    attestation.sign(&stage.origin, &key(prover));
    common::mapping(&stage.origin, &key(name), &attestation, QUIET, shown(tag))
}

/// Adds mappings.
async fn issue(stage: &Stage, (name, who): (&str, &Csi), mappings: Vec<Mapping>) -> Result<(), String> {
    let possession = Some(mappings[0].attestation.clone());
    let added: Vec<_> = mappings.into_iter().map(|m| with_consent(&stage.origin, m)).collect();
    let current = stage.look_up(who, None).await;
    let signers = [(&key(name), possession)];
    let change = request(&stage.origin, &current, who, EventKind::Issue, &added, &[], &signers);
    stage.client().change(&key(name), &change).await.map(drop).map_err(|e| e.to_string())
}

async fn remove(stage: &Stage, (name, who): (&str, &Csi), kind: EventKind, removed: &[Hash]) {
    let current = stage.look_up(who, None).await;
    let change = request(&stage.origin, &current, who, kind, &[], removed, &[(&key(name), None)]);
    stage.client().change(&key(name), &change).await.unwrap();
}

/// Claims what somebody else has.
async fn claim(stage: &Stage, (name, who): (&str, &Csi)) {
    let codes = stage.root.path().join("dp").join(names::CODES);
    let read = |id: String| async move { std::fs::read_to_string(codes.join(id)).ok() };
    let proof = prove(&stage.client(), &key(name), who, 1, Purpose::Control, read).await.unwrap();
    let (current, signers) = (stage.look_up(who, None).await, [(&key(name), Some(proof))]);
    let change = request(&stage.origin, &current, who, EventKind::NewHolderPending, &[], &[], &signers);
    stage.client().change(&key(name), &change).await.unwrap();
}

/// The code of the problem that a look-up ends in.
async fn refusal(dp: &DpClient, who: &Csi) -> Option<String> {
    dp.look_up(who, None).await.err().and_then(|e| e.code().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_dp_goes_on_and_an_old_copy_does_not_sign() {
    let stage = Stage::new().await;
    let (bob, carol) = (csi("tel:+4915112345642"), csi("mailto:carol@post.example"));
    let of_bob = mapping(&stage, "dp", ("bob", &bob), "").await;
    issue(&stage, ("bob", &bob), vec![of_bob]).await.unwrap();
    let running = waymark_dp(&[
        "backup",
        "--dir",
        &text(&stage.root.path().join("dp")),
        "--to",
        &text(&stage.root.path().join("early")),
    ]);
    assert!(running.with(1).err.contains("stop it first"));
    let rested = Rested::of(stage).await;
    let said = rested.back_up("copy", &["--with-keys"]).with(0);
    assert!(said.out.contains("1 records of 1 identifiers"), "{}", said.out);
    let said = rested.restore("copy", "dp2", &[]).with(0);
    assert!(said.err.contains("witnesses know") && said.out.contains("1 records"), "{}", said.err);
    // The first goes on with what it has, and so does the log.
    let stage = rested.run("dp2").await;
    assert_eq!(stage.look_up(&bob, None).await.mappings.len(), 1);
    let of_carol = mapping(&stage, "dp2", ("carol", &carol), "EU").await;
    issue(&stage, ("carol", &carol), vec![of_carol]).await.unwrap();
    let rested = Rested::of(stage).await;
    // The copy is older now than what the witnesses know.
    rested.restore("copy", "dp3", &[]).with(0);
    let stopped = dp::start(Settings::load(&rested.path("dp3")).unwrap(), Clock::System).await.unwrap();
    let why = tokio::time::timeout(std::time::Duration::from_secs(30), stopped.stopped()).await.unwrap();
    assert!(why.contains("witness"), "{why}");
    assert!(stopped.stop().await.is_err());
    rested.witnesses.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_is_in_no_later_copy() {
    let stage = Stage::new().await;
    let (alice, bob) = (csi("tel:+4915112345641"), csi("tel:+4915112345642"));
    for (name, who) in [("alice", &alice), ("bob", &bob)] {
        let theirs = mapping(&stage, "dp", (name, who), "").await;
        issue(&stage, (name, who), vec![theirs]).await.unwrap();
    }
    let rested = Rested::of(stage).await;
    rested.back_up("before", &["--with-keys"]).with(0);
    let (before, _) = rested.unsealed("before");
    assert!(holds(&before, account("alice").as_bytes()), "the canary is looked for in the wrong way");
    let keys_before = std::fs::read(rested.path("dp").join(names::ROW_KEYS)).unwrap();
    let stage = rested.run("dp").await;
    let standing: Vec<Hash> = {
        let current = stage.look_up(&alice, None).await;
        current.mappings.iter().map(|m| m.digest).collect()
    };
    remove(&stage, ("alice", &alice), EventKind::Erase, &standing).await;
    let rested = Rested::of(stage).await;
    let said = rested.back_up("after", &[]).with(0);
    assert!(said.err.contains("no keys"), "{}", said.err);
    let (after, stubs) = rested.unsealed("after");
    assert_eq!(stubs, 1, "the version that was erased");
    assert!(holds(&after, account("bob").as_bytes()) && !holds(&after, account("alice").as_bytes()));
    // One stretch of rows for each of them, and none of the keys from before.
    let keys_after = std::fs::read(rested.path("after").join(names::ROW_KEYS)).unwrap();
    assert_eq!(keys_after.len(), 16 + 2 * 32);
    let all = all_bytes(&rested.path("after"));
    for key in keys_before[16..].chunks(32) {
        assert!(!holds(&all, key), "a row key was copied");
    }
    assert!(!rested.path("after").join(names::KEYS).exists());
    // Without keys it is of no use; with them it is.
    assert!(rested.restore("after", "dp2", &[]).with(1).err.contains("--keys"));
    rested.restore("after", "dp2", &["--keys", &text(&rested.path("dp").join(names::KEYS))]).with(0);
    let stage = rested.run("dp2").await;
    let found = stage.look_up(&alice, None).await;
    assert_eq!((found.mappings.len(), found.version), (0, Some(1)));
    assert_eq!(stage.look_up(&bob, None).await.mappings.len(), 1);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_a_region_lacks_what_belongs_elsewhere_and_never_denies_it() {
    let stage = Stage::new().await;
    let people = ["bob", "carol", "dave"].map(|name| (name, csi(&format!("mailto:{name}@post.example"))));
    let [(_, bob), (_, carol), (_, dave)] = &people;
    let mut withdrawn = vec![];
    // Bob's is for the EU; of Carol's two one was, and is withdrawn; Dave does not mind.
    for (name, who, regions) in [("bob", bob, &["EU"][..]), ("carol", carol, &["", "EU"]), ("dave", dave, &[""])] {
        let mut mappings = vec![];
        for region in regions {
            mappings.push(mapping(&stage, "dp", (name, who), region).await);
        }
        if name == "carol" {
            withdrawn.push(mappings[1].digest());
        }
        issue(&stage, (name, who), mappings).await.unwrap();
    }
    remove(&stage, ("carol", carol), EventKind::Withdraw, &withdrawn).await;
    // The record right before the latest is in every receipt: so there is one more.
    let another = mapping(&stage, "dp", ("carol", carol), "").await;
    issue(&stage, ("carol", carol), vec![another]).await.unwrap();
    // Erin's was for the EU, too, while Frank claimed her address, and he still does: that version will prove that his hold was kept.
    let erin = csi("mailto:erin@post.example");
    let mappings =
        vec![mapping(&stage, "dp", ("erin", &erin), "").await, mapping(&stage, "dp", ("erin", &erin), "EU").await];
    let withdrawn = [mappings[1].digest()];
    issue(&stage, ("erin", &erin), mappings).await.unwrap();
    claim(&stage, ("frank", &erin)).await;
    remove(&stage, ("erin", &erin), EventKind::Withdraw, &withdrawn).await;
    let rested = Rested::of(stage).await;
    rested.back_up("here", &["--with-keys", "--region", "EU"]).with(0);
    assert!(holds(&rested.unsealed("here").0, account("bob").as_bytes()), "it is for the EU");
    rested.back_up("nowhere", &["--region", "europe"]).with(2);
    let said = rested.back_up("there", &["--with-keys", "--region", "US"]).with(0);
    assert!(said.out.contains("2 identifiers left out"), "{}", said.out);
    let (unsealed, stubs) = rested.unsealed("there");
    assert_eq!(stubs, 1, "Carol's first version");
    assert!(!holds(&unsealed, account("bob").as_bytes()) && !holds(&unsealed, bob.expose().as_bytes()));
    assert!(holds(&unsealed, account("carol").as_bytes()) && holds(&unsealed, account("dave").as_bytes()));
    let said = rested.restore("there", "dp2", &[]).with(0);
    assert!(said.err.contains("not an absence"), "{}", said.err);

    let stage = rested.run("dp2").await;
    let elsewhere = Some("record-elsewhere".to_owned());
    assert_eq!(refusal(&stage.client(), bob).await, elsewhere);
    assert_eq!(refusal(&stage.client(), &erin).await, elsewhere);
    assert_eq!(stage.look_up(carol, None).await.mappings.len(), 2);
    // Whose record is here can go on with it: what their app is shown is whole.
    let mut memory = LogMemory::default();
    let shown = recipient::history(&stage.client(), &key("carol"), carol, &stage.trust, &mut memory).await;
    assert_eq!(shown.unwrap().unwrap().state.version, 2);
    assert_eq!(stage.look_up(dave, None).await.mappings.len(), 1);
    assert_eq!(stage.look_up(&csi("mailto:nobody@post.example"), None).await.version, None);
    // Nobody, not even Bob, can begin anew over what is kept elsewhere; and the sequencer does not stop over it.
    for (version, kind) in [(None, EventKind::Issue), (Some(0), EventKind::Issue)] {
        let again = mapping(&stage, "dp2", ("bob", bob), "").await;
        let possession = Some(again.attestation.clone());
        let added = [with_consent(&stage.origin, again)];
        let seen = common::Seen { version, ..common::Seen::default() };
        let change = request(&stage.origin, seen, bob, kind, &added, &[], &[(&key("bob"), possession)]);
        let refused = stage.client().change(&key("bob"), &change).await.unwrap_err();
        assert_eq!(refused.code(), elsewhere.as_deref(), "{version:?}");
    }
    let history = stage.client().history(&key("bob"), bob).await;
    assert_eq!(history.unwrap_err().code(), elsewhere.as_deref());
    let more = mapping(&stage, "dp2", ("dave", dave), "").await;
    issue(&stage, ("dave", dave), vec![more]).await.unwrap();
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_copy_is_not_restored_and_nothing_is_overwritten() {
    let stage = Stage::new().await;
    let bob = csi("tel:+4915112345642");
    let of_bob = mapping(&stage, "dp", ("bob", &bob), "").await;
    issue(&stage, ("bob", &bob), vec![of_bob]).await.unwrap();
    let rested = Rested::of(stage).await;
    rested.back_up("copy", &["--with-keys"]).with(0);
    assert!(rested.back_up("copy", &[]).with(1).err.contains("nothing is overwritten"));
    assert!(rested.restore("copy", "dp", &[]).with(1).err.contains("nothing is overwritten"));
    assert!(rested.restore("dp", "dp2", &[]).with(1).err.contains("backup.toml") || !rested.path("dp2").exists());
    for (name, folder) in [("records.redb", "r"), (names::ROW_KEYS, "k"), (names::HEAD, "h"), (names::DOCUMENT, "d")] {
        common::copy_folder(&rested.path("copy"), &rested.path(folder));
        let path = rested.path(folder).join(name);
        if !path.exists() {
            // Another store.
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let said = rested.restore(folder, &format!("of {folder}"), &[]).with(1);
        assert!(said.err.contains("has changed since"), "{name}: {}", said.err);
    }
    // Findings that nobody accepted when the copy was made are not accepted by a restore.
    common::copy_folder(&rested.path("copy"), &rested.path("a"));
    std::fs::write(rested.path("a").join(names::ACCEPTED), "format = 1\n").unwrap();
    let said = rested.restore("a", "of a", &[]).with(1);
    assert!(said.err.contains("accepted-findings.toml was added since"), "{}", said.err);
    // A tile has no checksum in the list: it is hashed into the root.
    common::copy_folder(&rested.path("copy"), &rested.path("t"));
    let tiles = rested.path("t").join("log/tile/entries/000.p");
    for entry in std::fs::read_dir(&tiles).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    rested.restore("t", "of t", &[]).with(1);
    std::fs::remove_file(rested.path("copy").join("backup.toml")).unwrap();
    rested.restore("copy", "of an unfinished one", &[]).with(1);
    let client = client(&rested.fetcher, "http://127.0.0.1:9");
    assert!(client.look_up(&bob, None).await.is_err(), "nothing was started");
    rested.witnesses.stop().await;
}

/// The version that shows that a mapping was there before its prover's key retired has something for another region in it, and so is not in
/// the copy: then the record is not there. An answer without that version would look like an attack.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_a_region_gives_no_answer_that_cannot_prove_what_a_retired_key_attests() {
    let stage = stage_that_believes("prover.example").await;
    let people = ["bob", "carol"].map(|name| (name, csi(&format!("mailto:{name}@post.example"))));
    let mut withdrawn = vec![];
    // Bob's first version has something for the EU in it, Carol's has not.
    for (name, who) in &people {
        let other = mapping(&stage, "dp", (name, who), if *name == "bob" { "EU" } else { "" }).await;
        withdrawn.push(other.digest());
        let theirs = attested_by("prover.example", &stage, (name, who), "other");
        issue(&stage, (name, who), vec![other, theirs]).await.unwrap();
    }
    retire(&stage, "prover.example").await;
    for ((name, who), gone) in people.iter().zip(withdrawn) {
        remove(&stage, (name, who), EventKind::Withdraw, &[gone]).await;
        let more = mapping(&stage, "dp", (name, who), "").await;
        issue(&stage, (name, who), vec![more]).await.unwrap();
        assert_eq!(stage.look_up(who, None).await.mappings.len(), 2);
    }
    let rested = Rested::of(stage).await;
    let said = rested.back_up("there", &["--with-keys", "--region", "US"]).with(0);
    assert!(said.out.contains("1 identifiers left out"), "{}", said.out);
    rested.restore("there", "dp2", &[]).with(0);
    let stage = rested.run("dp2").await;
    assert_eq!(refusal(&stage.client(), &people[0].1).await.as_deref(), Some("record-elsewhere"));
    assert_eq!(stage.look_up(&people[1].1, None).await.mappings.len(), 2);
    stage.stop().await;
}
