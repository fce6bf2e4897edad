//! A log in memory and a server for it, both of which do what a test says: the truth, or anything else.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::State, http::Uri, response::Response, routing::get};
use waymark_log::{
    checkpoint::{Checkpoint, Origin, SignedCheckpoint},
    cosignature::Cosigner,
    hash::{Hash, leaf_hash},
    key::SecretKey,
    note::{KeyName, NoteSigner},
    range::CompactRange,
    tile::Edge,
    time::{UnixMillis, UnixSeconds},
};
use waymark_mapping::{
    entry::{Change, Entry, Head, Open, Provider, ProviderAction, ProviderRole},
    label::Label,
    names::Domain,
    prefix::PrefixTree,
    provider::ProviderDirectory,
    request::{RECIPIENT_HEADER, RequestSignature},
    signed::{SignedStruct, UNSIGNED},
    trust::Trust,
    vrf::VrfSecret,
    watch::{WatchId, WatchList},
    wire::{Extensions, Flag, Format, List24, Optional24},
};
use waymark_monitor::{
    FollowedLog, Running, Settings, Status,
    evidence::{EVIDENCE_FOLDER, Evidence},
    report::{AlertsAnswer, AlertsRequest, FindingRecord, News},
    start,
};
use waymark_runtime::{
    clock::Clock,
    fetch::{ExtraRoots, Fetcher},
    listen::{self, Server},
    proxies::Proxies,
};

/// When logs begin, unless a test says otherwise.
pub const NOW: u64 = 1_790_000_000_000;
pub const MINUTE: u64 = 60_000;
/// Ten minutes, as by default.
pub const RENEW_WITHIN: u64 = 10 * MINUTE;

pub fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::sha256(&[name.as_bytes()]).as_bytes())
}

pub fn label(name: &str) -> Label {
    Label(Hash::sha256(&[b"label", name.as_bytes()]))
}

/// A log with four witnesses, of which three are needed.
#[derive(Clone)]
pub struct Log {
    pub origin: Origin,
    pub signer: NoteSigner,
    pub witnesses: Vec<Cosigner>,
    pub entries: Vec<Vec<u8>>,
    pub map: PrefixTree,
    pub providers: ProviderDirectory,
    pub changes: u64,
    pub now: u64,
    pub serial: u64,
}

impl Log {
    pub fn new(name: &str, now: u64) -> Self {
        let origin = Origin::new(name).unwrap();
        let signer = NoteSigner::new(KeyName::new(name).unwrap(), secret(name));
        let witness = |i| Cosigner::new(KeyName::new(&format!("w{i}.example")).unwrap(), secret(&format!("w{i}")));
        let open = Open {
            domain: Domain::parse("dp.example").unwrap(),
            origin: (&origin).into(),
            vrf: VrfSecret::from_seed(&[7; 32]).public(),
            interval_ms: 1000,
            policy: Hash::sha256(&[b"policy"]),
            not_before: UnixMillis::new(now),
            extensions: Extensions::NONE,
        };
        let entries = vec![Entry::Open(open).encode()];
        let witnesses = (1..=4).map(witness).collect();
        let (map, providers) = (PrefixTree::new(), ProviderDirectory::new());
        let mut log = Self { origin, signer, witnesses, entries, map, providers, changes: 0, now, serial: 0 };
        log.close(vec![]);
        log
    }

    pub fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn head(&self) -> Head {
        match Entry::decode(self.entries.last().unwrap()) {
            Ok(Entry::Head(head)) => head,
            other => panic!("not a head: {other:?}"),
        }
    }

    /// Logs a batch of `count` changes, these labels among them, and a head; a head alone for zero.
    pub fn grow(&mut self, count: usize, labels: &[Label]) {
        let mut changes = Vec::new();
        for i in 0..count {
            self.serial += 1;
            let draw = |what: &str| {
                Hash::sha256(&[self.origin.as_str().as_bytes(), what.as_bytes(), &self.serial.to_be_bytes()])
            };
            let label = labels.get(i).copied().unwrap_or_else(|| Label(draw("label")));
            changes.push(Change { label, commitment: draw("commitment") });
        }
        self.map.insert(changes.iter().map(|c| (c.label.0, c.commitment)).collect()).unwrap();
        self.changes += count as u64;
        self.close(changes.into_iter().map(|c| Entry::Change(c).encode()).collect());
    }

    /// Logs entries as they are, and a head.
    pub fn close(&mut self, mut batch: Vec<Vec<u8>>) {
        self.now += 1000;
        batch.sort();
        self.entries.extend(batch);
        let head = Head {
            extensions: Extensions::NONE,
            time: UnixMillis::new(self.now),
            changes: self.changes,
            map_root: self.map.root(),
            open: Hash::sha256(&[&self.entries[0]]),
            config: Hash::ZERO,
            provider_root: self.providers.tree().root(),
        };
        self.entries.push(Entry::Head(head).encode());
    }

