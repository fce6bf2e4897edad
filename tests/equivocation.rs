//! A DP that shows two people two logs, with all of its witnesses in league: the same keys run twice, each twin with a state of
//! its own. Whoever compares two views catches it: a sender who remembers, a monitor that looks at one twin's log and the
//! other's witness; and what the monitor keeps convinces anybody who has the trust file.
//!
//! With one honest witness in the quorum it does not come that far: the twin that comes second is refused, and stops.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use common::{
    LOUD, QUIET, Witnesses, attest, client, copy_folder, csi, domain, key, look_up, make_dp, mapping, request, shown,
    until, with_consent,
};
use waymark::{
    client::memory::LogMemory,
    config::{Settings, names},
    dp, init, onboarding,
    sequencer::dating::CONFIRM_AFTER,
};
use waymark_log::checkpoint::Origin;
use waymark_mapping::{
    entry::ProviderRole,
    event::EventKind,
    memory::Remembered,
    trust::Trust,
    verify::{Rejected, Trail, verify},
};
use waymark_monitor::{
    self as monitor,
    evidence::{Evidence, Shown},
};
use waymark_runtime::{clock::Clock, fetch::Fetcher};
use waymark_witness as witness;

const BOB: &str = "tel:+4915112345642";

/// One of the two: a DP on its own data, with witnesses that have seen nothing else.
struct Twin {
    dir: std::path::PathBuf,
    dp: dp::Running,
    witnesses: Vec<witness::Running>,
    fetcher: Fetcher,
    trust: Trust,
    origin: Origin,
}

impl Twin {
    /// On copies of these folders.
    async fn start(root: &Path, name: &str, origin: &Origin) -> Self {
        let dir = root.join(name);
        let mut witnesses = vec![];
        let mut policy = fs::read_to_string(dir.join("dp").join(names::POLICY)).unwrap();
        for i in 1..=2 {
            let running = witness::start(witness::load(&dir.join(format!("witness{i}"))).unwrap(), Clock::System);
            let running = running.await.unwrap();
            let line = policy.lines().find(|l| l.starts_with(&format!("witness w{i} "))).unwrap().to_owned();
            let moved = format!("{} {}", line.rsplit_once(' ').unwrap().0, running.url());
            policy = policy.replace(&line, &moved);
            witnesses.push(running);
        }
        fs::write(dir.join("dp").join(names::POLICY), policy).unwrap();
        let dp = dp::start(Settings::load(&dir.join("dp")).unwrap(), Clock::System).await.unwrap();
        let trust = Trust::parse(&fs::read_to_string(dir.join("dp").join(names::TRUST)).unwrap()).unwrap();
        let twin = Self { dir, dp, witnesses, fetcher: Fetcher::default(), trust, origin: origin.clone() };
        twin.published(1).await;
        twin
    }

    async fn published(&self, size: u64) {
        until("a checkpoint with the providers", async || {
            self.dp.published_size() >= size && self.dp.knows_provider(&domain(LOUD))
        })
        .await;
    }

    /// Bob adds a mapping here.
    async fn add(&self, msp: &str) {
        let (dp, who, secret) = (client(&self.fetcher, &self.dp.url()), csi(BOB), key("bob"));
        let seen = look_up(&dp, &self.trust, &who, None).await;
        let attestation = attest(&dp, &self.dir.join("dp"), &secret, &who).await;
        let added = with_consent(&self.origin, mapping(&self.origin, &secret, &attestation, msp, shown("work")));
        let possession = seen.version.is_none().then_some(attestation);
        let signers = [(&secret, possession)];
        let change = request(&self.origin, &seen, &who, EventKind::Issue, &[added], &[], &signers);
        dp.change(&secret, &change).await.unwrap();
    }

    async fn answer(&self) -> Vec<u8> {
        client(&self.fetcher, &self.dp.url()).look_up(&csi(BOB), None).await.unwrap()
    }

