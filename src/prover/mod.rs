//! An independent prover: it shows possession of CSIs to a DP that need not be trusted with that.
//!
//! What the DP attests about itself, nobody else has seen. A prover is a party of its own, with a key of its own that the DP
//! logs as a provider entry (role prover); trust files can name it. It answers the same challenges as a DP
//! ([`crate::http::challenges`]) by the same rules ([`crate::possession`]), for one log. It keeps no records, and learns of a
//! CSI that somebody claimed it, never where it leads.
//!
//! ```text
//! prover.toml    domain, origin, codes (as in dp.toml)
//! prover.key     signs attestations
//! <domain>.provider    the entry to be logged by the DP
//! returning      who has completed a challenge here
//! challenges.redb    open challenges, and what was sent in a day
//! ```

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use waymark_log::{checkpoint::Origin, key::SecretKey};
use waymark_mapping::{
    entry::{Entry, ProviderRole},
    names::Domain,
};
use waymark_runtime::{
    clock::Clock,
    config::{self, ConfigError},
    durable, keyfile, leftovers,
    listen::{self, Server},
    problem,
    proxies::Proxies,
    tls::TlsFiles,
};

use crate::{
    config::REQUESTS_PER_MINUTE_DEFAULT,
    http::{challenges, openapi},
    possession::{
        Identity, Possession,
        config::{CodeSecrets, Codes, Proving},
    },
};

/// Names of the files in a prover's folder.
pub mod names {
    /// Its configuration.
    pub const CONFIG: &str = "prover.toml";
    /// Its key.
    pub(super) const KEY: &str = "prover.key";
}

/// prover.toml.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProverFile {
    /// The prover, as attestations name it.
    pub domain: String,
    /// Origin of the log that it attests for.
    pub origin: String,
    /// Address ranges of the proxies that say whose request it is: see [`waymark_runtime::proxies`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it, if it is not `X-Forwarded-For`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_header: Option<String>,
    /// Where codes go.
    #[serde(default)]
    pub codes: Codes,
}

/// A checked configuration.
pub struct Settings {
    /// The data folder.
    pub dir: PathBuf,
    /// Who attests, for which log.
    pub identity: Identity,
    /// Where codes go.
    pub codes: Codes,
    /// The keys that this takes.
    pub code_secrets: CodeSecrets,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate and key: without them it does not listen beyond loopback. [`Settings::load`] leaves it empty.
    pub tls: Option<TlsFiles>,
    /// The proxies that say whose request it is.
    pub proxies: Proxies,
}

/// Why a prover does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Where codes go.
    #[error(transparent)]
    Codes(#[from] ConfigError),
    /// The file system or the network.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes a prover's key and the entry that its DP is to log. Refuses to overwrite.
///
/// # Errors
/// In words.
pub fn init(dir: &Path, domain: &Domain, origin: &Origin, codes: Codes) -> anyhow::Result<PathBuf> {
    durable::private_folder(dir)?;
    let secret = SecretKey::from_seed(&*keyfile::create(&dir.join(names::KEY))?);
    let (domain_text, origin_text) = (domain.as_str().to_owned(), origin.as_str().to_owned());
    let (trusted_proxies, proxy_header) = (vec![], None);
    let file = ProverFile { domain: domain_text, origin: origin_text, trusted_proxies, proxy_header, codes };
    durable::replace(&dir.join(names::CONFIG), toml::to_string_pretty(&file)?.as_bytes())?;
    let entry = crate::init::provider_entry(domain, ProviderRole::PROVER, false, 0, origin, &secret);
    let path = dir.join(format!("{domain}.provider"));
    durable::replace(&path, &Entry::Provider(entry).encode())?;
    Ok(path)
}

impl Settings {
    /// Reads a prover's folder.
    ///
    /// # Errors
    /// [`ConfigError`] with the file and what to mend.
    pub fn load(dir: &Path, listen: SocketAddr) -> Result<Self, ConfigError> {
        let path = dir.join(names::CONFIG);
        let file: ProverFile = config::load(&path)?;
        let domain = Domain::parse(&file.domain).ok_or_else(|| ConfigError::new(&path, "domain: not a domain"))?;
        let origin = Origin::new(&file.origin).map_err(|e| ConfigError::new(&path, e))?;
        file.codes.check().map_err(|what| ConfigError::new(&path, what))?;
        let proxies = Proxies::new(&file.trusted_proxies, file.proxy_header.as_deref());
        let proxies = proxies.map_err(|what| ConfigError::new(&path, what))?;
        let key = dir.join(names::KEY);
        let seed = keyfile::load(&key).map_err(|e| ConfigError::new(&key, e))?;
        let identity = Identity { domain, secret: SecretKey::from_seed(&seed), origin };
        let code_secrets = file.codes.load_secrets(dir)?;
        Ok(Self { dir: dir.to_owned(), identity, codes: file.codes, code_secrets, listen, tls: None, proxies })
    }
}

/// A prover that is running.
pub struct Running {
    server: Server,
}

/// Starts a prover.
///
/// # Errors
/// [`StartError`].
pub async fn start(settings: Settings, clock: Clock) -> Result<Running, StartError> {
    let Settings { dir, identity, codes, code_secrets, listen, tls, proxies } = settings;
    let listener = listen::bind_tls(listen, tls.as_ref()).await?.behind(proxies);
    leftovers::sweep(&dir);
    let own_url = listener.url()?;
    let proving = Proving::new(&codes, &code_secrets, &dir, own_url, &clock)?;
    let origin = identity.origin.clone();
    let possession = Possession::open(proving, identity, &dir, &clock)?;
    let desk = challenges::Desk::new(clock, origin, possession, REQUESTS_PER_MINUTE_DEFAULT);
    let router = challenges::router(Arc::new(desk)).merge(problem::pages(openapi::operations::of_possession()));
    let server = listen::serve(listener, listen::with_problems(router))?;
    Ok(Running { server })
}

impl Running {
    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Stops it.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}
