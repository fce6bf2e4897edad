//! An HTTP client with a limit on everything: time, bytes, no redirects, no compression; and TLS to everywhere but loopback.
//!
//! Servers are believed by the roots of the Mozilla programme as the crate webpki-roots carries them, and by those of one more
//! file if there is one. The machine's own store is not asked: what is trusted is then the same everywhere, a container
//! without a store included, and an operator's own authority is named where it is meant.

use std::{
    future::{Ready, ready},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
        },
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio::{sync::Notify, time::timeout};
use tower::Service;
use url::Url;

use crate::{
    listen::HEADER_S_MAX,
    tls::{self, TlsError},
};

/// Longest a request may take, answer included, unless said otherwise.
pub const REQUEST_S_MAX: u64 = 10;

/// Longest a connection may take to come about, in seconds.
const CONNECT_S_MAX: u64 = 5;

/// Most interim answers (1xx) to one request. Servers send one or two, and each costs the reader as much as an answer
/// does: without a limit a server keeps a reader at work until the deadline, with gigabytes.
pub const INTERIM_ANSWERS_MAX: usize = 8;

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
    /// The body comes in a content coding that was not asked for.
    #[error("{host} answers in a compressed form (Content-Encoding): have it serve the bytes as they are")]
    Encoded {
        /// The host.
        host: String,
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
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// The media type, without parameters.
    pub media_type: String,
    /// After how many seconds the server wants to be asked again (`Retry-After`), if it says so in seconds.
    pub retry_after_s: Option<u64>,
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
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    longest: Duration,
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
    pub fn with_roots(longest: Duration, extra: &ExtraRoots) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(CONNECT_S_MAX)));
        let tls = HttpsConnectorBuilder::new().with_tls_config(client_config(extra));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(IDLE_S_MAX))
            .pool_max_idle_per_host(512)
            .build(tls.https_or_http().enable_http1().wrap_connector(tcp));
        Self { client, longest }
    }

    /// GET.
    ///
    /// # Errors
    /// [`FetchError`]; a status is not an error.
    pub async fn get(&self, url: &str, bytes_max: usize) -> Result<Fetched, FetchError> {
        self.send(Method::GET, url, &[], Vec::new(), bytes_max).await
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
        let content_type = ("content-type", media_type.to_owned());
        let headers: Vec<_> = [content_type].into_iter().chain(headers.iter().cloned()).collect();
        self.send(Method::POST, url, &headers, body, bytes_max).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Fetched, FetchError> {
        let url = Url::parse(url).map_err(|_| FetchError::Url)?;
        check(&url)?;
        let mut request = Request::builder().method(method).uri(url.as_str());
        request = request.header(header::ACCEPT, "*/*").header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::from(body)).map_err(|_| FetchError::Url)?;
        let host = host_of(&url);
        let late = |_| FetchError::Network { host: host.clone(), what: "no answer in time" };
        timeout(self.longest, self.answer(request, &host, bytes_max)).await.map_err(late)?
    }

    async fn answer(
        &self,
        mut request: Request<Full<Bytes>>,
        host: &str,
        bytes_max: usize,
    ) -> Result<Fetched, FetchError> {
        let flooded = Arc::new(Notify::new());
        let (seen, tell) = (AtomicUsize::new(0), Arc::clone(&flooded));
        hyper::ext::on_informational(&mut request, move |_| {
            if seen.fetch_add(1, Ordering::Relaxed) >= INTERIM_ANSWERS_MAX {
                tell.notify_one();
            }
        });
        let broken = |what| FetchError::Network { host: host.to_owned(), what };
        // Whichever comes first; what is left over is dropped, and with it the connection.
        let response = tokio::select! {
            biased;
            () = flooded.notified() => return Err(broken("interim answers without end")),
            response = self.client.request(request) => response.map_err(|e| broken(what_happened(&e)))?,
        };
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::trim);
        let media_type = text(header::CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default();
        let fetched = Fetched {
            status: response.status().as_u16(),
            media_type: media_type.trim().to_owned(),
            retry_after_s: text(header::RETRY_AFTER).and_then(|s| s.parse().ok()),
            body: Vec::new(),
        };
        let is_encoded = text(header::CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"));
        if is_encoded && fetched.is_success() {
            return Err(FetchError::Encoded { host: host.to_owned() });
        }
        Ok(Fetched { body: read(response, host, bytes_max).await?, ..fetched })
    }
}

