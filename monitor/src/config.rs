//! `monitor.toml` and the trust files beside it: what is followed and whom to believe. Made by an explicit command, never
//! over anything, and never fetched.
//!
//! ```toml
//! listen = "127.0.0.1:8082"       # beyond loopback only with [tls]
//! operations = "127.0.0.1:9092"   # health and metrics; without it there are none
//! poll_ms = 5000
//! renew_within_s = 600
//! trusted_proxies = []            # address ranges: connections from there carry requests of others
//! # proxy_header = "X-Forwarded-For"   # in which those proxies name the client's address; not without trusted_proxies
//! log_memory_mb = 2048            # what the replay of one log may take
//!
//! [[log]]
//! trust = "trust.toml"              # beside this file
//! url = "http://127.0.0.1:8080"
//!
//! [[log.witness]]
//! name = "w1"
//! url = "http://127.0.0.1:8081"
//!
//! [tls]                             # PEM files, relative to the data folder; read again when they change
//! cert = "tls/cert.pem"
//! key = "tls/key.pem"
//! ```

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use waymark_mapping::{
    trust::{TRUST_BYTES_MAX, Trust, TrustError},
    watch::RENEW_WITHIN_MS_DEFAULT,
};
use waymark_runtime::{
    config::{self, ConfigError},
    durable,
    fetch::ExtraRoots,
    proxies::Proxies,
    tls::TlsFiles,
};

use crate::{
    settings::{FollowedLog, Settings, targets},
    store::{STORE_FILE, Store, StoreError},
};

/// The configuration, in the data directory.
pub const CONFIG_FILE: &str = "monitor.toml";
/// The copy of the trust file that `init` makes.
pub const TRUST_FILE: &str = "trust.toml";
/// Where a monitor listens unless told otherwise.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);
/// Where `init` lets a monitor tell its health and metrics unless told otherwise.
pub const OPERATIONS_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9092);
/// Pause between two looks unless told otherwise, in milliseconds.
pub const POLL_MS_DEFAULT: u64 = 5000;
/// How long a hit may be claimed unless told otherwise, in seconds.
pub const RENEW_WITHIN_S_DEFAULT: u64 = RENEW_WITHIN_MS_DEFAULT / 1000;
/// Longest pause that is taken, in milliseconds: an hour. Beyond that nobody is watching.
pub const POLL_MS_MAX: u64 = 3_600_000;
/// Longest time to claim a hit that is taken, in seconds: a week. Beyond that an alert helps nobody.
pub const RENEW_WITHIN_S_MAX: u64 = 7 * 24 * 3600;

/// Memory that the replay of one log may take unless told otherwise, in MiB: an honest log of ten million labels.
pub const LOG_MEMORY_MB_DEFAULT: u64 = 2048;
/// Most of it that is taken: a TiB.
pub const LOG_MEMORY_MB_MAX: u64 = 1 << 20;

/// What can be wrong with a data directory.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is something already.
    #[error("{0} is not empty; a monitor is made in a directory of its own, and never over another")]
    NotEmpty(PathBuf),
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A trust file.
    #[error("{path}: {error}")]
    Trust {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        error: TrustError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is gone.
    #[error(
        "{0}: there is no such file. It held the watch-lists; if it was lost, make a new monitor and hand them in again"
    )]
    StoreMissing(PathBuf),
}