    /// Changes what the last head says.
    pub fn edit_head(&mut self, edit: impl FnOnce(&mut Head)) {
        let mut head = self.head();
        edit(&mut head);
        *self.entries.last_mut().unwrap() = Entry::Head(head).encode();
    }

    /// An entry for an MSP's key, signed by that key and, if there is one, by a key that should be valid.
    pub fn provider(&self, action: ProviderAction, domain: &str, key: &str, by_valid: Option<&str>) -> Provider {
        let domain = Domain::parse(domain).unwrap();
        let mut entry = Provider {
            role: ProviderRole::MSP,
            action,
            previous_leaf: self.providers.previous_leaf(&domain, ProviderRole::MSP),
            domain,
            class: 1,
            publishes: Flag(false),
            key: secret(key).public().into(),
            by_key: Optional24(None),
            by_valid: Optional24(None),
        };
        if action != ProviderAction::Retire {
            entry.sign_by_key(&self.origin, &secret(key));
        }
        if let Some(by) = by_valid {
            entry.sign_by_valid(&self.origin, &secret(by));
        }
        entry
    }

    /// Logs an entry for an MSP's key as the rules say.
    pub fn add_provider(&mut self, entry: Provider) {
        self.providers.apply(&entry, &self.origin, UnixMillis::new(self.now + 1000)).unwrap();
        self.close(vec![Entry::Provider(entry).encode()]);
    }

    pub fn root_at(&self, size: u64) -> Hash {
        let mut range = CompactRange::new();
        for entry in &self.entries[..size as usize] {
            range.append(leaf_hash(entry));
        }
        range.root()
    }

    /// Index and leaf hash of the change with this label.
    pub fn find(&self, label: Label) -> (u64, Hash) {
        let is_it = |e: &Vec<u8>| matches!(Entry::decode(e), Ok(Entry::Change(c)) if c.label == label);
        let index = self.entries.iter().position(is_it).unwrap();
        (index as u64, leaf_hash(&self.entries[index]))
    }

    /// A note of any size and root, cosigned at these times; 0 for not at all.
    pub fn note(&self, size: u64, root: Hash, times: [u64; 4]) -> Vec<u8> {
        let checkpoint = Checkpoint::new(self.origin.clone(), size, root);
        let text = checkpoint.format();
        let cosign = |(w, t): (&Cosigner, u64)| (t > 0).then(|| w.cosign(&text, UnixSeconds::new(t)));
        let lines: Vec<_> = self.witnesses.iter().zip(times).filter_map(cosign).collect();
        SignedCheckpoint::sign(checkpoint, &self.signer).to_note(&lines).into_bytes()
    }

    /// The checkpoint at a size, cosigned now by exactly the quorum.
    pub fn checkpoint_at(&self, size: u64) -> Vec<u8> {
        let t = self.now / 1000;
        self.note(size, self.root_at(size), [t, t, t, 0])
    }

    pub fn checkpoint(&self) -> Vec<u8> {
        self.checkpoint_at(self.size())
    }

    /// A witness's own copy (from 1): signed by the log and cosigned by this witness alone.
    pub fn copy(&self, witness: usize, size: u64, root: Hash) -> Vec<u8> {
        let mut times = [0; 4];
        times[witness - 1] = self.now / 1000;
        self.note(size, root, times)
    }

    pub fn trust_text(&self) -> String {
        let mut policy = format!("log {}\n", self.signer.vkey());
        for (i, w) in self.witnesses.iter().enumerate() {
            policy += &format!("witness w{} {}\n", i + 1, w.vkey());
        }
        policy += "group g 3 w1 w2 w3 w4\nquorum g\n";
        format!("policy = \"\"\"\n{policy}\"\"\"\nmax_age_s = 600\nskew_s = 30\n")
    }

    pub fn trust(&self) -> Trust {
        Trust::parse(&self.trust_text()).unwrap()
    }

    /// A list for this log, made at a time, by its own holder.
    pub fn list(&self, name: u8, made: u64, labels: &[Label], renews: Option<Hash>) -> WatchList {
        let holder = secret(&format!("holder {name}"));
        let mut list = WatchList {
            extensions: Extensions::NONE,
            format: Format,
            origin: (&self.origin).into(),
            id: WatchId([name; 16]),
            holder: holder.public(),
            size: self.size(),
            root: self.root_at(self.size()),
            made: UnixMillis::new(made),
            expiry: UnixMillis::new(made + 1000 * MINUTE),
            labels: List24::new(labels.to_vec()).unwrap(),
            renews: Optional24(renews),
            sig: UNSIGNED,
        };
        list.sign(&self.origin, &holder);
        list
    }
}

