//! Starting, finding and stopping the parts. Each keeps its files in a folder of its own and listens on a port of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::Value;
use waymark_log::{checkpoint::Origin, hash::Hash, note::KeyName};
use waymark_mapping::{entry::Provider, names::Domain, trust::Trust};
use waymark_monitor as monitor;
use waymark_runtime::{
    budget::{Shares, StayingShares},
    clock::Clock,
    durable,
    fetch::{ExtraRoots, Fetcher},
    follow::LogReader,
};
use waymark_witness as witness;

use super::{
    DemoError, Teller,
    cast::{self, Cast},
    people::Person,
    people::msps,
    report::Report,
};
use crate::{
    client::{
        dp::DpClient,
        logs,
        msp::{MspClient, alerts},
        recipient::AppKeys,
    },
    config::{Codes, File, Settings, StoreKind, names},
    dp, init, msp, onboarding,
};

/// Witnesses that run, and how many must cosign.
pub const WITNESSES: usize = 4;
const QUORUM: usize = 3;
/// Time between batches in the demo.
const INTERVAL_MS: u32 = 200;
/// How long watchers wait for a hit to be claimed: seconds here, ten minutes elsewhere.
const RENEW_WITHIN_MS: u64 = 3_000;
/// Time between looks at the log by the monitor and the MSPs' adapters.
const POLL_MS: u64 = 250;
/// Look-ups, and requests of any other kind, that the DP lets the demo make in a minute.
const REQUESTS_PER_MINUTE: u32 = 10_000_000;
/// Longest the demo waits for a part to catch up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running parts.
pub struct World {
    dir: PathBuf,
    fetcher: Fetcher,
    clock: Clock,
    dp: dp::Running,
    witnesses: Vec<witness::Running>,
    monitor: monitor::Running,
    msps: BTreeMap<Domain, msp::Running>,
    trust: Trust,
    origin: Origin,
    cast: Cast,
}

/// What the monitor says of the log.
#[derive(Clone, Copy, Debug)]
pub struct MonitorStatus {
    /// How far it has verified and replayed.
    pub verified_size: u64,
    /// What it holds against the log.
    pub findings: usize,
}

fn loopback() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 0))
}

impl World {
    /// Starts everything and waits until all providers are in the published log.
    ///
    /// # Errors
    /// Whatever did not start.
    pub async fn start(dir: &Path, people: &[Person], teller: Teller) -> anyhow::Result<Self> {
        let clock = Clock::System;
        let cast = Cast::beside(people)?;
        let mut domains: BTreeSet<Domain> = msps(people);
        domains.extend(cast::msps());
        teller.say(format!(
            "starting a DP (a batch every {INTERVAL_MS} ms), {WITNESSES} witnesses ({QUORUM} must cosign), a monitor and {} \
             messaging providers",
            domains.len()
        ));
        teller.say(format!(
            "set for the demo only: codes go to a folder instead of a phone, requests are not limited ({REQUESTS_PER_MINUTE} a \
             minute), and watchers raise an alert after {} s instead of ten minutes",
            RENEW_WITHIN_MS / 1000
        ));
        let witnesses = start_witnesses(dir, &clock).await?;
        let dp_dir = dir.join("dp");
        let vkey = make_dp(&dp_dir, &witnesses, &clock)?;
        let origin = Origin::new(vkey.name().as_str())?;
        for i in 1..=WITNESSES {
            witness::add_log(&dir.join(format!("witness{i}")), &vkey, None, None)?;
        }
        for (i, domain) in domains.iter().enumerate() {
            // Every third provider keeps its consents to itself; the others publish them.
            let entry = msp::init(&msp_dir(dir, domain), domain, &origin, i % 3 != 2, 1)?;
            onboarding::submit(&dp_dir, &read_entry(&entry)?)?;
        }
        let dp = dp::start(Settings::load(&dp_dir)?, clock.clone()).await?;
        let trust = Trust::parse(&std::fs::read_to_string(dp_dir.join(names::TRUST))?)?;
        wait_for("the providers to be logged", || domains.iter().all(|d| dp.knows_provider(d))).await?;
        let msps = start_msps(dir, &domains, &dp, &trust, &clock).await?;
        let monitor = start_monitor(dir, &dp, &witnesses, &trust, &clock).await?;
        let fetcher = Fetcher::new(Duration::from_secs(40));
        Ok(Self { dir: dir.to_owned(), fetcher, clock, dp, witnesses, monitor, msps, trust, origin, cast })
    }

    /// Stops everything, senders first.
    pub async fn stop(self) {
        for (_, msp) in self.msps {
            msp.stop().await;
        }
        self.monitor.stop().await;
        if let Err(why) = self.dp.stop().await {
            tracing::warn!(%why, "the DP had stopped by itself");
        }
        for witness in self.witnesses {
            witness.stop().await;
        }
    }

    /// How to reach the parts.
    pub fn ready(&self) -> Value {
        super::ready(self)
    }

    /// The DP's URL.
    pub fn dp_url(&self) -> String {
        self.dp.url()
    }

    /// The log's URL prefix.
    pub fn log_url(&self) -> String {
        self.dp.log_url()
    }

