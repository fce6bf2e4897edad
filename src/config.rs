//! A DP's configuration: one TOML file; flags and environment over it; contradictions refused before anything starts.
//!
//! ```toml
//! domain = "dp.example"           # who runs it; named in attestations and in the log
//! origin = "dp.example/log"       # the log's name for ever; changing it later is refused by the signed head
//! listen = "127.0.0.1:8080"       # beyond loopback only with [tls]
//! operations = "127.0.0.1:9090"   # health and metrics, on a listener of their own; without it there are none
//! interval_ms = 1000              # time between batches, promised in the open entry; below 50 the disk sets the pace
//! store = "redb"                  # or "sled" with the cargo feature: not durable
//! codes = "console"               # where codes go: for development "console" or "folder" (codes/ in the data folder); else
//!                                 # a table, see src/possession/config.rs
//! lookups_per_minute = 60         # for each /64, 16 times that for an IPv4 address; at least 1, since 50 a day are promised
//! requests_per_minute = 6000      # of any other kind, for each /64, twice that for an IPv4 address; at least 1
//! relays_per_minute = 6000        # look-ups that each MSP may relay for its users; 0 refuses all
//! answer_bytes_min = 8192         # one of 4096, 8192, ...: found and not found look alike from here on
//! regions = []                    # where payload is kept, such as ["EU"]; mappings for other regions are not taken
//! visible_mappings = 8            # most mappings of one identifier that everybody sees; at most 32
//! trusted_proxies = []            # ranges such as ["127.0.0.1", "::1"]: connections from there carry others' requests
//! # proxy_header = "X-Forwarded-For"   # in which those proxies name the client's address; not without trusted_proxies
//!
//! [[csip]]                        # optional: who issues identifiers, and is believed when it takes one back
//! domain = "telco.example"        # its key must be in the log, in role csip
//! issues = ["tel:+4915", "@post.example"]   # beginnings of numbers, ends of addresses
//! [[prover]]                      # optional: who else attests possession; without one, the DP takes its own word alone
//! domain = "prover.example"       # its key must be in the log, in role prover
//! attests = ["tel:+49"]           # as above, or ["*"] for all identifiers
//! stricter = false                # true: it looks harder than a code does, so that a claim waits 72 hours for its word
//! [tls]                           # PEM files, relative to the data folder; read again when they change
//! cert = "tls/cert.pem"           # the chain, the server's own certificate first
//! key = "tls/key.pem"             # mode 0600
//! ```
//!
//! Beside it lie policy.txt (tlog-policy: this log, its witnesses with URLs, the quorum), policy.toml (the policy document, which
//! says domain, codes, lookups_per_minute, regions, visible_mappings and stricter provers too: the log has its digest, so these
//! change together, by
//! `waymark-dp config`), and the folders keys/ (0600), log/ (public), policies/ (all documents that were logged), config/ and
//! providers/ (entries to be taken in); and returning (who has completed a challenge, as keyed digests).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use waymark_log::{
    checkpoint::Origin,
    key::SecretKey,
    note::{KeyName, NoteSigner},
    policy::Policy,
};
use waymark_mapping::{
    answer::ANSWER_SIZES,
    entry::INTERVAL_MS_MAX,
    names::Domain,
    record::{VISIBLE_MAPPINGS_DEFAULT, VISIBLE_SLOTS_MAX},
    vrf::VrfSecret,
};
use waymark_runtime::{
    config::{self, ConfigError},
    durable,
    fetch::ExtraRoots,
    keyfile,
    proxies::Proxies,
    tls::TlsFiles,
};
use zeroize::Zeroizing;

pub use crate::possession::config::Codes;
use crate::{
    authorise::{EVERY_CSI, TrustedCsip, TrustedProver},
    policy::{Document, shelf::Logged},
    possession::config::CodeSecrets,
    recycling::{FeedFile, Registers},
    sequencer::commit::Hindrance,
};

/// Where `init` lets a DP tell its health and metrics.
pub const OPERATIONS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
/// Time between batches unless said otherwise.
pub const INTERVAL_MS_DEFAULT: u32 = 1000;
/// Look-ups a minute for each address unless said otherwise.
pub const LOOKUPS_PER_MINUTE_DEFAULT: u32 = 60;
/// Requests a minute for each address, besides look-ups, unless said otherwise: 300 people behind one address
/// (carrier-grade NAT) who each send twenty, and all enter in the same minute.
pub const REQUESTS_PER_MINUTE_DEFAULT: u32 = 6000;
/// Look-ups a minute that each MSP may relay, unless said otherwise: a hundred a second.
pub const RELAYS_PER_MINUTE_DEFAULT: u32 = 6000;
/// Least time between batches: shorter promises are for discs that sync in less.
pub const INTERVAL_MS_MIN: u32 = 50;