/// What a server answers.
#[derive(Default)]
pub struct Served {
    pub files: HashMap<String, Vec<u8>>,
    /// What it answers instead the next time it is asked for a path.
    pub once: HashMap<String, Vec<u8>>,
    /// How long it thinks about a path before it answers.
    pub slow: HashMap<String, Duration>,
    /// What it answers to paths that are not there, instead of 404 and nothing.
    pub missing: Option<(u16, Vec<u8>)>,
    /// How much it answers under `log/` before it asks to be left alone.
    pub quota: Option<Quota>,
    pub requests: Vec<String>,
}

/// So many answers in a second; the rest is 429 with `Retry-After: 1`.
#[derive(Clone)]
pub struct Quota {
    pub each: usize,
    pub left: usize,
    pub since: Instant,
    pub refused: usize,
    /// The paths that were answered.
    pub answered: Vec<String>,
}

impl Quota {
    pub fn new(each: usize) -> Self {
        Self { each, left: each, since: Instant::now(), refused: 0, answered: vec![] }
    }

    fn allows(&mut self, path: &str) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            (self.left, self.since) = (self.each, Instant::now());
        }
        if self.left == 0 {
            self.refused += 1;
            return false;
        }
        self.left -= 1;
        self.answered.push(path.to_owned());
        true
    }
}

/// A static file server that a test can change at any time.
pub struct Web {
    pub served: Arc<Mutex<Served>>,
    server: Server,
}

async fn answer(State(served): State<Arc<Mutex<Served>>>, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/').to_owned();
    let (file, slow, missing) = {
        let mut served = served.lock().unwrap();
        served.requests.push(path.clone());
        let limited = served.quota.as_mut().filter(|_| path.starts_with("log/"));
        if limited.is_some_and(|quota| !quota.allows(&path)) {
            let response = Response::builder().status(429).header("retry-after", "1");
            return response.body(Body::empty()).unwrap();
        }
        let file = served.once.remove(&path).or_else(|| served.files.get(&path).cloned());
        (file, served.slow.get(&path).copied(), served.missing.clone())
    };
    if let Some(slow) = slow {
        tokio::time::sleep(slow).await;
    }
    match file {
        Some(bytes) => Response::new(Body::from(bytes)),
        None => {
            let (status, page) = missing.unwrap_or((404, vec![]));
            Response::builder().status(status).body(Body::from(page)).unwrap()
        }
    }
}

impl Web {
    pub async fn new() -> Self {
        let served = Arc::new(Mutex::new(Served::default()));
        let router = Router::new().route("/{*path}", get(answer)).with_state(Arc::clone(&served));
        let server = listen::serve(listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap(), router).unwrap();
        Self { served, server }
    }

    pub fn url(&self, prefix: &str) -> String {
        format!("{}/{prefix}", self.server.url())
    }

    pub fn lock(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap()
    }

    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.lock().files.insert(path.to_owned(), bytes);
    }

    /// Serves a log's tiles under a prefix, without its checkpoint.
    pub fn put_tiles(&self, prefix: &str, log: &Log) {
        let mut edge = Edge::new();
        let mut tiles = BTreeMap::new();
        for entry in &log.entries {
            edge.append(entry, |tile, bytes| drop(tiles.insert(tile.path(), bytes))).unwrap();
        }
        tiles.extend(edge.partials(0).into_iter().map(|(tile, bytes)| (tile.path(), bytes)));
        let mut served = self.lock();
        served.files.extend(tiles.into_iter().map(|(path, bytes)| (format!("{prefix}/{path}"), bytes)));
    }

    /// Serves a log under a prefix, checkpoint included.
    pub fn publish(&self, prefix: &str, log: &Log) {
        self.put_tiles(prefix, log);
        self.put(&format!("{prefix}/checkpoint"), log.checkpoint());
    }

    /// Serves a witness's copy under its name, such as `w1`.
    pub fn put_copy(&self, witness: usize, log: &Log, note: Vec<u8>) {
        self.put(&format!("w{witness}/{}/checkpoint", log.origin.hash_hex()), note);
    }

    /// Serves honest copies of the two witnesses that monitors ask in these tests.
    pub fn put_copies(&self, log: &Log) {
        for witness in [1, 2] {
            self.put_copy(witness, log, log.copy(witness, log.size(), log.root_at(log.size())));
        }
    }

    /// The requests since this was last asked.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().requests)
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// One honest log under `log`, two witnesses, a clock that stands half a second after its last head.
pub struct World {
    pub log: Log,
    pub web: Web,
    pub clock: Clock,
    pub folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let log = Log::new("dp.example/log", NOW);
        let web = Web::new().await;
        web.publish("log", &log);
        web.put_copies(&log);
        let clock = Clock::manual(log.now + 500);
        Self { log, web, clock, folder: tempfile::tempdir().unwrap() }
    }

    pub fn followed(&self) -> FollowedLog {
        let witnesses = vec![("w1".to_owned(), self.web.url("w1")), ("w2".to_owned(), self.web.url("w2"))];
        FollowedLog { trust: self.log.trust(), url: self.web.url("log"), witnesses }
    }

    pub fn settings(&self) -> Settings {
        settings(self.folder.path(), vec![self.followed()])
    }

    pub async fn start(&self) -> Running {
        start(self.settings(), self.clock.clone()).await.unwrap()
    }

    /// The log grows, and everybody shows it. The clock goes on with the log.
    pub fn grow(&mut self, count: usize, labels: &[Label]) {
        self.log.grow(count, labels);
        self.clock.advance(1000);
        self.web.publish("log", &self.log);
        self.web.put_copies(&self.log);
    }

    /// Time goes by, and a head a minute keeps the log fresh.
    pub fn let_pass(&mut self, ms: u64) {
        for part in (0..ms).step_by(MINUTE as usize) {
            let step = MINUTE.min(ms - part);
            self.clock.advance(step);
            self.log.now += step - 1000;
            self.log.close(vec![]);
        }
        self.web.publish("log", &self.log);
        self.web.put_copies(&self.log);
    }
}