    /// What a monitor says that follows this log and looks at these witnesses' copies.
    async fn monitored(&self, data_dir: &Path, copies: &[witness::Running]) -> monitor::Status {
        let copies = (1..).zip(copies).map(|(i, w)| (format!("w{i}"), w.url())).collect();
        let followed = monitor::FollowedLog { trust: self.trust.clone(), url: self.dp.log_url(), witnesses: copies };
        let settings = monitor::Settings {
            data_dir: data_dir.to_owned(),
            listen: common::loopback(),
            operations: None,
            tls: None,
            roots: waymark_runtime::fetch::ExtraRoots::default(),
            logs: vec![followed],
            poll_ms: 1000,
            proxies: waymark_runtime::proxies::Proxies::default(),
            renew_within_ms: 1000,
            log_memory_bytes: monitor::LOG_MEMORY_MB_DEFAULT << 20,
        };
        monitor::once(settings, Clock::System).await.unwrap()
    }

    async fn stop(self) {
        self.dp.stop().await.unwrap();
        for w in self.witnesses {
            w.stop().await;
        }
    }
}

/// A DP with Bob's first mapping and two witnesses, at rest, in `one/` and once more in `two/`.
async fn twins(root: &Path) -> Origin {
    let one = root.join("one");
    fs::create_dir(&one).unwrap();
    let witnesses = Witnesses::start(&one, 2).await;
    make_dp(&one.join("dp"), &witnesses);
    witnesses.stop().await;
    let origin = Origin::new("dp.example/log").unwrap();
    let honest = Twin::start(root, "one", &origin).await;
    honest.add(QUIET).await;
    honest.stop().await;
    copy_folder(&one, &root.join("two"));
    // Who forks a log on purpose says yes to the question.
    waymark::instance::adopt(&root.join("two/dp")).unwrap();
    origin
}

#[tokio::test(flavor = "multi_thread")]
async fn two_logs_of_one_dp_are_caught_and_proved() {
    let root = tempfile::tempdir().unwrap();
    let origin = twins(root.path()).await;
    let (one, two) = (Twin::start(root.path(), "one", &origin).await, Twin::start(root.path(), "two", &origin).await);
    let folder = |name: &str| root.path().join(name);

    // So far both show the same, and nobody has anything against it.
    assert_eq!(one.monitored(&folder("before"), &two.witnesses).await.findings, Vec::<String>::new());
    one.add(LOUD).await;
    two.add(LOUD).await;
    assert_eq!(one.dp.published_size(), two.dp.published_size());

    // Each answer by itself is flawless. A sender who remembers one does not take the other.
    let asked = common::asked(&csi(BOB), None);
    let now = Clock::System.now();
    let first = verify(&one.answer().await, &asked, &one.trust, None, now, &mut Trail::default()).unwrap();
    let of_two = verify(&two.answer().await, &asked, &two.trust, None, now, &mut Trail::default()).unwrap();
    let remembered = first.recall().settled();
    let second = verify(&two.answer().await, &asked, &two.trust, remembered, now, &mut Trail::default());
    assert!(matches!(second, Err(Rejected::SplitView { .. })), "{second:?}");

    // A monitor of one log finds nothing as long as it sees that log's friends only.
    assert_eq!(one.monitored(&folder("blind"), &one.witnesses).await.findings, Vec::<String>::new());
    let status = one.monitored(&folder("monitor"), &two.witnesses).await;
    assert!(status.findings.iter().any(|f| f.contains("split view")), "{:?}", status.findings);
    is_proved(&folder("monitor"), &one.trust);

    // At other sizes it is a fork; also for a monitor that has known one of them for long.
    two.add(LOUD).await;
    // A sender who remembers the one has the other's own tiles show that it is another: nothing is remembered of it.
    let grown = verify(&two.answer().await, &asked, &two.trust, remembered, Clock::System.now(), &mut Trail::default());
    let mut memory = LogMemory::new(remembered.cloned(), Some(client(&two.fetcher, &two.dp.url()).log()));
    let fork = memory.take(grown.unwrap().recall()).await.unwrap_err();
    assert_eq!((fork.evidence().verify(&two.trust), memory.remembered()), (Ok(Shown::Log), remembered));
    caught_at_the_command_line(root.path(), &two, remembered.unwrap());
    let of_two = of_two.recall().settled().unwrap();
    two_runs_at_once(root.path(), &two, remembered.unwrap(), of_two).await;
    one_witness_does_not_decide(root.path(), &two, of_two);
    one.add(QUIET).await;
    one.add(LOUD).await;
    let status = one.monitored(&folder("before"), &two.witnesses).await;
    assert!(status.findings.iter().any(|f| f.contains("fork")), "{:?}", status.findings);
    is_proved(&folder("before"), &one.trust);
    one.stop().await;
    two.stop().await;
}

