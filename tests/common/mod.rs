//! A DP with witnesses in a temporary folder, and apps that talk to it over HTTP. Ports are the system's choice.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod hand;
pub mod tap;

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use waymark::{
    api::{ChangeRequest, OfferedConsent},
    client::{
        dp::DpClient,
        recipient::{Added, MappingSpec, prove, sign_mapping},
    },
    config::{Codes, File, Settings, StoreKind, names},
    dp, init, onboarding,
};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::SecretKey,
    note::{KeyName, Vkey},
};
use waymark_mapping::{
    commitment::{Salt, blind},
    entry::{Entry, ProviderRole},
    event::{Event, EventKind, EventTbs},
    identifier::Csi,
    mapping::{Attestation, Consent, Mapping, Purpose, Tags},
    names::{Account, Domain, Tag},
    signed::{SignedStruct, UNSIGNED},
    trust::Trust,
    verify::{Asked, Lookup, Trail, verify},
    wire::{Format, List24, encode},
};
use waymark_runtime::{clock::Clock, fetch::Fetcher, follow::LogReader, random};
use waymark_witness as witness;

/// An MSP that keeps its consents to itself, and one that publishes them.
pub const QUIET: &str = "quiet.example";
pub const LOUD: &str = "loud.example";
/// Time between batches: short, since tests wait for them.
const INTERVAL_MS: u32 = 50;

pub fn loopback() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 0))
}

pub fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

pub fn csi(text: &str) -> Csi {
    Csi::parse(text).unwrap()
}

/// Copies a folder and all in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The key that belongs to a name.
pub fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(Hash::sha256(&[name.as_bytes()]).as_bytes())
}

pub fn shown(tag: &str) -> Tags {
    Tags::shown(vec![Tag::parse(tag).unwrap()]).unwrap()
}

/// Witnesses that run.
pub struct Witnesses {
    pub running: Vec<witness::Running>,
    pub dirs: Vec<std::path::PathBuf>,
}

impl Witnesses {
    pub async fn start(root: &Path, count: usize) -> Self {
        Self::start_at(root, count, &Clock::System).await
    }

    pub async fn start_at(root: &Path, count: usize, clock: &Clock) -> Self {
        let (mut running, mut dirs) = (vec![], vec![]);
        for i in 1..=count {
            let dir = root.join(format!("witness{i}"));
            witness::init(&dir, KeyName::new(&format!("w{i}.example")).unwrap(), loopback(), Some(loopback())).unwrap();
            running.push(witness::start(witness::load(&dir).unwrap(), clock.clone()).await.unwrap());
            dirs.push(dir);
        }
        Self { running, dirs }
    }

    pub fn lines(&self) -> Vec<(String, Vkey, String)> {
        (1..).zip(&self.running).map(|(i, w)| (format!("w{i}"), w.vkey().clone(), w.url())).collect()
    }

    pub fn know(&self, log: &Vkey) {
        for dir in &self.dirs {
            witness::add_log(dir, log, None, None).unwrap();
        }
    }

    pub async fn stop(self) {
        for w in self.running {
            w.stop().await;
        }
    }
}

/// Waits until something is so: looks fifty times a second, for half a minute, since parts tell each other over HTTP and files
/// and not us.
#[track_caller]
pub fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let from = std::panic::Location::caller();
    async move {
        for _ in 0..1500 {
            if is_so().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{from}: waited half a minute for {what}");
    }
}

/// The record store to test: sled if the environment says so and the feature is there.
pub fn store() -> StoreKind {
    match std::env::var("WAYMARK_TEST_STORE").as_deref() {
        Ok("sled") => StoreKind::Sled,
        _ => StoreKind::Redb,
    }
}

/// Makes a DP that these witnesses know, with two MSPs to be logged.
pub fn make_dp(dir: &Path, witnesses: &Witnesses) -> Vkey {
    make_dp_with(dir, witnesses, |_| {})
}

