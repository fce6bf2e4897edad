//! What was accepted is kept: a provider entry waits in its folder until the published log holds it, whatever dies on the way. And a DP
//! does not start with keys that are not of its log.

mod common;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{
    LOUD, QUIET, Stage, Witnesses, csi, domain, hand::rotation, key, make_dp, origin, program::Program, shown, until,
};
use serde_json::Value;
use waymark::{
    api::PROVIDER_MEDIA_TYPE,
    client::provider::ProviderClient,
    config::{Settings, names},
    dp::{self, StartError},
    init::provider_entry,
    keys::{KeysError, WrongKey},
    msp, onboarding,
    sequencer::{
        commit::Step,
        pool::{Pool, PoolRefused},
    },
};
use waymark_log::key::SecretKey;
use waymark_mapping::{
    entry::{Entry, Provider, ProviderRole},
    event::EventKind,
    provider::ProviderDirectory,
};
use waymark_runtime::{clock::Clock, fetch::Fetcher, keyfile};

/// The names of the files in one of the folders of provider entries.
fn files(dir: &Path, which: &str) -> Vec<String> {
    let Ok(listing) = fs::read_dir(dir.join(names::PROVIDERS).join(which)) else { return vec![] };
    let mut names: Vec<String> = listing.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

async fn get(url: &str) -> Vec<u8> {
    Fetcher::default().get(url, 1 << 20).await.unwrap().body
}

/// The keys that a DP lists for a domain.
async fn keys_of(url: &str, name: &str) -> Vec<Value> {
    let listed = get(&format!("{url}/v1/providers?domain={name}")).await;
    serde_json::from_slice(&listed).unwrap_or_default()
}

async fn reasons(dp: &dp::Running) -> Vec<String> {
    let answer = get(&format!("{}/readyz", dp.operations_url().unwrap())).await;
    let body: Value = serde_json::from_slice(&answer).unwrap();
    body["reasons"].as_array().unwrap().iter().map(|r| r["code"].as_str().unwrap().to_owned()).collect()
}

async fn start(dir: &Path) -> dp::Running {
    dp::start(Settings::load(dir).unwrap(), Clock::System).await.unwrap()
}

async fn until_logged(dp: &dp::Running, names: &[&str]) {
    until("the providers", async || names.iter().all(|n| dp.knows_provider(&domain(n)))).await;
}

fn add(name: &str) -> Provider {
    provider_entry(&domain(name), ProviderRole::MSP, false, 1, &origin(), &key(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dps_own_entry_is_kept_when_the_first_start_finds_no_witness() {
    let root = tempfile::tempdir().unwrap();
    let mut witnesses = Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    make_dp(&dir, &witnesses);
    let places = witnesses.leave().await;
    let before = files(&dir, "incoming");
    assert_eq!(before.len(), 3);
    for _ in 0..2 {
        let dp = start(&dir).await;
        // There is no event for what does not happen: six batches' time.
        tokio::time::sleep(Duration::from_millis(300)).await;
        dp.stop().await.unwrap();
        assert_eq!((files(&dir, "incoming"), files(&dir, "accepted")), (before.clone(), vec![]));
    }
    witnesses.come_back(places).await;
    let dp = start(&dir).await;
    until_logged(&dp, &[QUIET, LOUD, "dp.example"]).await;
    until("all of them accepted", async || files(&dir, "accepted") == before).await;
    until("ready", async || reasons(&dp).await.is_empty()).await;
    assert_eq!(files(&dir, "incoming"), Vec::<String>::new());
    dp.stop().await.unwrap();
    witnesses.stop().await;
}

/// Look-ups go on and a log is published, but nobody could register: whoever distributes requests has to know.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_published_log_lacks_the_dps_own_entry_it_is_not_ready_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let witnesses = Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    make_dp(&dir, &witnesses);
    let before = files(&dir, "incoming");
    // The log as it was opened is published; there is no room for the batch with the entries.
    let is_full = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&is_full);
    let hindrance = move |step, _| match seen.load(Ordering::SeqCst) && matches!(step, Step::Stage | Step::Room) {
        true => Err(io::ErrorKind::StorageFull.into()),
        false => Ok(()),
    };
    let settings = || Settings::load(&dir).unwrap();
    let dp = dp::start(Settings { hindrance: Some(Arc::new(hindrance)), ..settings() }, Clock::System).await.unwrap();
    until("both reasons", async || reasons(&dp).await == ["storage-full", "prover-not-logged"]).await;
    assert!(dp.published_size() > 0 && keys_of(&dp.url(), "dp.example").await.is_empty());
    assert_eq!((files(&dir, "incoming"), files(&dir, "accepted")), (before.clone(), vec![]));
    is_full.store(false, Ordering::SeqCst);
    until("ready", async || reasons(&dp).await.is_empty()).await;
    assert_eq!(keys_of(&dp.url(), "dp.example").await.len(), 1);
    dp.stop().await.unwrap();
    witnesses.stop().await;
}

/// The same where the log goes on, and only the entry is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_entries_that_cannot_be_read_is_no_reason_not_to_start_and_shows_in_readyz() {
    let root = tempfile::tempdir().unwrap();
    let witnesses = Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    make_dp(&dir, &witnesses);
    let (incoming, aside) = (dir.join(names::PROVIDERS).join("incoming"), root.path().join("aside"));
    fs::rename(&incoming, &aside).unwrap();
    fs::write(&incoming, "no folder").unwrap();
    let dp = start(&dir).await;
    until("the reason", async || reasons(&dp).await == ["prover-not-logged"]).await;
    let told = get(&format!("{}/readyz", dp.operations_url().unwrap())).await;
    assert!(String::from_utf8(told).unwrap().contains("providers/incoming"));
    // It is taken from the folder as soon as that is there.
    fs::remove_file(&incoming).unwrap();
    fs::rename(&aside, &incoming).unwrap();
    until("ready", async || reasons(&dp).await.is_empty()).await;
    assert_eq!(keys_of(&dp.url(), "dp.example").await.len(), 1);
    dp.stop().await.unwrap();
    witnesses.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_202_or_put_into_the_folder_without_a_quorum_survives_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let mut witnesses = Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    make_dp(&dir, &witnesses);
    let program = Program::start(&dir);
    until("the providers", async || !keys_of(&program.url, LOUD).await.is_empty()).await;
    let places = witnesses.leave().await;
    // The first is in a batch that waits for its quorum; the others wait behind it.
    onboarding::submit(&dir, &add("msp4.example")).unwrap();
    let post = async |entry: &Provider| {
        let (url, body) = (format!("{}/v1/providers", program.url), Entry::Provider(entry.clone()).encode());
        Fetcher::default().post(&url, PROVIDER_MEDIA_TYPE, &[], body, 4096).await.unwrap().status
    };
    let mut directory = ProviderDirectory::new();
    directory
        .apply(
            &provider_entry(&domain(LOUD), ProviderRole::MSP, true, 1, &origin(), &key(LOUD)),
            &origin(),
            Clock::System.now(),
        )
        .unwrap();
    let next = rotation(&directory, LOUD, ProviderRole::MSP, true, &key(LOUD), &key("loud 2"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(post(&next).await, 202);
    assert_eq!(post(&next).await, 202, "the same again takes no second place");
    assert_eq!(post(&rotation(&directory, LOUD, ProviderRole::MSP, true, &key(LOUD), &key("loud 3"))).await, 409);
    onboarding::submit(&dir, &add("msp5.example")).unwrap();
    program.kill();
    assert_eq!(files(&dir, "accepted").len(), 3);
    witnesses.come_back(places).await;
    let program = Program::start(&dir);
    for name in ["msp4.example", "msp5.example"] {
        until(name, async || keys_of(&program.url, name).await.len() == 1).await;
    }
    until("the rotation", async || keys_of(&program.url, LOUD).await.len() == 2).await;
    until("nothing to wait", async || files(&dir, "incoming").is_empty()).await;
    assert_eq!((files(&dir, "accepted").len(), files(&dir, "refused").len()), (6, 0));
    assert_eq!(program.terminate(), Some(0));
    witnesses.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_does_not_follow_is_refused_once_and_holds_nobody_up() {
    let stage = Stage::new().await;
    let dir = stage.root.path().join("dp");
    let incoming = dir.join(names::PROVIDERS).join("incoming");
    until("the first to be accepted", async || files(&dir, "accepted").len() == 3).await;
    fs::write(incoming.join("a.provider"), vec![0; onboarding::PROVIDER_BYTES_MAX + 1]).unwrap();
    fs::write(incoming.join("b.provider"), b"no entry").unwrap();
    fs::write(incoming.join("c.txt"), b"nothing of ours").unwrap();
    // A first key of a domain that has one follows from nothing; one that is not signed neither.
    let mut unsigned = add("unsigned.example");
    unsigned.by_key = waymark_mapping::wire::Optional24(None);
    onboarding::submit(&dir, &unsigned).unwrap();
    let second = provider_entry(&domain(QUIET), ProviderRole::MSP, false, 1, &origin(), &key("thief"));
    onboarding::submit(&dir, &second).unwrap();
    // One that follows only from another, offered at the same time.
    let first = add("chain.example");
    let mut directory = ProviderDirectory::new();
    directory.apply(&first, &origin(), Clock::System.now()).unwrap();
    let then = rotation(&directory, "chain.example", ProviderRole::MSP, false, &key("chain.example"), &key("chain 2"));
    onboarding::submit(&dir, &then).unwrap();
    onboarding::submit(&dir, &first).unwrap();
    let url = stage.dp.url();
    until("both of the chain", async || keys_of(&url, "chain.example").await.len() == 2).await;
    until("the folder to be done", async || files(&dir, "incoming") == ["c.txt"]).await;
    assert_eq!((files(&dir, "refused").len(), files(&dir, "accepted").len()), (4, 5));
    // Offered again, what is in the log stays there once, and under the same name.
    let accepted = files(&dir, "accepted");
    for entry in [&first, &then] {
        onboarding::submit(&dir, entry).unwrap();
    }
    let size = stage.dp.published_size();
    until("the folder to be done again", async || files(&dir, "incoming") == ["c.txt"]).await;
    assert_eq!((files(&dir, "accepted"), files(&dir, "refused").len()), (accepted, 4));
    assert_eq!(keys_of(&url, "chain.example").await.len(), 2);
    assert_eq!(stage.dp.published_size(), size, "nothing was logged for it");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_an_earlier_program_lost_is_offered_again_at_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let witnesses = Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    make_dp(&dir, &witnesses);
    let folder = dir.join(names::PROVIDERS);
    fs::rename(folder.join("incoming"), folder.join("accepted")).unwrap();
    let lost = files(&dir, "accepted");
    let dp = start(&dir).await;
    until_logged(&dp, &[QUIET, LOUD, "dp.example"]).await;
    until("all of them accepted", async || files(&dir, "accepted") == lost).await;
    until("ready", async || reasons(&dp).await.is_empty()).await;
    let size = dp.published_size();
    dp.stop().await.unwrap();
    // And what is in the log is not offered again; nor is there need of any file.
    fs::remove_dir_all(folder.join("incoming")).unwrap();
    let dp = start(&dir).await;
    until("ready", async || reasons(&dp).await.is_empty()).await;
    assert_eq!((files(&dir, "incoming"), files(&dir, "accepted")), (vec![], lost));
    assert!(dp.published_size() <= size + 1, "no more than a head");
    dp.stop().await.unwrap();
    witnesses.stop().await;
}

#[test]
fn an_entry_with_which_no_batch_can_be_signed_is_not_offered_again() {
    let pool = Pool::default();
    let (good, bad) = (add("good.example"), add("bad.example"));
    pool.add_provider(good.clone(), |_| true).unwrap();
    pool.add_provider(bad.clone(), |_| true).unwrap();
    let mut taken = pool.take();
    // In hand, they take no second place.
    pool.add_provider(bad.clone(), |_| panic!("it is in the batch in hand")).unwrap();
    assert!(pool.is_empty());
    pool.dropped(&mut taken.done);
    pool.set_aside(&[Entry::Provider(good.clone()).encode()]);
    assert_eq!(pool.add_provider(bad.clone(), |_| true), Err(PoolRefused::Spoils));
    pool.add_provider(good.clone(), |_| panic!("it is in the batch in hand")).unwrap();
    pool.published(&[], taken.done);
    assert_eq!(pool.add_provider(good, |_| false), Err(PoolRefused::Overtaken));
    assert_eq!(pool.add_provider(bad, |_| true), Err(PoolRefused::Spoils));
}

/// The files of keys that a start refuses; none if it went well.
async fn refused(dir: &Path) -> Vec<String> {
    match dp::start(Settings::load(dir).unwrap(), Clock::System).await {
        Ok(dp) => {
            dp.stop().await.unwrap();
            vec![]
        }
        Err(why @ StartError::Keys(_)) => {
            let text = why.to_string();
            let StartError::Keys(KeysError::Wrong(wrong)) = why else { panic!("{text}") };
            let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(
                wrong
                    .iter()
                    .all(|WrongKey { file, against }| text.contains(file.to_str().unwrap()) && text.contains(against))
            );
            assert!(text.contains("Put back the files"), "{text}");
            wrong.iter().map(|w| name(&w.file)).collect()
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_of_this_log_is_refused_at_the_start_by_name() {
    let stage = Stage::new().await;
    let (bob, who) = (key("bob"), csi("tel:+4915112345642"));
    let mapping = stage.mapping(&bob, &who, QUIET, shown("default")).await;
    let added = [common::with_consent(&stage.origin, mapping)];
    let change =
        common::request(&stage.origin, common::Seen::default(), &who, EventKind::Issue, &added, &[], &[(&bob, None)]);
    stage.client().change(&bob, &change).await.unwrap();
    let Stage { root, witnesses, dp, .. } = stage;
    dp.stop().await.unwrap();
    let dir = root.path().join("dp");
    let at = |name: &str| dir.join(names::KEYS).join(name);
    let kept = root.path().join("kept");
    common::copy_folder(&dir.join(names::KEYS), &kept);
    let restore = || {
        for name in ["vrf.key", "store.key", "prover.key"] {
            fs::copy(kept.join(name), at(name)).unwrap();
        }
    };
    let another = root.path().join("another.key");
    keyfile::create(&another).unwrap();
    for check_value in [true, false] {
        for name in ["vrf.key", "store.key", "prover.key"] {
            fs::copy(&another, at(name)).unwrap();
            if !check_value {
                fs::remove_file(dir.join(names::STORE_CHECK)).unwrap();
            }
            assert_eq!(refused(&dir).await, [name], "check value: {check_value}");
            let fsck = Command::new(env!("CARGO_BIN_EXE_waymark-dp")).args(["fsck", "--dir"]).arg(&dir).output();
            let fsck = fsck.unwrap();
            assert_ne!(fsck.status.code(), Some(0));
            assert!(String::from_utf8_lossy(&fsck.stdout).contains(name));
            restore();
            assert_eq!(refused(&dir).await, Vec::<String>::new());
            assert!(dir.join(names::STORE_CHECK).exists());
        }
    }
    // One in the place of another, and two that changed places.
    fs::copy(at("prover.key"), at("vrf.key")).unwrap();
    assert_eq!(refused(&dir).await, ["vrf.key"]);
    fs::copy(kept.join("vrf.key"), at("store.key")).unwrap();
    fs::copy(kept.join("store.key"), at("vrf.key")).unwrap();
    assert_eq!(refused(&dir).await, ["vrf.key", "store.key"]);
    restore();
    fs::copy(&another, at("log.key")).unwrap();
    let why = Settings::load(&dir).err().unwrap().to_string();
    assert!(why.contains("policy.txt") && why.contains("log.key"), "{why}");
    witnesses.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prover_key_that_was_rotated_in_the_log_is_the_dps_own() {
    let Stage { root, witnesses, dp, .. } = Stage::new().await;
    let dir = root.path().join("dp");
    dp.stop().await.unwrap();
    let at = dir.join(names::KEYS).join("prover.key");
    let old = SecretKey::from_seed(&keyfile::load(&at).unwrap());
    let (kept, another) = (root.path().join("old.key"), root.path().join("new.key"));
    fs::copy(&at, &kept).unwrap();
    let new = SecretKey::from_seed(&keyfile::create(&another).unwrap());
    let own = provider_entry(&domain("dp.example"), ProviderRole::PROVER, false, 0, &origin(), &old);
    let mut directory = ProviderDirectory::new();
    directory.apply(&own, &origin(), Clock::System.now()).unwrap();
    // Nobody has heard of it; then its entry waits.
    fs::copy(&another, &at).unwrap();
    assert_eq!(refused(&dir).await, ["prover.key"]);
    let mut entry = rotation(&directory, "dp.example", ProviderRole::PROVER, false, &old, &new);
    entry.class = 0;
    entry.sign_by_key(&origin(), &new);
    entry.sign_by_valid(&origin(), &old);
    onboarding::submit(&dir, &entry).unwrap();
    let dp = start(&dir).await;
    until("the rotation", async || keys_of(&dp.url(), "dp.example").await.len() == 2).await;
    until("ready", async || reasons(&dp).await.is_empty()).await;
    dp.stop().await.unwrap();
    let dp = start(&dir).await;
    until("ready again", async || reasons(&dp).await.is_empty()).await;
    dp.stop().await.unwrap();
    // The old one is of this log, and serves look-ups; it attests nothing any more, and the DP says so.
    fs::copy(&kept, &at).unwrap();
    let dp = start(&dir).await;
    until("the reason", async || reasons(&dp).await == ["prover-not-logged"]).await;
    dp.stop().await.unwrap();
    witnesses.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_an_interrupted_write_left_outlives_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let mut witnesses = Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    make_dp(&dir, &witnesses);
    let dp = start(&dir).await;
    until_logged(&dp, &[QUIET, LOUD, "dp.example"]).await;
    let trust = waymark_mapping::trust::Trust::parse(&fs::read_to_string(dir.join(names::TRUST)).unwrap()).unwrap();
    let settings = |url: String| waymark_monitor::Settings {
        proxies: waymark_runtime::proxies::Proxies::default(),
        log_memory_bytes: 1 << 30,
        data_dir: root.path().join("monitor"),
        listen: common::loopback(),
        operations: None,
        tls: None,
        roots: waymark_runtime::fetch::ExtraRoots::default(),
        logs: vec![waymark_monitor::FollowedLog { trust: trust.clone(), url, witnesses: vec![] }],
        poll_ms: 1000,
        renew_within_ms: 1000,
    };
    waymark_monitor::once(settings(dp.log_url()), Clock::System).await.unwrap();
    dp.stop().await.unwrap();
    let msp = root.path().join("msp");
    msp::init(&msp, &domain("chat.example"), &origin(), true, 1).unwrap();
    let places = witnesses.leave().await;
    // No process has a number as great as that.
    let left = "tmp4194999-3";
    let files: Vec<PathBuf> = [
        "dp/head",
        "dp/policy.toml",
        "dp/log/checkpoint",
        "dp/log/tile/0/000.p/7",
        "dp/providers/incoming/a.provider",
        "dp/config/incoming/a.config",
        "witness1/logs.toml",
        "monitor/evidence/a",
        "msp/msp.toml",
    ]
    .map(|name| root.path().join(format!("{name}.{left}")))
    .into();
    for file in &files {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "half a fi").unwrap();
    }
    let note = root.path().join("dp/notes.tmp4194999");
    fs::write(&note, "somebody's").unwrap();
    let fsck = Command::new(env!("CARGO_BIN_EXE_waymark-dp")).args(["fsck", "--dir"]).arg(&dir).output().unwrap();
    let said = String::from_utf8(fsck.stdout).unwrap();
    assert_eq!((fsck.status.code(), said.matches("left over").count()), (Some(0), 6), "{said}");

    witnesses.come_back(places).await;
    let dp = start(&dir).await;
    waymark_monitor::once(settings(dp.log_url()), Clock::System).await.unwrap();
    let adapter = msp::Settings::load(&msp, common::loopback(), None).unwrap();
    msp::start(adapter, Clock::System).await.unwrap().stop().await;
    assert_eq!(files.iter().filter(|f| f.exists()).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    assert!(note.exists());
    dp.stop().await.unwrap();
    witnesses.stop().await;
}

/// What is refused is not tried again: it is refused at a time that the log confirms, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn no_entry_is_refused_by_a_clock_that_was_set() {
    const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;
    let clock = Clock::shifted();
    let stage = Stage::with(1, &clock, |_| {}).await;
    let (dir, url) = (stage.root.path().join("dp"), stage.dp.url());
    until("the first to be accepted", async || files(&dir, "accepted").len() == 3).await;
    let dp = ProviderClient::new(stage.fetcher.clone(), &url, origin(), clock.clone(), domain(LOUD));
    let next = async |entry: Provider| {
        let previous_leaf = dp.leaf(ProviderRole::MSP).await.unwrap().unwrap().digest();
        Provider { previous_leaf, ..entry }
    };
    // A key that no other has vouched for is valid after seven days.
    let mut second = next(provider_entry(&domain(LOUD), ProviderRole::MSP, true, 1, &origin(), &key("loud 2"))).await;
    second.sign_by_key(&origin(), &key("loud 2"));
    onboarding::submit(&dir, &second).unwrap();
    until("the second key", async || keys_of(&url, LOUD).await.len() == 2).await;
    until("nothing to wait", async || files(&dir, "incoming").is_empty()).await;
    stage.pass(8 * 24 * 3600 * 1000).await;
    // A year ago it was not valid yet.
    clock.set_back(YEAR_MS);
    let directory = ProviderDirectory::new();
    let mut third = next(rotation(&directory, LOUD, ProviderRole::MSP, true, &key("loud 2"), &key("loud 3"))).await;
    third.sign_by_key(&origin(), &key("loud 3"));
    third.sign_by_valid(&origin(), &key("loud 2"));
    onboarding::submit(&dir, &third).unwrap();
    // There is no event for what does not happen: six looks' time.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!((files(&dir, "incoming").len(), files(&dir, "refused").len()), (1, 0));
    clock.advance(YEAR_MS);
    until("the next rotation", async || keys_of(&url, LOUD).await.len() == 3).await;
    until("nothing to wait", async || files(&dir, "incoming").is_empty()).await;
    assert_eq!(files(&dir, "refused"), Vec::<String>::new());
    stage.stop().await;
}