/// The same by the command line, which keeps what it has seen: anybody can check it.
fn caught_at_the_command_line(root: &Path, twin: &Twin, remembered: &Remembered) {
    let (memory, trust) = (root.join("sender").join("memory"), twin.dir.join("dp").join(names::TRUST));
    fs::create_dir(root.join("sender")).unwrap();
    fs::write(&memory, remembered.format()).unwrap();
    let before = fs::read(&memory).unwrap();
    let waymark = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
        command.args(words).arg("--trust").arg(&trust).output().unwrap()
    };
    let url = twin.dp.url();
    let ended = waymark(&["lookup", BOB, "--dp", &url, "--remember", memory.to_str().unwrap()]);
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(3), 0), "{ended:?}");
    assert_eq!(fs::read(&memory).unwrap(), before, "nothing is remembered of a fork");
    let kept: Vec<_> = fs::read_dir(root.join("sender/evidence")).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(kept.len(), 1);
    let ended = waymark(&["verify-evidence", kept[0].to_str().unwrap()]);
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(said, "fork of dp.example/log: it speaks against the log, to anybody\n");
}

/// Two runs have begun without a memory. The second saw the larger tree of a twin: where the first saw the beginning of
/// it, the log's tiles show so, and it is remembered; where the first saw the other twin, the second run is told.
async fn two_runs_at_once(root: &Path, twin: &Twin, of_other: &Remembered, of_twin: &Remembered) {
    for (i, first) in [of_twin, of_other].into_iter().enumerate() {
        let asked = common::asked(&csi(BOB), None);
        let answer = twin.answer().await;
        let seen = verify(&answer, &asked, &twin.trust, None, Clock::System.now(), &mut Trail::default()).unwrap();
        let mut second = LogMemory::new(None, Some(client(&twin.fetcher, &twin.dp.url()).log()));
        second.take(seen.recall()).await.unwrap();
        let memory = root.join(format!("memory of two runs {i}"));
        fs::write(&memory, first.format()).unwrap();
        let stored = second.store(&memory, &twin.trust).await;
        let kept = Remembered::parse(&fs::read(&memory).unwrap()).unwrap();
        if first == of_twin {
            stored.unwrap();
            assert!(kept.size() > first.size());
            continue;
        }
        let told = stored.unwrap_err();
        assert_eq!((told.evidence().unwrap().verify(&twin.trust), &kept), (Ok(Shown::Log), first));
    }
}