/// The same, with another configuration.
pub fn make_dp_with(dir: &Path, witnesses: &Witnesses, adjust: impl FnOnce(&mut File)) -> Vkey {
    let mut file = File {
        domain: "dp.example".to_owned(),
        origin: "dp.example/log".to_owned(),
        listen: loopback(),
        operations: Some(loopback()),
        interval_ms: INTERVAL_MS,
        store: store(),
        codes: Codes::Folder,
        lookups_per_minute: 1_000_000,
        relays_per_minute: 6,
        answer_bytes_min: 8192,
        regions: vec!["EU".to_owned()],
        visible_mappings: 8,
        trusted_proxies: vec![],
        proxy_header: None,
        csip: vec![],
        prover: vec![],
        recycling: vec![],
        tls: None,
    };
    adjust(&mut file);
    let lines = witnesses.lines();
    let quorum = lines.len();
    let vkey = init::init(dir, &init::NewDp { file, witnesses: lines, quorum }, &Clock::System).unwrap();
    witnesses.know(&vkey);
    let origin = Origin::new("dp.example/log").unwrap();
    for (name, publishes) in [(QUIET, false), (LOUD, true)] {
        let entry = init::provider_entry(&domain(name), ProviderRole::MSP, publishes, 1, &origin, &key(name));
        onboarding::submit(dir, &entry).unwrap();
    }
    vkey
}

/// A DP with its witnesses, running in this process.
pub struct Stage {
    pub root: TempDir,
    pub witnesses: Witnesses,
    pub dp: dp::Running,
    pub trust: Trust,
    pub origin: Origin,
    pub fetcher: Fetcher,
    pub clock: Clock,
}

impl Stage {
    pub async fn new() -> Self {
        Self::with_witnesses(1).await
    }

    pub async fn with_witnesses(count: usize) -> Self {
        Self::with(count, &Clock::System, |_| {}).await
    }

    /// A DP with another configuration, which its policy document follows.
    pub async fn with_file(count: usize, clock: &Clock, adjust: impl FnOnce(&mut File)) -> Self {
        Self::start(count, clock, adjust, |_| {}).await
    }

    /// A DP by another clock, or with other settings.
    pub async fn with(count: usize, clock: &Clock, adjust: impl FnOnce(&mut Settings)) -> Self {
        Self::start(count, clock, |_| {}, adjust).await
    }

    async fn start(
        count: usize,
        clock: &Clock,
        file: impl FnOnce(&mut File),
        adjust: impl FnOnce(&mut Settings),
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        let witnesses = Witnesses::start_at(root.path(), count, clock).await;
        let dir = root.path().join("dp");
        make_dp_with(&dir, &witnesses, file);
        let mut settings = Settings::load(&dir).unwrap();
        adjust(&mut settings);
        let dp = dp::start(settings, clock.clone()).await.unwrap();
        let trust = Trust::parse(&std::fs::read_to_string(dir.join(names::TRUST)).unwrap()).unwrap();
        let origin = Origin::new("dp.example/log").unwrap();
        let (fetcher, clock) = (Fetcher::new(Duration::from_secs(40)), clock.clone());
        let stage = Self { root, witnesses, dp, trust, origin, fetcher, clock };
        let known = async || [QUIET, LOUD, "dp.example"].iter().all(|d| stage.dp.knows_provider(&domain(d)));
        until("the providers to be logged", known).await;
        stage
    }

    pub async fn stop(self) {
        self.dp.stop().await.unwrap();
        self.witnesses.stop().await;
    }

    pub fn client(&self) -> DpClient {
        DpClient::new(self.fetcher.clone(), &self.dp.url(), self.origin.clone(), self.clock.clone())
    }

    /// Lets days pass, until the DP has a head of the new day that can be believed.
    pub async fn pass(&self, ms: u64) {
        self.clock.advance(ms);
        let (dp, asked) = (self.client(), asked(&csi("tel:+4930999999"), None));
        let is_fresh = async || {
            let bytes = dp.look_up(&asked.csi, None).await.unwrap();
            verify(&bytes, &asked, &self.trust, None, self.clock.now(), &mut Trail::default()).is_ok()
        };
        until("a head of the new day", is_fresh).await;
    }

    pub async fn look_up(&self, who: &Csi, tag: Option<&str>) -> Lookup {
        look_up(&self.client(), &self.trust, who, tag).await
    }

    /// Proves possession over HTTP, reading the code where the DP puts it.
    pub async fn attest(&self, secret: &SecretKey, who: &Csi) -> Attestation {
        let (dp, codes) = (self.client(), self.root.path().join("dp").join(names::CODES));
        let tenure = self.look_up(who, None).await.tenure_of_next_mapping;
        let read = |id: String| async move { std::fs::read_to_string(codes.join(id)).ok() };
        prove(&dp, secret, who, tenure, Purpose::Control, read).await.unwrap()
    }

    pub async fn mapping(&self, secret: &SecretKey, who: &Csi, msp: &str, tags: Tags) -> Mapping {
        let attestation = self.attest(secret, who).await;
        mapping(&self.origin, secret, &attestation, msp, tags)
    }