/// The file as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Who runs it.
    pub domain: String,
    /// The log's name.
    pub origin: String,
    /// Where to listen.
    #[serde(default = "listen_default")]
    pub listen: SocketAddr,
    /// Where to tell health and metrics, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<SocketAddr>,
    /// Time between batches, milliseconds.
    #[serde(default = "interval_default")]
    pub interval_ms: u32,
    /// Which record store.
    #[serde(default)]
    pub store: StoreKind,
    /// Where codes go.
    #[serde(default)]
    pub codes: Codes,
    /// Look-ups a minute for each address.
    #[serde(default = "lookups_default")]
    pub lookups_per_minute: u32,
    /// Requests a minute for each address, besides look-ups.
    #[serde(default = "requests_default")]
    pub requests_per_minute: u32,
    /// Look-ups a minute that each MSP may relay.
    #[serde(default = "relays_default")]
    pub relays_per_minute: u32,
    /// Least size of an answer, bytes.
    #[serde(default = "answer_default")]
    pub answer_bytes_min: usize,
    /// Where payload is kept.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Most visible mappings of one identifier.
    #[serde(default = "visible_default")]
    pub visible_mappings: usize,
    /// Address ranges of the proxies that say whose request it is: see [`waymark_runtime::proxies`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it, if it is not `X-Forwarded-For`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_header: Option<String>,
    /// CSIPs whose releases are believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub csip: Vec<CsipFile>,
    /// Provers that are believed besides the DP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prover: Vec<ProverFile>,
    /// Registers of numbers that were given to somebody else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recycling: Vec<FeedFile>,
    /// Certificate and key: without them nothing listens beyond loopback. (A table, so it stands after all else.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
}

/// A CSIP as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsipFile {
    /// Its domain.
    pub domain: String,
    /// What it issues: beginnings of canonical numbers, or ends of addresses from `@` on.
    pub issues: Vec<String>,
}

impl CsipFile {
    fn parse(&self) -> Result<TrustedCsip, String> {
        let domain = Domain::parse(&self.domain).ok_or("csip.domain: not a lower-case domain name")?;
        if self.issues.is_empty() || !self.issues.iter().all(|i| names_csis(i)) {
            return Err("csip.issues: beginnings such as \"tel:+4915\", or ends such as \"@post.example\"".to_owned());
        }
        Ok(TrustedCsip { domain, issues: self.issues.clone() })
    }
}

/// Whether a text names CSIs by the beginning of numbers or the end of addresses.
fn names_csis(text: &str) -> bool {
    let number = text.strip_prefix("tel:+").is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
    number || text.strip_prefix('@').is_some_and(|d| Domain::parse(d).is_some())
}

/// A prover as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProverFile {
    /// Its domain.
    pub domain: String,
    /// What it attests: as what a CSIP issues, or `*` for all identifiers.
    pub attests: Vec<String>,
    /// Whether its proofs are stricter than a code: the policy document then says so, too.
    #[serde(default)]
    pub stricter: bool,
}

impl ProverFile {
    fn parse(&self, dp: &Domain) -> Result<TrustedProver, String> {
        let domain = Domain::parse(&self.domain).ok_or("prover.domain: not a lower-case domain name")?;
        // What others are stricter than is the DP's own proof.
        if domain == *dp {
            return Err("prover.domain: the DP itself attests for every identifier, and is not stricter".to_owned());
        }
        if self.attests.is_empty() || !self.attests.iter().all(|i| i == EVERY_CSI || names_csis(i)) {
            return Err("prover.attests: [\"*\"], beginnings such as \"tel:+4915\", or ends such as \"@post.example\""
                .to_owned());
        }
        Ok(TrustedProver { domain, attests: self.attests.clone() })
    }
}

fn visible_default() -> usize {
    VISIBLE_MAPPINGS_DEFAULT
}

fn listen_default() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn interval_default() -> u32 {
    INTERVAL_MS_DEFAULT
}

fn lookups_default() -> u32 {
    LOOKUPS_PER_MINUTE_DEFAULT
}

fn requests_default() -> u32 {
    REQUESTS_PER_MINUTE_DEFAULT
}

fn relays_default() -> u32 {
    RELAYS_PER_MINUTE_DEFAULT
}

fn answer_default() -> usize {
    crate::published::ANSWER_BYTES_MIN_DEFAULT
}

/// Which record store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// Durable.
    #[default]
    Redb,
    /// Not durable, and only in a build with the cargo feature `sled`.
    Sled,
}