/// Where the policy is met without the witness that contradicts itself, the look-up ends well; what speaks against the
/// witness is kept.
fn one_witness_does_not_decide(root: &Path, twin: &Twin, remembered: &Remembered) {
    let (folder, of_two) = (root.join("one of two"), twin.dir.join("dp").join(names::TRUST));
    fs::create_dir(&folder).unwrap();
    let [memory, of_one] = ["memory", "trust.toml"].map(|name| folder.join(name));
    let text = fs::read_to_string(&of_two).unwrap();
    assert!(text.contains(" 2 w1 w2"), "{text}");
    fs::write(&of_one, text.replace(" 2 w1 w2", " 1 w1 w2")).unwrap();
    // A memory is its owner's own: here a witness has cosigned the smaller tree long after now.
    let text = String::from_utf8(remembered.format()).unwrap();
    let line = text.lines().find(|l| l.starts_with("witness ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let later = words[2].parse::<u64>().unwrap() + 100_000;
    let text = text.replace(line, &format!("witness {} {later} {}", words[1], words[3]));
    let look_up = |trust: &Path, more: &[&str]| {
        fs::write(&memory, &text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
        command.args(["lookup", BOB, "--dp", &twin.dp.url(), "--trust"]).arg(trust).arg("--remember").arg(&memory);
        command.args(more).output().unwrap()
    };
    let ended = look_up(&of_one, &["--json"]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(said.lines().any(|l| l.contains("has contradicted itself") && l.contains("/evidence/rollback-")), "{said}");
    let facts: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(facts["memory"]["gone_back"].as_array().unwrap().len(), 1);
    assert_eq!((&facts["log"]["witnesses"], &facts["memory"]["shown"]), (&1.into(), &true.into()));
    assert_eq!(fs::read_dir(folder.join("evidence")).unwrap().count(), 1);
    let grown = Remembered::parse(&fs::read(&memory).unwrap()).unwrap();
    assert!(grown.size() > remembered.size());
    let ended = look_up(&of_two, &[]);
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(3), 0), "{ended:?}");
}

/// Every file that the monitor kept shows it to anybody, with the trust file alone.
#[track_caller]
fn is_proved(monitor: &Path, trust: &Trust) {
    let files: Vec<_> = fs::read_dir(monitor.join("evidence")).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let evidence = Evidence::parse(&bytes).unwrap();
        assert!(matches!(evidence.verify(trust), Ok(Shown::Log)), "{}", file.display());
        println!("{:?}: {} bytes of evidence", evidence.kind, bytes.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_does_not_get_past_honest_witnesses() {
    let root = tempfile::tempdir().unwrap();
    let origin = twins(root.path()).await;
    let one = Twin::start(root.path(), "one", &origin).await;
    // The twin asks the same witnesses.
    let (policy, dir) = (names::POLICY, root.path().join("two").join("dp"));
    fs::copy(root.path().join("one").join("dp").join(policy), dir.join(policy)).unwrap();
    let two = dp::start(Settings::load(&dir).unwrap(), Clock::System).await.unwrap();
    one.add(LOUD).await;
    let trust = one.trust.clone();
    let twin = client(&one.fetcher, &two.url());
    // It answers from before, until it has something to publish: then it learns that a witness knows more, and stops.
    let (who, secret) = (csi(BOB), key("bob"));
    until("the twin to answer", async || two.published_size() > 0).await;
    let seen = look_up(&twin, &trust, &who, None).await;
    let attestation = attest(&twin, &dir, &secret, &who).await;
    let added = with_consent(&origin, mapping(&origin, &secret, &attestation, QUIET, shown("work")));
    let change = request(&origin, &seen, &who, EventKind::Issue, &[added], &[], &[(&secret, None)]);
    let before = two.published_size();
    assert!(twin.change(&secret, &change).await.is_err(), "acknowledged without a quorum");
    let why = tokio::time::timeout(Duration::from_secs(20), two.stopped()).await.unwrap();
    assert!(why.contains("witness"), "{why}");
    assert_eq!(two.published_size(), before, "a fork was published");
    assert!(two.stop().await.is_err());
    one.stop().await;
}

/// The DP's program with a command for this folder.
fn waymark_dp(command: &str, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_waymark-dp")).args([command, "--dir"]).arg(dir).output().unwrap()
}

/// Answers the question about a copy, as an operator does.
fn adopt(dir: &Path) {
    let ended = waymark_dp("adopt", dir);
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("the DP starts in this folder from now on"), "{ended:?}");
}

/// Puts a provider's entry where the DP takes it up.
fn submit(dir: &Path, name: &str) {
    let entry = init::provider_entry(&domain(name), ProviderRole::MSP, false, 1, &common::origin(), &key(name));
    onboarding::submit(dir, &entry).unwrap();
}

/// The question is answered by a command, once: until then no program starts on the copy, and while the DP runs nothing is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_run_once_its_operator_has_adopted_it() {
    let root = tempfile::tempdir().unwrap();
    let (original, copy) = (root.path().join("dp"), root.path().join("copy"));
    let witnesses = Witnesses::start(root.path(), 1).await;
    make_dp(&original, &witnesses);
    let start = async |dir: &Path| dp::start(Settings::load(dir).unwrap(), Clock::System).await.unwrap();
    let running = start(&original).await;
    until("the providers", async || running.knows_provider(&domain(LOUD))).await;
    let ended = waymark_dp("adopt", &original);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("the DP is running: stop it first"), "{ended:?}");
    running.stop().await.unwrap();
    copy_folder(&original, &copy);
    for _ in 0..2 {
        let ended = waymark_dp("run", &copy);
        let said = String::from_utf8_lossy(&ended.stderr);
        let asked = format!("waymark-dp adopt --dir {}", copy.display());
        assert!(!ended.status.success() && said.contains("is a copy") && said.contains(&asked), "{ended:?}");
    }
    adopt(&copy);
    start(&copy).await.stop().await.unwrap();
    // There is nothing to adopt where no DP is.
    assert!(!waymark_dp("adopt", witnesses.dirs[0].as_path()).status.success());
    witnesses.stop().await;
}

/// Both programs have signed, so none of them asks because of its start. One stood still for longer than five seconds while the other signed: it asks
/// before it signs again, and stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_stood_still_stops_before_it_signs_over_what_another_has_signed() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Clock::shifted());
    let at = |name: &str| root.path().join(name);
    let witnesses = Witnesses::start_at(root.path(), 3, &clock).await;
    make_dp(&at("dp"), &witnesses);
    let start = async |name: &str| dp::start(Settings::load(&at(name)).unwrap(), clock.clone()).await.unwrap();
    let first = start("dp").await;
    until("the providers", async || [LOUD, "dp.example"].iter().all(|d| first.knows_provider(&domain(d)))).await;
    // As a machine is cloned while it runs: the copy goes on from what the first has signed.
    copy_folder(&at("dp"), &at("copy"));
    adopt(&at("copy"));
    let head = |name: &str| fs::read(at(name).join(names::HEAD)).unwrap();
    let second = start("copy").await;
    assert_eq!(head("dp"), head("copy"));
    submit(&at("copy"), "third.example");
    until("the other's next head", async || second.knows_provider(&domain("third.example"))).await;
    assert_ne!(head("dp"), head("copy"));
    // The first does nothing meanwhile, which is as if it stood still.
    tokio::time::sleep(CONFIRM_AFTER).await;
    let before = head("dp");
    submit(&at("dp"), "fourth.example");
    let why = tokio::time::timeout(Duration::from_secs(20), first.stopped()).await.expect("it goes on");
    assert!(why.contains("our own key has signed"), "{why}");
    assert_eq!(head("dp"), before, "it signed before it asked");
    second.stop().await.unwrap();
    let _ = first.stop().await;
    witnesses.stop().await;
}

