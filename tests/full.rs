//! A full disk: look-ups go on, changes are refused and may be sent again, and the log goes on by itself when there is room. Each step of
//! the sequencer is made to fail in pairs, not written and written; and once the disk of the real program is really full, also at its
//! start. That one needs a mount namespace (`unshare`, `nsenter`) and fails where there is none, so that nobody takes it
//! for passed. `WAYMARK_NO_NAMESPACES=1` leaves it out on such a machine.

mod common;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    QUIET, Stage, Witnesses, attest, client, csi, domain, key, make_dp_with, mapping, origin, shown, until,
    with_consent,
};
use serde_json::Value;
use waymark::{
    api::{ChangeRequest, PROVIDER_MEDIA_TYPE},
    config::names,
    init::provider_entry,
    onboarding,
    sequencer::commit::{
        Step,
        When::{self, After, Before},
    },
};
use waymark_log::key::SecretKey;
use waymark_mapping::{
    entry::{Entry, ProviderRole},
    event::EventKind,
    mapping::Purpose,
    trust::Trust,
    verify::Outcome,
};
use waymark_monitor as monitor;
use waymark_runtime::{
    clock::Clock,
    fetch::{ExtraRoots, Fetcher},
    leftovers,
};

use crate::common::program::Program;

/// The variable that leaves out what needs a mount namespace.
const NO_NAMESPACES: &str = "WAYMARK_NO_NAMESPACES";

async fn reasons(stage: &Stage) -> Vec<String> {
    reasons_at(&stage.dp.operations_url().unwrap()).await
}

/// Why a DP is not ready, by the address where it tells its health.
async fn reasons_at(operations: &str) -> Vec<String> {
    let url = format!("{operations}/readyz");
    let body: Value = serde_json::from_slice(&Fetcher::default().get(&url, 1 << 16).await.unwrap().body).unwrap();
    body["reasons"].as_array().unwrap().iter().map(|r| r["code"].as_str().unwrap().to_owned()).collect()
}

/// The first mapping of somebody, ready to be sent.
async fn first_change(stage: &Stage, who: &str) -> (SecretKey, ChangeRequest) {
    let (secret, who) = (key(who), csi(who));
    let mapping = stage.mapping(&secret, &who, QUIET, shown("default")).await;
    let added = [with_consent(&stage.origin, mapping)];
    let seen = common::Seen::default();
    let change = common::request(&stage.origin, seen, &who, EventKind::Issue, &added, &[], &[(&secret, None)]);
    (secret, change)
}

/// What the monitor finds in the whole log.
async fn findings(stage: &Stage) -> Vec<String> {
    let followed = monitor::FollowedLog { trust: stage.trust.clone(), url: stage.dp.log_url(), witnesses: vec![] };
    let settings = monitor::Settings {
        data_dir: stage.root.path().join("monitor"),
        listen: common::loopback(),
        operations: None,
        tls: None,
        proxies: waymark_runtime::proxies::Proxies::default(),
        log_memory_bytes: 1 << 30,
        roots: ExtraRoots::default(),
        logs: vec![followed],
        poll_ms: 1000,
        renew_within_ms: 1000,
    };
    monitor::once(settings, Clock::System).await.unwrap().findings
}

const FAULTS: [(Step, When); 8] = [
    (Step::Stage, Before),
    (Step::Stage, After),
    (Step::SwapHead, Before),
    (Step::SwapHead, After),
    (Step::WriteTiles, Before),
    (Step::WriteTiles, After),
    (Step::Publish, Before),
    (Step::Publish, After),
];