/// Waits until a monitor has asked for a path this many times more.
pub async fn asked(web: &Web, path: &str, times: usize) {
    web.take_requests();
    for _ in 0..1000 {
        if web.lock().requests.iter().filter(|r| *r == path).count() >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody asks for {path}: {:?}", web.lock().requests);
}

/// The file of evidence of a finding, read back.
pub fn evidence(folder: &Path, name: &str) -> Evidence {
    let bytes = std::fs::read(folder.join(EVIDENCE_FOLDER).join(name)).unwrap();
    Evidence::parse(&bytes).unwrap()
}

/// The findings that a monitor has not told yet.
pub fn findings(monitor: &Running) -> Vec<FindingRecord> {
    let finding = |news| if let News::Finding(finding) = news { Some(finding) } else { None };
    monitor.untold().unwrap().into_iter().filter_map(finding).collect()
}

pub fn settings(data_dir: &Path, logs: Vec<FollowedLog>) -> Settings {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let (operations, tls, roots) = (Some(listen), None, ExtraRoots::default());
    let (poll_ms, renew_within_ms) = (20, RENEW_WITHIN);
    let (data_dir, log_memory_bytes, proxies) = (data_dir.to_owned(), 1 << 30, Proxies::default());
    Settings { data_dir, listen, operations, tls, proxies, roots, logs, poll_ms, renew_within_ms, log_memory_bytes }
}

/// Waits until a monitor's status is as expected; says what it was instead after 20 s.
pub async fn wait_for(monitor: &Running, what: impl Fn(&Status) -> bool) -> Status {
    for _ in 0..1000 {
        let status = monitor.status();
        if what(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the status did not become as expected: {:#?}", monitor.status());
}

/// Waits until a monitor has replayed a log, its copies agree, and it has ticked since.
pub async fn caught_up(monitor: &Running, log: &Log) -> Status {
    let status = wait_for(monitor, |s| {
        let of = &s.logs[0];
        let agree = of.views.iter().all(|v| v.agrees == Some(true) && v.size == Some(log.size()));
        of.verified_size == log.size() && agree
    });
    let _ = status.await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    monitor.status()
}

/// The name of a list as it is shown.
pub fn hex_name(list: u8) -> String {
    format!("{list:02x}").repeat(16)
}

/// A question for the alerts of a list.
pub fn alerts_request(world: &World, list: u8, after: u64) -> Vec<u8> {
    let request = AlertsRequest { log: world.log.origin.to_string(), list: hex_name(list), after };
    serde_json::to_vec(&request).unwrap()
}

/// Asks for the alerts of a list, as a holder; status and code of the problem if there is one.
pub async fn ask_alerts(
    monitor: &Running,
    world: &World,
    list: u8,
    holder: u8,
    after: u64,
) -> Result<AlertsAnswer, (u16, String)> {
    let (body, secret) = (alerts_request(world, list, after), secret(&format!("holder {holder}")));
    let to = ("POST", "/v1/alerts");
    let signature = RequestSignature::sign(&world.log.origin, &secret, to, &body, world.clock.now(), [7; 16]);
    let (url, headers) = (format!("{}/v1/alerts", monitor.url()), [(RECIPIENT_HEADER, signature.format())]);
    let answer = Fetcher::default().post(&url, "application/json", &headers, body, 1 << 20).await.unwrap();
    if answer.is_success() {
        return Ok(serde_json::from_slice(&answer.body).unwrap());
    }
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    Err((answer.status, problem["code"].as_str().unwrap().to_owned()))
}