/// What `init` is told.
#[derive(Clone, Debug)]
pub struct Init {
    /// The trust file to be copied.
    pub trust: PathBuf,
    /// The log's prefix.
    pub log_url: String,
    /// Witnesses by their names in the policy, and where they show their own copies.
    pub witnesses: Vec<(String, String)>,
    /// The listener.
    pub listen: SocketAddr,
    /// The listener for health and metrics, if there is to be one.
    pub operations: Option<SocketAddr>,
    /// How long a hit may be claimed.
    pub renew_within_s: u64,
    /// Pause between two looks.
    pub poll_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default = "listen_default")]
    listen: SocketAddr,
    operations: Option<SocketAddr>,
    tls: Option<TlsFiles>,
    #[serde(default = "poll_ms_default")]
    poll_ms: u64,
    #[serde(default = "renew_within_s_default")]
    renew_within_s: u64,
    #[serde(default)]
    trusted_proxies: Vec<String>,
    proxy_header: Option<String>,
    #[serde(default = "log_memory_mb_default")]
    log_memory_mb: u64,
    log: Vec<LogTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogTable {
    trust: PathBuf,
    url: String,
    #[serde(default)]
    witness: Vec<WitnessTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessTable {
    name: String,
    url: String,
}

const fn log_memory_mb_default() -> u64 {
    LOG_MEMORY_MB_DEFAULT
}

const fn listen_default() -> SocketAddr {
    LISTEN_DEFAULT
}

const fn poll_ms_default() -> u64 {
    POLL_MS_DEFAULT
}

const fn renew_within_s_default() -> u64 {
    RENEW_WITHIN_S_DEFAULT
}

/// Makes a monitor's data directory: trust file, store, configuration.
///
/// # Errors
/// [`SetupError::NotEmpty`] if anything is there; else what failed. The configuration is written last: without it a
/// directory was left half made and can be removed.
pub fn init(dir: &Path, init: &Init) -> Result<(), SetupError> {
    let io = |path: &Path, error| SetupError::Io { path: path.to_owned(), error };
    let (trust, text) = read_trust(&init.trust)?;
    // What cannot be followed is refused before anything is made.
    let followed = FollowedLog { trust, url: init.log_url.clone(), witnesses: init.witnesses.clone() };
    targets(vec![followed]).map_err(|what| SetupError::Config(ConfigError::new(&init.trust, what)))?;
    if !durable::private_folder(dir).map_err(|e| io(dir, e))? {
        return Err(SetupError::NotEmpty(dir.to_owned()));
    }
    let path = dir.join(TRUST_FILE);
    durable::replace(&path, text.as_bytes()).map_err(|e| io(&path, e))?;
    Store::create(&dir.join(STORE_FILE))?;
    let path = dir.join(CONFIG_FILE);
    durable::replace(&path, config_text(init).as_bytes()).map_err(|e| io(&path, e))
}

/// The end of the file as `init` writes it.
const TLS_TEXT: &str = "
# Certificate chain and key, PEM files, relative to this folder; the key's mode must be 0600. No default. Both are read again
# when they change.
# [tls]
# cert = \"tls/cert.pem\"
# key = \"tls/key.pem\"
";

/// The file as `init` writes it.
fn config_text(init: &Init) -> String {
    // TOML's own writer knows how to spell what people type.
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let operations = init.operations.map_or_else(
        || format!("# operations = \"{OPERATIONS_DEFAULT}\""),
        |operations| format!("operations = \"{operations}\""),
    );
    let mut text = format!(
        "# Address and port of the HTTP listener. Default \"{LISTEN_DEFAULT}\". Beyond loopback only with the table\n\
         # [tls]. Whoever reaches it may read the status and hand in watch-lists, each address within its share; a list's alerts\n\
         # are for its holder alone.\n\
         # The flag --listen and the variable WAYMARK_MONITOR_LISTEN come before it.\n\
         listen = \"{}\"\n\
         \n\
         # Address and port of the listener for health and metrics. Without it there is none. Beyond loopback only with [tls].\n\
         # The flag --operations and the variable WAYMARK_MONITOR_OPERATIONS come before it.\n\
         {operations}\n\
         \n\
         # Pause between two looks at a log or at a witness's copy, in milliseconds. Default {POLL_MS_DEFAULT}. A longer pause\n\
         # finds everything later; a fork and a split view are found one look after they were shown.\n\
         poll_ms = {}\n\
         \n\
         # How long the holder of a watch-list may claim a change as his own doing, in seconds. Default {RENEW_WITHIN_S_DEFAULT}.\n\
         # Shorter, and an app that is offline raises alerts for what it did itself; longer, and real alerts come later.\n\
         # Hits that are open keep the time under which they began.\n\
         renew_within_s = {}\n\
         \n\
         # Address ranges of the proxies in front, such as [\"127.0.0.1\", \"::1\"]. Default: none. The limits for one address then\n\
         # count the address that such a proxy names last in X-Forwarded-For (another header: proxy_header). Not named, all who\n\
         # come through a proxy share the limits of one address.\n\
         # trusted_proxies = []\n\
         \n\
         # Memory that the replay of one log may take, in MiB. Default {LOG_MEMORY_MB_DEFAULT}: some ten million labels.\n\
         # A log that would take more is not followed further, which the status says; the others are.\n\
         # log_memory_mb = {LOG_MEMORY_MB_DEFAULT}\n\
         \n\
         # A log. More may follow, each under a heading of its own.\n\
         [[log]]\n\
         # Whose signatures count: a trust file, here or under another path. No default. It is local and never fetched.\n\
         trust = \"{TRUST_FILE}\"\n\
         # The log's prefix. No default.\n\
         url = {}\n",
        init.listen,
        init.poll_ms,
        init.renew_within_s,
        quoted(&init.log_url),
    );
    if !init.witnesses.is_empty() {
        text += "\n# Where witnesses show their own copies of the log's checkpoint. Default: the URLs in the policy. Without\n\
                 # any there is one point of view only, and a log that shows others something else is not found out.\n";
    }
    for (name, url) in &init.witnesses {
        text += &format!("[[log.witness]]\nname = {}\nurl = {}\n", quoted(name), quoted(url));
    }
    text + TLS_TEXT
}

/// Reads a data directory that [`init`] made.
///
/// # Errors
/// [`SetupError`].
pub fn load(dir: &Path) -> Result<Settings, SetupError> {
    let path = dir.join(CONFIG_FILE);
    let file: ConfigFile = config::load(&path)?;
    let wrong = |what: String| SetupError::Config(ConfigError::new(&path, what));
    if !(1..=POLL_MS_MAX).contains(&file.poll_ms) {
        return Err(wrong(format!("poll_ms is between 1 and {POLL_MS_MAX}")));
    }
    if !(1..=RENEW_WITHIN_S_MAX).contains(&file.renew_within_s) {
        return Err(wrong(format!("renew_within_s is between 1 and {RENEW_WITHIN_S_MAX}")));
    }
    let proxies = Proxies::new(&file.trusted_proxies, file.proxy_header.as_deref()).map_err(wrong)?;
    if !(1..=LOG_MEMORY_MB_MAX).contains(&file.log_memory_mb) {
        return Err(wrong(format!("log_memory_mb is between 1 and {LOG_MEMORY_MB_MAX}")));
    }
    let mut logs = Vec::new();
    for log in file.log {
        let (trust, _) = read_trust(&dir.join(&log.trust))?;
        let witnesses = log.witness.into_iter().map(|w| (w.name, w.url)).collect();
        logs.push(FollowedLog { trust, url: log.url, witnesses });
    }
    let store = dir.join(STORE_FILE);
    // A monitor that began again from nothing would be silent where it should watch.
    if !store.try_exists().map_err(|error| SetupError::Io { path: store.clone(), error })? {
        return Err(SetupError::StoreMissing(store));
    }
    let renew_within_ms = file.renew_within_s * 1000;
    Ok(Settings {
        data_dir: dir.to_owned(),
        listen: file.listen,
        operations: file.operations,
        tls: file.tls.map(|files| files.beside(dir)),
        proxies,
        roots: ExtraRoots::default(),
        logs,
        poll_ms: file.poll_ms,
        renew_within_ms,
        log_memory_bytes: file.log_memory_mb << 20,
    })
}

pub(crate) fn read_trust(path: &Path) -> Result<(Trust, String), SetupError> {
    let io = |error| SetupError::Io { path: path.to_owned(), error };
    let bytes = durable::read(path, TRUST_BYTES_MAX).map_err(io)?;
    let bytes = bytes.ok_or_else(|| io(io::Error::new(io::ErrorKind::NotFound, "there is no such file")))?;
    let text = String::from_utf8(bytes).map_err(|e| io(io::Error::new(io::ErrorKind::InvalidData, e)))?;
    let trust = Trust::parse(&text).map_err(|error| SetupError::Trust { path: path.to_owned(), error })?;
    Ok((trust, text))
}
