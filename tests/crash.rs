//! The real `waymark-dp`, killed with SIGKILL while many apps register, several times over. What it has acknowledged must be
//! there when it runs again, proved by look-ups; the witnesses and one monitor that lives through all of it stay content;
//! fsck finds nothing; and SIGTERM ends it with exit 0. While the apps register, an MSP that publishes its consents
//! rotates its key: each rotation that was answered 202 is in the log once, also if the kill came right after the answer.
//!
//! And no file is left of writes that a kill cut off: the public folder holds the files that the log's batches call for,
//! and no others.
//!
//! `WAYMARK_CRASH_KILLS=100` kills it a hundred times.
//!
//! It does not prove anything about a disk that loses what it said it had written: tests/faults.rs has some of that.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    LOUD, QUIET, Witnesses, client, csi, hand::rotation, key, look_up, make_dp, mapping, origin, program::Program,
    shown, until, with_consent,
};
use waymark::{
    api::PROVIDER_MEDIA_TYPE,
    client::{
        dp::DpClient,
        memory::LogMemory,
        recipient::{self, Wish},
    },
    config::names,
    init::provider_entry,
    onboarding,
    store::{Head, LogFiles},
};
use waymark_log::{
    checkpoint::{Checkpoint, Origin},
    hash::leaf_hash,
    note::Note,
    proof::naive_root,
    tile::{Edge, Tile},
};
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
use waymark_runtime::{clock::Clock, fetch::Fetcher, follow::LogReader, leftovers};

/// Apps that register at once.
const APPS: usize = 24;
/// Times that the DP is killed, unless said otherwise.
const KILLS: usize = 12;
/// Most rotations of a key: a provider has room for so many keys, and this test has no 211 days for them to be dropped.
const ROTATIONS_MAX: usize = 60;
/// Longest time between the answer to a rotation and the kill, in the rounds in which the kill follows on it.
const AFTER_ROTATION_MS: u64 = 60;
/// Kills until one has come while a file was being written: each is sent when such a file is seen.
const AIMED_KILLS_MAX: usize = 60;

/// What was acknowledged: each CSI's latest version for which an app has accepted a receipt.
type Acknowledged = Arc<Mutex<BTreeMap<String, u32>>>;

struct App {
    dp: DpClient,
    dir: PathBuf,
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
            async move { fs::read_to_string(path).ok() }
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

/// The log that the program has published, once it answers look-ups.
async fn published(fetcher: &Fetcher, program: &Program, trust: &Trust) -> Option<Vec<Vec<u8>>> {
    let who = csi("tel:+4915112345642");
    let answer = client(fetcher, &program.url).look_up(&who, None).await.ok()?;
    let asked = common::asked(&who, None);
    let found = verify(&answer, &asked, trust, None, Clock::System.now(), &mut Trail::default()).unwrap();
    let mut entries = vec![];
    let reader = LogReader::new(fetcher.clone(), &program.log_url);
    reader.entries(0, found.get().log.size, |more| entries.extend(more)).await.unwrap();
    Some(entries)
}

/// Waits until the program answers look-ups and its log holds the first providers and each rotation that was answered
/// 202.
async fn ready(fetcher: &Fetcher, program: &Program, trust: &Trust, rotations: &[Vec<u8>]) {
    until("look-ups, the providers and all rotations", async || {
        let Some(entries) = published(fetcher, program, trust).await else { return false };
        let providers = entries.iter().filter(|e| matches!(Entry::decode(e), Ok(Entry::Provider(_)))).count();
        providers >= 3 && rotations.iter().all(|rotation| entries.contains(rotation))
    })
    .await;
}

/// What lies in the public folder of a log with these entries: all full tiles, and the partial ones of each batch in the
/// place that is being filled and the one behind it. A head ends its batch. Partial tiles of earlier places were removed
/// when the next place was full.
fn files_of(entries: &[Vec<u8>]) -> BTreeSet<String> {
    let (mut edge, mut since, mut tiles) = (Edge::new(), 0, Vec::<Tile>::new());
    for entry in entries {
        edge.append(entry, |tile, _| {
            let is_over = |t: &Tile| t.kind == tile.kind && t.index + 1 == tile.index && !t.is_full();
            tiles.retain(|t| !is_over(t));
            tiles.push(tile);
        })
        .unwrap();
        if matches!(Entry::decode(entry), Ok(Entry::Head(_))) {
            tiles.extend(edge.partials(since).into_iter().map(|(tile, _)| tile));
            since = edge.size();
        }
    }
    tiles.iter().map(Tile::path).chain(["checkpoint".to_owned()]).collect()
}

/// The files in a folder and below, and the folders that are empty.
fn files_in(folder: &Path) -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(at) = folders.pop() {
        let paths: Vec<PathBuf> = fs::read_dir(&at).unwrap().map(|file| file.unwrap().path()).collect();
        let is_empty = paths.is_empty();
        let (below, files): (Vec<PathBuf>, Vec<PathBuf>) = paths.into_iter().partition(|path| path.is_dir());
        let names = files.into_iter().chain(is_empty.then_some(at));
        found.extend(names.map(|path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()));
        folders.extend(below);
    }
    found
}