    /// The log's origin.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The log's key.
    pub fn log_vkey(&self) -> String {
        self.dp.vkey().to_string()
    }

    /// The trust file for this DP.
    pub fn trust_file(&self) -> String {
        self.dir.join("dp").join(names::TRUST).display().to_string()
    }

    /// Whom the demo's clients believe.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// URL and key of each witness.
    pub fn witnesses(&self) -> Vec<(String, String)> {
        self.witnesses.iter().map(|w| (w.url(), w.vkey().to_string())).collect()
    }

    /// The monitor's URL.
    pub fn monitor_url(&self) -> String {
        self.monitor.url()
    }

    /// The HTTP client that the demo's apps share, as phones share a network.
    pub const fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// Who is in the story.
    pub const fn cast(&self) -> &Cast {
        &self.cast
    }

    /// The time.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The DP, as an app calls it.
    pub fn dp(&self) -> DpClient {
        DpClient::new(self.fetcher.clone(), &self.dp.url(), self.origin.clone(), self.clock.clone())
    }

    /// An MSP's adapter, as its user's app calls it.
    ///
    /// # Errors
    /// If no such MSP runs.
    pub fn msp(&self, domain: &Domain) -> anyhow::Result<MspClient> {
        let running = self.msps.get(domain).with_context(|| format!("no adapter runs for {domain}"))?;
        Ok(MspClient::new(self.fetcher.clone(), &running.url(), self.origin.clone(), self.clock.clone()))
    }

    /// Reads a code where the DP put it: what a phone would show.
    pub async fn read_code(&self, challenge: String) -> Option<String> {
        tokio::fs::read_to_string(self.dir.join("dp").join(names::CODES).join(challenge)).await.ok()
    }

    /// The published log's size and its cosignatures, once nothing more is on its way.
    ///
    /// # Errors
    /// If the log cannot be read or does not meet the policy.
    pub async fn settled(&self) -> anyhow::Result<(u64, usize)> {
        let reader = LogReader::new(self.fetcher.clone(), &self.log_url());
        let now = self.clock.now().floor_seconds();
        let cosigned = logs::head(&reader, self.trust.policy(), now, self.trust.freshness()).await?;
        Ok((cosigned.size(), cosigned.cosignatures()))
    }