    /// All entries of the published log.
    pub async fn entries(&self) -> Vec<Entry> {
        let reader = LogReader::new(self.fetcher.clone(), &self.dp.log_url());
        let mut entries = vec![];
        let size = self.dp.published_size();
        reader.entries(0, size, |more| entries.extend(more.iter().map(|e| Entry::decode(e).unwrap()))).await.unwrap();
        entries
    }
}

/// The origin of the log of every DP here.
pub fn origin() -> Origin {
    Origin::new("dp.example/log").unwrap()
}

/// A question to that log.
pub fn asked(who: &Csi, tag: Option<Tag>) -> Asked {
    Asked { origin: origin(), csi: who.clone(), tag }
}

pub fn client(fetcher: &Fetcher, url: &str) -> DpClient {
    DpClient::new(fetcher.clone(), url, origin(), Clock::System)
}

pub async fn look_up(dp: &DpClient, trust: &Trust, who: &Csi, tag: Option<&str>) -> Lookup {
    let asked = asked(who, tag.map(|t| Tag::parse(t).unwrap()));
    let bytes = dp.look_up(who, asked.tag.as_ref()).await.unwrap();
    let verified = verify(&bytes, &asked, trust, None, dp.clock().now(), &mut Trail::default()).unwrap();
    verified.get().clone()
}

pub async fn attest(dp: &DpClient, dir: &Path, secret: &SecretKey, who: &Csi) -> Attestation {
    let codes = dir.join(names::CODES);
    let read = |id: String| async move { std::fs::read_to_string(codes.join(id)).ok() };
    prove(dp, secret, who, 0, Purpose::Control, read).await.unwrap()
}

pub fn mapping(origin: &Origin, secret: &SecretKey, attestation: &Attestation, msp: &str, tags: Tags) -> Mapping {
    let spec = MappingSpec {
        msp: Domain::parse(msp),
        account: Account::parse(if msp.is_empty() { "" } else { "mimi://x.example/u/1" }).unwrap(),
        tags,
    };
    sign_mapping(origin, secret, &spec, attestation, attestation.time)
}

/// A consent as the MSP's adapter would give it.
pub fn consent(origin: &Origin, mapping: &Mapping) -> (Consent, Salt) {
    let salt = Salt(random::bytes());
    let msp = mapping.msp.get().unwrap();
    let secret = key(msp.as_str());
    let mut consent = Consent {
        format: Format,
        msp,
        msp_key: secret.public(),
        blinded: blind(&salt, &encode(mapping)),
        expiry: Consent::expiry_of(Clock::System.now()),
        sig: UNSIGNED,
    };
    consent.sign(origin, &secret);
    (consent, salt)
}

pub fn with_consent(origin: &Origin, mapping: Mapping) -> Added {
    let consent = mapping.msp.get().map(|_| consent(origin, &mapping));
    Added { mapping, consent }
}

/// What an app has to know of the current version to change it.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    pub tenure: Option<u32>,
    pub version: Option<u32>,
    pub commitment: Option<Hash>,
}

impl From<&Lookup> for Seen {
    fn from(lookup: &Lookup) -> Self {
        Self { tenure: lookup.tenure, version: lookup.version, commitment: lookup.commitment }
    }
}

/// A change request over what a look-up showed, signed by these keys.
pub fn request(
    origin: &Origin,
    current: impl Into<Seen>,
    who: &Csi,
    kind: EventKind,
    added: &[Added],
    removed: &[Hash],
    signers: &[(&SecretKey, Option<Attestation>)],
) -> ChangeRequest {
    let current = current.into();
    let tbs = EventTbs {
        format: Format,
        kind,
        csi: who.clone(),
        tenure: current.tenure.unwrap_or(0),
        version: current.version.map_or(0, |v| v + 1),
        previous: current.commitment.unwrap_or(Hash::ZERO),
        added: List24::new(added.iter().map(|a| a.mapping.digest()).collect()).unwrap(),
        removed: List24::new(removed.to_vec()).unwrap(),
        reason: 0,
        time: Clock::System.now(),
        nonce: random::bytes(),
    };
    let authorities =
        signers.iter().map(|(secret, possession)| tbs.sign_as_recipient(origin, secret, possession.clone()));
    let authorities = List24::new(authorities.collect()).unwrap();
    let consents = (0u8..)
        .zip(added)
        .filter_map(|(index, a)| a.consent.clone().map(|(consent, salt)| OfferedConsent { index, consent, salt }));
    ChangeRequest {
        event: Event { tbs, authorities },
        added: List24::new(added.iter().map(|a| a.mapping.clone()).collect()).unwrap(),
        consents: List24::new(consents.collect()).unwrap(),
    }
}