/// The provider entries that wait to be logged.
fn waiting(dir: &Path) -> Vec<String> {
    let found = files_in(&dir.join(names::PROVIDERS).join("incoming"));
    found.into_iter().filter(|name| !name.is_empty()).collect()
}

/// Checks that a DP which has ended has its data whole, nothing half-written, nothing that waits, and in its public
/// folder what its log calls for. Gives the number of entries.
fn holds_its_files_alone(dir: &Path) -> usize {
    let fsck = run_fsck(dir);
    let said = String::from_utf8_lossy(&fsck.stdout);
    assert!(fsck.status.code() == Some(0) && !said.contains("left over"), "{said}");
    assert_eq!(leftovers::find(dir).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(waiting(dir), Vec::<String>::new());
    let entries = signed(dir);
    assert_eq!(files_in(&dir.join(names::LOG)), files_of(&entries));
    entries.len()
}

/// The log below the signed head, as the files of a DP that has ended have it.
fn signed(dir: &Path) -> Vec<Vec<u8>> {
    let note = Head::at(&dir.join(names::HEAD)).load().unwrap().unwrap();
    let size = Checkpoint::parse(Note::parse(note.as_bytes()).unwrap().text()).unwrap().size;
    let mut entries = vec![];
    LogFiles::at(&dir.join(names::LOG)).unwrap().entries(size, |entry| entries.push(entry)).unwrap();
    entries
}

fn run_fsck(dir: &Path) -> Output {
    let mut fsck = Command::new(env!("CARGO_BIN_EXE_waymark-dp"));
    fsck.args(["fsck", "--dir"]).arg(dir).output().unwrap()
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
    let trust = Trust::parse(&fs::read_to_string(dir.join(names::TRUST)).unwrap()).unwrap();
    let origin = origin();
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
    let (mut rotations, mut cut_off) = (vec![], 0);
    for round in 0..kills {
        let program = Program::start(&dir);
        ready(&fetcher, &program, &trust, &rotations).await;
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
            let sent = fetcher.post(&url, PROVIDER_MEDIA_TYPE, &[], entry.clone(), 4096).await.unwrap();
            assert_eq!(sent.status, 202);
            rotations.push(entry);
        }
        if round % 2 == 0 {
            // Some consents by the old key are on their way still, in the batch of the rotation too.
            tokio::time::sleep(some_ms(0, 100)).await;
            *loud.lock().unwrap() = next;
            until("two changes for each app", async || count.load(Ordering::SeqCst) >= 2 * APPS).await;
            tokio::time::sleep(some_ms(0, 400)).await;
        } else {
            // Before the rotation is logged, or while it is.
            tokio::time::sleep(some_ms(0, AFTER_ROTATION_MS)).await;
        }
        killed.store(true, Ordering::SeqCst);
        program.kill();
        while let Some(app) = apps.join_next().await {
            app.unwrap();
        }
        cut_off += leftovers::find(&dir).unwrap().len();
    }
    let program = Program::start(&dir);
    ready(&fetcher, &program, &trust, &rotations).await;
    let dp = client(&fetcher, &program.url);
    let acknowledged = acknowledged.lock().unwrap().clone();
    for (who, version) in &acknowledged {
        let found = look_up(&dp, &trust, &csi(who), None).await;
        assert!(found.version >= Some(*version), "version {version} was acknowledged, {:?} is there", found.version);
    }
    let verified = content(watch(&program.log_url)).await;
    assert!(verified > acknowledged.len() as u64, "the monitor has seen {verified} entries only");
    until("nothing to wait", async || waiting(&dir).is_empty()).await;
    let entries = published(&fetcher, &program, &trust).await.unwrap();
    for rotation in &rotations {
        assert_eq!(entries.iter().filter(|entry| *entry == rotation).count(), 1, "an answered rotation is logged once");
    }
    assert_eq!(program.terminate(), Some(0));
    let entries = holds_its_files_alone(&dir);
    assert!(kills < KILLS || entries > 512, "no partial tiles were due to be removed: {entries} entries");
    println!(
        "{} CSIs and {} rotations acknowledged over {kills} kills, {cut_off} files cut off; {entries} entries",
        acknowledged.len(),
        rotations.len(),
    );
    witnesses.stop().await;
}

