//! A DP's configuration: one TOML file; flags and environment over it; contradictions refused before anything starts.
//!
//! ```toml
//! domain = "dp.example"           # who runs it; named in attestations and in the log
//! origin = "dp.example/log"       # the log's name for ever; changing it later is refused by the signed head
//! listen = "127.0.0.1:8080"       # loopback only until TLS is there
//! interval_ms = 1000              # time between batches, promised in the open entry; below 50 the disk sets the pace
//! store = "redb"                  # or "sled" with the cargo feature: not durable
//! codes = "console"               # where codes go: "console", or "folder" (codes/ in the data folder); development only
//! lookups_per_minute = 60         # for each address; 0 refuses all
//! relays_per_minute = 6000        # look-ups that each MSP may relay for its users; 0 refuses all
//! answer_bytes_min = 8192         # one of 4096, 8192, ...: found and not found look alike from here on
//! ```
//!
//! Beside it lie policy.txt (tlog-policy: this log, its witnesses with URLs, the quorum), policy.md (the policy document),
//! and the folders keys/ (0600), log/ (public), providers/ (entries to be taken in).

use std::{
    net::SocketAddr,
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
use waymark_mapping::{answer::ANSWER_SIZES, names::Domain, vrf::VrfSecret};
use waymark_runtime::{
    config::{self, ConfigError},
    durable, keyfile,
};
use zeroize::Zeroizing;

/// Time between batches unless said otherwise.
pub const INTERVAL_MS_DEFAULT: u32 = 1000;
/// Look-ups a minute for each address unless said otherwise.
pub const LOOKUPS_PER_MINUTE_DEFAULT: u32 = 60;
/// Look-ups a minute that each MSP may relay, unless said otherwise: a hundred a second.
pub const RELAYS_PER_MINUTE_DEFAULT: u32 = 6000;
/// Least time between batches: shorter promises are for discs that sync in less.
pub const INTERVAL_MS_MIN: u32 = 50;
/// Longest time between batches: a head must come every 60 s.
pub const INTERVAL_MS_MAX: u32 = 30_000;

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
    /// Look-ups a minute that each MSP may relay.
    #[serde(default = "relays_default")]
    pub relays_per_minute: u32,
    /// Least size of an answer, bytes.
    #[serde(default = "answer_default")]
    pub answer_bytes_min: usize,
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

/// Where codes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Codes {
    /// To stdout.
    #[default]
    Console,
    /// To files in a folder.
    Folder,
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
        if self.store == StoreKind::Sled && !cfg!(feature = "sled") {
            return Err("store: built without the cargo feature `sled`".to_owned());
        }
        Ok((domain, origin, key_name))
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
    /// Time between batches, milliseconds.
    pub interval_ms: u32,
    /// Which record store.
    pub store: StoreKind,
    /// Where codes go.
    pub codes: Codes,
    /// Look-ups a minute for each address.
    pub lookups_per_minute: u32,
    /// Look-ups a minute that each MSP may relay.
    pub relays_per_minute: u32,
    /// Least size of an answer.
    pub answer_bytes_min: usize,
    /// The log and its witnesses.
    pub policy: Policy,
    /// The policy document.
    pub policy_document: String,
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
    pub const DOCUMENT: &str = "policy.md";
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
    /// Provider entries to be taken in.
    pub const PROVIDERS: &str = "providers";
    /// Codes, for development.
    pub const CODES: &str = "codes";
    /// Held by the running DP.
    pub const LOCK: &str = "lock";
}

fn policy_of(dir: &Path) -> Result<Policy, ConfigError> {
    let path = dir.join(names::POLICY);
    let read = durable::read(&path, waymark_log::policy::POLICY_BYTES_MAX).map_err(|e| ConfigError::new(&path, e))?;
    let bytes = read.ok_or_else(|| ConfigError::new(&path, "there is no such file; `init` makes one"))?;
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::new(&path, "not UTF-8"))?;
    Policy::parse(&text).map_err(|e| ConfigError::new(&path, e))
}

impl Settings {
    /// Reads and checks everything in a data folder.
    ///
    /// # Errors
    /// [`ConfigError`] with the file and what to mend.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join(names::CONFIG);
        let file: File = config::load(&path)?;
        let (domain, origin, key_name) = file.check().map_err(|what| ConfigError::new(&path, what))?;
        let key = |name: &str| {
            let path = dir.join(names::KEYS).join(name);
            keyfile::load(&path).map_err(|e| ConfigError::new(&path, e))
        };
        let signer = NoteSigner::new(key_name, SecretKey::from_seed(&*key("log.key")?));
        let policy = policy_of(dir)?;
        let ours = policy.logs().iter().any(|l| l.vkey == *signer.vkey());
        if !ours {
            let what = "it must name this log with its key, or no checkpoint of ours could meet it";
            return Err(ConfigError::new(&dir.join(names::POLICY), what));
        }
        let document = dir.join(names::DOCUMENT);
        let policy_document = std::fs::read_to_string(&document).map_err(|e| ConfigError::new(&document, e))?;
        Ok(Self {
            dir: dir.to_owned(),
            domain,
            origin,
            listen: file.listen,
            interval_ms: file.interval_ms,
            store: file.store,
            codes: file.codes,
            lookups_per_minute: file.lookups_per_minute,
            relays_per_minute: file.relays_per_minute,
            answer_bytes_min: file.answer_bytes_min,
            policy,
            policy_document,
            signer,
            vrf: VrfSecret::from_seed(&*key("vrf.key")?),
            prover: SecretKey::from_seed(&*key("prover.key")?),
            store_key: key("store.key")?,
        })
    }
}