impl File {
    /// Checks what the types leave open, and gives the names in it.
    ///
    /// # Errors
    /// What to mend.
    pub fn check(&self) -> Result<(Domain, Origin, KeyName), String> {
        let domain = Domain::parse(&self.domain).ok_or("domain: not a lower-case domain name")?;
        let origin = Origin::new(&self.origin).map_err(|e| format!("origin: {e}"))?;
        let key_name = KeyName::new(&self.origin).map_err(|_| "origin: it must have no spaces and no plus")?;
        if !(INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&self.interval_ms) {
            return Err(format!("interval_ms: {INTERVAL_MS_MIN} to {INTERVAL_MS_MAX}"));
        }
        if !ANSWER_SIZES.contains(&self.answer_bytes_min) {
            return Err(format!("answer_bytes_min: one of {ANSWER_SIZES:?}"));
        }
        if self.requests_per_minute == 0 {
            return Err("requests_per_minute: at least 1, or nobody enters".to_owned());
        }
        if self.store == StoreKind::Sled && !cfg!(feature = "sled") {
            return Err("store: built without the cargo feature `sled`".to_owned());
        }
        if !(1..=VISIBLE_SLOTS_MAX).contains(&self.visible_mappings) {
            return Err(format!("visible_mappings: 1 to {VISIBLE_SLOTS_MAX}"));
        }
        self.csip.iter().try_for_each(|c| c.parse().map(|_| ()))?;
        self.prover.iter().try_for_each(|p| p.parse(&domain).map(|_| ()))?;
        self.recycling.iter().try_for_each(FeedFile::check)?;
        self.codes.check()?;
        self.proxies()?;
        Ok((domain, origin, key_name))
    }

    fn proxies(&self) -> Result<Proxies, String> {
        Proxies::new(&self.trusted_proxies, self.proxy_header.as_deref())
    }
}

/// A checked configuration with its keys.
pub struct Settings {
    /// The data folder.
    pub dir: PathBuf,
    /// Who runs it.
    pub domain: Domain,
    /// The log.
    pub origin: Origin,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where to tell health and metrics, if anywhere.
    pub operations: Option<SocketAddr>,
    /// Certificate and key for both listeners.
    pub tls: Option<TlsFiles>,
    /// The proxies that say whose request it is.
    pub proxies: Proxies,
    /// Whose certificates are believed besides, when witnesses are called. [`Settings::load`] leaves it empty.
    pub roots: ExtraRoots,
    /// What tests put in front of the disk. [`Settings::load`] leaves it empty.
    pub hindrance: Option<Hindrance>,
    /// Time between batches, milliseconds.
    pub interval_ms: u32,
    /// Which record store.
    pub store: StoreKind,
    /// Where codes go.
    pub codes: Codes,
    /// The keys that this takes.
    pub code_secrets: CodeSecrets,
    /// Requests a minute for each address, besides look-ups.
    pub requests_per_minute: u32,
    /// Look-ups a minute that each MSP may relay.
    pub relays_per_minute: u32,
    /// Least size of an answer.
    pub answer_bytes_min: usize,
    /// CSIPs whose releases are believed.
    pub csips: Vec<TrustedCsip>,
    /// Provers that are believed besides the DP.
    pub provers: Vec<TrustedProver>,
    /// The log and its witnesses.
    pub policy: Policy,
    /// The policy document beside the configuration.
    pub policy_document: Logged,
    /// The policy document that the configuration calls for.
    pub does: Document,
    /// Registers of numbers that were given to somebody else.
    pub recycling: Registers,
    /// The log's key.
    pub signer: NoteSigner,
    /// The key of labels.
    pub vrf: VrfSecret,
    /// The DP's key as a prover.
    pub prover: SecretKey,
    /// Seals records.
    pub store_key: Zeroizing<[u8; 32]>,
}

/// Names of the files in a data folder.
pub mod names {
    /// The configuration.
    pub const CONFIG: &str = "dp.toml";
    /// The log, its witnesses, the quorum.
    pub const POLICY: &str = "policy.txt";
    /// The policy document.
    pub const DOCUMENT: &str = "policy.toml";
    /// All policy documents that were ever logged.
    pub const POLICIES: &str = "policies";
    /// Config entries to be taken in.
    pub const CONFIGS: &str = "config";
    /// A trust file for clients of this DP.
    pub const TRUST: &str = "trust.toml";
    /// Keys.
    pub const KEYS: &str = "keys";
    /// The public folder.
    pub const LOG: &str = "log";
    /// The signed head.
    pub const HEAD: &str = "head";
    /// Records.
    pub const ROWS: &str = "records";
    /// A key for each stretch of a CSI's records.
    pub const ROW_KEYS: &str = "row.keys";
    /// By which it shows that `store.key` is the one of these records.
    pub const STORE_CHECK: &str = "store.check";
    /// Provider entries to be taken in.
    pub const PROVIDERS: &str = "providers";
    /// Findings of monitors that the operator has accepted.
    pub const ACCEPTED: &str = "accepted-findings.toml";
    /// Codes, where `codes = "folder"`.
    pub const CODES: &str = "codes";
    /// Held by the running DP.
    pub const LOCK: &str = "lock";
    /// Says in which folder the DP was last run.
    pub const INSTANCE: &str = "instance";
}