/// The temporary files that a running program writes now, where it writes its head and its checkpoint.
fn being_written(dir: &Path, process: u32) -> bool {
    let of_it = format!(".tmp{process}-");
    [dir.to_owned(), dir.join(names::LOG)].iter().any(|folder| {
        let mut listing = fs::read_dir(folder).unwrap();
        listing.any(|file| file.is_ok_and(|f| f.file_name().to_str().is_some_and(|name| name.contains(&of_it))))
    })
}

/// Has batches made by adding providers, numbered from here on, and kills the program when a file is seen that it is
/// writing. Gives the number of the next provider.
fn kill_while_it_writes(program: Program, dir: &Path, mut added: usize) -> usize {
    let (end, mut next) = (Instant::now() + Duration::from_secs(60), Instant::now());
    while !being_written(dir, program.id()) {
        if Instant::now() >= next {
            let name = format!("m{added}.example");
            let entry = provider_entry(&common::domain(&name), ProviderRole::MSP, false, 1, &origin(), &key(&name));
            onboarding::submit(dir, &entry).unwrap();
            (added, next) = (added + 1, Instant::now() + Duration::from_millis(100));
        }
        assert!(Instant::now() < end, "no file was seen while it was written");
    }
    program.kill();
    added
}

/// One file stayed for each kill that came while it was written, also in the folder that web servers and mirrors copy.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_has_cut_off_is_told_by_fsck_and_gone_after_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let witnesses = Witnesses::start(root.path(), 1).await;
    let dir = root.path().join("dp");
    make_dp(&dir, &witnesses);
    let trust = Trust::parse(&fs::read_to_string(dir.join(names::TRUST)).unwrap()).unwrap();
    let fetcher = Fetcher::new(Duration::from_secs(10));
    let (mut left, mut added) = (vec![], 0);
    for _ in 0..AIMED_KILLS_MAX {
        let program = Program::start(&dir);
        ready(&fetcher, &program, &trust, &[]).await;
        let watched = dir.clone();
        let killed = tokio::task::spawn_blocking(move || kill_while_it_writes(program, &watched, added));
        added = killed.await.unwrap();
        left = leftovers::find(&dir).unwrap();
        if !left.is_empty() {
            break;
        }
    }
    assert!(!left.is_empty(), "no kill came while a file was being written");
    let fsck = run_fsck(&dir);
    let said = String::from_utf8_lossy(&fsck.stdout);
    assert_eq!((fsck.status.code(), said.matches("left over").count()), (Some(0), left.len()), "{said}");
    let program = Program::start(&dir);
    ready(&fetcher, &program, &trust, &[]).await;
    assert_eq!(left.iter().filter(|file| file.exists()).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    until("nothing to wait", async || waiting(&dir).is_empty()).await;
    assert_eq!(program.terminate(), Some(0));
    holds_its_files_alone(&dir);
    witnesses.stop().await;
}