/// A DP on a copy of the folder, with the same witnesses: it is asked about at the start; and when its operator says yes, it signs nothing that
/// would fork the log, because it has its last head confirmed before it signs another.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_program_on_a_copy_stops_before_it_signs() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Clock::shifted());
    let at = |name: &str| root.path().join(name);
    let witnesses = Witnesses::start_at(root.path(), 3, &clock).await;
    make_dp(&at("dp"), &witnesses);
    let start = async |name: &str| dp::start(Settings::load(&at(name)).unwrap(), clock.clone()).await;
    let first = start("dp").await.unwrap();
    until("the providers", async || [LOUD, "dp.example"].iter().all(|d| first.knows_provider(&domain(d)))).await;
    first.stop().await.unwrap();
    copy_folder(&at("dp"), &at("copy"));
    let why = start("copy").await.err().expect("a copy does not start unasked").to_string();
    assert!(why.contains("is a copy") && why.contains("waymark-dp adopt"), "{why}");
    adopt(&at("copy"));

    // Both run, and so far both have signed the same.
    let (first, second) = (start("dp").await.unwrap(), start("copy").await.unwrap());
    until("both to publish", async || first.published_size() > 0 && second.published_size() == first.published_size())
        .await;
    let head = |name: &str| fs::read(at(name).join(names::HEAD)).unwrap();
    let before = head("copy");
    assert_eq!(head("dp"), before);
    // One of them is earlier with the next head; the other asks before it signs.
    let third = domain("third.example");
    submit(&at("dp"), "third.example");
    until("the next head", async || first.knows_provider(&third)).await;
    clock.advance(61_000);
    let why = tokio::time::timeout(Duration::from_secs(20), second.stopped()).await.expect("it goes on");
    assert!(why.contains("our own key has signed"), "{why}");
    assert_eq!(head("copy"), before, "nothing was signed on the copy");
    // Nobody has anything against the log, which goes on.
    let published = first.published_size();
    clock.advance(61_000);
    until("another head", async || first.published_size() > published).await;
    first.stop().await.unwrap();
    let _ = second.stop().await;
    witnesses.stop().await;
}