fn policy_of(dir: &Path) -> Result<Policy, ConfigError> {
    let path = dir.join(names::POLICY);
    let read = durable::read(&path, waymark_log::policy::POLICY_BYTES_MAX).map_err(|e| ConfigError::new(&path, e))?;
    let bytes = read.ok_or_else(|| ConfigError::new(&path, "there is no such file; `init` makes one"))?;
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::new(&path, "not UTF-8"))?;
    Policy::parse(&text).map_err(|e| ConfigError::new(&path, e))
}

/// The policy document in a data folder.
///
/// # Errors
/// [`ConfigError`] if it is not there or no document.
pub fn document_of(dir: &Path) -> Result<Logged, ConfigError> {
    let path = dir.join(names::DOCUMENT);
    let read = durable::read(&path, crate::policy::DOCUMENT_BYTES_MAX).map_err(|e| ConfigError::new(&path, e))?;
    let bytes = read.ok_or_else(|| ConfigError::new(&path, "there is no such file; `init` makes one"))?;
    Logged::parse(bytes).map_err(|e| ConfigError::new(&path, e))
}

impl Settings {
    /// Reads and checks everything in a data folder, for calls that believe the system's certificate authorities.
    ///
    /// # Errors
    /// [`ConfigError`] with the file and what to mend.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        Self::load_believing(dir, ExtraRoots::default())
    }

    /// The same, for calls that believe more of them.
    ///
    /// # Errors
    /// [`ConfigError`] with the file and what to mend.
    pub fn load_believing(dir: &Path, roots: ExtraRoots) -> Result<Self, ConfigError> {
        let path = dir.join(names::CONFIG);
        let file: File = config::load(&path)?;
        let (domain, origin, key_name) = file.check().map_err(|what| ConfigError::new(&path, what))?;
        let csips = file.csip.iter().map(CsipFile::parse).collect::<Result<_, _>>();
        let csips = csips.map_err(|what| ConfigError::new(&path, what))?;
        let provers = file.prover.iter().map(|p| p.parse(&domain)).collect::<Result<_, _>>();
        let provers = provers.map_err(|what| ConfigError::new(&path, what))?;
        let key = |name: &str| {
            let path = dir.join(names::KEYS).join(name);
            keyfile::load(&path).map_err(|e| ConfigError::new(&path, e))
        };
        let signer = NoteSigner::new(key_name, SecretKey::from_seed(&*key("log.key")?));
        let policy = policy_of(dir)?;
        let ours = policy.logs().iter().any(|l| l.vkey == *signer.vkey());
        if !ours {
            let what = "it must name this log with its key, or no checkpoint of ours could meet it. It does not agree with \
                        keys/log.key: put back the one of the two that is not of this log";
            return Err(ConfigError::new(&dir.join(names::POLICY), what));
        }
        let does = Document::of(&file);
        let proxies = file.proxies().map_err(|what| ConfigError::new(&path, what))?;
        let recycling = Registers::load(dir, &file.recycling, &roots).map_err(|what| ConfigError::new(&path, what))?;
        let mut code_secrets = file.codes.load_secrets(dir)?;
        code_secrets.roots = roots.clone();
        Ok(Self {
            dir: dir.to_owned(),
            domain,
            origin,
            listen: file.listen,
            operations: file.operations,
            tls: file.tls.map(|files| files.beside(dir)),
            proxies,
            roots,
            hindrance: None,
            interval_ms: file.interval_ms,
            store: file.store,
            code_secrets,
            codes: file.codes,
            does,
            recycling,
            requests_per_minute: file.requests_per_minute,
            relays_per_minute: file.relays_per_minute,
            answer_bytes_min: file.answer_bytes_min,
            csips,
            provers,
            policy,
            policy_document: document_of(dir)?,
            signer,
            vrf: VrfSecret::from_seed(&*key("vrf.key")?),
            prover: SecretKey::from_seed(&*key("prover.key")?),
            store_key: key("store.key")?,
        })
    }
}
