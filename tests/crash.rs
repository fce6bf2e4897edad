//! The real `waymark-dp`, killed with SIGKILL while many apps register, several times over. What it has acknowledged must be
//! there when it runs again, proved by look-ups; the witnesses and one monitor that lives through all of it stay content;
//! fsck finds nothing; and SIGTERM ends it with exit 0. While the apps register, an MSP that publishes its consents rotates its key.
//!
//! `WAYMARK_CRASH_KILLS=100` kills it a hundred times.
//!
//! It does not prove anything about a disk that loses what it said it had written: tests/faults.rs has some of that.

mod common;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    LOUD, QUIET, Witnesses, client, csi, hand::rotation, key, look_up, make_dp, mapping, shown, until, with_consent,
};
use waymark::{
    api::PROVIDER_MEDIA_TYPE,
    client::{
        dp::DpClient,
        memory::LogMemory,
        recipient::{self, Wish},
    },
    config::names,
};
use waymark_log::{checkpoint::Origin, hash::leaf_hash, proof::naive_root};
use waymark_mapping::{
    audit::Audited,
    entry::{Entry, Provider, ProviderRole},
    event::EventKind,
    identifier::Csi,
    mapping::Purpose,
    signed::SignedStruct,
    trust::Trust,
    verify::{Trail, verify},
};
use waymark_monitor as monitor;
use waymark_runtime::{clock::Clock, fetch::Fetcher, follow::LogReader};

/// Apps that register at once.
const APPS: usize = 24;
/// Times that the DP is killed, unless said otherwise.
const KILLS: usize = 12;
/// Most rotations of a key: a provider has room for so many keys, and this test has no 211 days for them to be dropped.
const ROTATIONS_MAX: usize = 60;

/// The program, running on this data.
struct Program {
    child: Child,
    url: String,
    log_url: String,
}