#[tokio::test(flavor = "multi_thread")]
async fn after_a_full_disk_the_log_is_read_back_and_goes_on_by_itself() {
    let full: Arc<Mutex<Option<(Step, When)>>> = Arc::default();
    let seen = Arc::clone(&full);
    let hindrance = move |step, when| match *seen.lock().unwrap() {
        Some(fault) if fault == (step, when) || step == Step::Room => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    };
    let stage = Stage::with(1, &Clock::System, |settings| settings.hindrance = Some(Arc::new(hindrance))).await;
    let bob = csi("tel:+4915112345600");
    let (secret, change) = first_change(&stage, bob.expose()).await;
    stage.client().change(&secret, &change).await.unwrap();
    let dir = stage.root.path().join("dp");
    for (i, fault) in FAULTS.into_iter().enumerate() {
        let (secret, change) = first_change(&stage, &format!("tel:+49151123456{}", 10 + i)).await;
        let (late, later) = first_change(&stage, &format!("tel:+49151123456{}", 20 + i)).await;
        let size = stage.dp.published_size();
        *full.lock().unwrap() = Some(fault);
        let answered = stage.client().change(&secret, &change).await.map_err(|e| e.to_string());
        // What is signed and cosigned is answered and shown, also if the checkpoint's file could not be written.
        assert_eq!(answered.is_ok(), fault.0 == Step::Publish, "{fault:?}: {:?}", answered.err());
        assert!(answered.err().is_none_or(|why| why.contains("503 log-read-only")));
        until("the reason", async || reasons(&stage).await == ["storage-full"]).await;
        let refused = stage.client().change(&late, &later).await.unwrap_err().to_string();
        assert!(refused.contains("503 log-read-only"), "{refused}");
        let entry =
            provider_entry(&domain(&format!("m{i}.example")), ProviderRole::MSP, false, 1, &origin(), &key("m"));
        let (url, body) = (format!("{}/v1/providers", stage.dp.url()), Entry::Provider(entry.clone()).encode());
        let posted = stage.fetcher.post(&url, PROVIDER_MEDIA_TYPE, &[], body, 4096).await.unwrap();
        assert_eq!(posted.status, 403, "and no first entry over HTTP");
        onboarding::submit(&dir, &entry).unwrap();
        assert_eq!(stage.look_up(&bob, None).await.outcome, Outcome::Listed);
        assert!(stage.dp.published_size() == size || fault.0 == Step::Publish);
        // Room alone, and nothing else: the same requests go well.
        *full.lock().unwrap() = None;
        until("to be ready", async || reasons(&stage).await.is_empty()).await;
        for (secret, change) in [(&secret, &change), (&late, &later)] {
            let made = stage.client().change(secret, change).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
            assert_eq!(made.now.version, 0, "{fault:?}");
        }
        until("the entry that waited", async || stage.dp.knows_provider(&entry.domain)).await;
    }
    assert_eq!(findings(&stage).await, Vec::<String>::new());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_read_or_synced_is_not_waited_for() {
    let fails: Arc<Mutex<bool>> = Arc::default();
    let seen = Arc::clone(&fails);
    // EIO: what the system shows after it may not be on the disk.
    let hindrance = move |step, _| match *seen.lock().unwrap() && step == Step::SwapHead {
        true => Err(io::Error::from_raw_os_error(5)),
        false => Ok(()),
    };
    let stage = Stage::with(1, &Clock::System, |settings| settings.hindrance = Some(Arc::new(hindrance))).await;
    let (secret, change) = first_change(&stage, "tel:+4915112345642").await;
    *fails.lock().unwrap() = true;
    let refused = stage.client().change(&secret, &change).await.unwrap_err().to_string();
    assert!(refused.contains("503 log-read-only"), "{refused}");
    stage.dp.stopped().await;
    assert_eq!(reasons(&stage).await, ["sequencer-stopped"]);
    assert!(stage.dp.stop().await.is_err());
    stage.witnesses.stop().await;
}

/// A disk of eight megabytes that only those in its namespace see, for as long as this lives.
struct Disk {
    holder: Child,
    at: PathBuf,
}

impl Disk {
    /// Made with a copy of a folder on it.
    fn with(folder: &Path, at: &Path) -> Self {
        fs::create_dir(at).unwrap();
        let script =
            "mount -t tmpfs -o size=8m none \"$1\" && cp -a \"$0\"/. \"$1\" && touch \"$1.ready\" && exec sleep 300";
        let mut holder = Command::new("unshare");
        holder.args(["-rm", "sh", "-c", script]).arg(folder).arg(at).stdin(Stdio::null());
        let needs = format!("this test needs mount namespaces (`unshare -rm`); {NO_NAMESPACES}=1 leaves it out");
        let holder = holder.spawn().unwrap_or_else(|error| panic!("{needs}: {error}"));
        let mut disk = Self { holder, at: at.to_owned() };
        let ready = PathBuf::from(format!("{}.ready", at.display()));
        for _ in 0..250 {
            if ready.exists() {
                return disk;
            }
            if let Some(ended) = disk.holder.try_wait().unwrap() {
                panic!("{needs}: {ended}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{needs}: there is no disk after five seconds");
    }

    /// The disk as it is seen from here.
    fn path(&self) -> PathBuf {
        let at = self.at.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(at)
    }

    /// A program of this DP that sees the disk.
    fn command(&self, what: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-U", "-m", "--preserve-credentials"]);
        command.arg(env!("CARGO_BIN_EXE_waymark-dp")).args([what, "--dir"]).arg(&self.at);
        command
    }

    /// Leaves not a byte.
    fn fill(&self) {
        use io::Write;
        let mut filler = fs::File::create(self.path().join("filler")).unwrap();
        for bytes in [1 << 16, 1 << 12, 1] {
            while filler.write_all(&vec![0; bytes]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_on_a_full_disk_serves_look_ups_also_after_a_start_and_recovers_by_room_alone() {
    if std::env::var_os(NO_NAMESPACES).is_some() {
        return println!("left out, as {NO_NAMESPACES} says: nothing was tested");
    }
    let root = tempfile::tempdir().unwrap();
    let witnesses = Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    // Two codes an hour to a number at the wish of one address.
    make_dp_with(&dir, &witnesses, |file| {
        file.codes = toml::from_str("sms = \"folder\"\nemail = \"folder\"\n[budget]\ncsi_hour = 5\n").unwrap();
    });
    let trust = Trust::parse(&fs::read_to_string(dir.join(names::TRUST)).unwrap()).unwrap();
    let disk = Disk::with(&dir, &root.path().join("disk"));
    let fetcher = Fetcher::new(Duration::from_secs(40));
    let program = Program::start_as(disk.command("run"));
    let listed = async |program: &Program, name: &str| {
        let url = format!("{}/v1/providers?domain={name}", program.url);
        fetcher.get(&url, 1 << 16).await.is_ok_and(|a| a.status == 200 && a.body.len() > 2)
    };
    for name in ["dp.example", QUIET] {
        until("the providers", async || listed(&program, name).await).await;
    }
    let mut changes = vec![];
    for who in ["tel:+4915112345601", "tel:+4915112345602", "tel:+4915112345603"] {
        let secret = key(who);
        let attestation = attest(&client(&fetcher, &program.url), &disk.path(), &secret, &csi(who)).await;
        let added = [with_consent(&origin(), mapping(&origin(), &secret, &attestation, QUIET, shown("default")))];
        let (seen, signers) = (common::Seen::default(), [(&secret, Some(attestation))]);
        let change = common::request(&origin(), seen, &csi(who), EventKind::Issue, &added, &[], &signers);
        changes.push((secret, change));
    }
    let change = async |program: &Program, i: usize| {
        let (secret, change) = &changes[i];
        client(&fetcher, &program.url).change(secret, change).await.map(drop).map_err(|e| e.to_string())
    };
    let look_up = async |program: &Program| {
        let dp = client(&fetcher, &program.url);
        common::look_up(&dp, &trust, &csi("tel:+4915112345601"), None).await.outcome
    };
    let told = async |program: &Program| reasons_at(program.operations.as_ref().unwrap()).await;
    change(&program, 0).await.unwrap();
    until("to be ready", async || told(&program).await.is_empty()).await;

    disk.fill();
    let refused = change(&program, 1).await.unwrap_err();
    assert!(refused.contains("503 log-read-only"), "{refused}");
    assert_eq!(told(&program).await, ["storage-full"]);
    for _ in 0..30 {
        assert_eq!(look_up(&program).await, Outcome::Listed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A person who asks for codes meanwhile, again and again, pays for one at most that does not leave.
    let ask = async |program: &Program, i: u32| {
        let (dp, number) = (client(&fetcher, &program.url), csi(&format!("tel:+4915112{i:06}")));
        let started = dp.start_challenge(&key(&format!("late {i}")), &number, 0, Purpose::Control).await;
        started.map(drop).map_err(|e| e.to_string())
    };
    // The file of challenges has some room in it still.
    let mut late = 0;
    while ask(&program, late).await.is_ok() {
        late += 1;
        assert!(late < 10_000, "the disk takes all");
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let refused = ask(&program, late).await.unwrap_err();
        assert!(refused.contains("503 busy"), "{refused}");
    }
    disk.free();
    until("room for a challenge", async || ask(&program, late).await.is_ok()).await;
    disk.fill();
    // Killed and started while there is no room, not even for the files that an operator has removed to get some.
    program.kill();
    disk.free();
    for name in ["challenges.redb", "returning"] {
        let _ = fs::remove_file(disk.path().join(name));
    }
    disk.fill();
    let program = Program::start_as(disk.command("run"));
    until("look-ups after a start", async || {
        client(&fetcher, &program.url).look_up(&csi("tel:+4915112345601"), None).await.is_ok()
    })
    .await;
    for _ in 0..30 {
        assert_eq!(look_up(&program).await, Outcome::Listed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(change(&program, 2).await.unwrap_err().contains("503 log-read-only"));
    let refused = ask(&program, late).await.unwrap_err();
    assert!(refused.contains("503 busy"), "{refused}");
    assert_eq!(told(&program).await, ["storage-full"]);

    disk.free();
    until("room for a challenge", async || ask(&program, late).await.is_ok()).await;
    until("room to be noticed", async || change(&program, 1).await.is_ok()).await;
    change(&program, 2).await.unwrap();
    until("to be ready again", async || told(&program).await.is_empty()).await;
    assert_eq!(program.terminate(), Some(0));
    let fsck = disk.command("fsck").output().unwrap();
    assert_eq!(fsck.status.code(), Some(0), "{}", String::from_utf8_lossy(&fsck.stdout));
    assert_eq!(leftovers::find(&disk.path()).unwrap(), Vec::<PathBuf>::new());
    drop(disk);
    witnesses.stop().await;
}
