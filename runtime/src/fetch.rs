//! An HTTP client with a limit on everything: time, bytes, no redirects, no compression; and TLS to everywhere but loopback.
//!
//! Servers are believed by the roots of the Mozilla programme as the crate webpki-roots carries them, and by those of one more
//! file if there is one. The machine's own store is not asked: what is trusted is then the same everywhere, a container
//! without a store included, and an operator's own authority is named where it is meant.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, RequestBuilder, Response, Url, redirect};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};

use crate::{
    listen::HEADER_S_MAX,
    tls::{self, TlsError},
};

/// Longest a request may take, answer included, unless said otherwise.
pub const REQUEST_S_MAX: u64 = 10;

/// Longest a connection is kept without a request on it. Our servers close theirs after [`HEADER_S_MAX`]; whoever sent a request
/// at that moment would lose it, and not know whether it was heard.
pub const IDLE_S_MAX: u64 = 2;
const _: () = assert!(IDLE_S_MAX * 2 < HEADER_S_MAX);

/// The environment's name of a PEM file of certificate authorities that are believed besides. A program's command line reads
/// it; nothing here does by itself.
pub const CA_FILE_VARIABLE: &str = "WAYMARK_CA_FILE";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or it broke off, or it took too long.
    #[error("{what} at {host}")]
    Network {
        /// The host, never the whole URL.
        host: String,
        /// What happened.
        what: &'static str,
    },
    /// The answer is over its cap.
    #[error("the answer of {host} is over {bytes_max} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The cap.
        bytes_max: usize,
    },
    /// Not a URL that can be fetched.
    #[error("not an http URL")]
    Url,
    /// Unencrypted, and not on this machine.
    #[error("{host} is not this machine, and http:// would not be encrypted: use https://")]
    Unencrypted {
        /// The host.
        host: String,
    },
}

/// Certificate authorities that are believed besides those of webpki-roots. None by default.
#[derive(Clone, Debug, Default)]
pub struct ExtraRoots(Vec<CertificateDer<'static>>);

impl ExtraRoots {
    /// Reads a PEM file of certificates.
    ///
    /// # Errors
    /// [`TlsError`], also if one of them cannot be a root.
    pub fn load(path: &Path) -> Result<Self, TlsError> {
        let certificates = tls::read_certificates(path)?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            let unusable = |_| TlsError::Pem { path: path.to_owned(), what: "a certificate in it cannot be a root" };
            store.add(certificate.clone()).map_err(unusable)?;
        }
        Ok(Self(certificates))
    }

    /// The file that [`CA_FILE_VARIABLE`] names, or none. For the edge of a program.
    ///
    /// # Errors
    /// [`TlsError`]: a file that is named must be usable.
    pub fn from_environment() -> Result<Self, TlsError> {
        std::env::var_os(CA_FILE_VARIABLE).map_or_else(|| Ok(Self::default()), |path| Self::load(Path::new(&path)))
    }
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// The media type, without parameters.
    pub media_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Fetched {
    /// Whether the status is in the two hundreds.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

/// The client. Cloning shares its connections.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new(Duration::from_secs(REQUEST_S_MAX))
    }
}

impl Fetcher {
    /// A client whose requests may take this long.
    pub fn new(longest: Duration) -> Self {
        Self::with_roots(longest, &ExtraRoots::default())
    }

    /// A client that believes more certificate authorities.
    ///
    /// # Panics
    /// Never: TLS is set up before, and nothing else can be missing.
    pub fn with_roots(longest: Duration, extra: &ExtraRoots) -> Self {
        // "localhost" is this machine, whatever a resolver says.
        let this_machine = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let client = Client::builder()
            .tls_backend_preconfigured(client_config(extra))
            .resolve_to_addrs(LOCALHOST, &this_machine.map(|ip| SocketAddr::new(ip, 0)))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(longest)
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(Duration::from_secs(IDLE_S_MAX))
            .pool_max_idle_per_host(512)
            .tcp_nodelay(true)
            .build();
        Self { client: client.expect("a client whose TLS is set up needs nothing that can be missing") }
    }

    /// GET.
    ///
    /// # Errors
    /// [`FetchError`]; a status is not an error.
    pub async fn get(&self, url: &str, bytes_max: usize) -> Result<Fetched, FetchError> {
        self.send(self.client.get(url), bytes_max).await
    }

    /// POST with a media type and headers.
    ///
    /// # Errors
    /// [`FetchError`]; a status is not an error.
    pub async fn post(
        &self,
        url: &str,
        media_type: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Fetched, FetchError> {
        let mut request = self.client.post(url).header("content-type", media_type).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.send(request, bytes_max).await
    }

    async fn send(&self, request: RequestBuilder, bytes_max: usize) -> Result<Fetched, FetchError> {
        let request = request.build().map_err(|_| FetchError::Url)?;
        check(request.url())?;
        let host = host_of(request.url());
        let response = self.client.execute(request).await.map_err(|e| network(&host, &e))?;
        let media_type = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let status = response.status().as_u16();
        let body = read(response, &host, bytes_max).await?;
        Ok(Fetched { status, media_type, body })
    }
}

async fn read(mut response: Response, host: &str, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| network(host, &e))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(FetchError::TooLarge { host: host.to_owned(), bytes_max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Checks that a URL may be fetched, without fetching it: for configurations.
///
/// # Errors
/// [`FetchError::Url`], [`FetchError::Unencrypted`].
pub fn check_url(url: &str) -> Result<(), FetchError> {
    check(&Url::parse(url).map_err(|_| FetchError::Url)?)
}

fn check(url: &Url) -> Result<(), FetchError> {
    match url.scheme() {
        "https" => Ok(()),
        // MIMI discovery requirements, R7: all data of a discovery request is encrypted in transit.
        "http" if !is_this_machine(url) => Err(FetchError::Unencrypted { host: host_of(url) }),
        "http" => Ok(()),
        _ => Err(FetchError::Url),
    }
}

/// The one name that means this machine.
const LOCALHOST: &str = "localhost";

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == LOCALHOST || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn client_config(extra: &ExtraRoots) -> ClientConfig {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(extra.0.iter().cloned());
    ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_root_certificates(Arc::new(roots))
        .with_no_client_auth()
}

fn network(host: &str, error: &reqwest::Error) -> FetchError {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if is_certificate(error) {
        "a certificate that is not believed"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke off"
    };
    FetchError::Network { host: host.to_owned(), what }
}

/// Whether the server's certificate was the reason: an operator looks elsewhere for that than for a cable.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    // An io::Error gives the source of what it wraps as its own, and so leaves out what it wraps.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => is_certificate(wrapped),
        None => error.source().is_some_and(is_certificate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_clear_to_this_machine_only() {
        for good in [
            "http://127.0.0.1:1/x",
            "http://127.9.9.9",
            "http://[::1]:8080/",
            "http://localhost:1",
            "http://LOCALHOST",
            "https://dp.example/log",
            "https://192.0.2.1",
        ] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://dp.example/log",
            "http://192.0.2.1",
            "http://0.0.0.0:8080",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://127.0.0.1@dp.example",
            "http://[::2]",
        ] {
            assert!(matches!(check_url(bad), Err(FetchError::Unencrypted { .. })), "{bad}");
        }
        for bad in ["", "dp.example", "ftp://127.0.0.1", "file:///etc/hosts", "http://"] {
            assert!(matches!(check_url(bad), Err(FetchError::Url)), "{bad}");
        }
    }
}