async fn read(mut response: Response<Incoming>, host: &str, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
    let broken = |_| FetchError::Network { host: host.to_owned(), what: "the connection broke off" };
    let mut body = Vec::new();
    while let Some(frame) = response.frame().await {
        let Ok(chunk) = frame.map_err(broken)?.into_data() else { continue };
        if body.len() + chunk.len() > bytes_max {
            return Err(FetchError::TooLarge { host: host.to_owned(), bytes_max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The system's resolver, for all names but one: "localhost" is this machine, whatever a resolver says.
#[derive(Clone, Debug)]
struct Resolver(GaiResolver);

type Addresses = std::vec::IntoIter<SocketAddr>;

impl Service<Name> for Resolver {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        if name.as_str() == LOCALHOST {
            let this_machine = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
            let addresses: Vec<_> = this_machine.map(|ip| SocketAddr::new(ip, 0)).into();
            let found: Ready<io::Result<Addresses>> = ready(Ok(addresses.into_iter()));
            return Box::pin(found);
        }
        let found = self.0.call(name);
        Box::pin(async move { Ok(found.await?.collect::<Vec<_>>().into_iter()) })
    }
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

/// Why there is no answer, in words of ours: a server's own never get here.
fn what_happened(error: &hyper_util::client::legacy::Error) -> &'static str {
    if is_certificate(error) {
        "a certificate that is not believed"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke off"
    }
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
    use std::time::Instant;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

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

    /// A server that answers each request with `head`, `tail` again and again until nobody reads, and how much of that
    /// was taken.
    async fn server(head: &'static [u8], tail: &'static [u8]) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(head).await;
                while !tail.is_empty() && stream.write_all(tail).await.is_ok() {
                    counted.fetch_add(tail.len(), Ordering::Relaxed);
                }
            }
        });
        (url, sent)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn interim_answers_without_end_are_cut_off_long_before_the_deadline() {
        let fetcher = Fetcher::new(Duration::from_secs(60));
        let (flood, sent) = server(b"", b"HTTP/1.1 100 Continue\r\n\r\n").await;
        let begun = Instant::now();
        let error = fetcher.get(&flood, 100).await.unwrap_err();
        assert!(error.to_string().starts_with("interim answers without end at 127.0.0.1"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        // Nobody reads on: the server comes to an end.
        let taken = loop {
            let before = sent.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(200)).await;
            if sent.load(Ordering::Relaxed) == before {
                break before;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it is still read: {before} bytes");
        };
        assert!(taken < 64 << 20, "{taken} bytes were taken");
        // Headers without end are cut off as well.
        let (endless, _) = server(b"HTTP/1.1 103 Early Hints\r\n", b"link: </a>; rel=preload\r\n").await;
        let error = fetcher.get(&endless, 100).await.unwrap_err();
        assert!(error.to_string().starts_with("the connection broke off"), "{error}");
        // Some are no harm.
        let (few, _) = server(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            b"",
        )
        .await;
        let fetched = fetcher.get(&few, 2).await.unwrap();
        assert_eq!((fetched.status, &fetched.body[..]), (200, &b"ok"[..]));
    }

    #[tokio::test]
    async fn compressed_answers_are_refused_by_name_and_wishes_to_wait_are_heard() {
        let fetcher = Fetcher::default();
        let (zipped, _) =
            server(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok", b"").await;
        let error = fetcher.get(&zipped, 100).await.unwrap_err();
        assert!(matches!(error, FetchError::Encoded { .. }), "{error}");
        let busy = b"HTTP/1.1 429 Too Many\r\nretry-after: 20\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n";
        let (busy, _) = server(busy, b"").await;
        let fetched = fetcher.get(&busy, 100).await.unwrap();
        assert_eq!((fetched.status, fetched.retry_after_s), (429, Some(20)));
        let dated = b"HTTP/1.1 503 Away\r\nretry-after: Wed, 21 Oct 2026 07:28:00 GMT\r\ncontent-length: 0\r\n\r\n";
        let (dated, _) = server(dated, b"").await;
        assert_eq!(fetcher.get(&dated, 100).await.unwrap().retry_after_s, None);
    }
}