impl Program {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waymark-dp"));
        command.args(["run", "--dir"]).arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let line = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the DP did not start: {said}")).unwrap();
            if line.contains(" listening on ") {
                break line;
            }
            said += &line;
        };
        // Keeps reading, so that the program never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let after = |what: &str| line.split(what).nth(1).unwrap().split([',', ' ']).next().unwrap().to_owned();
        Self { url: after("listening on "), log_url: after("log at "), child }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(mut self) -> Option<i32> {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    /// Nothing is left running when a test fails.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was acknowledged: each CSI's latest version for which an app has accepted a receipt.
type Acknowledged = Arc<Mutex<BTreeMap<String, u32>>>;

struct App {
    dp: DpClient,
    dir: std::path::PathBuf,
    trust: Trust,
    origin: Origin,
    acknowledged: Acknowledged,
    count: Arc<AtomicUsize>,
    killed: Arc<AtomicBool>,
    /// The name of the key by which the MSP that rotates signs.
    loud: Arc<Mutex<String>>,
}

/// What a change may end in while a key that its consent is by is being rotated: it is made again.
fn is_overtaken(why: &str) -> bool {
    [" overtaken)", " consent-invalid)"].iter().any(|code| why.contains(code))
}

impl App {
    /// Registers one person after the other, and adds a second mapping for each, until the DP is gone.
    async fn run(self, round: usize, app: usize) {
        for i in 0.. {
            let who = csi(&format!("tel:+49151{round:03}{app:03}{i:03}"));
            for (version, msp) in [(0, QUIET), (1, LOUD)] {
                loop {
                    match self.add(&who, version, msp).await {
                        Ok(()) => break,
                        Err(_) if self.killed.load(Ordering::SeqCst) => return,
                        Err(why) if msp == LOUD && is_overtaken(&why) => {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(why) => panic!("refused while the DP was running: {why}"),
                    }
                }
                self.acknowledged.lock().unwrap().insert(who.expose().to_owned(), version);
                self.count.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    async fn add(&self, who: &Csi, version: u32, msp: &str) -> Result<(), String> {
        let secret = key(who.expose());
        let codes = self.dir.join(names::CODES);
        let read = |id: String| {
            let path = codes.join(id);
            async move { std::fs::read_to_string(path).ok() }
        };
        let purpose = Purpose::Control;
        let attestation =
            recipient::prove(&self.dp, &secret, who, 0, purpose, read).await.map_err(|e| e.to_string())?;
        let mut added = with_consent(&self.origin, mapping(&self.origin, &secret, &attestation, msp, shown(&msp[..4])));
        if let Some((consent, _)) = added.consent.as_mut().filter(|_| msp == LOUD) {
            let secret = key(&self.loud.lock().unwrap());
            consent.msp_key = secret.public();
            consent.sign(&self.origin, &secret);
        }
        let possession = (msp == QUIET).then_some(attestation);
        let (kind, over) = (EventKind::Issue, version.checked_sub(1));
        let wish = Wish { csi: who, kind, over, added: &[added], removed: &[], signers: &[(&secret, possession)] };
        recipient::change(&self.dp, wish, &self.trust, &mut LogMemory::default())
            .await
            .map(drop)
            .map_err(|e| e.to_string())
    }
}

/// A time between these, in milliseconds, different each run: a kill should come at any step.
fn some_ms(from: u64, to: u64) -> Duration {
    let [random] = waymark_runtime::random::bytes::<1>();
    Duration::from_millis(from + u64::from(random) * (to - from) / 255)
}

/// Waits until the program answers look-ups and its log holds the providers.
async fn ready(fetcher: &Fetcher, program: &Program, trust: &Trust) {
    let reader = LogReader::new(fetcher.clone(), &program.log_url);
    until("look-ups and providers", async || {
        let who = csi("tel:+4915112345642");
        let Ok(answer) = client(fetcher, &program.url).look_up(&who, None).await else { return false };
        let asked = common::asked(&who, None);
        let found = verify(&answer, &asked, trust, None, Clock::System.now(), &mut Trail::default()).unwrap();
        let mut providers = 0;
        let is_provider = |e: &[u8]| matches!(Entry::decode(e), Ok(Entry::Provider(_)));
        let count = |more: Vec<Vec<u8>>| providers += more.iter().filter(|e| is_provider(e)).count();
        reader.entries(0, found.get().log.size, count).await.unwrap();
        providers >= 3
    })
    .await;
}

/// The name of the key that an MSP has now, and the entry that rotates it to the next one.
async fn rotation_of(reader: &LogReader, origin: &Origin, size: u64, names: &[String]) -> (String, String, Provider) {
    let mut entries = vec![];
    reader.entries(0, size, |more| entries.extend(more)).await.unwrap();
    let leaves: Vec<_> = entries.iter().map(|e| leaf_hash(e)).collect();
    let mut log = Audited::new(origin.clone(), key("any key: no config entry is there").public());
    log.extend(&entries, size, &naive_root(&leaves));
    let (who, now) = (common::domain(LOUD), log.last_head().unwrap().1.time);
    let is_valid = |name: &&String| log.providers().is_valid(&who, ProviderRole::MSP, &key(name).public(), now);
    let current = names.iter().find(is_valid).expect("it made all its keys here").clone();
    let next = format!("{LOUD}/{}", names.len());
    let entry = rotation(log.providers(), LOUD, ProviderRole::MSP, true, &key(&current), &key(&next));
    (current, next, entry)
}

/// Has the monitor, whose memory is a folder, look at the log: it must have no findings. Returns how far it has verified.
async fn content(settings: monitor::Settings) -> u64 {
    let status = monitor::once(settings, Clock::System).await.unwrap();
    assert_eq!(status.findings, Vec::<String>::new());
    status.logs[0].verified_size
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_dp_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let witnesses = Witnesses::start(root.path(), 2).await;
    let dir = root.path().join("dp");
    make_dp(&dir, &witnesses);
    let trust = Trust::parse(&std::fs::read_to_string(dir.join(names::TRUST)).unwrap()).unwrap();
    let origin = Origin::new("dp.example/log").unwrap();
    let fetcher = Fetcher::new(Duration::from_secs(10));
    let acknowledged = Acknowledged::default();
    let watch = |url: &str| {
        let copies = (1..).zip(&witnesses.running).map(|(i, w)| (format!("w{i}"), w.url())).collect();
        let followed = monitor::FollowedLog { trust: trust.clone(), url: url.to_owned(), witnesses: copies };
        monitor::Settings {
            data_dir: root.path().join("monitor"),
            listen: common::loopback(),
            operations: None,
            tls: None,
            roots: waymark_runtime::fetch::ExtraRoots::default(),
            logs: vec![followed],
            poll_ms: 1000,
            proxies: waymark_runtime::proxies::Proxies::default(),
            renew_within_ms: 1000,
            log_memory_bytes: 1 << 30,
        }
    };
    let kills = std::env::var("WAYMARK_CRASH_KILLS").map_or(KILLS, |text| text.parse().expect("a number"));
    let mut loud_names = vec![LOUD.to_owned()];
    for round in 0..kills {
        let program = Program::start(&dir);
        ready(&fetcher, &program, &trust).await;
        let size = content(watch(&program.log_url)).await;
        let reader = LogReader::new(fetcher.clone(), &program.log_url);
        let (current, next, rotation) = rotation_of(&reader, &origin, size, &loud_names).await;
        let loud = Arc::new(Mutex::new(current));
        let (count, killed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut apps = tokio::task::JoinSet::new();
        for app in 0..APPS {
            let app_of = App {
                dp: client(&fetcher, &program.url),
                dir: dir.clone(),
                trust: trust.clone(),
                origin: origin.clone(),
                acknowledged: Arc::clone(&acknowledged),
                count: Arc::clone(&count),
                killed: Arc::clone(&killed),
                loud: Arc::clone(&loud),
            };
            apps.spawn(app_of.run(round, app));
        }
        // Under no load the test would have lost its point.
        until("some changes", async || count.load(Ordering::SeqCst) >= APPS / 2).await;
        if loud_names.len() < ROTATIONS_MAX {
            loud_names.push(next.clone());
            let url = format!("{}/v1/providers", program.url);
            let entry = Entry::Provider(rotation).encode();
            let sent = fetcher.post(&url, PROVIDER_MEDIA_TYPE, &[], entry, 4096).await.unwrap();
            assert_eq!(sent.status, 202);
            // Some consents by the old key are on their way still, in the batch of the rotation too.
            tokio::time::sleep(some_ms(0, 100)).await;
            *loud.lock().unwrap() = next;
        }
        until("a change for each app", async || count.load(Ordering::SeqCst) >= APPS).await;
        tokio::time::sleep(some_ms(0, 400)).await;
        killed.store(true, Ordering::SeqCst);
        program.kill();
        while let Some(app) = apps.join_next().await {
            app.unwrap();
        }
    }
    let program = Program::start(&dir);
    ready(&fetcher, &program, &trust).await;
    let dp = client(&fetcher, &program.url);
    let acknowledged = acknowledged.lock().unwrap().clone();
    for (who, version) in &acknowledged {
        let found = look_up(&dp, &trust, &csi(who), None).await;
        assert!(found.version >= Some(*version), "version {version} was acknowledged, {:?} is there", found.version);
    }
    let verified = content(watch(&program.log_url)).await;
    assert!(verified > acknowledged.len() as u64, "the monitor has seen {verified} entries only");
    assert_eq!(program.terminate(), Some(0));
    let fsck = Command::new(env!("CARGO_BIN_EXE_waymark-dp")).args(["fsck", "--dir"]).arg(&dir).output().unwrap();
    assert_eq!(fsck.status.code(), Some(0), "{}", String::from_utf8_lossy(&fsck.stdout));
    println!("{} CSIs acknowledged over {kills} kills; {}", acknowledged.len(), String::from_utf8_lossy(&fsck.stdout));
    witnesses.stop().await;
}