    /// What the monitor says over HTTP, once it has replayed `size` entries and has no hit left that may be claimed.
    ///
    /// # Errors
    /// If it does not get there in time.
    pub async fn monitor_at(&self, size: u64) -> anyhow::Result<MonitorStatus> {
        let url = format!("{}/status", self.monitor.url());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.fetcher.get(&url, 1 << 20).await?;
            let status: Value = serde_json::from_slice(&answer.body)?;
            let log = &status["logs"][0];
            let verified_size = log["verified_size"].as_u64().unwrap_or(0);
            let quiet = status["open_hits"].as_u64() == Some(0);
            if verified_size >= size && quiet {
                let findings = log["findings"].as_u64().context("the monitor's status has no findings")?;
                return Ok(MonitorStatus { verified_size, findings: usize::try_from(findings)? });
            }
            if Instant::now() > deadline {
                anyhow::bail!("the monitor has verified {verified_size} of {size} entries after {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The monitor's unexpected alerts under the lists of these apps, by leaf hash, as each app is told of its own.
    ///
    /// # Errors
    /// If the monitor does not answer.
    pub async fn monitor_alerts(&self, of: impl IntoIterator<Item = &AppKeys>) -> anyhow::Result<BTreeSet<Hash>> {
        let (fetcher, url) = (&self.fetcher, self.monitor.url());
        let mut leaves = BTreeSet::new();
        for keys in of {
            let whose = (&keys.watcher, &keys.watch_id);
            let told = match alerts(fetcher, &url, &self.origin, whose, 0, &self.clock).await {
                // A list that was retired and has raised nothing is gone.
                Err(error) if error.code() == Some("no-list") => continue,
                told => told?,
            };
            for alert in told.alerts.iter().filter(|alert| alert.kind == "unexpected") {
                let leaf = alert.leaf.as_deref().and_then(Hash::from_hex);
                leaves.insert(leaf.context("an alert without its entry")?);
            }
        }
        Ok(leaves)
    }

    /// Entries that nobody claimed, seen by the monitor or by an MSP's adapter, each counted once.
    ///
    /// # Errors
    /// If the monitor does not answer, or an adapter cannot read its notices.
    pub async fn unexpected_alerts(&self, staged: Hash, watchers: &[AppKeys]) -> anyhow::Result<usize> {
        // The adapters saw the staged entry when the monitor did; give theirs the same time to come due.
        let own = || self.msps.values().map(msp::Running::unexpected).collect::<std::io::Result<Vec<_>>>();
        let has_staged = || own().is_ok_and(|of_all| of_all.iter().any(|leaves| leaves.contains(&staged)));
        wait_for("the MSPs' alerts", has_staged).await?;
        let mut all = self.monitor_alerts(watchers).await?;
        all.extend(own()?.into_iter().flatten());
        Ok(all.len())
    }

    /// Three commands to try while the demo stays up.
    pub fn commands(&self, report: &Report) -> String {
        let trust = self.trust_file();
        let middle = report.log_size / 2;
        [
            "Try, from the repository's root:".to_owned(),
            format!(
                "  cargo run --release -- lookup \"{}\" --dp {} --trust {trust} --explain",
                self.cast.bob_typed,
                self.dp_url()
            ),
            format!("  cargo run --release -- log consistency {middle} --url {} --trust {trust}", self.log_url()),
            format!("  cargo run --release -- log head --url {} --trust {trust} --json", self.log_url()),
        ]
        .join("\n")
    }
}

/// Waits until something is so.
async fn wait_for(what: &str, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            anyhow::bail!("waited {PATIENCE:?} for {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn msp_dir(dir: &Path, domain: &Domain) -> PathBuf {
    dir.join("msp").join(domain.as_str())
}

fn read_entry(path: &Path) -> anyhow::Result<Provider> {
    let bytes = durable::read(path, onboarding::PROVIDER_BYTES_MAX)?.context("the entry is gone")?;
    onboarding::parse(&bytes).map_err(|e| anyhow::anyhow!(e))
}

async fn start_witnesses(dir: &Path, clock: &Clock) -> anyhow::Result<Vec<witness::Running>> {
    let mut running = Vec::with_capacity(WITNESSES);
    for i in 1..=WITNESSES {
        let folder = dir.join(format!("witness{i}"));
        witness::init(&folder, KeyName::new(&format!("witness{i}.example"))?, loopback(), None)?;
        running.push(witness::start(witness::load(&folder)?, clock.clone()).await?);
    }
    Ok(running)
}

fn make_dp(dir: &Path, witnesses: &[witness::Running], clock: &Clock) -> anyhow::Result<waymark_log::note::Vkey> {
    let file = File {
        domain: "dp.example".to_owned(),
        origin: "dp.example/log".to_owned(),
        listen: loopback(),
        operations: None,
        interval_ms: INTERVAL_MS,
        store: StoreKind::Redb,
        codes: Codes::Folder,
        lookups_per_minute: REQUESTS_PER_MINUTE,
        requests_per_minute: REQUESTS_PER_MINUTE,
        relays_per_minute: crate::config::RELAYS_PER_MINUTE_DEFAULT,
        answer_bytes_min: crate::published::ANSWER_BYTES_MIN_DEFAULT,
        regions: vec![],
        visible_mappings: waymark_mapping::record::VISIBLE_MAPPINGS_DEFAULT,
        trusted_proxies: vec![],
        proxy_header: None,
        csip: vec![],
        prover: vec![],
        recycling: vec![],
        tls: None,
    };
    let lines = (1..).zip(witnesses).map(|(i, w)| (format!("witness{i}"), w.vkey().clone(), w.url()));
    let new = init::NewDp { file, witnesses: lines.collect(), quorum: QUORUM };
    Ok(init::init(dir, &new, clock)?)
}

async fn start_msps(
    dir: &Path,
    domains: &BTreeSet<Domain>,
    dp: &dp::Running,
    trust: &Trust,
    clock: &Clock,
) -> anyhow::Result<BTreeMap<Domain, msp::Running>> {
    let mut running = BTreeMap::new();
    for domain in domains {
        let log = Some((dp.log_url(), trust.clone()));
        let mut settings = msp::Settings::load(&msp_dir(dir, domain), loopback(), log)?;
        settings.renew_within_ms = RENEW_WITHIN_MS;
        settings.poll_ms = POLL_MS;
        // All the apps of a demo have one address.
        let everybody = Shares { host: u32::MAX, site: u32::MAX, network: u32::MAX };
        settings.requests_a_minute = everybody;
        settings.new_accounts = StayingShares { day: everybody, month: everybody };
        settings.dp = Some(dp.url());
        running.insert(domain.clone(), msp::start(settings, clock.clone()).await?);
    }
    Ok(running)
}

async fn start_monitor(
    dir: &Path,
    dp: &dp::Running,
    witnesses: &[witness::Running],
    trust: &Trust,
    clock: &Clock,
) -> anyhow::Result<monitor::Running> {
    let copies = (1..).zip(witnesses).map(|(i, w)| (format!("witness{i}"), w.url()));
    let followed = monitor::FollowedLog { trust: trust.clone(), url: dp.log_url(), witnesses: copies.collect() };
    let settings = monitor::Settings {
        data_dir: dir.join("monitor"),
        listen: loopback(),
        operations: None,
        tls: None,
        roots: ExtraRoots::default(),
        logs: vec![followed],
        poll_ms: POLL_MS,
        proxies: waymark_runtime::proxies::Proxies::default(),
        renew_within_ms: RENEW_WITHIN_MS,
        log_memory_bytes: monitor::LOG_MEMORY_MB_DEFAULT << 20,
    };
    Ok(monitor::start(settings, clock.clone()).await?)
}

impl From<waymark_log::note::NoteError> for DemoError {
    fn from(error: waymark_log::note::NoteError) -> Self {
        Self::Part(error.into())
    }
}
